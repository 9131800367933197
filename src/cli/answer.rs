//! `orch runs approve` and `orch runs reject`: a person's answer, from any process.

use jiff::Timestamp;

use crate::model::event::{ApprovalAnswered, ApprovalAsked, Event, Fact, Verdict};
use crate::model::{RunId, RunState, RunStatus};
use crate::report::human::first_line;
use crate::store::{Filter, Journal, Letter, RunRow};

use super::error::{CliError, Code};
use super::report::printed_commands;
use super::trust::TrustArgs;
use super::ui::{Ui, user};
use super::{State, here};

/// How many runs of a status are looked through for one that waits.
const SEARCHED: usize = 1000;

/// Answer a run that waits for a person
///
/// The answer is recorded and holds for exactly what was shown. The run itself goes on with
/// `orch pipeline resume`, or at once with --resume.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

pub(super) fn run(args: &Args, approved: bool, ui: &mut Ui) -> Result<Code, CliError> {
    let here = here()?;
    let journal = super::runs::journal(&args.state, &super::runs::root(&here))?;
    let row = waiting(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let asked = question(args, &journal, row.run, &events)?;
    let run = RunState::fold(row.run, &events);
    let placed = super::placed::placed(&journal, &run, &args.state, &super::runs::root(&here))?;
    let settings = crate::config::load_settings(&placed.root).map_err(CliError::findings)?;
    if args.resume {
        // Before the answer is recorded: the same command must work once the project is trusted.
        super::trust::ensure(&placed.root, &settings, &args.trust, ui)?;
        super::placed::workspace((&journal, row.run), None, &placed, &here).map_err(|mut error| {
            let resume = format!("orch pipeline resume {} --workspace DIR", row.run);
            let was = placed.workspace.display();
            error.hints = vec![format!("answer without --resume, then run `{resume}`; the workspace was `{was}`")];
            error
        })?;
    }
    let root = &placed.root;
    let note = super::resolve::models(root, &settings, None).redactor().text(&args.note);
    let by = args.by.clone().unwrap_or_else(user);
    let answer = Verdict { approved, note, by, at: Timestamp::now() };
    let (step, attempt, ask) = (asked.step.clone(), asked.attempt, asked.ask.clone());
    journal.post(row.run, &Letter::Answer(ApprovalAnswered { step, attempt, ask, answer }))?;
    let word = if approved { "approved" } else { "rejected" };
    if args.resume {
        ui.say(format!("{} of run {} is {word}", asked.step, row.run));
        return super::resume::go_on(row.run, args.state.clone(), args.trust.clone(), ui);
    }
    let resume = printed_commands(journal.state(), &here, &ui.commands).resume(row.run);
    let next = if row.status == RunStatus::Waiting { format!("; go on with `{resume}`") } else { String::new() };
    ui.say(format!("{} of run {} is {word}{next}", asked.step, row.run));
    Ok(Code::Ok)
}

/// The run of a name, else the only one that waits for an answer.
fn waiting(journal: &Journal, name: Option<&str>) -> Result<RunRow, CliError> {
    if let Some(name) = name {
        return super::runs::find(journal, name);
    }
    let mut found = Vec::new();
    for status in [RunStatus::Waiting, RunStatus::Running] {
        for row in journal.list(&Filter { limit: SEARCHED, status: Some(status), pipeline: None })? {
            let questions = open_questions(journal, row.run, &journal.events(row.run)?)?;
            found.extend((!questions.is_empty()).then_some((row, questions)));
        }
    }
    if found.len() > 1 {
        return Err(several(&found));
    }
    found
        .pop()
        .map(|(row, _)| row)
        .ok_or_else(|| CliError::could_not("no run waits for an answer").hint("`orch runs list` shows past runs"))
}

/// That several runs wait, each with what it asks.
fn several(found: &[(RunRow, Vec<ApprovalAsked>)]) -> CliError {
    let text = format!("{} runs wait for an answer:", found.len());
    let mut lines = Vec::new();
    for (row, questions) in found {
        for asked in questions {
            let question = first_line(&asked.shown, 60);
            lines.push(format!("  {}  {}, step {}: {question}", row.run, row.pipeline, asked.step));
        }
    }
    CliError::could_not(text).listing(lines).hint("name the run")
}

/// The questions of a run that nobody has answered.
pub(super) fn open_questions(journal: &Journal, run: RunId, events: &[Event]) -> Result<Vec<ApprovalAsked>, CliError> {
    let asked = Asked::of(journal, run, events)?;
    Ok(asked.all().filter(|question| !asked.is_answered(question)).cloned().collect())
}

/// What a run asked and what was answered, also what lies in its inbox.
struct Asked<'e> {
    events: &'e [Event],
    letters: Vec<Fact>,
}

impl<'e> Asked<'e> {
    fn of(journal: &Journal, run: RunId, events: &'e [Event]) -> Result<Self, CliError> {
        let letters = journal.letters(run)?.into_iter().map(|(_, letter)| letter.fact()).collect();
        Ok(Self { events, letters })
    }

    fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.events.iter().map(|event| &event.fact).chain(&self.letters)
    }

    /// What each step asked last: what it asked before in vain, or with other words, is past.
    fn all(&self) -> impl Iterator<Item = &ApprovalAsked> {
        let asked =
            || self.facts().filter_map(|fact| if let Fact::ApprovalAsked(asked) = fact { Some(asked) } else { None });
        asked().enumerate().filter_map(move |(at, one)| {
            let again = asked().skip(at + 1).any(|later| later.step == one.step);
            (!again).then_some(one)
        })
    }

    fn is_answered(&self, asked: &ApprovalAsked) -> bool {
        self.facts().any(|fact| match fact {
            Fact::ApprovalAnswered(answer) => {
                answer.step == asked.step && answer.attempt == asked.attempt && answer.ask == asked.ask
            }
            _ => false,
        })
    }
}

/// The question that is answered: open, in time, and the only one or the one that was named.
fn question(args: &Args, journal: &Journal, run: RunId, events: &[Event]) -> Result<ApprovalAsked, CliError> {
    let state = RunState::fold(run, events);
    let all = Asked::of(journal, run, events)?;
    let named = |asked: &&ApprovalAsked| args.step.as_ref().is_none_or(|step| asked.step.as_str() == step);
    let asked: Vec<&ApprovalAsked> = all.all().filter(named).collect();
    let open: Vec<&&ApprovalAsked> = asked.iter().filter(|asked| !all.is_answered(asked)).collect();
    let open = match open.as_slice() {
        [one] => **one,
        [] if asked.is_empty() && args.step.is_some() => {
            let step = args.step.as_deref().unwrap_or_default();
            return Err(CliError::could_not(format!("step `{step}` of run {run} asks nothing")));
        }
        [] if asked.is_empty() => return Err(CliError::could_not(format!("run {run} waits for nobody"))),
        [] => {
            return Err(CliError::could_not(format!("what run {run} asked was answered"))
                .hint(format!("`orch pipeline resume {run}` goes on with it")));
        }
        several => {
            let names: Vec<String> = several.iter().map(|asked| asked.step.to_string()).collect();
            return Err(CliError::could_not(format!("run {run} asks in {}", names.join(" and ")))
                .hint("name the step after the run"));
        }
    };
    if state.status == RunStatus::Completed {
        return Err(CliError::could_not(format!("run {run} is completed")));
    }
    if open.until.is_some_and(|until| Timestamp::now() > until) {
        return Err(CliError::could_not(format!("the time to answer step `{}` is over", open.step))
            .hint(format!("`orch pipeline resume {run}` goes on as its file says for a step that failed")));
    }
    Ok(open.clone())
}
