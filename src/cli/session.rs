//! What `run` and `resume` share: a plan becomes a run of this process, which owns it to its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Map;

use crate::agent::Models;
use crate::clock::SystemClock;
use crate::config::Project;
use crate::durable::{Observer, Stop};
use crate::engine::budget::Budgets;
use crate::engine::gate::{Allowance, CONCURRENCY, Gates};
use crate::engine::perform::{Exchange, Performer};
use crate::engine::{self, Plan};
use crate::model::event::{Event, Fact, LostFile, RunEnded, RunStarted};
use crate::model::{Class, Failure, RunId, RunState, RunStatus};
use crate::process::GuardProgram;
use crate::report::PrintedCommands;
use crate::secret::secrets_listed;
use crate::store::{Asker, Earlier, Journal, LocalRun, Lock, ProgramsLock, RunParts, StopSwitch, View};

use super::error::{CliError, Code};
use super::laid::Record;
use super::report::printed_commands;
use super::resolve::Names;
use super::trackers::Trackers;
use super::ui::Ui;

/// The locks of a run that goes on: of itself and of its workspace.
pub(super) struct Locks {
    /// That of the run.
    pub(super) run: Lock,
    /// That of the workspace which its programs hold too; released before the next one.
    pub(super) programs: ProgramsLock,
    _workspace: Lock,
}

/// Takes the locks, or says who has them. Programs of a process that was killed are waited for.
pub(super) fn lock(journal: &Journal, run: RunId, view: &View) -> Result<Locks, CliError> {
    let me = format!("process {} (run {run})", std::process::id());
    let run_lock = Lock::take(&journal.lock_file(run), &format!("run {run}"), &me)?.disposable();
    let what = format!("the workspace `{}`", view.name());
    let workspace = Lock::take(&view.lock_file(), &what, &me)?.obsolete();
    let programs = ProgramsLock::take(&view.programs_lock_file(), &what, &me)?;
    view.sweep()?;
    Ok(Locks { run: run_lock, programs, _workspace: workspace })
}

/// A run about to go on.
pub(super) struct Ready<'a> {
    /// The journal.
    pub(super) journal: &'a Journal,
    /// The run.
    pub(super) run: RunId,
    /// Its events so far.
    pub(super) events: &'a [Event],
    /// Its locks.
    pub(super) locks: &'a Locks,
    /// Its workspace.
    pub(super) view: View,
    /// The files of the workspace that its project is made of.
    pub(super) project: Vec<String>,
    /// What will be run.
    pub(super) plan: &'a Plan,
    /// The models.
    pub(super) models: Arc<Models>,
    /// How much may go on at once.
    pub(super) gates: Arc<Gates>,
    /// Who answers approvals; the person in front of the terminal when there is one.
    pub(super) asker: Option<Arc<dyn Asker>>,
    /// Where exchanges with models are written, or come from.
    pub(super) exchange: Exchange,
    /// Results of earlier runs, if they may be taken over.
    pub(super) reuse: Option<Earlier>,
    /// What is announced first.
    pub(super) first: Vec<Fact>,
    /// Who follows it from outside.
    pub(super) trackers: Trackers,
}

impl Ready<'_> {
    /// When the process of the session before was last alive, if it died and that is not on record yet.
    fn died(&self) -> Option<jiff::Timestamp> {
        self.first.iter().find_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.last_seen,
            _ => None,
        })
    }

    /// The files that the run goes on without from now on.
    fn without(&self) -> impl Iterator<Item = &LostFile> {
        self.first.iter().flat_map(|fact| match fact {
            Fact::RunResumed(fact) => fact.without.as_slice(),
            _ => &[],
        })
    }
}

