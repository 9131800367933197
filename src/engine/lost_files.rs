//! Finds the files of earlier steps that a program deleted or reverted.

use serde_json::Value;

use crate::durable::CallReply;
use crate::files::Tree;
use crate::model::{AgentActivity, Failure};
use crate::offload::run_on_thread;

use super::perform::Performer;

/// The number of artifact files from which orch does not check before each program which of them exist.
const MAX_CHECKED_ARTIFACTS: usize = 1000;

impl Performer {
    /// Returns the artifact files that are in the workspace. Runs on another thread, since there may be many.
    pub(super) async fn present_artifacts(&self) -> Vec<String> {
        let performer = self.clone();
        run_on_thread(self.clock.hold_virtual_time(), move || present_artifacts(&performer)).await
    }

    /// Returns the files of earlier steps that a command or a turn deleted or reverted. `artifacts` are the artifact
    /// files that were in the workspace before. Runs on another thread, because it may have to read many files.
    pub(super) async fn reverted_files(
        &self,
        result: &Result<CallReply, Failure>,
        activity: Option<&AgentActivity>,
        artifacts: Vec<String>,
    ) -> Vec<String> {
        let reply_activity = result.as_ref().ok().and_then(CallReply::activity);
        let (performer, files) =
            (self.clone(), reply_activity.or(activity).and_then(|activity| activity.files.clone()));
        let hold = self.clock.hold_virtual_time();
        run_on_thread(hold, move || find_reverted_files(&performer, files, artifacts)).await
    }
}

/// The artifact files that are in the workspace. None if the pipeline has so many that looking at all of them before and
/// after each program would take longer than the programs; a resume then asks about a file that a program deleted.
fn present_artifacts(performer: &Performer) -> Vec<String> {
    let paths = performer.artifact_files.paths();
    if paths.len() > MAX_CHECKED_ARTIFACTS {
        return Vec::new();
    }
    let Ok(tree) = Tree::open(&performer.workspace) else { return Vec::new() };
    paths.iter().filter(|path| tree.has_entry(path)).cloned().collect()
}

/// Returns the files of earlier steps that a command or a turn deleted, reverted or replaced by another entry. `files`
/// is the record of the turn's own changes, and `artifacts` are the artifact files that were in the workspace before.
fn find_reverted_files(performer: &Performer, files: Option<Value>, artifacts: Vec<String>) -> Vec<String> {
    // orch serialized this record a moment ago, so parsing it does not fail.
    if let Some(change_set) = files.and_then(|files| serde_json::from_value(files).ok()) {
        performer.files.record(&change_set);
    }
    let tree = Tree::open(&performer.workspace).ok();
    if tree.is_none() && performer.workspace.exists() {
        // The workspace exists but can't be opened, so the states of its files are unknown.
        return Vec::new();
    }
    let lost = performer.files.reverted(tree.as_ref());
    let is_deleted = |path: &String| tree.as_ref().is_none_or(|tree| !tree.has_entry(path));
    lost.into_iter().chain(artifacts.into_iter().filter(is_deleted)).collect()
}
