//! A model server on loopback that takes its time, in the time of the runtime that it shares with the run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::clock::{InFlight, Leaping};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    /// How long it thinks; for ever when absent.
    after: Option<Duration>,
    status: u16,
    headers: String,
    text: String,
}

impl Play {
    /// Answers after some time.
    pub(crate) fn says(text: &str, after: Duration) -> Self {
        Self { after: Some(after), status: 200, headers: String::new(), text: text.to_owned() }
    }

    /// Never answers.
    pub(crate) fn silence() -> Self {
        Self { after: None, status: 0, headers: String::new(), text: String::new() }
    }

    /// No time to speak of.
    pub(crate) const fn soon() -> Duration {
        Duration::from_secs(1)
    }

    /// Refuses at once.
    pub(crate) fn refuses(status: u16) -> Self {
        Self { status, ..Self::says("", Duration::ZERO) }
    }

    /// The same with a header of the answer.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }
}

/// What is played to a step, by how many of its requests there were before.
pub(crate) type Script = Arc<dyn Fn(&str, usize) -> Play + Send + Sync>;

/// Serves until the runtime ends; gives the base URL.
pub(crate) async fn serve(script: Script, calls: Arc<InFlight>, clock: Arc<Leaping>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (script, calls, clock, seen) = (script.clone(), calls.clone(), clock.clone(), seen.clone());
            tokio::spawn(async move {
                let (mut stream, step) = read(stream).await;
                // Dropping the connection fails the request, and with it the test: time would stand still for ever.
                assert!(calls.knows(&step), "the first word of a message is the key of its step, not {step}");
                let count = {
                    let mut seen = seen.lock().unwrap();
                    let count = seen.entry(step.clone()).or_default();
                    *count += 1;
                    *count - 1
                };
                let play = script(&step, count);
                let number = calls.arrived(&step);
                match play.after {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
                if calls.answered(&step, number, &*clock) {
                    stream.write_all(answer(&play).as_bytes()).await.unwrap();
                    stream.shutdown().await.unwrap();
                }
            });
        }
    });
    url
}

/// Reads a request; the first word of its message is the step that asks.
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
        // The first message of the user: what comes after it is asked again in the same talk.
        let asked = body["messages"].as_array().unwrap().iter().find(|message| message["role"] == "user").unwrap();
        let step = asked["content"].as_str().unwrap().split_whitespace().next().unwrap().to_owned();
        return (stream, step);
    }
}

fn answer(play: &Play) -> String {
    let body = if play.status == 200 {
        json!({ "id": "1", "object": "chat.completion", "model": "scripted",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": play.text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 11, "completion_tokens": 3 } })
    } else {
        json!({ "error": { "message": "not now" } })
    };
    let (status, headers, body) = (play.status, &play.headers, body.to_string());
    let length = body.len();
    format!(
        "HTTP/1.1 {status} so\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}
