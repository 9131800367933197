//! Executes a new or resumed run. This process owns the run until the run ends or waits for the user.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Map;

use crate::accounts::{LocalFiles, RateLimiters};
use crate::agent::ModelRegistry;
use crate::clock::SystemClock;
use crate::config::Project;
use crate::durable::{Interrupt, Observer};
use crate::engine::perform::{Performer, QuestionPrompter, RecordReplay};
use crate::engine::{self, Plan};
use crate::files::{ChangeSet, PathIndex};
use crate::model::event::{Event, Fact, MissingFile, RunEnded, RunStarted};
use crate::model::{Failure, FailureClass, RunId, RunState, RunStatus, StepKey};
use crate::process::SupervisorSpec;
use crate::report::SuggestedCommands;
use crate::secret::{secrets_for_servers, secrets_in_listed_variables};
use crate::store::{ApprovalPrompter, Journal, LocalRun, ResultCache, RunParts, StopSignal, Workspace};
use crate::tool::mcp::McpServers;

use super::Runner;
use super::cancel::CancelHandle;
use super::error::{ExitStatus, RunnerError};
use super::file_drift::FileHistory;
use super::locks::RunLocks;
use super::mcp_servers::{ServerParts, mcp_servers};
use super::message_handler::MessageHandler;
use super::models::ResolvedModels;
use super::project_state::commands_for_journal;
use super::rate_limits::restore_rate_limiters;
use super::run_log::{log_restart, log_session};
use super::session_budgets::SessionBudgets;
use super::trackers::Trackers;

/// A run that is about to start or continue.
pub(crate) struct RunContext<'a> {
    /// The journal.
    pub(crate) journal: &'a Journal,
    /// The run's id.
    pub(crate) run: RunId,
    /// The run's events so far.
    pub(crate) events: &'a [Event],
    /// The run's locks, which this process holds.
    pub(crate) locks: &'a RunLocks,
    /// The run's workspace.
    pub(crate) workspace: Workspace,
    /// The project files that lie inside the workspace.
    pub(crate) project_files: Vec<String>,
    /// All project files, absolute and with links resolved.
    pub(crate) project_paths: Vec<PathBuf>,
    /// The plan to run.
    pub(crate) plan: &'a Plan,
    /// The models that the project can use.
    pub(crate) models: Arc<ModelRegistry>,
    /// The limits of concurrent calls and of request rates.
    pub(crate) rate_limiters: Arc<RateLimiters>,
    /// The prompter for approvals. If `None`, orch uses the session's prompter.
    pub(crate) approver: Option<Arc<dyn ApprovalPrompter>>,
    /// The recorder of model calls and commands, and the recordings that replace them.
    pub(crate) record_replay: RecordReplay,
    /// The results of earlier runs, if this run may reuse them.
    pub(crate) result_cache: Option<ResultCache>,
    /// The facts to record before the plan runs: that the run starts or continues, and what orch found out about the
    /// previous session.
    pub(crate) facts_to_record: Vec<Fact>,
    /// The trackers that follow the run.
    pub(crate) trackers: Trackers,
}

impl RunContext<'_> {
    /// The last heartbeat of the run's previous owner, if the owner died and no recorded event contains the time yet.
    fn previous_owner_last_heartbeat(&self) -> Option<jiff::Timestamp> {
        self.facts_to_record.iter().find_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.previous_owner_last_heartbeat,
            _ => None,
        })
    }

    /// The file changes of the turns and tool calls that the end of the run's previous owner interrupted.
    fn interrupted_changes(&self) -> impl Iterator<Item = ChangeSet> {
        self.facts_to_record.iter().filter_map(|fact| match fact {
            Fact::CallEnded(call) => serde_json::from_value(call.activity()?.files.clone()?).ok(),
            _ => None,
        })
    }

    /// The missing files that orch does not restore before it continues the run.
    fn missing_files(&self) -> impl Iterator<Item = &MissingFile> {
        self.facts_to_record.iter().flat_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.missing_files.as_slice(),
            _ => &[],
        })
    }
}

