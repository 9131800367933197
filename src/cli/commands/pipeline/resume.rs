//! `orch pipeline resume`.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::{OutputFormat, StateArgs, TrustArgs, agents, budget};
use crate::cli::output::{Ui, print_result};
use crate::cli::startup::{runner, runtime};
use crate::model::budget::Budget;
use crate::model::visible::escape_line_breaks;
use crate::runner::{ChangedFilesPolicy, DryRun, ExitStatus, PredictedActionKind, ResumeRequest, Runner};

/// Resume a run that failed or was stopped
///
/// orch reads the project's files again, so you can fix a prompt, a schema or the pipeline first. It
/// reuses the recorded result of each step whose request, schema and `accept` conditions have not
/// changed, and runs the other steps.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The ID of the run, or the start of it [default: the latest run that did not complete]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The workspace; required if the run was imported or was started in another copy of the project [default: the
    /// run's workspace]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// The model for every agent, also in later resumes: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// The model or CLI agent in place of one agent from now on, as for `orch pipeline run`; can be repeated
    #[arg(long = "agent", value_name = "NAME=MODEL", value_parser = agents::parse)]
    agents: Vec<(String, String)>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    /// After a failed step, continue with every step that does not depend on it
    #[arg(long)]
    continue_on_error: bool,

    /// Run this step again even if orch could reuse its result; later steps run again only if their inputs change
    #[arg(long, value_name = "STEP")]
    from: Option<String>,

    /// Show which steps a resume would reuse and which it would run, and why; run nothing
    #[arg(long)]
    dry_run: bool,

    /// Keep changed files as they are: record edited artifact files as the outputs of their steps, and do not restore
    /// deleted or reverted files of `write` steps and CLI agents
    #[arg(long, conflicts_with = "discard_changed")]
    accept_changed: bool,

    /// Restore edited and deleted artifact files, and deleted or reverted files of `write` steps and CLI agents, to their
    /// recorded content
    #[arg(long)]
    discard_changed: bool,

    /// Download the embedded model without asking
    #[arg(long, short)]
    yes: bool,

    /// The limits of the run, such as `usd=2,tokens=500000,seconds=3600`; replaces the whole budget of
    /// the pipeline file or orch.yaml
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// Write each exchange with a model and each result of a command to this folder, also in later resumes [default: the
    /// folder into which the run records so far, if any]
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// The folder of recordings of a run that `orch pipeline run --replay` started [default: the folder of the run]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "agents", "record"])]
    replay: Option<PathBuf>,

    /// Print no progress, and no summary of a completed run
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &ResumeArgs, ui: &mut Ui) -> Result<ExitStatus> {
    ui.quiet = args.quiet;
    let runner = runner(ui)?;
    let request = ResumeRequest {
        run: args.run.clone(),
        workspace: args.workspace.clone(),
        state: args.state.state_folder(),
        model: args.model.clone(),
        agents: agents::by_name(&args.agents)?,
        continue_on_error: args.continue_on_error,
        from_step: args.from.clone(),
        changed_files: match (args.accept_changed, args.discard_changed) {
            (true, _) => ChangedFilesPolicy::Accept,
            (false, true) => ChangedFilesPolicy::Discard,
            (false, false) => ChangedFilesPolicy::Refuse,
        },
        may_download: args.yes,
        budget: args.budget.clone(),
        recording_folder: args.record.clone(),
        replay_folder: args.replay.clone(),
        trusted_digest: args.trust.digest(),
    };
    if args.dry_run {
        let dry_run = runtime()?.block_on(runner.dry_run(&request))?;
        return print_dry_run(&dry_run, args.output, ui);
    }
    resume(&runner, &request, args.output, ui)
}

/// Resumes a run after the user has answered its approval.
pub(in crate::cli) fn resume_after_answer(request: &ResumeRequest, ui: &Ui) -> Result<ExitStatus> {
    resume(&runner(ui)?, request, OutputFormat::Text, ui)
}

fn resume(runner: &Runner, request: &ResumeRequest, output: OutputFormat, ui: &Ui) -> Result<ExitStatus> {
    let result = runtime()?.block_on(runner.resume(request))?;
    print_result(&result, output, runner.current_dir(), ui)
}

/// Prints which steps a resume would reuse and which it would run.
fn print_dry_run(dry_run: &DryRun, output: OutputFormat, ui: &Ui) -> Result<ExitStatus> {
    let action_name = |action| match action {
        PredictedActionKind::Reuse => "reuse",
        PredictedActionKind::Run => "run",
        PredictedActionKind::MaybeRun => "maybe_run",
        PredictedActionKind::Skip => "skip",
        PredictedActionKind::Fail => "fail",
        PredictedActionKind::Removed => "removed",
    };
    if output == OutputFormat::Json {
        let steps = dry_run.steps.iter();
        let steps: Vec<serde_json::Value> = steps
            .map(
                |step| serde_json::json!({ "step": step.step, "action": action_name(step.action), "reason": step.reason }),
            )
            .collect();
        ui.write_data(&format!("{:#}", serde_json::Value::from(steps)))?;
        return Ok(ExitStatus::Success);
    }
    for step in &dry_run.steps {
        let columns = format!("{:<9} {:<14} ", action_name(step.action), step.step);
        ui.write_row(&escape_line_breaks(&columns), &escape_line_breaks(&step.reason))?;
    }
    Ok(ExitStatus::Success)
}
