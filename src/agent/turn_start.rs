//! The state of the workspace before a turn of a CLI agent or a call of a tool. It stays on disk until the journal
//! contains the changes.
//!
//! orch writes it before the program starts. If orch is killed meanwhile, the process that resumes the run compares the
//! workspace with it and records the changes in the journal.

use std::cell::LazyCell;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{ChangeSet, FileSnapshot, Tree, WorkspaceBaseline};
use crate::folder::NoFollowFolder;
use crate::model::{AgentActivity, CallKey, Digest, ModelRef};

use super::call_files::CallFiles;

/// The folder for these files, in the folder of the run's CLI agents.
const TURNS_FOLDER: &str = "turns";

/// The start of a turn or of a call of a tool, as orch writes it to disk.
#[derive(Debug, Serialize)]
pub struct TurnStart<'a> {
    /// The call.
    pub call: &'a CallKey,
    /// The digest of its request.
    pub request_digest: &'a Digest,
    /// The model that the request of a turn names; `None` for a tool.
    pub model: Option<&'a ModelRef>,
    /// When the call starts.
    pub start_time: Timestamp,
    /// The workspace before the call.
    pub before: WorkspaceBaseline<'a>,
}

/// The start of a turn, as orch reads it from disk.
#[derive(Debug, Deserialize)]
struct RecordedStart {
    call: CallKey,
    request_digest: Digest,
    model: Option<ModelRef>,
    start_time: Timestamp,
    before: RecordedBaseline,
}

/// The form in which orch reads a [`WorkspaceBaseline`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedBaseline {
    Snapshot(FileSnapshot),
    Planned(ChangeSet),
}

impl RecordedBaseline {
    /// Whether the call may change files. For a program that may not, orch records that no change is planned.
    fn may_change(&self) -> bool {
        match self {
            Self::Snapshot(_) => true,
            Self::Planned(planned) => !planned.files.is_empty(),
        }
    }
}

/// A turn, or a call of a tool, during which orch was killed, so the journal does not contain its changes.
#[derive(Debug)]
pub struct InterruptedTurn {
    /// The call to which the turn belongs.
    pub call_key: CallKey,
    /// The digest of the request.
    pub request_digest: Digest,
    /// The model that the request of a turn names; `None` for a tool.
    pub model: Option<ModelRef>,
    /// When the turn started.
    pub start_time: Timestamp,
    /// The changes in the workspace since the start of the turn.
    pub activity: AgentActivity,
}

fn turn_files(agents_folder: &NoFollowFolder) -> CallFiles<'_> {
    CallFiles::new(agents_folder, TURNS_FOLDER)
}

/// Writes the state before a turn to disk. If this fails, the turn must not start: after a kill, its changes would be
/// unknown.
///
/// # Errors
/// The folder can't be written.
pub fn write_turn_start(agents_folder: &NoFollowFolder, start: &TurnStart<'_>) -> io::Result<()> {
    turn_files(agents_folder).write(start.call, start)
}

/// Removes the snapshot before a turn when the journal contains the result of the turn.
pub fn remove_turn_start(agents_folder: &NoFollowFolder, call: &CallKey) {
    turn_files(agents_folder).remove(call);
}

/// The workspace of interrupted turns, in its current state.
#[derive(Clone, Copy)]
pub struct InterruptedWorkspace<'a> {
    /// The folder of the workspace.
    pub folder: &'a Path,
    /// The artifact files, which orch writes.
    pub artifacts: &'a [String],
    /// The time by which all processes of the turns had ended. Any later change is from another process.
    pub processes_ended: Timestamp,
    /// Returns whether another run wrote a file.
    pub is_foreign: &'a dyn Fn(&str) -> bool,
}

impl InterruptedWorkspace<'_> {
    /// Whether another process may have written a file. A removed file has no modification time, so only `is_foreign`
    /// counts for it.
    fn may_be_foreign(&self, path: &str) -> bool {
        (self.is_foreign)(path) || changed_after(&self.folder.join(path), self.processes_ended)
    }
}

/// Whether a file changed after a time. A removed file has no time, so the answer is false.
pub fn changed_after(path: &Path, time: Timestamp) -> bool {
    let last_change = fs::symlink_metadata(path).ok().and_then(|metadata| last_change(&metadata));
    last_change.is_some_and(|change| change > SystemTime::from(time))
}

/// The time at which a file's content last changed. On Unix, a change of its name or permissions counts too.
fn last_change(metadata: &fs::Metadata) -> Option<SystemTime> {
    let modified = metadata.modified().ok();
    #[cfg(unix)]
    let modified = {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        modified.max(Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)))
    };
    modified
}

/// Reads the starts on disk, the oldest first. Also returns an error message for each file that can't be read.
fn read_starts(agents_folder: &NoFollowFolder) -> (Vec<RecordedStart>, Vec<String>) {
    let (mut starts, errors) = turn_files(agents_folder).read_all::<RecordedStart>();
    starts.sort_by_key(|start| start.start_time);
    (starts, errors)
}

/// A turn, or a call of a tool, that has started, as its file on disk shows. The journal may contain its end.
#[derive(Debug)]
pub struct StartedTurn {
    /// The call to which the turn belongs.
    pub call_key: CallKey,
    /// The digest of the request.
    pub request_digest: Digest,
    /// When the turn started.
    pub start_time: Timestamp,
    /// Whether it may change files.
    pub may_change_files: bool,
    /// Whether this is a call of a tool, and not a turn of a CLI agent.
    pub is_tool_call: bool,
}

