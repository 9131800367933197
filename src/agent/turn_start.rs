//! The state of the workspace before a turn, on disk until the journal has what the turn changed.
//!
//! orch writes it before the program starts. If orch is killed during the turn, the process that resumes the run
//! compares the workspace with it, so that the journal gets the turn's changes. It survives the end of the process, but
//! not a power failure, since it is not synced.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::folder::{OwnFile, OwnFolder};
use crate::model::{AgentActivity, CallKey, Digest, ModelRef};

use super::changes::FileSnapshot;
use super::program::{AgentEnv, TurnLimits};

/// The folder for these files, in the folder of the run's CLI agents.
const FOLDER: &str = "turns";

/// The start of a turn, as it is written.
#[derive(Debug, Serialize)]
struct TurnStart<'a> {
    call: &'a CallKey,
    ask: &'a Digest,
    model: &'a ModelRef,
    /// When the turn started.
    at: Timestamp,
    before: &'a FileSnapshot,
}

/// The start of a turn, as it is read.
#[derive(Debug, Deserialize)]
struct RecordedStart {
    call: CallKey,
    ask: Digest,
    model: ModelRef,
    at: Timestamp,
    before: FileSnapshot,
}

/// A turn during which orch was killed, so that its changes are not in the journal.
#[derive(Debug)]
pub struct InterruptedTurn {
    /// The call.
    pub call: CallKey,
    /// The digest of the request.
    pub ask: Digest,
    /// The model that the request names.
    pub model: ModelRef,
    /// When the turn started.
    pub at: Timestamp,
    /// What changed in the workspace since then.
    pub work: AgentActivity,
}

fn name(call: &CallKey) -> String {
    format!("{}.json", Digest::of(call.to_string().as_bytes()))
}

/// Writes the state before a turn to disk. If this fails, the turn must not start: after a kill, its changes would be
/// unknown.
pub(super) fn put(place: &AgentEnv, bounds: &TurnLimits, model: &ModelRef, before: &FileSnapshot) -> io::Result<()> {
    let start = TurnStart { call: &bounds.call, ask: &bounds.ask, model, at: bounds.now, before };
    let text = serde_json::to_vec(&start)?;
    // `note` replaces the file as a whole, so a kill never leaves a part of it under this name.
    place.homes.make(FOLDER)?.file(name(&bounds.call)).note(&text)
}

/// Removes the state before a turn whose result is in the journal now.
pub fn turn_recorded(homes: &OwnFolder, call: &CallKey) {
    // The file may never have been written.
    drop(homes.file(format!("{FOLDER}/{}", name(call))).remove());
}

/// The workspace in which turns were cut off, in its current state.
#[derive(Clone, Copy)]
pub struct InterruptedWorkspace<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The artifact files, which orch writes.
    pub artifacts: &'a [String],
    /// When all processes of the turns had ended: later changes are not theirs.
    pub until: Timestamp,
    /// Whether another run wrote a file.
    pub is_foreign: &'a dyn Fn(&str) -> bool,
}

impl InterruptedWorkspace<'_> {
    /// Whether another process may have written a file. A removed file has no modification time, so only `is_foreign`
    /// counts.
    fn is_late(&self, path: &str) -> bool {
        let changed = fs::symlink_metadata(self.folder.join(path)).ok().and_then(|data| changed(&data));
        (self.is_foreign)(path) || changed.is_some_and(|time| time > SystemTime::from(self.until))
    }
}

/// When a file last changed: its contents, or on Unix also its name and permissions.
fn changed(data: &fs::Metadata) -> Option<SystemTime> {
    let modified = data.modified().ok();
    #[cfg(unix)]
    let modified = {
        use std::os::unix::fs::MetadataExt as _;
        let nanoseconds = u32::try_from(data.ctime_nsec()).unwrap_or_default();
        let seconds = u64::try_from(data.ctime()).unwrap_or_default();
        modified.max(Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)))
    };
    modified
}

/// The files in the folder; none if it does not exist.
fn notes(homes: &OwnFolder) -> io::Result<Vec<OwnFile>> {
    Ok(homes.list(FOLDER)?.into_iter().map(|(name, _)| homes.file(format!("{FOLDER}/{name}"))).collect())
}

/// The turns whose result is not in the journal, with the changes in the workspace since they started, and messages
/// about files that can't be read.
pub fn interrupted_turns(
    homes: &OwnFolder,
    workspace: InterruptedWorkspace<'_>,
) -> (Vec<InterruptedTurn>, Vec<String>) {
    let (mut starts, mut unread) = (Vec::new(), Vec::new());
    // Other names are temporary files of a process that was killed before its program started.
    let noted = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "json");
    match notes(homes) {
        Ok(files) => {
            for file in files.into_iter().filter(|file| noted(file.last_name())) {
                match file.read().and_then(|text| Ok(serde_json::from_slice::<RecordedStart>(&text)?)) {
                    Ok(start) => starts.push(start),
                    Err(error) => unread.push(format!("`{}` can't be read: {error}", file.path().display())),
                }
            }
        }
        Err(error) => unread.push(format!("`{}` can't be read: {error}", homes.path().join(FOLDER).display())),
    }
    if starts.is_empty() {
        return (Vec::new(), unread);
    }
    starts.sort_by_key(|start| start.at);
    let now = FileSnapshot::of(workspace.folder, workspace.artifacts);
    let turn = |start: RecordedStart| {
        let work = start.before.difference_without(&now, &|path| workspace.is_late(path));
        InterruptedTurn { call: start.call, ask: start.ask, model: start.model, at: start.at, work }
    };
    (starts.into_iter().map(turn).collect(), unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_damaged_is_named() {
        let homes = tempfile::tempdir().unwrap();
        fs::create_dir(homes.path().join(FOLDER)).unwrap();
        fs::write(homes.path().join(FOLDER).join("a.json"), "{").unwrap();
        let workspace = InterruptedWorkspace {
            folder: homes.path(),
            artifacts: &[],
            until: Timestamp::UNIX_EPOCH,
            is_foreign: &|_| false,
        };
        let (turns, unread) =
            interrupted_turns(&OwnFolder::open(homes.path(), crate::folder::FolderAccess::Private).unwrap(), workspace);
        assert!(turns.is_empty() && unread.len() == 1 && unread[0].contains("a.json"), "{unread:?}");
    }
}
