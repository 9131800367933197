//! The interfaces through which a session shows progress to the user and asks questions.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::durable::{CallProgress, Observer};
use crate::model::{Event, RunId};
use crate::report::PrintedCommands;
use crate::store::ApprovalPrompter;

use super::cancel::CancelHandle;

/// Shows the progress and the messages of a session. Every method has a default that shows nothing.
pub trait Reporter: Send + Sync {
    /// Shows information about an action or a choice of the session, such as the model that `auto` selects.
    fn info(&self, _text: &str) {}

    /// Shows a fact that the user may not expect.
    fn note(&self, _text: &str) {}

    /// Shows a warning about a possible failure.
    fn warning(&self, _text: &str) {}

    /// Shows a failure outside of the run, such as an unreachable tracker. A program that otherwise prints only
    /// failures should show it too.
    fn problem(&self, _text: &str) {}

    /// Shows findings in the user's files that do not prevent the run.
    fn findings(&self, _findings: &[Diagnostic]) {}

    /// Returns the observer for a run with these events so far.
    fn observer(&self, _run: RunId, _events: &[Event]) -> Arc<dyn Observer> {
        Arc::new(Silent)
    }

    /// Reports that a run starts or continues; `cancel` stops it.
    fn run_started(&self, _run: RunId, _cancel: &CancelHandle) {}

    /// Reports that a download of an embedded model's weights starts.
    fn download(&self, _title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(Silent)
    }

    /// Returns the options that the commands in messages need.
    fn command_options(&self) -> PrintedCommands {
        PrintedCommands::default()
    }
}

/// Shows the progress of one download. The session drops it when the download ends.
pub trait DownloadReporter: Send + Sync {
    /// Shows progress.
    fn progress(&self, _progress: &DownloadProgress) {}
}

/// The progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadProgress {
    /// Bytes were downloaded; the total is 0 while it is unknown.
    Bytes {
        /// The number of downloaded bytes.
        downloaded: u64,
        /// The total number of bytes.
        total: u64,
    },
    /// Another process downloads the same file, and this process waits for it.
    Waiting,
    /// The download starts from this source.
    Source {
        /// Its name.
        name: String,
        /// Why an earlier source failed, if one did.
        previous_failure: Option<String>,
    },
    /// orch verifies the digest of the file.
    Verifying,
}

/// Asks the user. Every method has a default that returns no answer.
pub trait Prompter: Send + Sync {
    /// Asks a yes-or-no question; `None` if no user can answer.
    fn confirm(&self, _question: &str) -> Option<bool> {
        None
    }

    /// Returns a prompter for the approvals of a run while it runs. If `None`, the run stops and waits for
    /// [`Runner::answer`](super::Runner::answer).
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        None
    }
}

/// Shows nothing and returns no answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {}
impl Prompter for Silent {}
impl DownloadReporter for Silent {}

impl Observer for Silent {
    fn on_event(&self, _: &Event) {}
    fn on_progress(&self, _: &CallProgress) {}
}
