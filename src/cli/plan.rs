//! `orch pipeline plan`.

mod json;
mod tell;

use std::path::PathBuf;

use crate::engine::Plan;
use crate::engine::forecast::{Foreseen, LimitForecast, forecast};
use crate::model::Fingerprint;
use crate::model::budget::Budget;
use crate::store::{Journal, ResultCache};
use crate::trust::Disclosures;

use super::inputs::CliInputs;
use super::report::OutputFormat;
use super::ui::Ui;
use super::{State, budget, named, runner, runtime};
use crate::session::prepare::{self, PlanOptions};
use crate::session::{ExitStatus, SessionError, execute, models, project_files, step_named};

/// Tell what a run would do, without doing it
///
/// Steps in order, with those inside groups; their models, requests, tokens and cost as ranges; what a
/// budget allows, and what --reuse would keep. Nothing is asked, written or downloaded, and no key is
/// needed. What a step will produce is not known yet, so its schema stands for it: `‹plan.summary:
/// string›`. An input that is not given is left open in the same way.
///
/// Examples:
///   orch pipeline plan pipelines/default.yaml --task "Create a User model"
///   orch pipeline plan pipelines/default.yaml --step code
///   orch pipeline plan pipelines/default.yaml --model anthropic/claude-sonnet-5-5 --budget usd=1
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct PlanArgs {
    /// The pipeline: its file, or its name in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    given: CliInputs,

    /// The model of every agent: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// Show each step's prompt, command or question as far as it is known
    #[arg(long)]
    prompts: bool,

    /// Tell of this step alone, with its prompt
    #[arg(long, value_name = "STEP")]
    step: Option<String>,

    /// As for a run with --reuse: take over results of earlier runs that were asked exactly the same
    #[arg(long)]
    reuse: bool,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

/// What was found out, ready to be told.
struct PlanReport<'a> {
    plan: &'a Plan,
    description: Option<&'a str>,
    /// Inputs that are not given.
    open: Vec<&'a str>,
    steps: Vec<Foreseen>,
    allowances: Vec<LimitForecast>,
    /// Keys that are not set, with a model that needs each.
    missing: models::Missing,
    /// What orch.yaml sends away, and whether the user agreed to it.
    disclosures: Disclosures,
    trusted: bool,
}

pub(super) fn run(args: &PlanArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let runner = runner(ui)?;
    let here = runner.current_dir();
    let project = prepare::load(&named::pipeline(&args.pipeline, here)?, args.model.as_deref(), &runner)?;
    let (inputs, open) = args.given.known(&project.pipeline)?;
    let available = runner.models(&project.root, &project.settings, None);
    let (names, _) = runtime()?.block_on(models::named_by(&project, &available, None, &runner))?;
    let options = PlanOptions { budget: args.budget.clone(), ..PlanOptions::default() };
    let plan = prepare::plan(&project, inputs, &names, &available, &options, &runner)?;
    let plan = project_files::beside(plan, &project, here);

    let (root, _) = execute::places(&project, here);
    let state = args.state.folder(&root);
    let earlier = if args.reuse { Journal::open_to_read(&state)?.map(ResultCache::of) } else { None };
    let mut broken = None;
    let mut reuse = |recipe: &Fingerprint| {
        let found = earlier.as_ref()?.find(recipe);
        found.unwrap_or_else(|error| {
            broken = Some(error);
            None
        })
    };
    let steps = forecast(&plan, &open, &available, &mut |recipe| reuse(recipe).map(|(_, artifact)| artifact.value));
    if let Some(error) = broken {
        return Err(error.into());
    }
    let disclosures = Disclosures::of(&project.settings);
    let told = PlanReport {
        allowances: LimitForecast::of(&plan, &steps),
        description: project.pipeline.description.as_deref(),
        open: open.iter().map(|(name, _)| name.as_str()).collect(),
        plan: &plan,
        steps,
        missing: models::missing_keys(names.values(), &available),
        trusted: runner.is_trusted(&root, &disclosures)?,
        disclosures,
    };
    let only = args.step.as_deref().map(|name| step_named(&plan, name)).transpose()?;
    match args.output {
        OutputFormat::Json => ui.data(&format!("{:#}", json::of(&told, only.as_ref())))?,
        OutputFormat::Text => ui.text(&tell::text(&told, args.prompts, only.as_ref(), ui.out_style))?,
    }
    Ok(ExitStatus::Success)
}
