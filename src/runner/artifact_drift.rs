//! Compares the files of a run with the record when the run is resumed. According to the user's choice, orch accepts files
//! that changed, restores them, or refuses to resume.

use std::collections::HashSet;
use std::path::Path;

use indexmap::IndexMap;
use jiff::Timestamp;

use crate::config::Project;
use crate::engine::Plan;
use crate::model::event::{ArtifactAccepted, Event, Fact, MissingFile, StepCompleted, StepReused};
use crate::model::step::{OnError, Step};
use crate::model::text::decode_text;
use crate::model::visible::path_for_display;
use crate::model::{Artifact, RunId, StepKey};
use crate::store::{ArtifactFile, Journal, OwnedFiles, Workspace};

use super::Runner;
use super::error::RunnerError;
use super::file_drift::{FileHistory, RemovedFile, StepFileDrift};

/// What orch does with files that are not as the run left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChangedFilesPolicy {
    /// Refuse to resume.
    #[default]
    Refuse,
    /// Use the files as they are; changed artifact files become the artifacts.
    Accept,
    /// Restore the files as recorded.
    Discard,
}

impl ChangedFilesPolicy {
    /// A message about what a resume would do with the files.
    pub(crate) fn resume_preview(self) -> &'static str {
        match self {
            Self::Refuse => {
                "resume needs a choice: --accept-changed keeps the files as they are, --discard-changed restores them"
            }
            Self::Accept => "resume would keep the files as they are",
            Self::Discard => "resume would restore the files as recorded",
        }
    }
}

/// The parameters of a comparison of the files with the record.
pub(crate) struct DriftCheck<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) run: RunId,
    /// The workspace, or `None` if it no longer exists.
    pub(crate) workspace: Option<&'a Workspace>,
    /// The path of the workspace as the journal records it.
    pub(crate) workspace_path: &'a str,
    pub(crate) events: &'a [Event],
    /// The last heartbeat of the run's last process, if the machine has restarted since that process died. A power failure
    /// may have damaged files.
    pub(crate) last_seen_before_restart: Option<Timestamp>,
    /// The plan to run. For a changed artifact file that the plan does not write, orch only prints a note.
    pub(crate) plan: &'a Plan,
    /// A step that runs again even if orch could reuse its result.
    pub(crate) from_step: Option<&'a StepKey>,
}

/// The files of a run that are not as the run left them.
pub(crate) struct ArtifactDrift {
    changed_artifacts: Vec<(ExpectedFile, ArtifactFile)>,
    /// The artifacts whose files a restart of the machine has damaged.
    torn_artifacts: Vec<Artifact>,
    removed_files: Vec<RemovedFile>,
    history: FileHistory,
}

/// The facts to record when the user accepts the files as they are.
#[derive(Default)]
pub(crate) struct AcceptedDrift {
    /// The artifacts with the contents of the files that the user edited.
    pub(crate) artifacts: Vec<ArtifactAccepted>,
    /// Files of steps that the user removed.
    pub(crate) missing_files: Vec<MissingFile>,
}

/// The expected state of an artifact file.
struct ExpectedFile {
    /// The `seq` of the event that records the step's result.
    result_seq: u64,
    step: StepKey,
    artifact: Artifact,
    /// The `seq` of the latest event about the file.
    recorded_seq: u64,
    /// Whether the session of this event did not end, so that the process may have died before it wrote the file.
    may_be_unwritten: bool,
    /// Whether a program of the run has deleted the file since this event.
    is_deleted_by_run: bool,
}

impl DriftCheck<'_> {
    /// Compares every file with its record. Shows a note about each changed file that no step writes any more, and about
    /// each edited file that a step may overwrite.
    pub(crate) fn find_drift(&self, runner: &Runner) -> Result<ArtifactDrift, RunnerError> {
        let history = FileHistory::from_events(self.run, self.events)?;
        let StepFileDrift { removed: removed_files, overwritable } = history.find_drift(self)?;
        for message in overwritable {
            runner.reporter.note(&format!(
                "{message}, and the step may run again: orch records the current contents before overwriting them"
            ));
        }
        let (changed_artifacts, torn_artifacts) = (Vec::new(), Vec::new());
        let mut drift = ArtifactDrift { changed_artifacts, torn_artifacts, removed_files, history };
        let owned_files = self.journal.owned_files(self.workspace_path)?;
        let paths: HashSet<String> = self.plan.artifact_paths().into_iter().collect();
        for expected in expected_files(self.events) {
            let compare = |workspace: &Workspace| workspace.compare(&expected.artifact);
            let found = self.workspace.map(compare).transpose()?.unwrap_or(ArtifactFile::Missing);
            if self.is_explained(&expected, &found, &owned_files) {
                continue;
            }
            if !paths.contains(expected.path()) {
                if let (Some(workspace), ArtifactFile::Changed(_)) = (self.workspace, found) {
                    runner.reporter.note(&format!(
                        "`{}` was changed, and no step writes it any more: orch does not touch it",
                        path_for_display(&workspace.folder().join(expected.path()))
                    ));
                }
            } else if let (Some(workspace), Some(last_seen)) = (self.workspace, self.last_seen_before_restart)
                && workspace.is_torn(&expected.artifact, last_seen)?
            {
                drift.torn_artifacts.push(expected.artifact);
            } else {
                drift.changed_artifacts.push((expected, found));
            }
        }
        Ok(drift)
    }

    /// Whether the file is as recorded, or the run itself can have left it in this state: its process died before it wrote
    /// the file, a power failure lost that write, a program of the run deleted the file, or the run did not work in this
    /// workspace before. A step whose result is reused then writes the file again.
    fn is_explained(&self, expected: &ExpectedFile, found: &ArtifactFile, owned_files: &OwnedFiles) -> bool {
        let is_after_crash = expected.may_be_unwritten || self.last_seen_before_restart.is_some();
        let last_writer = owned_files.last_writer(expected.path());
        match found {
            ArtifactFile::Unchanged => true,
            ArtifactFile::Missing => is_after_crash || expected.is_deleted_by_run || last_writer.is_none(),
            ArtifactFile::Changed(None) => false,
            // The file may still have its content from before the write.
            ArtifactFile::Changed(Some(digest)) => {
                is_after_crash
                    && last_writer == Some(self.run.0.to_string().as_str())
                    && owned_files.contains(expected.path(), digest.as_str())
            }
        }
    }
}

