//! Updates files: all of them or none.
//!
//! orch first writes every new file durably under a temporary name in the folder of its target. Then it renames the
//! files one by one; each old file keeps a second name until the end. After an error, orch restores the old files by
//! renames, which need no disk space. The temporary names are derived from the paths, so the next update of the same
//! files removes the temporary files that a crash left.

use std::collections::BTreeSet;

use crate::crash::crash_point;
use crate::folder::TEMPORARY_PREFIX;
use crate::model::{Digest, Failure, FailureClass};

use super::prepare::MAX_BYTES;
use super::problem::escaped_path;
use super::record::{FileState, states_match};
use super::tree::{AccessError, DiskEntry, Tree, ancestors_of, folder_of, name_of};

/// The update of one file: its current state on disk, and its target state.
#[derive(Clone, Debug)]
pub(super) struct FileUpdate<'a> {
    pub(super) path: &'a str,
    pub(super) current: Option<FileState>,
    pub(super) target: Option<&'a FileState>,
}

/// A hook that is called before each swap with its index; tests use it to inject faults.
pub(super) type SwapHook<'a> = &'a mut dyn FnMut(usize);

/// The path of a failed update, and the reason.
type FailedUpdate = (String, AccessError);

/// Makes all updates, or none.
pub(super) fn commit(tree: &Tree, updates: &[FileUpdate<'_>], before_swap: SwapHook<'_>) -> Result<(), Failure> {
    let mut commit = Commit { tree, updates, new_folders: Vec::new(), swap_count: 0 };
    match commit.run(before_swap) {
        Ok(()) => Ok(()),
        Err((path, error)) => {
            let unrestored = commit.roll_back();
            Err(commit_failure(&path, &error, &unrestored))
        }
    }
}

/// Removes the temporary files that a crash left during an update of this file.
pub(super) fn remove_leftovers(tree: &Tree, path: &str) -> Result<(), AccessError> {
    tree.remove_in_parent(path, &temporary_name(path, "new"))?;
    tree.remove_in_parent(path, &temporary_name(path, "old"))
}

/// The state of a file on disk; `None` if the file does not exist.
pub(super) fn read_state(tree: &Tree, path: &str) -> Result<Option<FileState>, AccessError> {
    match tree.read_entry(path, MAX_BYTES)? {
        DiskEntry::Absent => Ok(None),
        DiskEntry::File(state) => Ok(Some(state)),
    }
}

/// The temporary name of a file; short, since the file's own name may be as long as the system allows.
fn temporary_name(path: &str, role: &str) -> String {
    format!("{TEMPORARY_PREFIX}{}-{role}", Digest::compute(path.as_bytes()).short())
}

fn commit_failure(path: &str, error: &AccessError, unrestored: &[String]) -> Failure {
    let class = match error {
        AccessError::Refused(_) | AccessError::TooLarge => FailureClass::PathRefused,
        AccessError::Io(..) => FailureClass::Storage,
    };
    let message = format!("`{}` {error}", escaped_path(path));
    if unrestored.is_empty() {
        return Failure::new(class, format!("{message}; all files are as they were"))
            .with_hint("remove the cause, then try again");
    }
    Failure::new(class, format!("{message}; not restored: {}", unrestored.join("; ")))
        .with_hint("restore these files by hand; the run's journal contains their earlier contents")
}

struct Commit<'a> {
    tree: &'a Tree,
    updates: &'a [FileUpdate<'a>],
    /// The folders that this commit created, parents first.
    new_folders: Vec<String>,
    /// The number of files that have been swapped.
    swap_count: usize,
}

