//! A small language client: it talks to the real program over its standard streams.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::Orch;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// An editor that has a project open.
pub(crate) struct Editor<'o> {
    orch: &'o Orch,
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    next: i64,
    /// The findings that were published last, by URI.
    pub(crate) told: HashMap<String, Value>,
    /// The requests of the server to the client.
    pub(crate) asked: Vec<Value>,
    /// The messages that the server wrote into the client's log.
    pub(crate) log: Vec<Value>,
    /// The answer of the server to `initialize`.
    pub(crate) server: Value,
}

impl<'o> Editor<'o> {
    /// A typical editor: it uses UTF-16, and watches files.
    pub(crate) fn new(orch: &'o Orch) -> Self {
        Self::with(orch, json!(["utf-16"]))
    }

    /// An editor with other encodings.
    pub(crate) fn with(orch: &'o Orch, encodings: Value) -> Self {
        let mut editor = Self::uninitialized(orch);
        editor.server = editor.ask(
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

    /// An editor that has not sent `initialize` yet.
    pub(crate) fn uninitialized(orch: &'o Orch) -> Self {
        let mut command = orch.command(&["lsp"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (sender, messages) = channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (stdin, told, server) = (child.stdin.take(), HashMap::new(), Value::Null);
        Self { orch, child, stdin, messages, next: 1, told, asked: Vec::new(), log: Vec::new(), server }
    }

    /// Sends raw bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a body with its header.
    pub(crate) fn body(&mut self, body: &str) {
        self.send(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.body(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Sends a request, and waits for the whole response, with `result` or `error`.
    pub(crate) fn answer(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        self.body(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        self.pump(|message| message["id"] == id && message.get("method").is_none())
    }

    /// Sends a request, and waits for the result.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("result").is_some(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Reads messages until one is wanted.
    #[track_caller]
    pub(crate) fn pump(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).expect("the server says nothing more");
            match message["method"].as_str() {
                Some("textDocument/publishDiagnostics") => {
                    let uri = message["params"]["uri"].as_str().unwrap().to_owned();
                    self.told.insert(uri, message["params"].clone());
                }
                Some("window/logMessage") => self.log.push(message["params"].clone()),
                Some(_) => self.asked.push(message.clone()),
                None => {}
            }
            if wanted(&message) {
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

    /// Opens a file with a text that need not be on the disk.
    pub(crate) fn open(&mut self, name: &str, text: &str) {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document }));
    }

    /// Opens a file as it is on the disk.
    pub(crate) fn open_file(&mut self, name: &str) {
        self.open(name, &self.orch.read(name));
    }

    /// Replaces the whole text.
    pub(crate) fn change(&mut self, name: &str, version: i64, text: &str) {
        self.edit(name, version, json!([{ "text": text }]));
    }

    pub(crate) fn edit(&mut self, name: &str, version: i64, changes: Value) {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "version": version });
        self.notify("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    pub(crate) fn close(&mut self, name: &str) {
        let uri = self.uri(name);
        self.notify("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    }

    /// Waits for the findings of a version of a file; without a version, of the file on the disk.
    #[track_caller]
    pub(crate) fn findings(&mut self, name: &str, version: Option<i64>) -> Vec<Value> {
        let uri = self.uri(name);
        let wanted = |params: &Value| params["uri"] == uri && params.get("version").and_then(Value::as_i64) == version;
        if !self.told.get(&uri).is_some_and(wanted) {
            self.pump(|message| message["method"] == "textDocument/publishDiagnostics" && wanted(&message["params"]));
        }
        self.told[&uri]["diagnostics"].as_array().unwrap().clone()
    }

    /// Waits until a file has a finding with this code, or has no finding if the code is empty.
    #[track_caller]
    pub(crate) fn wait_for_finding(&mut self, name: &str, code: &str) -> Vec<Value> {
        let uri = self.uri(name);
        let fits = |params: &Value| {
            let found = params["diagnostics"].as_array().unwrap();
            if code.is_empty() { found.is_empty() } else { found.iter().any(|d| d["code"] == code) }
        };
        if !self.told.get(&uri).is_some_and(fits) {
            self.pump(|m| {
                m["method"] == "textDocument/publishDiagnostics" && m["params"]["uri"] == uri && fits(&m["params"])
            });
        }
        self.told[&uri]["diagnostics"].as_array().unwrap().clone()
    }

    /// Sends a request about a position in a file.
    #[track_caller]
    pub(crate) fn at(&mut self, method: &str, name: &str, place: (usize, usize)) -> Value {
        let uri = self.uri(name);
        let position = json!({ "line": place.0, "character": place.1 });
        let mut params = json!({ "textDocument": { "uri": uri }, "position": position });
        if method == "references" {
            params["context"] = json!({ "includeDeclaration": true });
        }
        self.ask(&format!("textDocument/{method}"), params)
    }

    /// Opens a file whose text has an `@` at the cursor, and returns the labels of the completion there.
    #[track_caller]
    pub(crate) fn complete(&mut self, name: &str, marked: &str) -> Vec<String> {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        labels(&self.at("completion", name, place))
    }

    /// Opens such a file, and returns the hover text at the cursor.
    #[track_caller]
    pub(crate) fn hover(&mut self, name: &str, marked: &str) -> String {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        let found = self.at("hover", name, place);
        found["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// Opens such a file, and returns the definitions of the word: the name of the file in the project, and the text of
    /// the line.
    #[track_caller]
    pub(crate) fn definition(&mut self, name: &str, marked: &str) -> Vec<(String, String)> {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        let found = self.at("definition", name, place);
        self.lines(&found)
    }

    /// Locations as names of files and the text of each line.
    pub(crate) fn lines(&self, places: &Value) -> Vec<(String, String)> {
        let base = self.uri("");
        let each = places.as_array().unwrap().iter().map(|place| {
            let uri = place["uri"].as_str().unwrap();
            let name = uri.strip_prefix(&base).unwrap().to_owned();
            let start = &place["range"]["start"];
            let text = self.orch.read(&name);
            let line = text.lines().nth(usize::try_from(start["line"].as_u64().unwrap()).unwrap()).unwrap_or_default();
            (name, line.trim().to_owned())
        });
        each.collect()
    }

    /// Closes the stream, and returns the exit code.
    pub(crate) fn end(mut self) -> i32 {
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

/// A text without its `@`, and the line and character of that position, in UTF-16.
pub(crate) fn cursor(marked: &str) -> (String, (usize, usize)) {
    let at = marked.find('@').expect("the text has an `@`");
    let before = &marked[..at];
    let line = before.rsplit('\n').next().unwrap();
    (marked.replacen('@', "", 1), (before.matches('\n').count(), line.encode_utf16().count()))
}

/// The labels of a completion.
pub(crate) fn labels(completion: &Value) -> Vec<String> {
    let items = completion["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
}

fn read(output: &mut impl BufRead) -> Option<Value> {
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
