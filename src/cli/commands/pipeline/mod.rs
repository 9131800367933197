//! `orch pipeline`: commands for pipelines. Four of them are also top-level commands.

mod graph;
mod list;
mod plan;
mod resume;
mod run;
mod show;
mod test;
mod validate;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::output::Ui;
use crate::runner::ExitStatus;

pub(in crate::cli) use plan::PlanArgs;
pub(in crate::cli) use resume::{ResumeArgs, resume_after_answer};
pub(in crate::cli) use run::RunArgs;
pub(in crate::cli) use validate::ValidateArgs;

/// Run, resume, check and list pipelines
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PipelineCommand {
    Run(RunArgs),
    Resume(ResumeArgs),
    Validate(ValidateArgs),
    Plan(PlanArgs),
    Test(test::TestArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Graph(graph::GraphArgs),
}

/// Runs a command of `orch pipeline`.
pub(in crate::cli) fn dispatch(command: PipelineCommand, ui: &mut Ui) -> Result<ExitStatus> {
    match command {
        PipelineCommand::Run(args) => run::run(args, ui),
        PipelineCommand::Resume(args) => resume::run(&args, ui),
        PipelineCommand::Validate(args) => validate::run(&args, ui),
        PipelineCommand::Plan(args) => plan::run(&args, ui),
        PipelineCommand::Test(args) => test::run(&args, ui),
        PipelineCommand::List(args) => list::run(&args, ui),
        PipelineCommand::Show(args) => show::run(&args, ui),
        PipelineCommand::Graph(args) => graph::run(&args, ui),
    }
}
