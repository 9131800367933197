//! `orch pipeline run`.

use std::path::PathBuf;

use crate::model::budget::Budget;
use crate::session::{ExitStatus, RunRequest, SessionError};

use super::inputs::CliInputs;
use super::report::{OutputFormat, finish};
use super::trust::TrustArgs;
use super::ui::Ui;
use super::{State, budget, named, runner, runtime};

/// Run a pipeline
///
/// The files are checked first: nothing is asked while anything is wrong. Then the steps run in
/// order. Every reply is recorded before it is used; what a step produces lies in the workspace
/// as NAME.json. A run that fails or is stopped goes on with `orch pipeline resume`.
///
/// Examples:
///   orch pipeline run pipelines/default.yaml --task "Create a User model with authentication"
///   orch pipeline run pipelines/default.yaml --task - --model anthropic/claude-sonnet-5-5 < task.md
///   orch pipeline run pipelines/default.yaml --task-file task.md --output json > report.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct RunArgs {
    /// The pipeline: its file, or its name in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    given: CliInputs,

    /// Where the artifacts go [default: workspace]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// The model of every agent: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    /// The workflow of `tracker.convex` that the run belongs to, by its id; a new one when left out
    #[arg(long, value_name = "ID")]
    workflow_id: Option<String>,

    /// Go on after a failed step with every step that does not need it; the run fails all the same
    #[arg(long)]
    continue_on_error: bool,

    /// Before the run, remove the files that earlier runs made in the workspace, artifacts and those of
    /// `write` steps, as long as nobody changed them; nothing else
    #[arg(long)]
    clean: bool,

    /// Agree to downloading the embedded model
    #[arg(long, short)]
    yes: bool,

    /// Take over results of earlier runs that were asked exactly the same; never those of commands,
    /// of agents that see the workspace, or of people
    #[arg(long)]
    reuse: bool,

    /// Write each exchange with a model into a folder, without secrets; `--replay` reads it
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,

    /// Answer from a folder of recordings and ask no model; what is not recorded fails
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "reuse"])]
    replay: Option<PathBuf>,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// No progress, and no summary of a run that completed
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: RunArgs, ui: &mut Ui) -> Result<ExitStatus, SessionError> {
    ui.quiet = args.quiet;
    let runner = runner(ui)?;
    let request = RunRequest {
        pipeline: named::pipeline(&args.pipeline, runner.current_dir())?,
        inputs: Box::new(args.given),
        workspace: args.workspace,
        state: args.state.named(),
        model: args.model,
        workflow_id: args.workflow_id,
        continue_on_error: args.continue_on_error,
        clean: args.clean,
        may_download: args.yes,
        reuse: args.reuse,
        record: args.record,
        replay: args.replay,
        budget: args.budget,
        trust: args.trust.digest(),
    };
    let result = runtime()?.block_on(runner.start(&request))?;
    finish(&result, args.output, runner.current_dir(), ui)
}
