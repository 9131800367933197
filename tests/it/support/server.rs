//! A scripted HTTP server that speaks every provider's dialect.
//!
//! It runs on its own threads over plain sockets, so that a test controls every byte: where chunks end, and where a
//! reply stalls or is cut off.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// The headers, with names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body as JSON, or null if it is no JSON.
    pub(crate) body: Value,
}

impl Recorded {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The system prompt, in any dialect.
    pub(crate) fn system(&self) -> String {
        let openai = self.body["messages"].as_array().and_then(|messages| {
            messages.iter().find(|message| message["role"] == "system").map(|message| &message["content"])
        });
        text_of(openai.unwrap_or(if self.body["system"].is_null() {
            &self.body["systemInstruction"]["parts"]
        } else {
            &self.body["system"]
        }))
    }

    /// Every message after the system prompt, as role and text.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let list = self.body["messages"].as_array().or_else(|| self.body["contents"].as_array());
        list.into_iter()
            .flatten()
            .filter(|message| message["role"] != "system")
            .map(|message| {
                let content = if message["parts"].is_null() { &message["content"] } else { &message["parts"] };
                (message["role"].as_str().unwrap_or_default().to_owned(), text_of(content))
            })
            .collect()
    }

    /// The text of the last message.
    pub(crate) fn last(&self) -> String {
        self.messages().pop().map(|(_, text)| text).unwrap_or_default()
    }
}

/// The text of a content that is a string or a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// The server's response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    stall_after: Option<usize>,
    cut_after: Option<usize>,
    pieces: Option<(usize, Duration)>,
    unframed: bool,
    reset: bool,
}

impl Reply {
    fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = if kind.is_empty() { Vec::new() } else { vec![("content-type".to_owned(), kind.to_owned())] };
        Self {
            status,
            headers,
            body: body.into(),
            delay: Duration::ZERO,
            stall_after: None,
            cut_after: None,
            pieces: None,
            unframed: false,
            reset: false,
        }
    }

    /// A response with any status and body, as JSON.
    pub(crate) fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// A response of any content type; without one if `kind` is empty.
    pub(crate) fn typed(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, kind, body)
    }

    /// A web page.
    pub(crate) fn html(body: &str) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    /// An event stream of these bytes, well-formed or not.
    pub(crate) fn raw_events(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/event-stream", body)
    }

    /// An event stream of JSON values, without a final `[DONE]`.
    pub(crate) fn events(events: &[Value]) -> Self {
        let lines: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        Self::raw_events(lines.concat())
    }

    /// A streamed reply in the dialect that the path belongs to.
    pub(crate) fn text_for(path: &str, text: &str) -> Self {
        if path.contains("/messages") {
            Self::anthropic_text(text)
        } else if path.contains("GenerateContent") || path.contains("generateContent") {
            Self::gemini_text(text)
        } else {
            Self::openai_text(text)
        }
    }

    /// A streamed chat completion that ends by itself.
    pub(crate) fn openai_text(text: &str) -> Self {
        Self::openai_stopped(text, "stop")
    }

    /// A streamed chat completion with any finish reason.
    pub(crate) fn openai_stopped(text: &str, reason: &str) -> Self {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "scripted",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
        events.extend(pieces_of(text).map(|piece| chunk(json!({"content": piece}), Value::Null)));
        events.push(chunk(json!({}), json!(reason)));
        events.push(json!({"id": "chatcmpl-1", "model": "scripted", "choices": [], "usage": {
            "prompt_tokens": 11, "completion_tokens": tokens(text), "total_tokens": 11 + tokens(text),
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2}}}));
        let mut reply = Self::events(&events);
        reply.body.extend_from_slice(b"data: [DONE]\n\n");
        reply
    }

    /// A chat completion that is not streamed.
    pub(crate) fn openai_json(text: &str) -> Self {
        let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "scripted",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": tokens(text)}});
        Self::new(200, "application/json", body.to_string())
    }

    /// A streamed message that ends by itself.
    pub(crate) fn anthropic_text(text: &str) -> Self {
        Self::anthropic_stopped(text, "end_turn")
    }

    /// A streamed message with any stop reason.
    pub(crate) fn anthropic_stopped(text: &str, reason: &str) -> Self {
        let mut events = vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "scripted", "content": [], "stop_reason": null, "usage": {"input_tokens": 5,
                "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
        ];
        events.extend(pieces_of(text).map(
            |piece| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
        ));
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
                "usage": {"output_tokens": tokens(text)}}),
            json!({"type": "message_stop"}),
        ]);
        Self::named_events(&events)
    }

    /// A streamed message that uses a tool.
    pub(crate) fn anthropic_tool(name: &str, input: &Value) -> Self {
        let id = format!("toolu_{name}");
        Self::named_events(&[
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "scripted", "content": [], "stop_reason": null,
                "usage": {"input_tokens": 5, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block":
                {"type": "tool_use", "id": id, "name": name, "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta":
                {"type": "input_json_delta", "partial_json": input.to_string()}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ])
    }

    /// A streamed response of the Responses API with one item.
    fn response(item: Value) -> Self {
        Self::named_events(&[
            json!({"type": "response.created", "response": {"id": "resp_1"}}),
            json!({"type": "response.output_item.done", "item": item}),
            json!({"type": "response.completed", "response": {"id": "resp_1", "usage": {
                "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14}}}),
        ])
    }

    /// A streamed response of the Responses API with a text.
    pub(crate) fn response_text(text: &str) -> Self {
        let content = json!([{"type": "output_text", "text": text}]);
        Self::response(json!({"type": "message", "role": "assistant", "id": "msg_1", "content": content}))
    }

    /// A streamed response of the Responses API with a function call.
    pub(crate) fn response_call(name: &str, arguments: &Value) -> Self {
        let arguments = arguments.to_string();
        Self::response(json!({"type": "function_call", "call_id": "call_1", "name": name, "arguments": arguments}))
    }

    /// An event stream in which every event is named by its `type`.
    pub(crate) fn named_events(events: &[Value]) -> Self {
        let lines: Vec<String> = events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("x")))
            .collect();
        Self::raw_events(lines.concat())
    }

    /// A streamed generation that ends by itself.
    pub(crate) fn gemini_text(text: &str) -> Self {
        Self::gemini_stopped(text, "STOP")
    }

    /// A streamed generation with any finish reason.
    pub(crate) fn gemini_stopped(text: &str, reason: &str) -> Self {
        let mut events: Vec<Value> = pieces_of(text)
            .map(|piece| {
                json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": piece}]}}],
                    "modelVersion": "scripted", "responseId": "r1"})
            })
            .collect();
        events.push(json!({"candidates": [{"index": 0, "finishReason": reason}], "modelVersion": "scripted",
            "responseId": "r1", "usageMetadata": {"promptTokenCount": 11, "cachedContentTokenCount": 4,
            "candidatesTokenCount": tokens(text), "thoughtsTokenCount": 3}}));
        Self::events(&events)
    }

    /// Adds this header; it replaces one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the reply after this delay.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends only the first bytes of the body, and keeps the connection open.
    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.stall_after = Some(bytes);
        self
    }

    /// Sends only the first bytes of the body, and closes the connection.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Sends the body in writes of so many bytes, with a pause between them.
    pub(crate) fn pieces(mut self, bytes: usize, pause: Duration) -> Self {
        self.pieces = Some((bytes, pause));
        self
    }

    /// Sends no length: the end of the connection ends the body.
    pub(crate) fn unframed(mut self) -> Self {
        self.unframed = true;
        self
    }

    /// Resets the connection after the reply.
    pub(crate) fn reset(mut self) -> Self {
        self.reset = true;
        self
    }

    /// Sends only the first bytes of the body, with a matching length.
    pub(crate) fn truncated(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// The number of bytes of the body.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }
}

/// A text in pieces of a few characters, as models send it.
fn pieces_of(text: &str) -> impl Iterator<Item = String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(7).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}

