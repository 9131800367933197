//! Loads and checks the project of a pipeline file, and creates the plan of a run from it.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::agent::ModelRegistry;
use crate::check;
use crate::config::{self, Project, Settings};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::engine::budget_check;
use crate::engine::{ArtifactType, Plan, PlannedModel, Resolve, StepDefaults};
use crate::model::budget::Budget;
use crate::model::{McpServerSpec, Pipeline, Step, StepKey};
use crate::schema::Schema;
use crate::template::Templates;

use super::Runner;
use super::agent_choices::AgentChoices;
use super::environment::BranchMode;
use super::error::RunnerError;
use super::execute::{resolve_path, root_and_file};
use super::models::{ResolvedModels, resolve_model_name, to_planned_model};
use super::plan_bundle::PlanBundle;

/// Loads and checks the project of a pipeline file, and applies the user's choices for its agents.
pub(crate) fn load(path: &Path, choices: &AgentChoices, runner: &Runner) -> Result<Project, RunnerError> {
    let sources = runner.environment.sources();
    let mut project = config::load_from(&sources, &resolve_path(path, runner.current_dir()))?;
    let mut findings = check::check(&project);
    findings.retain(|finding| !depends_on_choices(finding));
    if findings.iter().any(Diagnostic::is_error) {
        return Err(RunnerError::with_findings(findings));
    }
    choices.apply(&mut project, &*runner.reporter)?;
    if !choices.is_empty() {
        // Some warnings concern only a model, an option or a fallback that a choice has removed.
        let remaining = check::check(&project);
        findings.retain(|finding| remaining.contains(finding));
    }
    runner.reporter.findings(&findings);
    Ok(project)
}

/// Whether a finding concerns the budget of a run, for which the user can choose other models and another budget. The
/// plan decides about these.
fn depends_on_choices(finding: &Diagnostic) -> bool {
    finding.is_error() && matches!(finding.code, Code::UnknownPrice | Code::UsageNotReported)
}

/// Checks the user's choices before the runs of several pipeline files: that each is well-formed, and that some pipeline
/// has its agent and knows its model. A pipeline that can't be loaded may have them.
pub(crate) fn check_choices(paths: &[PathBuf], choices: &AgentChoices, runner: &Runner) -> Result<(), RunnerError> {
    let sources = runner.environment.sources();
    let load = |path: &PathBuf| config::load_from(&sources, &resolve_path(path, runner.current_dir())).ok();
    let Some(projects) = paths.iter().map(load).collect::<Option<Vec<Project>>>() else { return Ok(()) };
    let models = choices.check(&projects.iter().collect::<Vec<_>>())?;
    for model in models.iter().filter(|model| *model != "auto") {
        let resolve = |project: &Project| {
            resolve_model_name(&runner.model_registry(&project.root, &project.settings, None), model).map(drop)
        };
        let is_known = projects.iter().any(|project| resolve(project).is_ok());
        if let Some(project) = projects.first().filter(|_| !is_known) {
            return resolve(project);
        }
    }
    Ok(())
}

/// The options of a request that affect its plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlanOptions {
    /// Whether steps that do not depend on a failed step still run.
    pub(crate) continue_on_error: bool,
    /// The budget that replaces the budget in the pipeline file.
    pub(crate) budget: Option<Budget>,
    /// The choices that were applied to the project.
    pub(crate) choices: AgentChoices,
}

/// Creates the plan of a run from a loaded project, with the settings of this session.
pub(crate) fn plan(
    project: &Project,
    inputs: Map<String, Value>,
    resolved_models: &ResolvedModels,
    models: &ModelRegistry,
    options: &PlanOptions,
    runner: &Runner,
) -> Result<Plan, RunnerError> {
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
        mcp: mcp_servers(&project.settings),
    };
    let plan_model = |name: &str| {
        let reference = resolved_models.get(name);
        let reference =
            reference.ok_or_else(|| RunnerError::internal(format!("the model `{name}` was not resolved")))?;
        to_planned_model(models, reference)
    };
    let plan = plan_project(project, inputs, &defaults, &plan_model)?;
    check_budget_units(&plan, models)?;
    Ok(match runner.environment.branch_mode()? {
        BranchMode::Shared => plan,
        BranchMode::Serialized => {
            let bundle = PlanBundle::from_project(project, &defaults, &plan_model)?;
            let bundle = bundle.with_choices(&options.choices, project);
            plan.with_serialized_branches(move |project_files| bundle.plan_again(project_files))
        }
    })
}

/// The MCP servers of a project, with every default filled in. Omits a server without an address and without a program,
/// which the check reports.
pub(crate) fn mcp_servers(settings: &Settings) -> IndexMap<String, McpServerSpec> {
    let servers = settings.mcp.iter();
    servers.filter_map(|(name, server)| Some((name.clone(), server.spec(name, &settings.sandbox)?))).collect()
}

