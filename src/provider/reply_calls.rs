//! The tool calls of a reply under construction: their arguments, and the names and ids with which orch records them.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::model::chat::ChatRequest;
use crate::model::content::ContentBlock;
use crate::model::repeated_keys::{read_json, repeated_key, text_with_repeated_keys};
use crate::model::surrogates::with_escapes;

/// A tool call, whose arguments may be incomplete.
pub(super) struct PartialCall {
    /// The key with which the stream refers to the call, such as its index.
    pub(super) key: String,
    id: Option<String>,
    name: String,
    arguments: CallArguments,
    /// Whether the arguments are complete.
    is_complete: bool,
    /// The pieces of arguments that arrived after the complete arguments.
    repeated: String,
    /// Whether the server sent complete arguments that differ from what arrived before.
    is_contradictory: bool,
}

/// The name and the arguments of a call. The order of the members of the arguments is a part of it.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct CallIdentity {
    name: String,
    arguments: String,
}

impl CallIdentity {
    /// The identity of a call with these arguments, if there are any.
    pub(super) fn new(name: &str, arguments: Option<&Value>) -> Self {
        let arguments =
            arguments.map_or_else(|| Value::Object(Map::new()), |value| CallArguments::from_value(value).into_value());
        Self { name: name.to_owned(), arguments: arguments.to_string() }
    }
}

/// The arguments of a tool call, as a server sends them.
#[derive(Clone)]
enum CallArguments {
    /// Text that is JSON once it is complete.
    Text(String),
    /// A value.
    Value(Value),
}

impl PartialCall {
    /// A call without arguments.
    pub(super) fn new(key: &str, id: Option<&str>, name: &str) -> Self {
        Self {
            key: key.to_owned(),
            id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            name: name.to_owned(),
            arguments: CallArguments::Text(String::new()),
            is_complete: false,
            repeated: String::new(),
            is_contradictory: false,
        }
    }

    /// Appends a piece of the arguments. After the complete arguments, pieces can only repeat them.
    pub(super) fn push_arguments(&mut self, piece: &str) {
        let piece = with_escapes(piece);
        match &mut self.arguments {
            CallArguments::Text(text) if !self.is_complete => text.push_str(&piece),
            CallArguments::Text(_) | CallArguments::Value(_) => self.repeated.push_str(&piece),
        }
    }

    /// Sets the complete arguments. Pieces of them may be missing, but those that arrived must agree with them.
    pub(super) fn set_arguments(&mut self, value: &Value) {
        let arguments = CallArguments::from_value(value);
        let begins_with_pieces = match (&self.arguments, &arguments) {
            _ if self.is_complete => false,
            (CallArguments::Text(pieces), _) if pieces.trim().is_empty() => true,
            (CallArguments::Text(pieces), CallArguments::Text(text)) => text.starts_with(pieces),
            _ => false,
        };
        self.is_contradictory |= !begins_with_pieces && !self.arguments.agrees_with(&arguments);
        self.arguments = arguments;
        self.is_complete = true;
    }

    /// Whether these are the arguments so far.
    pub(super) fn has_arguments(&self, value: &Value) -> bool {
        self.arguments.agrees_with(&CallArguments::from_value(value))
    }

    /// Whether any arguments have arrived.
    pub(super) fn has_any_arguments(&self) -> bool {
        self.is_complete || matches!(&self.arguments, CallArguments::Text(pieces) if !pieces.trim().is_empty())
    }

    /// Whether the server sent two versions of the arguments that differ.
    pub(super) fn is_contradictory(&self) -> bool {
        let repeats = || self.arguments.agrees_with(&CallArguments::Text(self.repeated.clone()));
        self.is_contradictory || !(self.repeated.trim().is_empty() || repeats())
    }

    /// Whether another call has the same name and the same arguments.
    pub(super) fn is_same_call(&self, other: &Self) -> bool {
        self.name == other.name && self.arguments.agrees_with(&other.arguments)
    }

    /// The name and the arguments in one form, to find the same call in another event.
    pub(super) fn identity(&self) -> CallIdentity {
        CallIdentity { name: self.name.clone(), arguments: self.arguments.clone().into_value().to_string() }
    }

    /// The name of the tool that the request offers and the model means.
    pub(super) fn tool_name(&self, naming: &CallNaming) -> String {
        naming.offered_name(&self.name)
    }

    /// The complete call.
    pub(super) fn into_block(self, naming: &mut CallNaming) -> ContentBlock {
        ContentBlock::ToolCall {
            name: self.tool_name(naming),
            id: naming.unique_id(self.id),
            arguments: self.arguments.into_value(),
        }
    }
}

