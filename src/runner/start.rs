//! Starts a new run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::config::Project;
use crate::engine::perform::RecordReplay;
use crate::model::budget::Budget;
use crate::model::event::{Fact, RunStarted};
use crate::model::{CommandModes, RunId};
use crate::secret::Redactor;
use crate::store::{Journal, ResultCache, Workspace};

use super::agent_choices::AgentChoices;
use super::error::RunnerError;
use super::execute::{self, RunContext, resolve_path};
use super::inputs::InputSource;
use super::locks::{RunLocks, remove_project_placeholders};
use super::prepare::{self, PlanOptions};
use super::project_state::StateFolder;
use super::trackers::Trackers;
use super::{RunResult, Runner, clean, models, project_files, rate_limits, run_recording, run_replay};

/// The pipeline to run with [`Runner::start`], and the options of the run.
pub struct RunRequest {
    /// The pipeline file. A relative path is relative to the current folder of the session.
    pub pipeline: PathBuf,
    /// The inputs of the run.
    pub inputs: Box<dyn InputSource>,
    /// The workspace for artifacts and other files. If `None`, orch uses `workspace` in the current folder.
    pub workspace: Option<PathBuf>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// The model that replaces the model of every agent: `provider/model`, an alias, `local` or `auto`.
    pub model: Option<String>,
    /// The models and CLI agents that replace single agents, by the agent's name: a model as in `model`, `cli:claude`,
    /// `cli:codex`, `acp:PROGRAM ARGUMENT` or `command:PROGRAM ARGUMENT`.
    pub agents: BTreeMap<String, String>,
    /// The workflow in `tracker.convex` to which the run belongs.
    pub workflow_id: Option<String>,
    /// Whether steps that do not depend on a failed step still run. The run still fails.
    pub continue_on_error: bool,
    /// Whether orch first removes the unchanged files that earlier runs created in the workspace.
    pub clean: bool,
    /// Whether orch may download the embedded model without asking the user.
    pub may_download: bool,
    /// Whether orch reuses the results of earlier runs with equal requests.
    pub reuse: bool,
    /// The folder into which orch writes each exchange with a model and each result of a command.
    pub recording_folder: Option<PathBuf>,
    /// The folder of recordings that replace the models and, depending on `commands`, the commands.
    pub replay_folder: Option<PathBuf>,
    /// Which commands a replay runs. By default, it repeats the recorded results if there are any.
    pub commands: CommandModes,
    /// The budget that replaces the budget in the pipeline file.
    pub budget: Option<Budget>,
    /// The digest that `orch trust` prints, if the user agreed to what orch.yaml sends to other machines.
    pub trusted_digest: Option<String>,
}

impl RunRequest {
    /// Creates the request for a run of a pipeline with these inputs and default options.
    pub fn new(pipeline: impl Into<PathBuf>, inputs: Map<String, Value>) -> Self {
        Self {
            pipeline: pipeline.into(),
            inputs: Box::new(inputs),
            workspace: None,
            state: StateFolder::default(),
            model: None,
            agents: BTreeMap::new(),
            workflow_id: None,
            continue_on_error: false,
            clean: false,
            may_download: false,
            reuse: false,
            recording_folder: None,
            replay_folder: None,
            commands: CommandModes::default(),
            budget: None,
            trusted_digest: None,
        }
    }
}

