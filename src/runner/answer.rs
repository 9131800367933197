//! Records the user's answers to approvals of a run, from any process.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::load_from;
use crate::engine::mcp_questions::{answers_from_text, is_asked_in};
use crate::model::event::{ApprovalAnswered, ApprovalAsked, ApprovalDecision, Event, Fact};
use crate::model::visible::one_line;
use crate::model::{FailureClass, RunId, RunState, RunStatus, StepKey};
use crate::report::ResumeOption;
use crate::store::{Journal, RunFilter, RunRow, SendOutcome};
use crate::trust::VariableDisclosures;

use super::agent_choices::AgentChoices;
use super::error::RunnerError;
use super::execute::resolve_path;
use super::location::{locate, pipeline_file, run_workspace};
use super::messages::{Delivery, SentMessage};
use super::passed_variables::variables_needing_agreement;
use super::project_state::{StateFolder, find_run, project_root, project_settings};
use super::run_questions::RunApprovals;
use super::run_recording::{ResumedProject, required_options};
use super::run_replay::{replay_of_resume, sends_nothing};
use super::{ResumeRequest, Runner};

/// The maximum number of runs of each status to search for pending approvals.
const MAX_SEARCHED_RUNS: usize = 1000;
/// The maximum length of a question in a list of approvals, in characters.
const MAX_QUESTION_CHARS: usize = 200;

/// The user's answer to an approval; see [`Runner::answer`].
#[derive(Clone, Debug, Default)]
pub struct AnswerRequest {
    /// The run's id or the start of its id. If `None`, orch chooses the only run with a pending approval.
    pub run: Option<String>,
    /// The step. Required if several steps of the run have a pending approval.
    pub step: Option<String>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// Whether the user approves.
    pub approved: bool,
    /// The reason, or an instruction for later steps, which can read this text.
    pub note: String,
    /// The name of the user who answers.
    pub user: String,
    /// Whether the caller resumes the run next. If so, orch checks whether the project is trusted, and whether the
    /// workspace and the folders of recordings are usable, before it records the answer.
    pub resumes_next: bool,
    /// The digest that `orch trust` prints, if the user agreed to what orch.yaml sends to other machines. The resume
    /// needs it.
    pub trusted_digest: Option<String>,
    /// The folder into which the resume records, if it is not the folder of the run; see [`ResumeRequest`].
    pub recording_folder: Option<PathBuf>,
    /// The folder of the recordings that the resume replays, if it is not the recorded folder; see [`ResumeRequest`].
    pub replay_folder: Option<PathBuf>,
}

/// A recorded answer.
#[derive(Clone, Debug)]
pub struct RecordedAnswer {
    /// The answer.
    pub answer: ApprovalAnswered,
    /// Its message in the inbox of the run.
    pub message: SentMessage,
    /// The options that the next resume needs because the record of the run came from elsewhere.
    pub resume_options: Vec<ResumeOption>,
}

impl Runner {
    /// Records the user's answer. The answer is valid only for the text that orch showed. If no process executes the
    /// run, the next resume uses the answer.
    ///
    /// # Errors
    /// No pending approval matches the request, or the note is no answer to the questions of an MCP server.
    pub fn answer(&self, request: &AnswerRequest) -> Result<RecordedAnswer, RunnerError> {
        let current_dir = self.current_dir();
        let journal = request.state.open_journal(&project_root(current_dir))?;
        let row = find_run_to_answer(&journal, request.run.as_deref())?;
        let events = journal.events(row.run)?;
        let approval = approval_to_answer(request, &journal, row.run, &events)?;
        let run = RunState::fold(row.run, &events);
        let location = locate(&journal, &run, &request.state, &project_root(current_dir))?;
        let settings = project_settings(&location.root, current_dir)?;
        let note = self.model_registry(&location.root, &settings, None).redactor().redact(&request.note);
        if request.approved {
            check_answer(&events, &approval, &note)?;
        }
        if request.resumes_next {
            // Check this before recording the answer, so that the user can trust the project and repeat the same
            // command.
            let resume = ResumeRequest {
                recording_folder: request.recording_folder.clone(),
                replay_folder: request.replay_folder.clone(),
                ..ResumeRequest::default()
            };
            let replay = replay_of_resume(&resume, &run, &journal, &location.root, current_dir)?;
            let resumed = ResumedProject { past_state: &run, journal: &journal, root: &location.root };
            self.check_recording_folder(&resume, &resumed, replay.is_some())?;
            if !sends_nothing(replay.is_some(), &settings) {
                let variables = self.variables_of_resume(&journal, &run, &location.root);
                self.ensure_trusted(&location.root, &settings, &variables, request.trusted_digest.as_deref())?;
            }
            run_workspace(&journal, row.run, None, &location, current_dir).map_err(|error| {
                let resume = format!("orch pipeline resume {} --workspace DIR", row.run);
                let recorded = location.workspace.display();
                error.with_hints(vec![format!(
                    "answer without --resume, then run `{resume}`; the workspace was `{recorded}`"
                )])
            })?;
        }
        let answer = ApprovalAnswered {
            step: approval.step.clone(),
            attempt: approval.attempt,
            ordinal: approval.ordinal,
            tool_call: approval.tool_call,
            input_round: approval.input_round,
            question_digest: approval.question_digest,
            answer: ApprovalDecision {
                approved: request.approved,
                note,
                by: request.user.clone(),
                at: Timestamp::now(),
            },
        };
        let last_seq = events.last().map_or(0, |event| event.seq);
        let message = match journal.send_answer(row.run, answer.clone(), last_seq)? {
            SendOutcome::Sent(id) => SentMessage::new(&journal, row.run, row.status, id).after(&events),
            SendOutcome::AlreadyAnswered(earlier) => {
                return Err(answered_error(row.run, &approval.step, &earlier));
            }
        };
        Ok(RecordedAnswer { answer, message, resume_options: required_options(&journal, row.run)? })
    }
}

