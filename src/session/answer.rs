//! Answering a run that waits for a person, from any process.

use jiff::Timestamp;

use crate::config::load_settings;
use crate::model::event::{ApprovalAnswered, ApprovalAsked, ApprovalDecision, Event, Fact};
use crate::model::{RunId, RunState, RunStatus, StepKey};
use crate::report::human::first_line;
use crate::store::{Filter, Journal, Letter, RunRow};

use super::Runner;
use super::error::SessionError;
use super::location::{locate, run_workspace};
use super::project_state::{StateFolder, find_run, project_root};

/// How many runs of a status are looked through for one that waits.
const SEARCHED: usize = 1000;

/// A person's answer to a question of a run; see [`Runner::answer`].
#[derive(Clone, Debug, Default)]
pub struct AnswerRequest {
    /// The run, by its id or the start of it; the only one that waits when it is `None`.
    pub run: Option<String>,
    /// The step, when several of the run wait.
    pub step: Option<String>,
    /// Where the journal is.
    pub state: StateFolder,
    /// Whether the answer is yes.
    pub approved: bool,
    /// Why, or what to do instead; later steps can read it.
    pub note: String,
    /// Who answers.
    pub by: String,
    /// Whether the caller resumes the run next: what would refuse that is then checked before the answer is recorded.
    pub resumes: bool,
    /// The digest of what the user trusts orch.yaml to send, for a run that is resumed next.
    pub trust: Option<String>,
}

/// An answer that was recorded.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepKey,
    /// How the run stood before.
    pub status: RunStatus,
    /// The folder of the run's journal.
    pub state: std::path::PathBuf,
}

impl Runner {
    /// Records a person's answer. It holds for exactly what was shown; a run that no process runs uses it when it is
    /// resumed.
    ///
    /// # Errors
    /// Nothing waits for this answer.
    pub fn answer(&self, request: &AnswerRequest) -> Result<Answered, SessionError> {
        let here = self.current_dir();
        let journal = request.state.journal(&project_root(here))?;
        let row = waiting(&journal, request.run.as_deref())?;
        let events = journal.events(row.run)?;
        let asked = question(request, &journal, row.run, &events)?;
        let run = RunState::fold(row.run, &events);
        let location = locate(&journal, &run, &request.state, &project_root(here))?;
        let settings = load_settings(&location.root)?;
        if request.resumes {
            // Before the answer is recorded: the same command must work once the project is trusted.
            self.ensure_trusted(&location.root, &settings, request.trust.as_deref())?;
            run_workspace(&journal, row.run, None, &location, here).map_err(|error| {
                let resume = format!("orch pipeline resume {} --workspace DIR", row.run);
                let was = location.workspace.display();
                error.with_hints(vec![format!(
                    "answer without --resume, then run `{resume}`; the workspace was `{was}`"
                )])
            })?;
        }
        let note = self.models(&location.root, &settings, None).redactor().text(&request.note);
        let answer =
            ApprovalDecision { approved: request.approved, note, by: request.by.clone(), at: Timestamp::now() };
        let (step, attempt, ask) = (asked.step.clone(), asked.attempt, asked.shown_digest.clone());
        journal.post(row.run, &Letter::Answer(ApprovalAnswered { step, attempt, shown_digest: ask, answer }))?;
        Ok(Answered { run: row.run, step: asked.step, status: row.status, state: journal.state().to_owned() })
    }
}

/// The run of a name, else the only one that waits for an answer.
fn waiting(journal: &Journal, name: Option<&str>) -> Result<RunRow, SessionError> {
    if let Some(name) = name {
        return find_run(journal, name);
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
        .ok_or_else(|| SessionError::usage("no run waits for an answer").hint("`orch runs list` shows past runs"))
}

/// That several runs wait, each with what it asks.
fn several(found: &[(RunRow, Vec<ApprovalAsked>)]) -> SessionError {
    let text = format!("{} runs wait for an answer:", found.len());
    let mut lines = Vec::new();
    for (row, questions) in found {
        for asked in questions {
            let question = first_line(&asked.shown, 60);
            lines.push(format!("  {}  {}, step {}: {question}", row.run, row.pipeline, asked.step));
        }
    }
    SessionError::usage(text).with_details(lines).hint("name the run")
}

/// The questions of a run that have no answer yet.
pub(crate) fn open_questions(
    journal: &Journal,
    run: RunId,
    events: &[Event],
) -> Result<Vec<ApprovalAsked>, SessionError> {
    let asked = RunQuestions::of(journal, run, events)?;
    Ok(asked.all().filter(|question| !asked.is_answered(question)).cloned().collect())
}

/// What a run asked and what was answered, also what lies in its inbox.
struct RunQuestions<'e> {
    events: &'e [Event],
    letters: Vec<Fact>,
}

impl<'e> RunQuestions<'e> {
    fn of(journal: &Journal, run: RunId, events: &'e [Event]) -> Result<Self, SessionError> {
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
                answer.step == asked.step
                    && answer.attempt == asked.attempt
                    && answer.shown_digest == asked.shown_digest
            }
            _ => false,
        })
    }
}

/// The question that is answered: open, in time, and the only one or the one that was named.
fn question(
    request: &AnswerRequest,
    journal: &Journal,
    run: RunId,
    events: &[Event],
) -> Result<ApprovalAsked, SessionError> {
    let state = RunState::fold(run, events);
    let all = RunQuestions::of(journal, run, events)?;
    let named = |asked: &&ApprovalAsked| request.step.as_ref().is_none_or(|step| asked.step.as_str() == step);
    let asked: Vec<&ApprovalAsked> = all.all().filter(named).collect();
    let open: Vec<&&ApprovalAsked> = asked.iter().filter(|asked| !all.is_answered(asked)).collect();
    let open = match open.as_slice() {
        [one] => **one,
        [] if asked.is_empty() && request.step.is_some() => {
            let step = request.step.as_deref().unwrap_or_default();
            return Err(SessionError::usage(format!("step `{step}` of run {run} has no pending approval")));
        }
        [] if asked.is_empty() => return Err(SessionError::usage(format!("run {run} has no pending approval"))),
        [] => {
            return Err(SessionError::usage(format!("what run {run} asked was answered"))
                .hint(format!("`orch pipeline resume {run}` continues it")));
        }
        several => {
            let names: Vec<String> = several.iter().map(|asked| asked.step.to_string()).collect();
            return Err(SessionError::usage(format!("run {run} asks in {}", names.join(" and ")))
                .hint("name the step after the run"));
        }
    };
    if state.status == RunStatus::Completed {
        return Err(SessionError::usage(format!("run {run} is completed")));
    }
    if open.until.is_some_and(|until| Timestamp::now() > until) {
        return Err(SessionError::usage(format!("the time to answer step `{}` is over", open.step))
            .hint(format!("`orch pipeline resume {run}` continues as its file says for a step that failed")));
    }
    Ok(open.clone())
}
