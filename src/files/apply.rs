//! Applies a [`ChangeSet`]: writes its files into the workspace.

use crate::model::{Failure, FailureClass};

use super::commit::{FileUpdate, SwapHook, commit, read_state, remove_leftovers};
use super::diff::count_changed_lines;
use super::path::{record_refusal_reason, refusal_reason};
use super::problem::Problems;
use super::record::{AppliedFile, ApplyReport, ChangeSet, FileChange, FileState, describe_difference, states_match};
use super::repository::NewEntries;
use super::tree::Tree;

impl Tree {
    /// Writes every file of the change set, or none. Skips a file whose state on disk is its `after` already. If the
    /// state of a file is neither its `before` nor its `after`, the file was edited since, and orch writes nothing.
    pub fn apply(&self, change_set: &ChangeSet) -> Result<ApplyReport, Failure> {
        self.apply_with_hook(change_set, &mut |_| {})
    }

    fn apply_with_hook(&self, change_set: &ChangeSet, before_swap: SwapHook<'_>) -> Result<ApplyReport, Failure> {
        check_record_paths(change_set)?;
        let updates = self.pending_updates(change_set)?;
        commit(self, &updates, before_swap)?;
        Ok(ApplyReport { files: change_set.files.iter().map(summarize_change).collect(), touched: updates.len() })
    }

    /// The updates of the files whose state on disk is not their `after` yet.
    fn pending_updates<'a>(&self, change_set: &'a ChangeSet) -> Result<Vec<FileUpdate<'a>>, Failure> {
        let mut problems = Problems::default();
        let mut updates = Vec::new();
        let written = change_set.files.iter().filter(|change| change.after.is_some());
        let new_entries = NewEntries::of_files(written.map(|change| change.path.as_str()));
        for change in &change_set.files {
            let current = read_state(self, &change.path);
            match remove_leftovers(self, &change.path).and(current) {
                Ok(current) if states_match(current.as_ref(), change.after.as_ref()) => {}
                Ok(current) if states_match(current.as_ref(), change.before.as_ref()) => {
                    let target = change.after.as_ref();
                    // Another process, or another write, may have made a part of a repository since orch checked it.
                    let refusal = target.map_or(Ok(None), |_| new_entries.refusal_in(self, &change.path));
                    match refusal {
                        Ok(None) => updates.push(FileUpdate { path: &change.path, current, target }),
                        Ok(Some(refusal)) => problems.add_for_path(&change.path, refusal),
                        Err(problem) => problems.add_for_path(&change.path, problem),
                    }
                }
                Ok(current) => {
                    let difference = describe_difference(current.as_ref(), change.before.as_ref());
                    problems.add_for_path(&change.path, format!("{difference} since orch checked it"));
                }
                Err(problem) => problems.add_for_path(&change.path, problem),
            }
        }
        let hint = "nothing was written; `orch pipeline resume` checks the files again";
        problems.into_result(FailureClass::PathRefused, "the files can't be written", hint)?;
        Ok(updates)
    }
}

/// Checks the paths of a record again, since the record may have been edited or may come from another machine. They may
/// have every name that a program can give a file.
fn check_record_paths(change_set: &ChangeSet) -> Result<(), Failure> {
    check_paths(change_set, record_refusal_reason)
}

/// Checks the paths of a recording, which obey the rules of `write` steps.
pub(super) fn check_recording_paths(change_set: &ChangeSet) -> Result<(), Failure> {
    check_paths(change_set, |path, _| refusal_reason(path))
}

/// Checks the paths of a change set. `refusal` gets a path and whether orch would write the file.
fn check_paths(change_set: &ChangeSet, refusal: impl Fn(&str, bool) -> Option<String>) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let files = change_set.files.iter().map(|change| (change.path.as_str(), change.after.is_some()));
    let folders = change_set.new_folders.iter().map(|folder| (folder.as_str(), true));
    for (path, is_written) in files.chain(folders) {
        if let Some(problem) = refusal(path, is_written) {
            problems.add_for_path(path, problem);
        }
    }
    problems.into_result(
        FailureClass::PathRefused,
        "the record of the files can't be used",
        "nothing was written; run the step again",
    )
}

