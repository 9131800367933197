//! `orch schema`.

mod check;

use clap::Subcommand;

use crate::config;

use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Check the project's schemas, or print those of orch's own files
#[derive(Debug, Subcommand)]
pub(super) enum SchemaCommand {
    /// Check every schema of the project, or an artifact against one
    Check(check::SchemaCheckArgs),
    /// Print the JSON Schema of pipeline files
    Pipeline,
    /// Print the JSON Schema of orch.yaml
    Orch,
    /// Print the JSON Schema of test cases
    Case,
}

pub(super) fn run(command: &SchemaCommand, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let schema = match command {
        SchemaCommand::Check(args) => return check::run(args, ui),
        SchemaCommand::Pipeline => config::pipeline_schema(),
        SchemaCommand::Orch => config::settings_schema(),
        SchemaCommand::Case => config::case_schema(),
    };
    ui.data(&format!("{schema:#}"))?;
    Ok(ExitStatus::Success)
}
