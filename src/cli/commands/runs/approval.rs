//! `orch runs approve` and `orch runs reject`: answer an approval of a run, which another process may execute.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::{StateArgs, TrustArgs};
use crate::cli::commands::pipeline::resume_after_answer;
use crate::cli::output::{Ui, user_name};
use crate::cli::startup::runner;
use crate::runner::project_state::commands_for_journal;
use crate::runner::{AnswerRequest, Delivery, ExitStatus, ResumeRequest};

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

    /// The name of the person who answers [default: the current user, from the variable USER, LOGNAME or USERNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Resume the run at once
    #[arg(long)]
    resume: bool,

    /// With --resume, record into this folder, as for `orch pipeline resume` [default: the folder into which the run
    /// records so far, if any]
    #[arg(long, value_name = "DIR", requires = "resume")]
    record: Option<PathBuf>,

    /// With --resume, the folder of the recordings of a replay [default: the folder of the run]
    #[arg(long, value_name = "DIR", requires = "resume", conflicts_with = "record")]
    replay: Option<PathBuf>,

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
        recording_folder: args.record.clone(),
        replay_folder: args.replay.clone(),
    })?;
    let decision = if approved { "approved" } else { "rejected" };
    let (run, step) = (answer.message.run, &answer.answer.step);
    let delivery = runner.wait_until_answered(&answer)?;
    if args.resume && !matches!(delivery, Delivery::Heard(_)) {
        ui.print_message(format!("{step} of run {run} is {decision}"));
        let request = ResumeRequest {
            run: Some(run.to_string()),
            state: args.state.state_folder(),
            trusted_digest: args.trust.digest(),
            recording_folder: args.record.clone(),
            replay_folder: args.replay.clone(),
            ..ResumeRequest::default()
        };
        return resume_after_answer(&request, ui);
    }
    let next_step = match delivery {
        Delivery::Heard(_) if args.resume => "; the process that executes the run continues it".to_owned(),
        Delivery::Heard(_) => String::new(),
        Delivery::NotRunning => {
            let commands = commands_for_journal(&answer.message.state, runner.current_dir(), &ui.commands);
            format!("; continue with `{}`", commands.with_resume_options(answer.resume_options).resume(run))
        }
        Delivery::NotHeard => "; its process has not heard it yet".to_owned(),
    };
    ui.print_message(format!("{step} of run {run} is {decision}{next_step}"));
    Ok(ExitStatus::Success)
}
