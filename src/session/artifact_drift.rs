//! Artifact files that the user changed, and files that the user removed, since the run wrote them: resuming refuses,
//! accepts or restores them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};

use crate::config::Project;
use crate::engine::Plan;
use crate::model::event::{ArtifactAccepted, Event, Fact, MissingFile, StepCompleted, StepReused};
use crate::model::step::{OnError, Step};
use crate::model::text::text_of;
use crate::model::{Artifact, RunId, StepKey};
use crate::store::{FileDrift, Journal, WorkspaceView};

use super::Runner;
use super::error::SessionError;
use super::file_drift::{FileHistory, RemovedFile, ValidResults};

/// How old a file's record may be at a crash for the crash to explain outdated contents: orch writes the file right
/// after the record, and a power failure may lose the latest writes.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// What resuming does with files that the user changed or removed since the run wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// Refuse to resume.
    #[default]
    Refuse,
    /// Use the files as they are; changed artifact files become the artifacts.
    Accept,
    /// Restore the files as recorded.
    Discard,
}

impl ChangedFiles {
    /// What would happen to the files, for a message.
    pub(crate) fn outlook(self) -> &'static str {
        match self {
            Self::Refuse => {
                "a resume wants to know: --accept-changed takes files as they are, --discard-changed puts them back"
            }
            Self::Accept => "they would be taken as they are",
            Self::Discard => "they would be put back as they were recorded",
        }
    }
}

/// What is needed to check the files of a run.
pub(crate) struct DriftCheck<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) run: RunId,
    /// `None` if the workspace does not exist any more.
    pub(crate) view: Option<&'a WorkspaceView>,
    pub(crate) events: &'a [Event],
    /// When the process of the last session was last alive, if it died.
    pub(crate) died: Option<Timestamp>,
    /// The plan to run; artifact files that it does not write are only reported.
    pub(crate) plan: &'a Plan,
    /// The step that runs again even if its result could be reused.
    pub(crate) from: Option<&'a StepKey>,
}

/// How the files of a run changed since the run wrote them.
pub(crate) struct ArtifactDrift {
    artifacts: Vec<(ExpectedFile, FileDrift)>,
    files: Vec<RemovedFile>,
    record: FileHistory,
}

/// What the journal records when the user accepts the files as they are.
#[derive(Default)]
pub(crate) struct AcceptedDrift {
    /// Artifacts with the contents that the user gave them.
    pub(crate) artifacts: Vec<ArtifactAccepted>,
    /// Files of steps that were removed.
    pub(crate) without: Vec<MissingFile>,
}

/// An artifact file as it should be.
struct ExpectedFile {
    completed: u64,
    step: StepKey,
    artifact: Artifact,
    /// When the latest event about the file was recorded, and the number of its session.
    at: Timestamp,
    session: usize,
}

impl DriftCheck<'_> {
    /// Compares every file with its record. A changed file that no step writes any more is only reported.
    pub(crate) fn find(&self, runner: &Runner) -> Result<ArtifactDrift, SessionError> {
        let record = FileHistory::of(self.run, self.events)?;
        let stands = ValidResults { plan: self.plan, events: self.events, from: self.from, told: OnceCell::new() };
        let mut found = ArtifactDrift { artifacts: Vec::new(), files: record.taken(self.view, &stands)?, record };
        let Some(view) = self.view else { return Ok(found) };
        for words in found.record.in_the_way(view, &stands)? {
            let words = format!(
                "{words}, and the step may run again: what is there now goes on record before it is written over"
            );
            runner.reporter.note(&words);
        }
        let records = self.journal.records(&view.name())?;
        let (paths, deaths) = (self.plan.paths(), deaths(self.events, self.died));
        for shown in shown(self.events) {
            let died = deaths.get(shown.session).copied().flatten();
            let crash = died.is_some_and(|died| died.duration_since(shown.at) <= WINDOW);
            let Some(edit) = view.edited(&shown.artifact, &self.run.0.to_string(), &records, crash)? else { continue };
            if shown.artifact.path.as_ref().is_some_and(|path| paths.contains(path)) {
                found.artifacts.push((shown, edit));
            } else {
                let file = shown.file(view.folder());
                let words =
                    format!("`{}` was changed, and no step writes it any more: it stays as it is", file.display());
                runner.reporter.note(&words);
            }
        }
        Ok(found)
    }
}

impl ExpectedFile {
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(self.artifact.path.as_deref().unwrap_or_default())
    }
}

impl ArtifactDrift {
    /// Handles every file as the user chose. Returns what to record.
    pub(crate) fn settle(
        self,
        view: &WorkspaceView,
        choice: ChangedFiles,
        project: &Project,
        runner: &Runner,
    ) -> Result<AcceptedDrift, SessionError> {
        match choice {
            ChangedFiles::Accept => self.accept(view, project),
            ChangedFiles::Discard => {
                self.artifacts.iter().try_for_each(|(shown, _)| view.show(&shown.artifact))?;
                self.record.restore(view, &self.files)?;
                Ok(AcceptedDrift::default())
            }
            ChangedFiles::Refuse => self.refuse(view, runner),
        }
    }

    /// What to record when the user accepts the files as they are.
    pub(crate) fn accept(&self, view: &WorkspaceView, project: &Project) -> Result<AcceptedDrift, SessionError> {
        let accept = |(shown, _): &(ExpectedFile, FileDrift)| {
            let artifact = accept(view, &shown.artifact, project)?;
            Ok(ArtifactAccepted { step: shown.step.clone(), completed: shown.completed, artifact })
        };
        let artifacts = self.artifacts.iter().map(accept).collect::<Result<_, SessionError>>()?;
        Ok(AcceptedDrift { artifacts, without: self.files.iter().map(|taken| taken.lost(true)).collect() })
    }

