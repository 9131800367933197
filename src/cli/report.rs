//! How a run's end is told.

use std::path::Path;

use crate::model::{RunId, RunState, RunStatus};
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
/// `resume` is the command that goes on with the run from the current folder.
pub(super) fn tell(state: &RunState, output: Output, resume: &str, ui: &Ui) -> Result<(), CliError> {
    let given = if output == Output::Json {
        let report = serde_json::to_value(state.report()).map_err(|error| CliError::internal(error.to_string()))?;
        ui.data(&format!("{report:#}"))
    } else {
        Ok(())
    };
    let words = summary(state, ui.style, &super::here()?, resume);
    if state.status == RunStatus::Completed {
        ui.say(words.trim_end());
    } else {
        // `--quiet` leaves progress out, never a failure.
        ui.always(words.trim_end());
    }
    // The run is over all the same: only its report is lost, and can be had again.
    given.map_err(|error| {
        error
            .with_code(Code::Failed)
            .hint(format!("`orch runs show {} --output json` prints the report again", state.run))
    })
}

/// The command that goes on with a run from the current folder.
pub(super) fn resume_command(run: RunId, journal: &Path, here: &Path) -> String {
    let found = super::runs::root(here).join(".orch");
    let same =
        found == journal || found.canonicalize().ok().is_some_and(|found| Some(found) == journal.canonicalize().ok());
    if same {
        return format!("orch pipeline resume {run}");
    }
    let shown = journal.strip_prefix(here).unwrap_or(journal).display();
    format!("orch pipeline resume {run} --state {shown}")
}
