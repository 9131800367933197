//! Turns files into a plan: loads and checks the project of a pipeline file, and adds models and inputs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::check;
use crate::config::{self, Project};
use crate::diagnostic::Diagnostic;
use crate::engine::budget;
use crate::engine::{Contract, Plan, PlannedModel, Resolve, StepDefaults};
use crate::model::budget::Budget;
use crate::model::{Pipeline, Step};
use crate::schema::Schema;
use crate::template::Templates;

use super::Runner;
use super::error::SessionError;
use super::execute::{resolve_path, root_and_file};
use super::models::{ResolvedModels, to_planned_model};

/// Loads and checks the project of a pipeline file; `model` replaces the model of every agent.
pub(crate) fn load(path: &Path, model: Option<&str>, runner: &Runner) -> Result<Project, SessionError> {
    let mut project = config::load(&resolve_path(path, runner.current_dir()))?;
    let findings = check::check(&project);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(SessionError::with_findings(findings));
    }
    runner.reporter.findings(&findings);
    if let Some(model) = model {
        let has_model = |project: &&Project| project.pipeline.agents.values().any(|agent| agent.cli_kind().is_none());
        if !project.with_called_projects().iter().any(has_model) {
            runner.reporter.note(&format!("no agent is a model, so the model {model} is not used"));
        }
        use_only_model(&mut project, model);
    }
    Ok(project)
}

/// Uses one model for every agent and removes fallbacks, so that no other model is called or needs a key.
fn use_only_model(project: &mut Project, model: &str) {
    for agent in project.pipeline.agents.values_mut().filter(|agent| agent.cli_kind().is_none()) {
        model.clone_into(&mut agent.model);
    }
    project.pipeline.for_each_step_mut(&mut |step| step.fallback.clear());
    for called in project.called_projects.values_mut() {
        use_only_model(Arc::make_mut(called), model);
    }
}

/// The options of a request that affect its plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlanOptions {
    /// Whether steps that do not depend on a failed step still run.
    pub(crate) continue_on_error: bool,
    /// The budget that replaces the budget of the file.
    pub(crate) budget: Option<Budget>,
}

/// Plans a loaded project for a run of this session.
pub(crate) fn plan(
    project: &Project,
    inputs: Map<String, Value>,
    names: &ResolvedModels,
    models: &ModelRegistry,
    options: &PlanOptions,
    runner: &Runner,
) -> Result<Plan, SessionError> {
    let settings = &project.settings.defaults;
    let defaults = StepDefaults {
        continue_on_error: options.continue_on_error,
        timeout: settings.timeout.map(|duration| duration.0),
        re_ask: settings.re_ask,
        max_output_tokens: settings.max_output_tokens,
        budget: project.settings.budget.clone(),
        budget_override: options.budget.clone(),
        project_root: root_and_file(project, runner.current_dir()).0.to_string_lossy().into(),
        sandbox: project.settings.sandbox.clone(),
    };
    let plan = plan_project(project, inputs, &defaults, &|name| {
        let reference = names.get(name);
        let reference =
            reference.ok_or_else(|| SessionError::internal(format!("the model `{name}` was not resolved")))?;
        to_planned_model(models, reference)
    })?;
    check_budget_units(&plan, models).map(|()| plan)
}

/// Plans a loaded project; `plan_model` returns the model for a name in the files.
///
/// [`Runner::start`] plans with the models of the session. Programs that interpret a plan themselves, such as tests,
/// can call this function directly.
///
/// # Errors
/// A prompt or a schema of the project is invalid, or `plan_model` does not know a model.
pub fn plan_project(
    project: &Project,
    inputs: Map<String, Value>,
    defaults: &StepDefaults,
    plan_model: &dyn Fn(&str) -> Result<PlannedModel, SessionError>,
) -> Result<Plan, SessionError> {
    let templates = Templates::new(project.prompt_sources())
        .map_err(|errors| SessionError::usage(errors.first().map_or_else(String::new, ToString::to_string)))?;
    Plan::new(&project.pipeline, inputs, templates, defaults, &Resolver { project, plan_model })
}

/// Checks that each model and CLI agent has a price or an estimate for the units that a budget limits.
fn check_budget_units(plan: &Plan, models: &ModelRegistry) -> Result<(), SessionError> {
    let budgets = plan.budgets();
    if let Some((cli_agent, unit, refuses_estimates)) = budget::find_uncounted_agent(&budgets, plan.models()) {
        let usage = if unit == "usd" { "its cost" } else { "its tokens" };
        let allow = if refuses_estimates { " and `unreported: estimate` in the budget" } else { "" };
        return Err(SessionError::usage(format!("{cli_agent} does not report {usage}, and a budget limits `{unit}`"))
            .with_hint(format!(
                "set `estimate: {{ {unit}: … }}` of its agent to the most that one turn uses{allow}, or leave `{unit}` \
                 out of the budget"
            )));
    }
    match budget::find_unpriced_model(&budgets, plan.models(), models) {
        // Replayed replies cost nothing.
        Some(model) if model.reference.provider != crate::agent::REPLAY_PROVIDER => {
            let remedy = match model.program {
                Some(_) => "set `estimate: { usd: … }` of its agent to the most that one turn costs",
                None => "set its prices under `models:` in orch.yaml",
            };
            let model = &model.reference;
            Err(SessionError::usage(format!("{model} has no known price, and there is a budget in dollars"))
                .with_hint(format!("{remedy}, or set `unpriced: allow` in the budget")))
        }
        Some(_) | None => Ok(()),
    }
}

struct Resolver<'a> {
    project: &'a Project,
    plan_model: &'a dyn Fn(&str) -> Result<PlannedModel, SessionError>,
}

impl Resolve<SessionError> for Resolver<'_> {
    fn model(&self, name: &str) -> Result<PlannedModel, SessionError> {
        (self.plan_model)(name)
    }

    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, SessionError> {
        Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| SessionError::usage(format!("the input `{name}`: {error}")))
    }

    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<SessionError> + '_>), SessionError> {
        let called = self.project.called_projects.get(file);
        let called = called.ok_or_else(|| SessionError::internal(format!("the pipeline `{file}` was not loaded")))?;
        Ok((&called.pipeline, Box::new(Resolver { project: called, plan_model: self.plan_model })))
    }

    fn planning_error(&self, message: String) -> SessionError {
        SessionError::internal(message)
    }

    fn contract(&self, step: &Step) -> Result<Contract, SessionError> {
        match Project::schema_file(step) {
            None if step.schema.as_deref() == Some("text") => Ok(Contract::Text),
            None => Ok(Contract::Json(Schema::any())),
            Some(file) => {
                let schema = self.project.schemas.get(&file);
                schema.map(Contract::Json).map_err(|error| SessionError::usage(format!("schemas/{file}: {error}")))
            }
        }
    }
}
