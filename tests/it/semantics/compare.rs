//! Compares a session with the result of the reference model.

use std::collections::{BTreeMap, BTreeSet};

use orch::model::{RunState, StepState};
use serde_json::Value;

use super::history::{Fact, RunHistory};
use super::performer::TimedCall;
use super::pipeline::{Kind, Step, TestPipeline};
use super::reference::{Ending, Evaluation, child_path};

/// The status with the reason, and the value, of each step.
type StepEnds = BTreeMap<String, (String, Option<Value>)>;

/// The paths of the steps that a run has from its start: all steps that are not inside items or rounds.
fn initial_steps(pipeline: &TestPipeline) -> Vec<String> {
    fn add(path: &str, step: &Step, paths: &mut Vec<String>) {
        let path = child_path(path, &step.id);
        paths.push(path.clone());
        if step.for_each.is_none() && !matches!(step.kind, Kind::Repeat { .. }) {
            step.kind.children().into_iter().for_each(|child| add(&path, child, paths));
        }
    }
    let mut paths = Vec::new();
    pipeline.steps.iter().chain(&pipeline.finally).for_each(|step| add("", step, &mut paths));
    paths
}

fn expected_ends(pipeline: &TestPipeline, evaluation: &Evaluation) -> StepEnds {
    let mut facts: Vec<&Fact> = evaluation.facts.iter().collect();
    facts.sort_by_key(|fact| fact.time());
    let (mut ends, mut parents, mut seen) = (StepEnds::new(), BTreeSet::new(), BTreeSet::new());
    for fact in facts {
        let path = match fact {
            Fact::StepStarted { path, .. } | Fact::Call { path, .. } | Fact::StepEnded { path, .. } => path,
            Fact::CallHalted { .. }
            | Fact::StepResult { .. }
            | Fact::ExecutionEnded { .. }
            | Fact::FileWritten { .. } => continue,
        };
        seen.insert(path.clone());
        parents.extend(
            (0..path.len())
                .filter(|end| matches!(path.as_bytes()[*end], b'/' | b'['))
                .map(|end| path[..end].to_owned()),
        );
        if let Fact::StepEnded { status, reason, value, .. } = fact {
            ends.insert(path.clone(), (format!("{status} {reason}"), value.clone()));
        }
    }
    for path in initial_steps(pipeline) {
        let status = if parents.contains(&path) || seen.contains(&path) { "cancelled " } else { "skipped " };
        ends.entry(path).or_insert_with(|| (status.to_owned(), None));
    }
    for path in seen {
        ends.entry(path).or_insert_with(|| ("cancelled ".to_owned(), None));
    }
    ends
}

fn actual_ends(state: &RunState) -> StepEnds {
    let step_end = |step: &StepState| {
        let class = step.failure.as_ref().filter(|_| step.status == orch::model::StepStatus::Failed);
        let reason = step.reason.as_ref().filter(|_| step.status == orch::model::StepStatus::Skipped);
        let reason = class
            .map(|failure| failure.class.to_string())
            .or_else(|| reason.map(ToString::to_string))
            .unwrap_or_default();
        let is_completed = step.status == orch::model::StepStatus::Completed;
        let value =
            step.artifact.as_ref().filter(|_| is_completed).map(|artifact| without_failure_messages(&artifact.value));
        (step.key.to_string(), (format!("{} {reason}", step.status.as_str()), value))
    };
    state.steps.iter().map(step_end).collect()
}

/// Removes the messages of failures from a value, because the model does not know them.
fn without_failure_messages(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(without_failure_messages).collect(),
        Value::Object(map) => {
            let is_failure = map.contains_key("class") && map.contains_key("message");
            let is_kept = |(name, _): &(&String, &Value)| !(is_failure && *name == "message");
            map.iter().filter(is_kept).map(|(name, value)| (name.clone(), without_failure_messages(value))).collect()
        }
        other => other.clone(),
    }
}

