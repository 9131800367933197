//! Reads the files of a folder into a snapshot, within limits: an agent can create any number of files and folders.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::files::path::{LOCK_FILES, STATE_FOLDER};
use crate::files::snapshot_file::{SnapshotContent, SnapshotFile};
use crate::folder::is_temporary_name;
use crate::model::LeftOutReason;

use super::{EXCLUDED_FOLDERS, FileSnapshot, is_placeholder, relative_name};

/// The file in orch's state folder with the records of runs.
const JOURNAL_FILE: &str = "journal.db";

/// The maximum number of files and folders in a snapshot.
const MAX_ENTRIES: usize = 50_000;
/// The maximum size of all paths in a snapshot, in bytes.
const MAX_PATH_BYTES: usize = 16 << 20;

/// The limits of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotLimits {
    /// The maximum number of files and folders.
    pub(super) max_entries: usize,
    /// The maximum size of all paths, in bytes.
    pub(super) max_path_bytes: usize,
}

impl Default for SnapshotLimits {
    fn default() -> Self {
        Self { max_entries: MAX_ENTRIES, max_path_bytes: MAX_PATH_BYTES }
    }
}

impl FileSnapshot {
    /// Adds the contents of a folder and its subfolders, in the order of their names, so that two snapshots that reach
    /// a limit contain mostly the same files.
    pub(super) fn add_folder(&mut self, root: &Path, limits: SnapshotLimits) {
        SnapshotWalk { snapshot: self, root, limits, path_bytes: 0, temporary_files: Vec::new() }.walk();
    }
}

/// A folder with the names that the walk has not visited yet, in reverse order.
struct PendingFolder {
    path: PathBuf,
    names: Vec<OsString>,
}

/// A walk through a folder and its subfolders.
struct SnapshotWalk<'a> {
    snapshot: &'a mut FileSnapshot,
    root: &'a Path,
    limits: SnapshotLimits,
    /// The size of all paths in the snapshot, in bytes.
    path_bytes: usize,
    /// The files with names of orch's temporary files, with their paths in the snapshot.
    temporary_files: Vec<(PathBuf, String)>,
}

