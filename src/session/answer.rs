//! Answers approvals of a run, from any process.

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

/// How many runs of each status are searched for one with a pending approval.
const SEARCHED: usize = 1000;

/// The user's answer to an approval; see [`Runner::answer`].
#[derive(Clone, Debug, Default)]
pub struct AnswerRequest {
    /// The run, by its id or the start of it; if `None`, the only run with a pending approval.
    pub run: Option<String>,
    /// The step, if several steps of the run have a pending approval.
    pub step: Option<String>,
    /// Where the journal is.
    pub state: StateFolder,
    /// Whether the user approves.
    pub approved: bool,
    /// The reason, or what to do instead; later steps can read it.
    pub note: String,
    /// The name of the user who answers.
    pub by: String,
    /// Whether the caller resumes the run next. Then everything that could refuse the resume is checked before the
    /// answer is recorded.
    pub resumes: bool,
    /// The digest of what the user trusts orch.yaml to send, for the resume.
    pub trust: Option<String>,
}

/// An answer that was recorded.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepKey,
    /// The run's status before the answer.
    pub status: RunStatus,
    /// The folder of the run's journal.
    pub state: std::path::PathBuf,
}

impl Runner {
    /// Records the user's answer, which is bound to exactly the text that was shown. If no process runs the run, the
    /// next resume uses the answer.
    ///
    /// # Errors
    /// There is no matching pending approval.
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
            // Checked before the answer is recorded, so that the user can repeat the same command after trusting the
            // project.
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

/// The run with this name, or the only one with a pending approval.
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

/// The error that several runs have pending approvals; lists each approval.
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

/// The approvals of a run that have no answer yet.
pub(crate) fn open_questions(
    journal: &Journal,
    run: RunId,
    events: &[Event],
) -> Result<Vec<ApprovalAsked>, SessionError> {
    let asked = RunQuestions::of(journal, run, events)?;
    Ok(asked.all().filter(|question| !asked.is_answered(question)).cloned().collect())
}

/// The approvals and answers of a run, in its events and in its inbox.
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

    /// The latest approval request of each step; earlier ones are obsolete.
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

/// The approval to answer: pending, not expired, and either the named one or the only one.
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
