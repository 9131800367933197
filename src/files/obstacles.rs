//! The entries in the place of a file that a revert restores: a program may have replaced a file by a folder, a folder
//! by a file, or a folder by a symbolic link.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use crate::model::{Failure, FailureClass};

use super::commit::{FileUpdate, commit};
use super::problem::{Problems, escaped_path};
use super::reader::{FolderEntryKind, kind_of};
use super::tree::{AccessError, Tree, ancestors_of, cannot_be, metadata, name_of};

/// The maximum number of entries of a folder in the place of a file.
const MAX_ENTRIES: usize = 50_000;

/// The entries in the place of a file, or in the place of a folder that contains it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Obstacles {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    /// The folder in the place of the file itself.
    top_folder: Option<String>,
    links: BTreeSet<String>,
    /// Whether there are entries that orch never removes, such as pipes, or too many entries.
    has_others: bool,
}

impl Obstacles {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.folders.is_empty() && self.links.is_empty() && !self.has_others
    }

    /// Whether a file is in the place.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.files.contains(path)
    }

    /// Whether a link is in the place.
    pub(super) fn has_link(&self, path: &str) -> bool {
        self.links.contains(path)
    }

    /// Whether a revert may remove the entries: it removes the files in `removed` anyway, a folder only if it is one of
    /// the new folders of the record, and a link only if the program made it.
    pub(super) fn are_removable(
        &self,
        removed: &HashSet<&str>,
        new_folders: &HashSet<&str>,
        is_link_of_program: impl Fn(&str) -> bool,
    ) -> bool {
        let may_remove_links = self.links.is_empty() || cfg!(not(windows));
        !self.has_others
            && may_remove_links
            && self.top_folder.iter().all(|folder| new_folders.contains(folder.as_str()))
            && self.files.iter().all(|path| removed.contains(path.as_str()))
            && self.links.iter().all(|path| is_link_of_program(path))
    }

    /// Whether a file or a link of the program is in the place of a folder that contains `path`, so that there is no file
    /// at `path`.
    pub(super) fn replace_folder_of(&self, path: &str, is_link_of_program: impl Fn(&str) -> bool) -> bool {
        let is_above = |entry: &String| path.strip_prefix(entry.as_str()).is_some_and(|rest| rest.starts_with('/'));
        !self.has_others
            && self.folders.is_empty()
            && (self.files.iter().any(is_above)
                || self.links.iter().any(|link| is_above(link) && is_link_of_program(link)))
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.folders.extend(other.folders);
        self.links.extend(other.links);
        self.has_others |= other.has_others;
    }
}

/// The entries that a revert has removed before it restores files.
#[derive(Debug, Default)]
struct RemovedEntries {
    /// The folders, the deepest first.
    folders: Vec<String>,
    /// The links with their targets.
    links: Vec<(String, PathBuf)>,
}

impl Tree {
    /// The entries in the place of the file at `path`; empty if there are none.
    pub(super) fn find_obstacles(&self, path: &str) -> Result<Obstacles, AccessError> {
        let mut obstacles = Obstacles::default();
        for place in ancestors_of(path).chain([path]) {
            let Some(parent) = self.open_parent(place)? else { break };
            let Some(metadata) = metadata(&parent, name_of(place))? else { break };
            let is_above = place.len() < path.len();
            match kind_of(&metadata) {
                FolderEntryKind::Folder if is_above => continue,
                FolderEntryKind::Folder => {
                    obstacles.top_folder = Some(place.to_owned());
                    self.add_folder(place, &mut obstacles);
                }
                FolderEntryKind::File if is_above => obstacles.files.extend([place.to_owned()]),
                FolderEntryKind::Link if is_above => obstacles.links.extend([place.to_owned()]),
                // The file itself, or an entry in its place that orch never replaces.
                FolderEntryKind::File => {}
                FolderEntryKind::Link | FolderEntryKind::Other => obstacles.has_others = true,
            }
            break;
        }
        Ok(obstacles)
    }

    /// Adds a folder with everything in it. A loop instead of a recursion, which many nested folders could make overflow
    /// the stack.
    fn add_folder(&self, folder: &str, obstacles: &mut Obstacles) {
        let mut pending = vec![folder.to_owned()];
        let mut count = 0;
        while let Some(folder) = pending.pop() {
            let Ok(entries) = self.list_folder(&folder) else {
                obstacles.has_others = true;
                return;
            };
            count += entries.len();
            if count > MAX_ENTRIES {
                obstacles.has_others = true;
                return;
            }
            for entry in entries {
                let path = format!("{folder}/{}", entry.name);
                match entry.kind {
                    FolderEntryKind::File => obstacles.files.extend([path]),
                    FolderEntryKind::Folder => pending.push(path),
                    FolderEntryKind::Link => obstacles.links.extend([path]),
                    FolderEntryKind::Other => obstacles.has_others = true,
                }
            }
            obstacles.folders.insert(folder);
        }
    }

