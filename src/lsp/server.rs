//! The server's loop: handles queued messages first, then runs one check (of a pipeline, of a
//! prompt, or of the settings and schemas of a project) and publishes its findings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::checks::{Checks, FileEvent};
use super::documents::Documents;
use super::incoming::{self, ClientCapabilities};
use super::positions::{LineIndex, Position};
use super::wire::{Incoming, IncomingCall, MessageOutput, ResponseError};
use super::{actions, complete, definition, hover, outgoing, references, symbols};
use crate::config::EnvAddresses;

/// The pause after an edit before the checks start: too short for a user to notice.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client ended it properly: `shutdown`, then `exit`.
    Shutdown,
    /// The client sent `exit` without `shutdown`, or the stream ended.
    Abrupt,
}

/// The phase of the session with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionPhase {
    Uninitialized,
    Running,
    ShuttingDown,
}

/// The state of the server.
pub(super) struct Server<'a> {
    out: MessageOutput<'a>,
    phase: SessionPhase,
    client: ClientCapabilities,
    documents: Documents,
    checks: Checks,
    /// The last published findings for each file.
    published: BTreeMap<PathBuf, Value>,
    /// Files that the client closed. The server publishes their findings again after it has checked the files on the
    /// disk.
    closed: BTreeSet<PathBuf>,
    /// Whether the user may still be typing.
    is_typing: bool,
}

impl<'a> Server<'a> {
    pub(super) fn new(out: MessageOutput<'a>) -> Self {
        let (client, documents, checks) = (ClientCapabilities::default(), Documents::default(), Checks::default());
        Self {
            out,
            phase: SessionPhase::Uninitialized,
            client,
            documents,
            checks,
            published: BTreeMap::new(),
            closed: BTreeSet::new(),
            is_typing: false,
        }
    }

    /// Sets the addresses of providers that come from environment variables.
    pub(super) fn with_env_addresses(mut self, env_addresses: Arc<EnvAddresses>) -> Self {
        self.documents.set_env_addresses(env_addresses);
        self
    }

