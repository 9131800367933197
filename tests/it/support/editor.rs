//! A small LSP client that connects to the real program over its standard streams.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::Orch;

/// The time limit for a message. It allows for a busy machine.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// An editor with an open project.
pub(crate) struct Editor<'o> {
    orch: &'o Orch,
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    next_id: i64,
    /// The findings that the server published last, by URI.
    pub(crate) published: HashMap<String, Value>,
    /// The messages of the server with other methods, such as its requests.
    pub(crate) server_requests: Vec<Value>,
    /// The parameters of the log messages of the server.
    pub(crate) log_messages: Vec<Value>,
    /// The result of `initialize`.
    pub(crate) initialize_result: Value,
}

impl<'o> Editor<'o> {
    /// Starts an editor that uses UTF-16 and watches files, as most editors do.
    pub(crate) fn new(orch: &'o Orch) -> Self {
        Self::with(orch, json!(["utf-16"]))
    }

    /// Starts an editor that offers these encodings of positions.
    pub(crate) fn with(orch: &'o Orch, encodings: Value) -> Self {
        let mut editor = Self::uninitialized(orch);
        editor.initialize_result = editor.request_result(
            "initialize",
            json!({
                "processId": null, "rootUri": null,
                "capabilities": {
                    "general": { "positionEncodings": encodings },
                    "workspace": { "didChangeWatchedFiles": { "dynamicRegistration": true } },
                    "textDocument": {
                        "hover": { "contentFormat": ["markdown", "plaintext"] },
                        "publishDiagnostics": { "relatedInformation": true },
                        "codeAction": { "codeActionLiteralSupport": { "codeActionKind": { "valueSet": ["quickfix"] } } }
                    }
                }
            }),
        );
        editor.notify("initialized", json!({}));
        editor
    }

