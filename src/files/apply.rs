//! Applies a [`ChangeSet`]: writes its files into the workspace.

use crate::model::{Class, Failure};

use super::commit::{Between, Move, commit, state, sweep};
use super::diff::counts;
use super::path::refused;
use super::problem::Problems;
use super::record::{Applied, AppliedFile, ChangeSet, FileChange, FileState, shown_difference, shows};
use super::tree::Tree;

impl Tree {
    /// Makes every file of the change set as it should be, or none. A file that is so already is not touched. If a file
    /// has neither its state before nor its state after, it was edited since, and nothing is written at all.
    pub fn apply(&self, look: &ChangeSet) -> Result<Applied, Failure> {
        self.apply_between(look, &mut |_| {})
    }

    fn apply_between(&self, look: &ChangeSet, between: Between<'_>) -> Result<Applied, Failure> {
        acceptable(look)?;
        let moves = self.due(look)?;
        commit(self, &moves, between)?;
        Ok(Applied { files: look.files.iter().map(summary).collect(), touched: moves.len() })
    }

    /// The moves that the disk still needs.
    fn due<'a>(&self, look: &'a ChangeSet) -> Result<Vec<Move<'a>>, Failure> {
        let mut problems = Problems::default();
        let mut moves = Vec::new();
        for change in &look.files {
            let found = state(self, &change.path);
            match sweep(self, &change.path).and(found) {
                Ok(found) if shows(found.as_ref(), change.after.as_ref()) => {}
                Ok(found) if shows(found.as_ref(), change.before.as_ref()) => {
                    moves.push(Move { path: &change.path, from: found, to: change.after.as_ref() });
                }
                Ok(found) => {
                    let how = shown_difference(found.as_ref(), change.before.as_ref());
                    problems.add(&change.path, format!("{how} since orch looked at it"));
                }
                Err(why) => problems.add(&change.path, why),
            }
        }
        let hint = "nothing was written; `orch pipeline resume` checks the files again";
        problems.end(Class::PathRefused, "the files can't be written", hint)?;
        Ok(moves)
    }
}

/// Checks the paths again: a record may have been edited, or come from elsewhere.
pub(super) fn acceptable(look: &ChangeSet) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let files = look.files.iter().map(|change| change.path.as_str());
    for path in files.chain(look.new_folders.iter().map(String::as_str)) {
        if let Some(why) = refused(path) {
            problems.add(path, why);
        }
    }
    problems.end(Class::PathRefused, "the record of the files can't be used", "nothing was written; run the step anew")
}

fn summary(change: &FileChange) -> AppliedFile {
    let digest = |state: &Option<FileState>| state.as_ref().map(|state| state.content.digest());
    let text = |state: &Option<FileState>| match state {
        Some(state) => state.content.text().map(str::to_owned),
        None => Some(String::new()),
    };
    let (added, removed) = match (text(&change.before), text(&change.after)) {
        (Some(before), Some(after)) => counts(&before, &after),
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
    use crate::files::{FileEntry, Reserved};

    fn entry(path: &str, content: Option<&str>) -> FileEntry {
        FileEntry { path: path.to_owned(), content: content.map(str::to_owned), mode: None }
    }

    /// A changed, a created, a deleted and another changed file.
    fn four(folder: &Path) -> (Tree, ChangeSet) {
        for path in ["a", "c", "d"] {
            std::fs::write(folder.join(path), path).unwrap();
        }
        let tree = Tree::open(folder).unwrap();
        let entries =
            [entry("a", Some("new")), entry("sub/deep/b", Some("new")), entry("c", None), entry("d", Some("new"))];
        let look = tree.look(&entries, Reserved::default()).unwrap();
        (tree, look)
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_put_in_the_place_of_a_file_meanwhile_rolls_everything_back() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, look) = four(folder.path());
        let place = folder.path().join("sub/deep/b");
        let failure = tree
            .apply_between(&look, &mut |index| {
                if index == 1 {
                    assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"new");
                    std::fs::create_dir(&place).unwrap();
                }
            })
            .unwrap_err();
        assert_eq!(failure.class, Class::PathRefused);
        assert!(failure.message.contains("`sub/deep/b` is a folder"), "{failure}");
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"a");
        assert!(place.is_dir(), "what somebody else made is left");
        assert_eq!(names(folder.path()), ["a", "c", "d", "sub"]);
        assert_eq!(names(&folder.path().join("sub/deep")), ["b"]);
    }

    #[test]
    fn an_edit_before_the_last_swap_takes_back_writes_folders_and_deletes() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, look) = four(folder.path());
        let failure = tree
            .apply_between(&look, &mut |index| {
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
    fn an_edit_of_a_file_already_swapped_is_left_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, look) = four(folder.path());
        let failure = tree
            .apply_between(&look, &mut |index| {
                if index == 3 {
                    std::fs::write(folder.path().join("a"), "mine").unwrap();
                    std::fs::remove_file(folder.path().join("d")).unwrap();
                }
            })
            .unwrap_err();
        assert!(failure.message.contains("not put back: `a`"), "{failure}");
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"mine");
        assert_eq!(names(folder.path()), ["a", "c"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_swapped_for_a_link_meanwhile_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("deep")).unwrap();
        let (tree, look) = four(folder.path());
        let failure = tree
            .apply_between(&look, &mut |index| {
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
    fn a_run_that_died_between_two_swaps_goes_on_by_applying_again() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, look) = four(folder.path());
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tree.apply_between(&look, &mut |index| assert!(index < 2, "died")).ok();
        }));
        assert!(died.is_err());
        assert!(names(folder.path()).iter().any(|name| name.starts_with(".orch-tmp-")), "a crash leaves files");
        let applied = tree.apply(&look).unwrap();
        assert_eq!(applied.touched, 2);
        assert_eq!(names(folder.path()), ["a", "d", "sub"]);
        assert_eq!(std::fs::read(folder.path().join("sub/deep/b")).unwrap(), b"new");
    }

    #[test]
    fn a_record_with_a_path_that_leaves_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let look: ChangeSet =
            serde_json::from_str(r#"{"files":[{"path":"../x","after":{"content":{"text":"x"}}}]}"#).unwrap();
        assert_eq!(tree.apply(&look).unwrap_err().class, Class::PathRefused);
        assert_eq!(tree.revert(&look, true).unwrap_err().class, Class::PathRefused);
        let look: ChangeSet = serde_json::from_str(r#"{"new_folders":["a/../.."]}"#).unwrap();
        assert_eq!(tree.revert(&look, true).unwrap_err().class, Class::PathRefused);
    }
}
