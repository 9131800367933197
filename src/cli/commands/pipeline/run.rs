//! `orch pipeline run`.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::{CliInputs, OutputFormat, StateArgs, TrustArgs, agents, budget, lookup};
use crate::cli::output::{Ui, print_result};
use crate::cli::startup::{runner, runtime};
use crate::model::budget::Budget;
use crate::model::{CommandMode, CommandModes};
use crate::runner::{ExitStatus, RunRequest};

/// Run a pipeline
///
/// orch validates the project first, and calls no model if it finds errors. Then it runs the steps in order, and saves
/// their outputs in the workspace as NAME.json. orch records every reply before using it, so you can resume a run that
/// fails or is stopped with `orch pipeline resume`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch run default --task \"Create a User model with authentication\"\n  orch run default --task - --model anthropic/claude-sonnet-5-5 < task.md\n  orch run default --task - --agent reviewer=openai/gpt-6.1-sol < task.md\n  orch run default --task-file task.md --output json > report.json"
)]
pub(in crate::cli) struct RunArgs {
    /// The pipeline file, or the name of a pipeline in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    inputs: CliInputs,

    /// The folder for artifacts [default: workspace]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// The model for every agent: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// The model or CLI agent in place of one agent: a model as for --model, `cli:claude`, `cli:codex`, `acp:PROGRAM` or
    /// `command:PROGRAM`; can be repeated
    #[arg(long = "agent", value_name = "NAME=MODEL", value_parser = agents::parse)]
    agents: Vec<(String, String)>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    /// Attach the run to this workflow in the Convex tracker (`tracker.convex`) [default: create a new workflow]
    #[arg(long, value_name = "ID")]
    workflow_id: Option<String>,

    /// After a failed step, continue with every step that does not depend on it; the run still fails
    #[arg(long)]
    continue_on_error: bool,

    /// Before the run, remove the artifacts and the files of `write` steps that earlier runs created in the workspace
    /// and that are unchanged since
    #[arg(long)]
    clean: bool,

    /// Download the embedded model without asking
    #[arg(long, short)]
    yes: bool,

    /// Reuse results of earlier runs with identical requests, except for commands, approvals, and agents with access to
    /// the workspace
    #[arg(long)]
    reuse: bool,

    /// Write each exchange with a model and each result of a command to this folder, without secrets, for `--replay`
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,

    /// Answer requests from this folder of recordings instead of calling a model; unrecorded requests fail
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "agents", "reuse"])]
    replay: Option<PathBuf>,

    /// Whether `--replay` repeats the recorded results of commands or runs the commands [default: replay if the folder
    /// has results of commands, else run]
    #[arg(long, value_enum, value_name = "MODE", requires = "replay")]
    commands: Option<CommandsArg>,

    /// The limits of the run, such as `usd=2,tokens=500000,seconds=3600`; replaces the whole budget of
    /// the pipeline file or orch.yaml
    #[arg(long, value_name = "LIMITS", value_parser = budget::parse)]
    budget: Option<Budget>,

    /// Print no progress, and no summary of a completed run
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

/// What a replay does with commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum CommandsArg {
    /// Repeat the recorded results.
    Replay,
    /// Run the commands.
    Run,
}

impl CommandsArg {
    fn modes(self) -> CommandModes {
        CommandModes::All(match self {
            Self::Replay => CommandMode::Replay,
            Self::Run => CommandMode::Run,
        })
    }
}

pub(super) fn run(args: RunArgs, ui: &mut Ui) -> Result<ExitStatus> {
    ui.quiet = args.quiet;
    let runner = runner(ui)?;
    let request = RunRequest {
        pipeline: lookup::find_pipeline(&args.pipeline, runner.current_dir())?,
        inputs: Box::new(args.inputs),
        workspace: args.workspace,
        state: args.state.state_folder(),
        model: args.model,
        agents: agents::by_name(&args.agents)?,
        workflow_id: args.workflow_id,
        continue_on_error: args.continue_on_error,
        clean: args.clean,
        may_download: args.yes,
        reuse: args.reuse,
        recording_folder: args.record,
        replay_folder: args.replay,
        commands: args.commands.map(CommandsArg::modes).unwrap_or_default(),
        budget: args.budget,
        trusted_digest: args.trust.digest(),
    };
    let result = runtime()?.block_on(runner.start(&request))?;
    print_result(&result, args.output, runner.current_dir(), ui)
}
