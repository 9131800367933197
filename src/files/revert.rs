//! Reverts change sets that were applied.

use std::collections::HashMap;

use crate::model::{Failure, FailureClass};

use super::apply::check_record_paths;
use super::commit::{FileMove, commit, read_state, remove_leftovers};
use super::merge_change_sets;
use super::problem::Problems;
use super::record::{
    ChangeKind, ChangeSet, FileChange, FileState, RevertOutcome, RevertReport, RevertedFile, describe_difference,
    states_match,
};
use super::tree::{AccessError, Tree};

/// What to do with one file.
enum RevertPlan<'a> {
    Move(FileMove<'a>),
    Skip(RevertOutcome, Option<String>),
}

impl Tree {
    /// Restores every file of the change set to its state before, if the disk still shows its state after. Leaves and
    /// reports a file that was changed since, unless `force` is set, and always one that is no longer a regular file.
    /// Removes the folders that the change set created if they are empty.
    pub fn revert(&self, change_set: &ChangeSet, force: bool) -> Result<RevertReport, Failure> {
        check_record_paths(change_set)?;
        let mut moves = Vec::new();
        let mut report = RevertReport::default();
        for change in change_set.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged) {
            let (outcome, reason) = match self.plan_revert(change, force) {
                RevertPlan::Skip(outcome, reason) => (outcome, reason),
                RevertPlan::Move(file_move) => {
                    moves.push(file_move);
                    (RevertOutcome::Restored, None)
                }
            };
            report.files.push(RevertedFile { path: change.path.clone(), ending: outcome, reason });
        }
        commit(self, &moves, &mut |_| {})?;
        self.remove_new_folders(change_set)?;
        Ok(report)
    }

    /// Reverts change sets that were applied one after another, all or none, as [`Tree::revert`] does. If a file has
    /// its state after any of them, orch restores its state before the first.
    pub fn revert_all(&self, change_sets: &[ChangeSet], force: bool) -> Result<RevertReport, Failure> {
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        self.revert(&self.merge_with_disk(change_sets), force)
    }

    /// The outcome that [`Tree::revert_all`] would have for each file. Writes nothing.
    pub fn preview_revert(&self, change_sets: &[ChangeSet], force: bool) -> Result<RevertReport, Failure> {
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        let merged = self.merge_with_disk(change_sets);
        let changes = merged.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged);
        let files = changes.map(|change| {
            let (outcome, reason) = match read_state(self, &change.path) {
                Ok(current) => revert_outcome(change, current.as_ref(), force),
                Err(error) => (RevertOutcome::Left, Some(error.to_string())),
            };
            RevertedFile { path: change.path.clone(), ending: outcome, reason }
        });
        Ok(RevertReport { files: files.collect() })
    }

    /// Merges the change sets into one. The `after` of each file is the state on disk, if one of them wrote that state.
    fn merge_with_disk(&self, change_sets: &[ChangeSet]) -> ChangeSet {
        let mut merged = merge_change_sets(change_sets);
        let mut written_states: HashMap<&str, Vec<&Option<FileState>>> = HashMap::new();
        for change in change_sets.iter().flat_map(|change_set| &change_set.files) {
            written_states.entry(&change.path).or_default().push(&change.after);
        }
        for change in &mut merged.files {
            // A file that can't be read is reported when it should be restored.
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

    fn plan_revert<'a>(&self, change: &'a FileChange, force: bool) -> RevertPlan<'a> {
        let current =
            read_state(self, &change.path).and_then(|state| remove_leftovers(self, &change.path).map(|()| state));
        let current = match current {
            Ok(current) => current,
            Err(error) => return RevertPlan::Skip(RevertOutcome::Left, Some(error.to_string())),
        };
        match revert_outcome(change, current.as_ref(), force) {
            (RevertOutcome::Restored, _) => {
                RevertPlan::Move(FileMove { path: &change.path, from: current, to: change.before.as_ref() })
            }
            (outcome, reason) => RevertPlan::Skip(outcome, reason),
        }
    }
}

/// The outcome of reverting a file whose state on disk is `current`, and the reason if the file is left.
fn revert_outcome(change: &FileChange, current: Option<&FileState>, force: bool) -> (RevertOutcome, Option<String>) {
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
