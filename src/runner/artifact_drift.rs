//! Finds artifact files that the user changed, and files that the user removed, since the run wrote them. According to
//! the user's choice, orch accepts them, restores them, or refuses to resume.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};

use crate::config::Project;
use crate::engine::Plan;
use crate::model::event::{ArtifactAccepted, Event, Fact, MissingFile, StepCompleted, StepReused};
use crate::model::step::{OnError, Step};
use crate::model::text::decode_text;
use crate::model::visible::path_for_display;
use crate::model::{Artifact, RunId, StepKey};
use crate::store::{FileDrift, Journal, Workspace};

use super::Runner;
use super::error::RunnerError;
use super::file_drift::{FileHistory, RemovedFile, ValidResults};

/// The maximum time from an event about a file to a crash that can explain outdated contents of the file. orch writes a
/// file right after it records the event, and a power failure may lose the latest writes.
const CRASH_WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// What orch does with files that the user changed or removed since the run wrote them.
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

/// The parameters of a search for changed files.
pub(crate) struct DriftCheck<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) run: RunId,
    /// The workspace, or `None` if it no longer exists.
    pub(crate) workspace: Option<&'a Workspace>,
    pub(crate) events: &'a [Event],
    /// The last heartbeat of the run's last process, if that process died.
    pub(crate) last_heartbeat: Option<Timestamp>,
    /// Whether the machine has restarted since the run's last process died, so that a power failure may have damaged
    /// files.
    pub(crate) has_machine_restarted: bool,
    /// The plan to run. For a changed artifact file that the plan does not write, orch only prints a note.
    pub(crate) plan: &'a Plan,
    /// A step that runs again even if orch could reuse its result.
    pub(crate) from_step: Option<&'a StepKey>,
}

/// The files of a run that changed since the run wrote them.
pub(crate) struct ArtifactDrift {
    changed_artifacts: Vec<(ExpectedFile, FileDrift)>,
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
    /// The time of the latest event about the file.
    recorded_at: Timestamp,
    /// The index of the session in which orch recorded this event.
    session_index: usize,
}

impl DriftCheck<'_> {
    /// Compares every file with its record. Shows a note about each changed file that no step writes any more, and a
    /// warning about each file that can't be compared.
    pub(crate) fn find_drift(&self, runner: &Runner) -> Result<ArtifactDrift, RunnerError> {
        let history = FileHistory::from_events(self.run, self.events)?;
        let valid_results = ValidResults {
            plan: self.plan,
            events: self.events,
            from_step: self.from_step,
            reuse_cache: OnceCell::new(),
        };
        let removed_files = history.removed_files(self.workspace, &valid_results)?;
        let (changed_artifacts, torn_artifacts) = (Vec::new(), Vec::new());
        let mut drift = ArtifactDrift { changed_artifacts, torn_artifacts, removed_files, history };
        let Some(workspace) = self.workspace else { return Ok(drift) };
        for message in drift.history.incomparable_files(workspace, &valid_results)? {
            runner.reporter.warning(&message);
        }
        for message in drift.history.overwritable_edits(workspace, &valid_results)? {
            runner.reporter.note(&format!(
                "{message}, and the step may run again: orch records the current contents before overwriting them"
            ));
        }
        let (owned_files, run) = (self.journal.owned_files(&workspace.path_in_journal())?, self.run.0.to_string());
        let paths: HashSet<String> = self.plan.artifact_paths().into_iter().collect();
        let crash_times = crash_times(self.events, self.last_heartbeat);
        for expected in expected_files(self.events) {
            let crashed_at = crash_times.get(expected.session_index).copied().flatten();
            let is_near_crash =
                crashed_at.is_some_and(|time| time.duration_since(expected.recorded_at) <= CRASH_WINDOW);
            let Some(change) = workspace.drift(&expected.artifact, &run, &owned_files, is_near_crash)? else {
                continue;
            };
            if expected.artifact.path.as_ref().is_some_and(|path| paths.contains(path)) {
                let is_own_content = !matches!(change, FileDrift::OtherRun(_));
                let last_heartbeat = self.last_heartbeat.filter(|_| self.has_machine_restarted && is_own_content);
                let is_torn = |time| workspace.is_torn(&expected.artifact, time);
                if last_heartbeat.map(is_torn).transpose()?.unwrap_or(false) {
                    drift.torn_artifacts.push(expected.artifact);
                } else {
                    drift.changed_artifacts.push((expected, change));
                }
            } else {
                let file = expected.file(workspace.folder());
                runner.reporter.note(&format!(
                    "`{}` was changed, and no step writes it any more: orch does not touch it",
                    path_for_display(&file)
                ));
            }
        }
        Ok(drift)
    }
}

impl ExpectedFile {
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(self.artifact.path.as_deref().unwrap_or_default())
    }
}

