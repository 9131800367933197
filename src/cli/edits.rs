//! Artifact files that somebody changed since the run wrote them: refused, accepted or put back.

use std::path::PathBuf;

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};

use crate::config::Project;
use crate::engine::Plan;
use crate::model::event::{ArtifactAccepted, Event, Fact, StepCompleted, StepKept};
use crate::model::step::{OnError, Step};
use crate::model::{Artifact, StepKey};
use crate::store::{Edited, Journal, View};

use super::error::CliError;
use super::ui::Ui;

/// A crash leaves an older file only of what was recorded shortly before it: the file is written
/// right after its record, and reaches the disk of a machine that loses its power a while later.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// What becomes of edited files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The run is not taken up.
    Refuse,
    /// They are the artifacts from now on.
    Accept,
    /// They are as they were recorded again.
    Discard,
}

/// The artifact files of a run.
pub(super) struct Edits<'a> {
    pub(super) journal: &'a Journal,
    pub(super) view: &'a View,
    pub(super) events: &'a [Event],
    /// When the process of the last session was last alive, if it died.
    pub(super) died: Option<Timestamp>,
    /// What will be run: files of other steps are nobody's concern.
    pub(super) plan: &'a Plan,
}

/// What the file of an artifact should show.
struct Shown {
    completed: u64,
    step: StepKey,
    artifact: Artifact,
    /// When the file was made to show it, and in which session.
    at: Timestamp,
    session: usize,
}

impl Edits<'_> {
    /// Looks at every file, and does as is chosen; the edits that were accepted.
    pub(super) fn settle(&self, choice: Choice, project: &Project, ui: &Ui) -> Result<Vec<ArtifactAccepted>, CliError> {
        let records = self.journal.records(&self.view.name())?;
        let mut accepted = Vec::new();
        let Some(run) = self.events.first().map(|event| event.run.0.to_string()) else {
            return Ok(accepted);
        };
        let (paths, deaths) = (self.plan.paths(), deaths(self.events, self.died));
        let mut refused: Vec<(PathBuf, Edited)> = Vec::new();
        for Shown { completed, step, artifact, at, session } in shown(self.events) {
            let died = deaths.get(session).copied().flatten();
            let crash = died.is_some_and(|died| died.duration_since(at) <= WINDOW);
            let Some(edit) = self.view.edited(&artifact, &run, &records, crash)? else {
                continue;
            };
            let path = artifact.path.clone().unwrap_or_default();
            let file = self.view.folder().join(&path);
            if !paths.contains(&path) {
                let words =
                    format!("`{}` was changed, and no step writes it any more: it stays as it is", file.display());
                ui.say(format!("{} {words}", ui.style.warn("note:")));
                continue;
            }
            match choice {
                Choice::Accept => {
                    let artifact = accept(self.view, &artifact, project)?;
                    accepted.push(ArtifactAccepted { step, completed, artifact });
                }
                Choice::Discard => self.view.show(&artifact)?,
                Choice::Refuse => refused.push((file, edit)),
            }
        }
        if refused.is_empty() { Ok(accepted) } else { Err(refusal(&refused)) }
    }
}

fn refusal(refused: &[(PathBuf, Edited)]) -> CliError {
    let words: Vec<String> = refused
        .iter()
        .map(|(path, edit)| match edit {
            Edited::Changed => format!("`{}` was changed", path.display()),
            Edited::Earlier => format!("`{}` was put back to what it was before", path.display()),
            Edited::OtherRun(other) => {
                format!("`{}` was written by another run ({})", path.display(), other.get(24..).unwrap_or(other))
            }
        })
        .collect();
    CliError::could_not(format!("{} since this run wrote it", words.join(", ")))
        .hint("--accept-changed takes the file as it is now; --discard-changed puts back what was recorded")
}

