//! What `run` and `resume` share: a loaded project becomes a plan, the plan a run of this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use crate::agent::Models;
use crate::check;
use crate::clock::SystemClock;
use crate::config::{self, Project, TrackerSettings};
use crate::diagnostic::Diagnostic;
use crate::durable::{Observer, Stop};
use crate::engine::budget::{self, Budgets};
use crate::engine::gate::{Allowance, CONCURRENCY, Gates};
use crate::engine::perform::{Exchange, Performer};
use crate::engine::{self, Contract, Defaults, Plan, PlannedModel, Resolve};
use crate::model::budget::{Budget, Unpriced};
use crate::model::event::{Event, Fact, LostFile, RunEnded, RunStarted};
use crate::model::{Class, Failure, Pipeline, RunId, RunState, RunStatus, Step};
use crate::schema::Schema;
use crate::secret::secrets_listed;
use crate::store::{Asker, Earlier, Journal, LocalRun, Lock, RunParts, StopSwitch, View};
use crate::template::Templates;

use super::error::{CliError, Code};
use super::laid::Record;
use super::resolve::{Names, planned};
use super::trackers::Trackers;
use super::ui::Ui;

/// Loads and checks the project of a pipeline file; `model` takes the place of every agent's model.
pub(super) fn load(path: &Path, here: &Path, model: Option<&str>, ui: &Ui) -> Result<Project, CliError> {
    let mut project = config::load(&given(path, here))?;
    let findings = check::check(&project);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(CliError::findings(findings));
    }
    if !ui.quiet {
        ui.findings(&findings);
    }
    if let Some(model) = model {
        only(&mut project, model);
    }
    Ok(project)
}

/// One model for everything: no other is asked, nor needs a key.
fn only(project: &mut Project, model: &str) {
    for agent in project.pipeline.agents.values_mut().filter(|agent| agent.kind().is_none()) {
        model.clone_into(&mut agent.model);
    }
    project.pipeline.each_step_mut(&mut |step| step.fallback.clear());
    for called in project.called.values_mut() {
        only(Arc::make_mut(called), model);
    }
}

/// What the command line says of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// `--continue-on-error`.
    pub(super) continue_on_error: bool,
    /// `--budget`.
    pub(super) budget: Option<Budget>,
}

/// Reads `--budget usd=2,tokens=500000,seconds=3600`.
pub(super) fn budget(text: &str) -> Result<Budget, String> {
    let mut budget = Budget::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let wrong = || format!("`{value}` is not a number for `{name}`");
        match name.trim() {
            "usd" => budget.usd = Some(value.trim().parse().ok().filter(|usd| *usd >= 0.0).ok_or_else(wrong)?),
            "tokens" => budget.tokens = Some(value.trim().parse().map_err(|_| wrong())?),
            "seconds" => budget.seconds = Some(value.trim().parse().map_err(|_| wrong())?),
            "unpriced" if value.trim() == "allow" => budget.unpriced = Some(Unpriced::Allow),
            other => return Err(format!("`{other}` is not `usd`, `tokens`, `seconds` or `unpriced=allow`")),
        }
    }
    Ok(budget)
}

/// Plans a loaded project.
pub(super) fn plan(
    project: &Project,
    inputs: Map<String, Value>,
    names: &Names,
    models: &Models,
    flags: &Flags,
) -> Result<Plan, CliError> {
    let templates = Templates::new(project.prompt_sources())
        .map_err(|errors| CliError::could_not(errors.first().map_or_else(String::new, ToString::to_string)))?;
    let settings = &project.settings.defaults;
    let defaults = Defaults {
        continue_on_error: flags.continue_on_error,
        timeout: settings.timeout.map(|span| span.0),
        re_ask: settings.re_ask,
        max_output_tokens: settings.max_output_tokens,
        budget: project.settings.budget.clone(),
        given: flags.budget.clone(),
    };
    let plan = Plan::new(&project.pipeline, inputs, templates, &defaults, &Resolver { project, names, models })?;
    match budget::unpriced(&plan.budgets(), plan.asked(), models) {
        // What is replayed costs nothing.
        Some(model) if model.provider != crate::agent::REPLAY => {
            Err(CliError::could_not(format!("{model} has no known price, and there is a budget in dollars"))
                .hint("give its prices under `models:` in orch.yaml, or say `unpriced: allow` in the budget"))
        }
        Some(_) | None => Ok(plan),
    }
}

