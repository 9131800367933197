//! Writes the files that an artifact lists into a workspace folder: all or none, and never outside it.
//!
//! [`entries`] reads the list from JSON. [`Tree::look`] checks every path and reads the files that are there; its
//! [`ChangeSet`] is recorded before anything is written. [`Tree::apply`] writes the files of the change set,
//! [`Tree::revert`] reverts it, [`diff`] renders it for the user.
//!
//! Promises:
//! - A path is resolved name by name beneath the open workspace folder. No symbolic link is ever followed, even if
//!   another process swaps folders meanwhile.
//! - A change set is applied as a whole or, after an error, rolled back as a whole.
//! - Applying it again does nothing, so a run that died halfway continues by applying it again.
//! - A file that the user or another process has changed is not overwritten, unless the caller forces it.
//!
//! This module knows nothing of runs, steps and journals. Its caller holds the workspace's lock.

mod apply;
mod bounded;
mod commit;
mod diff;
mod entry;
mod ledger;
mod look;
mod path;
mod problem;
mod record;
mod revert;
mod tree;
mod whole;

pub use bounded::{read_all, read_bounded};
pub use diff::diff;
pub use entry::{FileEntry, entries};
pub use ledger::{FileLedger, UndoneFile};
pub use look::{MAX_BYTES, MAX_FILES, RULES, Reserved, refusals};
pub use record::{
    Applied, AppliedFile, ChangeKind, ChangeSet, Content, FileChange, FileState, RevertOutcome, Reverted, RevertedFile,
    together,
};
pub use tree::Tree;
pub use whole::write_whole;

/// Checks whether `write` may write a path, which may come from a record.
///
/// # Errors
/// The reason why not.
pub fn check_path(path: &str) -> Result<(), String> {
    path::refused(path).map_or(Ok(()), Err)
}

/// Permission bits as four octal digits.
fn shown_mode(mode: u32) -> String {
    format!("{mode:04o}")
}
