//! The state of the workspace before a turn, on disk until what the turn did is on record.
//!
//! It is written before the program starts. When this process is killed in the middle of the turn, whoever goes on with
//! the run compares the workspace against it, so that the files of the turn are in the run's record. It survives the
//! end of the process, not that of the machine: it is not synced.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{CallKey, Digest, ModelRef, Work};

use super::changes::Listing;
use super::program::{Bounds, Place, private_folder};

/// The folder of the files, in the folder of the run's programs.
const FOLDER: &str = "turns";

/// A turn that began.
#[derive(Debug, Serialize, Deserialize)]
struct TurnStart {
    call: CallKey,
    ask: Digest,
    model: ModelRef,
    /// When it began.
    at: Timestamp,
    before: Listing,
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
    pub work: Work,
}

fn file(homes: &Path, call: &CallKey) -> PathBuf {
    homes.join(FOLDER).join(format!("{}.json", Digest::of(call.to_string().as_bytes())))
}

/// Notes the state before a turn; one that can't be noted is not known after a kill.
pub(super) fn put(place: &Place, bounds: &Bounds, model: &ModelRef, before: &Listing) {
    let path = file(&place.homes, &bounds.call);
    let (call, ask, model, at) = (&bounds.call, &bounds.ask, model, bounds.now);
    let text = serde_json::to_vec(
        &serde_json::json!({ "call": call, "ask": ask, "model": model, "at": at, "before": before }),
    );
    let folder = path.parent().unwrap_or(&path);
    // A file that a kill cut can't be read, and then the program had not begun.
    let written = private_folder(folder).and_then(|()| fs::write(&path, text.unwrap_or_default()));
    drop(written);
}

/// Removes what was noted before a turn that is on record now.
pub fn turn_recorded(homes: &Path, call: &CallKey) {
    // It may never have been written.
    drop(fs::remove_file(file(homes, call)));
}

/// The turns that were noted and never recorded, with what changed in the workspace since they began.
pub fn interrupted_turns(homes: &Path, workspace: &Path, artifacts: &[String]) -> Vec<InterruptedTurn> {
    let entries = fs::read_dir(homes.join(FOLDER)).into_iter().flatten().flatten();
    let read = |path: PathBuf| serde_json::from_slice::<TurnStart>(&fs::read(path).ok()?).ok();
    let mut starts: Vec<TurnStart> = entries.filter_map(|entry| read(entry.path())).collect();
    if starts.is_empty() {
        return Vec::new();
    }
    starts.sort_by_key(|start| start.at);
    let now = Listing::of(workspace, artifacts);
    let turn = |start: TurnStart| {
        let work = start.before.difference(&now);
        InterruptedTurn { call: start.call, ask: start.ask, model: start.model, at: start.at, work }
    };
    starts.into_iter().map(turn).collect()
}