fn summarize_change(change: &FileChange) -> AppliedFile {
    let digest = |state: &Option<FileState>| state.as_ref().map(|state| state.content.digest());
    let text = |state: &Option<FileState>| match state {
        Some(state) => state.content.text().map(str::to_owned),
        None => Some(String::new()),
    };
    let (added, removed) = match (text(&change.before), text(&change.after)) {
        (Some(before), Some(after)) => count_changed_lines(&before, &after),
        _ => (0, 0),
    };
    AppliedFile {
        path: change.path.clone(),
        change: change.kind(),
        before: digest(&change.before),
        after: digest(&change.after),
        added,
        removed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::{FileEntry, ReservedFiles, RevertOutcome};

    fn entry(path: &str, content: Option<&str>) -> FileEntry {
        FileEntry { path: path.to_owned(), content: content.map(str::to_owned), mode: None }
    }

    /// Prepares a change set that changes a file, creates one, deletes one, and changes another one.
    fn prepare_four_changes(folder: &Path) -> (Tree, ChangeSet) {
        for path in ["a", "c", "d"] {
            std::fs::write(folder.join(path), path).unwrap();
        }
        let tree = Tree::open(folder).unwrap();
        let entries =
            [entry("a", Some("new")), entry("sub/deep/b", Some("new")), entry("c", None), entry("d", Some("new"))];
        let change_set = tree.prepare(&entries, ReservedFiles::default()).unwrap();
        (tree, change_set)
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_created_at_a_target_path_rolls_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, change_set) = prepare_four_changes(folder.path());
        let blocking_folder = folder.path().join("sub/deep/b");
        let failure = tree
            .apply_with_hook(&change_set, &mut |index| {
                if index == 1 {
                    assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"new");
                    std::fs::create_dir(&blocking_folder).unwrap();
                }
            })
            .unwrap_err();
        assert_eq!(failure.class, FailureClass::PathRefused);
        assert!(failure.message.contains("`sub/deep/b` is a folder"), "{failure}");
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"a");
        assert!(blocking_folder.is_dir(), "orch leaves the new folder");
        assert_eq!(names(folder.path()), ["a", "c", "d", "sub"]);
        assert_eq!(names(&folder.path().join("sub/deep")), ["b"]);
    }

    #[test]
    fn an_edit_before_the_last_swap_rolls_back_writes_folders_and_deletions() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, change_set) = prepare_four_changes(folder.path());
        let failure = tree
            .apply_with_hook(&change_set, &mut |index| {
                if index == 3 {
                    assert_eq!(names(folder.path()).iter().filter(|name| name.as_str() == "c").count(), 0);
                    std::fs::write(folder.path().join("d"), "edited").unwrap();
                }
            })
            .unwrap_err();
        assert!(failure.message.contains("all files are as they were"), "{failure}");
        assert_eq!(names(folder.path()), ["a", "c", "d"]);
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"a");
        assert_eq!(std::fs::read(folder.path().join("c")).unwrap(), b"c");
        assert_eq!(std::fs::read(folder.path().join("d")).unwrap(), b"edited");
    }

    #[test]
    fn an_edit_of_a_swapped_file_is_left_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, change_set) = prepare_four_changes(folder.path());
        let failure = tree
            .apply_with_hook(&change_set, &mut |index| {
                if index == 3 {
                    std::fs::write(folder.path().join("a"), "mine").unwrap();
                    std::fs::remove_file(folder.path().join("d")).unwrap();
                }
            })
            .unwrap_err();
        assert!(failure.message.contains("not restored: `a`"), "{failure}");
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"mine");
        assert_eq!(names(folder.path()), ["a", "c"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_replaced_by_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("deep")).unwrap();
        let (tree, change_set) = prepare_four_changes(folder.path());
        let failure = tree
            .apply_with_hook(&change_set, &mut |index| {
                if index == 1 {
                    std::fs::rename(folder.path().join("sub"), folder.path().join("moved")).unwrap();
                    std::os::unix::fs::symlink(outside.path(), folder.path().join("sub")).unwrap();
                }
            })
            .unwrap_err();
        assert!(failure.message.contains("symbolic link"), "{failure}");
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"a");
        assert_eq!(names(&outside.path().join("deep")), Vec::<String>::new());
    }

    #[test]
    fn applying_again_completes_the_updates_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, change_set) = prepare_four_changes(folder.path());
        let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tree.apply_with_hook(&change_set, &mut |index| assert!(index < 2, "died")).ok();
        }));
        assert!(crash.is_err());
        assert!(names(folder.path()).iter().any(|name| name.starts_with(".orch-tmp-")), "a crash leaves files");
        let applied = tree.apply(&change_set).unwrap();
        assert_eq!(applied.touched, 2);
        assert_eq!(names(folder.path()), ["a", "d", "sub"]);
        assert_eq!(std::fs::read(folder.path().join("sub/deep/b")).unwrap(), b"new");
    }

    #[test]
    fn a_record_that_makes_a_repository_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let prepared = tree.prepare(&[entry("x/HEAD", Some("a"))], ReservedFiles::default()).unwrap();
        for name in ["objects", "refs"] {
            std::fs::create_dir_all(folder.path().join("x").join(name)).unwrap();
        }
        let failure = tree.apply(&prepared).unwrap_err();
        assert_eq!(failure.class, FailureClass::PathRefused);
        assert!(failure.message.contains("`x/HEAD` would make `x` a git repository"), "{failure}");
        assert_eq!(names(&folder.path().join("x")), ["objects", "refs"]);
    }

    #[cfg(not(windows))]
    #[test]
    fn a_record_with_a_name_that_only_write_steps_refuse_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let change_set: ChangeSet =
            serde_json::from_str(r#"{"files":[{"path":"a:b","after":{"content":{"text":"x"}}}]}"#).unwrap();
        tree.apply(&change_set).unwrap();
        assert_eq!(names(folder.path()), ["a:b"]);
    }

    #[test]
    fn a_record_with_a_path_outside_the_workspace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let change_set: ChangeSet =
            serde_json::from_str(r#"{"files":[{"path":"../x","after":{"content":{"text":"x"}}}]}"#).unwrap();
        assert_eq!(tree.apply(&change_set).unwrap_err().class, FailureClass::PathRefused);
        let reverted = tree.revert(&change_set, true).unwrap();
        assert_eq!(reverted.files[0].outcome, RevertOutcome::Skipped);
        assert!(reverted.files[0].reason.as_ref().unwrap().contains("the part `..`"), "{reverted:?}");
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let change_set: ChangeSet = serde_json::from_str(r#"{"new_folders":["a/../a/b"]}"#).unwrap();
        tree.revert(&change_set, true).unwrap();
        assert_eq!(tree.apply(&change_set).unwrap_err().class, FailureClass::PathRefused);
        assert!(folder.path().join("a/b").exists());
    }
}
