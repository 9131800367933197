//! `orch schema`.

use clap::Subcommand;

use crate::config;

use super::error::{CliError, Code};
use super::ui::Ui;

/// Print the JSON Schemas of orch's own files
#[derive(Debug, Subcommand)]
pub(super) enum Schema {
    /// Of pipeline files
    Pipeline,
    /// Of orch.yaml
    Orch,
}

pub(super) fn run(command: &Schema, ui: &Ui) -> Result<Code, CliError> {
    let schema = match command {
        Schema::Pipeline => config::pipeline_schema(),
        Schema::Orch => config::settings_schema(),
    };
    ui.data(&format!("{schema:#}"))?;
    Ok(Code::Ok)
}
