//! Durable execution on one machine: the journal, blobs, the workspace view and the locks.
//!
//! Owns everything under `.orch/` and the artifact files of a workspace. No other module knows that the journal is an
//! SQLite database. [`LocalRun`] implements [`crate::durable::Durable`].

mod approval;
mod blob;
mod branches;
mod calls;
mod cancel;
mod compute;
mod copy;
mod dry_run;
mod exported;
mod finally_steps;
mod halt;
mod import;
mod inbox;
mod index;
mod journal;
mod journal_identity;
mod key;
mod local;
mod lock;
mod open;
mod origin;
mod outbox;
mod owned_files;
mod programs_lock;
mod prune;
mod relocate;
mod result_cache;
mod runs;
mod schema;
mod view;
mod writer;

pub use approval::ApprovalPrompter;
pub use cancel::CancelSwitch;
pub use copy::before_copies;
pub use dry_run::{DryRunDurable, StepPrediction, gone};
pub use exported::{ExportedRun, ExportedRunError};
pub use inbox::Letter;
pub use journal::Journal;
pub use key::keep_key_in;
pub use local::{LocalRun, RunParts};
pub use lock::{Heartbeat, Lock, LockError, LockHolder};
pub use outbox::{DeliveryCursor, Outbox};
pub use owned_files::OwnedFiles;
pub use programs_lock::ProgramsLock;
pub use prune::{Deleted, Swept};
pub use relocate::inside;
pub use result_cache::ResultCache;
pub use runs::{Filter, RunRow};
pub use view::{FileDrift, WorkspaceView};

use std::path::{Path, PathBuf};

use crate::folder::is_link_refused;
use crate::model::{Class, Failure};

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("can't {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `create`, `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// SQLite returned an error.
    #[error("can't {doing} the journal `{}`: {source}", path.display())]
    Journal {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The journal was written by an earlier version of orch.
    #[error("the journal `{}` has format {found} of an earlier orch, and this orch reads format {known}", path.display())]
    TooOld {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The format that this orch reads.
        known: i64,
    },
    /// The journal was written by a later version of orch.
    #[error("the journal `{}` has format {found}, and this orch reads up to {known}", path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// orch did not create the journal, or a file lies beside it that orch does not create.
    #[error("the journal `{}` is not opened: {why}", path.display())]
    Strange {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A record differs from what was written.
    #[error("the journal `{}` is damaged: {what}", path.display())]
    Damaged {
        /// The database or blob file.
        path: PathBuf,
        /// What is wrong, and in which run.
        what: String,
    },
    /// The database was removed or replaced during a run.
    #[error("the journal `{}` was removed or replaced while the run went on", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The writer has stopped after an earlier failure.
    #[error("the journal no longer writes: {0}")]
    Stopped(String),
    /// A run can't be imported.
    #[error("run {run} can't be taken in: {why}")]
    Refused {
        /// The run.
        run: String,
        /// Why not.
        why: String,
    },
    /// A workspace file has content that orch did not write.
    #[error("`{}` was not written by orch, so it is not overwritten", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// The failure to report; its message names the file.
    pub fn failure(&self) -> Failure {
        let hint = match self {
            Self::Io { source, .. } if is_link_refused(source) => Some(LINK),
            Self::Io { source, .. } => io_hint(source),
            Self::Journal { source, .. } => sqlite_hint(source),
            Self::TooOld { .. } => Some(
                "move the `.orch` folder away to start a new journal, or read this one with the orch that wrote it",
            ),
            Self::TooNew { .. } => Some("install the newer orch, or give another folder with --state"),
            Self::Damaged { .. } => Some("restore the `.orch` folder from a copy, or move it away to begin anew"),
            Self::Strange { .. } => Some(
                "move the `.orch` folder away to begin anew; `orch runs import` takes in a run that you have as an export",
            ),
            Self::Gone { .. } => Some(
                "put the `.orch` folder back if it was moved away; what the run has shown in its workspace is there",
            ),
            Self::Stopped(_) | Self::Refused { .. } => None,
            Self::Foreign { .. } => Some("move the file away, or give another --workspace"),
        };
        let failure = Failure::new(Class::Storage, self.to_string());
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    /// The failure of a run in progress. Its hint only says how to fix the cause: another folder would not have this
    /// run, and the caller adds the command that resumes it.
    pub(crate) fn failure_of_run(&self) -> Failure {
        let failure = self.failure();
        let mend = match self {
            Self::Io { source, .. } if is_forbidden(source.kind()) => Some("make the folder writable again"),
            Self::Journal { source, .. } if is_unwritable(source) => Some("make the folder writable again"),
            Self::Io { source, .. } if in_the_way(source.kind()).is_some() => in_the_way(source.kind()),
            Self::Io { .. } | Self::Journal { .. } | Self::Stopped(_) if failure.hint.is_none() => {
                Some("look after the disk and its folder")
            }
            _ => None,
        };
        match mend {
            Some(mend) => failure.with_hint(mend),
            None => failure,
        }
    }
}

/// The hint for a link in place of one of orch's own files or folders.
const LINK: &str =
    "remove the link, or give the folder that you mean with --state or --workspace if the folder itself is the link";

/// The hint for a full disk.
const FREE_SPACE: &str = "free some space on the disk";

fn is_forbidden(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem)
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    matches!(error.sqlite_error_code(), Some(Code::ReadOnly | Code::CannotOpen | Code::PermissionDenied))
}

/// The hint for a folder in place of a file, or the other way round.
fn in_the_way(kind: std::io::ErrorKind) -> Option<&'static str> {
    match kind {
        std::io::ErrorKind::IsADirectory => Some("remove the folder that stands where a file is needed"),
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            Some("remove the file that stands where a folder is needed")
        }
        _ => None,
    }
}

fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(FREE_SPACE),
        kind if is_forbidden(kind) => Some("make the folder writable, or give other ones with --state and --workspace"),
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            Some("a file stands where a folder is needed: give other ones with --state and --workspace")
        }
        _ => None,
    }
}

fn sqlite_hint(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error_code()? {
        rusqlite::ErrorCode::DiskFull => Some(FREE_SPACE),
        // A full disk causes this too, where SQLite maps a file into memory.
        rusqlite::ErrorCode::SystemIoFailure => Some("free some space on the disk, or see whether it still works"),
        _ if is_unwritable(error) => Some("make the folder writable, or give another one with --state"),
        rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase => {
            Some("restore the `.orch` folder from a copy, or move it away to begin anew")
        }
        _ => None,
    }
}