/// Creates a plan from a loaded project. `plan_model` returns the model for a model name in the files.
///
/// [`Runner::start`] does this with the models of the session. A program that interprets a plan itself, such as a test,
/// calls this function directly.
///
/// # Errors
/// A prompt or a schema of the project is invalid, or `plan_model` does not know a model.
pub fn plan_project(
    project: &Project,
    inputs: Map<String, Value>,
    defaults: &StepDefaults,
    plan_model: &dyn Fn(&str) -> Result<PlannedModel, RunnerError>,
) -> Result<Plan, RunnerError> {
    let templates = Templates::new(project.prompt_sources())
        .map_err(|errors| RunnerError::usage(errors.first().map_or_else(String::new, ToString::to_string)))?;
    Plan::new(&project.pipeline, inputs, templates, defaults, &Resolver { project, plan_model })
}

/// Checks that orch can count each unit that a budget limits: that every model has a price, and that every CLI agent
/// reports its usage or has an estimate.
fn check_budget_units(plan: &Plan, models: &ModelRegistry) -> Result<(), RunnerError> {
    let budgets = plan.budgets();
    if let Some((cli_agent, unit, refuses_estimates)) = budget_check::find_uncounted_agent(&budgets, plan.models()) {
        let usage = if unit == "usd" { "its cost" } else { "its tokens" };
        let allow = if refuses_estimates { " and `unreported: estimate` in the budget" } else { "" };
        return Err(RunnerError::usage(format!("{cli_agent} does not report {usage}, and a budget limits `{unit}`"))
            .with_hint(format!(
                "set `estimate: {{ {unit}: … }}` of its agent to the most that one turn uses{allow}, or leave `{unit}` \
                 out of the budget"
            )));
    }
    match budget_check::find_unpriced_model(&budgets, plan.models(), models) {
        // Replayed replies cost nothing.
        Some(model) if model.reference.provider != crate::agent::REPLAY_PROVIDER => {
            let remedy = match model.program {
                Some(_) => "set `estimate: { usd: … }` of its agent to the most that one turn costs",
                None => "set its prices under `models:` in orch.yaml",
            };
            let changed_model = model.priced_model().filter(|priced_model| priced_model.changed_by.is_some());
            let model =
                changed_model.map_or_else(|| model.reference.to_string(), |priced_model| priced_model.to_string());
            Err(RunnerError::usage(format!("{model} has no known price, and there is a budget in dollars"))
                .with_hint(format!("{remedy}, or set `unpriced: allow` in the budget")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Finds a step of the plan by its key, or by the last id of its key.
pub(crate) fn find_step(plan: &Plan, name: &str) -> Result<StepKey, RunnerError> {
    let steps = plan.planned_steps();
    let exact = steps.iter().find(|step| step.step.as_str() == name);
    // The last id is usually enough, since ids are unique in a file.
    let step = exact.or_else(|| steps.iter().find(|step| step.step.last_segment() == name));
    step.map(|step| step.step.clone()).ok_or_else(|| {
        let keys: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        let error = RunnerError::usage(format!("there is no step `{name}`"));
        match did_you_mean(name, keys.iter().copied()) {
            Some(nearest) => error.with_hint(format!("did you mean `{nearest}`?")),
            None => error.with_hint(format!("the steps are {}", keys.join(", "))),
        }
    })
}

struct Resolver<'a> {
    project: &'a Project,
    plan_model: &'a dyn Fn(&str) -> Result<PlannedModel, RunnerError>,
}

impl Resolve<RunnerError> for Resolver<'_> {
    fn model(&self, name: &str) -> Result<PlannedModel, RunnerError> {
        (self.plan_model)(name)
    }

    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, RunnerError> {
        Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| RunnerError::usage(format!("the input `{name}`: {error}")))
    }

    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<RunnerError> + '_>), RunnerError> {
        let called_project = self.project.called_projects.get(file);
        let project =
            called_project.ok_or_else(|| RunnerError::internal(format!("the pipeline `{file}` was not loaded")))?;
        Ok((&project.pipeline, Box::new(Resolver { project, plan_model: self.plan_model })))
    }

    fn planning_error(&self, message: String) -> RunnerError {
        RunnerError::internal(message)
    }

    fn artifact_type(&self, step: &Step) -> Result<ArtifactType, RunnerError> {
        match Project::schema_file(step) {
            None if step.schema.as_deref() == Some("text") => Ok(ArtifactType::Text),
            None => Ok(ArtifactType::Json(Schema::any())),
            Some(file) => {
                let schema = self.project.schemas.get(&file);
                schema.map(ArtifactType::Json).map_err(|error| RunnerError::usage(format!("schemas/{file}: {error}")))
            }
        }
    }
}
