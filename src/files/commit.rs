//! Moves files from one state to another: all of them or none.
//!
//! orch first writes every new file durably beside its target. Then it swaps the names one by one; each old file has a
//! second name until the end. After an error orch restores everything by renames, which need no disk space. The
//! temporary names are derived from the paths, so the next move of the same files removes the files that a crash left.

use std::collections::BTreeSet;

use crate::crash::crash_point;
use crate::model::{Digest, Failure, FailureClass};

use super::path::TEMPORARY_PREFIX;
use super::prepare::MAX_BYTES;
use super::problem::escaped_path;
use super::record::{FileState, states_match};
use super::tree::{AccessError, DiskEntry, Tree, ancestors_of, folder_of, name_of};

/// One file to move: its current state on disk, and its target state.
#[derive(Clone, Debug)]
pub(super) struct FileMove<'a> {
    pub(super) path: &'a str,
    pub(super) from: Option<FileState>,
    pub(super) to: Option<&'a FileState>,
}

/// A hook that is called before each swap with its index; tests use it to inject faults.
pub(super) type SwapHook<'a> = &'a mut dyn FnMut(usize);

/// The path of a failed move, and the reason.
type FailedMove = (String, AccessError);

/// Makes all moves, or none.
pub(super) fn commit(tree: &Tree, moves: &[FileMove<'_>], before_swap: SwapHook<'_>) -> Result<(), Failure> {
    let mut commit = Commit { tree, moves, new_folders: Vec::new(), swap_count: 0 };
    match commit.run(before_swap) {
        Ok(()) => Ok(()),
        Err((path, error)) => {
            let unrestored = commit.roll_back();
            Err(failure(&path, &error, &unrestored))
        }
    }
}

/// Removes the temporary files that an earlier process left when it moved this file.
pub(super) fn remove_leftovers(tree: &Tree, path: &str) -> Result<(), AccessError> {
    tree.remove_beside(path, &temporary_name(path, "new"))?;
    tree.remove_beside(path, &temporary_name(path, "old"))
}

/// The state of a file; `None` if there is none.
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

fn failure(path: &str, error: &AccessError, unrestored: &[String]) -> Failure {
    let class = match error {
        AccessError::Refused(_) => FailureClass::PathRefused,
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
    moves: &'a [FileMove<'a>],
    /// The folders that this commit created, parents first.
    new_folders: Vec<String>,
    /// How many moves were made.
    swap_count: usize,
}

impl Commit<'_> {
    fn run(&mut self, before_swap: SwapHook<'_>) -> Result<(), FailedMove> {
        crash_point!("files::apply");
        for file_move in self.moves {
            self.stage(file_move).map_err(|error| (file_move.path.to_owned(), error))?;
            crash_point!("files::written");
        }
        crash_point!("files::staged");
        for (index, file_move) in self.moves.iter().enumerate() {
            before_swap(index);
            self.swap(file_move).map_err(|error| (file_move.path.to_owned(), error))?;
            self.swap_count = index + 1;
            crash_point!("files::swapped");
        }
        self.sync()?;
        crash_point!("files::applied");
        self.moves.iter().try_for_each(|file_move| {
            let removed = self.tree.remove_beside(file_move.path, &temporary_name(file_move.path, "old"));
            removed.map_err(|error| (file_move.path.to_owned(), error))?;
            crash_point!("files::backup_removed");
            Ok(())
        })
    }

    /// Writes the new file beside its target.
    fn stage(&mut self, file_move: &FileMove<'_>) -> Result<(), AccessError> {
        let Some(new_state) = file_move.to else { return Ok(()) };
        for folder in ancestors_of(file_move.path) {
            if self.tree.open_folder(folder)?.is_none() {
                self.tree.make_folder(folder)?;
                self.new_folders.push(folder.to_owned());
            }
        }
        self.tree.write_beside(file_move.path, &temporary_name(file_move.path, "new"), new_state)
    }

    /// Renames the new file to its path, and the old file to its temporary name.
    fn swap(&self, file_move: &FileMove<'_>) -> Result<(), AccessError> {
        // The file must have exactly the state from before, including its mode.
        if read_state(self.tree, file_move.path)? != file_move.from {
            return Err(AccessError::Refused("was changed by the user or another process just now".to_owned()));
        }
        let (name, old_name) = (name_of(file_move.path), temporary_name(file_move.path, "old"));
        if file_move.to.is_none() {
            return match file_move.from {
                Some(_) => self.tree.rename_beside(file_move.path, name, &old_name),
                None => Ok(()),
            };
        }
        if let Some(old_state) = &file_move.from {
            // Not every file system supports hard links; a copy serves as well.
            if self.tree.link_beside(file_move.path, &old_name).is_err() {
                self.tree.write_beside(file_move.path, &old_name, old_state)?;
            }
        }
        crash_point!("files::backed_up");
        self.tree.rename_beside(file_move.path, &temporary_name(file_move.path, "new"), name)
    }

    /// Makes the names of the files and of the new folders durable.
    fn sync(&self) -> Result<(), FailedMove> {
        let parents = self.new_folders.iter().map(|folder| folder_of(folder));
        let folders: BTreeSet<&str> =
            self.moves.iter().map(|file_move| folder_of(file_move.path)).chain(parents).collect();
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
        for file_move in self.moves[..self.swap_count].iter().rev() {
            note_error(file_move.path, self.restore(file_move));
        }
        for file_move in self.moves {
            note_error(file_move.path, remove_leftovers(self.tree, file_move.path));
        }
        for folder in self.new_folders.iter().rev() {
            note_error(folder, self.tree.remove_folder(folder).map(|_| ()));
        }
        if let Err((folder, error)) = self.sync() {
            note_error(&folder, Err(error));
        }
        unrestored
    }

    fn restore(&self, file_move: &FileMove<'_>) -> Result<(), AccessError> {
        let written_state = file_move.to.map(FileState::writable);
        if !states_match(read_state(self.tree, file_move.path)?.as_ref(), written_state.as_ref()) {
            return Err(AccessError::Refused(
                "was changed by the user or another process meanwhile, and orch did not restore it".to_owned(),
            ));
        }
        let (name, old_name) = (name_of(file_move.path), temporary_name(file_move.path, "old"));
        let Some(old_state) = &file_move.from else { return self.tree.remove_beside(file_move.path, name) };
        if self.tree.rename_beside(file_move.path, &old_name, name).is_ok() {
            return Ok(());
        }
        // The old file no longer has its temporary name, so orch writes its bytes again.
        let new_name = temporary_name(file_move.path, "new");
        self.tree.write_beside(file_move.path, &new_name, old_state)?;
        self.tree.rename_beside(file_move.path, &new_name, name)
    }
}
