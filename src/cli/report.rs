//! How a run's end is told.

use std::path::Path;

use crate::model::{RunState, RunStatus};
use crate::report::PrintedCommands;
use crate::report::summary::summary;

use crate::session::project_state::printed_commands;
use crate::session::{ExitStatus, RunResult, SessionError};

use super::ui::Ui;

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// Words on standard error, nothing on standard output.
    #[default]
    Text,
    /// One JSON object on standard output.
    Json,
}

/// Prints how a run ended, and gives the exit code of the command that ran it.
pub(super) fn finish(
    result: &RunResult,
    output: OutputFormat,
    here: &Path,
    ui: &Ui,
) -> Result<ExitStatus, SessionError> {
    print(&result.state, output, &printed_commands(&result.state_folder, here, &ui.commands), here, ui)?;
    match &result.recording {
        Some(failure) => {
            Err(SessionError::from(failure.clone()).with_status(ExitStatus::Failed).hint("the run itself is on record"))
        }
        None => Ok(result.exit_status()),
    }
}

/// Prints how a run ended; `commands` prints those that find the run from the current folder.
fn print(
    state: &RunState,
    output: OutputFormat,
    commands: &PrintedCommands,
    here: &Path,
    ui: &Ui,
) -> Result<(), SessionError> {
    let given = if output == OutputFormat::Json {
        let report = serde_json::to_value(state.report()).map_err(|error| SessionError::internal(error.to_string()))?;
        ui.data(&format!("{report:#}"))
    } else {
        Ok(())
    };
    let words = summary(state, ui.style, ui.err_width(), here, commands);
    if state.status == RunStatus::Completed {
        ui.say(words.trim_end());
    } else {
        // `--quiet` leaves progress out, never a failure.
        ui.always(words.trim_end());
    }
    // The run is over all the same: only its report is lost, and can be had again.
    given.map_err(|error| {
        error.with_status(ExitStatus::Failed).hint(format!(
            "`{}` prints the report again",
            commands.of(format!("orch runs show {} --output json", state.run))
        ))
    })
}