    /// Starts an editor without sending `initialize`.
    pub(crate) fn uninitialized(orch: &'o Orch) -> Self {
        let mut command = orch.command(&["lsp"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (sender, messages) = channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = read_message(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (stdin, published, initialize_result) = (child.stdin.take(), HashMap::new(), Value::Null);
        Self {
            orch,
            child,
            stdin,
            messages,
            next_id: 1,
            published,
            server_requests: Vec::new(),
            log_messages: Vec::new(),
            initialize_result,
        }
    }

    /// Sends raw bytes.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends the body of a message, with the header.
    pub(crate) fn send_body(&mut self, body: &str) {
        self.send_bytes(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.send_body(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Sends a request, waits for the response, and returns the response with its `result` or `error`.
    pub(crate) fn send_request(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send_body(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        self.read_until(|message| message["id"] == id && message.get("method").is_none())
    }

    /// Sends a request, waits for the response, and returns its result.
    #[track_caller]
    pub(crate) fn request_result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.send_request(method, params);
        assert!(answer.get("result").is_some(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Reads messages until one of them is wanted, and returns this message.
    #[track_caller]
    pub(crate) fn read_until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(MESSAGE_TIMEOUT).expect("the server sends no message");
            match message["method"].as_str() {
                Some("textDocument/publishDiagnostics") => {
                    let uri = message["params"]["uri"].as_str().unwrap().to_owned();
                    self.published.insert(uri, message["params"].clone());
                }
                Some("window/logMessage") => self.log_messages.push(message["params"].clone()),
                Some(_) => self.server_requests.push(message.clone()),
                None => {}
            }
            if is_wanted(&message) {
                return message;
            }
        }
    }

    /// The URI of a file of the project.
    pub(crate) fn uri(&self, name: &str) -> String {
        let path = self.orch.path().join(name);
        let path = path.to_str().unwrap().replace('%', "%25").replace(' ', "%20").replace('ü', "%C3%BC");
        format!("file://{path}")
    }

    /// Opens a file with a text, which may differ from the file on the disk.
    pub(crate) fn open(&mut self, name: &str, text: &str) {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document }));
    }

    /// Opens a file with its text on the disk.
    pub(crate) fn open_file(&mut self, name: &str) {
        self.open(name, &self.orch.read(name));
    }

    /// Replaces the whole text of a file.
    pub(crate) fn change(&mut self, name: &str, version: i64, text: &str) {
        self.edit(name, version, json!([{ "text": text }]));
    }

    /// Sends changes of a file.
    pub(crate) fn edit(&mut self, name: &str, version: i64, changes: Value) {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "version": version });
        self.notify("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    pub(crate) fn close(&mut self, name: &str) {
        let uri = self.uri(name);
        self.notify("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    }

    /// Waits for the findings of a version of a file. Without a version, waits for those of the file on the disk.
    #[track_caller]
    pub(crate) fn findings(&mut self, name: &str, version: Option<i64>) -> Vec<Value> {
        let uri = self.uri(name);
        let is_wanted =
            |params: &Value| params["uri"] == uri && params.get("version").and_then(Value::as_i64) == version;
        if !self.published.get(&uri).is_some_and(is_wanted) {
            self.read_until(|message| {
                message["method"] == "textDocument/publishDiagnostics" && is_wanted(&message["params"])
            });
        }
        self.published[&uri]["diagnostics"].as_array().unwrap().clone()
    }

    /// Waits until a file has a finding with this code, or has no finding if the code is empty.
    #[track_caller]
    pub(crate) fn wait_for_finding(&mut self, name: &str, code: &str) -> Vec<Value> {
        let uri = self.uri(name);
        let is_wanted = |params: &Value| {
            let findings = params["diagnostics"].as_array().unwrap();
            if code.is_empty() { findings.is_empty() } else { findings.iter().any(|finding| finding["code"] == code) }
        };
        if !self.published.get(&uri).is_some_and(is_wanted) {
            self.read_until(|message| {
                message["method"] == "textDocument/publishDiagnostics"
                    && message["params"]["uri"] == uri
                    && is_wanted(&message["params"])
            });
        }
        self.published[&uri]["diagnostics"].as_array().unwrap().clone()
    }

    /// Sends a request about a position in a file.
    #[track_caller]
    pub(crate) fn request_at(&mut self, method: &str, name: &str, position: (usize, usize)) -> Value {
        let uri = self.uri(name);
        let position = json!({ "line": position.0, "character": position.1 });
        let mut params = json!({ "textDocument": { "uri": uri }, "position": position });
        if method == "references" {
            params["context"] = json!({ "includeDeclaration": true });
        }
        self.request_result(&format!("textDocument/{method}"), params)
    }

    /// Opens a file whose text has an `@` at the cursor, and returns the labels of the completion at the cursor.
    #[track_caller]
    pub(crate) fn complete(&mut self, name: &str, text_with_cursor: &str) -> Vec<String> {
        let (text, position) = split_cursor(text_with_cursor);
        self.open(name, &text);
        completion_labels(&self.request_at("completion", name, position))
    }

    /// Opens a file whose text has an `@` at the cursor, and returns the hover text at the cursor.
    #[track_caller]
    pub(crate) fn hover(&mut self, name: &str, text_with_cursor: &str) -> String {
        let (text, position) = split_cursor(text_with_cursor);
        self.open(name, &text);
        let hover = self.request_at("hover", name, position);
        hover["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Opens a file whose text has an `@` at the cursor. Returns the file and the line of each definition of the word
    /// at the cursor.
    #[track_caller]
    pub(crate) fn definition(&mut self, name: &str, text_with_cursor: &str) -> Vec<(String, String)> {
        let (text, position) = split_cursor(text_with_cursor);
        self.open(name, &text);
        let definitions = self.request_at("definition", name, position);
        self.location_lines(&definitions)
    }

    /// The file of each location, relative to the project, and the text of its line.
    pub(crate) fn location_lines(&self, locations: &Value) -> Vec<(String, String)> {
        let base = self.uri("");
        let lines = locations.as_array().unwrap().iter().map(|location| {
            let uri = location["uri"].as_str().unwrap();
            let name = uri.strip_prefix(&base).unwrap().to_owned();
            let start = &location["range"]["start"];
            let text = self.orch.read(&name);
            let line = text.lines().nth(usize::try_from(start["line"].as_u64().unwrap()).unwrap()).unwrap_or_default();
            (name, line.trim().to_owned())
        });
        lines.collect()
    }

    /// Closes the connection, and returns the exit code of the server.
    pub(crate) fn disconnect(mut self) -> i32 {
        drop(self.stdin.take());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Editor<'_> {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Removes the `@` from a text. Returns the text, and the line and the UTF-16 character of the `@`.
pub(crate) fn split_cursor(text_with_cursor: &str) -> (String, (usize, usize)) {
    let offset = text_with_cursor.find('@').expect("the text has an `@`");
    let before = &text_with_cursor[..offset];
    let line = before.rsplit('\n').next().unwrap();
    (text_with_cursor.replacen('@', "", 1), (before.matches('\n').count(), line.encode_utf16().count()))
}

/// The labels of a completion.
pub(crate) fn completion_labels(completion: &Value) -> Vec<String> {
    let items = completion["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
}

/// Reads a message. Returns `None` at the end of the stream.
fn read_message(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}