impl SnapshotWalk<'_> {
    fn walk(mut self) {
        self.visit_all();
        // orch keeps its own temporary files only for a moment.
        for (path, relative) in self.temporary_files {
            if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                self.snapshot.files.remove(&relative);
            }
        }
    }

    fn visit_all(&mut self) {
        let mut pending = Vec::new();
        self.push_folder(self.root.to_owned(), &mut pending);
        // A loop instead of a recursion, which many nested folders could make overflow the stack.
        while let Some(folder) = pending.last_mut() {
            let Some(name) = folder.names.pop() else {
                pending.pop();
                continue;
            };
            let path = folder.path.join(&name);
            let relative = relative_name(&path, self.root);
            if self.path_bytes + relative.len() > self.limits.max_path_bytes {
                let limit = self.limits.max_path_bytes;
                self.snapshot.add_reason(format!("orch compares at most {limit} bytes of paths of a workspace"));
                return;
            }
            if self.visit(&path, &name, relative) {
                self.push_folder(path, &mut pending);
            }
        }
    }

    /// Adds a file or folder. Returns whether it is a folder.
    fn visit(&mut self, path: &Path, name: &OsStr, relative: String) -> bool {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                self.snapshot.add_unreadable(path, self.root, &error);
                return false;
            }
        };
        let (length, text) = (relative.len(), name.to_string_lossy());
        if metadata.is_dir() && text == STATE_FOLDER && path.join(JOURNAL_FILE).is_file() {
            self.path_bytes += length;
            self.snapshot.files.insert(relative, SnapshotFile::state_folder());
            return false;
        }
        if metadata.is_dir() {
            self.path_bytes += length;
            self.snapshot.folders.insert(relative);
            return true;
        }
        let content = if metadata.is_file() && is_temporary_name(&text) {
            self.temporary_files.push((path.to_owned(), relative.clone()));
            Some(SnapshotContent::LeftOut(LeftOutReason::OwnFile))
        } else {
            self.snapshot.read_content(path, &metadata)
        };
        let Some(content) = content else { return false };
        if matches!(&content, SnapshotContent::Read(state) if is_placeholder(&text, state)) {
            return false;
        }
        self.path_bytes += length;
        let replaced = self.snapshot.files.insert(relative.clone(), SnapshotFile::new(&metadata, content));
        if replaced.is_some() {
            self.snapshot
                .add_reason(format!("several files have the name `{relative}` except for bytes that are not UTF-8"));
        }
        false
    }

    /// Adds a folder to those that the walk visits. The walk forgets the last names that can't fit in the snapshot.
    fn push_folder(&mut self, path: PathBuf, pending: &mut Vec<PendingFolder>) {
        let entry_count = self.snapshot.files.len() + self.snapshot.folders.len();
        let remaining = self.limits.max_entries.saturating_sub(entry_count);
        let names = self.first_names(&path, remaining);
        pending.push(PendingFolder { path, names });
        let mut excess = pending.iter().map(|folder| folder.names.len()).sum::<usize>().saturating_sub(remaining);
        if excess > 0 {
            let limit = self.limits.max_entries;
            self.snapshot.add_reason(format!("orch compares at most {limit} files and folders of a workspace"));
        }
        for folder in pending {
            excess -= folder.names.drain(..excess.min(folder.names.len())).len();
        }
    }

    /// The names in a folder that a snapshot includes, in reverse order; only the first ones if they are more than
    /// `count`, and then one name more.
    fn first_names(&mut self, folder: &Path, count: usize) -> Vec<OsString> {
        let found = match std::fs::read_dir(folder) {
            Ok(found) => found,
            Err(error) => {
                self.snapshot.add_unreadable(folder, self.root, &error);
                return Vec::new();
            }
        };
        let mut names = BTreeSet::new();
        for entry in found {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.snapshot.add_unreadable(folder, self.root, &error);
                    continue;
                }
            };
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let is_folder = || entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
            let is_lock = folder == self.root && LOCK_FILES.contains(&&*text) && is_file();
            if is_lock || EXCLUDED_FOLDERS.contains(&&*text) && is_folder() {
                continue;
            }
            names.insert(name);
            if names.len() > count + 1 {
                names.pop_last();
            }
        }
        names.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(folder: &Path, max_entries: usize, max_path_bytes: usize) -> FileSnapshot {
        let mut snapshot = FileSnapshot::default();
        snapshot.add_folder(folder, SnapshotLimits { max_entries, max_path_bytes });
        snapshot
    }

    fn entries(snapshot: &FileSnapshot) -> Vec<&str> {
        snapshot.folders.iter().chain(snapshot.files.keys()).map(String::as_str).collect()
    }

    #[test]
    fn folders_count_and_paths_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "d", ".git"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for path in ["a/b/x", "a/y", "z"] {
            std::fs::write(folder.path().join(path), "1").unwrap();
        }
        let whole = snapshot(folder.path(), 7, 19);
        assert_eq!(entries(&whole), ["a", "a/b", "a/b/c", "d", "a/b/x", "a/y", "z"]);
        assert!(!whole.partial && whole.reasons.is_empty());
        let limited = snapshot(folder.path(), 4, 100);
        assert_eq!(entries(&limited), ["a", "a/b", "a/b/c", "a/b/x"]);
        let reasons: Vec<&String> = limited.reasons.iter().collect();
        assert_eq!(reasons, ["orch compares at most 4 files and folders of a workspace"]);
        let limited = snapshot(folder.path(), 7, 9);
        assert_eq!(entries(&limited), ["a", "a/b", "a/b/c"]);
        let reasons: Vec<&String> = limited.reasons.iter().collect();
        assert_eq!((limited.partial, reasons.len()), (true, 1));
        assert_eq!(reasons[0], "orch compares at most 9 bytes of paths of a workspace");
    }

    #[test]
    fn only_the_own_files_of_orch_are_left_out_and_they_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let temporary = format!("src/{}", crate::folder::new_temporary_name());
        for path in [".orch/journal.db", ".orch.lock", ".orch.programs.lock"] {
            write(path, "1");
        }
        let before = FileSnapshot::from_folder(folder.path(), &[]);
        for path in [".orch/journal.db", ".orch/blobs/a", ".orch.lock", ".orch.programs.lock"] {
            write(path, "22");
        }
        let visible = [
            ".orch-foo/x",
            ".orchestra.txt",
            ".orchrc",
            "src/.orch",
            "src/.orch-tmp-d/mod.py",
            "src/.orch-tmp-x",
            "src/.orch.lock",
            "src2/.orch/f",
        ];
        for path in visible.iter().copied().chain([temporary.as_str(), "src3/.orch/journal.db"]) {
            write(path, "new");
        }
        let activity = before.difference(&FileSnapshot::from_folder(folder.path(), &[]));
        let mut left_out = activity.left_out;
        left_out.sort();
        assert_eq!(left_out, [temporary.as_str(), "src3/.orch"]);
        let reasons: Vec<LeftOutReason> = activity.left_out_reasons.into_values().collect();
        assert_eq!(reasons, [LeftOutReason::OwnFile; 2]);
        let mut recorded = activity.changed;
        recorded.retain(|path| !left_out.contains(path));
        assert_eq!((recorded, activity.partial), (visible.map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn of_a_large_folder_only_the_first_names_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(folder.path().join(format!("{number:03}")), "1").unwrap();
        }
        let mut first = FileSnapshot::default();
        let mut walk = SnapshotWalk {
            snapshot: &mut first,
            root: folder.path(),
            limits: SnapshotLimits::default(),
            path_bytes: 0,
            temporary_files: Vec::new(),
        };
        let names = walk.first_names(folder.path(), 2);
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        assert_eq!(names, ["002", "001", "000"]);
        assert_eq!(entries(&snapshot(folder.path(), 2, 100)), ["000", "001"]);
    }

    #[test]
    fn many_nested_folders_do_not_overflow_the_stack() {
        let folder = tempfile::tempdir().unwrap();
        let (path, depth) = (folder.path().to_owned(), 500);
        std::fs::create_dir_all(path.join("a/".repeat(depth))).unwrap();
        let read = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let snapshot = snapshot(&path, 2 * depth, 1 << 20);
            (snapshot.folders.len(), snapshot.partial)
        });
        assert_eq!(read.unwrap().join().unwrap(), (depth, false));
    }
}
