//! The changes of a program in the workspace: the difference between two snapshots of its files.
//!
//! The difference is a [`ChangeSet`], as for steps that write files, so orch can show and revert it in the same way.
//! The workspace needs no version control. Snapshots exclude `.git`, dependencies, build output and orch's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::folder::open_file;
use crate::model::{AgentActivity, SETTINGS_PLACEHOLDER};

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
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SnapshotFile {
    /// The size in bytes, and the modification time in nanoseconds since 1970 (negative for an earlier time).
    size_and_time: (u64, Option<i128>),
    /// The content and the mode; `None` if the file is too large or is not a regular file.
    state: Option<FileState>,
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
            let Ok((path, metadata)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
                self.partial = true;
                continue;
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
                let state = self.read_state(&path, &metadata);
                if state.as_ref().is_some_and(|state| is_placeholder(&name, state)) {
                    continue;
                }
                let modified = metadata.modified().ok().map(unix_nanoseconds);
                self.files.insert(relative, SnapshotFile { size_and_time: (metadata.len(), modified), state });
            } else if !EXCLUDED_FOLDERS.contains(&name.as_str()) {
                self.folders.insert(relative);
                self.walk(&path, root);
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
        let mut change_set = ChangeSet::default();
        for path in paths {
            let (old, new) = (self.files.get(path), after.files.get(path));
            if old == new {
                continue;
            }
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
            if activity.changed.len() >= MAX_CHANGES {
                activity.partial = true;
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
        assert_eq!((activity.left_out, activity.files, activity.partial), (vec!["new".to_owned()], None, true));
    }
}