/// Whether two statuses are equal. The actual reason only has to start with the expected one, which contains the part
/// that the documentation specifies.
fn statuses_match(expected: &str, actual: &str) -> bool {
    let (status, reason) = expected.split_once(' ').unwrap_or_default();
    let (actual_status, actual_reason) = actual.split_once(' ').unwrap_or_default();
    status == actual_status && reason.is_empty() == actual_reason.is_empty() && actual_reason.starts_with(reason)
}

/// Compares the state of a run at the end of a session with the model.
pub(crate) fn state_differences(pipeline: &TestPipeline, evaluation: &Evaluation, state: &RunState) -> Vec<String> {
    let mut differences = Vec::new();
    let status = match evaluation.ending {
        Ending::Completed => "completed",
        Ending::Failed(_) | Ending::GroupHalted => "failed",
        Ending::Parked => "waiting",
        Ending::Stopped => "cancelled",
    };
    if state.status.as_str() != status {
        differences.push(format!("the run: {status} expected, {} found", state.status.as_str()));
    }
    if evaluation.ending == Ending::Parked {
        return differences;
    }
    let (mut expected, mut actual) = (expected_ends(pipeline, evaluation), actual_ends(state));
    if evaluation.ending == Ending::Stopped {
        // Compare only the steps that had ended: the stop may have cancelled the others or kept them from starting.
        let has_ended = |path: &String| {
            let is_end = |fact: &Fact| matches!(fact, Fact::StepEnded { path: ended_path, .. } if ended_path == path);
            evaluation.facts.iter().any(is_end)
        };
        expected.retain(|path, _| has_ended(path));
        actual.retain(|path, _| has_ended(path));
    }
    for path in expected.keys().chain(actual.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(path), actual.get(path)) {
            (Some((status, value)), Some((actual_status, actual_value))) => {
                if !statuses_match(status, actual_status) {
                    differences.push(format!("{path}: `{status}` expected, `{actual_status}` found"));
                }
                if status.starts_with("completed") && value.is_some() && value != actual_value {
                    differences.push(format!("{path}: {value:?} expected, {actual_value:?} found"));
                }
            }
            (expected_end, actual_end) => {
                differences.push(format!("{path}: {expected_end:?} expected, {actual_end:?} found"));
            }
        }
    }
    if evaluation.ending == Ending::Completed
        && !pipeline.outputs.is_empty()
        && state.outputs.as_ref().map(without_failure_messages) != evaluation.value
    {
        differences.push(format!("result: {:?} expected, {:?} found", evaluation.value, state.outputs));
    }
    differences
}

/// Compares the calls that ended until `end_time` with the model. The start and end times of the calls also show their
/// order and which calls ran in parallel.
pub(crate) fn call_differences(evaluation: &Evaluation, end_time: u64, actual: &[TimedCall]) -> Vec<String> {
    let timed_call = |fact: &Fact| match fact {
        Fact::Call { start, end, path, .. } if *end <= end_time => Some((*start, *end, path.clone())),
        _ => None,
    };
    let expected: BTreeSet<TimedCall> = evaluation.facts.iter().filter_map(timed_call).collect();
    let actual: BTreeSet<TimedCall> = actual.iter().cloned().collect();
    let missing = expected.difference(&actual).map(|call| format!("call {call:?} expected"));
    missing.chain(actual.difference(&expected).map(|call| format!("call {call:?} found"))).collect()
}

/// Compares the files of the workspace with the model.
pub(crate) fn file_differences(history: &RunHistory, actual: &BTreeMap<String, String>) -> Vec<String> {
    let parse = |text: &String| {
        serde_json::from_str(text).map_or_else(|_| Value::from(text.as_str()), |value| without_failure_messages(&value))
    };
    let actual: BTreeMap<&String, Value> = actual.iter().map(|(name, text)| (name, parse(text))).collect();
    let expected: BTreeMap<&String, Value> = history.files.iter().map(|(name, text)| (name, parse(text))).collect();
    let names: BTreeSet<&&String> = expected.keys().chain(actual.keys()).collect();
    let differs = |name: &&&String| expected.get(**name) != actual.get(**name);
    let describe =
        |name: &&String| format!("{name}: {:?} expected, {:?} found", expected.get(*name), actual.get(*name));
    names.into_iter().filter(differs).map(describe).collect()
}