impl ExpectedFile {
    /// The path relative to the workspace.
    fn path(&self) -> &str {
        self.artifact.path.as_deref().unwrap_or_default()
    }
}

impl ArtifactDrift {
    /// Restores the files that a restart of the machine damaged, and handles every other file according to the user's
    /// choice. Records each artifact file that it writes as a file of the run, before it writes the file. Returns the
    /// facts to record.
    pub(crate) fn apply_choice(
        self,
        check: &DriftCheck<'_>,
        workspace: &Workspace,
        choice: ChangedFilesPolicy,
        project: &Project,
        runner: &Runner,
    ) -> Result<AcceptedDrift, RunnerError> {
        let record = |artifact: &Artifact| check.journal.record_file(check.run, check.workspace_path, artifact);
        self.torn_artifacts.iter().try_for_each(record)?;
        for artifact in &self.torn_artifacts {
            workspace.write_artifact(artifact)?;
            let file = workspace.folder().join(artifact.path.as_deref().unwrap_or_default());
            runner.reporter.note(&format!(
                "`{}` was incomplete after a restart of the machine: orch wrote it again from its record",
                path_for_display(&file)
            ));
        }
        match choice {
            ChangedFilesPolicy::Accept => self.accept(workspace, project),
            ChangedFilesPolicy::Discard => {
                // This restores all files or none, and it may refuse to.
                self.history.restore(workspace, &self.removed_files)?;
                let artifacts = || self.changed_artifacts.iter().map(|(expected, _)| &expected.artifact);
                artifacts().try_for_each(record)?;
                artifacts().try_for_each(|artifact| workspace.write_artifact(artifact))?;
                Ok(AcceptedDrift::default())
            }
            ChangedFilesPolicy::Refuse => self.refuse(workspace),
        }
    }

    /// Checks that [`ChangedFilesPolicy::Discard`] could restore the removed files.
    pub(crate) fn check_discard(&self) -> Result<(), RunnerError> {
        self.history.check_restorable(&self.removed_files)
    }

    /// The facts to record when the user accepts the files as they are. A deleted file can't become an artifact, so the
    /// recorded artifact remains, and orch writes its file again.
    pub(crate) fn accept(&self, workspace: &Workspace, project: &Project) -> Result<AcceptedDrift, RunnerError> {
        let to_fact = |(expected, _): &(ExpectedFile, ArtifactFile)| {
            let artifact = edited_artifact(workspace, &expected.artifact, project)?;
            Ok(ArtifactAccepted { step: expected.step.clone(), result_seq: expected.result_seq, artifact })
        };
        let edited = self.changed_artifacts.iter().filter(|(_, found)| *found != ArtifactFile::Missing);
        let artifacts = edited.map(to_fact).collect::<Result<_, RunnerError>>()?;
        let missing_files = self.removed_files.iter().map(RemovedFile::to_missing_file).collect();
        Ok(AcceptedDrift { artifacts, missing_files })
    }

    /// Refuses to resume if a file is not as the run left it.
    fn refuse(&self, workspace: &Workspace) -> Result<AcceptedDrift, RunnerError> {
        let Some(message) = self.message(workspace.folder()) else { return Ok(AcceptedDrift::default()) };
        Err(RunnerError::usage(message)
            .with_hint("--accept-changed keeps the files as they are; --discard-changed restores them as recorded"))
    }

    /// The paths of the changed and the damaged artifact files, relative to the workspace.
    pub(crate) fn artifact_paths(&self) -> HashSet<&str> {
        let changed = self.changed_artifacts.iter().map(|(expected, _)| &expected.artifact);
        changed.chain(&self.torn_artifacts).filter_map(|artifact| artifact.path.as_deref()).collect()
    }

