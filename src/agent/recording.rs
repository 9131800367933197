//! Recordings: requests and replies in files that people can read and tests can replay.
//!
//! A recording is found by its request without the model, so that a pipeline can be recorded with a large model and
//! replayed without any.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use similar::TextDiff;

use crate::files::read_all;
use crate::folder::{FolderAccess, OwnFolder, open_file};
use crate::model::text::text_of;
use crate::model::{
    ChatReply, ChatRequest, Class, Digest, Failure, ReplyRemarks, ReportedUsage, StepKey, StopReason, canonical,
};
use crate::secret::Redactor;

/// The provider's name for models whose replies are replayed.
pub const REPLAY: &str = "replay";
/// How many lines of a diff a message shows.
const SHOWN: usize = 24;
/// The largest recording that is read.
const MAX_BYTES: u64 = 256 << 20;

/// One exchange, as written to a file. Texts are lists of lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recording {
    /// The step that made the request, for people and to find the nearest recording.
    step: String,
    /// The model that answered.
    model: String,
    /// The digest that identifies the request.
    key: Digest,
    /// The system prompt.
    system: Vec<String>,
    /// The conversation so far: the role and the lines of each message.
    messages: Vec<(String, Vec<String>)>,
    /// The digest of the schema, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<Digest>,
    /// The reply.
    reply: Vec<String>,
    /// Why the model stopped.
    stop: StopReason,
    /// The token usage that the provider reported.
    usage: ReportedUsage,
    /// Remarks about the reply that its text does not show.
    #[serde(default, skip_serializing_if = "ReplyRemarks::is_empty")]
    remarks: Box<ReplyRemarks>,
}

/// The key of a request: the digest of its system prompt, messages and schema, but not of its model and limits.
fn key(request: &ChatRequest) -> Digest {
    let what = json!({ "system": request.system, "messages": request.messages, "schema": request.schema });
    Digest::of(canonical(&what).as_bytes())
}

