//! The changes of a program in the workspace: the difference between two snapshots of its files.
//!
//! The difference is a [`ChangeSet`], as for steps that write files, so orch can show and revert it in the same way.
//! The workspace needs no version control. Snapshots exclude `.git`, dependencies, build output and orch's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::folder::open_file;
use crate::model::{AgentActivity, LeftOutReason, SETTINGS_PLACEHOLDER};

use super::record::{ChangeKind, ChangeSet, Content, FileChange, FileState};

/// The maximum number of files in a snapshot.
const MAX_FILES: usize = 50_000;
/// The maximum number of changed files that orch reports.
const MAX_CHANGES: usize = 1000;
/// The size of the largest file whose content a snapshot includes, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The maximum size of all file contents in a snapshot, in bytes.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// Folders that snapshots exclude: version control, dependencies and build output.
const EXCLUDED_FOLDERS: &[&str] = &[".git", "node_modules", "target"];
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
}

/// One file of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct SnapshotFile {
    /// The size in bytes, and the modification time in nanoseconds since 1970 (negative for an earlier time).
    size_and_time: (u64, Option<i128>),
    content: SnapshotContent,
}

/// What a snapshot contains of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SnapshotContent {
    /// The content and the mode.
    Read(FileState),
    /// Only the name.
    LeftOut(LeftOutReason),
}

impl SnapshotFile {
    /// The content and the mode, if the snapshot contains them.
    fn state(&self) -> Option<&FileState> {
        match &self.content {
            SnapshotContent::Read(state) => Some(state),
            SnapshotContent::LeftOut(_) => None,
        }
    }

    /// Whether the file is the same in two snapshots. Without the content, its size and time decide: whether a file
    /// exceeds the limit of all contents depends on the other files.
    fn is_same(&self, other: &Self) -> bool {
        let may_compare_times = match (&self.content, &other.content) {
            (SnapshotContent::Read(state), SnapshotContent::Read(other_state)) => state == other_state,
            (SnapshotContent::LeftOut(_), SnapshotContent::LeftOut(_)) => true,
            (SnapshotContent::LeftOut(reason), SnapshotContent::Read(_))
            | (SnapshotContent::Read(_), SnapshotContent::LeftOut(reason)) => {
                *reason == LeftOutReason::WorkspaceTooLarge
            }
        };
        may_compare_times && self.size_and_time == other.size_and_time
    }
}

impl FileSnapshot {
    /// Takes a snapshot of a folder without the files in `excluded`. The snapshot is partial if a folder can't be read
    /// or there are too many files.
    pub fn from_folder(folder: &Path, excluded: &[String]) -> Self {
        let mut snapshot = Self::default();
        snapshot.walk(folder, folder);
        snapshot.files.retain(|path, _| !excluded.contains(path));
        snapshot
    }

    /// Adds the contents of a folder and its subfolders.
    fn walk(&mut self, folder: &Path, root: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            self.partial = true;
            return;
        };
        for entry in entries {
            let (path, metadata) = match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
                Ok(entry) => entry,
                // Another process removed the file after the folder was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(_) => {
                    self.partial = true;
                    continue;
                }
            };
            if self.files.len() >= MAX_FILES {
                self.partial = true;
                return;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(relative) = path.strip_prefix(root) else { continue };
            let relative = relative.components().map(|component| component.as_os_str().to_string_lossy());
            let relative = relative.collect::<Vec<_>>().join("/");
            if name.starts_with(ORCH_PREFIX) {
                continue;
            }
            if !metadata.is_dir() {
                let Some(content) = self.read_content(&path, &metadata) else { continue };
                if matches!(&content, SnapshotContent::Read(state) if is_placeholder(&name, state)) {
                    continue;
                }
                let modified = metadata.modified().ok().map(unix_nanoseconds);
                self.files.insert(relative, SnapshotFile { size_and_time: (metadata.len(), modified), content });
            } else if !EXCLUDED_FOLDERS.contains(&name.as_str()) {
                self.folders.insert(relative);
                self.walk(&path, root);
            }
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
        let mut change_set = ChangeSet::default();
        for path in paths {
            let (old, new) = (self.files.get(path), after.files.get(path));
            if old.zip(new).is_some_and(|(old, new)| old.is_same(new)) {
                continue;
            }
            let state = |file: Option<&SnapshotFile>| file.and_then(SnapshotFile::state).cloned();
            let change = FileChange { path: path.clone(), before: state(old), after: state(new) };
            let unknown = after.unknown_state_reason(new).or_else(|| self.unknown_state_reason(old));
            if unknown.is_none() && change.kind() == ChangeKind::Unchanged {
                continue;
            }
            if activity.changed.len() >= MAX_CHANGES {
                activity.partial = true;
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

/// The nanoseconds since 1970; negative for an earlier time.
fn unix_nanoseconds(time: SystemTime) -> i128 {
    let nanoseconds = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|error| -nanoseconds(error.duration()), nanoseconds)
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
        after.walk(folder.path(), folder.path());
        assert!(before.difference(&after).is_empty() && after.difference(&before).is_empty());
        std::fs::write(folder.path().join("same"), "22").unwrap();
        let mut after = FileSnapshot { bytes: MAX_TOTAL_BYTES, ..FileSnapshot::default() };
        after.walk(folder.path(), folder.path());
        assert_eq!(before.difference(&after).left_out_reasons["same"], LeftOutReason::WorkspaceTooLarge);
    }
}
