//! `orch pipeline plan`.

mod json;
mod text;

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::{CliInputs, OutputFormat, StateArgs, agents, budget, lookup};
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::engine::Plan;
use crate::engine::forecast::{LimitForecast, StepForecast, forecast};
use crate::model::Fingerprint;
use crate::model::budget::Budget;
use crate::runner::passed_variables::variables_needing_agreement;
use crate::runner::preflight::MissingRequirement;
use crate::runner::prepare::{self, PlanOptions};
use crate::runner::{AgentChoices, ExitStatus, agent_options, execute, find_step, models, project_files};
use crate::store::{Journal, ResultCache};
use crate::trust::{Disclosures, VariableDisclosures};

/// Preview a run without running it
///
/// Shows the steps in order, with their models and the ranges of their requests, tokens and cost. Also shows whether
/// the budget is sufficient, and which results --reuse would reuse. orch calls no model, writes and downloads nothing,
/// and needs no key. For an input or output that is still unknown, prompts contain a placeholder with its type:
/// `‹plan.summary: string›`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch plan default --task \"Create a User model\"\n  orch plan default --step code\n  orch plan default --model anthropic/claude-sonnet-5-5 --budget usd=1"
)]
pub(in crate::cli) struct PlanArgs {
    /// The pipeline file, or the name of a pipeline in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    inputs: CliInputs,

    /// The model for every agent: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// The model or CLI agent in place of one agent: a model as for --model, `cli:claude`, `cli:codex`, `acp:PROGRAM` or
    /// `command:PROGRAM`; can be repeated
    #[arg(long = "agent", value_name = "NAME=MODEL", value_parser = agents::parse)]
    agents: Vec<(String, String)>,

    /// Show the prompt, command or question of each step, with placeholders for unknown values
    #[arg(long)]
    prompts: bool,

    /// Show only this step, with its prompt
    #[arg(long, value_name = "STEP")]
    step: Option<String>,

    /// Show which results of earlier runs a run with --reuse would reuse
    #[arg(long)]
    reuse: bool,

    /// The limits of the run, such as `usd=2,tokens=500000,seconds=3600`; replaces the whole budget of
    /// the pipeline file or orch.yaml
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

/// The data that the command prints.
struct PlanReport<'a> {
    plan: &'a Plan,
    description: Option<&'a str>,
    /// The inputs without a value.
    missing_inputs: Vec<&'a str>,
    steps: Vec<StepForecast>,
    budget_forecasts: Vec<LimitForecast>,
    /// The unset key variables, each with a model that needs the key.
    missing_keys: models::MissingKeys,
    /// What MCP servers and CLI agents need and this machine lacks.
    missing_requirements: Vec<MissingRequirement>,
    /// The data that orch sends to other machines because of orch.yaml.
    disclosures: Disclosures,
    /// The variables that the run passes to confined programs, if it can send data to other machines.
    variables: VariableDisclosures,
    /// Whether the user agreed to the disclosures and the variables.
    is_trusted: bool,
}

pub(super) fn run(args: &PlanArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let current_dir = runner.current_dir();
    let choices = AgentChoices::new(args.model.as_ref(), &agents::by_name(&args.agents)?);
    let project = prepare::load(&lookup::find_pipeline(&args.pipeline, current_dir)?, &choices, &runner)?;
    let (known_inputs, missing_inputs) = args.inputs.partial_inputs(&project.pipeline)?;
    let registry = runner.model_registry(&project.root, &project.settings, None);
    let (resolved_models, _) = runtime()?.block_on(models::resolve_model_names(&project, &registry, None, &runner))?;
    agent_options::note_unsent_options(&project, &registry, &resolved_models, &runner);
    let options = PlanOptions { budget: args.budget.clone(), ..PlanOptions::default() };
    let plan = prepare::plan(&project, known_inputs, &resolved_models, &registry, &options, &runner)?;
    let plan = project_files::protect_project_files(plan, &project, current_dir);

    let (root, _) = execute::root_and_file(&project, current_dir);
    let state_folder = args.state.folder(&root);
    let cache = if args.reuse { Journal::open_read_only(&state_folder)?.map(ResultCache::from_journal) } else { None };
    let mut cache_error = None;
    let mut find_result = |fingerprint: &Fingerprint| {
        let result = cache.as_ref()?.next_result(fingerprint);
        result.unwrap_or_else(|error| {
            cache_error = Some(error);
            None
        })
    };
    let steps = forecast(&plan, &missing_inputs, &registry, &mut |fingerprint| {
        find_result(fingerprint).map(|(_, artifact)| artifact.value)
    });
    if let Some(error) = cache_error {
        return Err(error.into());
    }
    let disclosures = Disclosures::from_settings(&project.settings);
    let variables = variables_needing_agreement(&project);
    let report = PlanReport {
        budget_forecasts: LimitForecast::compare(&plan, &steps),
        description: project.pipeline.description.as_deref(),
        missing_inputs: missing_inputs.iter().map(|(name, _)| name.as_str()).collect(),
        plan: &plan,
        steps,
        missing_keys: models::missing_keys(resolved_models.values(), &registry),
        missing_requirements: runtime()?.block_on(runner.missing_requirements(&plan)),
        is_trusted: runner.is_trusted(&root, &disclosures, &variables)?,
        disclosures,
        variables,
    };
    let selected_step = args.step.as_deref().map(|name| find_step(&plan, name)).transpose()?;
    match args.output {
        OutputFormat::Json => ui.write_data(&format!("{:#}", json::plan_json(&report, selected_step.as_ref())))?,
        OutputFormat::Text => {
            ui.write_text(&text::render_plan(&report, args.prompts, selected_step.as_ref(), ui.stdout_style))?;
        }
    }
    Ok(ExitStatus::Success)
}