/// How a run of a project begins: what every run says of itself; the rest is for the caller to fill in.
pub(super) fn started((root, file): (&Path, &Path), project: &Project, view: &View, plan: &Plan) -> RunStarted {
    RunStarted {
        pipeline: project.pipeline.name.clone(),
        root: root.display().to_string(),
        file: file.display().to_string(),
        workspace: view.name(),
        inputs: Map::new(),
        model: None,
        models: Names::new(),
        continue_on_error: false,
        budget: None,
        steps: plan.announced(),
        workflow_id: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Runs a plan to its end, or until it waits for a person, followed by its trackers; returns the
/// run as it stands then.
pub(super) async fn execute(ready: Ready<'_>, ui: &Ui) -> Result<RunState, CliError> {
    let run = ready.run;
    for name in ready.models.too_short() {
        ui.say(format!("{} {name} is too short to be kept out of what is recorded", ui.style.warn("note:")));
    }
    let trackers = ready.trackers.clone();
    let seq = ready.events.last().map_or(0, |event| event.seq);
    let follower = trackers.follow(ready.journal.state(), run, seq, ui);
    let observer = follower.observer(ui.observer(run, ready.events));
    let ended = to_its_end(ready, &observer, ui).await;
    // What it draws must not be in the way of what is said from now on.
    drop(observer);
    trackers.finish(follower, run, ui).await;
    ended
}

async fn to_its_end(mut ready: Ready<'_>, observer: &Arc<dyn Observer>, ui: &Ui) -> Result<RunState, CliError> {
    let switch = StopSwitch::default();
    super::interrupt::listen(switch.clone(), observer);
    let mut events = ready.events.to_vec();
    loop {
        let letters = ready.journal.letters(ready.run)?;
        ready.first.extend(letters.iter().map(|(_, letter)| letter.clone().fact()));
        let budgets = Budgets::new(ready.plan, &events, ready.died(), ready.models.clone());
        let parts = parts(&ready, &events, (observer.clone(), budgets.clone()), switch.clone(), ui)?;
        let run = LocalRun::open(ready.journal, parts, &events)?;
        for fact in std::mem::take(&mut ready.first) {
            run.announce(fact);
        }
        let ended = engine::interpret(&run, ready.plan).await;
        let numbers: Vec<i64> = letters.iter().map(|(number, _)| *number).collect();
        let ended = match ended {
            Ok(ended) if ended.status == RunStatus::Completed => {
                // Every step came to its end, and whether the run kept to its budget is not known.
                budgets.usage_unknown().map_or(ended, |failure| over(RunStatus::Failed, Some(failure)))
            }
            Ok(ended) => ended,
            Err(Stop::Cancelled | Stop::Dropped) => over(RunStatus::Cancelled, None),
            Err(Stop::OverBudget(failure)) => over(RunStatus::Failed, Some(failure)),
            Err(Stop::Parked) => {
                if let Err(stop) = taken_in(&run, &ready, &numbers).await {
                    return broke_off(stop, run, &ready);
                }
                // Somebody may have answered while other steps went on.
                if !ready.journal.letters(ready.run)?.is_empty() {
                    drop(run);
                    events = ready.journal.events(ready.run)?;
                    continue;
                }
                over(RunStatus::Waiting, None)
            }
            Err(Stop::Storage(failure)) => return broke_off(Stop::Storage(failure), run, &ready),
        };
        let concluded = match taken_in(&run, &ready, &numbers).await {
            Ok(()) => run.conclude(Fact::RunEnded(ended)).await,
            Err(stop) => Err(stop),
        };
        return match concluded {
            Ok(()) => Ok(run.state()),
            Err(stop) => broke_off(stop, run, &ready),
        };
    }
}

/// Takes letters out of the inbox once what they say is on record.
async fn taken_in(run: &LocalRun, ready: &Ready<'_>, letters: &[i64]) -> Result<(), Stop> {
    if letters.is_empty() {
        return Ok(());
    }
    run.settle().await?;
    ready.journal.discard(letters).map_err(|error| Stop::Storage(error.failure()))
}

fn over(status: RunStatus, failure: Option<Failure>) -> RunEnded {
    RunEnded { status, failure, result: None }
}

fn parts(
    ready: &Ready<'_>,
    events: &[Event],
    (observer, budgets): (Arc<dyn Observer>, Arc<Budgets>),
    switch: StopSwitch,
    ui: &Ui,
) -> Result<RunParts, CliError> {
    let mut laid = Record::of(ready.run, events)?.laid();
    ready.without().for_each(|file| laid.forget(&file.path));
    let performer = Performer {
        models: ready.models.clone(),
        observer: observer.clone(),
        redactor: Arc::new(ready.models.redactor_with(&listed(ready.plan))),
        workspace: ready.view.folder().to_path_buf(),
        homes: ready.journal.homes(ready.run),
        artifacts: ready.plan.paths(),
        project: ready.project.clone(),
        variables: super::resolve::variables(),
        gates: remembering(&ready.gates, events),
        budgets,
        exchange: ready.exchange.clone(),
        laid: Arc::new(Mutex::new(laid)),
        clock: Arc::new(SystemClock),
        guard: GuardProgram { path: super::guard(), held: ready.locks.programs.shared() },
        endings: Arc::default(),
    };
    let asker = ready.asker.clone().or_else(|| ui.asker());
    let (run, view, perform, reuse) = (ready.run, ready.view.clone(), Arc::new(performer), ready.reuse.clone());
    let heartbeat = ready.locks.run.heartbeat()?;
    let clock = Arc::new(SystemClock);
    Ok(RunParts { run, view, perform, observer, switch, asker, reuse, heartbeat, clock })
}

/// The gates, with what the events of the run say about its providers.
fn remembering(gates: &Arc<Gates>, events: &[Event]) -> Arc<Gates> {
    gates.remember(events);
    gates.clone()
}

/// The secrets among the variables that steps and agents hand on by name.
pub(super) fn listed(plan: &Plan) -> Vec<(String, secrecy::SecretString)> {
    let variables = super::resolve::variables();
    let set = |name: &str| Some((name.to_owned(), variables(name)?));
    secrets_listed(plan.variables().into_iter().filter_map(set))
}

/// A run that could not be recorded any further, or whose files could not be written: as far as it is on record.
fn broke_off(stop: Stop, run: LocalRun, ready: &Ready<'_>) -> Result<RunState, CliError> {
    let Stop::Storage(mut failure) = stop else { return Err(CliError::could_not(stop.to_string())) };
    let unrecorded = run.state();
    // The writer puts down what waits before it ends.
    drop(run);
    let events = ready.journal.events(ready.run);
    let is_unrecorded = events.as_ref().is_ok_and(Vec::is_empty);
    let mend = failure.hint.take().unwrap_or_else(|| "look after the disk and its folder".to_owned());
    failure.hint = Some(if is_unrecorded {
        format!("{mend}, then start the run again; nothing of it could be recorded")
    } else {
        let commands = printed_commands(ready.journal.state(), &super::here()?, &PrintedCommands::default());
        let resume = commands.resume(ready.run);
        format!("{mend}, then `{resume}` goes on from here; nothing that was recorded is asked again")
    });
    let recorded = events.ok().filter(|events| !events.is_empty());
    let mut state = recorded.map_or(unrecorded, |events| RunState::fold(ready.run, &events));
    state.interrupt();
    state.failure = Some(failure);
    Ok(state)
}

/// The limits that the settings of a project set.
pub(super) fn gates(project: &Project) -> Arc<Gates> {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let settings = &project.settings;
    let providers = settings.providers.iter().map(|(name, entry)| {
        let allowance = Allowance {
            concurrency: entry.max_concurrency.map(count),
            requests: entry.requests_per_minute,
            tokens: entry.tokens_per_minute,
        };
        (name.clone(), allowance)
    });
    let known: Vec<(String, Allowance)> = providers.collect();
    // A provider that the file does not name has no limits but those that it asks for itself.
    let others = crate::model::name::BUILT_IN.iter().chain([&crate::model::name::LOCAL]);
    let others = others.filter(|name| !settings.providers.contains_key(**name));
    let others: Vec<_> = others.map(|name| ((*name).to_owned(), Allowance::default())).collect();
    Arc::new(Gates::new(settings.limits.max_concurrency.map_or(CONCURRENCY, count), known.into_iter().chain(others)))
}

/// The exit code of a run that ended.
pub(super) fn exit_code(state: &RunState) -> Code {
    match state.status {
        RunStatus::Completed => Code::Ok,
        // A disk that failed stopped it, and no person.
        RunStatus::Interrupted if state.failure.is_some() => Code::Failed,
        RunStatus::Cancelled | RunStatus::Interrupted => Code::Interrupted,
        RunStatus::Waiting => Code::Waiting,
        RunStatus::Failed if state.failure.as_ref().is_some_and(|failure| is_limit(failure.class)) => Code::Limit,
        RunStatus::Failed | RunStatus::Running => Code::Failed,
    }
}

/// Whether a run that ended so came to a limit.
fn is_limit(class: Class) -> bool {
    matches!(class, Class::BudgetExceeded | Class::UsageUnknown)
}

/// How a command that ran a pipeline ends: recordings that are not whole are told too.
pub(super) fn closed(state: &RunState, exchange: &Exchange) -> Result<Code, CliError> {
    match exchange.recorder.as_ref().and_then(|recorder| recorder.failure()) {
        Some(failure) => Err(CliError::from(failure).with_code(Code::Failed).hint("the run itself is on record")),
        None => Ok(exit_code(state)),
    }
}

/// The folder of a workspace flag. One that the user named may be a link; a project must not bring one.
pub(super) fn workspace(flag: Option<&PathBuf>, here: &Path) -> PathBuf {
    flag.map_or_else(|| here.join("workspace"), |named| super::without_link(here.join(named)))
}

/// A path as given where it is below the current folder, so that findings show it as people wrote it.
pub(super) fn given(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

/// A project's root, absolute, and its pipeline file relative to it.
pub(super) fn places(project: &Project, here: &Path) -> (PathBuf, PathBuf) {
    let root = here.join(&project.root);
    let root = root.canonicalize().unwrap_or(root);
    let file = here.join(&project.document.file.path);
    let file = file.canonicalize().unwrap_or(file);
    let relative = file.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(file);
    (root, relative)
}
