//! Reads the messages of a server before the crate of the protocol does. The crate drops a message that it can't read,
//! and the request that the message answers would wait for its time limit.

use std::borrow::Cow;
use std::collections::HashSet;

use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::model::repeated_keys::{read_json, repeated_key};
use crate::model::surrogates::replace_halves;
use crate::model::visible::one_line;

use super::json_parts::{JsonSize, elements, find, measure, members};
use super::listed_tools::{has_too_many_tools, replace_wrong_tools};
use super::request_ids::is_same_id;

/// The maximum number of JSON values in a message. A value of one byte can take more than a hundred bytes of memory.
pub(super) const MAX_VALUES: usize = 500_000;
/// The maximum length of the name of a member in a message, in characters.
const MAX_NAME_CHARS: usize = 100;
/// How many levels the lists and objects of a message may be nested. The parser reads no more.
pub(super) const MAX_DEPTH: usize = 127;
/// The member that marks an error of orch in the place of an answer that it could not read.
const REJECTED: &str = "orch/rejected";
/// What precedes the messages of some servers.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a server sent in one line or one event.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The messages. An answer that can't be read is an error, see [`Rejection`].
    pub(super) messages: Vec<ServerJsonRpcMessage>,
    /// Whether the messages are not what the server sent.
    pub(super) is_changed: bool,
    /// The request of the server that can't be read.
    pub(super) wrong_request: Option<RequestId>,
}

/// Why orch does not accept an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It has too many JSON values.
    TooManyValues,
    /// It is no message of the protocol, for this reason.
    Malformed(String),
}

impl Rejection {
    /// Reads the error in the place of a rejected answer; `None` for an error of the server.
    pub(super) fn of(error: &ErrorData) -> Option<Self> {
        let is_malformed = error.data.as_ref()?.get(REJECTED)?.as_bool()?;
        Some(if is_malformed { Self::Malformed(error.message.to_string()) } else { Self::TooManyValues })
    }

    /// The error in the place of the answer to a request.
    fn answer(&self, id: &RequestId) -> ServerJsonRpcMessage {
        let (message, is_malformed) = match self {
            Self::TooManyValues => (format!("the answer has more than {MAX_VALUES} JSON values"), false),
            Self::Malformed(reason) => (reason.clone(), true),
        };
        let error = ErrorData::new(ErrorCode::PARSE_ERROR, message, Some(json!({ REJECTED: is_malformed })));
        ServerJsonRpcMessage::error(error, Some(id.clone()))
    }
}

/// Reads a line or an event. `open` are the requests that the server has not answered. A text that is no JSON has no
/// messages: some programs print other things, too.
pub(super) fn read_message(text: &[u8], open: &[RequestId]) -> Incoming {
    let json = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_ascii();
    if !matches!(json.first(), Some(b'{' | b'[')) {
        return Incoming::default();
    }
    let size = measure(json);
    if size.values > MAX_VALUES {
        let id = answered(&members(json), open, true);
        return reject(id, &Rejection::TooManyValues);
    }
    if json.first() == Some(&b'[') {
        let reason = "it is a list of messages, which the protocol does not have".to_owned();
        let ids = elements(json).into_iter().filter_map(|message| answered(&members(message), open, false));
        return reject(ids, &Rejection::Malformed(reason));
    }
    let envelope = members(json);
    match parse(json, &envelope, size) {
        Ok((message, is_changed)) => Incoming { messages: vec![message], is_changed, wrong_request: None },
        Err(reason) => {
            let hides_id = serde_json::from_slice::<IgnoredAny>(json).is_err();
            let incoming = reject(answered(&envelope, open, hides_id), &Rejection::Malformed(reason));
            let id = find(&envelope, "id").filter(|_| incoming.messages.is_empty() && has(&envelope, "method"));
            Incoming { wrong_request: id.and_then(|id| serde_json::from_slice(id).ok()), ..incoming }
        }
    }
}

fn reject<'a>(ids: impl IntoIterator<Item = &'a RequestId>, rejection: &Rejection) -> Incoming {
    let messages = ids.into_iter().map(|id| rejection.answer(id)).collect();
    Incoming { messages, is_changed: true, wrong_request: None }
}

