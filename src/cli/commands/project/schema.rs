//! `orch schema`.

mod check;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::output::Ui;
use crate::config;
use crate::runner::ExitStatus;

/// Check the schemas of the project, or print the schemas of orch's own files
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SchemaCommand {
    /// Check every schema of the project, or validate an artifact
    Check(check::SchemaCheckArgs),
    /// Print the JSON Schema of pipeline files
    Pipeline,
    /// Print the JSON Schema of orch.yaml
    Orch,
    /// Print the JSON Schema of test cases
    Case,
    /// Print the JSON Schema of a run's events, as in `orch runs events --output json`
    Events,
    /// Print the JSON Schema of a run's report, as in `orch run --output json`
    Report,
}

pub(in crate::cli) fn run(command: &SchemaCommand, ui: &Ui) -> Result<ExitStatus> {
    let schema = match command {
        SchemaCommand::Check(args) => return check::run(args, ui),
        SchemaCommand::Pipeline => config::published_pipeline_schema(),
        SchemaCommand::Orch => config::published_settings_schema(),
        SchemaCommand::Case => config::published_case_schema(),
        SchemaCommand::Events => config::event_schema().clone(),
        SchemaCommand::Report => config::report_schema().clone(),
    };
    ui.write_data(&format!("{schema:#}"))?;
    Ok(ExitStatus::Success)
}