    /// Makes all updates, or none. Removes the obstacles before it writes a file in their place.
    pub(super) fn commit_with_obstacles(
        &self,
        updates: &[FileUpdate<'_>],
        obstacles: &Obstacles,
    ) -> Result<(), Failure> {
        if obstacles.is_empty() {
            return commit(self, updates, &mut |_| {});
        }
        let (first, rest): (Vec<FileUpdate<'_>>, Vec<FileUpdate<'_>>) =
            updates.iter().cloned().partition(|update| obstacles.has_file(update.path));
        commit(self, &first, &mut |_| {})?;
        let mut removed = RemovedEntries::default();
        let result = self.remove_obstacles(obstacles, &mut removed).and_then(|()| commit(self, &rest, &mut |_| {}));
        result.map_err(|failure| self.put_back(failure, &removed, &first))
    }

    /// Removes links, and folders that are empty. Adds what it removed to `removed`.
    fn remove_obstacles(&self, obstacles: &Obstacles, removed: &mut RemovedEntries) -> Result<(), Failure> {
        let failure = |path: &str, error: &AccessError| {
            let message = format!("`{}` {error}; all files are as they were", escaped_path(path));
            Failure::new(FailureClass::PathRefused, message).with_hint("remove the cause, then try again")
        };
        for link in &obstacles.links {
            let target = self.remove_link(link).map_err(|error| failure(link, &error))?;
            removed.links.push((link.clone(), target));
        }
        // A folder comes before the folders in it, so the reverse order begins with the deepest ones.
        for folder in obstacles.folders.iter().rev() {
            match self.remove_folder(folder) {
                Ok(true) => removed.folders.push(folder.clone()),
                Ok(false) => {
                    let reason = "was changed by the user or another process just now".to_owned();
                    return Err(failure(folder, &AccessError::Refused(reason)));
                }
                Err(error) => return Err(failure(folder, &error)),
            }
        }
        Ok(())
    }

    /// Removes a symbolic link; returns its target.
    fn remove_link(&self, path: &str) -> Result<PathBuf, AccessError> {
        let changed = || AccessError::Refused("was changed by the user or another process just now".to_owned());
        let parent = self.open_parent(path)?.ok_or_else(changed)?;
        let target = parent.read_link_contents(name_of(path)).map_err(cannot_be("read"))?;
        parent.remove_file(name_of(path)).map_err(cannot_be("removed"))?;
        Ok(target)
    }

    /// Puts back the entries that a revert removed before it failed. Returns the failure, with the entries that can't be
    /// put back.
    fn put_back(&self, failure: Failure, removed: &RemovedEntries, files: &[FileUpdate<'_>]) -> Failure {
        let mut problems = Problems::default();
        for folder in removed.folders.iter().rev() {
            if let Err(error) = self.create_folder(folder) {
                problems.add_for_path(folder, error);
            }
        }
        for (link, target) in &removed.links {
            let created = self.open_parent(link).and_then(|parent| match parent {
                Some(parent) => create_link(&parent, target, name_of(link)).map_err(cannot_be("created")),
                None => Err(AccessError::Refused("lies in a folder that no longer exists".to_owned())),
            });
            if let Err(error) = created {
                problems.add_for_path(link, error);
            }
        }
        let updates: Vec<FileUpdate<'_>> = files
            .iter()
            .map(|update| FileUpdate { path: update.path, current: None, target: update.current.as_ref() })
            .collect();
        if let Err(error) = commit(self, &updates, &mut |_| {}) {
            problems.add(error.message);
        }
        if problems.count() == 0 {
            return failure;
        }
        let message = format!("{}; not restored: {}", failure.message, problems.into_messages().join("; "));
        Failure::new(failure.class, message)
            .with_hint("restore these entries by hand; the run's journal contains the contents of the files")
    }
}

#[cfg(not(windows))]
fn create_link(parent: &Dir, target: &Path, name: &str) -> io::Result<()> {
    parent.symlink_contents(target, name)
}

#[cfg(windows)]
fn create_link(_: &Dir, _: &Path, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
