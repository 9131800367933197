//! Compares a session with the result of the reference model.

use std::collections::{BTreeMap, BTreeSet};

use orch::model::{RunState, StepState};
use serde_json::Value;

use super::memory::{Fact, Memory};
use super::performer::TimedCall;
use super::pipeline::{Kind, Step, TestPipeline};
use super::reference::{Ending, Evaluation};

/// The end of each step: its status with the reason, and its value.
type Ends = BTreeMap<String, (String, Option<Value>)>;

/// The steps that exist from the start, without those inside items and rounds.
fn initial_steps(pipeline: &TestPipeline) -> Vec<String> {
    fn add(path: &str, step: &Step, found: &mut Vec<String>) {
        let path = if path.is_empty() { step.id.clone() } else { format!("{path}/{}", step.id) };
        found.push(path.clone());
        if step.each.is_none() && !matches!(step.kind, Kind::Repeat { .. }) {
            step.kind.children().into_iter().for_each(|child| add(&path, child, found));
        }
    }
    let mut found = Vec::new();
    pipeline.steps.iter().chain(&pipeline.finally).for_each(|step| add("", step, &mut found));
    found
}

fn expected_ends(pipeline: &TestPipeline, ran: &Evaluation) -> Ends {
    let mut facts: Vec<&Fact> = ran.facts.iter().collect();
    facts.sort_by_key(|fact| fact.at());
    let (mut ends, mut touched, mut seen) = (Ends::new(), BTreeSet::new(), BTreeSet::new());
    for fact in facts {
        let path = match fact {
            Fact::Began { path, .. } | Fact::Call { path, .. } | Fact::Ended { path, .. } => path,
            Fact::Dropped { .. } | Fact::Done { .. } | Fact::File { .. } => continue,
        };
        seen.insert(path.clone());
        touched.extend(
            (0..path.len()).filter(|at| matches!(path.as_bytes()[*at], b'/' | b'[')).map(|at| path[..at].to_owned()),
        );
        if let Fact::Ended { status, why, value, .. } = fact {
            ends.insert(path.clone(), (format!("{status} {why}"), value.clone()));
        }
    }
    for path in initial_steps(pipeline) {
        let status = if touched.contains(&path) || seen.contains(&path) { "cancelled " } else { "skipped " };
        ends.entry(path).or_insert_with(|| (status.to_owned(), None));
    }
    for path in seen {
        ends.entry(path).or_insert_with(|| ("cancelled ".to_owned(), None));
    }
    ends
}

fn found_ends(state: &RunState) -> Ends {
    let end = |step: &StepState| {
        let class = step.failure.as_ref().filter(|_| step.status == orch::model::StepStatus::Failed);
        let reason = step.reason.as_ref().filter(|_| step.status == orch::model::StepStatus::Skipped);
        let why = class
            .map(|failure| failure.class.to_string())
            .or_else(|| reason.map(ToString::to_string))
            .unwrap_or_default();
        let done = step.status == orch::model::StepStatus::Completed;
        let value = step.artifact.as_ref().filter(|_| done).map(|artifact| without_failure_messages(&artifact.value));
        (step.key.to_string(), (format!("{} {why}", step.status.as_str()), value))
    };
    state.steps.iter().map(end).collect()
}

/// A value without the messages of failures, which the model does not know.
fn without_failure_messages(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(without_failure_messages).collect(),
        Value::Object(map) => {
            let is_failure = map.contains_key("class") && map.contains_key("message");
            let keep = |(name, _): &(&String, &Value)| !(is_failure && *name == "message");
            map.iter().filter(keep).map(|(name, value)| (name.clone(), without_failure_messages(value))).collect()
        }
        other => other.clone(),
    }
}

/// Whether two statuses agree: reasons and classes only as far as the documentation specifies them.
fn statuses_agree(expected: &str, found: &str) -> bool {
    let (status, why) = expected.split_once(' ').unwrap_or_default();
    let (other, words) = found.split_once(' ').unwrap_or_default();
    status == other && why.is_empty() == words.is_empty() && words.starts_with(why)
}

/// The differences from the model.
pub(crate) fn differences(pipeline: &TestPipeline, ran: &Evaluation, state: &RunState) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = match ran.ending {
        Ending::Well => "completed",
        Ending::Failed(_) | Ending::Dropped => "failed",
        Ending::Parked => "waiting",
        Ending::Stopped => "cancelled",
    };
    if state.status.as_str() != status {
        wrong.push(format!("the run: {status} expected, {} found", state.status.as_str()));
    }
    if ran.ending == Ending::Parked {
        return wrong;
    }
    let (mut expected, mut found) = (expected_ends(pipeline, ran), found_ends(state));
    if ran.ending == Ending::Stopped {
        // A step that had not ended is cancelled or did not begin, so only the others are compared.
        let ended =
            |path: &String| ran.facts.iter().any(|fact| matches!(fact, Fact::Ended { path: of, .. } if of == path));
        expected.retain(|path, _| ended(path));
        found.retain(|path, _| ended(path));
    }
    for path in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(path), found.get(path)) {
            (Some((status, value)), Some((other, given))) => {
                if !statuses_agree(status, other) {
                    wrong.push(format!("{path}: `{status}` expected, `{other}` found"));
                }
                if status.starts_with("completed") && value.is_some() && value != given {
                    wrong.push(format!("{path}: {value:?} expected, {given:?} found"));
                }
            }
            (one, other) => wrong.push(format!("{path}: {one:?} expected, {other:?} found")),
        }
    }
    if ran.ending == Ending::Well
        && !pipeline.outputs.is_empty()
        && state.outputs.as_ref().map(without_failure_messages) != ran.value
    {
        wrong.push(format!("result: {:?} expected, {:?} found", ran.value, state.outputs));
    }
    wrong
}

/// The calls that differ from the model. Their times of begin and end show their order and what ran in parallel.
pub(crate) fn calls(ran: &Evaluation, until: u64, made: &[TimedCall]) -> Vec<String> {
    let call = |fact: &Fact| match fact {
        Fact::Call { start, end, path, .. } if *end <= until => Some((*start, *end, path.clone())),
        _ => None,
    };
    let expected: BTreeSet<TimedCall> = ran.facts.iter().filter_map(call).collect();
    let made: BTreeSet<TimedCall> = made.iter().cloned().collect();
    let missing = expected.difference(&made).map(|call| format!("call {call:?} expected"));
    missing.chain(made.difference(&expected).map(|call| format!("call {call:?} found"))).collect()
}

/// The files of the workspace that differ from the model.
pub(crate) fn files(memory: &Memory, found: &BTreeMap<String, String>) -> Vec<String> {
    let read = |text: &String| {
        serde_json::from_str(text).map_or_else(|_| Value::from(text.as_str()), |value| without_failure_messages(&value))
    };
    let found: BTreeMap<&String, Value> = found.iter().map(|(name, text)| (name, read(text))).collect();
    let expected: BTreeMap<&String, Value> = memory.files.iter().map(|(name, text)| (name, read(text))).collect();
    let names: BTreeSet<&&String> = expected.keys().chain(found.keys()).collect();
    let differs = |name: &&&String| expected.get(**name) != found.get(**name);
    let words = |name: &&String| format!("{name}: {:?} expected, {:?} found", expected.get(*name), found.get(*name));
    names.into_iter().filter(differs).map(words).collect()
}
