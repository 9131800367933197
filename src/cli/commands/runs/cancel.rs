//! `orch runs cancel`: stops a run that another process executes.

use anyhow::Result;

use crate::cli::args::StateArgs;
use crate::cli::output::{Ui, user_name};
use crate::cli::startup::runner;
use crate::runner::{CancelRequest, Delivery, ExitStatus};

/// Stop a run that another process executes
///
/// The run stops as after Ctrl-C in its terminal: replies in flight get 10 s, and orch ends commands and CLI agents. A
/// second `orch runs cancel` ends everything at once. `orch pipeline resume` continues the run.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsCancelArgs {
    /// The ID of the run, or the start of it [default: the only run in progress]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The name of the person who stops the run [default: the current user, from the variable USER, LOGNAME or
    /// USERNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsCancelArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let message = runner.request_cancel(&CancelRequest {
        run: args.run.clone(),
        state: args.state.state_folder(),
        user: args.by.clone().unwrap_or_else(user_name),
    })?;
    let run = message.run;
    ui.print_message(match runner.wait_until_heard(&message)? {
        Delivery::Heard(_) => format!("run {run} stops"),
        Delivery::NotRunning => format!("run {run} ended before it heard the request"),
        Delivery::NotHeard => format!("run {run} has the request to stop; its process has not heard it yet"),
    });
    Ok(ExitStatus::Success)
}
