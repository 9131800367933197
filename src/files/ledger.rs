//! Tracks the files that steps wrote into a workspace, to find files that were edited, deleted or reverted since.

use indexmap::IndexMap;

use crate::model::{Digest, Failure, FailureClass};

use super::commit::read_state;
use super::problem::Problems;
use super::record::{ApplyReport, ChangeSet, FileChange, FileState};
use super::tree::Tree;

/// The files that change sets wrote, with the digests of their contents.
#[derive(Clone, Debug, Default)]
pub struct FileLedger {
    files: IndexMap<String, PathHistory>,
    change_set_count: usize,
}

/// The known contents of a path.
#[derive(Clone, Debug)]
struct PathHistory {
    /// The index of the last change set with this path.
    change_set_index: usize,
    /// The content after that change set; `None` if the file was absent.
    last_digest: Option<Digest>,
    /// The earlier contents; `None` if the file was absent.
    earlier_digests: Vec<Option<Digest>>,
    /// Whether a program that may change files has run after that change set.
    program_ran_since: bool,
    /// Whether orch tracks the path. After [`FileLedger::forget`], it only keeps the contents, since a later change set
    /// may write the path again.
    is_tracked: bool,
}

/// A file that was deleted or reverted after orch wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalReversion {
    /// The path relative to the workspace.
    pub path: String,
    /// Whether the file is deleted. Otherwise it has an earlier content again.
    pub is_deleted: bool,
    /// The index of the change set that wrote it, from 0.
    pub change_set_index: usize,
}

impl FileLedger {
    /// Records the files of a change set that was applied.
    pub fn record(&mut self, change_set: &ChangeSet) {
        let digest = |state: &Option<FileState>| state.as_ref().map(|state| state.content.digest());
        for change in &change_set.files {
            let (before, after) = (digest(&change.before), digest(&change.after));
            let empty_history = PathHistory {
                change_set_index: self.change_set_count,
                last_digest: None,
                earlier_digests: Vec::new(),
                program_ran_since: false,
                is_tracked: true,
            };
            let history = self.files.entry(change.path.clone()).or_insert(empty_history);
            (history.change_set_index, history.program_ran_since) = (self.change_set_count, false);
            history.is_tracked = true;
            let previous = std::mem::replace(&mut history.last_digest, after);
            for digest in [previous, before] {
                if !history.earlier_digests.contains(&digest) {
                    history.earlier_digests.push(digest);
                }
            }
        }
        self.change_set_count += 1;
    }

    /// Stops tracking a file until a step writes it again.
    pub fn forget(&mut self, path: &str) {
        if let Some(history) = self.files.get_mut(path) {
            history.is_tracked = false;
        }
    }

    /// Records that a program that may change files has run. A later change of a recorded file then does not count as
    /// an edit by the user.
    pub fn mark_external(&mut self) {
        self.files.values_mut().for_each(|history| history.program_ran_since = true);
    }

    /// The files that the user edited, each with the index of the change set that wrote it. Omits files that a program
    /// may have changed instead.
    pub fn user_edits(&self, tree: &Tree) -> Vec<(String, usize)> {
        let find_edit = |(path, history): (&String, &PathHistory)| {
            let current = Some(read_state(tree, path).ok()??.content.digest());
            let is_edited = current != history.last_digest
                && !history.earlier_digests.contains(&current)
                && !history.program_ran_since;
            is_edited.then(|| (path.clone(), history.change_set_index))
        };
        self.tracked_files().filter_map(find_edit).collect()
    }

    /// The files whose contents can't be compared, each with the reason, as the predicate of a sentence, and the index of
    /// the change set that wrote it.
    pub fn incomparable_files(&self, tree: &Tree) -> Vec<(String, String, usize)> {
        let find_error = |(path, history): (&String, &PathHistory)| {
            let error = read_state(tree, path).err()?;
            Some((path.clone(), error.to_string(), history.change_set_index))
        };
        self.tracked_files().filter_map(find_error).collect()
    }

    /// The files that are deleted or have an earlier content, in the order in which orch first wrote them. Without a
    /// workspace, all files count as deleted. Omits a file that can't be read, since its content is unknown
    /// ([`FileLedger::incomparable_files`]).
    pub fn reverted_files(&self, tree: Option<&Tree>) -> Vec<ExternalReversion> {
        let find_reversion = |(path, history): (&String, &PathHistory)| {
            let current = match tree {
                Some(tree) => read_state(tree, path).ok()?.map(|state| state.content.digest()),
                None => None,
            };
            // A file that should exist but is missing counts as reverted, even if no change set recorded it as absent.
            let is_reverted =
                current != history.last_digest && (current.is_none() || history.earlier_digests.contains(&current));
            is_reverted.then(|| ExternalReversion {
                path: path.clone(),
                is_deleted: current.is_none(),
                change_set_index: history.change_set_index,
            })
        };
        self.tracked_files().filter_map(find_reversion).collect()
    }