impl CallArguments {
    /// The arguments in a field: a text, or the value itself from some servers. A value with half of a surrogate pair, or
    /// with a key that has several values, stays a text, so that the model can be told.
    fn from_value(value: &Value) -> Self {
        if let Value::String(text) = value {
            return Self::Text(with_escapes(text).into_owned());
        }
        if repeated_key(value).is_some() {
            return Self::Text(with_escapes(&text_with_repeated_keys(value)).into_owned());
        }
        match with_escapes(&value.to_string()) {
            Cow::Owned(text) => Self::Text(text),
            Cow::Borrowed(_) => Self::Value(value.clone()),
        }
    }

    /// Whether these are the same arguments, in any form.
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(text), Self::Text(other)) if text == other => true,
            _ => self.clone().into_value() == other.clone().into_value(),
        }
    }

    /// The arguments as a value: an object if there are none, and the text itself if it is not JSON, or if a key has
    /// several values.
    fn into_value(self) -> Value {
        let value = match self {
            Self::Value(value) => value,
            Self::Text(text) if text.trim().is_empty() => Value::Null,
            Self::Text(text) => match read_json(text.as_bytes()) {
                Ok(read) if !read.has_repeated_keys => read.value,
                Ok(_) | Err(_) => Value::String(text),
            },
        };
        if value.is_null() { Value::Object(Map::new()) } else { value }
    }
}

/// What a request determines about the calls in its reply: the names of the tools, and the ids that earlier calls have.
#[derive(Default)]
pub(crate) struct CallNaming {
    /// The names of the tools that the request offers.
    tools: Vec<String>,
    /// The ids of all calls so far, in the conversation and in the reply.
    used_ids: HashSet<String>,
    /// The number of all calls so far.
    call_count: usize,
}

impl CallNaming {
    /// The names and ids of a request.
    pub(crate) fn of_request(request: &ChatRequest) -> Self {
        let blocks = request.messages.iter().flat_map(|message| message.content.blocks());
        let earlier_ids: Vec<String> = blocks
            .filter_map(|block| match block {
                ContentBlock::ToolCall { id, .. } => Some(id.clone()),
                ContentBlock::Text { .. }
                | ContentBlock::ToolResult { .. }
                | ContentBlock::Opaque { .. }
                | ContentBlock::File { .. } => None,
            })
            .collect();
        Self {
            tools: request.tools.definitions.iter().map(|definition| definition.name.clone()).collect(),
            call_count: earlier_ids.len(),
            used_ids: earlier_ids.into_iter().collect(),
        }
    }

    /// Whether the request offers tools.
    pub(super) fn offers_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// The id of the next call: the server's own id, if it has one and no earlier call has the same. Otherwise an id
    /// that follows from the number of calls before it, so that a repeated reply gets the same ids.
    pub(crate) fn unique_id(&mut self, id: Option<String>) -> String {
        self.call_count += 1;
        let id = match id {
            Some(id) if !self.used_ids.contains(&id) => id,
            Some(_) | None => self.made_id(),
        };
        self.used_ids.insert(id.clone());
        id
    }

    fn made_id(&self) -> String {
        let mut number = self.call_count;
        loop {
            let id = format!("call_{number}");
            if !self.used_ids.contains(&id) {
                return id;
            }
            number += 1;
        }
    }