impl Runner {
    /// Waits until the process that executes the run has recorded an answer; see
    /// [`wait_until_heard`](Self::wait_until_heard).
    ///
    /// # Errors
    /// The question had another answer: the user at the terminal of the run was faster. Or the time for an answer was
    /// over.
    pub fn wait_until_answered(&self, answer: &RecordedAnswer) -> Result<Delivery, RunnerError> {
        let delivery = self.wait_until_heard(&answer.message)?;
        let RecordedAnswer { answer, message, .. } = answer;
        let later_events;
        let events = match &delivery {
            Delivery::Heard(events) => events,
            // The process may have recorded another answer, and ended before it looked at this one.
            Delivery::NotRunning | Delivery::NotHeard => {
                later_events = message.later_events()?;
                &later_events
            }
        };
        let mut answers = events.iter().filter_map(|event| match &event.fact {
            Fact::ApprovalAnswered(recorded) => Some(recorded),
            _ => None,
        });
        match answers.find(|other| other.answers_same_question(answer)) {
            Some(recorded) if recorded == answer => return Ok(delivery),
            Some(earlier) => return Err(answered_error(message.run, &answer.step, &earlier.answer)),
            None => {}
        }
        let is_expiry = |event: &Event| match &event.fact {
            Fact::StepFailed(fact) => fact.step == answer.step && fact.failure.class == FailureClass::ApprovalTimeout,
            _ => false,
        };
        if events.iter().any(is_expiry) {
            let step = &answer.step;
            let error = RunnerError::usage(format!("the answer came too late: the time of step `{step}` is over"));
            return Err(error.with_hint(format!("`orch pipeline resume {}` asks again", message.run)));
        }
        Ok(delivery)
    }

    /// The variables that a resume of a run passes to confined programs and that need the user's agreement, as far as the
    /// files of the project tell. The resume checks them again, and reports files that it can't load.
    fn variables_of_resume(&self, journal: &Journal, run: &RunState, root: &Path) -> VariableDisclosures {
        let has_choices = !AgentChoices::for_resume(&ResumeRequest::default(), run).is_empty();
        let file = pipeline_file(journal, run, root).ok().filter(|_| !has_choices);
        let load =
            |file: PathBuf| load_from(&self.environment.sources(), &resolve_path(&file, self.current_dir())).ok();
        file.and_then(load).map(|project| variables_needing_agreement(&project)).unwrap_or_default()
    }
}

/// Checks that a note answers the questions of an MCP server, if the approval asks some.
///
/// # Errors
/// The note does not fit the questions. The run still waits.
fn check_answer(events: &[Event], approval: &ApprovalAsked, note: &str) -> Result<(), RunnerError> {
    let asked = events.iter().rev().find_map(|event| match &event.fact {
        Fact::CallEnded(ended) if ended.call.step == approval.step => {
            ended.output.as_ref()?.required_input().filter(|input| is_asked_in(input, &approval.question))
        }
        _ => None,
    });
    let Some(input) = asked.filter(|_| approval.input_round.is_some()) else { return Ok(()) };
    answers_from_text(input, note).map(drop).map_err(|problem| {
        let message = format!("the note does not answer the question of step `{}`, which still waits:", approval.step);
        let hint = "pass the answer as `--note JSON`; the question says which form it has, and `orch runs list` shows \
                    the runs that wait";
        RunnerError::usage(message).with_details(problem.lines().map(str::to_owned)).with_hint(hint)
    })
}

/// The error for an answer to a question that another process, or the user at the terminal of the run, has answered.
fn answered_error(run: RunId, step: &StepKey, earlier: &ApprovalDecision) -> RunnerError {
    let message = format!("{}; your answer does not count", answered_before(run, step, earlier));
    RunnerError::usage(message).with_hint(format!("`orch runs events {run}` shows the recorded answer"))
}

/// Says who answered a question before.
fn answered_before(run: RunId, step: &StepKey, earlier: &ApprovalDecision) -> String {
    let (by, verdict) = (earlier.answered_by(), earlier.verdict());
    format!("the question of step `{step}` of run {run} was {by} before ({verdict})")
}