/// Returns the turns whose start is still on disk, the oldest first, and an error message for each file that can't be
/// read.
pub fn find_started_turns(agents_folder: &NoFollowFolder) -> (Vec<StartedTurn>, Vec<String>) {
    let (starts, errors) = read_starts(agents_folder);
    let started = starts.into_iter().map(|start| StartedTurn {
        may_change_files: start.before.may_change(),
        call_key: start.call,
        request_digest: start.request_digest,
        start_time: start.start_time,
        is_tool_call: start.model.is_none(),
    });
    (started.collect(), errors)
}

/// Returns the turns whose start is still on disk, the oldest first, with the changes in the workspace since they
/// started, and an error message for each file that can't be read.
pub fn find_interrupted_turns(
    agents_folder: &NoFollowFolder,
    workspace: InterruptedWorkspace<'_>,
) -> (Vec<InterruptedTurn>, Vec<String>) {
    let (starts, errors) = read_starts(agents_folder);
    if starts.is_empty() {
        return (Vec::new(), errors);
    }
    let current_snapshot = LazyCell::new(|| FileSnapshot::from_folder(workspace.folder, workspace.artifacts));
    let is_foreign = |path: &str| workspace.may_be_foreign(path);
    let interrupted_turn = |start: RecordedStart| {
        let activity = match &start.before {
            RecordedBaseline::Snapshot(before) => before.difference_with_foreign(&current_snapshot, &is_foreign),
            RecordedBaseline::Planned(_) if !start.before.may_change() => AgentActivity::default(),
            RecordedBaseline::Planned(planned) => match Tree::open(workspace.folder) {
                Ok(tree) => tree.applied_changes(planned, &is_foreign),
                Err(failure) => AgentActivity::with_unknown_changes(failure.message),
            },
        };
        InterruptedTurn {
            call_key: start.call,
            request_digest: start.request_digest,
            model: start.model,
            start_time: start.start_time,
            activity,
        }
    };
    (starts.into_iter().map(interrupted_turn).collect(), errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileChange;
    use crate::model::StepKey;

    fn is_never_foreign(_: &str) -> bool {
        false
    }

    fn workspace(folder: &Path) -> InterruptedWorkspace<'_> {
        let processes_ended = Timestamp::UNIX_EPOCH;
        InterruptedWorkspace { folder, artifacts: &[], processes_ended, is_foreign: &is_never_foreign }
    }

    fn agents_folder(path: &Path) -> NoFollowFolder {
        NoFollowFolder::open(path, crate::folder::FolderAccess::Private).unwrap()
    }

    #[test]
    fn a_damaged_file_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(TURNS_FOLDER)).unwrap();
        fs::write(folder.path().join(TURNS_FOLDER).join("a.json"), "{").unwrap();
        let (turns, errors) = find_interrupted_turns(&agents_folder(folder.path()), workspace(folder.path()));
        assert!(turns.is_empty() && errors.len() == 1 && errors[0].contains("a.json"), "{errors:?}");
    }

    /// The interrupted turn of a call that started with this knowledge of a workspace that was deleted since.
    fn turn_in_deleted_workspace(before: WorkspaceBaseline<'_>) -> (StartedTurn, InterruptedTurn) {
        let folder = tempfile::tempdir().unwrap();
        let step = StepKey::root("a");
        let call = CallKey { step, attempt: 1, ordinal: 1, tool_call: Some(1), input_round: None };
        let start = TurnStart {
            call: &call,
            request_digest: &Digest::compute(b"request"),
            model: None,
            start_time: Timestamp::UNIX_EPOCH,
            before,
        };
        let agents_folder = agents_folder(folder.path());
        write_turn_start(&agents_folder, &start).unwrap();
        let (mut started, errors) = find_started_turns(&agents_folder);
        assert!(errors.is_empty() && started.len() == 1, "{errors:?}");
        let (mut turns, errors) = find_interrupted_turns(&agents_folder, workspace(&folder.path().join("missing")));
        assert!(errors.is_empty() && turns.len() == 1, "{errors:?}");
        (started.remove(0), turns.remove(0))
    }

    #[test]
    fn the_changes_in_a_workspace_that_can_not_be_opened_are_unknown() {
        let change = FileChange { path: "a".to_owned(), before: None, after: None };
        let planned = ChangeSet { files: vec![change], ..ChangeSet::default() };
        let snapshot = FileSnapshot::default();
        for before in [WorkspaceBaseline::Planned(&planned), WorkspaceBaseline::Snapshot(&snapshot)] {
            let (started, turn) = turn_in_deleted_workspace(before);
            assert!(started.may_change_files);
            let note = turn.activity.partial_note().unwrap();
            assert!(note.contains("workspace") && note.ends_with("; files may have changed"), "{note}");
        }
    }

    #[test]
    fn a_program_that_may_not_change_files_changed_none() {
        let no_changes = ChangeSet::default();
        let (started, turn) = turn_in_deleted_workspace(WorkspaceBaseline::Planned(&no_changes));
        assert!(!started.may_change_files && turn.activity.is_empty(), "{turn:?}");
    }
}