impl Runner {
    /// Runs a pipeline to its end, or until it waits for the user.
    ///
    /// Checks files, inputs, models, keys, and the programs of CLI agents and MCP servers before the run calls any model.
    /// Records every reply in the journal before a step uses it, so that the user can resume a run that stops or fails.
    ///
    /// # Errors
    /// orch could not start the run. If the started run fails, this function returns a [`RunResult`], not an error.
    pub async fn start(&self, request: &RunRequest) -> Result<RunResult, RunnerError> {
        let current_dir = self.current_dir();
        let choices = AgentChoices::new(request.model.as_ref(), &request.agents);
        let project = prepare::load(&request.pipeline, &choices, self)?;
        if request.workflow_id.is_some() && project.settings.tracker.convex.is_none() {
            return Err(RunnerError::usage(
                "--workflow-id names a Convex workflow, but orch.yaml has no `tracker.convex`",
            )
            .with_hint("add `tracker: { convex: { url: { env: CONVEX_URL } } }`, or omit --workflow-id"));
        }
        let inputs = request.inputs.inputs(&project.pipeline)?;
        let is_replay = request.replay_folder.is_some();
        let trusted = self.ensure_session_trusted(is_replay, &project, request.trusted_digest.as_deref())?;
        let registry = self.model_registry(&project.root, &project.settings, Some(&trusted));
        refuse_secrets(&inputs, &registry.redactor())?;
        let record_replay = self.open_record_replay(request, &project)?;
        let resolved_models = if record_replay.replay.is_some() {
            models::replayed_models(&project)
        } else {
            models::resolve_and_install(&project, &registry, None, request.may_download, self).await?
        };
        let options = PlanOptions {
            continue_on_error: request.continue_on_error,
            budget: request.budget.clone(),
            choices: choices.clone(),
        };
        let plan = prepare::plan(&project, inputs.clone(), &resolved_models, &registry, &options, self)?;
        let workspace_path = execute::workspace_path(request.workspace.as_ref(), current_dir);
        self.ensure_sandboxes(&plan, record_replay.replay.as_deref(), &workspace_path).await?;
        self.ensure_requirements(&plan, record_replay.replay.as_deref(), &workspace_path, None).await?;

        let (root, file) = execute::root_and_file(&project, current_dir);
        let journal = Journal::open(&request.state.path_for(&root))?;
        if let Some(reason) = journal.unknown_origin_reason() {
            self.reporter.note(&format!(
                "{reason}; to resume a run of this journal, give --workspace; \
                 --reuse ignores the results in this journal"
            ));
        }
        let workspace = Workspace::open(&workspace_path)?;
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::acquire(&journal, run, &workspace)?;
        let project_paths = project_files::source_paths(&project, current_dir);
        remove_project_placeholders(&workspace, &root, &project_paths)?;
        let owned_files = journal.owned_files(&workspace.path_in_journal())?;
        let (plan, protected_files) =
            project_files::check_and_protect(plan, &project, current_dir, workspace.folder())?;
        // Files are removed only after all other checks that can refuse the run have passed.
        workspace.check_no_foreign_files(plan.artifact_paths().iter().map(String::as_str), &owned_files)?;
        if request.clean {
            clean::remove_created_files(&journal, &workspace, &owned_files, &protected_files, self)?;
        }

        let replay_folder = request.replay_folder.as_ref();
        let started = Fact::RunStarted(RunStarted {
            replay: replay_folder
                .map(|folder| run_replay::replay_record(folder, &request.commands, &root, current_dir)),
            recording_folder: run_recording::folder_in_record(&record_replay, &root),
            inputs,
            model: request.model.clone(),
            agents: choices.chosen_agents(),
            models: resolved_models,
            continue_on_error: request.continue_on_error,
            budget: request.budget.clone(),
            tracker_workflow_id: request.workflow_id.clone(),
            ..execute::run_started_fact(&root, &file, &project, &workspace, &plan)
        });
        let context = RunContext {
            journal: &journal,
            run,
            events: &[],
            locks: &locks,
            workspace,
            project_files: protected_files,
            project_paths,
            plan: &plan,
            models: registry,
            rate_limiters: rate_limits::build_rate_limiters(&project),
            approver: None,
            record_replay: record_replay.clone(),
            result_cache: request.reuse.then(|| ResultCache::open(&journal)).transpose()?,
            trackers: Trackers::new(&project.settings.tracker, &self.environment.variable_lookup(), &trusted),
            facts_to_record: vec![started],
        };
        let state = execute::execute_run(context, self).await?;
        Ok(RunResult::new(state, journal.state_folder(), &record_replay))
    }

    /// Opens the folders of a request for recording and for replay.
    fn open_record_replay(&self, request: &RunRequest, project: &Project) -> Result<RecordReplay, RunnerError> {
        let current_dir = self.current_dir();
        let recording_folder = request.recording_folder.as_deref().map(|folder| resolve_path(folder, current_dir));
        let recorder =
            recording_folder.map(|folder| models::open_recorder(&folder, &project.root, self)).transpose()?;
        let replay_folder = request.replay_folder.as_deref().map(|folder| resolve_path(folder, current_dir));
        let replay =
            replay_folder.map(|folder| run_replay::open_for_start(&folder, &request.commands, project)).transpose()?;
        Ok(RecordReplay { recorder, replay, ..RecordReplay::default() })
    }
}

/// Returns an error if an input contains a secret, because orch records inputs unredacted to be able to resume the run.
fn refuse_secrets(inputs: &Map<String, Value>, redactor: &Redactor) -> Result<(), RunnerError> {
    match inputs.iter().find(|(_, value)| redactor.contains_secret(&value.to_string())) {
        None => Ok(()),
        Some((name, _)) => {
            let error = format!("the input `{name}` contains a secret, and orch records inputs");
            Err(RunnerError::usage(error).with_hint("remove the secret; to pass it to a command, use `env: [NAME]`"))
        }
    }
}
