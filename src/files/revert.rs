//! Reverts change sets that were applied.

use std::collections::HashMap;

use crate::model::{Failure, FailureClass};

use super::commit::read_state;
use super::merge_change_sets;
use super::path::record_refusal_reason;
use super::problem::Problems;
use super::record::{ChangeSet, FileState, RevertOutcome, RevertReport, RevertedFile, states_match};
use super::revert_plan::{RevertPlan, RevertRules, UnrecordedChange, UnrecordedChanges};
use super::tree::{AccessError, Tree};

fn by_path(unrecorded: &[UnrecordedChange]) -> UnrecordedChanges<'_> {
    unrecorded.iter().map(|change| (change.path.as_str(), change)).collect()
}

impl Tree {
    /// Restores the `before` of every file whose state on disk is still its `after`. Reports a file that was changed
    /// since, and restores it only if `force` is set. Skips a file with a path that leaves the workspace, and a file that
    /// `write` would refuse because of a git repository. Removes the folders that the change set created if they are
    /// empty.
    ///
    /// If the program replaced a file by a folder, a folder by a file or a folder by a link, removes the new entries
    /// before it restores the old files. It leaves the new files if it can't restore the old ones, and never replaces
    /// other entries that are not regular files.
    pub fn revert(&self, change_set: &ChangeSet, force: bool) -> Result<RevertReport, Failure> {
        self.revert_recorded(change_set, &UnrecordedChanges::default(), force)
    }

    /// Reverts several change sets that were applied one after another, like one change set with [`Tree::revert`]. If
    /// the state of a file is its `after` in any of them, orch restores its `before` in the first.
    ///
    /// Reports the files in `unrecorded` with the reason why orch skips them. With `force`, restores those among them
    /// whose original state is in a change set.
    pub fn revert_all(
        &self,
        change_sets: &[ChangeSet],
        unrecorded: &[UnrecordedChange],
        force: bool,
    ) -> Result<RevertReport, Failure> {
        self.revert_recorded(&self.merge_with_disk(change_sets), &by_path(unrecorded), force)
    }

    /// Returns the report that [`Tree::revert_all`] would return, without writing anything.
    pub fn preview_revert(
        &self,
        change_sets: &[ChangeSet],
        unrecorded: &[UnrecordedChange],
        force: bool,
    ) -> RevertReport {
        let (merged, unrecorded) = (self.merge_with_disk(change_sets), by_path(unrecorded));
        let rules = RevertRules::new(&merged, &unrecorded, force, true);
        RevertReport::new(self.plan_revert(&merged, &rules), &unrecorded)
    }

    fn revert_recorded(
        &self,
        change_set: &ChangeSet,
        unrecorded: &UnrecordedChanges<'_>,
        force: bool,
    ) -> Result<RevertReport, Failure> {
        let rules = RevertRules::new(change_set, unrecorded, force, false);
        let plan = self.plan_revert(change_set, &rules);
        self.commit_with_obstacles(&plan.updates, &plan.obstacles)?;
        self.remove_new_folders(change_set)?;
        Ok(RevertReport::new(plan, unrecorded))
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
        // A folder whose path leaves the workspace can only come from a record of another machine.
        let folders = change_set.new_folders.iter().rev();
        for folder in folders.filter(|folder| record_refusal_reason(folder, true).is_none()) {
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
}

impl RevertReport {
    /// The outcomes of a plan, and the files without a recorded change. If one of these is a folder again, the program
    /// had put another entry, such as a link, in its place.
    fn new(plan: RevertPlan<'_>, unrecorded: &UnrecordedChanges<'_>) -> Self {
        let RevertPlan { obstacles, mut files, restored_folders, .. } = plan;
        let is_listed = |path: &str| files.iter().any(|file| file.path == path);
        let others = unrecorded.values().filter(|change| !is_listed(&change.path)).map(|change| {
            let path = change.path.clone();
            if obstacles.has_link(&path) {
                RevertedFile { path, outcome: RevertOutcome::Reverted, reason: None }
            } else if restored_folders.contains(path.as_str()) {
                RevertedFile { path, outcome: RevertOutcome::Unchanged, reason: None }
            } else {
                RevertedFile { path, outcome: RevertOutcome::Skipped, reason: Some(change.reason.clone()) }
            }
        });
        let others: Vec<RevertedFile> = others.collect();
        files.extend(others);
        Self { files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileEntry, ReservedFiles};

    /// Writes a file, and returns its change set.
    fn write_file(tree: &Tree, path: &str, content: &str) -> ChangeSet {
        let entry = FileEntry { path: path.to_owned(), content: Some(content.to_owned()), mode: None };
        let change_set = tree.prepare(&[entry], ReservedFiles::default()).unwrap();
        tree.apply(&change_set).unwrap();
        change_set
    }

    fn unrecorded(path: &str, hides_original: bool) -> UnrecordedChange {
        UnrecordedChange { path: path.to_owned(), reason: "was changed".to_owned(), hides_original }
    }

    #[test]
    fn a_file_with_an_unrecorded_change_is_skipped_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["first", "last", "restored", "only"] {
            std::fs::write(path(name), "0").unwrap();
        }
        let tree = Tree::open(folder.path()).unwrap();
        let changes = ["first", "last", "restored", "plain"].map(|name| write_file(&tree, name, "1"));
        std::fs::write(path("last"), "2").unwrap();
        std::fs::write(path("restored"), "0").unwrap();
        let gaps = [
            unrecorded("first", true),
            unrecorded("last", false),
            unrecorded("restored", false),
            unrecorded("only", true),
        ];
        let outcomes = |report: RevertReport| -> Vec<(String, RevertOutcome, bool)> {
            report.files.into_iter().map(|file| (file.path, file.outcome, file.reason.is_some())).collect()
        };
        let expected = |last: (RevertOutcome, bool), plain: RevertOutcome| {
            [
                ("first", RevertOutcome::Skipped, true),
                ("last", last.0, last.1),
                ("restored", RevertOutcome::Unchanged, false),
                ("plain", plain, false),
                ("only", RevertOutcome::Skipped, true),
            ]
            .map(|(path, outcome, has_reason)| (path.to_owned(), outcome, has_reason))
        };
        let skipped = expected((RevertOutcome::Skipped, true), RevertOutcome::Reverted);
        assert_eq!(outcomes(tree.preview_revert(&changes, &gaps, false)), skipped);
        assert_eq!(outcomes(tree.revert_all(&changes, &gaps, false).unwrap()), skipped);
        assert!(!path("plain").exists());
        let forced = expected((RevertOutcome::Reverted, false), RevertOutcome::Unchanged);
        assert_eq!(outcomes(tree.preview_revert(&changes, &gaps, true)), forced);
        assert_eq!(outcomes(tree.revert_all(&changes, &gaps, true).unwrap()), forced);
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!((read("first"), read("last"), read("only")), ("1".to_owned(), "0".to_owned(), "0".to_owned()));
    }
}
