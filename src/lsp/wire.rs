//! Reads and writes messages on a stream: a header with a length, then JSON.
//!
//! After a malformed message, the server answers with an error and reads the next one. A body has a maximum size; a
//! larger one is skipped without being stored.

use std::io::{self, BufRead, Read, Write};

use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use serde_json::{Value, json};

/// The largest body, in bytes.
const MAX_BODY: u64 = 64 << 20;
/// The longest header line, in bytes.
const MAX_LINE: u64 = 4 << 10;

/// A message from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A valid request or notification.
    Asked(IncomingMessage),
    /// An answer to a request from the server.
    Answer,
    /// A malformed message; holds the error answer to send.
    Malformed(Value),
}

/// A request or a notification.
#[derive(Debug)]
pub(super) struct IncomingMessage {
    /// The id for the answer; `None` for a notification.
    pub(super) id: Option<RequestId>,
    /// The method's name.
    pub(super) method: String,
    /// The method's parameters.
    pub(super) params: Value,
}

/// Why a request has no result.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    /// The server does not know the method.
    pub(super) fn unknown(method: &str) -> Self {
        Self { code: ErrorCode::MethodNotFound, message: format!("`{method}` is not supported") }
    }

    /// The parameters do not fit the method.
    pub(super) fn params(why: impl std::fmt::Display) -> Self {
        Self { code: ErrorCode::InvalidParams, message: why.to_string() }
    }

    /// The client must send `initialize` first.
    pub(super) fn early() -> Self {
        Self { code: ErrorCode::ServerNotInitialized, message: "`initialize` comes first".to_owned() }
    }

    /// The client sent a request after `shutdown`, or a second `initialize`.
    pub(super) fn late(message: &str) -> Self {
        Self { code: ErrorCode::InvalidRequest, message: message.to_owned() }
    }

    /// The same as a line in the client's log, for a notification, which gets no answer.
    pub(super) fn logged(&self, method: &str) -> Value {
        json!({ "type": 2, "message": format!("orch: `{method}`: {}", self.message) })
    }

    /// The server has a defect.
    pub(super) fn defect() -> Self {
        Self { code: ErrorCode::InternalError, message: "orch failed at this request".to_owned() }
    }
}

/// Reads the next message; returns `None` at the end of the stream.
///
/// # Errors
/// When the stream can't be read.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Incoming>> {
    let Some(length) = header(input)? else { return Ok(None) };
    let Ok(length) = length else {
        return Ok(Some(malformed(ErrorCode::InvalidRequest, "a message needs a `Content-Length`", Value::Null)));
    };
    if length > MAX_BODY {
        io::copy(&mut input.take(length), &mut io::sink())?;
        let message = format!("a message has at most {} MiB", MAX_BODY >> 20);
        return Ok(Some(malformed(ErrorCode::InvalidRequest, &message, Value::Null)));
    }
    let mut body = Vec::new();
    if input.take(length).read_to_end(&mut body)? as u64 != length {
        return Ok(None);
    }
    Ok(Some(match serde_json::from_slice(&body) {
        Ok(value) => message(value),
        Err(error) => malformed(ErrorCode::ParseError, &error.to_string(), Value::Null),
    }))
}

/// Reads a header and returns its length; returns `None` at the end of the stream.
fn header(input: &mut impl BufRead) -> io::Result<Option<Result<u64, ()>>> {
    let mut length = Err(());
    loop {
        let mut line = Vec::new();
        if input.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            return Ok(Some(length));
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| ());
        }
    }
}

/// Converts a JSON value to a message. The conversion in `lsp_server` accepts only strings and 32-bit numbers as ids,
/// and treats a request with any other id as a notification.
fn message(mut value: Value) -> Incoming {
    let refuse = |why: &str, id: Value| malformed(ErrorCode::InvalidRequest, why, id);
    let Some(map) = value.as_object_mut() else { return refuse("a message is an object", Value::Null) };
    let id = map.remove("id");
    let params = map.remove("params").unwrap_or_default();
    let Some(method) = map.get("method") else {
        let answers = map.contains_key("result") || map.contains_key("error");
        return if answers { Incoming::Answer } else { refuse("a message has a `method`", id.unwrap_or_default()) };
    };
    let Some(method) = method.as_str().map(str::to_owned) else {
        return refuse("`method` is a string", id.unwrap_or_default());
    };
    let id = match id {
        None => None,
        Some(Value::String(id)) => Some(RequestId::from(id)),
        Some(id) => match id.as_i64().and_then(|id| i32::try_from(id).ok()) {
            Some(id) => Some(RequestId::from(id)),
            None => return refuse("`id` is a string or a number of 32 bits", id),
        },
    };
    Incoming::Asked(IncomingMessage { id, method, params })
}