impl Commit<'_> {
    fn run(&mut self, before_swap: SwapHook<'_>) -> Result<(), FailedUpdate> {
        crash_point!("files::apply");
        for update in self.updates {
            self.stage(update).map_err(|error| (update.path.to_owned(), error))?;
            crash_point!("files::written");
        }
        crash_point!("files::staged");
        for (index, update) in self.updates.iter().enumerate() {
            before_swap(index);
            self.swap(update).map_err(|error| (update.path.to_owned(), error))?;
            self.swap_count = index + 1;
            crash_point!("files::swapped");
        }
        self.sync()?;
        crash_point!("files::applied");
        self.updates.iter().try_for_each(|update| {
            let removed = self.tree.remove_in_parent(update.path, &temporary_name(update.path, "old"));
            removed.map_err(|error| (update.path.to_owned(), error))?;
            crash_point!("files::backup_removed");
            Ok(())
        })
    }

    /// Writes the new file under a temporary name.
    fn stage(&mut self, update: &FileUpdate<'_>) -> Result<(), AccessError> {
        let Some(new_state) = update.target else { return Ok(()) };
        for folder in ancestors_of(update.path) {
            if self.tree.open_folder(folder)?.is_none() {
                self.tree.create_folder(folder)?;
                self.new_folders.push(folder.to_owned());
            }
        }
        self.tree.write_in_parent(update.path, &temporary_name(update.path, "new"), new_state)
    }

    /// Renames the new file to its path, and the old file to its temporary name.
    fn swap(&self, update: &FileUpdate<'_>) -> Result<(), AccessError> {
        // Compare exactly, including the mode, since the swap replaces both.
        if read_state(self.tree, update.path)? != update.current {
            return Err(AccessError::Refused("was changed by the user or another process just now".to_owned()));
        }
        let (name, old_name) = (name_of(update.path), temporary_name(update.path, "old"));
        if update.target.is_none() {
            return match update.current {
                Some(_) => self.tree.rename_in_parent(update.path, name, &old_name),
                None => Ok(()),
            };
        }
        if let Some(old_state) = &update.current {
            // Not every file system supports hard links. Without them, a copy can restore the old file too.
            if self.tree.link_in_parent(update.path, &old_name).is_err() {
                self.tree.write_in_parent(update.path, &old_name, old_state)?;
            }
        }
        crash_point!("files::backed_up");
        self.tree.rename_in_parent(update.path, &temporary_name(update.path, "new"), name)
    }

    /// Makes the names of the files and of the new folders durable.
    fn sync(&self) -> Result<(), FailedUpdate> {
        let parents = self.new_folders.iter().map(|folder| folder_of(folder));
        let folders: BTreeSet<&str> = self.updates.iter().map(|update| folder_of(update.path)).chain(parents).collect();
        folders
            .into_iter()
            .try_for_each(|folder| self.tree.sync_folder(folder).map_err(|error| (format!("{folder}/"), error)))
    }

    /// Restores all files; returns a message for each file or folder that it could not restore.
    fn roll_back(&self) -> Vec<String> {
        let mut unrestored = Vec::new();
        let mut note_error = |path: &str, result: Result<(), AccessError>| {
            if let Err(error) = result {
                unrestored.push(format!("`{}` {error}", escaped_path(path)));
            }
        };
        for update in self.updates[..self.swap_count].iter().rev() {
            note_error(update.path, self.restore(update));
        }
        for update in self.updates {
            note_error(update.path, remove_leftovers(self.tree, update.path));
        }
        for folder in self.new_folders.iter().rev() {
            note_error(folder, self.tree.remove_folder(folder).map(|_| ()));
        }
        if let Err((folder, error)) = self.sync() {
            note_error(&folder, Err(error));
        }
        unrestored
    }

    fn restore(&self, update: &FileUpdate<'_>) -> Result<(), AccessError> {
        let written_state = update.target.map(FileState::writable);
        if !states_match(read_state(self.tree, update.path)?.as_ref(), written_state.as_ref()) {
            return Err(AccessError::Refused(
                "was changed by the user or another process meanwhile, and orch did not restore it".to_owned(),
            ));
        }
        let (name, old_name) = (name_of(update.path), temporary_name(update.path, "old"));
        let Some(old_state) = &update.current else { return self.tree.remove_in_parent(update.path, name) };
        if self.tree.rename_in_parent(update.path, &old_name, name).is_ok() {
            return Ok(());
        }
        // The old file no longer has its temporary name, so orch writes its bytes again.
        let new_name = temporary_name(update.path, "new");
        self.tree.write_in_parent(update.path, &new_name, old_state)?;
        self.tree.rename_in_parent(update.path, &new_name, name)
    }
}
