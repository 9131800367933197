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

/// A crash leaves an older file only of what was recorded shortly before it: the file is written
/// right after its record, and reaches the disk of a machine that loses its power a while later.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// What resuming does with files that the user changed or removed since the run wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFiles {
    /// The run is not resumed.
    #[default]
    Refuse,
    /// They are the artifacts from now on.
    Accept,
    /// They are restored as they were recorded.
    Discard,
}

impl ChangedFiles {
    /// What would become of them.
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

/// The files of a run.
pub(crate) struct DriftCheck<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) run: RunId,
    /// Nothing when there is no workspace any more.
    pub(crate) view: Option<&'a WorkspaceView>,
    pub(crate) events: &'a [Event],
    /// When the process of the last session was last alive, if it died.
    pub(crate) died: Option<Timestamp>,
    /// What will be run: files of other steps are not looked at.
    pub(crate) plan: &'a Plan,
    /// The step that is to run again, whatever stands.
    pub(crate) from: Option<&'a StepKey>,
}

/// What somebody did to the files of a run since it wrote them.
pub(crate) struct ArtifactDrift {
    artifacts: Vec<(ExpectedFile, FileDrift)>,
    files: Vec<RemovedFile>,
    record: FileHistory,
}

/// What is recorded of a run that accepts its files as they are.
#[derive(Default)]
pub(crate) struct AcceptedDrift {
    /// Artifacts as a person wrote them.
    pub(crate) artifacts: Vec<ArtifactAccepted>,
    /// Files of steps that are there no more.
    pub(crate) without: Vec<MissingFile>,
}

/// What the file of an artifact should show.
struct ExpectedFile {
    completed: u64,
    step: StepKey,
    artifact: Artifact,
    /// When the file was made to show it, and in which session.
    at: Timestamp,
    session: usize,
}

impl DriftCheck<'_> {
    /// Looks at every file; what no step writes any more is told and left.
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
    /// Does as is chosen with every file; what is to be recorded.
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

    /// What is recorded when the user says that the files are right as they are.
    pub(crate) fn accept(&self, view: &WorkspaceView, project: &Project) -> Result<AcceptedDrift, SessionError> {
        let accept = |(shown, _): &(ExpectedFile, FileDrift)| {
            let artifact = accept(view, &shown.artifact, project)?;
            Ok(ArtifactAccepted { step: shown.step.clone(), completed: shown.completed, artifact })
        };
        let artifacts = self.artifacts.iter().map(accept).collect::<Result<_, SessionError>>()?;
        Ok(AcceptedDrift { artifacts, without: self.files.iter().map(|taken| taken.lost(true)).collect() })
    }

    /// Refuses to go on when somebody changed a file; what a program of the run may have done itself
    /// as its process died is only told.
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

    /// The artifact files among them, relative to the workspace.
    pub(crate) fn artifacts(&self) -> Vec<&str> {
        self.artifacts.iter().filter_map(|(shown, _)| shown.artifact.path.as_deref()).collect()
    }

    /// What happened to each file, in words.
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

/// The first few of many.
pub(crate) fn listed(words: &[String]) -> String {
    const MOST: usize = 5;
    match words.get(..MOST).filter(|_| words.len() > MOST + 1) {
        Some(first) => format!("{} and {} more", first.join(", "), words.len() - MOST),
        None => words.join(", "),
    }
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
            found.push(death(before, fact.previous_owner_last_heartbeat));
        }
        before = Some(event);
    }
    found.extend(before.map(|event| death(event, last)));
    found
}

/// What each artifact file should show, in the order in which they came up.
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

/// What the items of a `for_each` gave; where failed ones are told apart, each is inside an entry.
fn items<'a>(step: &Step, list: &'a serde_json::Value) -> Option<Vec<&'a serde_json::Value>> {
    let told_apart = step.on_error == Some(OnError::Continue);
    let item = |entry: &'a serde_json::Value| if told_apart { entry.get("value") } else { Some(entry) };
    Some(list.as_array()?.iter().filter_map(item).collect())
}

/// An edited file as the artifact: read, checked against its schema, and recorded as it is.
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
