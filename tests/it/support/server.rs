//! A scripted model server on this machine, at the level of TCP so that it can
//! misbehave.
//!
//! Requests are recorded. Each one is answered by the next reply of the script; when
//! the script is used up (or empty), by the fallback function, in any dialect.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use super::reply::{Part, Reply, text_for};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null when it was empty or no JSON.
    pub body: Value,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All text of the request that a model would read, in any dialect.
    pub fn prompt(&self) -> String {
        let mut text = String::new();
        collect(&self.body, &mut text);
        text
    }
}

fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(piece) => {
            text.push_str(piece);
            text.push('\n');
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, text)),
        Value::Object(map) => map.values().for_each(|one| collect(one, text)),
        _ => {}
    }
}

type Fallback = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct State {
    script: Mutex<VecDeque<Reply>>,
    fallback: Fallback,
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers with these replies in order, then with errors.
    pub fn script(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start(replies.into_iter().collect(), Box::new(|_| Reply::body(500, "text/plain", "script used up")))
    }

    /// Answers every request with the text that a function of it gives, in its dialect.
    pub fn texts(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        Self::answering(move |request| text_for(&request.path, &answer(request)))
    }

    /// Answers every request with what a function of it gives.
    pub fn answering(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(VecDeque::new(), Box::new(answer))
    }

    fn start(script: VecDeque<Reply>, fallback: Fallback) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            script: Mutex::new(script),
            fallback,
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || accept(&listener, &shared));
        Self { address, state, thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`: the base address of the Anthropic and Gemini dialects.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:PORT/v1`: the base address of the `OpenAI` dialect.
    pub fn v1(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// The only request so far.
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "exactly one request");
        requests.remove(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stopped.load(Ordering::Relaxed) {
            return;
        }
        let state = Arc::clone(state);
        // A client that goes away early is none of the server's concern.
        let serve = move |stream: TcpStream| drop(serve(&stream, &state));
        if let Ok(stream) = stream {
            thread::spawn(move || serve(stream));
        }
    }
}

/// One request a connection: the script stays in order and every cut is real.
fn serve(stream: &TcpStream, state: &State) -> io::Result<()> {
    let request = read(stream)?;
    let scripted = lock(&state.script).pop_front();
    lock(&state.requests).push(request.clone());
    let reply = scripted.unwrap_or_else(|| (state.fallback)(&request));
    send(stream, &reply, state)
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = words.next().zip(words.next()).ok_or(io::ErrorKind::InvalidData)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

fn send(mut stream: &TcpStream, reply: &Reply, state: &State) -> io::Result<()> {
    let mut parts = reply.parts.iter().peekable();
    while let Some(Part::Wait(time)) = parts.next_if(|part| matches!(part, Part::Wait(_))) {
        pause(*time, state);
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    for part in parts {
        match part {
            Part::Bytes(bytes) => {
                // In one write, or the peer sees the pieces of a chunk apart.
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(bytes);
                chunk.extend_from_slice(b"\r\n");
                stream.write_all(&chunk)?;
            }
            Part::Wait(time) => pause(*time, state),
            Part::Cut => return Ok(()),
        }
        stream.flush()?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// Waits, but not longer than the server lives.
fn pause(time: std::time::Duration, state: &State) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end && !state.stopped.load(Ordering::Relaxed) {
        thread::sleep(std::time::Duration::from_millis(5));
    }
}