fn has(envelope: &[(String, &[u8])], name: &str) -> bool {
    find(envelope, name).is_some()
}

/// The open request that a message answers. If the id can't be read, because the JSON of the message `hides_id` or
/// because it is of a wrong type, the message can only answer a request beside which no other one is open.
fn answered<'a>(envelope: &[(String, &[u8])], open: &'a [RequestId], hides_id: bool) -> Option<&'a RequestId> {
    let has_outcome = has(envelope, "result") || has(envelope, "error");
    if !has_outcome && (has(envelope, "method") || !has(envelope, "jsonrpc")) {
        return None;
    }
    let id = find(envelope, "id");
    if let Some(id) = id.and_then(|id| serde_json::from_slice::<RequestId>(id).ok()) {
        return open.iter().find(|open| is_same_id(open, &id));
    }
    let hides_id = hides_id || id.is_some_and(|id| id != b"null");
    match open {
        [only] if hides_id && has_outcome && has(envelope, "jsonrpc") => Some(only),
        _ => None,
    }
}

/// Parses a message. Returns it, and whether orch had to change it. The error is the reason why it is none.
fn parse(json: &[u8], envelope: &[(String, &[u8])], size: JsonSize) -> Result<(ServerJsonRpcMessage, bool), String> {
    if let Some(name) = repeated(envelope) {
        return Err(format!("it has the member {name} twice"));
    }
    let result = find(envelope, "result").map(members).unwrap_or_default();
    if let Some(name) = repeated(&result) {
        return Err(format!("its result has the member {name} twice"));
    }
    let json = replace_halves(json);
    let wrong_envelope = envelope_problem(envelope);
    let problem = if has_too_many_tools(&result) {
        wrong_envelope.unwrap_or("a part of it that is no tool can't be read").to_owned()
    } else {
        match parse_whole(&json, envelope, size) {
            Ok(message) => return Ok((message, matches!(json, Cow::Owned(_)))),
            Err(problem) => problem,
        }
    };
    // The replacement has no other members of the envelope.
    if wrong_envelope.is_some() {
        return Err(problem);
    }
    let other = replace_wrong_tools(&json).and_then(|other| serde_json::from_slice(&other).ok());
    other.map(|message| (message, true)).ok_or(problem)
}

fn parse_whole(json: &[u8], envelope: &[(String, &[u8])], size: JsonSize) -> Result<ServerJsonRpcMessage, String> {
    match read_value(json) {
        Err(UnreadableJson::Repeated(problem)) => Err(format!("it has {problem}")),
        Ok(_) | Err(UnreadableJson::Invalid(_)) => {
            serde_json::from_slice(json).map_err(|error| describe_problem(envelope, size, &error))
        }
    }
}

/// Why orch does not read some JSON.
pub(super) enum UnreadableJson {
    /// An object in it has this, at any level: a member several times with different values.
    Repeated(String),
    /// It is wrong in another way.
    Invalid(serde_json::Error),
}

/// Reads JSON in which no object has a member several times with different values.
pub(super) fn read_value(json: &[u8]) -> Result<Value, UnreadableJson> {
    match read_json(json) {
        Ok(read) if read.has_repeated_keys => {
            let name = repeated_key(&read.value).unwrap_or_default();
            let problem = format!("the member {} twice, with different values", quote_name(name));
            Err(UnreadableJson::Repeated(problem))
        }
        Ok(read) => Ok(read.value),
        Err(error) if error.is_data() => Err(UnreadableJson::Repeated(format!("a member too often ({error})"))),
        Err(error) => Err(UnreadableJson::Invalid(error)),
    }
}

/// The name of a member, for a message.
fn quote_name(name: &str) -> String {
    format!("`{}`", one_line(name, MAX_NAME_CHARS))
}

/// The first name that an object has twice, for a message.
fn repeated(members: &[(String, &[u8])]) -> Option<String> {
    let mut names = HashSet::new();
    members.iter().find(|(name, _)| !names.insert(name.as_str())).map(|(name, _)| quote_name(name))
}

