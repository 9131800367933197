//! Raises the budget of a run that another process executes, or that waits.

use jiff::Timestamp;

use crate::config;
use crate::model::budget::Budget;
use crate::model::event::BudgetRaised;
use crate::model::{RunId, RunState, RunStatus};
use crate::store::{InboxMessage, Journal, Lock};

use super::Runner;
use super::error::RunnerError;
use super::execute::resolve_path;
use super::location::{locate, pipeline_file};
use super::messages::{SentMessage, find_run_in_progress, send};
use super::project_state::{StateFolder, project_root};

/// A request to raise the budget of a run; see [`Runner::raise_budget`].
#[derive(Clone, Debug, Default)]
pub struct RaiseBudgetRequest {
    /// The run's id or the start of its id. If `None`, orch chooses the only run in progress.
    pub run: Option<String>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// The new limits. The run keeps its limits that are higher or that these do not contain.
    pub limits: Budget,
    /// The name of the user who raises the budget.
    pub user: String,
}

impl RaiseBudgetRequest {
    /// Checks that a run with this budget has one of the limits to raise.
    ///
    /// # Errors
    /// It has none of them.
    pub fn check_budget(&self, run: RunId, budget: &Budget) -> Result<(), RunnerError> {
        let wanted = &self.limits;
        let limits = [
            wanted.usd.map(|usd| (format!("usd={usd}"), "dollars", budget.usd.is_some())),
            wanted.tokens.map(|tokens| (format!("tokens={tokens}"), "tokens", budget.tokens.is_some())),
            wanted.seconds.map(|seconds| (format!("seconds={seconds}"), "seconds", budget.seconds.is_some())),
        ];
        let limits: Vec<_> = limits.into_iter().flatten().collect();
        if limits.iter().any(|(_, _, is_limited)| *is_limited) {
            return Ok(());
        }
        let units: Vec<&str> = limits.iter().map(|(_, unit, _)| *unit).collect();
        let arguments: Vec<&str> = limits.iter().map(|(argument, _, _)| argument.as_str()).collect();
        let message = format!("run {run} has no limit of {}, so there is nothing to raise", units.join(" or "));
        Err(RunnerError::usage(message).with_hint(format!(
            "a run gets a limit when it begins or continues: `orch pipeline resume {run} --budget {}`",
            arguments.join(",")
        )))
    }
}

/// A request to raise a budget that waits for the process of the run or for its next resume.
#[derive(Clone, Debug)]
pub struct SentRaise {
    /// The message.
    pub message: SentMessage,
    /// The budget with which the next resume begins; `None` if a process executes the run, or if the pipeline file
    /// can't be read.
    pub budget: Option<Budget>,
}

impl Runner {
    /// Raises the budget of a run that is in progress or waits. Later sessions have the raised budget too.
    ///
    /// # Errors
    /// The request has no limit, the run has ended, or no process executes the run and its budget has none of the
    /// limits.
    pub fn raise_budget(&self, request: &RaiseBudgetRequest) -> Result<SentRaise, RunnerError> {
        let Budget { usd, tokens, seconds, .. } = request.limits;
        if usd.is_none() && tokens.is_none() && seconds.is_none() {
            let error = RunnerError::usage("no limit is given");
            return Err(error.with_hint("pass --usd, --tokens or --seconds"));
        }
        let journal = request.state.open_journal(&project_root(self.current_dir()))?;
        let row = find_run_in_progress(&journal, request.run.as_deref())?;
        if !matches!(row.status, RunStatus::Running | RunStatus::Waiting | RunStatus::Interrupted) {
            let error = RunnerError::usage(format!("run {} has ended: it is {}", row.run, row.status.as_str()));
            let hint = format!("`orch pipeline resume {} --budget LIMITS` continues it with another budget", row.run);
            return Err(if row.status == RunStatus::Completed { error } else { error.with_hint(hint) });
        }
        // The process that executes a run knows its budget, and records what it raised.
        let is_running = Lock::is_held(&journal.lock_file(row.run));
        let budget = if is_running { None } else { self.budget_of_resume(&journal, row.run, &request.state)? };
        if let Some(budget) = &budget {
            request.check_budget(row.run, budget)?;
        }
        let raise = BudgetRaised { budget: request.limits.clone(), by: request.user.clone(), at: Timestamp::now() };
        let message = send(&journal, &row, &InboxMessage::RaiseBudget(raise))?;
        Ok(SentRaise { message, budget })
    }

    /// The budget of the run with which a resume without `--budget` begins: the one that the user set for the run, or
    /// that of the pipeline file or of `orch.yaml`. `None` if these files can't be read.
    fn budget_of_resume(
        &self,
        journal: &Journal,
        run: RunId,
        state: &StateFolder,
    ) -> Result<Option<Budget>, RunnerError> {
        let run = RunState::fold(run, &journal.events(run)?);
        if run.budget.is_some() {
            return Ok(run.budget);
        }
        let current_dir = self.current_dir();
        let root = locate(journal, &run, state, &project_root(current_dir))?.root;
        let file = pipeline_file(journal, &run, &root)?;
        // The resume shows the findings of a project that can't be read.
        let project = config::load(&resolve_path(&file, current_dir)).ok();
        Ok(project.map(|project| project.pipeline.budget.or(project.settings.budget).unwrap_or_default()))
    }
}
