//! The changes of a program in the workspace: the difference between two snapshots of its files.
//!
//! The difference is a [`ChangeSet`], as for steps that write files, so orch can show and revert it in the same way.
//! The workspace needs no version control. Snapshots exclude `.git`, dependencies, build output and orch's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirEntry, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::folder::open_file;
use crate::model::AgentActivity;

use super::record::{ChangeKind, ChangeSet, Content, FileChange, FileState};

/// The maximum number of files in a snapshot.
const MAX_FILES: usize = 50_000;
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
/// The prefix of the names of orch's own files.
const ORCH_PREFIX: &str = ".orch";

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

/// One file of a snapshot.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SnapshotFile {
    /// The size in bytes, and the modification time in nanoseconds since 1970 (negative for an earlier time).
    size_and_time: (u64, Option<i128>),
    /// On Unix, the time of the last change of the content or the metadata, which no program can set.
    #[serde(default)]
    change_time: Option<i128>,
    /// The content and the mode; `None` if the file is too large or is not a regular file.
    state: Option<FileState>,
}

impl SnapshotFile {
    /// Whether the sizes and the times of two states are the same, as far as the system knows them.
    fn has_same_stamp(&self, other: &Self) -> bool {
        let change_times = self.change_time.zip(other.change_time);
        self.size_and_time == other.size_and_time && change_times.is_none_or(|(old, new)| old == new)
    }
}

impl FileSnapshot {
    /// Takes a snapshot of a folder without the files in `excluded`. The snapshot is partial if a folder can't be read
    /// or there are too many files.
    pub fn from_folder(folder: &Path, excluded: &[String]) -> Self {
        Self::with_max_files(folder, excluded, MAX_FILES)
    }

