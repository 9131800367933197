//! Runs a pipeline outside of the project's journal and workspace, for test cases.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::engine::perform::RecordReplay;
use crate::model::event::{Fact, RunStarted};
use crate::model::{RunId, RunState};
use crate::store::{ApprovalPrompter, Journal, Workspace};

use super::Runner;
use super::error::SessionError;
use super::execute::{self, RunContext};
use super::locks::RunLocks;
use super::models::ResolvedModels;
use super::prepare::{self, PlanOptions};
use super::trackers::Trackers;

/// A run with its own journal and workspace, and without trackers.
pub(crate) struct IsolatedRun<'a> {
    pub(crate) project: &'a Project,
    pub(crate) inputs: Map<String, Value>,
    /// The model of every agent, if the user named one.
    pub(crate) model: Option<String>,
    /// The models to which the names in the files resolve.
    pub(crate) names: ResolvedModels,
    pub(crate) models: Arc<ModelRegistry>,
    pub(crate) record_replay: RecordReplay,
    pub(crate) journal: &'a Journal,
    pub(crate) workspace: Workspace,
    /// Answers approvals.
    pub(crate) approver: Arc<dyn ApprovalPrompter>,
}

impl Runner {
    /// Runs a project's pipeline to its end, or until it waits for the user.
    pub(crate) async fn run_isolated(&self, isolated: IsolatedRun<'_>) -> Result<RunState, SessionError> {
        let IsolatedRun { project, inputs, model, names, models, record_replay, journal, workspace, approver } =
            isolated;
        let plan = prepare::plan(project, inputs.clone(), &names, &models, &PlanOptions::default(), self)?;
        self.ensure_sandboxes(&plan, record_replay.replay.is_some()).await?;
        let (root, file) = execute::root_and_file(project, self.current_dir());
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::acquire(journal, run, &workspace)?;
        let started = Fact::RunStarted(RunStarted {
            inputs,
            model,
            models: names,
            ..execute::run_started_fact(&root, &file, project, &workspace, &plan)
        });
        let context = RunContext {
            journal,
            run,
            events: &[],
            locks: &locks,
            workspace,
            project_files: Vec::new(),
            plan: &plan,
            models,
            rate_limiters: execute::build_rate_limiters(project),
            trackers: Trackers::default(),
            record_replay,
            reuse: None,
            approver: Some(approver),
            first_facts: vec![started],
        };
        execute::execute_run(context, self).await
    }
}
