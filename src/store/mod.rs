//! Durable execution on one machine: the journal, blobs, the workspace and the locks.
//!
//! This module owns everything in `.orch/` and the artifact files of a workspace. No other module knows that the
//! journal is an SQLite database. [`LocalRun`] implements [`crate::durable::Durable`].

mod approval;
mod blob;
mod boot;
mod branch_activity;
mod branches;
mod call_log;
mod calls;
mod compute;
mod copy;
mod delete;
mod dry_run;
mod event_ids;
mod event_reader;
mod event_rows;
mod exported;
mod gc;
mod halt_signal;
mod import;
mod inbox;
mod inbox_watcher;
mod journal;
mod journal_identity;
mod journal_origin;
mod last_replies;
mod listings;
mod local;
mod lock;
mod lock_holder;
mod open;
mod outbox;
mod owned_files;
mod pause;
mod payload;
mod pipeline_calls;
mod programs_lock;
mod relocate;
mod result_cache;
mod reused_file;
mod runs;
mod schema;
mod signing_key;
mod state_files;
mod stop_signal;
mod sync_policy;
mod take_message;
mod value_reference;
mod wait_log;
mod workspace;
mod write_job;
mod writer;

pub use approval::ApprovalPrompter;
pub use copy::set_copy_hook;
pub use delete::DeletionSummary;
pub use dry_run::{DryRunDurable, PredictedAction, removed_steps};
pub use exported::{ExportedRun, ExportedRunError, VERSION as EXPORT_FORMAT};
pub use gc::GcSummary;
pub use inbox::{InboxMessage, SendOutcome};
pub use inbox_watcher::{InboxWatcher, WatchedMessage};
pub use journal::Journal;
pub use local::{LocalRun, RunParts};
pub use lock::{Heartbeat, Lock, LockError};
pub use lock_holder::LockHolder;
pub use outbox::{DeliveryCursor, Outbox};
pub use owned_files::OwnedFiles;
pub use programs_lock::ProgramsLock;
pub use relocate::relocate_path;
pub use result_cache::ResultCache;
pub use runs::{RunFilter, RunRow};
pub use schema::VERSION as JOURNAL_FORMAT;
pub use signing_key::set_signing_key_folder;
pub use stop_signal::StopSignal;
pub use workspace::{ArtifactFile, Workspace};

use std::path::{Path, PathBuf};

use crate::folder::is_link_refused;
use crate::model::{Failure, FailureClass};

