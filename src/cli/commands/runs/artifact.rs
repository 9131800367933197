//! `orch runs artifact`: prints a recorded artifact.

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::{Artifact, RunState, StepState};
use crate::runner::project_state::project_root;
use crate::runner::{ExitStatus, RunnerError};
use crate::store::RunRow;

use super::{find_run_or_latest, open_journal};

/// Print an artifact as orch recorded it
///
/// Prints the recorded bytes of the artifact's file, even if the file was changed or deleted since: text for an
/// artifact in a file `NAME.md`, else JSON. If a loop produced the artifact in several iterations, orch prints the
/// artifact of the last iteration; --step selects another iteration. For an artifact of the items of a `for_each`,
/// select the item with --step.
#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Examples:\n  orch runs artifact plan\n  orch runs artifact 7d1d plan > plan.json\n  orch runs artifact 7d1d code --step 'fix[0]/code'"
)]
pub(in crate::cli) struct RunsArtifactArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The name of the artifact
    #[arg(value_name = "NAME")]
    name: String,

    /// The step that produced the artifact, as named by `orch runs show`: `plan`, `work[3]`, `fix[0]/code`
    #[arg(long, value_name = "KEY")]
    step: Option<String>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsArtifactArgs, ui: &Ui) -> Result<ExitStatus> {
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let row = find_run_or_latest(&journal, args.run.as_deref())?;
    let state = RunState::fold(row.run, &journal.events(row.run)?);
    let (step, artifact) = select_artifact(args, &row, &state)?;
    if args.output == OutputFormat::Json {
        let json_value = json!({
            "run": row.run.to_string(), "step": step.key, "name": artifact.name, "path": artifact.path,
            "digest": artifact.digest, "value": artifact.value,
        });
        ui.write_data(&format!("{json_value:#}"))?;
    } else {
        ui.write_data(&String::from_utf8_lossy(&artifact.file_bytes()))?;
    }
    Ok(ExitStatus::Success)
}

fn select_artifact<'a>(
    args: &RunsArtifactArgs,
    row: &RunRow,
    state: &'a RunState,
) -> Result<(&'a StepState, &'a Artifact), RunnerError> {
    let artifacts: Vec<(&StepState, &Artifact)> =
        state.steps_in_file_order().into_iter().filter_map(|step| Some((step, step.artifact.as_ref()?))).collect();
    let is_requested = |(step, artifact): &&(&StepState, &Artifact)| {
        artifact.name == args.name && args.step.as_ref().is_none_or(|key| step.key.as_str() == key)
    };
    let matches: Vec<_> = artifacts.iter().filter(is_requested).copied().collect();
    // An artifact that is local to an item of a `for_each` or to a called pipeline has no `path`. Any other takes
    // precedence, the latest first.
    let workspace_match =
        matches.iter().filter(|(_, artifact)| artifact.path.is_some()).max_by_key(|(step, _)| step.ended);
    match (workspace_match, matches.as_slice()) {
        (Some(artifact), _) | (None, [artifact]) => Ok(*artifact),
        (None, []) => Err(not_found_error(args, row, &artifacts)),
        (None, steps) => {
            let keys: Vec<String> = steps.iter().map(|(step, _)| format!("`{}`", step.key)).collect();
            Err(RunnerError::usage(format!("several steps of run {} produced `{}`", row.run, args.name))
                .with_hint(format!("select one with --step: {}", list_names(&keys))))
        }
    }
}

fn not_found_error(args: &RunsArtifactArgs, row: &RunRow, artifacts: &[(&StepState, &Artifact)]) -> RunnerError {
    let step_suffix = args.step.as_ref().map(|key| format!(" of step `{key}`")).unwrap_or_default();
    let error = RunnerError::usage(format!("run {} has no artifact `{}`{step_suffix}", row.run, args.name));
    let mut names: Vec<String> = artifacts.iter().map(|(_, artifact)| format!("`{}`", artifact.name)).collect();
    names.sort_unstable();
    names.dedup();
    error.with_hint(if names.is_empty() {
        "the run has no artifacts yet".to_owned()
    } else {
        format!("the run has {}", list_names(&names))
    })
}

/// Lists at most ten names, and counts the others.
fn list_names(names: &[String]) -> String {
    let listed: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let omitted = names.len().saturating_sub(listed.len());
    let suffix = if omitted > 0 { format!(" and {omitted} more") } else { String::new() };
    format!("{}{suffix}", listed.join(", "))
}