/// Why the crate can't read an answer.
fn describe_problem(envelope: &[(String, &[u8])], size: JsonSize, error: &serde_json::Error) -> String {
    if size.depth > MAX_DEPTH {
        return format!("it is nested more than {MAX_DEPTH} levels deep");
    }
    if !error.is_data() {
        return format!("it is not valid JSON ({error})");
    }
    if let Some(problem) = envelope_problem(envelope) {
        return problem.to_owned();
    }
    let problem = wrong_member(envelope).unwrap_or_else(|| error.to_string());
    format!("a member of it is missing or has a wrong type ({problem})")
}

/// Why a message is no answer, whatever its result or its error contains.
fn envelope_problem(envelope: &[(String, &[u8])]) -> Option<&'static str> {
    if find(envelope, "jsonrpc") != Some(&br#""2.0""#[..]) {
        return Some("its `jsonrpc` is not \"2.0\"");
    }
    match (has(envelope, "result"), has(envelope, "error")) {
        (true, true) => Some("it has both `result` and `error`"),
        (false, false) => Some("it has neither `result` nor `error`"),
        (true, false) | (false, true) => None,
    }
}

/// The member of an answer for which the crate can't read it, if it is one of those that every answer has.
fn wrong_member(envelope: &[(String, &[u8])]) -> Option<String> {
    let error = find(envelope, "error");
    let is_id = |id: &[u8]| serde_json::from_slice::<RequestId>(id).is_ok() || error.is_some() && id == b"null";
    if find(envelope, "id").is_some_and(|id| !is_id(id)) {
        return Some("its `id` is neither a text nor a whole number".to_owned());
    }
    let error = error?;
    if error.first() != Some(&b'{') {
        return Some("its `error` is not an object".to_owned());
    }
    let error = members(error);
    if find(&error, "code").and_then(|code| serde_json::from_slice::<i32>(code).ok()).is_none() {
        return Some("`code` of its error is not a whole number of 32 bits".to_owned());
    }
    let message = find(&error, "message").and_then(|message| serde_json::from_slice::<String>(message).ok());
    message.is_none().then(|| "`message` of its error is not a text".to_owned())
}

#[cfg(test)]
mod tests {
    use rmcp::model::JsonRpcMessage;

    use super::*;

