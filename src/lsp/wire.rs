//! Reads and writes messages on a stream: a header with a length, then JSON.
//!
//! After a malformed message, the server responds with an error and reads the next message. It skips a body that is
//! larger than the maximum size, without storing it.
//!
//! Messages are written by `lsp-server`, but not read by it: its reader limits neither the length of a header line nor
//! the size of a body, for which it allocates whatever the header says, and after a malformed message it has no way to
//! continue with the next one. Its `Response` can't have the `null` as its id that JSON-RPC requires if a request has no
//! readable id, so this module writes these responses itself.

use std::io::{self, BufRead, Read, Write};

use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use serde_json::{Value, json};

/// The maximum size of a body, in bytes.
const MAX_BODY_BYTES: u64 = 64 << 20;
/// The maximum length of a header line, in bytes.
const MAX_HEADER_LINE_BYTES: u64 = 4 << 10;

/// A message from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A valid request or notification.
    Call(IncomingCall),
    /// A response to a request from the server.
    Response,
    /// A malformed message, with the error response to send.
    Malformed(Value),
}

/// A request or a notification.
#[derive(Debug)]
pub(super) struct IncomingCall {
    /// The id for the response; `None` for a notification.
    pub(super) id: Option<RequestId>,
    /// The method's name.
    pub(super) method: String,
    /// The method's parameters.
    pub(super) params: Value,
}

/// The error of a request that has no result.
#[derive(Debug)]
pub(super) struct ResponseError {
    code: ErrorCode,
    message: String,
}

impl ResponseError {
    /// Returns the error for a method that the server does not support.
    pub(super) fn method_not_found(method: &str) -> Self {
        Self { code: ErrorCode::MethodNotFound, message: format!("`{method}` is not supported") }
    }

    /// Returns the error for parameters that do not fit the method.
    pub(super) fn invalid_params(reason: impl std::fmt::Display) -> Self {
        Self { code: ErrorCode::InvalidParams, message: reason.to_string() }
    }

    /// Returns the error for a request before `initialize`.
    pub(super) fn not_initialized() -> Self {
        Self { code: ErrorCode::ServerNotInitialized, message: "the client must send `initialize` first".to_owned() }
    }

    /// Returns the error for a request after `shutdown`, or for a second `initialize`.
    pub(super) fn invalid_request(message: &str) -> Self {
        Self { code: ErrorCode::InvalidRequest, message: message.to_owned() }
    }

    /// Converts the error to a line of the client's log, for a notification, which has no response.
    pub(super) fn to_log_message(&self, method: &str) -> Value {
        json!({ "type": 2, "message": format!("orch: `{method}`: {}", self.message) })
    }

    /// Returns the error for a request during which the server panicked.
    pub(super) fn internal_error() -> Self {
        Self { code: ErrorCode::InternalError, message: "internal error: orch panicked".to_owned() }
    }
}

/// Reads the next message; returns `None` at the end of the stream.
///
/// # Errors
/// The stream can't be read.
pub(super) fn read_message(input: &mut impl BufRead) -> io::Result<Option<Incoming>> {
    let Some(length) = read_header(input)? else { return Ok(None) };
    let Ok(length) = length else {
        return Ok(Some(malformed(
            ErrorCode::InvalidRequest,
            "a message needs the header `Content-Length`",
            Value::Null,
        )));
    };
    if length > MAX_BODY_BYTES {
        io::copy(&mut input.take(length), &mut io::sink())?;
        let message = format!("a message can have at most {} MiB", MAX_BODY_BYTES >> 20);
        return Ok(Some(malformed(ErrorCode::InvalidRequest, &message, Value::Null)));
    }
    let mut body = Vec::new();
    if input.take(length).read_to_end(&mut body)? as u64 != length {
        return Ok(None);
    }
    Ok(Some(match serde_json::from_slice(&body) {
        Ok(value) => parse_message(value),
        Err(error) => malformed(ErrorCode::ParseError, &error.to_string(), Value::Null),
    }))
}

