//! Writes the files that an artifact lists into a workspace folder: all or none, and never outside it.
//!
//! orch parses the list from JSON, then checks every path and reads the existing files. It records the resulting
//! [`ChangeSet`] before it writes any file. [`Tree::apply`] writes the files of the change set, [`Tree::revert`]
//! reverts it, [`diff`] renders it for the user.
//!
//! Guarantees:
//! - orch resolves a path name by name, starting at the open workspace folder. It never follows a symbolic link, even if
//!   another process replaces folders meanwhile.
//! - orch applies a change set as a whole or, after an error, rolls it back as a whole.
//! - Applying a change set twice has the same effect as applying it once, so a run that died during the first time can
//!   repeat it.
//! - orch does not overwrite a file that the user or another process has changed, unless the caller forces it.
//! - orch makes no folder a git repository, and changes no file of an existing one through which git runs programs.
//!
//! Two further parts serve programs and tools of models: [`FileSnapshot`] finds out what a program changed, and
//! [`Tree::resolve`], [`Tree::open_file`] and [`Tree::list_folder`] read files without leaving the workspace.
//!
//! This module does not know runs, steps or journals. Its caller holds the lock of the workspace.

mod apply;
mod atomic_write;
mod bounded;
mod commit;
mod diff;
mod entry;
mod ledger;
mod obstacles;
mod path;
mod path_index;
mod prepare;
mod problem;
mod reader;
mod record;
mod repeat;
mod repository;
mod reserved;
mod revert;
mod revert_plan;
mod snapshot;
mod snapshot_file;
mod tree;
mod workspace_baseline;

use std::path::{Component, Path};

pub use atomic_write::write_atomically;
pub use bounded::{read_file_bounded, read_to_end_bounded};
pub use diff::diff;
pub use entry::{FileEntry, mode_problem, parse_entries};
pub use ledger::{DifferingFile, FileDifference, FileLedger};
pub use path::{fold_path, is_own_path};
pub use path_index::PathIndex;
pub use prepare::{MAX_BYTES, MAX_FILES, RULES_VERSION, refusals};
pub use reader::{FolderEntry, FolderEntryKind, ReadPathError};
pub use record::{
    AppliedFile, ApplyReport, ChangeKind, ChangeSet, Content, FileChange, FileState, RevertOutcome, RevertReport,
    RevertedFile, merge_change_sets,
};
pub use repeat::TextComparison;
pub use repository::repository_files;
pub use reserved::ReservedFiles;
pub use revert_plan::UnrecordedChange;
pub use snapshot::{EXCLUDED_FOLDERS, FileSnapshot};
pub use tree::Tree;
pub use workspace_baseline::WorkspaceBaseline;

/// Checks whether `write` may write a path.
///
/// # Errors
/// The reason why `write` may not write it.
pub fn check_path(path: &str) -> Result<(), String> {
    path::refusal_reason(path).map_or(Ok(()), Err)
}

/// Checks whether a path of a record stays in the workspace. orch checks the name itself before it changes the file.
///
/// # Errors
/// The reason why it does not.
pub fn check_recorded_path(path: &str) -> Result<(), String> {
    path::leaving_reason(path).map_or(Ok(()), Err)
}

/// Whether a path leads out of the folder from which it starts, or is absolute.
pub fn leaves_folder(path: &str) -> bool {
    Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Formats permission bits as four octal digits.
fn format_mode(mode: u32) -> String {
    format!("{mode:04o}")
}
