//! What a program changed in the workspace: two listings with contents, and how they differ.
//!
//! The difference is the record of a look, as a step that writes files makes one, so that it can be
//! shown and taken back like those. Refuses to know version control, but leaves out its folder and our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::files::{ChangeKind, ChangeSet, Content, FileChange, FileState};
use crate::folder::open_file;
use crate::model::AgentActivity;

/// Files that are looked at, at most.
const MOST_FILES: usize = 50_000;
/// Changed files that are told, at most.
const MOST_TOLD: usize = 1000;
/// The largest file whose contents are kept, in bytes.
const LARGEST: u64 = 1 << 20;
/// Contents that are kept, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// Folders whose contents are nobody's work.
const LEFT_OUT: &[&str] = &[".git", "node_modules", "target"];
/// How what is ours begins.
const OURS: &str = ".orch";

/// The files of a folder as they are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct FileSnapshot {
    files: BTreeMap<String, File>,
    folders: BTreeSet<String>,
    bytes: u64,
    partial: bool,
}

/// One file: its size, its time in nanoseconds since 1970, which may be negative, and what is in it unless that is too much or it is no plain file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    stamp: (u64, Option<i128>),
    state: Option<FileState>,
}

impl FileSnapshot {
    /// Lists a folder without some files; what can't be read is left out and makes the listing partial.
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
        // What was a file when it was listed may be a link by now.
        open_file(path).and_then(|mut file| file.read_to_end(&mut content)).ok()?;
        self.bytes += content.len() as u64;
        Some(FileState { content: Content::from(content), mode: mode(data) })
    }

    /// Files that are new, gone or different in `after`.
    pub(super) fn difference(&self, after: &Self) -> AgentActivity {
        self.difference_without(after, &|_| false)
    }

    /// The same; files that another process may have changed are named without their contents.
    pub(super) fn difference_without(&self, after: &Self, is_foreign: &dyn Fn(&str) -> bool) -> AgentActivity {
        let paths: BTreeSet<&String> = self.files.keys().chain(after.files.keys()).collect();
        let mut work = AgentActivity { partial: self.partial || after.partial, ..AgentActivity::default() };
        let mut look = ChangeSet::default();
        for path in paths {
            let (was, is) = (self.files.get(path), after.files.get(path));
            if was == is {
                continue;
            }
            // What a partial list does not have may have been there all the same: it must not be taken back.
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
            // Plain data: it always is a value.
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
