//! A model server on loopback whose replies are delayed in the virtual time that it shares with the run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::clock::{CallsInFlight, VirtualClock};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedReply {
    /// The delay before the reply; the server never answers without one.
    after: Option<Duration>,
    status: u16,
    headers: String,
    text: String,
}

impl ScriptedReply {
    /// Answers with a text after some time.
    pub(crate) fn text(text: &str, after: Duration) -> Self {
        Self { after: Some(after), status: 200, headers: String::new(), text: text.to_owned() }
    }

    /// Never answers.
    pub(crate) fn never() -> Self {
        Self { after: None, status: 0, headers: String::new(), text: String::new() }
    }

    /// A short delay.
    pub(crate) const fn short_delay() -> Duration {
        Duration::from_secs(1)
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

/// The reply to a step, by the number of its earlier requests.
pub(crate) type Script = Arc<dyn Fn(&str, usize) -> ScriptedReply + Send + Sync>;

/// Serves until the runtime ends; returns the base URL.
pub(crate) async fn serve(script: Script, calls: Arc<CallsInFlight>, clock: Arc<VirtualClock>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (script, calls, clock, seen) = (script.clone(), calls.clone(), clock.clone(), seen.clone());
            tokio::spawn(async move {
                let (mut stream, step) = read(stream).await;
                // This drops the connection, so the request and the test fail. Otherwise, time would stand still
                // forever.
                assert!(calls.has_seen(&step), "the first word of a message is the key of its step, not {step}");
                let count = {
                    let mut seen = seen.lock().unwrap();
                    let count = seen.entry(step.clone()).or_default();
                    *count += 1;
                    *count - 1
                };
                let reply = script(&step, count);
                let number = calls.arrived(&step);
                match reply.after {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
                if calls.answered(&step, number, &*clock) {
                    stream.write_all(answer(&reply).as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            });
        }
    });
    url
}

/// Reads a request; the first word of its message is the step that sent it.
async fn read(mut stream: TcpStream) -> (TcpStream, String) {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert!(read > 0, "the request broke off");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let body: Value = serde_json::from_str(body).unwrap();
        // The first message of the user: later ones are re-asks in the same conversation.
        let asked = body["messages"].as_array().unwrap().iter().find(|message| message["role"] == "user").unwrap();
        let step = asked["content"].as_str().unwrap().split_whitespace().next().unwrap().to_owned();
        return (stream, step);
    }
}

fn answer(reply: &ScriptedReply) -> String {
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
        "HTTP/1.1 {status} so\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}
