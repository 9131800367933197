//! `orch runs diff A B`: how two runs differ, step by step and artifact by artifact.

use serde_json::{Value, json};

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::files::{self, ChangeSet, FileChange, FileState};
use crate::model::event::RunStatus;
use crate::model::{Artifact, RunState, StepKey, StepState};
use crate::report::human;
use crate::session::{ExitStatus, SessionError};
use crate::store::{Journal, RunRow};

pub(super) fn run(
    journal: &Journal,
    a: &RunRow,
    b: &RunRow,
    output: OutputFormat,
    ui: &Ui,
) -> Result<ExitStatus, SessionError> {
    let state = |row: &RunRow| -> Result<RunState, SessionError> {
        let mut state = RunState::fold(row.run, &journal.events(row.run)?);
        match row.status {
            RunStatus::Interrupted => state.interrupt(),
            status => state.status = status,
        }
        Ok(state)
    };
    let (one, other) = (state(a)?, state(b)?);
    let pairs = pairs(&one, &other);
    if output == OutputFormat::Json {
        ui.data(&format!("{:#}", as_json(&one, &other, &pairs)))?;
        return Ok(ExitStatus::Success);
    }
    let mut lines = vec![format!("run {} → {}", one.run, other.run)];
    lines.extend(change("status", one.status.as_str(), other.status.as_str()));
    lines.extend(change("tokens", &human::usage(&one.usage()), &human::usage(&other.usage())));
    lines.extend(change("cost", &human::cost(one.cost()), &human::cost(other.cost())));
    for (key, a, b) in &pairs {
        let words = differences(*a, *b);
        if !words.is_empty() {
            lines.push(format!("{}: {}", ui.out_style.strong(key), words.join("; ")));
        }
    }
    if lines.len() == 1 {
        lines.push("every step ended alike".to_owned());
    }
    ui.text(&lines.join("\n"))?;
    for (key, a, b) in &pairs {
        let diff = artifact_diff(key, *a, *b);
        if !diff.is_empty() {
            ui.text(&format!("\n{diff}"))?;
        }
    }
    Ok(ExitStatus::Success)
}

type StepPair<'a> = (StepKey, Option<&'a StepState>, Option<&'a StepState>);

/// The steps of both runs: those of the first in its order, then those that only the second has.
fn pairs<'a>(one: &'a RunState, other: &'a RunState) -> Vec<StepPair<'a>> {
    let mut pairs: Vec<StepPair<'_>> =
        one.in_order().into_iter().map(|step| (step.step.clone(), Some(step), other.step(&step.step))).collect();
    let only = other.in_order().into_iter().filter(|step| one.step(&step.step).is_none());
    pairs.extend(only.map(|step| (step.step.clone(), None, Some(step))));
    pairs
}

fn change(what: &str, a: &str, b: &str) -> Option<String> {
    (a != b).then(|| format!("{what} {a} → {b}"))
}

fn differences(a: Option<&StepState>, b: Option<&StepState>) -> Vec<String> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => return vec!["only in the first".to_owned()],
        (None, Some(_)) => return vec!["only in the second".to_owned()],
        (None, None) => return Vec::new(),
    };
    let model = |step: &StepState| step.model.as_ref().map_or_else(String::new, ToString::to_string);
    [
        change("status", a.status.as_str(), b.status.as_str()),
        change("model", &model(a), &model(b)),
        change("attempts", &a.attempts.to_string(), &b.attempts.to_string()),
        change("tokens", &human::usage(&a.usage), &human::usage(&b.usage)),
        change("cost", &human::cost(a.cost), &human::cost(b.cost)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Under which name an artifact is shown: its file's, or the step's when it has none.
fn name(key: &StepKey, artifact: &Artifact) -> String {
    artifact
        .path
        .clone()
        .unwrap_or_else(|| format!("{key}/{}", Artifact::path_of(&artifact.name, artifact.value.is_string())))
}

fn artifact_diff(key: &StepKey, a: Option<&StepState>, b: Option<&StepState>) -> String {
    let artifact = |step: Option<&StepState>| step.and_then(|step| step.artifact.clone());
    let (before, after) = (artifact(a), artifact(b));
    let Some(path) = after.as_ref().or(before.as_ref()).map(|artifact| name(key, artifact)) else {
        return String::new();
    };
    let state = |artifact: Artifact| FileState { content: artifact.bytes().into(), mode: None };
    let change = FileChange { path, before: before.map(state), after: after.map(state) };
    files::diff(&ChangeSet { files: vec![change], new_folders: Vec::new() })
}

fn as_json(one: &RunState, other: &RunState, pairs: &[StepPair<'_>]) -> Value {
    let run = |state: &RunState| json!({ "run": state.run.to_string(), "status": state.status, "usage": state.usage(), "cost_usd": state.cost().known(), "estimated_cost_usd": state.cost().estimated() });
    let step = |step: Option<&StepState>| {
        step.map(|step| {
            let model = step.model.as_ref().map(ToString::to_string);
            json!({
                "status": step.status, "model": model, "attempts": step.attempts, "usage": step.usage,
                "cost_usd": step.cost.known(), "estimated_cost_usd": step.cost.estimated(),
            })
        })
    };
    let steps: Vec<Value> = pairs
        .iter()
        .map(|(key, a, b)| {
            let (same, diff) = (differences(*a, *b).is_empty(), artifact_diff(key, *a, *b));
            json!({ "name": key, "same": same && diff.is_empty(), "a": step(*a), "b": step(*b), "diff": diff })
        })
        .collect();
    json!({ "a": run(one), "b": run(other), "steps": steps })
}
