//! How a run's end is told.

use crate::model::RunState;
use crate::report::summary::summary;

use super::error::CliError;
use super::ui::Ui;

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Words on standard error, nothing on standard output.
    #[default]
    Text,
    /// One JSON object on standard output.
    Json,
}

/// Tells how a run ended.
pub(super) fn tell(state: &RunState, output: Output, ui: &Ui) -> Result<(), CliError> {
    if output == Output::Json {
        let report = serde_json::to_value(state.report()).map_err(|error| CliError::internal(error.to_string()))?;
        ui.data(&format!("{report:#}"))?;
    }
    ui.say(summary(state, ui.style, &super::here()?).trim_end());
    Ok(())
}
