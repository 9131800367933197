//! What a program changed in the workspace: two listings, and how they differ.
//!
//! Compares sizes and times, not contents: it must be cheap. Refuses to know version control,
//! but leaves out its folder and our own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::model::Work;

/// Files that are looked at, at most.
const MOST_FILES: usize = 50_000;
/// Changed files that are told, at most.
const MOST_TOLD: usize = 1000;
/// Folders whose contents are nobody's work.
const LEFT_OUT: &[&str] = &[".git", ".orch", "node_modules", "target"];

/// The files of a folder as they are: path to size and time.
#[derive(Debug, Default)]
pub(super) struct Listing {
    files: BTreeMap<String, (u64, Option<SystemTime>)>,
    partial: bool,
}

impl Listing {
    /// Lists a folder; what can't be read is left out and makes the listing partial.
    pub(super) fn of(folder: &Path) -> Self {
        let mut listing = Self::default();
        listing.walk(folder, folder);
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
            if data.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !LEFT_OUT.contains(&name.as_ref()) {
                    self.walk(&path, root);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                self.files.insert(relative.to_string_lossy().into_owned(), (data.len(), data.modified().ok()));
            }
        }
    }

    /// Files that are new, gone or different in `after`.
    pub(super) fn difference(&self, after: &Self) -> Work {
        let gone = self.files.keys().filter(|path| !after.files.contains_key(*path));
        let other = after.files.iter().filter(|(path, stamp)| self.files.get(*path) != Some(stamp));
        let mut changed: Vec<String> = gone.chain(other.map(|(path, _)| path)).cloned().collect();
        changed.sort();
        let partial = self.partial || after.partial || changed.len() > MOST_TOLD;
        changed.truncate(MOST_TOLD);
        Work { changed, partial, denied: Vec::new() }
    }
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
        let before = Listing::of(folder.path());
        write("sub/changed", "22");
        write("new", "1");
        write(".git/index", "22");
        std::fs::remove_file(folder.path().join("gone")).unwrap();
        let work = before.difference(&Listing::of(folder.path()));
        assert_eq!(work.changed, ["gone", "new", "sub/changed"]);
        assert!(!work.partial);
    }
}
