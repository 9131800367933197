//! The state of the workspace before a turn, on disk until what the turn did is on record.
//!
//! It is written before the program starts. When this process is killed in the middle of the turn, whoever goes on with
//! the run compares the workspace against it, so that the files of the turn are in the run's record. It survives the
//! end of the process, not that of the machine: it is not synced.

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

/// The folder of the files, in the folder of the run's programs.
const FOLDER: &str = "turns";

/// A turn that began.
#[derive(Debug, Serialize)]
struct TurnStart<'a> {
    call: &'a CallKey,
    ask: &'a Digest,
    model: &'a ModelRef,
    /// When it began.
    at: Timestamp,
    before: &'a FileSnapshot,
}

/// The same as it is read.
#[derive(Debug, Deserialize)]
struct RecordedStart {
    call: CallKey,
    ask: Digest,
    model: ModelRef,
    at: Timestamp,
    before: FileSnapshot,
}

/// A turn whose process was killed before what it did was on record.
#[derive(Debug)]
pub struct InterruptedTurn {
    /// The call.
    pub call: CallKey,
    /// The digest of what was asked.
    pub ask: Digest,
    /// Who was asked.
    pub model: ModelRef,
    /// When it began.
    pub at: Timestamp,
    /// What changed in the workspace since.
    pub work: AgentActivity,
}

fn name(call: &CallKey) -> String {
    format!("{}.json", Digest::of(call.to_string().as_bytes()))
}

/// Writes the state before a turn to disk. Without it a kill would make the files of the turn unknown, so that the turn
/// must not start when this fails.
pub(super) fn put(place: &AgentEnv, bounds: &TurnLimits, model: &ModelRef, before: &FileSnapshot) -> io::Result<()> {
    let start = TurnStart { call: &bounds.call, ask: &bounds.ask, model, at: bounds.now, before };
    let text = serde_json::to_vec(&start)?;
    // A kill leaves no part of it under its own name.
    place.homes.make(FOLDER)?.file(name(&bounds.call)).note(&text)
}

/// Removes what was noted before a turn that is on record now.
pub fn turn_recorded(homes: &OwnFolder, call: &CallKey) {
    // It may never have been written.
    drop(homes.file(format!("{FOLDER}/{}", name(call))).remove());
}

/// The workspace in which turns were cut off, as it is now.
#[derive(Clone, Copy)]
pub struct InterruptedWorkspace<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Files that show artifacts.
    pub artifacts: &'a [String],
    /// When nothing of the turns ran any more: what changed later is not their work.
    pub until: Timestamp,
    /// Whether another process wrote a file.
    pub is_foreign: &'a dyn Fn(&str) -> bool,
}

impl InterruptedWorkspace<'_> {
    /// Whether a file may hold the work of another process. One that is gone holds none.
    fn is_late(&self, path: &str) -> bool {
        let changed = fs::symlink_metadata(self.folder.join(path)).ok().and_then(|data| changed(&data));
        (self.is_foreign)(path) || changed.is_some_and(|time| time > SystemTime::from(self.until))
    }
}

/// When a file changed last: its contents, or its name and rights where the system keeps that time.
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

/// What is in the folder of notes; nothing when it is not there.
fn notes(homes: &OwnFolder) -> io::Result<Vec<OwnFile>> {
    Ok(homes.list(FOLDER)?.into_iter().map(|(name, _)| homes.file(format!("{FOLDER}/{name}"))).collect())
}

/// The turns that were noted and never recorded, with what changed in the workspace since they began; and the notes that
/// can't be read, with the reason.
pub fn interrupted_turns(
    homes: &OwnFolder,
    workspace: InterruptedWorkspace<'_>,
) -> (Vec<InterruptedTurn>, Vec<String>) {
    let (mut starts, mut unread) = (Vec::new(), Vec::new());
    // Others are temporary files of a process that was killed before its program started.
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
