//! Runs a pipeline separately from the project's own runs, for test cases.

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

/// A run with its own journal and workspace, which no tracker follows.
pub(crate) struct IsolatedRun<'a> {
    pub(crate) project: &'a Project,
    pub(crate) inputs: Map<String, Value>,
    /// The model of every agent, if the user named one.
    pub(crate) model: Option<String>,
    /// The models that the names in the files stand for.
    pub(crate) names: ResolvedModels,
    pub(crate) models: Arc<ModelRegistry>,
    pub(crate) exchange: Exchange,
    pub(crate) journal: &'a Journal,
    pub(crate) view: WorkspaceView,
    /// Answers approvals.
    pub(crate) asker: Arc<dyn ApprovalPrompter>,
}

impl Runner {
    /// Runs a project's pipeline to its end, or until it waits for the user.
    pub(crate) async fn run_isolated(&self, isolated: IsolatedRun<'_>) -> Result<RunState, SessionError> {
        let IsolatedRun { project, inputs, model, names, models, exchange, journal, view, asker } = isolated;
        let plan = prepare::plan(project, inputs.clone(), &names, &models, &PlanOptions::default(), self)?;
        let (root, file) = execute::places(project, self.current_dir());
        let run = RunId(uuid::Uuid::now_v7());
        let locks = RunLocks::take(journal, run, &view)?;
        let first = Fact::RunStarted(RunStarted {
            inputs,
            model,
            models: names,
            ..execute::started(&root, &file, project, &view, &plan)
        });
        let context = RunContext {
            journal,
            run,
            events: &[],
            locks: &locks,
            view,
            project: Vec::new(),
            plan: &plan,
            models,
            gates: execute::gates(project),
            trackers: Trackers::default(),
            exchange,
            reuse: None,
            asker: Some(asker),
            first: vec![first],
        };
        execute::execute(context, self).await
    }
}
