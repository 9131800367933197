//! Runs pipelines from Rust code: starts, resumes, dry-runs, answers, cancels and follows runs.
//!
//! A [`Runner`] provides the operations of the command line, but needs no terminal. It reads folders and variables from
//! an [`Environment`], shows progress through a [`Reporter`] and asks the user through a [`Prompter`]. The command line
//! itself uses it.
//!
//! ```no_run
//! use orch::runner::{Environment, RunRequest, Runner};
//! use serde_json::json;
//!
//! # async fn run() -> Result<(), orch::runner::RunnerError> {
//! let runner = Runner::new(Environment::from_process()?);
//! let inputs = json!({ "task": "Create a User model" }).as_object().cloned().unwrap_or_default();
//! let result = runner.start(&RunRequest::new("pipelines/default.yaml", inputs)).await?;
//! assert_eq!(result.state.status.as_str(), "completed");
//! # Ok(())
//! # }
//! ```
//!
//! The futures are not `Send`, so they need a single-threaded runtime.

mod agent_choices;
pub(crate) mod agent_options;
mod answer;
mod artifact_drift;
mod budget_request;
mod cancel;
mod clean;
mod dry_run;
mod environment;
mod error;
pub(crate) mod execute;
mod file_drift;
mod follow;
pub(crate) mod inputs;
mod interrupted_programs;
mod interrupted_turns;
mod isolated;
mod location;
mod locks;
pub(crate) mod mcp_servers;
mod message_handler;
mod messages;
pub(crate) mod models;
pub(crate) mod passed_variables;
mod plan_bundle;
pub(crate) mod preflight;
pub(crate) mod prepare;
pub(crate) mod project_files;
pub(crate) mod project_state;
mod rate_limits;
pub(crate) mod recorded_changes;
mod reporter;
mod resume;
mod resume_request;
mod run_log;
mod run_questions;
pub(crate) mod run_recording;
pub(crate) mod run_replay;
mod sandbox;
mod session_budgets;
mod start;
pub(crate) mod tool_info;
pub(crate) mod tools;
pub(crate) mod trackers;
pub(crate) mod trust;
pub(crate) mod weights;
pub(crate) mod writes;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::perform::RecordReplay;
use crate::model::{Failure, RunId, RunState};
use crate::process::{CONFINE_COMMAND, SUPERVISOR_COMMAND, SandboxProbe, run_confine, run_supervisor};
use crate::report::ResumeOption;
use crate::store::set_signing_key_folder;

pub use answer::{AnswerRequest, RecordedAnswer};
pub use artifact_drift::ChangedFilesPolicy;
pub use budget_request::{RaiseBudgetRequest, SentRaise};
pub use cancel::CancelHandle;
pub use dry_run::{PredictedActionKind, PredictedStepAction};
pub(crate) use environment::user_config_dir;
pub use environment::{BranchMode, Environment};
pub use error::{ExitStatus, RunnerError};
pub use execute::to_run_end;
pub use follow::RunEventStream;
pub use inputs::InputSource;
pub use messages::{CancelRequest, Delivery, SentMessage};
pub use plan_bundle::PlanBundle;
pub use prepare::plan_project;
pub use project_state::StateFolder;
pub use reporter::{DownloadProgress, DownloadReporter, Prompter, Reporter, SilentReporter};
pub use resume::DryRun;
pub use resume_request::ResumeRequest;
pub use start::RunRequest;

pub(crate) use agent_choices::AgentChoices;
pub(crate) use isolated::IsolatedRun;
pub(crate) use location::{locate, run_workspace};
pub(crate) use locks::{RunLocks, remove_project_placeholders};
pub(crate) use prepare::find_step;
pub(crate) use run_questions::{AnsweredQuestion, RunQuestions};

/// Starts, resumes, answers, cancels and follows runs.
pub struct Runner {
    pub(crate) environment: Environment,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(crate) prompter: Arc<dyn Prompter>,
    /// Finds out which sandboxes this machine can enforce.
    pub(crate) sandbox_probe: SandboxProbe,
    active_runs: Mutex<HashMap<RunId, CancelHandle>>,
}