fn tokens(text: &str) -> usize {
    text.split_whitespace().count().max(1)
}

type Handler = dyn Fn(&Recorded) -> Reply + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Recorded>>,
    stopped: AtomicBool,
}

/// The server; it stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a free port of the loopback.
    pub(crate) fn start(handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(0, handler)
    }

    /// Starts a server on this port, or on a free one if it is 0.
    pub(crate) fn start_on(port: u16, handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let shared = Arc::clone(&shared);
                    // A client may close the connection at any time; that is no failure of the server.
                    thread::spawn(move || stream.and_then(|stream| serve(&stream, &shared)));
                }
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// A server that gives the same reply to every request.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone())
    }

    /// A server that answers with this text, in the dialect of the request.
    pub(crate) fn saying(text: &str) -> Self {
        let text = text.to_owned();
        Self::start(move |request| Reply::text_for(&request.path, &text))
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:PORT`: the base URL of the Anthropic and Gemini dialects.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:PORT/v1`: the base URL of the `OpenAI` dialect.
    pub(crate) fn openai_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The requests so far, in the order of arrival.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // This connection wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Answers one request, then closes the connection.
fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(request) = read(stream)? else { return Ok(()) };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let reply = (shared.handler)(&request);
    thread::sleep(reply.delay);
    let mut out = stream;
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let length = if reply.unframed { String::new() } else { format!("content-length: {}\r\n", reply.body.len()) };
    let _ = write!(head, "{length}\r\n");
    out.write_all(head.as_bytes())?;
    let end = reply.cut_after.or(reply.stall_after).unwrap_or(usize::MAX).min(reply.body.len());
    let (size, pause) = reply.pieces.unwrap_or((64 * 1024, Duration::ZERO));
    for piece in reply.body[..end].chunks(size.max(1)) {
        out.write_all(piece)?;
        thread::sleep(pause);
    }
    if reply.stall_after.is_some() {
        wait(stream, shared)?;
    }
    if reply.reset {
        // With this option, closing the connection resets it.
        return socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    stream.shutdown(std::net::Shutdown::Both)
}

/// Waits until the client closes the connection or the server stops.
fn wait(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !shared.stopped.load(Ordering::SeqCst) {
        match stream.read(&mut [0; 64]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn read(stream: &TcpStream) -> std::io::Result<Option<Recorded>> {
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
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Recorded { method, path, headers, body }))
}
