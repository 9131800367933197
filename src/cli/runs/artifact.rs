//! `orch runs artifact`: a value as it was recorded.

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::{Artifact, RunState, StepState};
use crate::session::{ExitStatus, SessionError};
use crate::store::RunRow;

use super::{journal, pick, root};

/// Print an artifact as it was recorded
///
/// Text comes as it is, everything else as JSON: the bytes of its file in the workspace,
/// whatever became of that file since. Of several rounds of a loop the last is printed;
/// --step names another, or the artifact of one item.
#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Examples:\n  orch runs artifact plan\n  orch runs artifact 7d1d plan > plan.json\n  orch runs artifact 7d1d code --step fix[0]/code"
)]
pub(in crate::cli) struct RunsArtifactArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The artifact's name
    #[arg(value_name = "NAME")]
    name: String,

    /// The step that produced it, as `orch runs show` names it: `plan`, `work[3]`, `fix[0]/code`
    #[arg(long, value_name = "KEY")]
    step: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsArtifactArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let journal = journal(&args.state, &root(&here()?))?;
    let row = pick(&journal, args.run.as_deref())?;
    let state = RunState::fold(row.run, &journal.events(row.run)?);
    let (step, artifact) = choose(args, &row, &state)?;
    if args.output == OutputFormat::Json {
        let shown = json!({
            "run": row.run.to_string(), "step": step.step, "name": artifact.name, "path": artifact.path,
            "digest": artifact.digest, "value": artifact.value,
        });
        ui.data(&format!("{shown:#}"))?;
    } else {
        ui.data(&String::from_utf8_lossy(&artifact.bytes()))?;
    }
    Ok(ExitStatus::Success)
}

fn choose<'a>(
    args: &RunsArtifactArgs,
    row: &RunRow,
    state: &'a RunState,
) -> Result<(&'a StepState, &'a Artifact), SessionError> {
    let all: Vec<(&StepState, &Artifact)> =
        state.in_order().into_iter().filter_map(|step| Some((step, step.artifact.as_ref()?))).collect();
    let named = |(step, artifact): &&(&StepState, &Artifact)| {
        artifact.name == args.name && args.step.as_ref().is_none_or(|key| step.step.as_str() == key)
    };
    let found: Vec<_> = all.iter().filter(named).copied().collect();
    // What the workspace shows goes before what is local to an item.
    let shown = found.iter().filter(|(_, artifact)| artifact.path.is_some()).max_by_key(|(step, _)| step.ended);
    match (shown, found.as_slice()) {
        (Some(one), _) | (None, [one]) => Ok(*one),
        (None, []) => Err(missing(args, row, &all)),
        (None, several) => {
            let keys: Vec<String> = several.iter().map(|(step, _)| format!("`{}`", step.step)).collect();
            Err(SessionError::usage(format!("several steps of run {} produced `{}`", row.run, args.name))
                .hint(format!("name one with --step: {}", short(&keys))))
        }
    }
}

fn missing(args: &RunsArtifactArgs, row: &RunRow, all: &[(&StepState, &Artifact)]) -> SessionError {
    let of = args.step.as_ref().map(|key| format!(" of step `{key}`")).unwrap_or_default();
    let error = SessionError::usage(format!("run {} has no artifact `{}`{of}", row.run, args.name));
    let mut names: Vec<String> = all.iter().map(|(_, artifact)| format!("`{}`", artifact.name)).collect();
    names.sort_unstable();
    names.dedup();
    error.hint(if names.is_empty() { "it has none yet".to_owned() } else { format!("it has {}", short(&names)) })
}

/// The first of many names.
fn short(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
