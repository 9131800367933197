//! What starting and resuming a run share: this process runs a plan and owns the run until its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Map;

use crate::agent::ModelRegistry;
use crate::clock::SystemClock;
use crate::config::Project;
use crate::durable::{Interrupt, Observer};
use crate::engine::budget::Budgets;
use crate::engine::gate::{CONCURRENCY, ProviderAllowance, RateLimiters};
use crate::engine::perform::{Exchange, Performer};
use crate::engine::{self, Plan};
use crate::model::event::{Event, Fact, MissingFile, RunEnded, RunStarted};
use crate::model::{Class, Failure, RunId, RunState, RunStatus};
use crate::process::GuardProgram;
use crate::report::PrintedCommands;
use crate::secret::secrets_listed;
use crate::store::{ApprovalPrompter, CancelSwitch, Journal, LocalRun, ResultCache, RunParts, WorkspaceView};

use super::Runner;
use super::cancel::CancelHandle;
use super::error::{ExitStatus, SessionError};
use super::file_drift::FileHistory;
use super::locks::RunLocks;
use super::models::ResolvedModels;
use super::project_state::printed_commands;
use super::trackers::Trackers;

/// A run that is about to start or continue.
pub(crate) struct RunContext<'a> {
    /// The journal.
    pub(crate) journal: &'a Journal,
    /// The run.
    pub(crate) run: RunId,
    /// Its events so far.
    pub(crate) events: &'a [Event],
    /// Its locks.
    pub(crate) locks: &'a RunLocks,
    /// Its workspace.
    pub(crate) view: WorkspaceView,
    /// The project files that lie inside the workspace.
    pub(crate) project: Vec<String>,
    /// The plan to run.
    pub(crate) plan: &'a Plan,
    /// The models.
    pub(crate) models: Arc<ModelRegistry>,
    /// The limits for concurrent calls and for request rates.
    pub(crate) gates: Arc<RateLimiters>,
    /// The prompter for approvals; if `None`, the one of the session.
    pub(crate) asker: Option<Arc<dyn ApprovalPrompter>>,
    /// The recorder or the replay for exchanges with models.
    pub(crate) exchange: Exchange,
    /// Results of earlier runs, if they may be reused.
    pub(crate) reuse: Option<ResultCache>,
    /// The events to record first.
    pub(crate) first: Vec<Fact>,
    /// The trackers that follow the run.
    pub(crate) trackers: Trackers,
}

impl RunContext<'_> {
    /// When the previous owner of the run was last alive, if it died and the journal does not have that yet.
    fn died(&self) -> Option<jiff::Timestamp> {
        self.first.iter().find_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.previous_owner_last_heartbeat,
            _ => None,
        })
    }

    /// Missing files that the resumed run accepts.
    fn without(&self) -> impl Iterator<Item = &MissingFile> {
        self.first.iter().flat_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.missing_files.as_slice(),
            _ => &[],
        })
    }
}

