//! A small language client of our own: the real program over its standard streams.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::Orch;

/// How long an answer may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// An editor that has a project open.
pub(crate) struct Editor<'o> {
    orch: &'o Orch,
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    next: i64,
    /// What was published last, by address.
    pub(crate) told: HashMap<String, Value>,
    /// What the server asked the client for.
    pub(crate) asked: Vec<Value>,
    /// What the server wrote into the client's log.
    pub(crate) log: Vec<Value>,
    /// What the server says of itself.
    pub(crate) server: Value,
}

impl<'o> Editor<'o> {
    /// An editor as most are: UTF-16, and it watches files.
    pub(crate) fn new(orch: &'o Orch) -> Self {
        Self::with(orch, json!(["utf-16"]))
    }

    /// One with other encodings.
    pub(crate) fn with(orch: &'o Orch, encodings: Value) -> Self {
        let mut editor = Self::silent(orch);
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
        editor.tell("initialized", json!({}));
        editor
    }

    /// One that has said nothing yet.
    pub(crate) fn silent(orch: &'o Orch) -> Self {
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

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a body with its header.
    pub(crate) fn body(&mut self, body: &str) {
        self.send(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    pub(crate) fn tell(&mut self, method: &str, params: Value) {
        self.body(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }

    /// Asks, and waits for the whole answer: with `result` or `error`.
    pub(crate) fn answer(&mut self, method: &str, params: Value) -> Value {
        let id = self.next;
        self.next += 1;
        self.body(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        self.pump(|message| message["id"] == id && message.get("method").is_none())
    }

    /// Asks, and waits for the result.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("result").is_some(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Reads on until a message is the one that is waited for.
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

    /// The address of a file of the project.
    pub(crate) fn uri(&self, name: &str) -> String {
        let path = self.orch.path().join(name);
        let path = path.to_str().unwrap().replace('%', "%25").replace(' ', "%20").replace('ü', "%C3%BC");
        format!("file://{path}")
    }

    /// Opens a file with a text that need not be on the disk.
    pub(crate) fn open(&mut self, name: &str, text: &str) {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "languageId": "yaml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
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
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    pub(crate) fn close(&mut self, name: &str) {
        let uri = self.uri(name);
        self.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    }

    /// Waits until the findings of a file are those of a version; none for the file on the disk.
    #[track_caller]
    pub(crate) fn findings(&mut self, name: &str, version: Option<i64>) -> Vec<Value> {
        let uri = self.uri(name);
        let wanted = |params: &Value| params["uri"] == uri && params.get("version").and_then(Value::as_i64) == version;
        if !self.told.get(&uri).is_some_and(wanted) {
            self.pump(|message| message["method"] == "textDocument/publishDiagnostics" && wanted(&message["params"]));
        }
        self.told[&uri]["diagnostics"].as_array().unwrap().clone()
    }

    /// Waits until a file has a finding with this code, or none at all for an empty one.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str, code: &str) -> Vec<Value> {
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

    /// Asks about a place of a file.
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

    /// Opens a file whose text has an `@` at the place of the cursor, and gives what can be written there.
    #[track_caller]
    pub(crate) fn complete(&mut self, name: &str, marked: &str) -> Vec<String> {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        labels(&self.at("completion", name, place))
    }

    /// The same with what the word there is.
    #[track_caller]
    pub(crate) fn hover(&mut self, name: &str, marked: &str) -> String {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        let found = self.at("hover", name, place);
        found["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    /// The same with where the word is declared: the file's name in the project, and the text of that line.
    #[track_caller]
    pub(crate) fn definition(&mut self, name: &str, marked: &str) -> Vec<(String, String)> {
        let (text, place) = cursor(marked);
        self.open(name, &text);
        let found = self.at("definition", name, place);
        self.lines(&found)
    }

    /// Places as names of files and the text at each.
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

    /// Ends the stream, or what is left of it, and gives the exit code.
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

/// A text without its `@`, and the line and character where that was, in UTF-16.
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
