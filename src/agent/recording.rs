//! Recordings: requests, replies and tool calls in files that users can read and tests can replay.
//!
//! The key of a recording is its request without the model. Users can therefore record a pipeline with a large model
//! and replay it without a model.

mod blocks;
mod tool_calls;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use similar::TextDiff;

use crate::files::read_to_end_bounded;
use crate::folder::{FolderAccess, NoFollowFolder, open_file};
use crate::model::text::decode_text;
use crate::model::{
    ChatReply, ChatRequest, Digest, Failure, FailureClass, ReplyDetails, ReportedUsage, StepKey, StopReason,
    canonical_json,
};
use crate::secret::Redactor;

use blocks::RepliedCall;
use tool_calls::ToolCallRecording;

/// The provider name for replayed replies.
pub const REPLAY_PROVIDER: &str = "replay";
/// The maximum number of lines of a diff in a message.
const MAX_DIFF_LINES: usize = 24;
/// The size of the largest recording that orch reads, in bytes.
const MAX_RECORDING_BYTES: u64 = 256 << 20;

/// A request and its reply, as stored in a file. Texts are lists of lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recording {
    /// The step that sent the request, for users and for finding the nearest recording.
    step: String,
    /// The model that replied.
    model: String,
    /// The digest that identifies the request.
    key: Digest,
    /// The lines of the system prompt.
    system: Vec<String>,
    /// The conversation so far: the role and the lines of each message.
    messages: Vec<(String, Vec<String>)>,
    /// The digest of the schema, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<Digest>,
    /// The lines of the reply.
    reply: Vec<String>,
    /// The tool calls of the reply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<RepliedCall>,
    /// Why the model stopped.
    stop: StopReason,
    /// The token usage that the provider reported.
    usage: ReportedUsage,
    /// Details of the reply that its text does not contain.
    #[serde(default, skip_serializing_if = "ReplyDetails::is_empty")]
    details: Box<ReplyDetails>,
}

/// The key of a request: the digest of its system prompt, messages and schema, without its model, limits and tools.
fn request_key(request: &ChatRequest) -> Digest {
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|message| json!({ "role": message.role, "content": blocks::key_content(&message.content) }))
        .collect();
    let content = json!({ "system": request.system, "messages": messages, "schema": request.schema });
    Digest::compute(canonical_json(&content).as_bytes())
}