/// The first event of a run, with what every run has in common; the caller fills in the rest.
pub(crate) fn started(root: &Path, file: &Path, project: &Project, view: &WorkspaceView, plan: &Plan) -> RunStarted {
    RunStarted {
        pipeline: project.pipeline.name.clone(),
        root: root.display().to_string(),
        file: file.display().to_string(),
        workspace: view.name(),
        inputs: Map::new(),
        model: None,
        models: ResolvedModels::new(),
        continue_on_error: false,
        budget: None,
        steps: plan.announced(),
        workflow_id: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Runs a plan to its end, or until it waits for the user, and has the trackers follow it. Returns the state of the
/// run.
pub(crate) async fn execute(context: RunContext<'_>, runner: &Runner) -> Result<RunState, SessionError> {
    let run = context.run;
    for name in context.models.too_short() {
        runner.reporter.note(&format!("{name} is too short to be kept out of what is recorded"));
    }
    let trackers = context.trackers.clone();
    let seq = context.events.last().map_or(0, |event| event.seq);
    let follower = trackers.follow(context.journal.state(), run, seq, runner);
    let observer = follower.observer(runner.reporter.observer(run, context.events));
    let ended = to_its_end(context, &observer, runner).await;
    // Stops drawing before anything else is printed.
    drop(observer);
    trackers.finish(follower, run, runner).await;
    ended
}

async fn to_its_end(
    mut context: RunContext<'_>,
    observer: &Arc<dyn Observer>,
    runner: &Runner,
) -> Result<RunState, SessionError> {
    let switch = CancelSwitch::default();
    let _active = runner.active(context.run, CancelHandle::new(switch.clone(), observer));
    let mut events = context.events.to_vec();
    loop {
        let letters = context.journal.letters(context.run)?;
        context.first.extend(letters.iter().map(|(_, letter)| letter.clone().fact()));
        let budgets = Budgets::new(context.plan, &events, context.died(), context.models.clone());
        let parts = parts(&context, &events, observer.clone(), budgets.clone(), switch.clone(), runner)?;
        let run = LocalRun::open(context.journal, parts, &events)?;
        for fact in std::mem::take(&mut context.first) {
            run.announce(fact);
        }
        let ended = engine::interpret(&run, context.plan).await;
        let numbers: Vec<i64> = letters.iter().map(|(number, _)| *number).collect();
        let ended = match run_ended(ended) {
            Ok(ended) if ended.status == RunStatus::Completed => {
                // Every step completed, but orch can't know whether the run stayed within its budget.
                budgets.usage_unknown().map_or(ended, |failure| over(RunStatus::Failed, Some(failure)))
            }
            Ok(ended) if ended.status == RunStatus::Waiting => {
                if let Err(stop) = taken_in(&run, &context, &numbers).await {
                    return broke_off(stop, run, &context, runner);
                }
                // The user may have answered while other steps ran.
                if !context.journal.letters(context.run)?.is_empty() {
                    drop(run);
                    events = context.journal.events(context.run)?;
                    continue;
                }
                ended
            }
            Ok(ended) => ended,
            Err(stop) => return broke_off(stop, run, &context, runner),
        };
        let concluded = match taken_in(&run, &context, &numbers).await {
            Ok(()) => run.conclude(Fact::RunEnded(ended)).await,
            Err(stop) => Err(stop),
        };
        return match concluded {
            Ok(()) => Ok(run.state()),
            Err(stop) => broke_off(stop, run, &context, runner),
        };
    }
}

/// The end of a run, by the result of interpreting its plan.
///
/// # Errors
/// The journal, a blob or the workspace failed, so that the end can't be recorded.
pub fn run_ended(interpreted: Result<RunEnded, Interrupt>) -> Result<RunEnded, Interrupt> {
    match interpreted {
        Ok(ended) => Ok(ended),
        Err(Interrupt::Cancelled | Interrupt::Dropped) => Ok(over(RunStatus::Cancelled, None)),
        Err(Interrupt::Parked) => Ok(over(RunStatus::Waiting, None)),
        Err(Interrupt::OverBudget(failure)) => Ok(over(RunStatus::Failed, Some(failure))),
        Err(stop @ Interrupt::Storage(_)) => Err(stop),
    }
}

/// Removes messages from the inbox once their facts are in the journal.
async fn taken_in(run: &LocalRun, context: &RunContext<'_>, letters: &[i64]) -> Result<(), Interrupt> {
    if letters.is_empty() {
        return Ok(());
    }
    run.settle().await?;
    context.journal.discard(letters).map_err(|error| Interrupt::Storage(error.failure()))
}

fn over(status: RunStatus, failure: Option<Failure>) -> RunEnded {
    RunEnded { status, failure, result: None }
}

fn parts(
    context: &RunContext<'_>,
    events: &[Event],
    observer: Arc<dyn Observer>,
    budgets: Arc<Budgets>,
    switch: CancelSwitch,
    runner: &Runner,
) -> Result<RunParts, SessionError> {
    let mut laid = FileHistory::of(context.run, events)?.laid();
    context.without().for_each(|file| laid.forget(&file.path));
    let performer = Performer {
        models: context.models.clone(),
        observer: observer.clone(),
        redactor: Arc::new(context.models.redactor_with(&listed(context.plan, runner))),
        workspace: context.view.folder().to_path_buf(),
        homes: context.journal.homes(context.run),
        artifacts: context.plan.paths(),
        project: context.project.clone(),
        variables: runner.environment.variables(),
        gates: remembering(&context.gates, events),
        budgets,
        exchange: context.exchange.clone(),
        laid: Arc::new(Mutex::new(laid)),
        clock: Arc::new(SystemClock),
        guard: GuardProgram { path: runner.environment.guard().to_owned(), held: context.locks.programs.shared() },
        endings: Arc::default(),
    };
    let asker = context.asker.clone().or_else(|| runner.prompter.approver());
    let (run, view, perform, reuse) = (context.run, context.view.clone(), Arc::new(performer), context.reuse.clone());
    let heartbeat = context.locks.run.heartbeat()?;
    let clock = Arc::new(SystemClock);
    Ok(RunParts { run, view, perform, observer, switch, asker, reuse, heartbeat, clock })
}

/// The rate limiters, updated with what the run's events say about providers.
fn remembering(gates: &Arc<RateLimiters>, events: &[Event]) -> Arc<RateLimiters> {
    gates.remember(events);
    gates.clone()
}

/// The secrets among the variables that steps and agents list.
pub(crate) fn listed(plan: &Plan, runner: &Runner) -> Vec<(String, secrecy::SecretString)> {
    let variables = runner.environment.variables();
    let set = |name: &str| Some((name.to_owned(), variables(name)?));
    secrets_listed(plan.variables().into_iter().filter_map(set))
}

/// The state of a run whose journal or files could not be written: as far as it is recorded.
fn broke_off(
    stop: Interrupt,
    run: LocalRun,
    context: &RunContext<'_>,
    runner: &Runner,
) -> Result<RunState, SessionError> {
    let Interrupt::Storage(mut failure) = stop else { return Err(SessionError::usage(stop.to_string())) };
    let unrecorded = run.state();
    // When it is dropped, the writer records what is still queued.
    drop(run);
    let events = context.journal.events(context.run);
    let is_unrecorded = events.as_ref().is_ok_and(Vec::is_empty);
    let remedy = failure.hint.take().unwrap_or_else(|| "look after the disk and its folder".to_owned());
    failure.hint = Some(if is_unrecorded {
        format!("{remedy}, then start the run again; nothing of it could be recorded")
    } else {
        let commands = printed_commands(context.journal.state(), runner.current_dir(), &PrintedCommands::default());
        let resume = commands.resume(context.run);
        format!("{remedy}, then `{resume}` goes on from here; nothing that was recorded is asked again")
    });
    let recorded = events.ok().filter(|events| !events.is_empty());
    let mut state = recorded.map_or(unrecorded, |events| RunState::fold(context.run, &events));
    state.interrupt();
    state.failure = Some(failure);
    Ok(state)
}

/// The rate limiters for the limits in a project's settings.
pub(crate) fn gates(project: &Project) -> Arc<RateLimiters> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let settings = &project.settings;
    let providers = settings.providers.iter().map(|(name, entry)| {
        let allowance = ProviderAllowance {
            concurrency: entry.max_concurrency.map(count),
            requests: entry.requests_per_minute,
            tokens: entry.tokens_per_minute,
        };
        (name.clone(), allowance)
    });
    let known: Vec<(String, ProviderAllowance)> = providers.collect();
    // A provider without settings has only the limits that it reports itself.
    let others = crate::model::name::BUILT_IN.iter().chain([&crate::model::name::LOCAL]);
    let others = others.filter(|name| !settings.providers.contains_key(**name));
    let others: Vec<_> = others.map(|name| ((*name).to_owned(), ProviderAllowance::default())).collect();
    Arc::new(RateLimiters::new(
        settings.limits.max_concurrency.map_or(CONCURRENCY, count),
        known.into_iter().chain(others),
    ))
}

/// The exit code for the end of a run.
pub(crate) fn exit_status(state: &RunState) -> ExitStatus {
    match state.status {
        RunStatus::Completed => ExitStatus::Success,
        // A storage failure interrupted the run, not the user.
        RunStatus::Interrupted if state.failure.is_some() => ExitStatus::Failed,
        RunStatus::Cancelled | RunStatus::Interrupted => ExitStatus::Interrupted,
        RunStatus::Waiting => ExitStatus::Waiting,
        RunStatus::Failed if state.failure.as_ref().is_some_and(|failure| is_limit(failure.class)) => ExitStatus::Limit,
        RunStatus::Failed | RunStatus::Running => ExitStatus::Failed,
    }
}

/// Whether a failure of this class means that a limit was reached.
fn is_limit(class: Class) -> bool {
    matches!(class, Class::BudgetExceeded | Class::UsageUnknown)
}

/// The folder for a `--workspace` flag. A folder that the user names may be a link; the default one must not be, since
/// the project could contain it.
pub(crate) fn workspace(flag: Option<&PathBuf>, here: &Path) -> PathBuf {
    flag.map_or_else(|| here.join("workspace"), |named| super::project_state::without_link(here.join(named)))
}

/// A path of a request, for opening files and for messages: relative if it is below the current folder and that is the
/// process's current folder too.
pub(crate) fn short_path(path: &Path, here: &Path) -> PathBuf {
    let is_own = std::env::current_dir().is_ok_and(|own| own == here);
    if is_own { path.strip_prefix(here).unwrap_or(path).to_owned() } else { here.join(path) }
}

/// A project's root, which is absolute, and its pipeline file, relative to the root.
pub(crate) fn places(project: &Project, here: &Path) -> (PathBuf, PathBuf) {
    let root = here.join(&project.root);
    let root = root.canonicalize().unwrap_or(root);
    let file = here.join(&project.document.file.path);
    let file = file.canonicalize().unwrap_or(file);
    let relative = file.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(file);
    (root, relative)
}