/// The reason why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// orch could not read or write a file or folder.
    #[error("can't {operation} `{}`: {source}", path.display())]
    Io {
        /// The operation, as a verb: `write`, `create`, `read`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// SQLite returned an error.
    #[error("can't {operation} the journal `{}`: {source}", path.display())]
    Journal {
        /// The operation, as a verb.
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// An earlier version of orch wrote the journal.
    #[error("the journal `{}` has format {found} of an earlier orch version; this one reads {known}", path.display())]
    TooOld {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The format that this version of orch reads.
        known: i64,
    },
    /// A later version of orch wrote the journal.
    #[error("the journal `{}` has format {found}, and this orch version reads up to {known}", path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this version of orch reads.
        known: i64,
    },
    /// Another program created the journal or a file beside it: the database has a table, index, view or trigger that
    /// orch does not create, a rollback journal lies beside it, or an entry of the folder is not a regular file.
    #[error("can't open the journal `{}`: {reason}", path.display())]
    Unrecognized {
        /// The database file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A row or a file does not contain the data that orch wrote.
    #[error("the journal `{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The database or blob file.
        path: PathBuf,
        /// The problem, with the run that it concerns.
        problem: String,
    },
    /// Another program removed or replaced the database during a run.
    #[error("the journal `{}` was removed or replaced during the run", path.display())]
    Removed {
        /// The path of the database file.
        path: PathBuf,
    },
    /// The thread that writes the journal did not start.
    #[error("can't start the thread that writes the journal: {0}")]
    WriterNotStarted(#[source] std::io::Error),
    /// orch could not convert a record to JSON.
    #[error("can't write {record} to the journal: it can't be converted to JSON: {source}")]
    Serialize {
        /// The record with its article: `an event`.
        record: &'static str,
        /// The serializer's error.
        source: serde_json::Error,
    },
    /// A run can't be imported.
    #[error("run {run} can't be imported: {reason}")]
    ImportRefused {
        /// The run.
        run: String,
        /// The reason.
        reason: String,
    },
    /// A workspace file has content that orch did not write.
    #[error("`{}` was not written by orch, so it is not overwritten", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// The failure to report. Its message contains the path of the file.
    pub fn failure(&self) -> Failure {
        let hint = match self {
            Self::Io { source, .. } if is_link_refused(source) => Some(LINK_HINT),
            Self::Io { source, .. } => io_hint(source),
            Self::Journal { source, .. } => sqlite_hint(source),
            Self::TooOld { .. } => {
                Some("move the `.orch` folder away to start a new journal, or use the orch version that wrote this one")
            }
            Self::TooNew { .. } => Some("install the newer orch version, or select another folder with --state"),
            Self::Damaged { .. } => {
                Some("restore the `.orch` folder from a copy, or move it away to start a new journal")
            }
            Self::Unrecognized { .. } => {
                Some("move the `.orch` folder away to start a new journal; `orch runs import` imports exported runs")
            }
            Self::Removed { .. } => Some(
                "put the `.orch` folder back if it was moved away; the run's artifact files are still in its workspace",
            ),
            Self::WriterNotStarted(_) => Some("free some memory, or raise the limit on processes (`ulimit -u`)"),
            Self::Serialize { .. } => Some("this is a defect of orch"),
            Self::ImportRefused { .. } => None,
            Self::ForeignFile { .. } => Some("move the file away, or select another folder with --workspace"),
        };
        let failure = Failure::new(FailureClass::Storage, self.to_string());
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    /// The failure of a run in progress. Its hint does not suggest another folder, since a resume needs the journal of
    /// this run. The caller adds the command that resumes the run.
    pub(crate) fn run_failure(&self) -> Failure {
        let failure = self.failure();
        let fix = match self {
            Self::Io { source, .. } if is_write_denied(source.kind()) => Some("make the folder writable again"),
            Self::Journal { source, .. } if is_unwritable(source) => Some("make the folder writable again"),
            Self::Io { source, .. } if wrong_kind_hint(source.kind()).is_some() => wrong_kind_hint(source.kind()),
            Self::Io { .. } | Self::Journal { .. } if failure.hint.is_none() => Some("check the disk and its folder"),
            _ => None,
        };
        match fix {
            Some(fix) => failure.with_hint(fix),
            None => failure,
        }
    }
}

/// The hint for a link in place of one of orch's own files or folders.
const LINK_HINT: &str =
    "remove the link; if the folder itself is the link, select its target with --state or --workspace";

/// The hint for a full disk.
const FREE_SPACE_HINT: &str = "free some space on the disk";

fn is_write_denied(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem)
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    matches!(error.sqlite_error_code(), Some(Code::ReadOnly | Code::CannotOpen | Code::PermissionDenied))
}

/// The hint for a folder in place of a file, or a file in place of a folder.
fn wrong_kind_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    match kind {
        std::io::ErrorKind::IsADirectory => Some("remove the folder that is in the place of a file"),
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            Some("remove the file that is in the place of a folder")
        }
        _ => None,
    }
}

fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(FREE_SPACE_HINT),
        kind if is_write_denied(kind) => {
            Some("make the folder writable, or select others with --state and --workspace")
        }
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
            Some("a file is in the place of a folder: select other folders with --state and --workspace")
        }
        _ => None,
    }
}

fn sqlite_hint(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error_code()? {
        rusqlite::ErrorCode::DiskFull => Some(FREE_SPACE_HINT),
        // A full disk also causes this error when SQLite maps a file into memory.
        rusqlite::ErrorCode::SystemIoFailure => Some("free some space on the disk, or check whether the disk works"),
        _ if is_unwritable(error) => Some("make the folder writable, or select another one with --state"),
        rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase => {
            Some("restore the `.orch` folder from a copy, or move it away to start a new journal")
        }
        _ => None,
    }
}
