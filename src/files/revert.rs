//! Reverts change sets that were applied.

use std::collections::HashMap;

use indexmap::IndexMap;

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

/// The changes of a file that no change set contains, because its content was not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnrecordedChange {
    /// The path relative to the workspace.
    pub path: String,
    /// Why orch can't restore the file, after the word `it`: `was changed …`.
    pub reason: String,
    /// Whether the first of them came before all recorded changes of the file. Then its original state is unknown.
    pub hides_original: bool,
}

/// What decides, beside the states of a file, whether orch reverts it.
struct RevertRules<'a> {
    unrecorded: &'a UnrecordedChanges<'a>,
    /// The files that the revert may create.
    new_entries: NewEntries,
    force: bool,
}

/// The files with unrecorded changes, by path.
type UnrecordedChanges<'a> = IndexMap<&'a str, &'a UnrecordedChange>;

fn by_path(unrecorded: &[UnrecordedChange]) -> UnrecordedChanges<'_> {
    unrecorded.iter().map(|change| (change.path.as_str(), change)).collect()
}

impl Tree {
    /// Restores the `before` of every file whose state on disk is still its `after`. Reports a file that was changed
    /// since, and restores it only if `force` is set. Never replaces an entry that is not a regular file, and skips a
    /// file that `write` would refuse because of a git repository. Removes the folders that the change set created if
    /// they are empty.
    pub fn revert(&self, change_set: &ChangeSet, force: bool) -> Result<RevertReport, Failure> {
        check_record_paths(change_set)?;
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
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        self.revert_recorded(&self.merge_with_disk(change_sets), &by_path(unrecorded), force)
    }

    /// Returns the report that [`Tree::revert_all`] would return, without writing anything.
    pub fn preview_revert(
        &self,
        change_sets: &[ChangeSet],
        unrecorded: &[UnrecordedChange],
        force: bool,
    ) -> Result<RevertReport, Failure> {
        for change_set in change_sets {
            check_record_paths(change_set)?;
        }
        let (merged, unrecorded) = (self.merge_with_disk(change_sets), by_path(unrecorded));
        let rules = RevertRules { unrecorded: &unrecorded, new_entries: restored_entries(&merged), force };
        let files = changes_to_revert(&merged, &unrecorded).map(|change| {
            let (outcome, reason) = match read_state(self, &change.path) {
                Ok(current) => self.revert_outcome(change, current.as_ref(), &rules),
                Err(error) => (RevertOutcome::Skipped, Some(error.to_string())),
            };
            RevertedFile { path: change.path.clone(), outcome, reason }
        });
        let mut report = RevertReport { files: files.collect() };
        report.add_unrecorded(&unrecorded);
        Ok(report)
    }