/// Reads a header and returns its length; returns `None` at the end of the stream.
fn read_header(input: &mut impl BufRead) -> io::Result<Option<Result<u64, ()>>> {
    let mut length = Err(());
    loop {
        let mut line = Vec::new();
        if input.take(MAX_HEADER_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
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

/// Parses a message from a JSON value. The conversion in `lsp_server` accepts only strings and 32-bit numbers as ids,
/// and treats a request with any other id as a notification.
fn parse_message(mut value: Value) -> Incoming {
    let invalid = |reason: &str, id: Value| malformed(ErrorCode::InvalidRequest, reason, id);
    let Some(map) = value.as_object_mut() else { return invalid("a message must be an object", Value::Null) };
    let id = map.remove("id");
    let params = map.remove("params").unwrap_or_default();
    let Some(method) = map.get("method") else {
        let is_response = map.contains_key("result") || map.contains_key("error");
        if is_response {
            return Incoming::Response;
        }
        return invalid("a message must have a `method`", id.unwrap_or_default());
    };
    let Some(method) = method.as_str().map(str::to_owned) else {
        return invalid("`method` must be a string", id.unwrap_or_default());
    };
    let id = match id {
        None => None,
        Some(Value::String(id)) => Some(RequestId::from(id)),
        Some(id) => match id.as_i64().and_then(|id| i32::try_from(id).ok()) {
            Some(id) => Some(RequestId::from(id)),
            None => return invalid("`id` must be a string or a 32-bit integer", id),
        },
    };
    Incoming::Call(IncomingCall { id, method, params })
}

fn malformed(code: ErrorCode, message: &str, id: Value) -> Incoming {
    let error = json!({ "code": code as i32, "message": message });
    Incoming::Malformed(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// Writes responses, notifications and requests to the client.
pub(super) struct MessageOutput<'a>(pub(super) &'a mut dyn Write);

impl MessageOutput<'_> {
    /// Sends the response to a request.
    pub(super) fn respond(&mut self, id: RequestId, result: Result<Value, ResponseError>) -> io::Result<()> {
        let response = match result {
            Ok(value) => Response::new_ok(id, value),
            Err(error) => Response::new_err(id, error.code as i32, error.message),
        };
        self.send(Message::Response(response))
    }

    /// Sends a notification.
    pub(super) fn notify(&mut self, method: &str, params: Value) -> io::Result<()> {
        self.send(Message::Notification(Notification { method: method.to_owned(), params }))
    }

    /// Sends a request to the client.
    pub(super) fn request(&mut self, id: &str, method: &str, params: Value) -> io::Result<()> {
        self.send(Message::Request(Request { id: RequestId::from(id.to_owned()), method: method.to_owned(), params }))
    }

    /// Sends the error response to a malformed message.
    pub(super) fn send_error(&mut self, response: &Value) -> io::Result<()> {
        let text = response.to_string();
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

    fn with_header(body: &str) -> Vec<u8> {
        format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn the_server_responds_to_a_malformed_message_and_reads_the_next_one() {
        let mut bytes = Vec::new();
        for body in ["{", "[]", "{}", r#"{"id":5000000000,"method":"m"}"#, r#"{"id":1.5,"method":"m"}"#] {
            bytes.extend(with_header(body));
        }
        bytes.extend(b"Content-Type: x\r\n\r\n");
        bytes.extend(with_header(r#"{"jsonrpc":"2.0","id":7,"method":"shutdown"}"#));
        let mut input = io::BufReader::new(bytes.as_slice());
        let mut codes = Vec::new();
        loop {
            match read_message(&mut input).unwrap() {
                Some(Incoming::Malformed(response)) => codes.push(response["error"]["code"].as_i64().unwrap()),
                Some(Incoming::Call(message)) => {
                    assert_eq!((message.id, message.method.as_str()), (Some(RequestId::from(7)), "shutdown"));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(codes, [-32700, -32600, -32600, -32600, -32600, -32600]);
        assert!(read_message(&mut input).unwrap().is_none());
    }

    #[test]
    fn a_body_that_is_too_large_is_skipped() {
        let mut bytes = format!("Content-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1).into_bytes();
        bytes.resize(bytes.len() + usize::try_from(MAX_BODY_BYTES).unwrap() + 1, b' ');
        bytes.extend(with_header(r#"{"method":"exit"}"#));
        let mut input = io::BufReader::new(bytes.as_slice());
        assert!(matches!(read_message(&mut input).unwrap(), Some(Incoming::Malformed(_))));
        assert!(matches!(read_message(&mut input).unwrap(), Some(Incoming::Call(_))));
    }

    #[test]
    fn numbers_are_written_unchanged() {
        let mut bytes = Vec::new();
        MessageOutput(&mut bytes).respond(RequestId::from(3), Ok(json!({ "line": 4 }))).unwrap();
        assert!(String::from_utf8(bytes).unwrap().ends_with(r#"{"jsonrpc":"2.0","id":3,"result":{"line":4}}"#));
    }
}
