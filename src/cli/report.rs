//! How a run's end is told.

use std::path::Path;

use crate::model::{RunState, RunStatus};
use crate::report::PrintedCommands;
use crate::report::summary::summary;

use super::error::{CliError, Code};
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
///
/// `commands` prints those that find the run from the current folder.
pub(super) fn tell(state: &RunState, output: Output, commands: &PrintedCommands, ui: &Ui) -> Result<(), CliError> {
    let given = if output == Output::Json {
        let report = serde_json::to_value(state.report()).map_err(|error| CliError::internal(error.to_string()))?;
        ui.data(&format!("{report:#}"))
    } else {
        Ok(())
    };
    let words = summary(state, ui.style, ui.err_width(), &super::here()?, commands);
    if state.status == RunStatus::Completed {
        ui.say(words.trim_end());
    } else {
        // `--quiet` leaves progress out, never a failure.
        ui.always(words.trim_end());
    }
    // The run is over all the same: only its report is lost, and can be had again.
    given.map_err(|error| {
        error.with_code(Code::Failed).hint(format!(
            "`{}` prints the report again",
            commands.of(format!("orch runs show {} --output json", state.run))
        ))
    })
}

/// The commands that messages print about runs of a journal, as they work from the current folder.
pub(super) fn printed_commands(journal: &Path, here: &Path, given: &PrintedCommands) -> PrintedCommands {
    let found = super::runs::root(here).join(".orch");
    let same =
        found == journal || found.canonicalize().ok().is_some_and(|found| Some(found) == journal.canonicalize().ok());
    given.clone().in_state((!same).then(|| journal.strip_prefix(here).unwrap_or(journal)))
}
