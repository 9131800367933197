//! The language server: messages of a client, be they sound or not.

use std::collections::BTreeMap;

use orch::lsp::serve_synchronously;
use serde_json::{Value, json};

use super::SEPARATOR;

/// Every request has one answer, nothing that is said is malformed, and no request fails by a defect.
///
/// An input that begins with `!` is what comes in on the stream; else its parts are bodies of messages after
/// `initialize`.
pub fn lsp(input: &[u8]) {
    let input = input.get(..super::MAX_INPUT).unwrap_or(input);
    if let Some(raw) = input.strip_prefix(b"!") {
        let mut output = Vec::new();
        serve_synchronously(raw, &mut output).expect("a vector can be written");
        messages(&output);
        return;
    }
    let mut stream = Vec::new();
    let initialize =
        json!({ "jsonrpc": "2.0", "id": "begin", "method": "initialize", "params": { "capabilities": {} } });
    say(&mut stream, initialize.to_string().as_bytes());
    let mut asked = BTreeMap::from([(json!("begin").to_string(), 1)]);
    for body in input.split(|byte| *byte == SEPARATOR) {
        if let Ok(Value::Object(message)) = serde_json::from_slice(body)
            && message.get("method").is_some_and(|method| method == "exit")
        {
            break;
        }
        if let Some(id) = request(body) {
            *asked.entry(id).or_insert(0) += 1;
        }
        say(&mut stream, body);
    }
    let mut output = Vec::new();
    serve_synchronously(stream.as_slice(), &mut output).expect("a vector can be written");
    let answers: Vec<String> = messages(&output).iter().filter_map(answer).collect();
    // What is no message is answered too, with its id where it has one.
    for (id, count) in &asked {
        let answered = answers.iter().filter(|answered| *answered == id).count();
        assert!(answered >= *count, "{id} was asked {count} times and answered {answered} times");
    }
    let said = input.split(|byte| *byte == SEPARATOR).count();
    assert!(answers.len() <= said + 1, "{} answers to {said} messages", answers.len());
}

fn say(stream: &mut Vec<u8>, body: &[u8]) {
    stream.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    stream.extend_from_slice(body);
}

/// The id of a sound request.
fn request(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).ok()?;
    message.get("method")?.as_str()?;
    let id = message.get("id")?;
    let small = id.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
    (id.is_string() || small).then(|| id.to_string())
}

fn answer(message: &Value) -> Option<String> {
    if let Some(error) = message.get("error") {
        assert_ne!(error["code"], -32603, "a defect: {message}");
    }
    let is_answer = message.get("result").is_some() || message.get("error").is_some();
    message.get("id").filter(|_| is_answer).map(Value::to_string)
}

/// The messages of a stream, which must be well-formed to its end.
fn messages(mut stream: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    while !stream.is_empty() {
        let end = stream.windows(4).position(|four| four == b"\r\n\r\n").expect("a header ends");
        let header = std::str::from_utf8(&stream[..end]).expect("a header is text");
        let length: usize = header.trim_start_matches("Content-Length: ").parse().expect("a length");
        let body = &stream[end + 4..end + 4 + length];
        found.push(serde_json::from_slice(body).expect("a message is JSON"));
        stream = &stream[end + 4 + length..];
    }
    found
}
