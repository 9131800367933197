//! What a CLI agent changed in the workspace: the difference between two snapshots of its files.
//!
//! The difference is a [`ChangeSet`], as for steps that write files, so that it can be shown and reverted in the same
//! way. Snapshots do not use version control; they leave out its folder and the files of orch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::files::{ChangeKind, ChangeSet, Content, FileChange, FileState};
use crate::folder::open_file;
use crate::model::AgentActivity;

/// How many files a snapshot has at most.
const MOST_FILES: usize = 50_000;
/// How many changed files are reported at most.
const MOST_TOLD: usize = 1000;
/// The largest file whose contents a snapshot has, in bytes.
const LARGEST: u64 = 1 << 20;
/// How much content a snapshot has at most, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Folders that snapshots leave out: version control, dependencies and build output.
const LEFT_OUT: &[&str] = &[".git", "node_modules", "target"];
/// The prefix of names that belong to orch.
const OURS: &str = ".orch";

/// A snapshot of the files in a folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FileSnapshot {
    files: BTreeMap<String, File>,
    folders: BTreeSet<String>,
    bytes: u64,
    partial: bool,
}

/// One file: its size, its modification time in nanoseconds since 1970 (negative before that), and its contents unless
/// it is too large or not a regular file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    stamp: (u64, Option<i128>),
    state: Option<FileState>,
}

impl FileSnapshot {
    /// Takes a snapshot of a folder, leaving out the files in `without`. Files that can't be read make the snapshot
    /// partial.
    pub(super) fn of(folder: &Path, without: &[String]) -> Self {
        let mut listing = Self::default();
        listing.walk(folder, folder);
        listing.files.retain(|path, _| !without.contains(path));
        listing
    }

    fn walk(&mut self, folder: &Path, root: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            self.partial = true;
            return;
        };
        for entry in entries {
            let Ok((path, data)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
                self.partial = true;
                continue;
            };
            if self.files.len() >= MOST_FILES {
                self.partial = true;
                return;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(relative) = path.strip_prefix(root) else { continue };
            let relative = relative.components().map(|part| part.as_os_str().to_string_lossy());
            let relative = relative.collect::<Vec<_>>().join("/");
            if name.starts_with(OURS) {
                continue;
            }
            if !data.is_dir() {
                let state = self.state(&path, &data);
                self.files.insert(relative, File { stamp: (data.len(), data.modified().ok().map(nanoseconds)), state });
            } else if !LEFT_OUT.contains(&name.as_str()) {
                self.folders.insert(relative);
                self.walk(&path, root);
            }
        }
    }

    fn state(&mut self, path: &Path, data: &Metadata) -> Option<FileState> {
        if !data.is_file() || data.len() > LARGEST || self.bytes + data.len() > MOST_BYTES {
            return None;
        }
        let mut content = Vec::new();
        // The file may have been replaced by a link since it was listed.
        open_file(path).and_then(|mut file| file.read_to_end(&mut content)).ok()?;
        self.bytes += content.len() as u64;
        Some(FileState { content: Content::from(content), mode: mode(data) })
    }

    /// The files that are new, removed or different in `after`.
    pub(super) fn difference(&self, after: &Self) -> AgentActivity {
        self.difference_without(after, &|_| false)
    }

    /// The same; files for which `is_foreign` is true are only named, since another process may have changed them.
    pub(super) fn difference_without(&self, after: &Self, is_foreign: &dyn Fn(&str) -> bool) -> AgentActivity {
        let paths: BTreeSet<&String> = self.files.keys().chain(after.files.keys()).collect();
        let mut work = AgentActivity { partial: self.partial || after.partial, ..AgentActivity::default() };
        let mut look = ChangeSet::default();
        for path in paths {
            let (was, is) = (self.files.get(path), after.files.get(path));
            if was == is {
                continue;
            }
            // A file that a partial snapshot lacks may have existed all the same, so it must not be reverted.
            let known = |file: Option<&File>, list: &Self| file.map_or(!list.partial, |file| file.state.is_some());
            let state = |file: Option<&File>| file.and_then(|file| file.state.clone());
            let change = FileChange { path: path.clone(), before: state(was), after: state(is) };
            let whole = known(was, self) && known(is, after);
            if whole && change.kind() == ChangeKind::Unchanged {
                continue;
            }
            if work.changed.len() >= MOST_TOLD {
                work.partial = true;
                break;
            }
            work.changed.push(path.clone());
            if whole && !is_foreign(path) { look.files.push(change) } else { work.left_out.push(path.clone()) }
        }
        let is_new = |folder: &&String| {
            let within = |path: &str| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
            !self.folders.contains(*folder) && look.files.iter().any(|change| within(&change.path))
        };
        look.new_folders = after.folders.iter().filter(is_new).cloned().collect();
        if !look.files.is_empty() {
            // A change set is plain data, so this conversion can't fail.
            work.files = serde_json::to_value(look).ok();
        }
        work
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    let count = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|error| -count(error.duration()), count)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
fn mode(data: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o7777)
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_and_removed_files_are_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in ["same", "sub/changed", "gone", ".git/index"] {
            write(name, "1");
        }
        let before = FileSnapshot::of(folder.path(), &["plan.json".to_owned()]);
        write("sub/changed", "22");
        write("new", "1");
        write("plan.json", "{}");
        write(".git/index", "22");
        std::fs::remove_file(folder.path().join("gone")).unwrap();
        let work = before.difference(&FileSnapshot::of(folder.path(), &["plan.json".to_owned()]));
        assert_eq!(work.changed, ["gone", "new", "sub/changed"]);
        assert!(!work.partial);
        let look: ChangeSet = serde_json::from_value(work.files.unwrap()).unwrap();
        let diff = crate::files::diff(&look);
        for part in ["--- a/gone\n+++ /dev/null", "--- /dev/null\n+++ b/new", "-1\n", "+22\n"] {
            assert!(diff.contains(part), "{part}: {diff}");
        }
    }

    #[test]
    fn what_a_partial_list_lacks_is_named_and_never_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("theirs"), "1").unwrap();
        let before = FileSnapshot { partial: true, ..FileSnapshot::default() };
        let work = before.difference(&FileSnapshot::of(folder.path(), &[]));
        assert_eq!((work.left_out, work.files, work.partial), (vec!["theirs".to_owned()], None, true));
    }
}
