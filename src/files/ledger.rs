//! Tracks the files that steps wrote into a workspace, to find those that differ from the record.

use indexmap::IndexMap;

use crate::model::{Digest, Failure, FailureClass};

use super::commit::read_state;
use super::problem::Problems;
use super::record::{ApplyReport, ChangeSet, FileChange, FileState};
use super::tree::{AccessError, Tree};

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
    /// Whether orch tracks the path. After [`FileLedger::forget`], it only keeps the contents, since a later change set
    /// may write the path again.
    is_tracked: bool,
}

/// A file that is not as the last change set left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingFile {
    /// The path relative to the workspace.
    pub path: String,
    /// How it differs.
    pub difference: FileDifference,
    /// The index of the change set that wrote it, from 0.
    pub change_set_index: usize,
}

/// How a file differs from its last recorded content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDifference {
    /// It is deleted.
    Deleted,
    /// It has an earlier content again.
    Reverted,
    /// It has content that the record does not contain.
    Edited,
    /// Another entry, such as a folder or a link, is in its place or on its path: the predicate of a sentence.
    Replaced(String),
    /// orch can't find out whether it differs, because of this error of the system.
    Unknown(String),
}

impl FileDifference {
    /// Whether the recorded content is certainly lost, without new content in its place.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Deleted | Self::Reverted | Self::Replaced(_) => true,
            Self::Edited | Self::Unknown(_) => false,
        }
    }
}

