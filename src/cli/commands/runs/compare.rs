//! `orch runs diff A B`: shows the differences between the steps and artifacts of two runs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::files::{self, ChangeSet, FileChange, FileState};
use crate::model::event::RunStatus;
use crate::model::{Artifact, RunState, StepKey, StepState};
use crate::report::human;
use crate::session::ExitStatus;
use crate::store::{Journal, RunRow};

pub(super) fn run(journal: &Journal, a: &RunRow, b: &RunRow, output: OutputFormat, ui: &Ui) -> Result<ExitStatus> {
    let state = |row: &RunRow| -> Result<RunState> {
        let mut state = RunState::fold(row.run, &journal.events(row.run)?);
        match row.status {
            RunStatus::Interrupted => state.mark_interrupted(),
            status => state.status = status,
        }
        Ok(state)
    };
    let (a, b) = (state(a)?, state(b)?);
    let pairs = step_pairs(&a, &b);
    if output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", as_json(&a, &b, &pairs)))?;
        return Ok(ExitStatus::Success);
    }
    let mut lines = vec![format!("run {} → {}", a.run, b.run)];
    lines.extend(change("status", a.status.as_str(), b.status.as_str()));
    lines.extend(change("tokens", &human::format_usage(&a.usage()), &human::format_usage(&b.usage())));
    lines.extend(change("cost", &human::format_cost(a.cost()), &human::format_cost(b.cost())));
    for (key, a, b) in &pairs {
        let differences = differences(*a, *b);
        if !differences.is_empty() {
            lines.push(format!("{}: {}", ui.stdout_style.bold(key), differences.join("; ")));
        }
    }
    if lines.len() == 1 {
        lines.push("the runs have the same status, usage and costs".to_owned());
    }
    ui.write_text(&lines.join("\n"))?;
    for (key, a, b) in &pairs {
        let diff = artifact_diff(key, *a, *b);
        if !diff.is_empty() {
            ui.write_text(&format!("\n{diff}"))?;
        }
    }
    Ok(ExitStatus::Success)
}

type StepPair<'a> = (StepKey, Option<&'a StepState>, Option<&'a StepState>);

/// The steps of both runs: the steps of the first run in order, then those that only the second run has.
fn step_pairs<'a>(a: &'a RunState, b: &'a RunState) -> Vec<StepPair<'a>> {
    let mut pairs: Vec<StepPair<'_>> =
        a.steps_in_file_order().into_iter().map(|step| (step.key.clone(), Some(step), b.step(&step.key))).collect();
    let only_in_b = b.steps_in_file_order().into_iter().filter(|step| a.step(&step.key).is_none());
    pairs.extend(only_in_b.map(|step| (step.key.clone(), None, Some(step))));
    pairs
}

fn change(label: &str, a: &str, b: &str) -> Option<String> {
    (a != b).then(|| format!("{label} {a} → {b}"))
}

fn differences(a: Option<&StepState>, b: Option<&StepState>) -> Vec<String> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => return vec!["only in the first run".to_owned()],
        (None, Some(_)) => return vec!["only in the second run".to_owned()],
        (None, None) => return Vec::new(),
    };
    let model = |step: &StepState| step.model.as_ref().map_or_else(String::new, ToString::to_string);
    [
        change("status", a.status.as_str(), b.status.as_str()),
        change("model", &model(a), &model(b)),
        change("attempts", &a.attempts.to_string(), &b.attempts.to_string()),
        change("tokens", &human::format_usage(&a.usage), &human::format_usage(&b.usage)),
        change("cost", &human::format_cost(a.cost), &human::format_cost(b.cost)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The name of an artifact in a diff: its file, or the key of its step if it has no file.
fn diff_name(key: &StepKey, artifact: &Artifact) -> String {
    artifact
        .path
        .clone()
        .unwrap_or_else(|| format!("{key}/{}", Artifact::file_path(&artifact.name, artifact.value.is_string())))
}

fn artifact_diff(key: &StepKey, a: Option<&StepState>, b: Option<&StepState>) -> String {
    let artifact = |step: Option<&StepState>| step.and_then(|step| step.artifact.clone());
    let (before, after) = (artifact(a), artifact(b));
    let Some(path) = after.as_ref().or(before.as_ref()).map(|artifact| diff_name(key, artifact)) else {
        return String::new();
    };
    let state = |artifact: Artifact| FileState { content: artifact.file_bytes().into(), mode: None };
    let change = FileChange { path, before: before.map(state), after: after.map(state) };
    files::diff(&ChangeSet { files: vec![change], new_folders: Vec::new() })
}

fn as_json(a: &RunState, b: &RunState, pairs: &[StepPair<'_>]) -> Value {
    let run_json = |state: &RunState| json!({ "run": state.run.to_string(), "status": state.status, "usage": state.usage(), "cost_usd": state.cost().exact(), "estimated_cost_usd": state.cost().upper_bound() });
    let step_json = |step: Option<&StepState>| {
        step.map(|step| {
            let model = step.model.as_ref().map(ToString::to_string);
            json!({
                "status": step.status, "model": model, "attempts": step.attempts, "usage": step.usage,
                "cost_usd": step.cost.exact(), "estimated_cost_usd": step.cost.upper_bound(),
            })
        })
    };
    let steps: Vec<Value> = pairs
        .iter()
        .map(|(key, a, b)| {
            let (is_same, diff) = (differences(*a, *b).is_empty(), artifact_diff(key, *a, *b));
            json!({ "name": key, "same": is_same && diff.is_empty(), "a": step_json(*a), "b": step_json(*b), "diff": diff })
        })
        .collect();
    json!({ "a": run_json(a), "b": run_json(b), "steps": steps })
}
