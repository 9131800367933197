//! Runs that replay recordings: what a run records about its recordings, and how a resume finds them again.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::agent::{REPLAY_PROVIDER, Replay, ReplayOptions};
use crate::config::{self, Project, Settings};
use crate::model::event::RunReplay;
use crate::model::{CommandModes, RunState};
use crate::store::Journal;

use super::error::RunnerError;
use super::passed_variables::variables_needing_agreement;
use super::trust::Trusted;
use super::{ResumeRequest, Runner, execute, models};

/// What a run records about the recordings in `folder`. `root` is the root of the project, with links resolved.
pub(crate) fn replay_record(folder: &Path, commands: &CommandModes, root: &Path, current_dir: &Path) -> RunReplay {
    let folder = current_dir.join(folder);
    let folder = folder.canonicalize().unwrap_or(folder);
    RunReplay { folder: path_in_record(&folder, root), commands: commands.clone() }
}

/// The path of a folder of recordings as a run stores it: relative to the root if it is in the project.
pub(crate) fn path_in_record(folder: &Path, root: &Path) -> String {
    let path = folder.strip_prefix(root).unwrap_or(folder);
    path.display().to_string().replace('\\', "/")
}

/// Opens the recordings in `folder` for a new run.
pub(crate) fn open_for_start(
    folder: &Path,
    commands: &CommandModes,
    project: &Project,
) -> Result<Arc<Replay>, RunnerError> {
    models::open_recordings(folder, options(commands, project, "to run the command instead, add `--commands run`"))
}

/// Opens the recordings of a run again. `root` is the current root of its project.
pub(crate) fn open_for_resume(replay: &RunReplay, root: &Path, project: &Project) -> Result<Arc<Replay>, RunnerError> {
    let run_advice = "to run the command instead, start a new run with `--commands run`";
    models::open_recordings(&root.join(&replay.folder), options(&replay.commands, project, run_advice))
        .map_err(|error| error.with_hint("if the run's recordings are elsewhere now, name their folder with --replay"))
}

fn options(commands: &CommandModes, project: &Project, run_advice: &str) -> ReplayOptions {
    ReplayOptions {
        normalizers: project.settings.recordings.normalize.clone(),
        rule_location: "`recordings` of orch.yaml".to_owned(),
        commands: commands.clone(),
        run_advice: run_advice.to_owned(),
        files_advice: "a replay needs a workspace with the files with which the recorded run began: give these files \
                       that state, and start a new run with `--replay`"
            .to_owned(),
        remedy: None,
    }
}

/// The recordings that a resume replays: those that the run replayed so far, or those in the folder of the request.
/// `None` if the run calls models, or if the request names a model to call from now on.
///
/// # Errors
/// The options of the request do not fit a replay, or the recordings of a run from elsewhere are outside of the project
/// at `root`.
pub(crate) fn replay_of_resume(
    request: &ResumeRequest,
    past_state: &RunState,
    journal: &Journal,
    root: &Path,
    current_dir: &Path,
) -> Result<Option<RunReplay>, RunnerError> {
    let run = past_state.run;
    let Some(recorded) = &past_state.replay else {
        if request.replay_folder.is_some() {
            let error = format!("run {run} calls models, so it can't continue with recordings");
            return Err(RunnerError::usage(error).with_hint("omit --replay"));
        }
        refuse_unknown_recordings(request, past_state)?;
        return Ok(None);
    };
    if request.model.is_some() {
        return Ok(None);
    }
    for (is_set, option) in [(!request.agents.is_empty(), "--agent"), (request.recording_folder.is_some(), "--record")]
    {
        if is_set {
            let error = format!("run {run} replays recordings and calls no model, so {option} has no effect");
            let hint = format!("omit {option}, or let the rest of the run call a model with --model");
            return Err(RunnerError::usage(error).with_hint(hint));
        }
    }
    if let Some(folder) = &request.replay_folder {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        return Ok(Some(replay_record(folder, &recorded.commands, &root, current_dir)));
    }
    if journal.is_foreign(run)? && !is_in_project(&recorded.folder, root) {
        let error = format!(
            "the record of run {run} came from elsewhere, and its recordings `{}` are not in this project",
            recorded.folder
        );
        return Err(RunnerError::usage(error).with_hint("name the folder of the recordings with --replay"));
    }
    Ok(Some(recorded.clone()))
}

/// Whether a recorded path stays in the project.
fn is_in_project(folder: &str, root: &Path) -> bool {
    let path = PathBuf::from(folder);
    let has_only_normal_components = path.components().all(|component| matches!(component, Component::Normal(_)));
    has_only_normal_components && !config::is_outside_folder(root, &root.join(&path))
}

/// Returns an error if the run replayed recordings without a record of their folder, and the user names no model.
fn refuse_unknown_recordings(request: &ResumeRequest, past_state: &RunState) -> Result<(), RunnerError> {
    let is_replayed = past_state.models.values().any(|model| model.provider == REPLAY_PROVIDER);
    if request.model.is_some() || !is_replayed {
        return Ok(());
    }
    let error = format!("run {} replayed recordings, and its record does not name their folder", past_state.run);
    let hint = "start a new run with `orch pipeline run … --replay DIR`, or name a model with --model";
    Err(RunnerError::usage(error).with_hint(hint))
}

/// Whether a session sends nothing to another machine: it replays recordings, and the project has no tracker.
pub(crate) fn sends_nothing(is_replay: bool, settings: &Settings) -> bool {
    is_replay && settings.tracker.convex.is_none() && settings.tracker.webhook.is_none()
}

impl Runner {
    /// Makes sure that the user agreed to what a session sends to other machines. A replay sends data only to trackers.
    pub(crate) fn ensure_session_trusted(
        &self,
        is_replay: bool,
        project: &Project,
        trusted_digest: Option<&str>,
    ) -> Result<Trusted, RunnerError> {
        if sends_nothing(is_replay, &project.settings) {
            return Ok(Trusted::not_needed());
        }
        let root = execute::root_and_file(project, self.current_dir()).0;
        self.ensure_trusted(&root, &project.settings, &variables_needing_agreement(project), trusted_digest)
    }
}