struct Resolver<'a> {
    project: &'a Project,
    names: &'a Names,
    models: &'a Models,
}

impl Resolve<CliError> for Resolver<'_> {
    fn model(&self, name: &str) -> Result<PlannedModel, CliError> {
        let reference =
            self.names.get(name).ok_or_else(|| CliError::internal(format!("the model `{name}` was not resolved")))?;
        planned(self.models, reference)
    }

    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, CliError> {
        Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| CliError::could_not(format!("the input `{name}`: {error}")))
    }

    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<CliError> + '_>), CliError> {
        let called = self.project.called.get(file);
        let called = called.ok_or_else(|| CliError::internal(format!("the pipeline `{file}` was not loaded")))?;
        Ok((&called.pipeline, Box::new(Resolver { project: called, names: self.names, models: self.models })))
    }

    fn refuse(&self, why: String) -> CliError {
        CliError::internal(why)
    }

    fn contract(&self, step: &Step) -> Result<Contract, CliError> {
        match Project::schema_file(step) {
            None if step.schema.as_deref() == Some("text") => Ok(Contract::Text),
            None => Ok(Contract::Json(Schema::any())),
            Some(file) => {
                let schema = self.project.schemas.get(&file);
                schema.map(Contract::Json).map_err(|error| CliError::could_not(format!("schemas/{file}: {error}")))
            }
        }
    }
}

/// The locks of a run that goes on: of itself and of its workspace.
pub(super) struct Locks {
    /// That of the run.
    pub(super) run: Lock,
    _workspace: Lock,
}

/// Takes both locks, or says who has them.
pub(super) fn lock(journal: &Journal, run: RunId, view: &View) -> Result<Locks, CliError> {
    let me = format!("process {} (run {run})", std::process::id());
    let run_lock = Lock::take(&journal.lock_path(run), &format!("run {run}"), &me)?.disposable();
    let workspace = Lock::take(&view.lock_path(), &format!("the workspace `{}`", view.name()), &me)?.obsolete();
    view.sweep()?;
    Ok(Locks { run: run_lock, _workspace: workspace })
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
    pub(super) tracker: &'a TrackerSettings,
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
    let trackers = Trackers::new(ready.tracker, &super::resolve::variables());
    let seq = ready.events.last().map_or(0, |event| event.seq);
    let follower = trackers.follow(ready.journal.state(), run, seq, ui);
    let observer = follower.observer(ui.observer(run, ready.events));
    let ended = to_its_end(ready, &observer, ui).await;
    trackers.finish(follower, run, ui).await;
    ended
}

async fn to_its_end(mut ready: Ready<'_>, observer: &Arc<dyn Observer>, ui: &Ui) -> Result<RunState, CliError> {
    let switch = StopSwitch::default();
    super::interrupt::listen(switch.clone());
    let mut events = ready.events.to_vec();
    loop {
        let letters = ready.journal.letters(ready.run)?;
        ready.first.extend(letters.iter().map(|(_, letter)| letter.clone().fact()));
        let parts = parts(&ready, &events, observer.clone(), switch.clone(), ui)?;
        let run = LocalRun::open(ready.journal, parts, &events)?;
        for fact in std::mem::take(&mut ready.first) {
            run.announce(fact);
        }
        let ended = engine::interpret(&run, ready.plan).await;
        let numbers: Vec<i64> = letters.iter().map(|(number, _)| *number).collect();
        let ended = match ended {
            Ok(ended) => ended,
            Err(Stop::Cancelled | Stop::Dropped) => over(RunStatus::Cancelled, None),
            Err(Stop::OverBudget(failure)) => over(RunStatus::Failed, Some(failure)),
            Err(Stop::Parked) => {
                run.settle().await.map_err(|stop| broke_off(stop, ready.run))?;
                ready.journal.discard(&numbers)?;
                // Somebody may have answered while other steps went on.
                if !ready.journal.letters(ready.run)?.is_empty() {
                    drop(run);
                    events = ready.journal.events(ready.run)?;
                    continue;
                }
                over(RunStatus::Waiting, None)
            }
            Err(stop @ Stop::Storage(_)) => return Err(broke_off(stop, ready.run)),
        };
        run.conclude(Fact::RunEnded(ended)).await.map_err(|stop| broke_off(stop, ready.run))?;
        ready.journal.discard(&numbers)?;
        return Ok(run.state());
    }
}

