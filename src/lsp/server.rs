//! The server's loop: handles waiting messages first, then runs one unit of checks and publishes the findings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::checks::{Checks, FileEvent};
use super::documents::Documents;
use super::incoming::{self, Client};
use super::positions::{LineIndex, Position};
use super::wire::{Incoming, IncomingMessage, MessageOutput, Refusal};
use super::{End, actions, complete, definition, hover, outgoing, references, symbols};

/// How long the client must be silent after an edit before the checks start. Too short for a user to notice.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Serving,
    Ending,
}

/// The state of the server.
pub(super) struct Server<'a> {
    out: MessageOutput<'a>,
    phase: Phase,
    client: Client,
    documents: Documents,
    checks: Checks,
    /// The last published findings for each file.
    told: BTreeMap<PathBuf, Value>,
    /// Files that the client closed. Their findings are published again once the checks have read them from the disk.
    closed: BTreeSet<PathBuf>,
    /// Whether the user may still be typing.
    typing: bool,
}

impl<'a> Server<'a> {
    pub(super) fn new(out: MessageOutput<'a>) -> Self {
        let (client, documents, checks) = (Client::default(), Documents::default(), Checks::default());
        Self {
            out,
            phase: Phase::New,
            client,
            documents,
            checks,
            told: BTreeMap::new(),
            closed: BTreeSet::new(),
            typing: false,
        }
    }

