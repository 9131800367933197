//! Puts the files that an artifact lists into a workspace folder: all or none, and never outside it.
//!
//! [`entries`] reads the list from JSON. [`Tree::look`] checks every path and reads what is there; its
//! [`Look`] is recorded before anything is written. [`Tree::apply`] makes the disk show the look,
//! [`Tree::revert`] takes it back, [`diff`] shows it to people.
//!
//! Promises: a path is resolved name by name beneath the open workspace folder and no symbolic link is
//! ever followed, also when somebody swaps folders meanwhile; a look is applied as a whole or, after an
//! error, put back as a whole; applying again does nothing, so a run that died in the middle goes on by
//! applying again; a file that somebody else changed is never overwritten unasked.
//!
//! Knows nothing of runs, steps and journals. Whoever calls it holds the workspace's lock.

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

/// Whether a path in a record may be written, by the rules of `write`.
///
/// # Errors
/// Why not.
pub fn check_path(path: &str) -> Result<(), String> {
    path::refused(path).map_or(Ok(()), Err)
}

/// Permission bits as people write them.
fn shown_mode(mode: u32) -> String {
    format!("{mode:04o}")
}
