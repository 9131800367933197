//! The interfaces through which a session shows progress to the user and asks the user questions.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::durable::{CallProgress, Observer};
use crate::model::{Event, RunId};
use crate::report::SuggestedCommands;
use crate::store::ApprovalPrompter;

use super::cancel::CancelHandle;

/// Shows the progress and the messages of a session. By default, each method shows nothing.
pub trait Reporter: Send + Sync {
    /// Shows an action or a choice of the session, such as the model that orch chose for `auto`.
    fn info(&self, _text: &str) {}

    /// Shows a fact that the user may not expect.
    fn note(&self, _text: &str) {}

    /// Shows a warning about a possible failure.
    fn warning(&self, _text: &str) {}

    /// Shows a failure outside of the run, such as an unreachable tracker. A reporter that shows only failures should
    /// show this too.
    fn problem(&self, _text: &str) {}

    /// Shows the findings in the user's files. They do not prevent the run.
    fn findings(&self, _findings: &[Diagnostic]) {}

    /// Returns the observer for a run. The second argument contains the run's events so far.
    fn observer(&self, _run: RunId, _events: &[Event]) -> Arc<dyn Observer> {
        Arc::new(SilentReporter)
    }

    /// Reports that a run starts or continues. The handle cancels the run.
    fn run_started(&self, _run: RunId, _cancel: &CancelHandle) {}

    /// Reports that the download of an embedded model starts. Returns the reporter for its progress.
    fn download(&self, _title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(SilentReporter)
    }

    /// Returns the options to add to the commands that messages suggest.
    fn command_options(&self) -> SuggestedCommands {
        SuggestedCommands::default()
    }
}

/// Shows the progress of one download. The session drops the reporter when the download ends.
pub trait DownloadReporter: Send + Sync {
    /// Shows the progress so far.
    fn progress(&self, _progress: &DownloadProgress) {}
}

/// The progress of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadProgress {
    /// orch has downloaded a part of the file.
    Bytes {
        /// The number of downloaded bytes.
        downloaded: u64,
        /// The total number of bytes, or 0 while it is unknown.
        total: u64,
    },
    /// Another process downloads the same file, and this process waits for it.
    Waiting,
    /// The download starts from this source.
    Source {
        /// The name of the source.
        name: String,
        /// Why the previous source failed, if there was one.
        previous_failure: Option<String>,
    },
    /// orch verifies the digest of the file.
    Verifying,
}

/// Asks the user questions. By default, each method returns no answer.
pub trait Prompter: Send + Sync {
    /// Asks a yes-or-no question. Returns `None` if no user can answer.
    fn confirm(&self, _question: &str) -> Option<bool> {
        None
    }

    /// Returns a prompter that asks for approvals during a run. If this is `None`, the run stops and waits for
    /// [`Runner::answer`](super::Runner::answer).
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        None
    }
}

/// A reporter and prompter that shows nothing and returns no answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilentReporter;

impl Reporter for SilentReporter {}
impl Prompter for SilentReporter {}
impl DownloadReporter for SilentReporter {}

impl Observer for SilentReporter {
    fn on_event(&self, _: &Event) {}
    fn on_progress(&self, _: &CallProgress) {}
}
