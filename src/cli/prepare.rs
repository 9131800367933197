//! From files to a plan: the project of a pipeline file, loaded and checked, with its models and inputs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::agent::Models;
use crate::check;
use crate::config::{self, Project};
use crate::diagnostic::Diagnostic;
use crate::engine::budget;
use crate::engine::{Contract, Defaults, Plan, PlannedModel, Resolve};
use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::{Pipeline, Step};
use crate::schema::Schema;
use crate::template::Templates;

use super::error::CliError;
use super::resolve::{Names, planned};
use super::session::given;
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
        only(&mut project, model);
    }
    Ok(project)
}

/// One model for everything: no other is asked, nor needs a key.
fn only(project: &mut Project, model: &str) {
    for agent in project.pipeline.agents.values_mut().filter(|agent| agent.kind().is_none()) {
        model.clone_into(&mut agent.model);
    }
    project.pipeline.each_step_mut(&mut |step| step.fallback.clear());
    for called in project.called.values_mut() {
        only(Arc::make_mut(called), model);
    }
}

/// What the command line says of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// `--continue-on-error`.
    pub(super) continue_on_error: bool,
    /// `--budget`.
    pub(super) budget: Option<Budget>,
}

/// Reads `--budget usd=2,tokens=500000,seconds=3600`.
pub(super) fn budget(text: &str) -> Result<Budget, String> {
    let mut budget = Budget::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let wrong = || format!("`{value}` is not a number for `{name}`");
        match name.trim() {
            "usd" => budget.usd = Some(value.trim().parse().ok().filter(|usd| *usd >= 0.0).ok_or_else(wrong)?),
            "tokens" => budget.tokens = Some(value.trim().parse().map_err(|_| wrong())?),
            "seconds" => budget.seconds = Some(value.trim().parse().map_err(|_| wrong())?),
            "unpriced" if value.trim() == "allow" => budget.unpriced = Some(Unpriced::Allow),
            "unpriced" => return Err(format!("`unpriced={value}` is not `unpriced=allow`")),
            "unreported" => {
                budget.unreported = Some(match value.trim() {
                    "estimate" => Unreported::Estimate,
                    "refuse" => Unreported::Refuse,
                    other => return Err(format!("`unreported={other}` is not `estimate` or `refuse`")),
                });
            }
            other => {
                return Err(format!(
                    "`{other}` is not `usd`, `tokens`, `seconds`, `unpriced=allow` or `unreported=refuse`"
                ));
            }
        }
    }
    Ok(budget)
}

/// Plans a loaded project.
pub(super) fn plan(
    project: &Project,
    inputs: Map<String, Value>,
    names: &Names,
    models: &Models,
    flags: &Flags,
) -> Result<Plan, CliError> {
    let templates = Templates::new(project.prompt_sources())
        .map_err(|errors| CliError::could_not(errors.first().map_or_else(String::new, ToString::to_string)))?;
    let settings = &project.settings.defaults;
    let defaults = Defaults {
        continue_on_error: flags.continue_on_error,
        timeout: settings.timeout.map(|span| span.0),
        re_ask: settings.re_ask,
        max_output_tokens: settings.max_output_tokens,
        budget: project.settings.budget.clone(),
        given: flags.budget.clone(),
        project: super::session::places(project, &super::here()?).0.to_string_lossy().into(),
    };
    let plan = Plan::new(&project.pipeline, inputs, templates, &defaults, &Resolver { project, names, models })?;
    within_limits(&plan, models).map(|()| plan)
}

/// Checks that each model and program has a price or an estimate for what a budget limits.
fn within_limits(plan: &Plan, models: &Models) -> Result<(), CliError> {
    let budgets = plan.budgets();
    if let Some((program, unit, refuses)) = budget::uncounted(&budgets, plan.asked()) {
        let what = if unit == "usd" { "what it costs" } else { "its tokens" };
        let allow = if refuses { " and `unreported: estimate` in the budget" } else { "" };
        return Err(CliError::could_not(format!("{program} does not report {what}, and a budget limits `{unit}`"))
            .hint(format!("say under `estimate: {{ {unit}: … }}` of its agent what one turn takes at most{allow}, or leave `{unit}` out of the budget")));
    }
    match budget::unpriced(&budgets, plan.asked(), models) {
        // What is replayed costs nothing.
        Some(model) if model.reference.provider != crate::agent::REPLAY => {
            let way = match model.program {
                Some(_) => "say under `estimate: { usd: … }` of its agent what one turn costs at most",
                None => "give its prices under `models:` in orch.yaml",
            };
            let model = &model.reference;
            Err(CliError::could_not(format!("{model} has no known price, and there is a budget in dollars"))
                .hint(format!("{way}, or say `unpriced: allow` in the budget")))
        }
        Some(_) | None => Ok(()),
    }
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

    fn input(&self, name: &str, schema: &Map<String, Value>) -> Result<Schema, CliError> {
        Schema::compile(name, Value::Object(schema.clone()))
            .map_err(|error| CliError::could_not(format!("the input `{name}`: {error}")))
    }

    fn pipeline(&self, file: &str) -> Result<(&Pipeline, Box<dyn Resolve<CliError> + '_>), CliError> {
        let called = self.project.called.get(file);
        let called = called.ok_or_else(|| CliError::internal(format!("the pipeline `{file}` was not loaded")))?;
        Ok((&called.pipeline, Box::new(Resolver { project: called, names: self.names, models: self.models })))
    }

    fn refuse(&self, why: String) -> CliError {
        CliError::internal(why)
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
