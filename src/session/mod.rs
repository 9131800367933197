//! Runs pipelines from Rust code: starts, resumes, dry-runs, answers, cancels and follows runs.
//!
//! A [`Runner`] has the functions of the command line, but needs no terminal: it gets folders and variables from an
//! [`Environment`], reports through a [`Reporter`] and asks the user through a [`Prompter`]. The command line uses it
//! too.
//!
//! ```no_run
//! use orch::session::{Environment, RunRequest, Runner};
//! use serde_json::json;
//!
//! # async fn run() -> Result<(), orch::session::SessionError> {
//! let runner = Runner::new(Environment::from_process()?);
//! let inputs = json!({ "task": "Create a User model" }).as_object().cloned().unwrap_or_default();
//! let result = runner.start(&RunRequest::new("pipelines/default.yaml", inputs)).await?;
//! assert_eq!(result.state.status.as_str(), "completed");
//! # Ok(())
//! # }
//! ```
//!
//! The futures need a single-threaded runtime: they hold the run's locks and are not `Send`.

mod answer;
mod artifact_drift;
mod cancel;
mod clean;
mod dry_run;
mod environment;
mod error;
pub(crate) mod execute;
mod file_drift;
mod follow;
pub(crate) mod inputs;
mod interrupted_turns;
mod isolated;
mod location;
mod locks;
pub(crate) mod models;
pub(crate) mod prepare;
pub(crate) mod project_files;
pub(crate) mod project_state;
mod reporter;
mod resume;
mod sandbox;
mod start;
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
use crate::process::{CONFINE_COMMAND, GUARD_COMMAND, SandboxProbe, run_confine, run_guard};
use crate::store::set_key_folder;

pub use answer::{AnswerRequest, RecordedAnswer};
pub use artifact_drift::ChangedFilesPolicy;
pub use cancel::CancelHandle;
pub use dry_run::{DryRunAction, PlannedAction};
pub use environment::Environment;
pub(crate) use environment::user_config_dir;
pub use error::{ExitStatus, SessionError};
pub use execute::run_ended;
pub use follow::RunEventStream;
pub use inputs::InputSource;
pub use prepare::plan_project;
pub use project_state::StateFolder;
pub use reporter::{DownloadProgress, DownloadReporter, Prompter, Reporter, Silent};
pub use resume::{DryRun, ResumeRequest};
pub use start::RunRequest;

pub(crate) use answer::pending_approvals;
pub(crate) use isolated::IsolatedRun;
pub(crate) use location::{locate, run_workspace};
pub(crate) use locks::RunLocks;
pub(crate) use resume::find_step;

/// Starts, resumes, answers, cancels and follows runs.
pub struct Runner {
    pub(crate) environment: Environment,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(crate) prompter: Arc<dyn Prompter>,
    /// What sandbox this machine can enforce.
    pub(crate) sandbox_probe: SandboxProbe,
    active: Mutex<HashMap<RunId, CancelHandle>>,
}

impl Runner {
    /// A runner that shows nothing and asks no questions.
    pub fn new(environment: Environment) -> Self {
        if let Some(folder) = environment.config_dir() {
            set_key_folder(folder.to_owned());
        }
        let sandbox_probe = SandboxProbe::new(environment.guard().to_owned());
        let (reporter, prompter) = (Arc::new(Silent), Arc::new(Silent));
        Self { environment, reporter, prompter, sandbox_probe, active: Mutex::default() }
    }

    /// The same with a reporter that shows progress.
    #[must_use]
    pub fn with_reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporter = reporter;
        self
    }

    /// The same with a prompter that asks the user.
    #[must_use]
    pub fn with_prompter(mut self, prompter: Arc<dyn Prompter>) -> Self {
        self.prompter = prompter;
        self
    }

    /// Asks a run that this runner started or resumed to stop; see [`CancelHandle::cancel`]. Returns whether the run
    /// was running.
    pub fn cancel(&self, run: RunId) -> bool {
        let handle = self.active.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        if let Some(handle) = &handle {
            handle.cancel();
        }
        handle.is_some()
    }

    /// Follows a run of any process: returns its events so far, then each new event once it is recorded. `run` is the
    /// run's id or the start of the id; if `None`, orch follows the latest run.
    ///
    /// # Errors
    /// The run or the journal does not exist.
    pub fn follow(&self, state: &StateFolder, run: Option<&str>) -> Result<RunEventStream, SessionError> {
        let journal = state.open_journal(&project_state::project_root(self.current_dir()))?;
        let row = match run {
            Some(id) => project_state::find_run(&journal, id)?,
            None => journal.runs(1)?.into_iter().next().ok_or_else(|| SessionError::usage("there are no runs yet"))?,
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
        self.active.lock().unwrap_or_else(PoisonError::into_inner).insert(run, cancel);
        ActiveRun { runner: self, run }
    }
}

/// The registration of a cancellable run.
pub(crate) struct ActiveRun<'r> {
    runner: &'r Runner,
    run: RunId,
}

impl Drop for ActiveRun<'_> {
    fn drop(&mut self) {
        self.runner.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

/// How a run ended, or the state in which it waits.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// The state of the run, computed from its events.
    pub state: RunState,
    /// The folder of its journal.
    pub state_folder: PathBuf,
    /// Why the recordings are incomplete, if the request asked for recordings.
    pub recording: Option<Failure>,
}

impl RunResult {
    pub(crate) fn new(state: RunState, state_folder: &Path, record_replay: &RecordReplay) -> Self {
        let recording = record_replay.recorder.as_ref().and_then(|recorder| recorder.failure());
        Self { state, state_folder: state_folder.to_owned(), recording }
    }

    /// The exit code for this run. Incomplete recordings count as a failure if the request asked for recordings.
    pub fn exit_status(&self) -> ExitStatus {
        match (execute::exit_status(&self.state), &self.recording) {
            (ExitStatus::Success, Some(_)) => ExitStatus::Failed,
            (status, _) => status,
        }
    }
}

/// Runs the guard or the sandbox of a run's processes and returns its exit code, if this process was started as one.
///
/// orch starts its own executable again as a guard of the commands and CLI agents of a run, and to confine them. So does
/// a program that embeds orch. Call this first in `main`, before anything else reads the arguments.
pub fn guard_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let run: fn(&[OsString]) -> ExitCode = match first.to_str() {
        Some(GUARD_COMMAND) => run_guard,
        Some(CONFINE_COMMAND) => run_confine,
        _ => return None,
    };
    Some(run(&arguments.collect::<Vec<OsString>>()))
}