    /// Refuses to resume if the user changed a file. If a program of the run may have removed or reverted the file
    /// itself when orch was killed, a note is enough.
    fn refuse(self, view: &WorkspaceView, runner: &Runner) -> Result<AcceptedDrift, SessionError> {
        let suspect = self.record.suspect();
        let asks = !self.artifacts.is_empty() || (suspect.is_none() && !self.files.is_empty());
        if asks {
            let words = self.words(view.folder());
            return Err(SessionError::usage(format!("{} since this run wrote it", listed(&words)))
                .hint("--accept-changed takes files as they are now; --discard-changed puts back what was recorded"));
        }
        if let Some(step) = suspect {
            for taken in &self.files {
                let words = format!("{}; step {step} was under way and may have done it", taken.words(view.folder()));
                runner.reporter.note(&words);
            }
        }
        Ok(AcceptedDrift { artifacts: Vec::new(), without: self.files.iter().map(|taken| taken.lost(false)).collect() })
    }

    /// The changed artifact files, relative to the workspace.
    pub(crate) fn artifacts(&self) -> Vec<&str> {
        self.artifacts.iter().filter_map(|(shown, _)| shown.artifact.path.as_deref()).collect()
    }

    /// A message for each changed file.
    pub(crate) fn words(&self, folder: &Path) -> Vec<String> {
        let artifact = |(shown, edit): &(ExpectedFile, FileDrift)| {
            let file = shown.file(folder);
            match edit {
                FileDrift::Changed => format!("`{}` was changed", file.display()),
                FileDrift::Earlier => format!("`{}` was put back to what it was before", file.display()),
                FileDrift::OtherRun(other) => {
                    format!("`{}` was written by another run ({})", file.display(), other.get(24..).unwrap_or(other))
                }
            }
        };
        self.artifacts.iter().map(artifact).chain(self.files.iter().map(|taken| taken.words(folder))).collect()
    }
}

/// Lists the first few messages and counts the rest.
pub(crate) fn listed(words: &[String]) -> String {
    const MOST: usize = 5;
    match words.get(..MOST).filter(|_| words.len() > MOST + 1) {
        Some(first) => format!("{} and {} more", first.join(", "), words.len() - MOST),
        None => words.join(", "),
    }
}

/// For each session, when its process was last alive, if it died.
fn deaths(events: &[Event], last: Option<Timestamp>) -> Vec<Option<Timestamp>> {
    let (mut found, mut before): (Vec<Option<Timestamp>>, Option<&Event>) = (Vec::new(), None);
    let death = |event: &Event, seen: Option<Timestamp>| match &event.fact {
        Fact::RunEnded(_) => seen,
        _ => Some(seen.map_or(event.at, |seen| seen.max(event.at))),
    };
    for event in events {
        if let (Fact::RunResumed(fact), Some(before)) = (&event.fact, before) {
            found.push(death(before, fact.previous_owner_last_heartbeat));
        }
        before = Some(event);
    }
    found.extend(before.map(|event| death(event, last)));
    found
}

/// The artifact files as they should be, in the order in which they were first written.
fn shown(events: &[Event]) -> Vec<ExpectedFile> {
    let mut results: IndexMap<u64, (StepKey, Artifact)> = IndexMap::new();
    let mut files: IndexMap<String, ExpectedFile> = IndexMap::new();
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
            Fact::StepReused(StepReused { step, completed, renamed_artifact: moved }) => {
                if let Some(artifact) = moved {
                    results.insert(*completed, (step.clone(), artifact.clone()));
                }
                *completed
            }
            _ => continue,
        };
        let Some((step, artifact)) = results.get(&completed).cloned() else { continue };
        if let Some(path) = artifact.path.clone() {
            files.insert(path, ExpectedFile { completed, step, artifact, at: event.at, session });
        }
    }
    files.into_values().collect()
}

/// The results of a `for_each` step's items. With `on_error: continue` each item is wrapped in an entry, and failed
/// items have no `value`.
fn items<'a>(step: &Step, list: &'a serde_json::Value) -> Option<Vec<&'a serde_json::Value>> {
    let told_apart = step.on_error == Some(OnError::Continue);
    let item = |entry: &'a serde_json::Value| if told_apart { entry.get("value") } else { Some(entry) };
    Some(list.as_array()?.iter().filter_map(item).collect())
}

/// The artifact with the contents of its edited file, which are checked against the schema.
fn accept(view: &WorkspaceView, artifact: &Artifact, project: &Project) -> Result<Artifact, SessionError> {
    let name = artifact.path.as_deref().unwrap_or_default();
    let path = view.folder().join(name);
    let bytes = view.read(name)?.unwrap_or_default();
    let refuse = |why: String| {
        SessionError::usage(format!("`{}` can't be accepted: {why}", path.display()))
            .hint("correct the file, or put it back with --discard-changed")
    };
    let text = text_of(bytes.clone()).map_err(|why| refuse(format!("it {why}")))?;
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
        // With `for_each`, the schema is for one item.
        let values = match step.filter(|step| step.for_each.is_some()) {
            Some(step) => items(step, &value).ok_or_else(|| refuse("it is no list".to_owned()))?,
            None => vec![&value],
        };
        if let Some(first) = values.into_iter().find_map(|value| schema.errors(value).into_iter().next()) {
            return Err(refuse(first.to_string()));
        }
    }
    // The file stays as the user wrote it, so the digest is that of its bytes, not of a reformatted value.
    Ok(Artifact { digest: crate::model::Digest::of(&bytes), value, ..artifact.clone() })
}