fn lines(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

impl Recording {
    fn asked(&self) -> String {
        asked(&self.system.join("\n"), self.messages.iter().map(|(who, text)| (who.clone(), text.join("\n"))))
    }
}

/// The request as one text, to compare.
fn asked(system: &str, messages: impl Iterator<Item = (String, String)>) -> String {
    let mut out = format!("system:\n{system}\n");
    for (who, text) in messages {
        out.push_str(&format!("{who}:\n{text}\n"));
    }
    out
}

fn speakers(request: &ChatRequest) -> impl Iterator<Item = (String, String)> {
    request.messages.iter().map(|message| {
        let who = serde_json::to_value(message.role).ok().and_then(|role| role.as_str().map(str::to_owned));
        (who.unwrap_or_default(), message.content.clone())
    })
}

/// Writes each exchange of a run into a folder that only the user can read, since prompts and replies may be private.
#[derive(Debug)]
pub struct Recorder {
    folder: OwnFolder,
    /// How often each name was used: steps may send the same request and get different replies.
    given: Mutex<HashMap<String, usize>>,
    failed: Mutex<Option<Failure>>,
}

impl Recorder {
    /// Records into this folder; creates it if it does not exist.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        OwnFolder::create(folder, FolderAccess::Private).map(Self::into)
    }

    /// Records into this folder.
    pub fn into(folder: OwnFolder) -> Self {
        Self { folder, given: Mutex::default(), failed: Mutex::default() }
    }

    /// Records an exchange without its secrets. [`Recorder::failure`] returns the error if that fails, so that a reply
    /// that was paid for is not lost for a recording.
    pub fn keep(&self, step: &StepKey, request: &ChatRequest, reply: &ChatReply, redactor: &Redactor) {
        if let Err(failure) = self.write(step, request, reply, redactor) {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }

    /// The first error of a recording.
    pub fn failure(&self) -> Option<Failure> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A file name that this run has not used yet: `vote.1f2e.json`, then `vote.1f2e.2.json`.
    fn named(&self, name: String) -> String {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let count = given.entry(name.clone()).or_default();
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
        let key = key(request);
        let clean = |text: &str| lines(&redactor.text(text));
        let recording = Recording {
            step: step.to_string(),
            model: request.model.to_string(),
            system: clean(&request.system),
            messages: speakers(request).map(|(who, text)| (who, clean(&text))).collect(),
            schema: request.schema.as_ref().map(|schema| Digest::of(canonical(schema).as_bytes())),
            reply: clean(&reply.text),
            stop: reply.stop,
            usage: reply.usage,
            remarks: Box::new(redactor.remarks((*reply.remarks).clone())),
            key: key.clone(),
        };
        let name = format!("{}.{}", step.place().as_str().replace('/', "."), key.short());
        let file = self.folder.file(self.named(name));
        let failed = |why: String| {
            Failure::new(Class::Storage, format!("the recording `{}` can't be written: {why}", file.path().display()))
        };
        let value: Value = serde_json::to_value(recording).map_err(|error| failed(error.to_string()))?;
        file.replace(format!("{value:#}\n").as_bytes()).map_err(|error| failed(error.to_string()))
    }
}

/// Answers requests from a folder of recordings only.
#[derive(Debug)]
pub struct Replay {
    folder: PathBuf,
    /// The recordings for each key, in the order of their file names.
    recordings: BTreeMap<String, Vec<Recording>>,
    /// How often each step has sent each request.
    answered: Mutex<HashMap<(String, StepKey), usize>>,
}

impl Replay {
    /// Opens a folder of recordings.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let mut recordings: BTreeMap<String, Vec<Recording>> = BTreeMap::new();
        let failed = |path: &Path, why: String| format!("the recording `{}` can't be read: {why}", path.display());
        let entries = std::fs::read_dir(folder).map_err(|error| failed(folder, error.to_string()))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> =
            paths.collect::<Result<_, _>>().map_err(|error| failed(folder, error.to_string()))?;
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = open_file(&path)
                .and_then(|file| read_all(file, MAX_BYTES))
                .map_err(|error| failed(&path, error.to_string()))?;
            let text = text_of(bytes).map_err(|why| failed(&path, format!("it {why}")))?;
            let recording: Recording = serde_json::from_str(&text).map_err(|error| failed(&path, error.to_string()))?;
            recordings.entry(recording.key.to_string()).or_default().push(recording);
        }
        if recordings.is_empty() {
            return Err(format!("there are no recordings in `{}`", folder.display()));
        }
        Ok(Self { folder: folder.to_owned(), recordings, answered: Mutex::default() })
    }

    /// The recorded reply to a request.
    ///
    /// # Errors
    /// `no_recording`, with how the request differs from the nearest one.
    pub fn answer(&self, step: &StepKey, request: &ChatRequest) -> Result<ChatReply, Failure> {
        let key = key(request);
        if let Some(found) = self.found(step, key.as_str()) {
            let model = Some(found.model.clone());
            let (text, stop, usage) = (found.reply.join("\n"), found.stop, found.usage);
            let remarks = found.remarks.clone();
            return Ok(ChatReply {
                text,
                stop,
                usage,
                model,
                id: None,
                constrained: false,
                agent_activity: None,
                remarks,
            });
        }
        let why = format!("no recording in `{}` fits this request", self.folder.display());
        let anew = format!("run the pipeline with `--record {}` to record it anew", self.folder.display());
        let hint = match self.nearest(step, request) {
            Some((recording, difference)) => format!(
                "the nearest one is of step {}; it differs so (- recorded, + asked):\n{difference}\nif that is meant, {anew}",
                recording.step
            ),
            None => anew,
        };
        Err(Failure::new(Class::NoRecording, why).with_hint(hint))
    }

    /// The recording for a request: the step's own recordings in the order of its requests, otherwise the first one of
    /// any step.
    fn found(&self, step: &StepKey, key: &str) -> Option<&Recording> {
        let all = self.recordings.get(key)?;
        let own: Vec<&Recording> = all.iter().filter(|recording| recording.step == step.as_str()).collect();
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let count = answered.entry((key.to_owned(), step.clone())).or_default();
        let at = (*count).min(own.len().saturating_sub(1));
        *count += 1;
        own.get(at).copied().or_else(|| all.first())
    }

    fn nearest(&self, step: &StepKey, request: &ChatRequest) -> Option<(&Recording, String)> {
        let new = asked(&request.system, speakers(request));
        let place = step.place();
        let of_step: Vec<&Recording> = self
            .recordings
            .values()
            .flatten()
            .filter(|recording| recording.step.split('[').next() == place.as_str().split('/').next())
            .collect();
        let all: Vec<&Recording> =
            if of_step.is_empty() { self.recordings.values().flatten().collect() } else { of_step };
        let (nearest, old) =
            all.into_iter().map(|recording| (recording, recording.asked())).max_by_key(|(_, old)| alike(old, &new))?;
        if old == new {
            return Some((nearest, "the schema of the answer".to_owned()));
        }
        let diff = TextDiff::from_lines(&old, &new);
        let text = diff.unified_diff().context_radius(1).to_string();
        let mut shown: Vec<&str> = text.lines().take(SHOWN).collect();
        if text.lines().count() > SHOWN {
            shown.push("…");
        }
        Some((nearest, shown.join("\n")))
    }
}

/// How many lines two texts have in common.
fn alike(old: &str, new: &str) -> usize {
    let lines: std::collections::HashSet<&str> = old.lines().collect();
    new.lines().filter(|line| lines.contains(line)).count()
}
