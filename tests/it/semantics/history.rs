//! The facts that the reference model records in a session, and the history of a run that later sessions use.

use std::collections::BTreeMap;

use serde_json::Value;

use super::script::ScriptedOutcome;

/// An event of the model, with its virtual time.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A step that contains no other steps started.
    StepStarted {
        time: u64,
        path: String,
    },
    Call {
        start: u64,
        end: u64,
        path: String,
        fingerprint: String,
        outcome: ScriptedOutcome,
    },
    /// A call did not start, because its group had been halted.
    CallHalted {
        time: u64,
    },
    StepEnded {
        time: u64,
        path: String,
        status: &'static str,
        reason: String,
        value: Option<Value>,
    },
    /// The result of a step, with the fingerprint of its inputs.
    StepResult {
        time: u64,
        path: String,
        fingerprint: String,
        value: Option<Value>,
        execution: u64,
    },
    /// A step that contains no other steps ended. `outcome` is `completed` or the class of its failure.
    ExecutionEnded {
        time: u64,
        path: String,
        fingerprint: String,
        outcome: String,
        execution: u64,
    },
    FileWritten {
        time: u64,
        path: String,
        content: String,
    },
}

impl Fact {
    pub(crate) fn step_ended(time: u64, path: &str, status: &'static str, reason: String) -> Self {
        Self::StepEnded { time, path: path.to_owned(), status, reason, value: None }
    }

    /// Describes the end of a step. Returns `None` for other facts.
    pub(crate) fn describe_end(&self) -> Option<String> {
        match self {
            Self::StepEnded { path, status, reason, .. } => {
                Some(format!("{path} {status} {reason}").trim_end().to_owned())
            }
            Self::Call { .. }
            | Self::StepStarted { .. }
            | Self::CallHalted { .. }
            | Self::StepResult { .. }
            | Self::ExecutionEnded { .. }
            | Self::FileWritten { .. } => None,
        }
    }

    /// The time at which the event happened.
    pub(crate) fn time(&self) -> u64 {
        match self {
            Self::Call { end, .. } => *end,
            Self::StepStarted { time, .. }
            | Self::CallHalted { time }
            | Self::StepEnded { time, .. }
            | Self::StepResult { time, .. }
            | Self::ExecutionEnded { time, .. }
            | Self::FileWritten { time, .. } => *time,
        }
    }
}

/// The recorded result of a step.
#[derive(Clone, Debug)]
pub(crate) struct RecordedStep {
    path: String,
    fingerprint: String,
    pub(crate) value: Option<Value>,
    pub(crate) execution: u64,
}

/// The last end of a step.
#[derive(Clone, Debug)]
struct RecordedEnd {
    fingerprint: String,
    outcome: String,
    execution: u64,
}

/// What the history contains for a step that is about to run.
pub(crate) enum HistoryLookup<'a> {
    Reusable(&'a RecordedStep),
    /// Another step has a result or an outcome with the same fingerprint.
    OtherStep,
    NotFound,
}

/// The records of all earlier sessions of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunHistory {
    steps: Vec<RecordedStep>,
    last_ends: BTreeMap<String, RecordedEnd>,
    /// The fingerprints and outcomes of the calls of attempts that did not end, by step.
    open_attempts: BTreeMap<String, Vec<(String, ScriptedOutcome)>>,
    call_counts: BTreeMap<String, usize>,
    /// The files of the workspace.
    pub(crate) files: BTreeMap<String, String>,
}

impl RunHistory {
    /// Finds the result of a step. For a step that uses the workspace, only its latest result can be reusable.
    pub(crate) fn lookup(&self, path: &str, fingerprint: &str, uses_workspace: bool) -> HistoryLookup<'_> {
        let own = || self.steps.iter().filter(|step| step.path == path);
        let latest =
            if uses_workspace { own().next_back() } else { own().rfind(|step| step.fingerprint == fingerprint) };
        if let Some(step) = latest.filter(|step| step.fingerprint == fingerprint) {
            return HistoryLookup::Reusable(step);
        }
        let is_other_attempt = |(other, calls): (&String, &Vec<(String, ScriptedOutcome)>)| {
            other != path && calls.iter().any(|(known, _)| known == fingerprint)
        };
        let is_other_result = |step: &RecordedStep| step.path != path && step.fingerprint == fingerprint;
        if self.steps.iter().any(is_other_result) || self.open_attempts.iter().any(is_other_attempt) {
            HistoryLookup::OtherStep
        } else {
            HistoryLookup::NotFound
        }
    }

    /// The execution that an end of a step repeats: the last one, if it had the same request and ended in the same way.
    pub(crate) fn repeated_execution(&self, path: &str, fingerprint: &str, outcome: &str) -> Option<u64> {
        let last = self.last_ends.get(path)?;
        (last.fingerprint == fingerprint && last.outcome == outcome).then_some(last.execution)
    }

    /// The number of calls of a step that have ended.
    pub(crate) fn call_count(&self, path: &str) -> usize {
        self.call_counts.get(path).copied().unwrap_or(0)
    }

    /// The recorded outcomes that the next attempt of a step replays.
    pub(crate) fn replayed_outcomes(&self, path: &str, fingerprint: &str) -> Vec<ScriptedOutcome> {
        let calls = self.open_attempts.get(path).map(Vec::as_slice).unwrap_or_default();
        if calls.iter().any(|(known, _)| known != fingerprint) {
            return Vec::new();
        }
        calls.iter().map(|(_, outcome)| *outcome).collect()
    }

    /// Adds the facts of a session up to `end_time`, at which the process died or the session ended.
    pub(crate) fn record(&mut self, facts: &[Fact], end_time: u64) {
        let mut facts: Vec<&Fact> = facts.iter().filter(|fact| fact.time() <= end_time).collect();
        facts.sort_by_key(|fact| fact.time());
        for fact in facts {
            match fact {
                Fact::Call { outcome: ScriptedOutcome::Unanswered, .. }
                | Fact::StepStarted { .. }
                | Fact::CallHalted { .. } => {}
                Fact::Call { path, fingerprint, outcome, .. } => {
                    *self.call_counts.entry(path.clone()).or_default() += 1;
                    let calls = self.open_attempts.entry(path.clone()).or_default();
                    calls.retain(|(known, _)| known == fingerprint);
                    calls.push((fingerprint.clone(), *outcome));
                }
                Fact::StepEnded { path, .. } => drop(self.open_attempts.remove(path)),
                Fact::StepResult { path, fingerprint, value, execution, .. } => self.steps.push(RecordedStep {
                    path: path.clone(),
                    fingerprint: fingerprint.clone(),
                    value: value.clone(),
                    execution: *execution,
                }),
                Fact::ExecutionEnded { path, fingerprint, outcome, execution, .. } => {
                    let (fingerprint, outcome) = (fingerprint.clone(), outcome.clone());
                    let end = RecordedEnd { fingerprint, outcome, execution: *execution };
                    self.last_ends.insert(path.clone(), end);
                }
                Fact::FileWritten { path, content, .. } => drop(self.files.insert(path.clone(), content.clone())),
            }
        }
    }
}
