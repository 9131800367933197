//! Reverts change sets that were applied.

use std::collections::HashMap;

use crate::model::{Failure, FailureClass};

use super::apply::check_record_paths;
use super::commit::{FileUpdate, commit, read_state, remove_leftovers};
use super::merge_change_sets;
use super::problem::Problems;
use super::record::{
    ChangeKind, ChangeSet, FileChange, FileState, RevertOutcome, RevertReport, RevertedFile, describe_difference,
    states_match,
};
use super::repository::NewEntries;
use super::tree::{AccessError, Tree};

/// The action that reverts one file.
enum RevertPlan<'a> {
    Update(FileUpdate<'a>),
    Skip(RevertOutcome, Option<String>),
}

impl Tree {
    /// Restores the `before` of every file whose state on disk is still its `after`. Reports a file that was changed
    /// since, and restores it only if `force` is set. Never replaces an entry that is not a regular file, and leaves a
    /// file that `write` would refuse because of a git repository. Removes the folders that the change set created if
    /// they are empty.
    pub fn revert(&self, change_set: &ChangeSet, force: bool) -> Result<RevertReport, Failure> {
        check_record_paths(change_set)?;
        let mut updates = Vec::new();
        let mut report = RevertReport::default();
        let new_entries = restored_entries(change_set);
        for change in change_set.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged) {
            let (outcome, reason) = match self.plan_revert(change, force, &new_entries) {
                RevertPlan::Skip(outcome, reason) => (outcome, reason),
                RevertPlan::Update(update) => {
                    updates.push(update);
                    (RevertOutcome::Restored, None)
                }
            };
            report.files.push(RevertedFile { path: change.path.clone(), ending: outcome, reason });
        }
        commit(self, &updates, &mut |_| {})?;
        self.remove_new_folders(change_set)?;
        Ok(report)
    }

    /// Reverts several change sets that were applied one after another, like one change set with [`Tree::revert`]. If
    /// the state of a file is its `after` in any of them, orch restores its `before` in the first.
    pub fn revert_all(&self, change_sets: &[ChangeSet], force: bool) -> Result<RevertReport, Failure> {
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        self.revert(&self.merge_with_disk(change_sets), force)
    }

    /// Returns the report that [`Tree::revert_all`] would return, without writing anything.
    pub fn preview_revert(&self, change_sets: &[ChangeSet], force: bool) -> Result<RevertReport, Failure> {
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        let merged = self.merge_with_disk(change_sets);
        let new_entries = restored_entries(&merged);
        let changes = merged.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged);
        let files = changes.map(|change| {
            let (outcome, reason) = match read_state(self, &change.path) {
                Ok(current) => self.revert_outcome(change, current.as_ref(), force, &new_entries),
                Err(error) => (RevertOutcome::Left, Some(error.to_string())),
            };
            RevertedFile { path: change.path.clone(), ending: outcome, reason }
        });
        Ok(RevertReport { files: files.collect() })
    }

    /// Merges the change sets into one. If one of them wrote the state that a file has on disk, the merged `after` of
    /// the file is that state.
    fn merge_with_disk(&self, change_sets: &[ChangeSet]) -> ChangeSet {
        let mut merged = merge_change_sets(change_sets);
        let mut written_states: HashMap<&str, Vec<&Option<FileState>>> = HashMap::new();
        for change in change_sets.iter().flat_map(|change_set| &change_set.files) {
            written_states.entry(&change.path).or_default().push(&change.after);
        }
        for change in &mut merged.files {
            // The revert reports files that can't be read.
            let Ok(current) = read_state(self, &change.path) else { continue };
            let mut candidates = written_states.get(change.path.as_str()).into_iter().flatten().copied();
            if let Some(after) = candidates.find(|after| states_match(current.as_ref(), after.as_ref())) {
                change.after.clone_from(after);
            }
        }
        merged
    }

    /// Removes the folders that the change set created; leaves a folder that is not empty or was replaced.
    fn remove_new_folders(&self, change_set: &ChangeSet) -> Result<(), Failure> {
        let mut problems = Problems::default();
        for folder in change_set.new_folders.iter().rev() {
            match self.remove_folder(folder) {
                Ok(_) | Err(AccessError::Refused(_)) => {}
                Err(error) => problems.add_for_path(folder, error),
            }
        }
        let hint = "remove these folders by hand if nothing needs them";
        problems.into_result(
            FailureClass::Storage,
            "the files were restored, but these empty folders could not be removed",
            hint,
        )
    }

    fn plan_revert<'a>(&self, change: &'a FileChange, force: bool, new_entries: &NewEntries) -> RevertPlan<'a> {
        let current =
            read_state(self, &change.path).and_then(|state| remove_leftovers(self, &change.path).map(|()| state));
        let current = match current {
            Ok(current) => current,
            Err(error) => return RevertPlan::Skip(RevertOutcome::Left, Some(error.to_string())),
        };
        match self.revert_outcome(change, current.as_ref(), force, new_entries) {
            (RevertOutcome::Restored, _) => {
                RevertPlan::Update(FileUpdate { path: &change.path, current, target: change.before.as_ref() })
            }
            (outcome, reason) => RevertPlan::Skip(outcome, reason),
        }
    }

    /// The outcome of reverting a file whose state on disk is `current`, and the reason if orch leaves the file
    /// unchanged. `new_entries` are the files that the revert may restore.
    fn revert_outcome(
        &self,
        change: &FileChange,
        current: Option<&FileState>,
        force: bool,
        new_entries: &NewEntries,
    ) -> (RevertOutcome, Option<String>) {
        let (outcome, reason) = outcome_of_states(change, current, force);
        if outcome != RevertOutcome::Restored || change.before.is_none() {
            return (outcome, reason);
        }
        match new_entries.refusal_in(self, &change.path) {
            Ok(None) => (outcome, reason),
            Ok(Some(refusal)) => (RevertOutcome::Left, Some(refusal)),
            Err(error) => (RevertOutcome::Left, Some(error.to_string())),
        }
    }
}

/// The entries that a revert of a change set may create.
fn restored_entries(change_set: &ChangeSet) -> NewEntries {
    let restored = change_set.files.iter().filter(|change| change.before.is_some());
    NewEntries::of_files(restored.map(|change| change.path.as_str()))
}

/// The outcome of reverting a file according to its states, and the reason if orch leaves the file unchanged.
fn outcome_of_states(change: &FileChange, current: Option<&FileState>, force: bool) -> (RevertOutcome, Option<String>) {
    let writable_before = change.before.as_ref().filter(|before| before.has_privilege_bits()).map(FileState::writable);
    if states_match(current, change.before.as_ref())
        || (writable_before.is_some() && states_match(current, writable_before.as_ref()))
    {
        return (RevertOutcome::Unchanged, None);
    }
    if force || states_match(current, change.after.as_ref()) {
        return (RevertOutcome::Restored, None);
    }
    let difference = describe_difference(current, change.after.as_ref());
    (RevertOutcome::Left, Some(format!("{difference} since orch wrote it")))
}