impl FileLedger {
    /// Records the files of a change set that was applied.
    pub fn record(&mut self, change_set: &ChangeSet) {
        for change in &change_set.files {
            let (before, after) = (digest(change.before.as_ref()), digest(change.after.as_ref()));
            let empty_history = PathHistory {
                change_set_index: self.change_set_count,
                last_digest: None,
                earlier_digests: Vec::new(),
                is_tracked: true,
            };
            let history = self.files.entry(change.path.clone()).or_insert(empty_history);
            (history.change_set_index, history.is_tracked) = (self.change_set_count, true);
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

    /// The files that differ from their last recorded contents, or that orch can't read, in the order in which orch first
    /// wrote them. Without a workspace, all files count as deleted.
    pub fn differing_files(&self, tree: Option<&Tree>) -> Vec<DifferingFile> {
        let tracked = self.files.iter().filter(|(_, history)| history.is_tracked);
        let differing = tracked.filter_map(|(path, history)| {
            let current = tree.map_or(Ok(None), |tree| read_state(tree, path));
            let difference = history.difference(current)?;
            Some(DifferingFile { path: path.clone(), difference, change_set_index: history.change_set_index })
        });
        differing.collect()
    }
}

impl PathHistory {
    /// How the state of the file on disk differs from the last recorded one; `None` if it does not.
    fn difference(&self, current: Result<Option<FileState>, AccessError>) -> Option<FileDifference> {
        let current = match current {
            Ok(state) => digest(state.as_ref()),
            // The record contains no content of this size.
            Err(AccessError::TooLarge) => return Some(FileDifference::Edited),
            // If the file should be absent, another entry may be in its place.
            Err(AccessError::Refused(reason)) => {
                return self.last_digest.as_ref().map(|_| FileDifference::Replaced(reason));
            }
            Err(AccessError::Io(_, error)) => return Some(FileDifference::Unknown(error.to_string())),
        };
        if current == self.last_digest {
            return None;
        }
        // A file that should exist but is missing is deleted, even if no change set recorded it as absent.
        Some(match &current {
            None => FileDifference::Deleted,
            Some(_) if self.earlier_digests.contains(&current) => FileDifference::Reverted,
            Some(_) => FileDifference::Edited,
        })
    }
}

/// The digest of the content of a file; `None` if the file is absent.
fn digest(state: Option<&FileState>) -> Option<Digest> {
    state.map(|state| state.content.digest())
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
    use super::FileDifference::{Deleted, Edited, Replaced, Reverted, Unknown};
    use super::*;
    use crate::files::{FileEntry, MAX_BYTES, ReservedFiles};

    fn write_file(tree: &Tree, ledger: &mut FileLedger, path: &str, content: Option<&str>) {
        let entry = FileEntry { path: path.to_owned(), content: content.map(str::to_owned), mode: None };
        let change_set = tree.prepare(&[entry], ReservedFiles::default()).unwrap();
        tree.apply(&change_set).unwrap();
        ledger.record(&change_set);
    }

    #[test]
    fn a_file_differs_in_that_it_is_deleted_reverted_edited_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file_path = |name: &str| folder.path().join(name);
        std::fs::write(file_path("old"), "0").unwrap();
        std::fs::write(file_path("removed"), "0").unwrap();
        let (tree, mut ledger) = (Tree::open(folder.path()).unwrap(), FileLedger::default());
        write_file(&tree, &mut ledger, "old", Some("1"));
        write_file(&tree, &mut ledger, "new", Some("1"));
        write_file(&tree, &mut ledger, "old", Some("2"));
        write_file(&tree, &mut ledger, "removed", None);
        let differing = |ledger: &FileLedger, tree: Option<&Tree>| -> Vec<(String, FileDifference, usize)> {
            let files = ledger.differing_files(tree).into_iter();
            files.map(|file| (file.path, file.difference, file.change_set_index)).collect()
        };
        let on_disk = |ledger: &FileLedger| differing(ledger, Some(&tree));
        let file = |path: &str, difference: FileDifference, index: usize| (path.to_owned(), difference, index);
        assert_eq!(on_disk(&ledger), []);
        for earlier_content in ["0", "1"] {
            std::fs::write(file_path("old"), earlier_content).unwrap();
            assert_eq!(on_disk(&ledger), [file("old", Reverted, 2)]);
        }
        std::fs::write(file_path("old"), "3").unwrap();
        std::fs::write(file_path("new"), "3").unwrap();
        assert_eq!(on_disk(&ledger), [file("old", Edited, 2), file("new", Edited, 1)]);
        assert!(!Edited.is_loss() && Deleted.is_loss() && Reverted.is_loss());
        std::fs::remove_file(file_path("new")).unwrap();
        std::fs::write(file_path("removed"), "0").unwrap();
        assert_eq!(on_disk(&ledger), [file("old", Edited, 2), file("new", Deleted, 1), file("removed", Reverted, 3)]);
        std::fs::remove_file(file_path("old")).unwrap();
        std::fs::create_dir(file_path("old")).unwrap();
        std::fs::remove_file(file_path("removed")).unwrap();
        std::fs::create_dir(file_path("removed")).unwrap();
        let replaced = Replaced("is a folder, not a file".to_owned());
        // The file that a step removed is still absent.
        assert_eq!(on_disk(&ledger), [file("old", replaced, 2), file("new", Deleted, 1)]);
        std::fs::remove_dir(file_path("removed")).unwrap();
        std::fs::remove_dir(file_path("old")).unwrap();
        ledger.forget("new");
        ledger.forget("removed");
        assert_eq!(on_disk(&ledger), [file("old", Deleted, 2)]);
        std::fs::write(file_path("old"), "2").unwrap();
        std::fs::write(file_path("removed"), "4").unwrap();
        write_file(&tree, &mut ledger, "removed", Some("5"));
        std::fs::write(file_path("removed"), "0").unwrap();
        assert_eq!(on_disk(&ledger), [file("removed", Reverted, 4)], "it has its first content again");
        ledger.forget("removed");
        assert_eq!(differing(&ledger, None), [file("old", Deleted, 2)]);
    }

    #[test]
    fn a_file_that_is_too_large_for_the_record_is_edited() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, mut ledger) = (Tree::open(folder.path()).unwrap(), FileLedger::default());
        write_file(&tree, &mut ledger, "large", Some("1"));
        // The file is sparse, so it takes no space.
        let file = std::fs::File::create(folder.path().join("large")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        let differing = ledger.differing_files(Some(&tree));
        assert_eq!(differing.into_iter().map(|file| file.difference).collect::<Vec<_>>(), [Edited]);
    }

    #[test]
    fn nothing_is_known_about_a_file_that_the_system_does_not_read() {
        let failed = || Err(AccessError::Io("read", std::io::ErrorKind::PermissionDenied.into()));
        let refused = || Err(AccessError::Refused("is a symbolic link".to_owned()));
        let history = |last_digest| PathHistory {
            change_set_index: 0,
            last_digest,
            earlier_digests: Vec::new(),
            is_tracked: true,
        };
        let (present, absent) = (history(Some(Digest::compute(b"1"))), history(None));
        let unknown = Unknown("permission denied".to_owned());
        assert!(!unknown.is_loss());
        assert_eq!((present.difference(failed()), absent.difference(failed())), (Some(unknown.clone()), Some(unknown)));
        let replaced = Replaced("is a symbolic link".to_owned());
        assert!(replaced.is_loss());
        assert_eq!((present.difference(refused()), absent.difference(refused())), (Some(replaced), None));
    }
}
