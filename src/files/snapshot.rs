//! The changes of a program in the workspace: the difference between two snapshots of its files.
//!
//! The difference is a [`ChangeSet`], as for steps that write files, so orch can show and revert it in the same way.
//! The workspace needs no version control. Snapshots exclude `.git`, dependencies, build output and the lock files of orch.
//! Of a folder with records of runs and of the temporary files of orch, they contain only the names, so that a program
//! can't hide its own files there.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::Metadata;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::folder::open_file;
use crate::model::{AgentActivity, LeftOutReason, SETTINGS_PLACEHOLDER};

use super::record::{ChangeKind, ChangeSet, Content, FileChange, FileState};
use super::snapshot_file::{Comparison, SnapshotContent, SnapshotFile};
use walk::SnapshotLimits;

/// The maximum number of changed files that orch reports.
const MAX_CHANGES: usize = 1000;
/// The size of the largest file whose content a snapshot includes, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The maximum size of all file contents in a snapshot, in bytes.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// The maximum number of reasons for which a snapshot is partial.
const MAX_REASONS: usize = 20;
/// Folders that snapshots exclude: version control, dependencies and build output.
pub const EXCLUDED_FOLDERS: &[&str] = &[".git", "node_modules", "target"];

/// A snapshot of the files in a folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FileSnapshot {
    files: BTreeMap<String, SnapshotFile>,
    folders: BTreeSet<String>,
    /// The total size of the file contents, in bytes.
    bytes: u64,
    /// Whether files are missing in the snapshot, because orch could not read them or reached a limit.
    partial: bool,
    /// Why files are missing, as phrases.
    #[serde(default)]
    reasons: BTreeSet<String>,
}

impl FileSnapshot {
    /// Takes a snapshot of a folder without the files in `excluded`. The snapshot is partial if a folder can't be read
    /// or there are too many files and folders.
    pub fn from_folder(folder: &Path, excluded: &[String]) -> Self {
        Self::with_limits(folder, excluded, SnapshotLimits::default())
    }

    fn with_limits(folder: &Path, excluded: &[String], limits: SnapshotLimits) -> Self {
        let mut snapshot = Self::default();
        snapshot.add_folder(folder, limits);
        let excluded: HashSet<&str> = excluded.iter().map(String::as_str).collect();
        snapshot.files.retain(|path, _| !excluded.contains(path.as_str()));
        snapshot
    }

    /// Records why files are missing in the snapshot.
    fn add_reason(&mut self, reason: String) {
        self.partial = true;
        if self.reasons.len() < MAX_REASONS {
            self.reasons.insert(reason);
        }
    }

    /// Records that a folder or file can't be read. One that another process has removed just now is not missing.
    fn add_unreadable(&mut self, path: &Path, root: &Path, error: &io::Error) {
        if path == root {
            self.add_reason(format!("the workspace can't be read ({error})"));
        } else if error.kind() != ErrorKind::NotFound {
            self.add_reason(format!("`{}` can't be read ({error})", relative_name(path, root)));
        }
    }

    /// Reads a file's content and mode, or why the snapshot leaves them out. Returns `None` if the file no longer exists.
    fn read_content(&mut self, path: &Path, metadata: &Metadata) -> Option<SnapshotContent> {
        let size = metadata.len();
        let limit_reason = if !metadata.is_file() {
            Some(LeftOutReason::NotRegular)
        } else if size > MAX_FILE_BYTES {
            Some(LeftOutReason::TooLarge)
        } else {
            (self.bytes + size > MAX_TOTAL_BYTES).then_some(LeftOutReason::WorkspaceTooLarge)
        };
        if let Some(reason) = limit_reason {
            return Some(SnapshotContent::LeftOut(reason));
        }
        let mut content = Vec::new();
        // A process may have replaced the file with a link after orch listed it. `open_file` does not follow links.
        match open_file(path).and_then(|mut file| file.read_to_end(&mut content)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(_) => return Some(SnapshotContent::LeftOut(LeftOutReason::Unreadable)),
        }
        self.bytes += content.len() as u64;
        let mode = permission_bits(metadata);
        Some(SnapshotContent::Read(FileState { content: Content::from(content), mode }))
    }

