//! What `run` and `resume` share: a loaded project becomes a plan, the plan a run of this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::Models;
use crate::check;
use crate::config::{self, Project};
use crate::diagnostic::Diagnostic;
use crate::durable::Stop;
use crate::engine::perform::Performer;
use crate::engine::{self, Contract, Defaults, Plan, PlannedModel, Resolve};
use crate::model::event::{Event, Fact, RunEnded};
use crate::model::{RunId, RunState, RunStatus, Step};
use crate::schema::Schema;
use crate::store::{Journal, LocalRun, Lock, RunParts, StopSwitch, View};
use crate::template::Templates;

use super::error::{CliError, Code};
use super::resolve::{Names, planned};
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
        for agent in project.pipeline.agents.values_mut() {
            model.clone_into(&mut agent.model);
        }
        // One model for everything: no other is asked, nor needs a key.
        for step in &mut project.pipeline.steps {
            step.fallback.clear();
        }
    }
    Ok(project)
}

/// Plans a loaded project.
pub(super) fn plan(
    project: &Project,
    inputs: Map<String, Value>,
    names: &Names,
    models: &Models,
    continue_on_error: bool,
) -> Result<Plan, CliError> {
    let templates = Templates::new(project.prompt_sources())
        .map_err(|errors| CliError::could_not(errors.first().map_or_else(String::new, ToString::to_string)))?;
    let settings = &project.settings.defaults;
    let defaults = Defaults {
        continue_on_error,
        timeout: settings.timeout.map(|span| span.0),
        re_ask: settings.re_ask,
        max_output_tokens: settings.max_output_tokens,
    };
    Plan::new(&project.pipeline, inputs, templates, &defaults, &Resolver { project, names, models })
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
    _run: Lock,
    _workspace: Lock,
}

/// Takes both locks, or says who has them.
pub(super) fn lock(journal: &Journal, run: RunId, view: &View) -> Result<Locks, CliError> {
    let me = format!("process {} (run {run})", std::process::id());
    let run_lock = Lock::take(&journal.lock_path(run), &format!("run {run}"), &me)?.disposable();
    let workspace = Lock::take(&view.lock_path(), &format!("the workspace `{}`", view.name()), &me)?.disposable();
    Ok(Locks { _run: run_lock, _workspace: workspace })
}

/// A run about to go on.
pub(super) struct Ready<'a> {
    /// The journal.
    pub(super) journal: &'a Journal,
    /// The run.
    pub(super) run: RunId,
    /// Its events so far.
    pub(super) events: &'a [Event],
    /// Its workspace.
    pub(super) view: View,
    /// What will be run.
    pub(super) plan: &'a Plan,
    /// The models.
    pub(super) models: Arc<Models>,
    /// What is announced first.
    pub(super) first: Vec<Fact>,
}

/// Runs a plan to its end and returns the run as it stands then.
pub(super) async fn execute(ready: Ready<'_>, ui: &Ui) -> Result<RunState, CliError> {
    let observer = ui.observer(ready.run, ready.events);
    let performer = Performer::new(ready.models.clone(), observer.clone(), Arc::new(ready.models.redactor()));
    let switch = StopSwitch::default();
    super::interrupt::listen(switch.clone());
    let parts = RunParts { run: ready.run, view: ready.view, perform: Arc::new(performer), observer, switch };
    let run = LocalRun::open(ready.journal, parts, ready.events)?;
    let ended = drive(&run, ready.first, ready.plan).await;
    let ended = match ended {
        Ok(ended) => ended,
        Err(Stop::Cancelled) => RunEnded { status: RunStatus::Cancelled, failure: None },
        Err(stop) => return Err(broke_off(stop, ready.run)),
    };
    run.announce(Fact::RunEnded(ended)).await.map_err(|stop| broke_off(stop, ready.run))?;
    Ok(run.state())
}

/// A run that could not be recorded any further; what was recorded stands.
fn broke_off(stop: Stop, run: RunId) -> CliError {
    let error = match stop {
        Stop::Storage(failure) => CliError::from(failure),
        Stop::Cancelled => CliError::could_not(stop.to_string()),
    };
    error.with_code(Code::Failed).hint(format!("go on with `orch pipeline resume {run}`"))
}

async fn drive(run: &LocalRun, first: Vec<Fact>, plan: &Plan) -> Result<RunEnded, Stop> {
    for fact in first {
        run.announce(fact).await?;
    }
    engine::interpret(run, plan).await
}

/// The exit code of a run that ended.
pub(super) fn exit_code(state: &RunState) -> Code {
    match state.status {
        RunStatus::Completed => Code::Ok,
        RunStatus::Cancelled | RunStatus::Interrupted => Code::Interrupted,
        RunStatus::Failed | RunStatus::Running | RunStatus::Waiting => Code::Failed,
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
