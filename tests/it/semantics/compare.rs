//! Holds what a session did against what the reference model says.

use std::collections::{BTreeMap, BTreeSet};

use orch::model::{RunState, StepState};
use serde_json::Value;

use super::board::Made;
use super::memory::{Fact, Memory};
use super::pipe::{Kind, Pipe, Step};
use super::reference::{How, Ran};

/// How each step ended: its status with why, and its value.
type Ends = BTreeMap<String, (String, Option<Value>)>;

/// The steps that are there from the start: not inside of items and rounds.
fn announced(pipe: &Pipe) -> Vec<String> {
    fn add(path: &str, step: &Step, found: &mut Vec<String>) {
        let path = if path.is_empty() { step.id.clone() } else { format!("{path}/{}", step.id) };
        found.push(path.clone());
        if step.each.is_none() && !matches!(step.kind, Kind::Repeat { .. }) {
            step.kind.children().into_iter().for_each(|child| add(&path, child, found));
        }
    }
    let mut found = Vec::new();
    pipe.steps.iter().chain(&pipe.finally).for_each(|step| add("", step, &mut found));
    found
}

fn expected(pipe: &Pipe, ran: &Ran) -> Ends {
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
    for path in announced(pipe) {
        let status = if touched.contains(&path) || seen.contains(&path) { "cancelled " } else { "skipped " };
        ends.entry(path).or_insert_with(|| (status.to_owned(), None));
    }
    for path in seen {
        ends.entry(path).or_insert_with(|| ("cancelled ".to_owned(), None));
    }
    ends
}

fn found(state: &RunState) -> Ends {
    let end = |step: &StepState| {
        let class = step.failure.as_ref().filter(|_| step.status == orch::model::StepStatus::Failed);
        let reason = step.reason.as_ref().filter(|_| step.status == orch::model::StepStatus::Skipped);
        let why = class
            .map(|failure| failure.class.to_string())
            .or_else(|| reason.map(ToString::to_string))
            .unwrap_or_default();
        let done = step.status == orch::model::StepStatus::Completed;
        let value = step.artifact.as_ref().filter(|_| done).map(|artifact| bare(&artifact.value));
        (step.key.to_string(), (format!("{} {why}", step.status.as_str()), value))
    };
    state.steps.iter().map(end).collect()
}

/// A value without the words of failures, which are the program's own.
fn bare(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(bare).collect(),
        Value::Object(map) => {
            let is_failure = map.contains_key("class") && map.contains_key("message");
            let keep = |(name, _): &(&String, &Value)| !(is_failure && *name == "message");
            map.iter().filter(keep).map(|(name, value)| (name.clone(), bare(value))).collect()
        }
        other => other.clone(),
    }
}

/// Whether a status is as the model says: reasons and classes as far as the documentation tells them.
fn agree(expected: &str, found: &str) -> bool {
    let (status, why) = expected.split_once(' ').unwrap_or_default();
    let (other, words) = found.split_once(' ').unwrap_or_default();
    status == other && why.is_empty() == words.is_empty() && words.starts_with(why)
}

/// What is not as the model says; nothing when all is.
pub(crate) fn differences(pipe: &Pipe, ran: &Ran, state: &RunState) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = match ran.how {
        How::Well => "completed",
        How::Failed(_) | How::Dropped => "failed",
        How::Parked => "waiting",
        How::Stopped => "cancelled",
    };
    if state.status.as_str() != status {
        wrong.push(format!("the run: {status} expected, {} found", state.status.as_str()));
    }
    if ran.how == How::Parked {
        return wrong;
    }
    let (mut expected, mut found) = (expected(pipe, ran), found(state));
    if ran.how == How::Stopped {
        // What had not ended is cancelled, or did not begin; what had is as ever.
        let ended =
            |path: &String| ran.facts.iter().any(|fact| matches!(fact, Fact::Ended { path: of, .. } if of == path));
        expected.retain(|path, _| ended(path));
        found.retain(|path, _| ended(path));
    }
    for path in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(path), found.get(path)) {
            (Some((status, value)), Some((other, given))) => {
                if !agree(status, other) {
                    wrong.push(format!("{path}: `{status}` expected, `{other}` found"));
                }
                if status.starts_with("completed") && value.is_some() && value != given {
                    wrong.push(format!("{path}: {value:?} expected, {given:?} found"));
                }
            }
            (one, other) => wrong.push(format!("{path}: {one:?} expected, {other:?} found")),
        }
    }
    if ran.how == How::Well && !pipe.outputs.is_empty() && state.outputs.as_ref().map(bare) != ran.value {
        wrong.push(format!("result: {:?} expected, {:?} found", ran.value, state.outputs));
    }
    wrong
}

/// Calls that were not made as the model says: when each began and ended tells their order, and what went on at once.
pub(crate) fn calls(ran: &Ran, until: u64, made: &[Made]) -> Vec<String> {
    let call = |fact: &Fact| match fact {
        Fact::Call { start, end, path, .. } if *end <= until => Some((*start, *end, path.clone())),
        _ => None,
    };
    let expected: BTreeSet<Made> = ran.facts.iter().filter_map(call).collect();
    let made: BTreeSet<Made> = made.iter().cloned().collect();
    let missing = expected.difference(&made).map(|call| format!("call {call:?} expected"));
    missing.chain(made.difference(&expected).map(|call| format!("call {call:?} found"))).collect()
}

/// Files of the workspace that are not as the model says.
pub(crate) fn files(memory: &Memory, found: &BTreeMap<String, String>) -> Vec<String> {
    let read =
        |text: &String| serde_json::from_str(text).map_or_else(|_| Value::from(text.as_str()), |value| bare(&value));
    let found: BTreeMap<&String, Value> = found.iter().map(|(name, text)| (name, read(text))).collect();
    let expected: BTreeMap<&String, Value> = memory.files.iter().map(|(name, text)| (name, read(text))).collect();
    let names: BTreeSet<&&String> = expected.keys().chain(found.keys()).collect();
    let differs = |name: &&&String| expected.get(**name) != found.get(**name);
    let words = |name: &&String| format!("{name}: {:?} expected, {:?} found", expected.get(*name), found.get(*name));
    names.into_iter().filter(differs).map(words).collect()
}