    /// Why the state of the file at a path is unknown; `None` if it is known. `file` is the file at this path.
    fn unknown_state_reason(&self, file: Option<&SnapshotFile>) -> Option<LeftOutReason> {
        match file.map(|file| &file.content) {
            Some(SnapshotContent::Read(_)) => None,
            Some(SnapshotContent::LeftOut(reason)) => Some(*reason),
            // A partial snapshot may lack a file that existed, so orch must not revert a change of such a file.
            None => self.partial.then_some(LeftOutReason::IncompleteList),
        }
    }

    /// The changes from this snapshot to `after`: new, removed and different files.
    pub fn difference(&self, after: &Self) -> AgentActivity {
        self.difference_with_foreign(after, &|_| false)
    }

    /// Like [`FileSnapshot::difference`], but includes only the names of files for which `is_foreign` is true, since
    /// another process may have changed them.
    pub fn difference_with_foreign(&self, after: &Self, is_foreign: &dyn Fn(&str) -> bool) -> AgentActivity {
        let paths: BTreeSet<&String> = self.files.keys().chain(after.files.keys()).collect();
        let mut activity = AgentActivity { partial: self.partial || after.partial, ..AgentActivity::default() };
        self.reasons.union(&after.reasons).for_each(|reason| activity.add_partial_reason(reason.clone()));
        let mut change_set = ChangeSet::default();
        for path in paths {
            let (old, new) = (self.files.get(path), after.files.get(path));
            match old.zip(new).map(|(old, new)| old.compare(new)) {
                Some(Comparison::Same) => continue,
                Some(Comparison::SameSize) => {
                    activity.add_partial_reason(format!("orch knows only the size of `{path}`"));
                    continue;
                }
                Some(Comparison::Different) | None => {}
            }
            let state = |file: Option<&SnapshotFile>| file.and_then(SnapshotFile::state).cloned();
            let change = FileChange { path: path.clone(), before: state(old), after: state(new) };
            let unknown = after.unknown_state_reason(new).or_else(|| self.unknown_state_reason(old));
            if unknown.is_none() && change.kind() == ChangeKind::Unchanged {
                continue;
            }
            if activity.changed.len() >= MAX_CHANGES {
                activity.add_partial_reason(format!("more than {MAX_CHANGES} files changed"));
                break;
            }
            activity.changed.push(path.clone());
            match unknown.or_else(|| is_foreign(path).then_some(LeftOutReason::OtherProcess)) {
                None => change_set.files.push(change),
                Some(reason) => activity.leave_out(path.clone(), reason),
            }
        }
        let is_new = |folder: &&String| {
            let contains = |path: &str| path.strip_prefix(folder.as_str()).is_some_and(|name| name.starts_with('/'));
            !self.folders.contains(*folder) && change_set.files.iter().any(|change| contains(&change.path))
        };
        change_set.new_folders = after.folders.iter().filter(is_new).cloned().collect();
        if !change_set.files.is_empty() {
            // A change set is plain data, so this conversion can't fail.
            activity.files = serde_json::to_value(change_set).ok();
        }
        activity
    }
}

/// Whether a file is the placeholder for a missing `orch.yaml`, which orch itself creates and removes while a program of
/// another run uses the folder.
fn is_placeholder(name: &str, state: &FileState) -> bool {
    name == "orch.yaml" && state.content.bytes() == SETTINGS_PLACEHOLDER.as_bytes()
}

/// The path relative to the root, with `/`.
fn relative_name(path: &Path, root: &Path) -> String {
    let names = path.strip_prefix(root).unwrap_or(path).components();
    names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no permission bits")]
fn permission_bits(metadata: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777)
}