    fn with_max_files(folder: &Path, excluded: &[String], max_files: usize) -> Self {
        let mut snapshot = Self::default();
        snapshot.walk(folder, folder, max_files);
        snapshot.files.retain(|path, _| !excluded.contains(path));
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
        } else if error.kind() != io::ErrorKind::NotFound {
            self.add_reason(format!("`{}` can't be read ({error})", relative_name(path, root)));
        }
    }

    /// Adds the contents of a folder and its subfolders, in the order of their names, so that two snapshots that reach
    /// the limit contain mostly the same files.
    fn walk(&mut self, folder: &Path, root: &Path, max_files: usize) {
        let found = match std::fs::read_dir(folder) {
            Ok(found) => found,
            Err(error) => return self.add_unreadable(folder, root, &error),
        };
        let mut entries: Vec<DirEntry> = Vec::new();
        for entry in found {
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => self.add_unreadable(folder, root, &error),
            }
        }
        entries.sort_by_cached_key(DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.add_unreadable(&path, root, &error);
                    continue;
                }
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(ORCH_PREFIX) || metadata.is_dir() && EXCLUDED_FOLDERS.contains(&name.as_str()) {
                continue;
            }
            if self.files.len() >= max_files {
                return self.add_reason(format!("orch compares at most {max_files} files of a workspace"));
            }
            let relative = relative_name(&path, root);
            if metadata.is_dir() {
                self.folders.insert(relative);
                self.walk(&path, root, max_files);
                continue;
            }
            let file = SnapshotFile {
                size_and_time: (metadata.len(), metadata.modified().ok().map(unix_nanoseconds)),
                change_time: change_time(&metadata),
                state: self.read_state(&path, &metadata),
            };
            if self.files.insert(relative.clone(), file).is_some() {
                self.add_reason(format!(
                    "several files have the name `{relative}` except for bytes that are not UTF-8"
                ));
            }
        }
    }

    /// Reads a file's content and mode. Returns `None` if the file can't be read, is not a regular file, or exceeds a
    /// size limit.
    fn read_state(&mut self, path: &Path, metadata: &Metadata) -> Option<FileState> {
        let size = metadata.len();
        if !metadata.is_file() || size > MAX_FILE_BYTES || self.bytes + size > MAX_TOTAL_BYTES {
            return None;
        }
        let mut content = Vec::new();
        // A process may have replaced the file with a link after orch listed it. `open_file` does not follow links.
        open_file(path).and_then(|mut file| file.read_to_end(&mut content)).ok()?;
        self.bytes += content.len() as u64;
        Some(FileState { content: Content::from(content), mode: permission_bits(metadata) })
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
            // A partial snapshot may lack a file that existed, so orch must not revert a change of such a file.
            let is_state_known = |file: Option<&SnapshotFile>, snapshot: &Self| {
                file.map_or(!snapshot.partial, |file| file.state.is_some())
            };
            let state = |file: Option<&SnapshotFile>| file.and_then(|file| file.state.clone());
            let change = FileChange { path: path.clone(), before: state(old), after: state(new) };
            let is_complete = is_state_known(old, self) && is_state_known(new, after);
            if is_complete && change.kind() == ChangeKind::Unchanged {
                continue;
            }
            // Without both contents, the size and the times show whether the file changed.
            if let (false, Some(old), Some(new)) = (is_complete, old, new)
                && old.has_same_stamp(new)
            {
                if old.size_and_time.1.is_none() {
                    activity.add_partial_reason(format!("orch knows only the size of `{path}`"));
                }
                continue;
            }
            if activity.changed.len() >= MAX_CHANGES {
                activity.add_partial_reason(format!("more than {MAX_CHANGES} files changed"));
                break;
            }
            activity.changed.push(path.clone());
            if is_complete && !is_foreign(path) {
                change_set.files.push(change);
            } else {
                activity.left_out.push(path.clone());
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

/// The path relative to the root, with `/`.
fn relative_name(path: &Path, root: &Path) -> String {
    let names = path.strip_prefix(root).unwrap_or(path).components();
    names.map(|name| name.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The nanoseconds since 1970; negative for an earlier time.
fn unix_nanoseconds(time: SystemTime) -> i128 {
    let nanoseconds = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|error| -nanoseconds(error.duration()), nanoseconds)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no such time")]
fn change_time(metadata: &Metadata) -> Option<i128> {
    use std::os::unix::fs::MetadataExt as _;
    Some(i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn change_time(_: &Metadata) -> Option<i128> {
    None
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

    fn snapshot_of(path: &str, file: SnapshotFile) -> FileSnapshot {
        FileSnapshot { files: BTreeMap::from([(path.to_owned(), file)]), ..FileSnapshot::default() }
    }

    #[test]
    fn a_snapshot_says_why_it_is_partial() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", ".orch-lock"] {
            std::fs::write(folder.path().join(name), "1").unwrap();
        }
        let snapshot = |max_files| FileSnapshot::with_max_files(folder.path(), &[], max_files);
        assert!(!snapshot(3).partial, "files that a snapshot excludes do not count");
        let reasons = |before: &FileSnapshot, after: &FileSnapshot| before.difference(after).partial_reasons;
        let limited = ["orch compares at most 2 files of a workspace"];
        assert_eq!(reasons(&snapshot(3), &snapshot(2)), limited);
        assert_eq!(reasons(&snapshot(2), &snapshot(2)), limited, "each reason once");
        let missing = FileSnapshot::from_folder(&folder.path().join("none"), &[]);
        let note = missing.difference(&missing).partial_note().unwrap();
        assert!(note.starts_with("orch could not compare everything: the workspace can't be read ("), "{note}");
        assert!(note.ends_with("; files may have changed"), "{note}");
    }

    #[test]
    fn a_file_without_recorded_contents_is_compared_by_its_size_and_times() {
        let file = |size, time, change_time| SnapshotFile { size_and_time: (size, time), change_time, state: None };
        let difference = |old, new| snapshot_of("big", old).difference(&snapshot_of("big", new));
        assert!(difference(file(9, Some(1), Some(1)), file(9, Some(1), Some(1))).is_empty());
        assert!(difference(file(9, Some(1), None), file(9, Some(1), Some(2))).is_empty(), "an older record");
        for new in [file(8, Some(1), Some(1)), file(9, Some(2), Some(1)), file(9, Some(1), Some(2))] {
            let activity = difference(file(9, Some(1), Some(1)), new);
            assert_eq!((activity.changed, activity.left_out), (vec!["big".to_owned()], vec!["big".to_owned()]));
        }
        let content = FileState { content: Content::from(b"123456789".to_vec()), mode: None };
        let read = SnapshotFile { state: Some(content), ..file(9, Some(1), Some(1)) };
        assert!(difference(read, file(9, Some(1), Some(1))).is_empty(), "only the limit of all contents was reached");
        let unknown = difference(file(9, None, None), file(9, None, None));
        assert_eq!(
            (unknown.changed.len(), unknown.partial_reasons),
            (0, vec!["orch knows only the size of `big`".to_owned()])
        );
    }

    #[test]
    fn changes_beyond_the_limit_are_not_forgotten() {
        let file = || SnapshotFile { size_and_time: (0, None), change_time: None, state: None };
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
        assert_eq!((activity.left_out, activity.files, activity.partial), (vec!["new".to_owned()], None, true));
    }
}