    fn revert_recorded(
        &self,
        change_set: &ChangeSet,
        unrecorded: &UnrecordedChanges<'_>,
        force: bool,
    ) -> Result<RevertReport, Failure> {
        let mut updates = Vec::new();
        let mut report = RevertReport::default();
        let rules = RevertRules { unrecorded, new_entries: restored_entries(change_set), force };
        for change in changes_to_revert(change_set, unrecorded) {
            let (outcome, reason) = match self.plan_revert(change, &rules) {
                RevertPlan::Skip(outcome, reason) => (outcome, reason),
                RevertPlan::Update(update) => {
                    updates.push(update);
                    (RevertOutcome::Reverted, None)
                }
            };
            report.files.push(RevertedFile { path: change.path.clone(), outcome, reason });
        }
        commit(self, &updates, &mut |_| {})?;
        self.remove_new_folders(change_set)?;
        report.add_unrecorded(unrecorded);
        Ok(report)
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

    fn plan_revert<'a>(&self, change: &'a FileChange, rules: &RevertRules<'_>) -> RevertPlan<'a> {
        let current =
            read_state(self, &change.path).and_then(|state| remove_leftovers(self, &change.path).map(|()| state));
        let current = match current {
            Ok(current) => current,
            Err(error) => return RevertPlan::Skip(RevertOutcome::Skipped, Some(error.to_string())),
        };
        match self.revert_outcome(change, current.as_ref(), rules) {
            (RevertOutcome::Reverted, _) => {
                RevertPlan::Update(FileUpdate { path: &change.path, current, target: change.before.as_ref() })
            }
            (outcome, reason) => RevertPlan::Skip(outcome, reason),
        }
    }

    /// The outcome of reverting a file whose state on disk is `current`, and the reason if orch skips the file.
    fn revert_outcome(
        &self,
        change: &FileChange,
        current: Option<&FileState>,
        rules: &RevertRules<'_>,
    ) -> (RevertOutcome, Option<String>) {
        let (outcome, reason) = outcome_of_states(change, find(rules.unrecorded, change), current, rules.force);
        if outcome != RevertOutcome::Reverted || change.before.is_none() {
            return (outcome, reason);
        }
        match rules.new_entries.refusal_in(self, &change.path) {
            Ok(None) => (outcome, reason),
            Ok(Some(refusal)) => (RevertOutcome::Skipped, Some(refusal)),
            Err(error) => (RevertOutcome::Skipped, Some(error.to_string())),
        }
    }
}

/// The entries that a revert of a change set may create.
fn restored_entries(change_set: &ChangeSet) -> NewEntries {
    let restored = change_set.files.iter().filter(|change| change.before.is_some());
    NewEntries::of_files(restored.map(|change| change.path.as_str()))
}

impl RevertReport {
    /// Adds the files without a recorded change.
    fn add_unrecorded(&mut self, unrecorded: &UnrecordedChanges<'_>) {
        let is_listed = |path: &str| self.files.iter().any(|file| file.path == path);
        let skipped = unrecorded.values().filter(|change| !is_listed(&change.path)).map(|change| RevertedFile {
            path: change.path.clone(),
            outcome: RevertOutcome::Skipped,
            reason: Some(change.reason.clone()),
        });
        let skipped: Vec<RevertedFile> = skipped.collect();
        self.files.extend(skipped);
    }
}

/// The changes of the files that differ from their original states, or may differ because of unrecorded changes.
fn changes_to_revert<'a>(
    change_set: &'a ChangeSet,
    unrecorded: &'a UnrecordedChanges<'_>,
) -> impl Iterator<Item = &'a FileChange> {
    let may_differ = move |change: &&FileChange| {
        change.kind() != ChangeKind::Unchanged || unrecorded.contains_key(change.path.as_str())
    };
    change_set.files.iter().filter(may_differ)
}

fn find<'a>(unrecorded: &UnrecordedChanges<'a>, change: &FileChange) -> Option<&'a UnrecordedChange> {
    unrecorded.get(change.path.as_str()).copied()
}

/// The outcome of reverting a file according to its states, and the reason if orch skips the file.
fn outcome_of_states(
    change: &FileChange,
    unrecorded: Option<&UnrecordedChange>,
    current: Option<&FileState>,
    force: bool,
) -> (RevertOutcome, Option<String>) {
    if let Some(unrecorded) = unrecorded.filter(|unrecorded| unrecorded.hides_original) {
        return (RevertOutcome::Skipped, Some(unrecorded.reason.clone()));
    }
    let writable_before = change.before.as_ref().filter(|before| before.has_privilege_bits()).map(FileState::writable);
    if states_match(current, change.before.as_ref())
        || (writable_before.is_some() && states_match(current, writable_before.as_ref()))
    {
        return (RevertOutcome::Unchanged, None);
    }
    if force {
        return (RevertOutcome::Reverted, None);
    }
    if let Some(unrecorded) = unrecorded {
        return (RevertOutcome::Skipped, Some(unrecorded.reason.clone()));
    }
    if states_match(current, change.after.as_ref()) {
        return (RevertOutcome::Reverted, None);
    }
    let difference = describe_difference(current, change.after.as_ref());
    (RevertOutcome::Skipped, Some(format!("{difference} since orch wrote it")))
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
        assert_eq!(outcomes(tree.preview_revert(&changes, &gaps, false).unwrap()), skipped);
        assert_eq!(outcomes(tree.revert_all(&changes, &gaps, false).unwrap()), skipped);
        assert!(!path("plain").exists());
        let forced = expected((RevertOutcome::Reverted, false), RevertOutcome::Unchanged);
        assert_eq!(outcomes(tree.preview_revert(&changes, &gaps, true).unwrap()), forced);
        assert_eq!(outcomes(tree.revert_all(&changes, &gaps, true).unwrap()), forced);
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!((read("first"), read("last"), read("only")), ("1".to_owned(), "0".to_owned(), "0".to_owned()));
    }
}