#[cfg(not(unix))]
fn permission_bits(_: &Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_contains_exactly_the_new_changed_and_removed_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in ["same", "sub/changed", "removed", ".git/index"] {
            write(name, "1");
        }
        let before = FileSnapshot::from_folder(folder.path(), &["plan.json".to_owned()]);
        write("sub/changed", "22");
        write("new", "1");
        write("plan.json", "{}");
        write(".git/index", "22");
        std::fs::remove_file(folder.path().join("removed")).unwrap();
        let activity = before.difference(&FileSnapshot::from_folder(folder.path(), &["plan.json".to_owned()]));
        assert_eq!(activity.changed, ["new", "removed", "sub/changed"]);
        assert!(!activity.partial);
        let change_set: ChangeSet = serde_json::from_value(activity.files.unwrap()).unwrap();
        let diff = crate::files::diff(&change_set);
        for line in ["--- a/removed\n+++ /dev/null", "--- /dev/null\n+++ b/new", "-1\n", "+22\n"] {
            assert!(diff.contains(line), "{line}: {diff}");
        }
    }

    #[test]
    fn a_placeholder_for_missing_settings_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let before = FileSnapshot::from_folder(folder.path(), &[]);
        std::fs::write(folder.path().join("orch.yaml"), SETTINGS_PLACEHOLDER).unwrap();
        let changed = || before.difference(&FileSnapshot::from_folder(folder.path(), &[])).changed;
        assert_eq!(changed(), Vec::<String>::new());
        std::fs::write(folder.path().join("orch.yaml"), "{}\n").unwrap();
        assert_eq!(changed(), ["orch.yaml"]);
    }

    fn snapshot_of(path: &str, file: SnapshotFile) -> FileSnapshot {
        FileSnapshot { files: BTreeMap::from([(path.to_owned(), file)]), ..FileSnapshot::default() }
    }

    fn left_out(size_and_time: (u64, Option<i128>), change_time: Option<i128>, reason: LeftOutReason) -> SnapshotFile {
        SnapshotFile { size_and_time, change_time, content: SnapshotContent::LeftOut(reason) }
    }

    #[test]
    fn a_snapshot_says_why_it_is_partial() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", ".orch.lock"] {
            std::fs::write(folder.path().join(name), "1").unwrap();
        }
        let snapshot = |max_entries| {
            let limits = SnapshotLimits { max_entries, ..SnapshotLimits::default() };
            FileSnapshot::with_limits(folder.path(), &[], limits)
        };
        assert!(!snapshot(3).partial, "files that a snapshot excludes do not count");
        let reasons = |before: &FileSnapshot, after: &FileSnapshot| before.difference(after).partial_reasons;
        let limited = ["orch compares at most 2 files and folders of a workspace"];
        assert_eq!(reasons(&snapshot(3), &snapshot(2)), limited);
        assert_eq!(reasons(&snapshot(2), &snapshot(2)), limited, "each reason once");
        let missing = FileSnapshot::from_folder(&folder.path().join("none"), &[]);
        let note = missing.difference(&missing).partial_note().unwrap();
        assert!(note.starts_with("orch could not compare everything: the workspace can't be read ("), "{note}");
        assert!(note.ends_with("; files may have changed"), "{note}");
    }

    #[test]
    fn a_file_without_recorded_contents_is_compared_by_its_size_and_times() {
        let file = |size, time, change_time| left_out((size, time), change_time, LeftOutReason::TooLarge);
        let difference = |old, new| snapshot_of("big", old).difference(&snapshot_of("big", new));
        assert!(difference(file(9, Some(1), Some(1)), file(9, Some(1), Some(1))).is_empty());
        assert!(difference(file(9, Some(1), None), file(9, Some(1), Some(2))).is_empty(), "an older record");
        for new in [file(8, Some(1), Some(1)), file(9, Some(2), Some(1)), file(9, Some(1), Some(2))] {
            let activity = difference(file(9, Some(1), Some(1)), new);
            assert_eq!((activity.changed, activity.left_out), (vec!["big".to_owned()], vec!["big".to_owned()]));
        }
        let state = FileState { content: Content::from(b"123456789".to_vec()), mode: None };
        let read = || SnapshotFile { content: SnapshotContent::Read(state.clone()), ..file(9, Some(1), Some(1)) };
        let beyond_limit = left_out((9, Some(1)), Some(1), LeftOutReason::WorkspaceTooLarge);
        assert!(difference(read(), beyond_limit).is_empty(), "only the limit of all contents was reached");
        let unreadable = left_out((9, Some(1)), Some(1), LeftOutReason::Unreadable);
        assert_eq!(difference(read(), unreadable).left_out_reasons["big"], LeftOutReason::Unreadable);
        let unknown = difference(file(9, None, None), file(9, None, None));
        assert_eq!(
            (unknown.changed.len(), unknown.partial_reasons),
            (0, vec!["orch knows only the size of `big`".to_owned()])
        );
    }

    #[test]
    fn changes_beyond_the_limit_are_not_forgotten() {
        let file = || left_out((0, None), None, LeftOutReason::TooLarge);
        let files = (0..=MAX_CHANGES).map(|number| (format!("{number:04}"), file())).collect();
        let after = FileSnapshot { files, ..FileSnapshot::default() };
        let activity = FileSnapshot::default().difference(&after);
        assert_eq!(activity.changed.len(), MAX_CHANGES);
        assert_eq!(activity.partial_reasons, ["more than 1000 files changed"]);
    }

    #[test]
    fn a_file_that_a_partial_snapshot_lacks_is_named_and_never_reverted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("new"), "1").unwrap();
        let before = FileSnapshot { partial: true, ..FileSnapshot::default() };
        let activity = before.difference(&FileSnapshot::from_folder(folder.path(), &[]));
        assert_eq!(activity.left_out_reasons["new"], LeftOutReason::IncompleteList);
        assert_eq!((activity.left_out, activity.files, activity.partial), (vec!["new".to_owned()], None, true));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_content_has_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let before = FileSnapshot::from_folder(folder.path(), &[]);
        std::fs::write(folder.path().join("large"), vec![b'x'; 1 + usize::try_from(MAX_FILE_BYTES).unwrap()]).unwrap();
        std::os::unix::fs::symlink("large", folder.path().join("link")).unwrap();
        let activity = before.difference(&FileSnapshot::from_folder(folder.path(), &[]));
        assert_eq!((&activity.changed, &activity.files), (&activity.left_out, &None));
        let reasons: Vec<(String, LeftOutReason)> = activity.left_out_reasons.into_iter().collect();
        let expected = [("large", LeftOutReason::TooLarge), ("link", LeftOutReason::NotRegular)];
        assert_eq!(reasons, expected.map(|(path, reason)| (path.to_owned(), reason)));
    }

    #[test]
    fn an_unchanged_file_is_not_listed_if_the_other_files_leave_no_space_for_its_content() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("same"), "1").unwrap();
        let before = FileSnapshot::from_folder(folder.path(), &[]);
        let mut after = FileSnapshot { bytes: MAX_TOTAL_BYTES, ..FileSnapshot::default() };
        after.add_folder(folder.path(), SnapshotLimits::default());
        assert!(before.difference(&after).is_empty() && after.difference(&before).is_empty());
        std::fs::write(folder.path().join("same"), "22").unwrap();
        let mut after = FileSnapshot { bytes: MAX_TOTAL_BYTES, ..FileSnapshot::default() };
        after.add_folder(folder.path(), SnapshotLimits::default());
        assert_eq!(before.difference(&after).left_out_reasons["same"], LeftOutReason::WorkspaceTooLarge);
    }
}
