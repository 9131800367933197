//! The expected results of a test case, and its answers to approvals.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;

use crate::config;
use crate::model::event::ApprovalDecision;
use crate::model::test_case::{CannedAnswer, CannedAnswers, TestCase};
use crate::model::visible::one_line;
use crate::model::{RunState, RunStatus, StepKey, StepState};
use crate::store::{ApprovalPrompter, Workspace};
use crate::template::{TemplateContext, eval_bool};

/// What a run with this status does or did.
fn describe_status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "did not end",
        RunStatus::Waiting => "waits for an answer",
        RunStatus::Completed => "completed",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "was cancelled",
        RunStatus::Interrupted => "was interrupted",
    }
}

/// Compares the result of a run with the expected result of the test case, and returns the differences.
pub(super) fn compare_with_expected(case: &TestCase, state: &RunState, workspace: &Workspace) -> Vec<String> {
    let mut problems = Vec::new();
    let expected = case.expect.status.unwrap_or(RunStatus::Completed);
    if state.status != expected {
        problems.push(format!("the run {}, expected `{}`", describe_status(state.status), expected.as_str()));
        let failures =
            state.steps_in_file_order().into_iter().filter_map(|step| Some((&step.key, step.failure.as_ref()?)));
        for (step, failure) in failures {
            problems.push(format!("step `{step}`: {failure}"));
            problems.extend(failure.hint.clone());
        }
        problems.extend(state.failure.as_ref().map(ToString::to_string));
        problems.extend(state.steps_in_file_order().into_iter().filter_map(unanswered_question));
    }
    for (key, status) in &case.expect.steps {
        match state.steps.iter().find(|step| step.key.as_str() == key) {
            Some(step) if step.status == *status => {}
            Some(step) => problems.push(format!("step `{key}` is {}, not {}", step.status.as_str(), status.as_str())),
            None => problems.push(format!("there is no step `{key}`")),
        }
    }
    let mut context = TemplateContext::new();
    for (name, value) in &state.inputs {
        context.insert(name, value);
    }
    // Expressions can use only artifacts with a file. The artifacts of items and of called pipelines have no file.
    let has_file = |step: &&StepState| step.artifact.as_ref().is_some_and(|artifact| artifact.path.is_some());
    for artifact in state.steps_in_file_order().into_iter().filter(has_file).filter_map(|step| step.artifact.as_ref()) {
        context.insert(&artifact.name, &artifact.value);
    }
    for expression in &case.expect.assert {
        match eval_bool(expression, &context) {
            Ok(true) => {}
            Ok(false) => problems.push(format!("`{expression}` is false")),
            Err(error) => problems.push(format!("`{expression}`: {error}")),
        }
    }
    for file in &case.expect.files {
        // Do not follow links that the run created, because they could reveal files outside of the workspace.
        let path = workspace.folder().join(file);
        if config::is_outside_folder(workspace.folder(), &path) || !path.is_file() {
            problems.push(format!("the workspace has no file `{file}`"));
        }
    }
    problems
}

/// Describes the question for which a step waits, and how the test case can answer it.
fn unanswered_question(step: &StepState) -> Option<String> {
    // The question about a tool call has its arguments on several lines.
    let words: Vec<&str> = step.question.as_ref()?.split_whitespace().collect();
    let (question, key) = (one_line(&words.join(" "), 200), &step.key);
    Some(format!(
        "step `{key}` waits for an answer to: {question}\nto answer it, add `{}: {{ approved: true }}` to `answers` of the \
         test case; a step that asks several times may have a list of answers",
        key.declared_key().last_segment()
    ))
}

/// Answers approvals with the answers in the test case.
pub(super) struct CannedApprovals {
    answers: IndexMap<String, CannedAnswers>,
    /// The number of questions that each step has asked.
    asked: Mutex<HashMap<StepKey, usize>>,
}

impl CannedApprovals {
    pub(super) fn new(answers: IndexMap<String, CannedAnswers>) -> Self {
        Self { answers, asked: Mutex::default() }
    }

    /// The answers to the questions of a step.
    fn answers(&self, step: &StepKey) -> Option<&CannedAnswers> {
        let declared_key = step.declared_key();
        let names = [step.as_str(), step.last_segment(), declared_key.as_str(), declared_key.last_segment()];
        names.into_iter().find_map(|name| self.answers.get(name))
    }

    /// The answer to the next question of a step. Counts the question.
    fn next_answer(&self, step: &StepKey) -> Option<&CannedAnswer> {
        let answers = self.answers(step)?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(step.clone()).or_default();
        let answer = answers.get(*count);
        *count += 1;
        answer
    }
}

impl ApprovalPrompter for CannedApprovals {
    fn prompt(&self, step: StepKey, _: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let decision = self.next_answer(&step).map(|answer| ApprovalDecision {
            approved: answer.approved,
            note: answer.note.clone(),
            by: answer.by.clone().unwrap_or_else(|| "test".to_owned()),
            at: jiff::Timestamp::now(),
        });
        async move { decision }.boxed()
    }

    fn has_chosen_name(&self, step: &StepKey) -> bool {
        self.answers(step).is_some_and(CannedAnswers::has_name)
    }
}