    /// Serves until the client ends the session or disconnects.
    pub(super) fn run(&mut self, messages: &Receiver<Incoming>) -> io::Result<End> {
        loop {
            let next = if self.checks.is_idle() {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                messages.recv_timeout(if self.typing { PAUSE } else { Duration::ZERO })
            };
            match next {
                Ok(message) => {
                    if let Some(end) = self.take(message)? {
                        return Ok(end);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.typing = false;
                    self.work()?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Abrupt),
            }
        }
    }

    /// Handles a message; returns how the session ended if this message ends it.
    pub(super) fn take(&mut self, message: Incoming) -> io::Result<Option<End>> {
        match message {
            Incoming::Asked(asked) if asked.method == "exit" => {
                return Ok(Some(if self.phase == Phase::Ending { End::Asked } else { End::Abrupt }));
            }
            Incoming::Asked(asked) => self.handle(asked)?,
            Incoming::Answer => {}
            Incoming::Malformed(answer) => self.out.refuse(&answer)?,
        }
        Ok(None)
    }

    /// Runs all queued checks.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        while !self.checks.is_idle() {
            self.work()?;
        }
        Ok(())
    }

    /// Runs one unit of checks. A panic in it loses that unit's findings, but not the server.
    fn work(&mut self) -> io::Result<()> {
        let (checks, documents) = (&mut self.checks, &mut self.documents);
        let mut files = catch_unwind(AssertUnwindSafe(|| checks.step(documents))).unwrap_or_default();
        if self.checks.is_idle() {
            files.append(&mut self.closed);
        }
        self.publish(&files)
    }

    fn publish(&mut self, files: &BTreeSet<PathBuf>) -> io::Result<()> {
        for path in files {
            let Some(uri) = self.documents.uri(path) else { continue };
            let found = self.checks.of(path);
            let version = self.documents.version(path);
            let params = outgoing::findings(&uri, version, &found, &self.client, &self.documents);
            // Skip a file that is not open and has no findings, before and now. Never publish the same findings twice.
            let silent = found.is_empty() && version.is_none() && !self.told.contains_key(path);
            if silent || self.told.get(path) == Some(&params) {
                continue;
            }
            if found.is_empty() && version.is_none() {
                self.told.remove(path);
            } else {
                self.told.insert(path.clone(), params.clone());
            }
            self.out.notify("textDocument/publishDiagnostics", params)?;
        }
        Ok(())
    }

    fn handle(&mut self, asked: IncomingMessage) -> io::Result<()> {
        let IncomingMessage { id, method, params } = asked;
        let Some(id) = id else { return self.told_of(&method, params) };
        let answer = match (self.phase, method.as_str()) {
            (Phase::New, "initialize") => incoming::client(params).map(|client| {
                self.client = client;
                self.phase = Phase::Serving;
                outgoing::capabilities(&self.client)
            }),
            (Phase::New, _) => Err(Refusal::early()),
            (Phase::Ending, _) => Err(Refusal::late("the server is shutting down")),
            (Phase::Serving, "initialize") => Err(Refusal::late("the server is initialized already")),
            (Phase::Serving, "shutdown") => {
                self.phase = Phase::Ending;
                Ok(Value::Null)
            }
            (Phase::Serving, method) => catch_unwind(AssertUnwindSafe(|| self.answer(method, params)))
                .unwrap_or_else(|_| Err(Refusal::defect())),
        };
        self.out.answer(id, answer)
    }

    fn answer(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        let (client, documents) = (&self.client, &self.documents);
        let at = |place: (Option<PathBuf>, Position)| {
            let path = place.0?;
            let lines = LineIndex::new(&documents.get(&path)?.text, client.encoding);
            Some((lines.offset(place.1), path))
        };
        let text = |path: &Path| documents.get(path).map(|open| &*open.text).unwrap_or_default();
        let lines = |path: &Path| LineIndex::new(text(path), client.encoding);
        Ok(match method {
            "textDocument/completion" => match at(incoming::place(params)?) {
                Some((offset, path)) => {
                    let list = complete::at(&path, offset, documents, &self.checks);
                    outgoing::choices(&list, &lines(&path), client)
                }
                None => Value::Null,
            },
            "textDocument/hover" => match at(incoming::place(params)?) {
                Some((offset, path)) => {
                    outgoing::hover(hover::at(&path, offset, documents, &self.checks), &lines(&path), client)
                }
                None => Value::Null,
            },
            "textDocument/definition" => match at(incoming::place(params)?) {
                Some((offset, path)) => {
                    outgoing::places(&definition::at(&path, offset, documents, &self.checks), client, documents)
                }
                None => Value::Null,
            },
            "textDocument/references" => {
                let (path, position, declaration) = incoming::references(params)?;
                match at((path, position)) {
                    Some((offset, path)) => {
                        let list = references::of(&path, offset, declaration, documents, &self.checks);
                        outgoing::places(&list, client, documents)
                    }
                    None => Value::Null,
                }
            }
            "textDocument/documentSymbol" => match incoming::document(params)? {
                Some(path) if super::projects::is_pipeline_of_ours(&path, &documents.sources()) => {
                    outgoing::symbols(&symbols::of(text(&path)), &lines(&path))
                }
                Some(_) | None => Value::Null,
            },
            "textDocument/codeAction" => self.actions(params)?,
            method => return Err(Refusal::unknown(method)),
        })
    }

    fn actions(&self, params: Value) -> Result<Value, Refusal> {
        let asked = incoming::actions(params)?;
        let Some(path) = asked.path.as_ref().filter(|_| self.client.literals) else { return Ok(Value::Null) };
        let (Some(open), Some(uri)) = (self.documents.get(path), self.documents.uri(path)) else {
            return Ok(Value::Null);
        };
        let lines = LineIndex::new(&open.text, self.client.encoding);
        let range = lines.offset(asked.range.0)..lines.offset(asked.range.1);
        let mut list = actions::of(&self.checks.of(path), &open.text, &range);
        list.retain(|action| asked.wants(action.kind));
        Ok(outgoing::actions(&list, &uri, &self.client, &self.documents))
    }

    /// Handles a notification, which gets no answer.
    fn told_of(&mut self, method: &str, params: Value) -> io::Result<()> {
        if self.phase != Phase::Serving {
            return Ok(());
        }
        match self.note(method, params) {
            Ok(Some(gone)) => self.publish(&gone),
            Ok(None) if method == "initialized" && self.client.watches => {
                self.out.ask("watch", "client/registerCapability", outgoing::watch())
            }
            Ok(None) => Ok(()),
            Err(refusal) => self.out.notify("window/logMessage", refusal.logged(method)),
        }
    }

    fn note(&mut self, method: &str, params: Value) -> Result<Option<BTreeSet<PathBuf>>, Refusal> {
        Ok(match method {
            "textDocument/didOpen" => incoming::opened(params)?.map(|opened| {
                let path = opened.path.clone();
                self.documents.open(opened.path, opened.uri, opened.version, opened.text);
                self.typing = false;
                let event = if path.is_file() { FileEvent::Changed } else { FileEvent::Listed };
                self.checks.touch(&path, event, &self.documents)
            }),
            "textDocument/didChange" => match incoming::changed(params)? {
                (Some(path), version, changes) => {
                    self.documents.change(&path, version, changes, self.client.encoding);
                    self.typing = true;
                    Some(self.checks.touch(&path, FileEvent::Changed, &self.documents))
                }
                (None, ..) => None,
            },
            "textDocument/didClose" => incoming::document(params)?.map(|path| {
                self.documents.close(&path);
                let files = self.checks.touch(&path, FileEvent::Listed, &self.documents);
                self.closed.insert(path);
                files
            }),
            "textDocument/didSave" => {
                incoming::document(params)?.map(|path| self.checks.touch(&path, FileEvent::Changed, &self.documents))
            }
            "workspace/didChangeWatchedFiles" => Some(self.watched(incoming::watched(params)?)),
            "workspace/didChangeWorkspaceFolders" => {
                let folders = incoming::removed_folders(params)?;
                Some(folders.iter().flat_map(|folder| self.checks.forget(folder)).collect())
            }
            _ => None,
        })
    }

    /// Handles file changes on the disk. Created and deleted files cause one check per root, however many they are.
    fn watched(&mut self, events: Vec<(PathBuf, bool)>) -> BTreeSet<PathBuf> {
        let sources = self.documents.sources();
        let (mut roots, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (path, only_changed) in events {
            // For an open file, the editor's text counts instead.
            let event = match only_changed {
                true if self.documents.version(&path).is_some() => continue,
                true => FileEvent::Changed,
                false if !roots.insert(self.checks.root_of(&path, &sources)) => continue,
                false => FileEvent::Listed,
            };
            gone.extend(self.checks.touch(&path, event, &self.documents));
        }
        gone
    }
}