fn malformed(code: ErrorCode, message: &str, id: Value) -> Incoming {
    let error = json!({ "code": code as i32, "message": message });
    Incoming::Malformed(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// Writes answers, notifications and requests to the client.
pub(super) struct MessageOutput<'a>(pub(super) &'a mut dyn Write);

impl MessageOutput<'_> {
    /// Answers a request.
    pub(super) fn answer(&mut self, id: RequestId, result: Result<Value, Refusal>) -> io::Result<()> {
        let response = match result {
            Ok(value) => Response::new_ok(id, value),
            Err(refusal) => Response::new_err(id, refusal.code as i32, refusal.message),
        };
        self.send(Message::Response(response))
    }

    /// Sends a notification.
    pub(super) fn notify(&mut self, method: &str, params: Value) -> io::Result<()> {
        self.send(Message::Notification(Notification { method: method.to_owned(), params }))
    }

    /// Sends a request to the client.
    pub(super) fn ask(&mut self, id: &str, method: &str, params: Value) -> io::Result<()> {
        self.send(Message::Request(Request { id: RequestId::from(id.to_owned()), method: method.to_owned(), params }))
    }

    /// Sends the error answer for a malformed message.
    pub(super) fn refuse(&mut self, answer: &Value) -> io::Result<()> {
        let text = answer.to_string();
        write!(self.0, "Content-Length: {}\r\n\r\n{text}", text.len())?;
        self.0.flush()
    }

    fn send(&mut self, message: Message) -> io::Result<()> {
        message.write(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &str) -> Vec<u8> {
        format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn what_is_no_message_is_answered_and_the_next_one_is_read() {
        let mut bytes = Vec::new();
        for body in ["{", "[]", "{}", r#"{"id":5000000000,"method":"m"}"#, r#"{"id":1.5,"method":"m"}"#] {
            bytes.extend(framed(body));
        }
        bytes.extend(b"Content-Type: x\r\n\r\n");
        bytes.extend(framed(r#"{"jsonrpc":"2.0","id":7,"method":"shutdown"}"#));
        let mut input = io::BufReader::new(bytes.as_slice());
        let mut codes = Vec::new();
        loop {
            match read(&mut input).unwrap() {
                Some(Incoming::Malformed(answer)) => codes.push(answer["error"]["code"].as_i64().unwrap()),
                Some(Incoming::Asked(asked)) => {
                    assert_eq!((asked.id, asked.method.as_str()), (Some(RequestId::from(7)), "shutdown"));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(codes, [-32700, -32600, -32600, -32600, -32600, -32600]);
        assert!(read(&mut input).unwrap().is_none());
    }

    #[test]
    fn a_body_that_is_too_large_is_passed_over() {
        let mut bytes = format!("Content-Length: {}\r\n\r\n", MAX_BODY + 1).into_bytes();
        bytes.resize(bytes.len() + usize::try_from(MAX_BODY).unwrap() + 1, b' ');
        bytes.extend(framed(r#"{"method":"exit"}"#));
        let mut input = io::BufReader::new(bytes.as_slice());
        assert!(matches!(read(&mut input).unwrap(), Some(Incoming::Malformed(_))));
        assert!(matches!(read(&mut input).unwrap(), Some(Incoming::Asked(_))));
    }

    #[test]
    fn numbers_survive_on_their_way_out() {
        let mut bytes = Vec::new();
        MessageOutput(&mut bytes).answer(RequestId::from(3), Ok(json!({ "line": 4 }))).unwrap();
        assert!(String::from_utf8(bytes).unwrap().ends_with(r#"{"jsonrpc":"2.0","id":3,"result":{"line":4}}"#));
    }
}