    /// The reason for which the only answer in a text is rejected, and the request that it answers.
    fn rejected(text: &str, open: &[i64]) -> Option<(RequestId, Rejection)> {
        let open: Vec<RequestId> = open.iter().copied().map(RequestId::Number).collect();
        let mut messages = read_message(text.as_bytes(), &open).messages;
        match messages.pop()? {
            JsonRpcMessage::Error(error) if messages.is_empty() => {
                Some((error.id.unwrap(), Rejection::of(&error.error)?))
            }
            _ => None,
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_rejected_with_a_reason() {
        let deep = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        for (text, reason) in [
            (deep.as_str(), "nested more than 127 levels"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":NaN}}"#, "not valid JSON"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":Infinity}}"#, "not valid JSON"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":[1"#, "not valid JSON"),
            (r#"{"jsonrpc":"1.0","id":7,"result":{}}"#, "its `jsonrpc` is not"),
            (r#"{"id":7,"result":{}}"#, "its `jsonrpc` is not"),
            (r#"{"jsonrpc":"2.0","id":"7"}"#, "neither `result` nor `error`"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}"#, "both `result` and `error`"),
            (r#"{"jsonrpc":"2.0","id":7,"error":"no"}"#, "missing or has a wrong type"),
            (r#"{"jsonrpc":"2.0","id":7,"id":8,"result":{}}"#, "the member `id` twice"),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"isError":true,"isError":false}}"#, "the member `isError` twice"),
            (
                r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a","text":"b"}]}}"#,
                "it has the member `text` twice, with different values",
            ),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"structuredContent":{"n":1,"n":2}}}"#, "the member `n` twice"),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m","data":[{"a":1,"a":2}]}}"#, "member `a` twice"),
            (
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":99999999999,"message":"m"}}"#,
                "`code` of its error is not a whole number of 32 bits",
            ),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, "`message` of its error is not a text"),
            (r#"[{"jsonrpc":"2.0","id":7,"result":{}},{"jsonrpc":"2.0","id":9,"result":{}}]"#, "a list of messages"),
        ] {
            let (id, rejection) = rejected(text, &[6, 7]).unwrap_or_else(|| panic!("{reason}"));
            assert_eq!(id, RequestId::Number(7), "{reason}");
            assert!(matches!(&rejection, Rejection::Malformed(found) if found.contains(reason)), "{rejection:?}");
            assert_eq!(rejected(text, &[6]), None, "{reason}");
        }
    }

    #[test]
    fn an_answer_whose_id_cannot_be_read_belongs_to_the_only_open_request() {
        for text in [r#"{"jsonrpc":"2.0","result":{"a":1"#, r#"{"jsonrpc":"2.0","id":{},"result":{"a":1}}"#] {
            assert_eq!(rejected(text, &[7]).map(|(id, _)| id), Some(RequestId::Number(7)), "{text}");
            assert_eq!(rejected(text, &[6, 7]), None, "{text}");
        }
        let (_, rejection) = rejected(r#"{"jsonrpc":"2.0","id":{},"result":{"a":1}}"#, &[7]).unwrap();
        let expected = "its `id` is neither a text nor a whole number";
        assert!(matches!(&rejection, Rejection::Malformed(reason) if reason.contains(expected)), "{rejection:?}");
    }

    #[test]
    fn what_a_program_prints_beside_its_messages_is_ignored() {
        for text in [
            "starting",
            "",
            "{}",
            "[]",
            "[1]",
            "null",
            "{ready}",
            r#"{"level":"info","id":7,"text":"x"}"#,
            r#"{"level":"error","error":"x"}"#,
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":{},"more":{}}"#,
            r#"{"jsonrpc":"2.0","method":"window/logMessage","params":5}"#,
        ] {
            let incoming = read_message(text.as_bytes(), &[RequestId::Number(7)]);
            let has_rejection = incoming.messages.iter().any(|message| matches!(message, JsonRpcMessage::Error(_)));
            assert!(!has_rejection && incoming.wrong_request.is_none(), "{text}: {incoming:?}");
        }
    }

    #[test]
    fn a_message_of_too_many_values_is_rejected() {
        let message = |count: usize| {
            let values = vec![r#"{"":0}"#; count].join(",");
            format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[],"structuredContent":[{values}]}}}}"#)
        };
        let (_, rejection) = rejected(&message(MAX_VALUES / 2), &[7]).unwrap();
        assert_eq!(rejection, Rejection::TooManyValues);
        assert_eq!(rejected(&message(100), &[7]), None);
    }

    #[test]
    fn the_envelope_of_a_list_with_wrong_or_too_many_tools_is_checked() {
        let many = vec![r#"{"n":1}"#; 1_000].join(",");
        let error = r#","error":{"code":1,"message":"m"}"#;
        for (version, tools, error, reason) in [
            (r#""jsonrpc":"1.0","#, many.as_str(), "", "its `jsonrpc` is not"),
            ("", many.as_str(), "", "its `jsonrpc` is not"),
            (r#""jsonrpc":"2.0","#, many.as_str(), error, "both `result` and `error`"),
            (r#""jsonrpc":"2.0","#, r#"{"n":NaN}"#, error, "not valid JSON"),
        ] {
            let text = format!(r#"{{{version}"id":7,"result":{{"tools":[{tools}]}}{error}}}"#);
            let (_, rejection) = rejected(&text, &[7]).unwrap_or_else(|| panic!("{reason}"));
            assert!(matches!(&rejection, Rejection::Malformed(found) if found.contains(reason)), "{rejection:?}");
        }
    }

    #[test]
    fn half_a_character_is_replaced() {
        let text = "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"a\\ud83d\"}]}}\r\n";
        let incoming = read_message(text.as_bytes(), &[RequestId::Number(7)]);
        let message = serde_json::to_value(&incoming.messages[0]).unwrap();
        assert_eq!(message["result"]["content"][0]["text"], "a\u{fffd}");
        assert!(incoming.is_changed && incoming.wrong_request.is_none());
    }

    #[test]
    fn a_request_that_cannot_be_read_is_told_apart() {
        let text = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"a":NaN}}"#;
        let incoming = read_message(text.as_bytes(), &[RequestId::Number(7)]);
        assert_eq!((incoming.messages.len(), incoming.wrong_request), (0, Some(RequestId::String("q".into()))));
    }
}