/// Finds the run with this id, or the only run with a pending approval.
fn find_run_to_answer(journal: &Journal, name: Option<&str>) -> Result<RunRow, RunnerError> {
    if let Some(name) = name {
        return find_run(journal, name);
    }
    let mut waiting_runs = Vec::new();
    let mut last_answer: Option<(RunId, ApprovalAnswered)> = None;
    for row in runs_to_search(journal)? {
        let events = journal.events(row.run)?;
        let approvals = RunApprovals::read(journal, row.run, &events)?;
        if let Some(answer) = approvals.last_answer()
            && last_answer.as_ref().is_none_or(|(_, last)| last.answer.at < answer.answer.at)
        {
            last_answer = Some((row.run, answer.clone()));
        }
        if matches!(row.status, RunStatus::Waiting | RunStatus::Running) {
            let pending: Vec<ApprovalAsked> = approvals.pending().cloned().collect();
            waiting_runs.extend((!pending.is_empty()).then_some((row, pending)));
        }
    }
    if waiting_runs.len() > 1 {
        return Err(ambiguous_run_error(&waiting_runs));
    }
    waiting_runs.pop().map(|(row, _)| row).ok_or_else(|| {
        // Another user may have answered the question that this user has seen.
        let last = last_answer.map(|(run, last)| format!(": {}", answered_before(run, &last.step, &last.answer)));
        RunnerError::usage(format!("no run waits for an answer{}", last.unwrap_or_default()))
            .with_hint("`orch runs list` shows past runs")
    })
}

/// The runs that may wait for an answer, and the latest run, which may have got one.
fn runs_to_search(journal: &Journal) -> Result<Vec<RunRow>, RunnerError> {
    let mut rows = Vec::new();
    for (status, limit) in
        [(Some(RunStatus::Waiting), MAX_SEARCHED_RUNS), (Some(RunStatus::Running), MAX_SEARCHED_RUNS), (None, 1)]
    {
        for row in journal.list_runs(&RunFilter { limit, status, pipeline: None })? {
            if rows.iter().all(|other: &RunRow| other.run != row.run) {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// The error for several runs with pending approvals. It lists each approval.
fn ambiguous_run_error(waiting_runs: &[(RunRow, Vec<ApprovalAsked>)]) -> RunnerError {
    let message = format!("{} runs wait for an answer:", waiting_runs.len());
    let mut lines = Vec::new();
    for (row, approvals) in waiting_runs {
        for approval in approvals {
            let question = one_line(&approval.question, MAX_QUESTION_CHARS);
            lines.push(format!("  {}  {}, step `{}`: {question}", row.run, row.pipeline, approval.step));
        }
    }
    RunnerError::usage(message).with_details(lines).with_hint("name the run")
}

/// Finds the approval to answer: the pending approval of the requested step, or the only pending approval of the run.
///
/// # Errors
/// No approval or several approvals match, or the time to answer is over.
fn approval_to_answer(
    request: &AnswerRequest,
    journal: &Journal,
    run: RunId,
    events: &[Event],
) -> Result<ApprovalAsked, RunnerError> {
    let state = RunState::fold(run, events);
    let approvals = RunApprovals::read(journal, run, events)?;
    let is_of_requested_step =
        |approval: &&ApprovalAsked| request.step.as_ref().is_none_or(|step| approval.step.as_str() == step);
    let pending: Vec<&ApprovalAsked> = approvals.pending().filter(is_of_requested_step).collect();
    let approval = match pending.as_slice() {
        [approval] => *approval,
        [] => return Err(nothing_to_answer(request.step.as_deref(), &state, &approvals)),
        approvals => {
            let steps: Vec<String> = approvals.iter().map(|approval| format!("`{}`", approval.step)).collect();
            let error = format!("run {run} has several pending approvals, in the steps {}", steps.join(", "));
            return Err(RunnerError::usage(error).with_hint("name the step after the run"));
        }
    };
    if state.status == RunStatus::Completed {
        return Err(RunnerError::usage(format!("run {run} is completed")));
    }
    if approval.expires_at.is_some_and(|deadline| Timestamp::now() > deadline) {
        return Err(RunnerError::usage(format!("the time to answer step `{}` is over", approval.step))
            .with_hint(format!("`orch pipeline resume {run}` continues according to the step's `on_error`")));
    }
    Ok(approval.clone())
}

/// The error for a run, or its step with this name, without a pending approval. Says who answered the last one.
fn nothing_to_answer(step: Option<&str>, state: &RunState, approvals: &RunApprovals<'_>) -> RunnerError {
    let run = state.run;
    let answers = approvals.latest_answers().filter(|answer| step.is_none_or(|step| answer.step.as_str() == step));
    let error = match (answers.max_by_key(|answer| answer.answer.at), step) {
        (Some(last), _) => answered_error(run, &last.step, &last.answer),
        (None, Some(step)) => {
            return RunnerError::usage(format!("step `{step}` of run {run} has no pending approval"));
        }
        (None, None) => return RunnerError::usage(format!("run {run} has no pending approval")),
    };
    if state.status == RunStatus::Waiting {
        return error.with_hint(format!("`orch pipeline resume {run}` continues it"));
    }
    error
}
