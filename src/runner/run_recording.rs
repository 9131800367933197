//! Runs that record their calls: what a run stores about the folder, and how a resume continues the recordings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::Recorder;
use crate::engine::perform::RecordReplay;
use crate::model::{RunId, RunState};
use crate::report::ResumeOption;
use crate::store::Journal;

use super::error::RunnerError;
use super::run_replay::path_in_record;
use super::{ResumeRequest, Runner, execute, models};

/// The folder of the recorder as a run stores it. `root` is the root of the project, with links resolved.
pub(crate) fn folder_in_record(record_replay: &RecordReplay, root: &Path) -> Option<String> {
    record_replay.recorder.as_ref().map(|recorder| path_in_record(recorder.folder(), root))
}

/// The folders that a request names. The next resume of a run from elsewhere needs them again, because orch does not use
/// the folders in such a record.
pub(crate) fn named_folders(request: &ResumeRequest) -> Vec<ResumeOption> {
    let folders = [
        ("--workspace", request.workspace.as_ref()),
        ("--record", request.recording_folder.as_ref()),
        ("--replay", request.replay_folder.as_ref()),
    ];
    let options = folders.into_iter().filter_map(|(name, folder)| Some(ResumeOption { name, folder: folder?.clone() }));
    options.collect()
}

/// The options that the next resume of a run needs in any case: of a run from elsewhere, the user must name the
/// workspace.
pub(crate) fn required_options(journal: &Journal, run: RunId) -> Result<Vec<ResumeOption>, RunnerError> {
    let workspace = ResumeOption { name: "--workspace", folder: PathBuf::from("DIR") };
    Ok(if journal.is_foreign(run)? { vec![workspace] } else { Vec::new() })
}

/// The project and the journal of a run that is resumed.
pub(crate) struct ResumedProject<'a> {
    /// The state of the run before the resume.
    pub(crate) past_state: &'a RunState,
    /// The journal of the run.
    pub(crate) journal: &'a Journal,
    /// The current root of the project.
    pub(crate) root: &'a Path,
}

/// Where a resume records.
enum RecordingTarget {
    /// Nowhere.
    Nothing,
    /// Nowhere, because the record of the run came from elsewhere and may name any folder.
    Untrusted(String),
    /// Into this folder.
    Folder(PathBuf),
}

impl Runner {
    /// Opens the folder into which a resume records: that of the request, or else that of the run so far. `is_replay` is
    /// whether the resume replays recordings; it then records nothing.
    ///
    /// # Errors
    /// The folder of the run does not exist any more, or the folder can't be written.
    pub(crate) fn recorder_of_resume(
        &self,
        request: &ResumeRequest,
        resumed: &ResumedProject<'_>,
        is_replay: bool,
    ) -> Result<Option<Arc<Recorder>>, RunnerError> {
        match self.recording_target(request, resumed, is_replay)? {
            RecordingTarget::Nothing => Ok(None),
            RecordingTarget::Untrusted(folder) => {
                self.reporter.note(&format!(
                    "run {} recorded into `{folder}` where its record came from; this resume records nothing unless \
                     you name a folder with --record",
                    resumed.past_state.run
                ));
                Ok(None)
            }
            RecordingTarget::Folder(folder) => models::open_recorder(&folder, resumed.root, self).map(Some),
        }
    }

    /// Checks that a resume can record, before orch does anything else for it.
    ///
    /// # Errors
    /// Those of [`Runner::recorder_of_resume`].
    pub(crate) fn check_recording_folder(
        &self,
        request: &ResumeRequest,
        resumed: &ResumedProject<'_>,
        is_replay: bool,
    ) -> Result<(), RunnerError> {
        match self.recording_target(request, resumed, is_replay)? {
            RecordingTarget::Nothing | RecordingTarget::Untrusted(_) => Ok(()),
            RecordingTarget::Folder(folder) => models::open_recorder(&folder, resumed.root, self).map(drop),
        }
    }

    fn recording_target(
        &self,
        request: &ResumeRequest,
        resumed: &ResumedProject<'_>,
        is_replay: bool,
    ) -> Result<RecordingTarget, RunnerError> {
        let ResumedProject { past_state, journal, root } = *resumed;
        if let Some(folder) = &request.recording_folder {
            return Ok(RecordingTarget::Folder(execute::resolve_path(folder, self.current_dir())));
        }
        let Some(recorded) = past_state.recording_folder.as_deref().filter(|_| !is_replay) else {
            return Ok(RecordingTarget::Nothing);
        };
        if journal.is_foreign(past_state.run)? {
            return Ok(RecordingTarget::Untrusted(recorded.to_owned()));
        }
        let folder = execute::resolve_path(&root.join(recorded), self.current_dir());
        if folder.is_dir() {
            return Ok(RecordingTarget::Folder(folder));
        }
        let reason = if folder.exists() { "is not a folder any more" } else { "does not exist any more" };
        let message = format!("run {} records into `{}`, which {reason}", past_state.run, folder.display());
        let hint = "restore the folder with its recordings, or name another one with --record, which then gets only \
                    the calls of the rest of the run";
        Err(RunnerError::usage(message).with_hint(hint))
    }
}
