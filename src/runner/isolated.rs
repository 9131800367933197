//! Runs a pipeline with a journal and a workspace of its own, for test cases.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::engine::perform::RecordReplay;
use crate::model::event::{Fact, RunReplay, RunStarted};
use crate::model::{RunId, RunState};
use crate::store::{ApprovalPrompter, Journal, Workspace};

use super::Runner;
use super::agent_choices::AgentChoices;
use super::error::RunnerError;
use super::execute::{self, RunContext};
use super::locks::RunLocks;
use super::models::ResolvedModels;
use super::prepare::{self, PlanOptions};
use super::trackers::Trackers;
use super::{project_files, rate_limits};

/// The parameters of a run with its own journal and workspace, and without trackers.
pub(crate) struct IsolatedRun<'a> {
    pub(crate) project: &'a Project,
    pub(crate) inputs: Map<String, Value>,
    /// The user's choices for its agents.
    pub(crate) choices: AgentChoices,
    /// The model for each model name in the files.
    pub(crate) resolved_models: ResolvedModels,
    pub(crate) models: Arc<ModelRegistry>,
    pub(crate) record_replay: RecordReplay,
    /// What the run stores about the recordings that it replays, if any.
    pub(crate) replay: Option<RunReplay>,
    pub(crate) journal: &'a Journal,
    pub(crate) workspace: Workspace,
    /// Answers approvals.
    pub(crate) approver: Arc<dyn ApprovalPrompter>,
}

impl Runner {
    /// Runs a project's pipeline to its end, or until it waits for the user.
    pub(crate) async fn run_isolated(&self, isolated: IsolatedRun<'_>) -> Result<RunState, RunnerError> {
        let IsolatedRun {
            project,
            inputs,
            choices,
            resolved_models,
            models,
            record_replay,
            replay,
            journal,
            workspace,
            approver,
        } = isolated;
        let options = PlanOptions { choices: choices.clone(), ..PlanOptions::default() };
        let plan = prepare::plan(project, inputs.clone(), &resolved_models, &models, &options, self)?;
        self.ensure_sandboxes(&plan, record_replay.replay.as_deref(), workspace.folder()).await?;
        self.ensure_requirements(&plan, record_replay.replay.as_deref(), workspace.folder(), None).await?;
        let (root, file) = execute::root_and_file(project, self.current_dir());
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::acquire(journal, run, &workspace)?;
        let started = Fact::RunStarted(RunStarted {
            inputs,
            replay,
            agents: choices.chosen_agents(),
            model: choices.model,
            models: resolved_models,
            ..execute::run_started_fact(&root, &file, project, &workspace, &plan)
        });
        let context = RunContext {
            journal,
            run,
            events: &[],
            locks: &locks,
            workspace,
            project_files: Vec::new(),
            project_paths: project_files::source_paths(project, self.current_dir()),
            plan: &plan,
            models,
            rate_limiters: rate_limits::build_rate_limiters(project),
            trackers: Trackers::default(),
            record_replay,
            result_cache: None,
            approver: Some(approver),
            facts_to_record: vec![started],
        };
        execute::execute_run(context, self).await
    }
}