/// Of each session when its process died, if it did.
fn deaths(events: &[Event], last: Option<Timestamp>) -> Vec<Option<Timestamp>> {
    let (mut found, mut before): (Vec<Option<Timestamp>>, Option<&Event>) = (Vec::new(), None);
    let death = |event: &Event, seen: Option<Timestamp>| match &event.fact {
        Fact::RunEnded(_) => seen,
        _ => Some(seen.map_or(event.at, |seen| seen.max(event.at))),
    };
    for event in events {
        if let (Fact::RunResumed(fact), Some(before)) = (&event.fact, before) {
            found.push(death(before, fact.last_seen));
        }
        before = Some(event);
    }
    found.extend(before.map(|event| death(event, last)));
    found
}

/// What each artifact file should show, in the order in which they came up.
fn shown(events: &[Event]) -> Vec<Shown> {
    let mut results: IndexMap<u64, (StepKey, Artifact)> = IndexMap::new();
    let mut files: IndexMap<String, Shown> = IndexMap::new();
    let mut session = 0;
    for event in events {
        let completed = match &event.fact {
            Fact::RunResumed(_) => {
                session += 1;
                continue;
            }
            Fact::StepCompleted(StepCompleted { step, artifact: Some(artifact), .. }) => {
                results.insert(event.seq, (step.clone(), artifact.clone()));
                event.seq
            }
            Fact::ArtifactAccepted(fact) => {
                results.insert(fact.completed, (fact.step.clone(), fact.artifact.clone()));
                fact.completed
            }
            Fact::StepKept(StepKept { step, completed, moved }) => {
                if let Some(artifact) = moved {
                    results.insert(*completed, (step.clone(), artifact.clone()));
                }
                *completed
            }
            _ => continue,
        };
        let Some((step, artifact)) = results.get(&completed).cloned() else { continue };
        if let Some(path) = artifact.path.clone() {
            files.insert(path, Shown { completed, step, artifact, at: event.at, session });
        }
    }
    files.into_values().collect()
}

/// What the items of a `for_each` gave; where failed ones are told apart, each is inside an entry.
fn items<'a>(step: &Step, list: &'a serde_json::Value) -> Option<Vec<&'a serde_json::Value>> {
    let told_apart = step.on_error == Some(OnError::Continue);
    let item = |entry: &'a serde_json::Value| if told_apart { entry.get("value") } else { Some(entry) };
    Some(list.as_array()?.iter().filter_map(item).collect())
}

/// An edited file as the artifact: read, checked against its schema, and recorded as it is.
fn accept(view: &View, artifact: &Artifact, project: &Project) -> Result<Artifact, CliError> {
    let name = artifact.path.as_deref().unwrap_or_default();
    let path = view.folder().join(name);
    let bytes = view.read(name)?.unwrap_or_default();
    let refuse = |why: String| CliError::could_not(format!("`{}` can't be accepted: {why}", path.display()));
    let text = String::from_utf8(bytes.clone()).map_err(|_| refuse("it is no UTF-8".to_owned()))?;
    let as_text = name.ends_with(".md");
    let value = if as_text {
        serde_json::Value::String(text)
    } else {
        serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?
    };
    let steps = project.pipeline.all_steps();
    let step = steps.into_iter().find(|step| step.output.as_ref() == Some(&artifact.name));
    if let Some(file) = step.and_then(Project::schema_file) {
        let schema = project.schemas.get(&file).map_err(|error| refuse(error.to_string()))?;
        // With `for_each` the schema is that of one item.
        let values = match step.filter(|step| step.for_each.is_some()) {
            Some(step) => items(step, &value).ok_or_else(|| refuse("it is no list".to_owned()))?,
            None => vec![&value],
        };
        if let Some(first) = values.into_iter().find_map(|value| schema.errors(value).into_iter().next()) {
            return Err(refuse(first.to_string()));
        }
    }
    // The file stays as the person wrote it: its digest is that of its bytes.
    Ok(Artifact { digest: crate::model::Digest::of(&bytes), value, ..artifact.clone() })
}