fn split_lines(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

impl Recording {
    fn request_text(&self) -> String {
        let messages = self.messages.iter().map(|(role, lines)| (role.clone(), lines.join("\n")));
        request_text(&self.system.join("\n"), messages)
    }
}

/// A request as one text, for comparison. Each message is a role and a text.
fn request_text(system: &str, messages: impl Iterator<Item = (String, String)>) -> String {
    let mut request_text = format!("system:\n{system}\n");
    for (role, text) in messages {
        request_text.push_str(&format!("{role}:\n{text}\n"));
    }
    request_text
}

/// The role and the text of each message.
fn messages(request: &ChatRequest) -> impl Iterator<Item = (String, String)> {
    request.messages.iter().map(|message| {
        let role = serde_json::to_value(message.role).ok().and_then(|role| role.as_str().map(str::to_owned));
        (role.unwrap_or_default(), blocks::content_text(&message.content))
    })
}

/// Records the requests and replies of a run in a folder that only the user can read, since they may be private.
#[derive(Debug)]
pub struct Recorder {
    folder: NoFollowFolder,
    /// How often each file name was used: steps may send the same request and get different replies.
    name_counts: Mutex<HashMap<String, usize>>,
    first_failure: Mutex<Option<Failure>>,
}

impl Recorder {
    /// Creates a recorder that writes to a folder, which it creates if necessary.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        NoFollowFolder::create(folder, FolderAccess::Private).map(Self::from_folder)
    }

    /// Creates a recorder that writes to a folder.
    pub fn from_folder(folder: NoFollowFolder) -> Self {
        Self { folder, name_counts: Mutex::default(), first_failure: Mutex::default() }
    }

    /// Records a request and its reply without their secrets. An error does not fail the call, because the run would
    /// then lose a reply that the user paid for. [`Recorder::failure`] returns the error.
    pub fn record(&self, step: &StepKey, request: &ChatRequest, reply: &ChatReply, redactor: &Redactor) {
        if let Err(failure) = self.write(step, request, reply, redactor) {
            self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }

    /// The first error of [`Recorder::record`].
    pub fn failure(&self) -> Option<Failure> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a file name that this run has not used yet: `vote.1f2e.json`, then `vote.1f2e.2.json`.
    fn unused_file_name(&self, name: String) -> String {
        let mut counts = self.name_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { format!("{name}.json") } else { format!("{name}.{count}.json") }
    }

    fn write(
        &self,
        step: &StepKey,
        request: &ChatRequest,
        reply: &ChatReply,
        redactor: &Redactor,
    ) -> Result<(), Failure> {
        let key = request_key(request);
        let redacted_lines = |text: &str| split_lines(&redactor.redact(text));
        let recording = Recording {
            step: step.to_string(),
            model: request.model.to_string(),
            system: redacted_lines(&request.system),
            messages: messages(request).map(|(role, text)| (role, redacted_lines(&text))).collect(),
            schema: request.schema.as_ref().map(|schema| Digest::compute(canonical_json(schema).as_bytes())),
            reply: redacted_lines(&reply.text()),
            // orch redacts the calls when it records the reply, and this copy in the same way.
            calls: blocks::replied_calls(&reply.content, redactor),
            stop: reply.stop,
            usage: reply.usage,
            details: Box::new(redactor.redact_details((*reply.details).clone())),
            key: key.clone(),
        };
        let name = format!("{}.{}", step.declared_key().as_str().replace('/', "."), key.short());
        self.write_file(name, &recording)
    }

    /// Writes a recording to a file whose name begins with `name`.
    fn write_file(&self, name: String, recording: &impl Serialize) -> Result<(), Failure> {
        let file = self.folder.file(self.unused_file_name(name));
        let write_failure = |reason: String| {
            let path = file.path();
            Failure::new(
                FailureClass::Storage,
                format!("the recording `{}` can't be written: {reason}", path.display()),
            )
        };
        let value: Value = serde_json::to_value(recording).map_err(|error| write_failure(error.to_string()))?;
        file.replace(format!("{value:#}\n").as_bytes()).map_err(|error| write_failure(error.to_string()))
    }
}

/// Returns recorded replies and tool results from a folder, without calling a model or performing a tool call.
#[derive(Debug)]
pub struct Replay {
    folder: PathBuf,
    /// How the user can record a missing reply.
    remedy: String,
    /// The recordings for each key, in the order of their file names.
    recordings: BTreeMap<String, Vec<Recording>>,
    /// The recorded tool calls for each key, in the same order.
    tool_calls: BTreeMap<String, Vec<ToolCallRecording>>,
    /// How often each step has sent each request or made each tool call.
    request_counts: Mutex<HashMap<(String, StepKey), usize>>,
}

impl Replay {
    /// Opens a folder of recordings.
    ///
    /// # Errors
    /// The folder or a recording can't be read, or the folder has no recordings.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let mut recordings: BTreeMap<String, Vec<Recording>> = BTreeMap::new();
        let mut tool_calls: BTreeMap<String, Vec<ToolCallRecording>> = BTreeMap::new();
        let read_error =
            |path: &Path, reason: String| format!("the recording `{}` can't be read: {reason}", path.display());
        let entries = std::fs::read_dir(folder).map_err(|error| read_error(folder, error.to_string()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> =
            paths.collect::<Result<_, _>>().map_err(|error| read_error(folder, error.to_string()))?;
        paths.sort_by_key(|path| numbered_name(path));
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = open_file(&path)
                .and_then(|file| read_to_end_bounded(file, MAX_RECORDING_BYTES))
                .map_err(|error| read_error(&path, error.to_string()))?;
            let text = decode_text(bytes).map_err(|reason| read_error(&path, format!("it {reason}")))?;
            let parse_error = |error: serde_json::Error| read_error(&path, error.to_string());
            let value: Value = serde_json::from_str(&text).map_err(parse_error)?;
            // Parse the text again, so that an error has a position.
            if tool_calls::is_tool_call(&value) {
                let call: ToolCallRecording = serde_json::from_str(&text).map_err(parse_error)?;
                tool_calls.entry(call.key().to_owned()).or_default().push(call);
            } else {
                let recording: Recording = serde_json::from_str(&text).map_err(parse_error)?;
                recordings.entry(recording.key.to_string()).or_default().push(recording);
            }
        }
        if recordings.is_empty() {
            return Err(format!("there are no recordings in `{}`", folder.display()));
        }
        let remedy = format!("run the pipeline with `--record {}` to record it again", folder.display());
        Ok(Self { folder: folder.to_owned(), remedy, recordings, tool_calls, request_counts: Mutex::default() })
    }

    /// The same recordings, with another remedy for a missing reply.
    #[must_use]
    pub fn with_remedy(self, remedy: String) -> Self {
        Self { remedy, ..self }
    }

    /// The recorded reply to a request.
    ///
    /// # Errors
    /// `no_recording`, with the differences between the request and the nearest recorded one.
    pub fn reply(&self, step: &StepKey, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let key = request_key(request);
        if let Some(recording) = self.find(step, key.as_str()) {
            return Ok(ChatReply {
                content: blocks::replied_content(recording.reply.join("\n"), &recording.calls),
                stop: recording.stop,
                usage: recording.usage,
                model: Some(recording.model.clone()),
                id: None,
                constrained: false,
                details: recording.details.clone(),
            });
        }
        let message = format!("no recording in `{}` matches this request", self.folder.display());
        let hint = match self.find_nearest(step, request) {
            Some((recording, difference)) => format!(
                "the nearest recording is from step {} and differs (- recorded, + requested):\n{difference}\n\
                 if this change is intended, {}",
                recording.step, self.remedy
            ),
            None => self.remedy.clone(),
        };
        Err(Failure::new(FailureClass::NoRecording, message).with_hint(hint))
    }

    /// Finds the recording for a request. Returns the recordings of the step in the order of its requests, or else the
    /// first recording of another step.
    fn find(&self, step: &StepKey, key: &str) -> Option<&Recording> {
        let recordings = self.recordings.get(key)?;
        let step_recordings: Vec<&Recording> =
            recordings.iter().filter(|recording| recording.step == step.as_str()).collect();
        let index = self.count_request(step, key).min(step_recordings.len().saturating_sub(1));
        step_recordings.get(index).copied().or_else(|| recordings.first())
    }

    /// Counts a request or a tool call of a step. Returns how often the step has made it before.
    fn count_request(&self, step: &StepKey, key: &str) -> usize {
        let mut counts = self.request_counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((key.to_owned(), step.clone())).or_default();
        *count += 1;
        *count - 1
    }

    /// Finds the recording that is most similar to a request, and describes the difference.
    fn find_nearest(&self, step: &StepKey, request: &ChatRequest) -> Option<(&Recording, String)> {
        let requested_text = request_text(&request.system, messages(request));
        let declared_key = step.declared_key();
        let step_recordings: Vec<&Recording> = self
            .recordings
            .values()
            .flatten()
            .filter(|recording| recording.step.split('[').next() == declared_key.as_str().split('/').next())
            .collect();
        let candidates: Vec<&Recording> =
            if step_recordings.is_empty() { self.recordings.values().flatten().collect() } else { step_recordings };
        let candidates = candidates.into_iter().map(|recording| (recording, recording.request_text()));
        let (nearest, recorded_text) = candidates.max_by_key(|(_, text)| count_common_lines(text, &requested_text))?;
        if recorded_text == requested_text {
            return Some((nearest, "only the schema of the reply differs".to_owned()));
        }
        let diff = TextDiff::from_lines(&recorded_text, &requested_text);
        let text = diff.unified_diff().context_radius(1).to_string();
        let mut lines: Vec<&str> = text.lines().take(MAX_DIFF_LINES).collect();
        if text.lines().count() > MAX_DIFF_LINES {
            lines.push("…");
        }
        Some((nearest, lines.join("\n")))
    }
}

/// The name of a recording's file and its number, for the order of the files: `vote.1f2e.2.json` comes before
/// `vote.1f2e.10.json`.
fn numbered_name(path: &Path) -> (String, u32) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('.').and_then(|(prefix, number)| Some((prefix, number.parse::<u32>().ok()?))) {
        Some((prefix, number)) => (prefix.to_owned(), number),
        None => (name, 1),
    }
}

/// Counts the lines that two texts have in common.
fn count_common_lines(first: &str, second: &str) -> usize {
    let lines: std::collections::HashSet<&str> = first.lines().collect();
    second.lines().filter(|line| lines.contains(line)).count()
}