    fn tracked_files(&self) -> impl Iterator<Item = (&String, &PathHistory)> {
        self.files.iter().filter(|(_, history)| history.is_tracked)
    }
}

impl Tree {
    /// Replaces files by their target states, all or none, without comparing their current contents with a record.
    /// `None` deletes the file.
    pub fn restore(&self, targets: impl Iterator<Item = (String, Option<FileState>)>) -> Result<ApplyReport, Failure> {
        let (mut change_set, mut problems) = (ChangeSet::default(), Problems::default());
        for (path, after) in targets {
            match read_state(self, &path) {
                Ok(before) => change_set.files.push(FileChange { path, before, after }),
                Err(error) => problems.add_for_path(&path, error),
            }
        }
        let hint = "nothing was written; remove the conflicting files";
        problems.into_result(FailureClass::PathRefused, "the files can't be written", hint)?;
        self.apply(&change_set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileEntry, ReservedFiles};

    fn write_file(tree: &Tree, ledger: &mut FileLedger, path: &str, content: Option<&str>) {
        let entry = FileEntry { path: path.to_owned(), content: content.map(str::to_owned), mode: None };
        let change_set = tree.prepare(&[entry], ReservedFiles::default()).unwrap();
        tree.apply(&change_set).unwrap();
        ledger.record(&change_set);
    }

    #[test]
    fn deleted_and_reverted_files_are_listed_apart_from_edited_files() {
        let folder = tempfile::tempdir().unwrap();
        let file_path = |name: &str| folder.path().join(name);
        std::fs::write(file_path("old"), "0").unwrap();
        std::fs::write(file_path("removed"), "0").unwrap();
        let (tree, mut ledger) = (Tree::open(folder.path()).unwrap(), FileLedger::default());
        write_file(&tree, &mut ledger, "old", Some("1"));
        write_file(&tree, &mut ledger, "new", Some("1"));
        write_file(&tree, &mut ledger, "old", Some("2"));
        write_file(&tree, &mut ledger, "removed", None);
        let reverted_files = |ledger: &FileLedger| -> Vec<(String, bool, usize)> {
            ledger
                .reverted_files(Some(&tree))
                .into_iter()
                .map(|file| (file.path, file.is_deleted, file.change_set_index))
                .collect()
        };
        assert_eq!(reverted_files(&ledger), []);
        for earlier_content in ["0", "1"] {
            std::fs::write(file_path("old"), earlier_content).unwrap();
            assert_eq!(reverted_files(&ledger), [("old".to_owned(), false, 2)]);
        }
        std::fs::write(file_path("old"), "3").unwrap();
        std::fs::write(file_path("new"), "3").unwrap();
        assert_eq!(reverted_files(&ledger), [], "the user edited both");
        assert_eq!(ledger.user_edits(&tree), [("old".to_owned(), 2), ("new".to_owned(), 1)]);
        std::fs::remove_file(file_path("new")).unwrap();
        std::fs::write(file_path("removed"), "0").unwrap();
        assert_eq!(reverted_files(&ledger), [("new".to_owned(), true, 1), ("removed".to_owned(), false, 3)]);
        assert_eq!(ledger.user_edits(&tree), [("old".to_owned(), 2)]);
        ledger.mark_external();
        assert_eq!(ledger.user_edits(&tree), [], "a program may have made the edits");
        assert_eq!(ledger.incomparable_files(&tree), []);
        std::fs::remove_file(file_path("old")).unwrap();
        std::fs::create_dir(file_path("old")).unwrap();
        let reason = "is a folder, not a file".to_owned();
        assert_eq!(ledger.incomparable_files(&tree), [("old".to_owned(), reason, 2)]);
        ledger.forget("new");
        ledger.forget("removed");
        assert_eq!(reverted_files(&ledger), []);
        std::fs::write(file_path("removed"), "4").unwrap();
        write_file(&tree, &mut ledger, "removed", Some("5"));
        std::fs::write(file_path("removed"), "0").unwrap();
        assert_eq!(reverted_files(&ledger), [("removed".to_owned(), false, 4)], "it has its first content again");
        ledger.forget("removed");
        let deleted_paths: Vec<String> = ledger.reverted_files(None).into_iter().map(|file| file.path).collect();
        assert_eq!(deleted_paths, ["old"]);
    }
}
