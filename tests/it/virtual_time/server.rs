//! A model server on the loopback interface. It shares the virtual time of the run and delays its replies in it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::clock::{CallsInFlight, VirtualClock};

/// The server's reply to a request.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedReply {
    /// The delay before the reply. `None` means that the server never answers.
    delay: Option<Duration>,
    status: u16,
    headers: String,
    text: String,
}

impl ScriptedReply {
    /// Answers with a text after a delay.
    pub(crate) fn text(text: &str, delay: Duration) -> Self {
        Self { delay: Some(delay), status: 200, headers: String::new(), text: text.to_owned() }
    }

    /// Never answers.
    pub(crate) fn never() -> Self {
        Self { delay: None, status: 0, headers: String::new(), text: String::new() }
    }

    /// Answers with this error status at once.
    pub(crate) fn error(status: u16) -> Self {
        Self { status, ..Self::text("", Duration::ZERO) }
    }

    /// Adds a header to the answer.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }
}

/// Returns the reply to a request. The arguments are the key of the step and the number of its earlier requests.
pub(crate) type Script = Arc<dyn Fn(&str, usize) -> ScriptedReply + Send + Sync>;

/// Starts the server, which runs until the runtime ends. Returns the base URL.
pub(crate) async fn serve(script: Script, calls: Arc<CallsInFlight>, clock: Arc<VirtualClock>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let request_counts = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (script, calls, clock, request_counts) =
                (script.clone(), calls.clone(), clock.clone(), request_counts.clone());
            tokio::spawn(async move {
                let (mut stream, step) = read_request(stream).await;
                // A failed assertion closes the connection, so the request and the test fail. Otherwise, the hold would
                // stop the time forever.
                assert!(
                    calls.has_call(&step),
                    "the first word of a message must be the key of its step, but it is {step}"
                );
                let count = {
                    let mut request_counts = request_counts.lock().unwrap();
                    let count = request_counts.entry(step.clone()).or_default();
                    *count += 1;
                    *count - 1
                };
                let reply = script(&step, count);
                let number = calls.on_arrival(&step);
                match reply.delay {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
                if calls.on_answer(&step, number, &*clock) {
                    stream.write_all(response_text(&reply).as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            });
        }
    });
    url
}

/// Reads a request. Returns the connection, and the key of the step, which is the first word of the message.
async fn read_request(mut stream: TcpStream) -> (TcpStream, String) {
    let mut bytes = Vec::new();
    loop {
        let byte_count = stream.read_buf(&mut bytes).await.unwrap();
        assert!(byte_count > 0, "the request broke off");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let body: Value = serde_json::from_str(body).unwrap();
        // Later user messages are re-asks in the same conversation.
        let message = body["messages"].as_array().unwrap().iter().find(|message| message["role"] == "user").unwrap();
        let step = message["content"].as_str().unwrap().split_whitespace().next().unwrap().to_owned();
        return (stream, step);
    }
}

/// The bytes of the HTTP response, as text.
fn response_text(reply: &ScriptedReply) -> String {
    let body = if reply.status == 200 {
        json!({ "id": "1", "object": "chat.completion", "model": "scripted",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": reply.text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 11, "completion_tokens": 3 } })
    } else {
        json!({ "error": { "message": "not now" } })
    };
    let (status, headers, body) = (reply.status, &reply.headers, body.to_string());
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}
