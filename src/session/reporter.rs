//! How a session communicates with the user: what it shows, and what it asks.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::durable::{CallProgress, Observer};
use crate::model::{Event, RunId};
use crate::report::PrintedCommands;
use crate::store::ApprovalPrompter;

use super::cancel::CancelHandle;

/// Shows what happens in a session. Every method has a default that shows nothing.
pub trait Reporter: Send + Sync {
    /// Something that the session did or chose, such as the model that `auto` stands for.
    fn info(&self, _text: &str) {}

    /// Something that the user may not expect.
    fn note(&self, _text: &str) {}

    /// Something that may go wrong.
    fn warning(&self, _text: &str) {}

    /// Something that failed besides the run, such as a tracker that could not be reached. A program that otherwise
    /// prints only failures should show it too.
    fn problem(&self, _text: &str) {}

    /// Findings in the user's files that do not prevent the run.
    fn findings(&self, _findings: &[Diagnostic]) {}

    /// The observer for a run that has these events so far.
    fn observer(&self, _run: RunId, _events: &[Event]) -> Arc<dyn Observer> {
        Arc::new(Silent)
    }

    /// A run starts or continues; `cancel` stops it.
    fn run_started(&self, _run: RunId, _cancel: &CancelHandle) {}

    /// A download of an embedded model's weights starts.
    fn download(&self, _title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(Silent)
    }

    /// The options that the commands in messages need.
    fn commands(&self) -> PrintedCommands {
        PrintedCommands::default()
    }
}

/// Shows the progress of one download; it is dropped when the download has ended.
pub trait DownloadReporter: Send + Sync {
    /// Shows progress.
    fn progress(&self, _progress: &DownloadProgress) {}
}

/// The progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadProgress {
    /// The downloaded bytes; the total is 0 while it is unknown.
    Bytes {
        /// Downloaded bytes.
        done: u64,
        /// The total number of bytes.
        total: u64,
    },
    /// Another process downloads the same file, and this process waits for it.
    Waiting,
    /// The download starts from this source, because an earlier source failed.
    Source {
        /// Its name.
        name: String,
        /// Why an earlier source failed.
        instead: Option<String>,
    },
    /// orch verifies the digest of the file.
    Checking,
}

/// Asks the user. Every method has a default that gives no answer.
pub trait Prompter: Send + Sync {
    /// Asks a yes-or-no question; `None` if there is no user to answer.
    fn confirm(&self, _question: &str) -> Option<bool> {
        None
    }

    /// Answers the approvals of a run while it runs. If `None`, the run stops and waits for
    /// [`Runner::answer`](super::Runner::answer).
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        None
    }
}

/// Shows nothing and gives no answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
impl Prompter for Silent {}
impl DownloadReporter for Silent {}

impl Observer for Silent {
    fn event(&self, _: &Event) {}
    fn signal(&self, _: &CallProgress) {}
}