fn over(status: RunStatus, failure: Option<Failure>) -> RunEnded {
    RunEnded { status, failure, result: None }
}

fn parts(
    ready: &Ready<'_>,
    events: &[Event],
    observer: Arc<dyn Observer>,
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
        homes: homes(ready),
        artifacts: ready.plan.paths(),
        project: ready.project.clone(),
        variables: super::resolve::variables(),
        gates: ready.gates.clone(),
        budgets: Budgets::new(ready.plan, events, ready.died(), ready.models.clone()),
        exchange: ready.exchange.clone(),
        laid: Arc::new(Mutex::new(laid)),
        clock: Arc::new(SystemClock),
    };
    let asker = ready.asker.clone().or_else(|| ui.asker());
    let (run, view, perform, reuse) = (ready.run, ready.view.clone(), Arc::new(performer), ready.reuse.clone());
    let heartbeat = ready.locks.run.heartbeat()?;
    let clock = Arc::new(SystemClock);
    Ok(RunParts { run, view, perform, observer, switch, asker, reuse, heartbeat, clock })
}

/// The secrets among the variables that steps and agents hand on by name.
fn listed(plan: &Plan) -> Vec<(String, secrecy::SecretString)> {
    let variables = super::resolve::variables();
    let set = |name: &str| Some((name.to_owned(), variables(name)?));
    secrets_listed(plan.variables().into_iter().filter_map(set))
}

/// Where agent programs keep their things during a run.
fn homes(ready: &Ready<'_>) -> PathBuf {
    let folder = ready.journal.homes(ready.run);
    std::path::absolute(&folder).unwrap_or(folder)
}

/// A run that could not be recorded any further; what was recorded stands.
fn broke_off(stop: Stop, run: RunId) -> CliError {
    let error = match stop {
        Stop::Storage(failure) | Stop::OverBudget(failure) => CliError::from(failure),
        Stop::Cancelled | Stop::Parked | Stop::Dropped => CliError::could_not(stop.to_string()),
    };
    error.with_code(Code::Failed).hint(format!("go on with `orch pipeline resume {run}`"))
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
        RunStatus::Cancelled | RunStatus::Interrupted => Code::Interrupted,
        RunStatus::Waiting => Code::Waiting,
        RunStatus::Failed if state.failure.as_ref().is_some_and(|f| f.class == Class::BudgetExceeded) => Code::Limit,
        RunStatus::Failed | RunStatus::Running => Code::Failed,
    }
}

/// How a command that ran a pipeline ends: recordings that are not whole are told too.
pub(super) fn closed(state: &RunState, exchange: &Exchange) -> Result<Code, CliError> {
    match exchange.recorder.as_ref().and_then(|recorder| recorder.failure()) {
        Some(failure) => Err(CliError::from(failure).with_code(Code::Failed).hint("the run itself is on record")),
        None => Ok(exit_code(state)),
    }
}

/// The folder of a workspace flag.
pub(super) fn workspace(flag: Option<&PathBuf>, here: &Path) -> PathBuf {
    here.join(flag.map_or(Path::new("workspace"), PathBuf::as_path))
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
