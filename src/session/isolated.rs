//! Runs a pipeline outside of the project's journal and workspace, for test cases.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::config::Project;
use crate::engine::perform::Exchange;
use crate::model::event::{Fact, RunStarted};
use crate::model::{RunId, RunState};
use crate::store::{ApprovalPrompter, Journal, WorkspaceView};

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
    pub(crate) exchange: Exchange,
    pub(crate) journal: &'a Journal,
    pub(crate) view: WorkspaceView,
    /// Answers approvals.
    pub(crate) approver: Arc<dyn ApprovalPrompter>,
}

impl Runner {
    /// Runs a project's pipeline to its end, or until it waits for the user.
    pub(crate) async fn run_isolated(&self, isolated: IsolatedRun<'_>) -> Result<RunState, SessionError> {
        let IsolatedRun { project, inputs, model, names, models, exchange, journal, view, approver: asker } = isolated;
        let plan = prepare::plan(project, inputs.clone(), &names, &models, &PlanOptions::default(), self)?;
        let (root, file) = execute::root_and_file(project, self.current_dir());
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::acquire(journal, run, &view)?;
        let started = Fact::RunStarted(RunStarted {
            inputs,
            model,
            models: names,
            ..execute::run_started_fact(&root, &file, project, &view, &plan)
        });
        let context = RunContext {
            journal,
            run,
            events: &[],
            locks: &locks,
            view,
            project_files: Vec::new(),
            plan: &plan,
            models,
            rate_limiters: execute::build_rate_limiters(project),
            trackers: Trackers::default(),
            exchange,
            reuse: None,
            approver: Some(asker),
            first_facts: vec![started],
        };
        execute::execute_run(context, self).await
    }
}
