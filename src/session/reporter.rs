//! How a session talks to its user: what it shows, and what it asks.

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

    /// Something that went wrong beside the run, such as a tracker that could not be reached; also shown by a program
    /// that otherwise prints nothing but failures.
    fn problem(&self, _text: &str) {}

    /// Findings in the user's files that do not keep the run from starting.
    fn findings(&self, _findings: &[Diagnostic]) {}

    /// What follows a run from here on, whose events so far are these.
    fn observer(&self, _run: RunId, _events: &[Event]) -> Arc<dyn Observer> {
        Arc::new(Silent)
    }

    /// A run starts or continues now; `cancel` stops it.
    fn run_started(&self, _run: RunId, _cancel: &CancelHandle) {}

    /// A download starts: of the weights of an embedded model.
    fn download(&self, _title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(Silent)
    }

    /// The options that the commands in messages need.
    fn commands(&self) -> PrintedCommands {
        PrintedCommands::default()
    }
}

/// Shows the progress of one download, and that it ended when it is dropped.
pub trait DownloadReporter: Send + Sync {
    /// What happens now.
    fn progress(&self, _progress: &DownloadProgress) {}
}

/// A step of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadProgress {
    /// So many bytes are here; the total is 0 while it is not known.
    Bytes {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Another process downloads the same file, and this one waits for it.
    Waiting,
    /// The download starts from this source, in place of one that failed for this reason.
    Source {
        /// Its name.
        name: String,
        /// Why an earlier source failed.
        instead: Option<String>,
    },
    /// The digest of the file is computed.
    Checking,
}

/// Asks the user. Every method has a default that answers nothing.
pub trait Prompter: Send + Sync {
    /// A question to be answered with yes or no; `None` when there is no user to answer.
    fn confirm(&self, _question: &str) -> Option<bool> {
        None
    }

    /// Answers the approvals of a run while it runs; without one, the run stops and waits for
    /// [`Runner::answer`](super::Runner::answer).
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        None
    }
}

/// Shows nothing and answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
impl Prompter for Silent {}
impl DownloadReporter for Silent {}

impl Observer for Silent {
    fn event(&self, _: &Event) {}
    fn signal(&self, _: &CallProgress) {}
}