impl ArtifactDrift {
    /// Restores the files that a restart of the machine damaged, and handles every other file according to the user's
    /// choice. Returns the facts to record.
    pub(crate) fn apply_choice(
        self,
        workspace: &Workspace,
        choice: ChangedFilesPolicy,
        project: &Project,
        runner: &Runner,
    ) -> Result<AcceptedDrift, RunnerError> {
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
                self.changed_artifacts
                    .iter()
                    .try_for_each(|(expected, _)| workspace.write_artifact(&expected.artifact))?;
                Ok(AcceptedDrift::default())
            }
            ChangedFilesPolicy::Refuse => self.refuse(workspace, runner),
        }
    }

    /// The artifacts whose files [`apply_choice`](Self::apply_choice) writes.
    pub(crate) fn restored_artifacts(&self, choice: ChangedFilesPolicy) -> impl Iterator<Item = &Artifact> {
        let is_discarded = choice == ChangedFilesPolicy::Discard;
        let changed = self.changed_artifacts.iter().filter(move |_| is_discarded);
        changed.map(|(expected, _)| &expected.artifact).chain(&self.torn_artifacts)
    }

    /// Checks that [`ChangedFilesPolicy::Discard`] could restore the removed files.
    pub(crate) fn check_discard(&self) -> Result<(), RunnerError> {
        self.history.check_restorable(&self.removed_files)
    }

    /// The facts to record when the user accepts the files as they are.
    pub(crate) fn accept(&self, workspace: &Workspace, project: &Project) -> Result<AcceptedDrift, RunnerError> {
        let to_fact = |(expected, _): &(ExpectedFile, FileDrift)| {
            let artifact = edited_artifact(workspace, &expected.artifact, project)?;
            Ok(ArtifactAccepted { step: expected.step.clone(), result_seq: expected.result_seq, artifact })
        };
        let artifacts = self.changed_artifacts.iter().map(to_fact).collect::<Result<_, RunnerError>>()?;
        Ok(AcceptedDrift {
            artifacts,
            missing_files: self.removed_files.iter().map(|file| file.to_missing_file(true)).collect(),
        })
    }

    /// Refuses to resume if the user changed or removed a file. If a program of the run may itself have removed the
    /// files when orch was killed, only shows a note.
    fn refuse(self, workspace: &Workspace, runner: &Runner) -> Result<AcceptedDrift, RunnerError> {
        let running_step = self.history.step_running_at_crash();
        let needs_choice =
            !self.changed_artifacts.is_empty() || (running_step.is_none() && !self.removed_files.is_empty());
        if needs_choice {
            let messages = self.messages(workspace.folder());
            return Err(RunnerError::usage(format!("{} since this run wrote it", join_limited(&messages))).with_hint(
                "--accept-changed keeps the files as they are; --discard-changed restores them as recorded",
            ));
        }
        if let Some(step) = running_step {
            for file in &self.removed_files {
                let message = file.message(workspace.folder());
                runner.reporter.note(&format!("{message}; step `{step}` was running and may have caused this"));
            }
        }
        Ok(AcceptedDrift {
            artifacts: Vec::new(),
            missing_files: self.removed_files.iter().map(|file| file.to_missing_file(false)).collect(),
        })
    }

    /// The paths of the changed and the damaged artifact files, relative to the workspace.
    pub(crate) fn artifact_paths(&self) -> HashSet<&str> {
        let changed = self.changed_artifacts.iter().map(|(expected, _)| &expected.artifact);
        changed.chain(&self.torn_artifacts).filter_map(|artifact| artifact.path.as_deref()).collect()
    }

    /// A message for each changed file.
    pub(crate) fn messages(&self, folder: &Path) -> Vec<String> {
        let artifact_message = |(expected, change): &(ExpectedFile, FileDrift)| {
            let file = path_for_display(&expected.file(folder));
            match change {
                FileDrift::Changed => format!("`{file}` was changed"),
                FileDrift::EarlierVersion => format!("`{file}` was reverted to its earlier contents"),
                FileDrift::OtherRun(run) => {
                    format!("`{file}` was overwritten by another run ({})", run.get(24..).unwrap_or(run))
                }
            }
        };
        let removed_messages = self.removed_files.iter().map(|file| file.message(folder));
        self.changed_artifacts.iter().map(artifact_message).chain(removed_messages).collect()
    }
}

/// Joins the first messages to one text, and only counts the others.
pub(crate) fn join_limited(messages: &[String]) -> String {
    const MAX_LISTED: usize = 5;
    match messages.get(..MAX_LISTED).filter(|_| messages.len() > MAX_LISTED + 1) {
        Some(first) => format!("{} and {} more", first.join(", "), messages.len() - MAX_LISTED),
        None => messages.join(", "),
    }
}

/// For each session, the last time at which its process was alive, if the process died. `last_heartbeat` belongs to the
/// last session.
fn crash_times(events: &[Event], last_heartbeat: Option<Timestamp>) -> Vec<Option<Timestamp>> {
    let (mut times, mut previous): (Vec<Option<Timestamp>>, Option<&Event>) = (Vec::new(), None);
    let crash_time = |last_event: &Event, heartbeat: Option<Timestamp>| match &last_event.fact {
        Fact::RunEnded(_) => heartbeat,
        _ => Some(heartbeat.map_or(last_event.at, |heartbeat| heartbeat.max(last_event.at))),
    };
    for event in events {
        if let (Fact::RunResumed(fact), Some(previous)) = (&event.fact, previous) {
            times.push(crash_time(previous, fact.previous_owner_last_heartbeat));
        }
        previous = Some(event);
    }
    times.extend(previous.map(|event| crash_time(event, last_heartbeat)));
    times
}

/// The expected states of the artifact files, in the order in which the run first wrote the files.
fn expected_files(events: &[Event]) -> Vec<ExpectedFile> {
    let mut results: IndexMap<u64, (StepKey, Artifact)> = IndexMap::new();
    let mut files: IndexMap<String, ExpectedFile> = IndexMap::new();
    let mut session_index = 0;
    for event in events {
        let result_seq = match &event.fact {
            Fact::RunResumed(_) => {
                session_index += 1;
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
            let expected = ExpectedFile { result_seq, step, artifact, recorded_at: event.at, session_index };
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
