//! `orch runs diff RUN OTHER`: shows the differences between the steps and artifacts of two runs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::files::{self, ChangeSet, FileChange, FileState};
use crate::model::event::RunStatus;
use crate::model::{Artifact, RunState, StepKey, StepState};
use crate::report::human;
use crate::runner::ExitStatus;
use crate::store::{Journal, RunRow};

pub(super) fn run(
    journal: &Journal,
    first: &RunRow,
    second: &RunRow,
    output: OutputFormat,
    ui: &Ui,
) -> Result<ExitStatus> {
    let load_state = |row: &RunRow| -> Result<RunState> {
        let mut state = RunState::fold(row.run, &journal.events(row.run)?);
        match row.status {
            RunStatus::Interrupted => state.mark_interrupted(),
            status => state.status = status,
        }
        Ok(state)
    };
    let (first, second) = (load_state(first)?, load_state(second)?);
    let pairs = step_pairs(&first, &second);
    if output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", comparison_json(&first, &second, &pairs)))?;
        return Ok(ExitStatus::Success);
    }
    let mut lines = vec![format!("run {} → {}", first.run, second.run)];
    lines.extend(describe_change("status", first.status.as_str(), second.status.as_str()));
    let (first_usage, second_usage) = (human::format_usage(&first.usage()), human::format_usage(&second.usage()));
    lines.extend(describe_change("tokens", &first_usage, &second_usage));
    let (first_cost, second_cost) = (human::format_cost(first.cost()), human::format_cost(second.cost()));
    lines.extend(describe_change("cost", &first_cost, &second_cost));
    for (key, first, second) in &pairs {
        let differences = describe_differences(*first, *second);
        if !differences.is_empty() {
            lines.push(format!("{}: {}", ui.stdout_style.bold(key), differences.join("; ")));
        }
    }
    if lines.len() == 1 {
        lines.push("the runs have the same status, usage and costs".to_owned());
    }
    ui.write_text(&lines.join("\n"))?;
    for (key, first, second) in &pairs {
        let diff = artifact_diff(key, *first, *second);
        if !diff.is_empty() {
            ui.write_text(&format!("\n{diff}"))?;
        }
    }
    Ok(ExitStatus::Success)
}

/// A step in both runs. The state is `None` for a run that does not have the step.
type StepPair<'a> = (StepKey, Option<&'a StepState>, Option<&'a StepState>);

/// Pairs the steps of both runs: first the steps of the first run, then the steps that only the second run has.
fn step_pairs<'a>(first: &'a RunState, second: &'a RunState) -> Vec<StepPair<'a>> {
    let mut pairs: Vec<StepPair<'_>> = first
        .steps_in_file_order()
        .into_iter()
        .map(|step| (step.key.clone(), Some(step), second.step(&step.key)))
        .collect();
    let only_in_second = second.steps_in_file_order().into_iter().filter(|step| first.step(&step.key).is_none());
    pairs.extend(only_in_second.map(|step| (step.key.clone(), None, Some(step))));
    pairs
}

fn describe_change(label: &str, first: &str, second: &str) -> Option<String> {
    (first != second).then(|| format!("{label} {first} → {second}"))
}

fn describe_differences(first: Option<&StepState>, second: Option<&StepState>) -> Vec<String> {
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (Some(_), None) => return vec!["only in the first run".to_owned()],
        (None, Some(_)) => return vec!["only in the second run".to_owned()],
        (None, None) => return Vec::new(),
    };
    let model_name = |step: &StepState| step.model.as_ref().map_or_else(String::new, ToString::to_string);
    [
        describe_change("status", first.status.as_str(), second.status.as_str()),
        describe_change("model", &model_name(first), &model_name(second)),
        describe_change("attempts", &first.attempts.to_string(), &second.attempts.to_string()),
        describe_change("tokens", &human::format_usage(&first.usage), &human::format_usage(&second.usage)),
        describe_change("cost", &human::format_cost(first.cost), &human::format_cost(second.cost)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The name of an artifact in a diff: its file, or a path with the key of its step if it has no file.
fn diff_name(key: &StepKey, artifact: &Artifact) -> String {
    artifact
        .path
        .clone()
        .unwrap_or_else(|| format!("{key}/{}", Artifact::file_path(&artifact.name, artifact.value.is_string())))
}

fn artifact_diff(key: &StepKey, first: Option<&StepState>, second: Option<&StepState>) -> String {
    let artifact_of = |step: Option<&StepState>| step.and_then(|step| step.artifact.clone());
    let (before, after) = (artifact_of(first), artifact_of(second));
    let Some(path) = after.as_ref().or(before.as_ref()).map(|artifact| diff_name(key, artifact)) else {
        return String::new();
    };
    let to_file_state = |artifact: Artifact| FileState { content: artifact.file_bytes().into(), mode: None };
    let change = FileChange { path, before: before.map(to_file_state), after: after.map(to_file_state) };
    files::diff(&ChangeSet { files: vec![change], new_folders: Vec::new() })
}

fn comparison_json(first: &RunState, second: &RunState, pairs: &[StepPair<'_>]) -> Value {
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
        .map(|(key, first, second)| {
            let is_same = describe_differences(*first, *second).is_empty();
            let diff = artifact_diff(key, *first, *second);
            json!({
                "name": key, "same": is_same && diff.is_empty(), "a": step_json(*first), "b": step_json(*second),
                "diff": diff,
            })
        })
        .collect();
    json!({ "a": run_json(first), "b": run_json(second), "steps": steps })
}