    /// A message about the files that changed or that orch can't read; `None` if there are none.
    pub(crate) fn message(&self, folder: &Path) -> Option<String> {
        let artifact_message = |(expected, found): &(ExpectedFile, ArtifactFile)| {
            let change = if *found == ArtifactFile::Missing { "was deleted" } else { "was changed" };
            format!("`{}` {change}", path_for_display(&folder.join(expected.path())))
        };
        let mut changes: Vec<String> = self.changed_artifacts.iter().map(artifact_message).collect();
        let mut unknown = Vec::new();
        for file in &self.removed_files {
            match file.message(folder) {
                Ok(change) => changes.push(change),
                Err(problem) => unknown.push(problem),
            }
        }
        let changes = (!changes.is_empty()).then(|| format!("{} since this run wrote it", join_limited(&changes)));
        let unknown = (!unknown.is_empty()).then(|| join_limited(&unknown));
        let messages: Vec<String> = changes.into_iter().chain(unknown).collect();
        (!messages.is_empty()).then(|| messages.join("; "))
    }
}

/// Joins the first messages to one text, and only counts the others.
fn join_limited(messages: &[String]) -> String {
    const MAX_LISTED: usize = 5;
    match messages.get(..MAX_LISTED).filter(|_| messages.len() > MAX_LISTED + 1) {
        Some(first) => format!("{} and {} more", first.join(", "), messages.len() - MAX_LISTED),
        None => messages.join(", "),
    }
}

/// The expected states of the artifact files, in the order in which the run first wrote the files.
fn expected_files(events: &[Event]) -> Vec<ExpectedFile> {
    let mut results: IndexMap<u64, (StepKey, Artifact)> = IndexMap::new();
    let mut files: IndexMap<String, ExpectedFile> = IndexMap::new();
    let mut session_start = 0;
    for event in events {
        let result_seq = match &event.fact {
            Fact::RunResumed(_) => {
                session_start = event.seq;
                continue;
            }
            Fact::RunEnded(_) => {
                // orch records the end of a session only after it has written all files.
                let written = files.values_mut().filter(|file| file.recorded_seq >= session_start);
                written.for_each(|file| file.may_be_unwritten = false);
                continue;
            }
            Fact::CallEnded(call) => {
                for path in &call.reverted_files {
                    if let Some(file) = files.get_mut(path) {
                        file.is_deleted_by_run = true;
                    }
                }
                continue;
            }
            Fact::StepCompleted(StepCompleted { step, artifact: Some(artifact), .. }) => {
                results.insert(event.seq, (step.clone(), artifact.clone()));
                event.seq
            }
            Fact::ArtifactAccepted(fact) => {
                results.insert(fact.result_seq, (fact.step.clone(), fact.artifact.clone()));
                fact.result_seq
            }
            Fact::StepReused(StepReused { step, result_seq, renamed_artifact }) => {
                if let Some(artifact) = renamed_artifact {
                    results.insert(*result_seq, (step.clone(), artifact.clone()));
                }
                *result_seq
            }
            _ => continue,
        };
        let Some((step, artifact)) = results.get(&result_seq).cloned() else { continue };
        if let Some(path) = artifact.path.clone() {
            let (recorded_seq, may_be_unwritten, is_deleted_by_run) = (event.seq, true, false);
            let expected =
                ExpectedFile { result_seq, step, artifact, recorded_seq, may_be_unwritten, is_deleted_by_run };
            files.insert(path, expected);
        }
    }
    files.into_values().collect()
}

/// The values of a `for_each` step's items. With `on_error: continue`, each element of the list is an object, and the
/// objects of failed items have no `value`.
fn item_values<'a>(step: &Step, list: &'a serde_json::Value) -> Option<Vec<&'a serde_json::Value>> {
    let has_objects = step.on_error == Some(OnError::Continue);
    let item_value = |element: &'a serde_json::Value| if has_objects { element.get("value") } else { Some(element) };
    Some(list.as_array()?.iter().filter_map(item_value).collect())
}

/// Reads an edited file into its artifact and checks the contents against the artifact's schema.
fn edited_artifact(workspace: &Workspace, artifact: &Artifact, project: &Project) -> Result<Artifact, RunnerError> {
    let name = artifact.path.as_deref().unwrap_or_default();
    let path = workspace.folder().join(name);
    let bytes = workspace.read(name)?.unwrap_or_default();
    let refuse = |reason: String| {
        RunnerError::usage(format!("`{}` can't be accepted: {reason}", path.display()))
            .with_hint("correct the file, or restore it with --discard-changed")
    };
    let text = decode_text(bytes.clone()).map_err(|reason| refuse(format!("it {reason}")))?;
    let value = if name.ends_with(".md") {
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
            Some(step) => item_values(step, &value).ok_or_else(|| refuse("it is not a list".to_owned()))?,
            None => vec![&value],
        };
        if let Some(first) = values.into_iter().find_map(|value| schema.mismatches(value).into_iter().next()) {
            return Err(refuse(first.to_string()));
        }
    }
    // Compute the digest from the bytes of the file, because orch does not reformat the user's file.
    Ok(Artifact { digest: crate::model::Digest::compute(&bytes), value, ..artifact.clone() })
}