/// Creates the first fact of a run. The caller sets the fields that are empty here.
pub(crate) fn run_started_fact(
    root: &Path,
    file: &Path,
    project: &Project,
    workspace: &Workspace,
    plan: &Plan,
) -> RunStarted {
    RunStarted {
        pipeline: project.pipeline.name.clone(),
        root: root.display().to_string(),
        file: file.display().to_string(),
        workspace: workspace.path_in_journal(),
        inputs: Map::new(),
        model: None,
        agents: BTreeMap::new(),
        models: ResolvedModels::new(),
        continue_on_error: false,
        budget: None,
        replay: None,
        recording_folder: None,
        steps: plan.planned_steps(),
        tracker_workflow_id: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Runs a plan to its end, or until it waits for the user, and delivers its events to the trackers. Returns the state
/// of the run.
pub(crate) async fn execute_run(context: RunContext<'_>, runner: &Runner) -> Result<RunState, RunnerError> {
    let run = context.run;
    for name in context.models.unredactable_names() {
        runner.reporter.note(&format!("the value of {name} is too short to redact it from the records"));
    }
    let trackers = context.trackers.clone();
    let last_seq = context.events.last().map_or(0, |event| event.seq);
    let follower = trackers.follow(context.journal.state_folder(), run, last_seq, runner);
    let observer = follower.observer(runner.reporter.observer(run, context.events));
    let is_resumed = !context.events.is_empty();
    let state = log_session(run, is_resumed, Box::pin(run_to_end(context, &observer, runner))).await;
    // Dropping the observer removes the live progress lines, so that later messages do not mix with them.
    drop(observer);
    trackers.finish(follower, run, runner).await;
    state
}

async fn run_to_end(
    mut context: RunContext<'_>,
    observer: &Arc<dyn Observer>,
    runner: &Runner,
) -> Result<RunState, RunnerError> {
    let stop_signal = StopSignal::default();
    let cancel = CancelHandle::new(stop_signal.clone(), observer);
    let _registration = runner.register_active(context.run, cancel.clone());
    let mut events = Cow::Borrowed(context.events);
    loop {
        let messages = context.journal.pending_messages(context.run)?;
        let budgets = SessionBudgets::open(&context, &events, context.previous_owner_last_heartbeat());
        let (parts, servers) =
            run_parts(&context, &events, observer.clone(), budgets.clone(), stop_signal.clone(), runner)?;
        let run = LocalRun::open(context.journal, parts, &events)?;
        for fact in std::mem::take(&mut context.facts_to_record) {
            run.enqueue(fact);
        }
        let handler = MessageHandler {
            run_id: context.run,
            run: &run,
            budgets: &*budgets.account,
            cancel: &cancel,
            owned_since: context.locks.acquired_at,
            runner,
        };
        let interpreted = Box::pin(engine::interpret(&run, context.plan));
        let result = handler.handle_during(context.journal, messages, interpreted).await?;
        // No server may change files after the end of the run is recorded.
        servers.shutdown().await;
        let run_end = match to_run_end(result) {
            Ok(run_end) if run_end.status == RunStatus::Completed => {
                // With unknown usage, orch can't know whether the completed run stayed within its budget.
                budgets.usage_unknown().map_or(run_end, |failure| new_run_end(RunStatus::Failed, Some(failure)))
            }
            Ok(run_end) if run_end.status == RunStatus::Waiting => {
                if let Err(interrupt) = run.flush().await {
                    return interrupted_state(interrupt, run, &context, runner);
                }
                // The user may have answered in another process while the last branch stopped to wait.
                if run.has_late_answer() || !context.journal.pending_messages(context.run)?.is_empty() {
                    drop(run);
                    log_restart();
                    events = Cow::Owned(context.journal.events(context.run)?);
                    continue;
                }
                run_end
            }
            Ok(run_end) => run_end,
            Err(interrupt) => return interrupted_state(interrupt, run, &context, runner),
        };
        return match run.finish(Fact::RunEnded(run_end)).await {
            Ok(()) => Ok(run.state()),
            Err(interrupt) => interrupted_state(interrupt, run, &context, runner),
        };
    }
}

/// Converts the result of interpreting a plan to the content of the run's last event.
///
/// # Errors
/// orch could not write to its journal, its blobs or the workspace, so it can't record the end of the run.
pub fn to_run_end(interpreted: Result<RunEnded, Interrupt>) -> Result<RunEnded, Interrupt> {
    match interpreted {
        Ok(run_end) => Ok(run_end),
        Err(Interrupt::Cancelled | Interrupt::GroupHalted) => Ok(new_run_end(RunStatus::Cancelled, None)),
        Err(Interrupt::Parked) => Ok(new_run_end(RunStatus::Waiting, None)),
        Err(Interrupt::OverBudget(failure)) => Ok(new_run_end(RunStatus::Failed, Some(failure))),
        Err(interrupt @ Interrupt::Storage(_)) => Err(interrupt),
    }
}

fn new_run_end(status: RunStatus, failure: Option<Failure>) -> RunEnded {
    RunEnded { status, failure, result: None }
}

fn run_parts(
    context: &RunContext<'_>,
    events: &[Event],
    observer: Arc<dyn Observer>,
    budgets: SessionBudgets,
    stop_signal: StopSignal,
    runner: &Runner,
) -> Result<(RunParts, Arc<McpServers>), RunnerError> {
    let mut ledger = FileHistory::from_events(context.run, events)?.ledger();
    context.missing_files().for_each(|file| ledger.forget(&file.path));
    context.interrupted_changes().for_each(|changes| ledger.record(&changes));
    let redactor = Arc::new(context.models.redactor_with(&listed_secrets(context.plan, runner)));
    let supervisor = SupervisorSpec {
        path: runner.environment.supervisor().to_owned(),
        locked_file: context.locks.programs.shared_file(),
    };
    let sandbox = runner.sandbox_host(
        context.workspace.folder().to_path_buf(),
        Some(PathBuf::from(&*context.plan.project_root)),
        protected_paths(context),
        Some(state_folder(context)),
    );
    let prompter = context.approver.clone().or_else(|| runner.prompter.approver());
    let server_parts = ServerParts {
        sandbox: sandbox.clone(),
        supervisor: supervisor.clone(),
        redactor: redactor.clone(),
        legacy_servers: Some(context.journal.mcp_servers_file()),
        can_ask: prompter.is_some(),
    };
    let servers = mcp_servers(server_parts, runner);
    let performer = Performer {
        models: context.models.clone(),
        observer: observer.clone(),
        redactor,
        workspace: context.workspace.folder().to_path_buf(),
        agents_folder: context.journal.agents_folder(context.run),
        artifact_files: Arc::new(PathIndex::new(context.plan.artifact_paths())),
        project_files: Arc::new(PathIndex::new(context.project_files.as_slice())),
        env_vars: runner.environment.variable_lookup(),
        rates: restore_rate_limiters(&context.rate_limiters, events),
        budgets: budgets.account,
        meter: budgets.meter,
        record_replay: context.record_replay.clone().with_folders(
            context.workspace.folder(),
            Path::new(&*context.plan.project_root),
            runner.environment.variable_lookup()("TMPDIR"),
        ),
        files: Arc::new(LocalFiles::new(ledger)),
        clock: Arc::new(SystemClock),
        supervisor,
        endings: Arc::default(),
        sandbox,
        mcp: servers.clone(),
        prompter: prompter.clone().map(question_prompter),
    };
    let parts = RunParts {
        run: context.run,
        workspace: context.workspace.clone(),
        perform: Arc::new(performer),
        observer,
        stop_signal,
        prompter,
        result_cache: context.result_cache.clone(),
        heartbeat: context.locks.run.heartbeat()?,
        clock: Arc::new(SystemClock),
    };
    Ok((parts, servers))
}

/// Asks the user during a call, as for an approval.
fn question_prompter(prompter: Arc<dyn ApprovalPrompter>) -> QuestionPrompter {
    Arc::new(move |step: StepKey, question: String| prompter.prompt(step, question))
}

/// The files of the project, and the folder with its journal. No confined program may change them.
fn protected_paths(context: &RunContext<'_>) -> Vec<PathBuf> {
    context.project_paths.iter().cloned().chain([state_folder(context)]).collect()
}

/// The folder with the journal, with links resolved.
fn state_folder(context: &RunContext<'_>) -> PathBuf {
    let folder = context.journal.state_folder();
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// The secrets among the environment variables that steps and agents list, and those that MCP servers receive.
pub(crate) fn listed_secrets(plan: &Plan, runner: &Runner) -> Vec<(String, SecretString)> {
    let variables = runner.environment.variable_lookup();
    let with_value = |name: &str| Some((name.to_owned(), variables(name)?));
    let listed = secrets_in_listed_variables(plan.variables().into_iter().filter_map(with_value));
    let of_servers = plan.mcp_servers().into_iter().flat_map(|(_, server)| server.variables());
    listed.into_iter().chain(secrets_for_servers(of_servers.filter_map(with_value))).collect()
}

/// The recorded state of a run, after orch failed to write to its journal or to the workspace.
fn interrupted_state(
    interrupt: Interrupt,
    run: LocalRun,
    context: &RunContext<'_>,
    runner: &Runner,
) -> Result<RunState, RunnerError> {
    let Interrupt::Storage(mut failure) = interrupt else {
        return Err(RunnerError::usage(interrupt.to_string()));
    };
    let state_in_memory = run.state();
    // Dropping the run records the events that are still queued.
    drop(run);
    let events = context.journal.events(context.run);
    let has_no_events = events.as_ref().is_ok_and(Vec::is_empty);
    let remedy = failure.hint.take().unwrap_or_else(|| "check the disk and its folder".to_owned());
    failure.hint = Some(if has_no_events {
        format!("{remedy}, then start the run again; orch could not record any part of it")
    } else {
        let commands =
            commands_for_journal(context.journal.state_folder(), runner.current_dir(), &SuggestedCommands::default());
        let resume = commands.resume(context.run);
        format!("{remedy}, then `{resume}` continues the run; orch reuses the recorded replies")
    });
    let recorded = events.ok().filter(|events| !events.is_empty());
    let mut state = recorded.map_or(state_in_memory, |events| RunState::fold(context.run, &events));
    state.mark_interrupted();
    state.failure = Some(failure);
    Ok(state)
}

/// The exit code for the end of a run.
pub(crate) fn exit_status(state: &RunState) -> ExitStatus {
    match state.status {
        RunStatus::Completed => ExitStatus::Success,
        // A failure in an interrupted run means that orch could not write. The user did not stop the run.
        RunStatus::Interrupted if state.failure.is_some() => ExitStatus::Failed,
        RunStatus::Cancelled | RunStatus::Interrupted => ExitStatus::Interrupted,
        RunStatus::Waiting => ExitStatus::Waiting,
        RunStatus::Failed if state.failure.as_ref().is_some_and(|failure| is_limit(failure.class)) => ExitStatus::Limit,
        RunStatus::Failed | RunStatus::Running => ExitStatus::Failed,
    }
}

/// Whether a failure of this class means that a limit was reached.
fn is_limit(class: FailureClass) -> bool {
    matches!(class, FailureClass::BudgetExceeded | FailureClass::UsageUnknown)
}

/// The path of the workspace: the folder that the user requests, or `workspace` in the current folder. orch follows a
/// link only if the user requests it, because a project could contain a link at the default path.
pub(crate) fn workspace_path(requested: Option<&PathBuf>, current_dir: &Path) -> PathBuf {
    requested.map_or_else(
        || current_dir.join("workspace"),
        |path| super::project_state::resolve_link(current_dir.join(path)),
    )
}

/// Resolves a path of a request against the session's current folder. If the process has the same current folder, a
/// path inside this folder stays relative, so that messages show the short path.
pub(crate) fn resolve_path(path: &Path, current_dir: &Path) -> PathBuf {
    let is_process_dir = std::env::current_dir().is_ok_and(|dir| dir == current_dir);
    if is_process_dir { path.strip_prefix(current_dir).unwrap_or(path).to_owned() } else { current_dir.join(path) }
}

/// The absolute root of a project, and the path of the pipeline file relative to the root.
pub(crate) fn root_and_file(project: &Project, current_dir: &Path) -> (PathBuf, PathBuf) {
    let root = current_dir.join(&project.root);
    let root = root.canonicalize().unwrap_or(root);
    let file = current_dir.join(&project.document.file.path);
    let file = file.canonicalize().unwrap_or(file);
    let relative = file.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(file);
    (root, relative)
}
