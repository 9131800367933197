//! `orch runs approve` and `orch runs reject`: a person's answer, from any process.

use crate::model::RunStatus;
use crate::session::project_state::printed_commands;
use crate::session::{AnswerRequest, ExitStatus, SessionError};

use super::trust::TrustArgs;
use super::ui::{Ui, user};
use super::{State, runner};

/// Answer a run that waits for a person
///
/// The answer is recorded and holds for exactly what was shown. The run itself goes on with
/// `orch pipeline resume`, or at once with --resume.
#[derive(Debug, clap::Args)]
pub(super) struct AnswerArgs {
    /// The run, by its id or the start of it; the one that waits when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The step, when several wait
    #[arg(value_name = "STEP")]
    step: Option<String>,

    /// Why, or what to do instead; later steps can read it
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,

    /// Who answers (the user of this process)
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    /// Go on with the run at once
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &AnswerArgs, approved: bool, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let runner = runner(ui)?;
    let answered = runner.answer(&AnswerRequest {
        run: args.run.clone(),
        step: args.step.clone(),
        state: args.state.named(),
        approved,
        note: args.note.clone(),
        by: args.by.clone().unwrap_or_else(user),
        resumes: args.resume,
        trust: args.trust.digest(),
    })?;
    let word = if approved { "approved" } else { "rejected" };
    if args.resume {
        ui.say(format!("{} of run {} is {word}", answered.step, answered.run));
        return super::resume::answered(answered.run, args.state.clone(), &args.trust, ui);
    }
    let resume = printed_commands(&answered.state, runner.current_dir(), &ui.commands).resume(answered.run);
    let next = if answered.status == RunStatus::Waiting { format!("; go on with `{resume}`") } else { String::new() };
    ui.say(format!("{} of run {} is {word}{next}", answered.step, answered.run));
    Ok(ExitStatus::Success)
}