    /// The offered tool that a model means. Some models write a namespace before the name (`functions.read`,
    /// `default_api:read`) or a number after it (`functions.read:0`). A name that no rule explains does not change.
    fn offered_name(&self, name: &str) -> String {
        let name = name.trim();
        let numbered = name.rsplit_once(':').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        let without_number = numbered.map_or(name, |(start, _)| start);
        let separators = [".", ":", "/", "__"].into_iter();
        let last_parts = separators.filter_map(|separator| Some(without_number.rsplit_once(separator)?.1));
        let is_offered = |name: &&str| self.tools.iter().any(|tool| tool == name);
        [name, without_number].into_iter().chain(last_parts).find(is_offered).unwrap_or(name).to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::{Content, Message, ModelRef, OfferedTools, Role, ToolChoice, ToolDefinition};
    use crate::provider::contradictions::parse_json;

    fn naming(tools: &[&str], earlier_ids: &[&str]) -> CallNaming {
        let definitions = tools.iter().map(|name| ToolDefinition {
            name: (*name).to_owned(),
            description: String::new(),
            parameters: Arc::new(json!({"type": "object"})),
        });
        let calls: Vec<ContentBlock> = earlier_ids
            .iter()
            .map(|id| ContentBlock::ToolCall { id: (*id).to_owned(), name: "read".into(), arguments: json!({}) })
            .collect();
        let message = Message { role: Role::Assistant, content: Content::from(calls) };
        let tools = OfferedTools { definitions: definitions.collect(), choice: ToolChoice::Auto };
        let request =
            ChatRequest { tools: Arc::new(tools), ..ChatRequest::new(ModelRef::new("lab", "m"), vec![message], 10) };
        CallNaming::of_request(&request)
    }

    #[test]
    fn a_namespace_and_a_number_are_not_part_of_the_name() {
        let naming = naming(&["read", "github__list", "a.b"], &[]);
        for (written, name) in [
            ("read", "read"),
            (" read\n", "read"),
            ("functions.read", "read"),
            ("default_api:read", "read"),
            ("functions.read:0", "read"),
            ("read:12", "read"),
            ("tools/read", "read"),
            ("mcp__read", "read"),
            ("github__list", "github__list"),
            ("functions.github__list", "github__list"),
            ("a.b", "a.b"),
            ("functions.delete", "functions.delete"),
            ("readme", "readme"),
            ("", ""),
        ] {
            assert_eq!(naming.offered_name(written), name, "{written}");
        }
    }

    #[test]
    fn ids_are_unique_in_the_conversation_and_follow_from_it() {
        let mut first = naming(&["read"], &[]);
        let ids = [None, Some("x".to_owned()), Some("x".to_owned()), Some("call_4".to_owned()), None, None];
        let ids: Vec<String> = ids.into_iter().map(|id| first.unique_id(id)).collect();
        assert_eq!(ids, ["call_1", "x", "call_3", "call_4", "call_5", "call_6"]);
        let mut later = naming(&["read"], &["call_1", "x", "call_3"]);
        assert_eq!(later.unique_id(None), "call_4");
        assert_eq!(later.unique_id(Some("x".to_owned())), "call_5");
        assert_eq!(naming(&["read"], &["a", "call_3"]).unique_id(None), "call_4");
    }

    #[test]
    fn complete_arguments_must_agree_with_the_pieces() {
        let text = |text: &str| json!(text);
        let first = r#"{"path": "a"}"#;
        for (pieces, complete, later, is_contradictory) in [
            ("", text(first), "", false),
            (first, text(first), "", false),
            (first, text(r#"{"path":"a"}"#), "", false),
            (first, json!({"path": "a"}), first, false),
            ("{\"path\": ", text(first), "", false),
            (" ", json!({"path": "a"}), "", false),
            (first, text("{\"path\": \"b\"}"), "", true),
            (first, json!({"path": "b"}), "", true),
            (first, text("{}"), "", true),
            ("{\"path\": ", json!({"path": "a"}), "", true),
            ("", text(first), "{\"path\": \"b\"}", true),
            ("", json!({"path": "a"}), "{\"pa", true),
        ] {
            let mut call = PartialCall::new("0", None, "read");
            call.push_arguments(pieces);
            call.set_arguments(&complete);
            call.push_arguments(later);
            assert_eq!(call.is_contradictory(), is_contradictory, "{pieces} {complete} {later}");
        }
        let mut call = PartialCall::new("0", None, "read");
        for path in ["a", "b", "b"] {
            call.set_arguments(&json!({"path": path}));
        }
        assert!(call.is_contradictory());
    }

    #[test]
    fn arguments_with_half_of_a_surrogate_pair_or_with_a_repeated_key_are_no_object() {
        let parsed = |json: &str| parse_json(json.as_bytes()).unwrap();
        let arguments = |call: PartialCall| match call.into_block(&mut CallNaming::default()) {
            ContentBlock::ToolCall { arguments, .. } => arguments,
            other => panic!("{other:?}"),
        };
        let mut pieces = PartialCall::new("0", None, "read");
        for piece in [r#""{\"path\": \"\ud83d""#, r#""\ude00\"}""#] {
            pieces.push_arguments(parsed(piece).as_str().unwrap());
        }
        assert_eq!(arguments(pieces), json!({"path": "😀"}));
        let mut value = PartialCall::new("0", None, "read");
        value.set_arguments(&parsed(r#"{"path": "\ud83d"}"#));
        assert_eq!(arguments(value), json!(r#"{"path":"\ud83d"}"#));
        let mut repeated = PartialCall::new("0", None, "read");
        repeated.set_arguments(&parsed(r#"{"path": "a", "path": "b"}"#));
        assert_eq!(arguments(repeated), json!(r#"{"path":"a","path":"b"}"#));
    }

    #[test]
    fn arguments_are_a_value_even_if_they_are_missing_or_not_json() {
        let value_of = |arguments: CallArguments| arguments.into_value();
        for (text, value) in [
            ("", json!({})),
            (" \n", json!({})),
            ("null", json!({})),
            ("{\"a\": 1}", json!({"a": 1})),
            ("{\"a\": ", json!("{\"a\": ")),
            ("{\"a\": 1, \"a\": 1}", json!({"a": 1})),
            ("{\"a\": 1, \"a\": 2}", json!("{\"a\": 1, \"a\": 2}")),
        ] {
            assert_eq!(value_of(CallArguments::Text(text.to_owned())), value, "{text}");
        }
        assert_eq!(value_of(CallArguments::Value(json!({"a": 1}))), json!({"a": 1}));
        assert_eq!(value_of(CallArguments::Value(Value::Null)), json!({}));
    }
}
