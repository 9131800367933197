//! A scripted HTTP server that speaks every provider's dialect.
//!
//! It uses plain sockets on its own threads, so that a test controls every byte: where chunks end, and where a reply
//! stalls or is cut off.

mod aws;
mod reply;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::ClosedPort;

pub(crate) use reply::Reply;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// The headers, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as JSON, or null if the body is not JSON.
    pub(crate) body: Value,
    /// The bytes of the body.
    pub(crate) bytes: Vec<u8>,
}

impl ReceivedRequest {
    /// The value of a header. The name must be in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The system prompt, in any dialect.
    pub(crate) fn system(&self) -> String {
        let openai_system = self.body["messages"].as_array().and_then(|messages| {
            messages.iter().find(|message| message["role"] == "system").map(|message| &message["content"])
        });
        let other_fields = [&self.body["system"], &self.body["systemInstruction"]["parts"], &self.body["instructions"]];
        content_text(
            openai_system.or_else(|| other_fields.into_iter().find(|system| !system.is_null())).unwrap_or(&Value::Null),
        )
    }

    /// The role and the text of every message after the system prompt.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let list = ["messages", "contents", "input"].iter().find_map(|field| self.body[*field].as_array());
        list.into_iter()
            .flatten()
            .filter(|message| message["role"] != "system")
            .map(|message| {
                let content = if message["parts"].is_null() { &message["content"] } else { &message["parts"] };
                (message["role"].as_str().unwrap_or_default().to_owned(), content_text(content))
            })
            .collect()
    }

    /// The text of the last message.
    pub(crate) fn last(&self) -> String {
        self.messages().pop().map(|(_, text)| text).unwrap_or_default()
    }
}

/// The text of a message content, which is a string or a list of parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Returns the reply to a request.
type Handler = dyn Fn(&ReceivedRequest) -> Reply + Send + Sync;

struct ServerState {
    handler: Box<Handler>,
    requests: Mutex<Vec<ReceivedRequest>>,
    stopped: AtomicBool,
}

/// The server. Dropping this value stops it.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<ServerState>,
    accept_thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a free port of the loopback.
    pub(crate) fn start(handler: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(0, handler)
    }

    /// Starts a server on this port of the loopback, or on a free port if `port` is 0.
    pub(crate) fn start_on(port: u16, handler: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(ServerState {
            handler: Box::new(handler),
            requests: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
        });
        let accept_thread = thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for stream in listener.incoming() {
                    if state.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let state = Arc::clone(&state);
                    // Ignore errors, because a client may close the connection at any time.
                    thread::spawn(move || stream.and_then(|stream| serve(&stream, &state)));
                }
            }
        });
        Self { address, state, accept_thread: Some(accept_thread) }
    }

    /// Starts a server that gives the same reply to every request.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone())
    }

    /// Starts a server that answers with this text, in the dialect of the request.
    pub(crate) fn saying(text: &str) -> Self {
        let text = text.to_owned();
        Self::start(move |request| Reply::text_for(&request.path, &text))
    }

    /// Stops the server. Its address refuses connections until the returned value is dropped.
    pub(crate) fn close(self) -> ClosedPort {
        let address = self.address;
        drop(self);
        ClosedPort::bind(address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:PORT`: the base URL of the Anthropic and Gemini dialects.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:PORT/v1`: the base URL of `OpenAI`'s dialects.
    pub(crate) fn openai_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The requests so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // This connection wakes the thread that accepts connections.
        let _ = TcpStream::connect(self.address);
        if let Some(accept_thread) = self.accept_thread.take() {
            let _ = accept_thread.join();
        }
    }
}

/// Answers one request, then closes the connection.
fn serve(stream: &TcpStream, state: &ServerState) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(request) = read_request(stream)? else { return Ok(()) };
    state.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let reply = (state.handler)(&request);
    thread::sleep(reply.delay);
    let mut out = stream;
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let length = if reply.unframed { String::new() } else { format!("content-length: {}\r\n", reply.body.len()) };
    let _ = write!(head, "{length}\r\n");
    out.write_all(head.as_bytes())?;
    let sent_length = reply.cut_after.or(reply.stall_after).unwrap_or(usize::MAX).min(reply.body.len());
    let (piece_size, pause) = reply.pieces.unwrap_or((64 * 1024, Duration::ZERO));
    for piece in reply.body[..sent_length].chunks(piece_size.max(1)) {
        out.write_all(piece)?;
        thread::sleep(pause);
    }
    if reply.stall_after.is_some() {
        wait_for_client(stream, state)?;
    }
    if reply.reset {
        // With this option, closing the connection resets it.
        return socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    stream.shutdown(std::net::Shutdown::Both)
}

/// Waits until the client closes the connection or the server stops.
fn wait_for_client(mut stream: &TcpStream, state: &ServerState) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !state.stopped.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<ReceivedRequest>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Some(ReceivedRequest { method, path, headers, body, bytes }))
}
