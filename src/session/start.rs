//! Starts a run.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::Project;
use crate::engine::perform::Exchange;
use crate::model::RunId;
use crate::model::budget::Budget;
use crate::model::event::{Fact, RunStarted};
use crate::secret::Redactor;
use crate::store::{Journal, ResultCache, WorkspaceView};

use super::error::SessionError;
use super::execute::{self, RunContext, short_path};
use super::inputs::InputSource;
use super::locks::RunLocks;
use super::prepare::{self, PlanOptions};
use super::project_state::StateFolder;
use super::trackers::Trackers;
use super::trust::Trusted;
use super::{RunResult, Runner, clean, models, project_files};

/// What [`Runner::start`] runs, and how.
pub struct RunRequest {
    /// The pipeline's file; a relative path starts at the current folder of the session.
    pub pipeline: PathBuf,
    /// The inputs.
    pub inputs: Box<dyn InputSource>,
    /// The folder for artifacts and files; if `None`, `workspace` in the current folder.
    pub workspace: Option<PathBuf>,
    /// Where the journal is.
    pub state: StateFolder,
    /// The model that replaces the one of every agent in the files: `provider/model`, an alias, `local` or `auto`.
    pub model: Option<String>,
    /// The workflow of `tracker.convex` that the run belongs to.
    pub workflow_id: Option<String>,
    /// Whether steps that do not depend on a failed step still run; the run fails all the same.
    pub continue_on_error: bool,
    /// Whether orch first removes the files that earlier runs created in the workspace, unless they were changed since.
    pub clean: bool,
    /// Whether the embedded model may be downloaded without asking.
    pub may_download: bool,
    /// Whether orch reuses results of earlier runs with equal requests.
    pub reuse: bool,
    /// A folder into which orch writes each exchange with a model.
    pub record: Option<PathBuf>,
    /// A folder of recordings that replace the models.
    pub replay: Option<PathBuf>,
    /// The budget that replaces the one in the file.
    pub budget: Option<Budget>,
    /// The digest of what the user trusts orch.yaml to send; see `orch trust`.
    pub trust: Option<String>,
}

impl RunRequest {
    /// A run of a pipeline with these inputs and nothing else set.
    pub fn new(pipeline: impl Into<PathBuf>, inputs: Map<String, Value>) -> Self {
        Self {
            pipeline: pipeline.into(),
            inputs: Box::new(inputs),
            workspace: None,
            state: StateFolder::default(),
            model: None,
            workflow_id: None,
            continue_on_error: false,
            clean: false,
            may_download: false,
            reuse: false,
            record: None,
            replay: None,
            budget: None,
            trust: None,
        }
    }
}

impl Runner {
    /// Runs a pipeline to its end, or until it waits for the user.
    ///
    /// orch checks files, inputs, models and keys before it calls any model. It records every reply in the journal
    /// before using it, so that a run that stops or fails can be resumed.
    ///
    /// # Errors
    /// The run could not start. A run that started and failed is a [`RunResult`].
    pub async fn start(&self, request: &RunRequest) -> Result<RunResult, SessionError> {
        let here = self.current_dir();
        let project = prepare::load(&request.pipeline, request.model.as_deref(), self)?;
        if request.workflow_id.is_some() && project.settings.tracker.convex.is_none() {
            return Err(SessionError::usage(
                "--workflow-id names a workflow of Convex, and orch.yaml has no `tracker.convex`",
            )
            .hint("add `tracker: { convex: { url: { env: CONVEX_URL } } }`, or leave the flag out"));
        }
        let inputs = request.inputs.inputs(&project.pipeline)?;
        let trusted = self.trusted_to_start(request, &project)?;
        let available = self.models(&project.root, &project.settings, Some(&trusted));
        without_secrets(&inputs, &available.redactor())?;
        let exchange = self.exchange(request, &project.root)?;
        let names = if exchange.replay.is_some() {
            models::replayed(&project)
        } else {
            models::resolve(&project, &available, None, request.may_download, self).await?
        };
        let options = PlanOptions { continue_on_error: request.continue_on_error, budget: request.budget.clone() };
        let plan = prepare::plan(&project, inputs.clone(), &names, &available, &options, self)?;

        let (root, file) = execute::places(&project, here);
        let journal = Journal::open(&request.state.folder(&root))?;
        if let Some(why) = journal.why_all_foreign() {
            self.reporter.note(&format!("{why}; to resume one needs --workspace, and --reuse takes nothing"));
        }
        let view = WorkspaceView::open(&execute::workspace(request.workspace.as_ref(), here))?;
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::take(&journal, run, &view)?;
        let records = journal.records(&view.name())?;
        let (plan, own) = project_files::checked(plan, &project, here, view.folder())?;
        // Nothing is removed before it is certain that the run can start.
        view.check_free(plan.paths().iter().map(String::as_str), &records)?;
        if request.clean {
            clean::clean(&journal, &view, &records, &own, self)?;
        }

        let first = Fact::RunStarted(RunStarted {
            inputs,
            model: request.model.clone(),
            models: names,
            continue_on_error: request.continue_on_error,
            budget: request.budget.clone(),
            workflow_id: request.workflow_id.clone(),
            ..execute::started(&root, &file, &project, &view, &plan)
        });
        let context = RunContext {
            journal: &journal,
            run,
            events: &[],
            locks: &locks,
            view,
            project: own,
            plan: &plan,
            models: available,
            gates: execute::gates(&project),
            asker: None,
            exchange: exchange.clone(),
            reuse: request.reuse.then(|| ResultCache::open(&journal)).transpose()?,
            trackers: Trackers::new(&project.settings.tracker, &self.environment.variables(), &trusted),
            first: vec![first],
        };
        let state = execute::execute(context, self).await?;
        Ok(RunResult::new(state, journal.state(), &exchange))
    }

    /// The user's agreement to what the run sends. With recordings, no provider is called, so only trackers matter.
    fn trusted_to_start(&self, request: &RunRequest, project: &Project) -> Result<Trusted, SessionError> {
        let tracker = &project.settings.tracker;
        if request.replay.is_some() && tracker.convex.is_none() && tracker.webhook.is_none() {
            return Ok(Trusted::not_needed());
        }
        let root = execute::places(project, self.current_dir()).0;
        self.ensure_trusted(&root, &project.settings, request.trust.as_deref())
    }

    /// The recorder and the replay for a request.
    fn exchange(&self, request: &RunRequest, root: &Path) -> Result<Exchange, SessionError> {
        let here = self.current_dir();
        let record = request.record.as_deref().map(|folder| short_path(folder, here));
        let recorder = record.map(|folder| models::recorder(&folder, root, self)).transpose()?;
        let replay = request.replay.as_deref().map(|folder| short_path(folder, here));
        let replay = replay.map(|folder| models::replay(&folder)).transpose()?;
        Ok(Exchange { recorder, replay })
    }
}

/// Refuses inputs that contain a key: inputs are recorded unchanged, so that a run can be resumed.
fn without_secrets(inputs: &Map<String, Value>, redactor: &Redactor) -> Result<(), SessionError> {
    match inputs.iter().find(|(_, value)| redactor.finds_in(&value.to_string())) {
        None => Ok(()),
        Some((name, _)) => Err(SessionError::usage(format!("the input `{name}` holds a key, and inputs are recorded"))
            .hint("leave the key out; a command that needs one gets it with `env: [NAME]`")),
    }
}
