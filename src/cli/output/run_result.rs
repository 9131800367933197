//! Prints the result of a run.

use std::path::Path;

use anyhow::Result;

use crate::cli::args::OutputFormat;
use crate::cli::error::to_runner_error;
use crate::model::visible::escape_line_breaks;
use crate::model::{RunState, RunStatus};
use crate::report::SuggestedCommands;
use crate::report::summary::render_summary;
use crate::runner::project_state::commands_for_journal;
use crate::runner::{ExitStatus, RunResult, RunnerError};

use super::ui::Ui;

/// What the user can do about an incomplete recording.
pub(in crate::cli) const INCOMPLETE_RECORDING_ADVICE: &str =
    "a replay may have other files than the recorded run, so check what its later steps read";

/// Prints the result of a run, and returns the exit code.
pub(in crate::cli) fn print_result(
    result: &RunResult,
    output: OutputFormat,
    current_dir: &Path,
    ui: &Ui,
) -> Result<ExitStatus> {
    let commands = commands_for_journal(&result.state_folder, current_dir, &ui.commands)
        .with_resume_options(result.resume_options.clone());
    print_state(&result.state, output, &commands, current_dir, ui)?;
    for omission in &result.recording_omissions {
        let label = ui.stderr_style.warning("warning:");
        ui.print_always(&format!("{label} {}; {INCOMPLETE_RECORDING_ADVICE}", escape_line_breaks(omission)));
    }
    match &result.recording_failure {
        Some(failure) => Err(RunnerError::from(failure.clone())
            .with_status(ExitStatus::Failed)
            .with_hint("orch recorded the run itself")
            .into()),
        None => Ok(result.exit_status()),
    }
}

/// Prints the state of a run. `commands` adds options to the commands that the summary suggests.
fn print_state(
    state: &RunState,
    output: OutputFormat,
    commands: &SuggestedCommands,
    current_dir: &Path,
    ui: &Ui,
) -> Result<()> {
    let json_result = if output == OutputFormat::Json {
        let report = serde_json::to_value(state.report())?;
        ui.write_data(&format!("{report:#}"))
    } else {
        Ok(())
    };
    let text = render_summary(state, None, ui.stderr_style, ui.stderr_width(), current_dir, commands);
    if state.status == RunStatus::Completed {
        ui.print_message(text.trim_end());
    } else {
        // `--quiet` suppresses progress, but not a failure.
        ui.print_always(text.trim_end());
    }
    // The journal contains the run. orch only could not print the report.
    json_result.map_err(|error| {
        let command = commands.with_options(format!("orch runs show {} --output json", state.run));
        let error = to_runner_error(error).with_status(ExitStatus::Failed);
        error.with_hint(format!("`{command}` prints the report again")).into()
    })
}