    /// Serves until the client ends the session or disconnects.
    pub(super) fn run(&mut self, messages: &Receiver<Incoming>) -> io::Result<SessionEnd> {
        loop {
            let received = if self.checks.is_idle() {
                messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                messages.recv_timeout(if self.is_typing { DEBOUNCE } else { Duration::ZERO })
            };
            match received {
                Ok(message) => {
                    if let Some(end) = self.handle_message(message)? {
                        return Ok(end);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.is_typing = false;
                    self.run_check()?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(SessionEnd::Abrupt),
            }
        }
    }

    /// Handles a message; returns how the session ended if this message ends it.
    pub(super) fn handle_message(&mut self, message: Incoming) -> io::Result<Option<SessionEnd>> {
        match message {
            Incoming::Call(message) if message.method == "exit" => {
                return Ok(Some(if self.phase == SessionPhase::ShuttingDown {
                    SessionEnd::Shutdown
                } else {
                    SessionEnd::Abrupt
                }));
            }
            Incoming::Call(message) => self.handle_call(message)?,
            Incoming::Response => {}
            Incoming::Malformed(response) => self.out.send_error(&response)?,
        }
        Ok(None)
    }

    /// Runs all queued checks.
    pub(super) fn run_all_checks(&mut self) -> io::Result<()> {
        while !self.checks.is_idle() {
            self.run_check()?;
        }
        Ok(())
    }

    /// Runs the next queued check. If it panics, the server drops its findings and continues.
    fn run_check(&mut self) -> io::Result<()> {
        let (checks, documents) = (&mut self.checks, &mut self.documents);
        let mut files = catch_unwind(AssertUnwindSafe(|| checks.run_next(documents))).unwrap_or_default();
        if self.checks.is_idle() {
            files.append(&mut self.closed);
        }
        self.publish(&files)
    }

    fn publish(&mut self, files: &BTreeSet<PathBuf>) -> io::Result<()> {
        for path in files {
            let Some(uri) = self.documents.uri(path) else { continue };
            let findings = self.checks.findings_in(path);
            let version = self.documents.version(path);
            let params = outgoing::encode_findings(&uri, version, &findings, &self.client, &self.documents);
            // Skips a closed file that has neither old nor new findings, and a file whose findings are unchanged.
            let is_irrelevant = findings.is_empty() && version.is_none() && !self.published.contains_key(path);
            if is_irrelevant || self.published.get(path) == Some(&params) {
                continue;
            }
            if findings.is_empty() && version.is_none() {
                self.published.remove(path);
            } else {
                self.published.insert(path.clone(), params.clone());
            }
            self.out.notify("textDocument/publishDiagnostics", params)?;
        }
        Ok(())
    }

    fn handle_call(&mut self, message: IncomingCall) -> io::Result<()> {
        let IncomingCall { id, method, params } = message;
        let Some(id) = id else { return self.on_notification(&method, params) };
        let result = match (self.phase, method.as_str()) {
            (SessionPhase::Uninitialized, "initialize") => incoming::decode_initialize(params).map(|client| {
                self.client = client;
                self.phase = SessionPhase::Running;
                outgoing::encode_capabilities(&self.client)
            }),
            (SessionPhase::Uninitialized, _) => Err(ResponseError::not_initialized()),
            (SessionPhase::ShuttingDown, _) => Err(ResponseError::invalid_request("the server is shutting down")),
            (SessionPhase::Running, "initialize") => {
                Err(ResponseError::invalid_request("the server is initialized already"))
            }
            (SessionPhase::Running, "shutdown") => {
                self.phase = SessionPhase::ShuttingDown;
                Ok(Value::Null)
            }
            (SessionPhase::Running, method) => catch_unwind(AssertUnwindSafe(|| self.handle_request(method, params)))
                .unwrap_or_else(|_| Err(ResponseError::internal_error())),
        };
        self.out.respond(id, result)
    }

    fn handle_request(&self, method: &str, params: Value) -> Result<Value, ResponseError> {
        let (client, documents) = (&self.client, &self.documents);
        let resolve_position = |(path, position): (Option<PathBuf>, Position)| {
            let path = path?;
            let lines = LineIndex::new(&documents.get(&path)?.text, client.encoding);
            Some((lines.offset(position), path))
        };
        let text = |path: &Path| documents.get(path).map(|document| &*document.text).unwrap_or_default();
        let lines = |path: &Path| LineIndex::new(text(path), client.encoding);
        Ok(match method {
            "textDocument/completion" => match resolve_position(incoming::decode_position(params)?) {
                Some((offset, path)) => {
                    let completions = complete::completions_at(&path, offset, documents, &self.checks);
                    outgoing::encode_completions(&completions, &lines(&path), client)
                }
                None => Value::Null,
            },
            "textDocument/hover" => match resolve_position(incoming::decode_position(params)?) {
                Some((offset, path)) => outgoing::encode_hover(
                    hover::hover_at(&path, offset, documents, &self.checks),
                    &lines(&path),
                    client,
                ),
                None => Value::Null,
            },
            "textDocument/definition" => match resolve_position(incoming::decode_position(params)?) {
                Some((offset, path)) => outgoing::encode_locations(
                    &definition::find_definitions(&path, offset, documents, &self.checks),
                    client,
                    documents,
                ),
                None => Value::Null,
            },
            "textDocument/references" => {
                let (path, position, include_declaration) = incoming::decode_references(params)?;
                match resolve_position((path, position)) {
                    Some((offset, path)) => {
                        let targets =
                            references::find_references(&path, offset, include_declaration, documents, &self.checks);
                        outgoing::encode_locations(&targets, client, documents)
                    }
                    None => Value::Null,
                }
            }
            "textDocument/documentSymbol" => match incoming::decode_document(params)? {
                Some(path) if super::projects::is_project_pipeline(&path, &documents.sources()) => {
                    outgoing::encode_symbols(&symbols::document_symbols(text(&path)), &lines(&path))
                }
                Some(_) | None => Value::Null,
            },
            "textDocument/codeAction" => self.code_actions(params)?,
            method => return Err(ResponseError::method_not_found(method)),
        })
    }

    fn code_actions(&self, params: Value) -> Result<Value, ResponseError> {
        let request = incoming::decode_code_action(params)?;
        let Some(path) = request.path.as_ref().filter(|_| self.client.supports_code_action_literals) else {
            return Ok(Value::Null);
        };
        let (Some(document), Some(uri)) = (self.documents.get(path), self.documents.uri(path)) else {
            return Ok(Value::Null);
        };
        let lines = LineIndex::new(&document.text, self.client.encoding);
        let range = lines.offset(request.range.0)..lines.offset(request.range.1);
        let mut actions = actions::code_actions(&self.checks.findings_in(path), &document.text, &range);
        actions.retain(|action| request.includes_kind(action.kind));
        Ok(outgoing::encode_code_actions(&actions, &uri, &self.client, &self.documents))
    }

    /// Handles a notification, which has no response.
    fn on_notification(&mut self, method: &str, params: Value) -> io::Result<()> {
        if self.phase != SessionPhase::Running {
            return Ok(());
        }
        match self.apply_notification(method, params) {
            Ok(Some(files)) => self.publish(&files),
            Ok(None) if method == "initialized" && self.client.can_watch_files => {
                self.out.request("watch", "client/registerCapability", outgoing::encode_watch_registration())
            }
            Ok(None) => Ok(()),
            Err(error) => self.out.notify("window/logMessage", error.to_log_message(method)),
        }
    }

    /// Updates the state for a notification. Returns the files whose findings it removed.
    fn apply_notification(&mut self, method: &str, params: Value) -> Result<Option<BTreeSet<PathBuf>>, ResponseError> {
        Ok(match method {
            "textDocument/didOpen" => incoming::decode_did_open(params)?.map(|opened| {
                let path = opened.path.clone();
                self.documents.open(opened.path, opened.uri, opened.version, opened.text);
                self.is_typing = false;
                let event = if path.is_file() { FileEvent::ContentChanged } else { FileEvent::ExistenceChanged };
                self.checks.file_changed(&path, event, &self.documents)
            }),
            "textDocument/didChange" => match incoming::decode_did_change(params)? {
                (Some(path), version, changes) => {
                    self.documents.apply_changes(&path, version, changes, self.client.encoding);
                    self.is_typing = true;
                    Some(self.checks.file_changed(&path, FileEvent::ContentChanged, &self.documents))
                }
                (None, ..) => None,
            },
            "textDocument/didClose" => incoming::decode_document(params)?.map(|path| {
                self.documents.close(&path);
                let files = self.checks.file_changed(&path, FileEvent::ExistenceChanged, &self.documents);
                self.closed.insert(path);
                files
            }),
            "textDocument/didSave" => incoming::decode_document(params)?
                .map(|path| self.checks.file_changed(&path, FileEvent::ContentChanged, &self.documents)),
            "workspace/didChangeWatchedFiles" => Some(self.on_watched_files(incoming::decode_watched_files(params)?)),
            "workspace/didChangeWorkspaceFolders" => {
                let folders = incoming::decode_removed_folders(params)?;
                Some(folders.iter().flat_map(|folder| self.checks.remove_folder(folder)).collect())
            }
            _ => None,
        })
    }

    /// Handles file changes on the disk. All created and deleted files together cause one check per root.
    fn on_watched_files(&mut self, events: Vec<(PathBuf, bool)>) -> BTreeSet<PathBuf> {
        let sources = self.documents.sources();
        let (mut roots, mut files) = (BTreeSet::new(), BTreeSet::new());
        for (path, is_change) in events {
            // For an open file, the server uses the editor's text instead.
            let event = match is_change {
                true if self.documents.version(&path).is_some() => continue,
                true => FileEvent::ContentChanged,
                false if !roots.insert(self.checks.root_of(&path, &sources)) => continue,
                false => FileEvent::ExistenceChanged,
            };
            files.extend(self.checks.file_changed(&path, event, &self.documents));
        }
        files
    }
}
