//! Moves files from one state to another: all of them or none.
//!
//! Every new file is first written durably beside its target. Then the names are swapped one by one, and each old file
//! is kept under a second name until the end. After an error renames restore everything, which needs no disk space. The
//! temporary names are derived from the paths, so the next move of the same files removes what a crash left.

use std::collections::BTreeSet;

use crate::crash::crash_point;
use crate::model::{Class, Digest, Failure};

use super::look::MAX_BYTES;
use super::path::TEMPORARY;
use super::problem::shown;
use super::record::{FileState, shows};
use super::tree::{Blocked, DiskEntry, Tree, folder_of, folders_of, name_of};

/// One file to move: the state that was found on disk, and the state wanted.
#[derive(Clone, Debug)]
pub(super) struct Move<'a> {
    pub(super) path: &'a str,
    pub(super) from: Option<FileState>,
    pub(super) to: Option<&'a FileState>,
}

/// Called before each swap with its index; tests inject faults here.
pub(super) type Between<'a> = &'a mut dyn FnMut(usize);

/// The path of a failed move, and the reason.
type FailedMove = (String, Blocked);

/// Makes all moves, or none.
pub(super) fn commit(tree: &Tree, moves: &[Move<'_>], between: Between<'_>) -> Result<(), Failure> {
    let mut commit = Commit { tree, moves, made: Vec::new(), swapped: 0 };
    match commit.run(between) {
        Ok(()) => Ok(()),
        Err((path, why)) => {
            let lost = commit.roll_back();
            Err(failure(&path, &why, &lost))
        }
    }
}

/// Removes the temporary files that an earlier process left when it moved this file.
pub(super) fn sweep(tree: &Tree, path: &str) -> Result<(), Blocked> {
    tree.remove_beside(path, &temporary(path, "new"))?;
    tree.remove_beside(path, &temporary(path, "old"))
}

/// The state of a file; `None` if there is none.
pub(super) fn state(tree: &Tree, path: &str) -> Result<Option<FileState>, Blocked> {
    match tree.find(path, MAX_BYTES)? {
        DiskEntry::Nothing => Ok(None),
        DiskEntry::File(state) => Ok(Some(state)),
    }
}

/// The temporary name of a file; short, since the file's own name may be as long as the system allows.
fn temporary(path: &str, role: &str) -> String {
    format!("{TEMPORARY}{}-{role}", Digest::of(path.as_bytes()).short())
}

fn failure(path: &str, why: &Blocked, lost: &[String]) -> Failure {
    let class = match why {
        Blocked::Kind(_) => Class::PathRefused,
        Blocked::Io(..) => Class::Storage,
    };
    let message = format!("`{}` {why}", shown(path));
    if lost.is_empty() {
        return Failure::new(class, format!("{message}; all files are as they were"))
            .with_hint("remove the cause, then try again");
    }
    Failure::new(class, format!("{message}; not put back: {}", lost.join("; ")))
        .with_hint("look after these files by hand; their contents before are in the run's journal")
}

struct Commit<'a> {
    tree: &'a Tree,
    moves: &'a [Move<'a>],
    /// The folders that were created, parents first.
    made: Vec<String>,
    /// How many moves were made.
    swapped: usize,
}

impl Commit<'_> {
    fn run(&mut self, between: Between<'_>) -> Result<(), FailedMove> {
        crash_point!("files::apply");
        for step in self.moves {
            self.stage(step).map_err(|why| (step.path.to_owned(), why))?;
            crash_point!("files::written");
        }
        crash_point!("files::staged");
        for (index, step) in self.moves.iter().enumerate() {
            between(index);
            self.swap(step).map_err(|why| (step.path.to_owned(), why))?;
            self.swapped = index + 1;
            crash_point!("files::swapped");
        }
        self.sync()?;
        crash_point!("files::applied");
        self.moves.iter().try_for_each(|step| {
            let removed = self.tree.remove_beside(step.path, &temporary(step.path, "old"));
            removed.map_err(|why| (step.path.to_owned(), why))?;
            crash_point!("files::tidied");
            Ok(())
        })
    }

    /// Writes the new file beside its target.
    fn stage(&mut self, step: &Move<'_>) -> Result<(), Blocked> {
        let Some(to) = step.to else { return Ok(()) };
        for folder in folders_of(step.path) {
            if self.tree.folder_at(folder)?.is_none() {
                self.tree.make_folder(folder)?;
                self.made.push(folder.to_owned());
            }
        }
        self.tree.write_beside(step.path, &temporary(step.path, "new"), to)
    }

    /// Renames the new file into place, and keeps the old one under its temporary name.
    fn swap(&self, step: &Move<'_>) -> Result<(), Blocked> {
        if !same(state(self.tree, step.path)?.as_ref(), step.from.as_ref()) {
            return Err(Blocked::Kind("was changed by somebody else just now".to_owned()));
        }
        let (name, old) = (name_of(step.path), temporary(step.path, "old"));
        if step.to.is_none() {
            return match step.from {
                Some(_) => self.tree.rename_beside(step.path, name, &old),
                None => Ok(()),
            };
        }
        if let Some(from) = &step.from {
            // Not every file system supports hard links; a copy serves as well.
            if self.tree.link_beside(step.path, &old).is_err() {
                self.tree.write_beside(step.path, &old, from)?;
            }
        }
        crash_point!("files::aside");
        self.tree.rename_beside(step.path, &temporary(step.path, "new"), name)
    }

    /// Makes the names durable: those of the files, and those of the folders that were created.
    fn sync(&self) -> Result<(), FailedMove> {
        let made = self.made.iter().map(|folder| folder_of(folder));
        let folders: BTreeSet<&str> = self.moves.iter().map(|step| folder_of(step.path)).chain(made).collect();
        folders
            .into_iter()
            .try_for_each(|folder| self.tree.sync_folder(folder).map_err(|why| (format!("{folder}/"), why)))
    }

    /// Restores everything; returns what could not be restored.
    fn roll_back(&self) -> Vec<String> {
        let mut lost = Vec::new();
        let mut note = |path: &str, result: Result<(), Blocked>| {
            if let Err(why) = result {
                lost.push(format!("`{}` {why}", shown(path)));
            }
        };
        for step in self.moves[..self.swapped].iter().rev() {
            note(step.path, self.restore(step));
        }
        for step in self.moves {
            note(step.path, sweep(self.tree, step.path));
        }
        for folder in self.made.iter().rev() {
            note(folder, self.tree.remove_folder(folder).map(|_| ()));
        }
        if let Err((folder, why)) = self.sync() {
            note(&folder, Err(why));
        }
        lost
    }

    fn restore(&self, step: &Move<'_>) -> Result<(), Blocked> {
        if !shows(state(self.tree, step.path)?.as_ref(), step.to.map(FileState::writable).as_ref()) {
            return Err(Blocked::Kind("was changed by somebody else meanwhile and is left so".to_owned()));
        }
        let (name, old, new) = (name_of(step.path), temporary(step.path, "old"), temporary(step.path, "new"));
        let Some(from) = &step.from else { return self.tree.remove_beside(step.path, name) };
        if self.tree.rename_beside(step.path, &old, name).is_ok() {
            return Ok(());
        }
        // The old file is not there under its temporary name, so its bytes are written again.
        self.tree.write_beside(step.path, &new, from)?;
        self.tree.rename_beside(step.path, &new, name)
    }
}

/// Whether the disk still shows exactly the state that was found before.
fn same(found: Option<&FileState>, seen: Option<&FileState>) -> bool {
    found == seen
}
