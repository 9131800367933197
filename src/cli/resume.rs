//! `orch pipeline resume`.

use std::path::PathBuf;

use crate::model::RunId;
use crate::model::budget::Budget;
use crate::model::visible::one_line;
use crate::session::{ChangedFiles, DryRun, DryRunAction, ExitStatus, ResumeRequest, Runner, SessionError};

use super::report::{OutputFormat, finish};
use super::trust::TrustArgs;
use super::ui::Ui;
use super::{State, budget, runner, runtime};

/// Go on with a run that failed or was stopped
///
/// The files are read anew, so a prompt, a schema or the pipeline may have been mended. A step's
/// recorded result stands while what it was asked and how its answer is read are the same; nothing
/// that was answered is asked again.
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// The run, by its id or the start of it; the latest run that did not complete when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The workspace, for a run whose record came from elsewhere [default: the one on record]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// The model of every agent from now on
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    /// Go on after a failed step with every step that does not need it
    #[arg(long)]
    continue_on_error: bool,

    /// Run this step again, whatever stands; what its new output changes runs too
    #[arg(long, value_name = "STEP")]
    from: Option<String>,

    /// Tell what would be kept and what would run, and why; do nothing
    #[arg(long)]
    dry_run: bool,

    /// Take artifact files that were edited since as what their steps produced, and go on without
    /// files of `write` steps and agent programs that were taken away
    #[arg(long, conflicts_with = "discard_changed")]
    accept_changed: bool,

    /// Put artifact files that were edited since back as they were recorded, and write files of `write`
    /// steps and agent programs again that were taken away
    #[arg(long)]
    discard_changed: bool,

    /// Agree to downloading the embedded model
    #[arg(long, short)]
    yes: bool,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// Write what is asked of models from now on into this folder, for `orch pipeline run --replay`
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// No progress, and no summary of a run that completed
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &ResumeArgs, ui: &mut Ui) -> Result<ExitStatus, SessionError> {
    ui.quiet = args.quiet;
    let runner = runner(ui)?;
    let request = ResumeRequest {
        run: args.run.clone(),
        workspace: args.workspace.clone(),
        state: args.state.named(),
        model: args.model.clone(),
        continue_on_error: args.continue_on_error,
        from: args.from.clone(),
        changed_files: match (args.accept_changed, args.discard_changed) {
            (true, _) => ChangedFiles::Accept,
            (false, true) => ChangedFiles::Discard,
            (false, false) => ChangedFiles::Refuse,
        },
        may_download: args.yes,
        budget: args.budget.clone(),
        record: args.record.clone(),
        trust: args.trust.digest(),
    };
    if args.dry_run {
        let dry_run = runtime()?.block_on(runner.dry_run(&request))?;
        return show(&dry_run, args.output, ui);
    }
    resume(&runner, &request, args.output, ui)
}

/// Resumes a run that was answered just now.
pub(super) fn answered(run: RunId, state: State, trust: &TrustArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let request = ResumeRequest {
        run: Some(run.to_string()),
        state: state.named(),
        trust: trust.digest(),
        ..ResumeRequest::default()
    };
    resume(&runner(ui)?, &request, OutputFormat::Text, ui)
}

fn resume(runner: &Runner, request: &ResumeRequest, output: OutputFormat, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let result = runtime()?.block_on(runner.resume(request))?;
    finish(&result, output, runner.current_dir(), ui)
}

/// Prints what a resume would do.
fn show(dry_run: &DryRun, output: OutputFormat, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let name = |action| match action {
        DryRunAction::Reuse => "reuse",
        DryRunAction::Run => "run",
        DryRunAction::MaybeRun => "maybe_run",
        DryRunAction::Skip => "skip",
        DryRunAction::Removed => "removed",
    };
    if output == OutputFormat::Json {
        let steps = dry_run.steps.iter();
        let list: Vec<serde_json::Value> = steps
            .map(|step| serde_json::json!({ "step": step.step, "action": name(step.action), "why": step.why }))
            .collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(ExitStatus::Success);
    }
    for step in &dry_run.steps {
        let line = format!("{:<9} {:<14} {}", name(step.action), step.step, step.why);
        ui.text(&one_line(line.trim_end()))?;
    }
    Ok(ExitStatus::Success)
}
