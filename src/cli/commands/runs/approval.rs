//! `orch runs approve` and `orch runs reject`: answer an approval of a run, which another process may execute.

use anyhow::Result;

use crate::cli::args::{StateArgs, TrustArgs};
use crate::cli::commands::pipeline::resume_after_answer;
use crate::cli::output::{Ui, user_name};
use crate::cli::startup::runner;
use crate::model::RunStatus;
use crate::runner::project_state::commands_for_journal;
use crate::runner::{AnswerRequest, Delivery, ExitStatus};

/// Answer a run that waits for an approval
///
/// The answer is valid only for the text that the approval shows. If a process executes the run, the step that asked
/// continues at once. Otherwise continue the run with `orch pipeline resume`, or pass --resume to continue it at once.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AnswerArgs {
    /// The ID of the run, or the start of it [default: the only run that waits]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The step to answer, if several steps wait
    #[arg(value_name = "STEP")]
    step: Option<String>,

    /// A note that later steps can read, such as the reason for a rejection
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,

    /// The name of the person who answers [default: the current user]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Resume the run at once
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &AnswerArgs, approved: bool, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let answer = runner.answer(&AnswerRequest {
        run: args.run.clone(),
        step: args.step.clone(),
        state: args.state.state_folder(),
        approved,
        note: args.note.clone(),
        user: args.by.clone().unwrap_or_else(user_name),
        resumes_next: args.resume,
        trusted_digest: args.trust.digest(),
    })?;
    let decision = if approved { "approved" } else { "rejected" };
    let (run, step) = (answer.message.run, &answer.answer.step);
    if args.resume {
        ui.print_message(format!("{step} of run {run} is {decision}"));
        return resume_after_answer(run, args.state.clone(), &args.trust, ui);
    }
    let next_step = match runner.wait_until_answered(&answer)? {
        Delivery::Heard(_) => String::new(),
        Delivery::NotRunning if answer.message.status == RunStatus::Waiting => {
            let commands = commands_for_journal(&answer.message.state, runner.current_dir(), &ui.commands);
            format!("; continue with `{}`", commands.resume(run))
        }
        Delivery::NotRunning => String::new(),
        Delivery::NotHeard => "; its process has not heard it yet".to_owned(),
    };
    ui.print_message(format!("{step} of run {run} is {decision}{next_step}"));
    Ok(ExitStatus::Success)
}