impl Runner {
    /// Creates a runner that shows nothing and asks no questions.
    pub fn new(environment: Environment) -> Self {
        if let Some(folder) = environment.config_dir() {
            set_signing_key_folder(folder.to_owned());
        }
        let sandbox_probe = SandboxProbe::new(environment.supervisor().to_owned());
        let (reporter, prompter) = (Arc::new(SilentReporter), Arc::new(SilentReporter));
        Self { environment, reporter, prompter, sandbox_probe, active_runs: Mutex::default() }
    }

    /// Sets the reporter that shows progress and messages.
    #[must_use]
    pub fn with_reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// Sets the prompter that asks the user.
    #[must_use]
    pub fn with_prompter(mut self, prompter: Arc<dyn Prompter>) -> Self {
        self.prompter = prompter;
        self
    }

    /// Cancels a run that this runner executes; see [`CancelHandle::cancel`]. Returns whether the run was running.
    pub fn cancel(&self, run: RunId) -> bool {
        let handle = self.active_runs.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        if let Some(handle) = &handle {
            handle.cancel();
        }
        handle.is_some()
    }

    /// Follows a run of any process. The stream returns the run's events so far, then each new event after the process
    /// has recorded it. `run` is the run's id or the start of the id. If `run` is `None`, follows the latest run.
    ///
    /// # Errors
    /// The run or the journal does not exist.
    pub fn follow(&self, state: &StateFolder, run: Option<&str>) -> Result<RunEventStream, RunnerError> {
        let journal = state.open_journal(&project_state::project_root(self.current_dir()))?;
        let row = match run {
            Some(id) => project_state::find_run(&journal, id)?,
            None => journal.runs(1)?.into_iter().next().ok_or_else(|| RunnerError::usage("there are no runs yet"))?,
        };
        Ok(RunEventStream::new(journal, row.run))
    }

    /// The current folder.
    pub(crate) fn current_dir(&self) -> &Path {
        self.environment.current_dir()
    }

    /// Makes a run cancellable until the caller drops the returned value.
    pub(crate) fn register_active(&self, run: RunId, cancel: CancelHandle) -> ActiveRun<'_> {
        self.reporter.run_started(run, &cancel);
        self.active_runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run, cancel);
        ActiveRun { runner: self, run }
    }
}

/// While this value exists, [`Runner::cancel`] can cancel the run.
pub(crate) struct ActiveRun<'r> {
    runner: &'r Runner,
    run: RunId,
}

impl Drop for ActiveRun<'_> {
    fn drop(&mut self) {
        self.runner.active_runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

/// The result of a run that has ended or waits for the user.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// The state of the run, computed from its events.
    pub state: RunState,
    /// The folder of the run's journal.
    pub state_folder: PathBuf,
    /// Why the requested recordings are incomplete. `None` if they are complete or were not requested.
    pub recording_failure: Option<Failure>,
    /// A sentence for each recording that the run has written or replayed, and that lacks, or may lack, changes of files.
    pub recording_omissions: Vec<String>,
    /// The options that the next resume needs because the run does not record their folders: its record came from
    /// elsewhere.
    pub resume_options: Vec<ResumeOption>,
}

impl RunResult {
    pub(crate) fn new(state: RunState, state_folder: &Path, record_replay: &RecordReplay) -> Self {
        let recording_failure = record_replay.recorder.as_ref().and_then(|recorder| recorder.failure());
        let recording_omissions = record_replay.omissions();
        let (state_folder, resume_options) = (state_folder.to_owned(), Vec::new());
        Self { state, state_folder, recording_failure, recording_omissions, resume_options }
    }

    /// The exit code for this run. Incomplete recordings count as a failure.
    pub fn exit_status(&self) -> ExitStatus {
        match (execute::exit_status(&self.state), &self.recording_failure) {
            (ExitStatus::Success, Some(_)) => ExitStatus::Failed,
            (status, _) => status,
        }
    }
}

/// If a session started this process as the supervisor of a run's child processes, or to confine a program, does this
/// work and returns its exit code.
///
/// A session starts its own executable again as the supervisor of the run's commands and CLI agents, and to confine
/// them. So a program that embeds orch must call this function first in `main`, before the program reads its arguments.
pub fn supervisor_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let run: fn(&[OsString]) -> ExitCode = match first.to_str() {
        Some(SUPERVISOR_COMMAND) => run_supervisor,
        Some(CONFINE_COMMAND) => run_confine,
        _ => return None,
    };
    Some(run(&arguments.collect::<Vec<OsString>>()))
}
