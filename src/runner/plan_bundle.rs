//! Makes the plan of a run again in another process, from the files of the project and what the session decided.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::agent::catalog_version;
use crate::config::{Project, ProjectBundle};
use crate::engine::{Plan, PlannedModel, StepDefaults};
use crate::model::{Digest, Failure, FailureClass, canonical_json};

use super::agent_choices::AgentChoices;
use super::error::RunnerError;
use super::prepare::plan_project;
use super::reporter::SilentReporter;

/// Everything from which a plan can be made again, except for the inputs of the run. A plan that is made from it has
/// the same digest ([`Plan::digest`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanBundle {
    /// The files of the project.
    pub project: ProjectBundle,
    /// The model that the user chose for all agents (`--model`).
    pub model: Option<String>,
    /// The models and CLI agents that the user chose for single agents (`--agent`).
    pub agents: BTreeMap<String, String>,
    /// The settings of the command line and of `orch.yaml` for steps.
    pub defaults: StepDefaults,
    /// The models of the plan, by their names in the files.
    pub models: BTreeMap<String, PlannedModel>,
    /// The version of the catalogue of models, from which follow the options of requests.
    pub catalog: Digest,
}

impl PlanBundle {
    /// Collects everything from which [`plan_project`] makes a plan with these arguments.
    ///
    /// # Errors
    /// The project can't be planned.
    pub fn from_project(
        project: &Project,
        defaults: &StepDefaults,
        plan_model: &dyn Fn(&str) -> Result<PlannedModel, RunnerError>,
    ) -> Result<Self, RunnerError> {
        let models = RefCell::new(BTreeMap::new());
        plan_project(project, Map::new(), defaults, &|name| {
            let model = plan_model(name)?;
            models.borrow_mut().insert(name.to_owned(), model.clone());
            Ok(model)
        })?;
        Ok(Self {
            project: ProjectBundle::from_project(project),
            model: None,
            agents: BTreeMap::new(),
            defaults: defaults.clone(),
            models: models.into_inner(),
            catalog: catalog_version(),
        })
    }

    /// The bundle of a project to which the user's choices were applied.
    pub(crate) fn with_choices(self, choices: &AgentChoices, project: &Project) -> Self {
        let AgentChoices { model, agents, .. } = choices.for_project(project);
        Self { model, agents, ..self }
    }

    /// The digest of the bundle. The digests of the files stand for their texts.
    pub fn digest(&self) -> Digest {
        let content = json!({
            "project": self.project.digest(), "model": self.model, "agents": self.agents, "defaults": self.defaults,
            "models": self.models, "catalog": self.catalog,
        });
        Digest::compute(canonical_json(&content).as_bytes())
    }

    /// Makes the plan. Reads nothing from the disk.
    ///
    /// # Errors
    /// The bundle is damaged, or another version of the catalogue of models made it.
    pub fn plan(&self, inputs: Map<String, Value>) -> Result<Plan, RunnerError> {
        let version = catalog_version();
        if self.catalog != version {
            let (other, own) = (self.catalog.short(), version.short());
            let message = format!("the bundle has version {other} of the catalogue of models, and this orch has {own}");
            return Err(RunnerError::usage(message).with_hint("use the same version of orch in all processes"));
        }
        let mut project = self.project.load()?;
        AgentChoices::new(self.model.as_ref(), &self.agents).apply(&mut project, &SilentReporter)?;
        plan_project(&project, inputs, &self.defaults, &|name| {
            let model = self.models.get(name).cloned();
            model.ok_or_else(|| RunnerError::internal(format!("the bundle does not contain the model `{name}`")))
        })
    }

    /// Sends the bundle as JSON, and makes the plan from what arrives, for a workspace with these project files.
    ///
    /// # Errors
    /// The bundle can't be sent, or the plan can't be made from it.
    pub fn plan_again(&self, project_files: &[String]) -> Result<Plan, Failure> {
        let internal = |message: String| Failure::new(FailureClass::Internal, message);
        let text = serde_json::to_string(self).map_err(|error| internal(error.to_string()))?;
        let received: Self = serde_json::from_str(&text).map_err(|error| internal(error.to_string()))?;
        let plan = received.plan(Map::new()).map_err(|error| internal(error.to_string()))?;
        Ok(plan.with_project_files(project_files.to_vec()))
    }
}
