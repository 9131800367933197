//! `orch runs diff`: what a run changed in the workspace, or how two runs differ.

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::files::{self, ChangeKind, ChangeSet};
use crate::session::writes::{StepWrite, left_out, written};
use crate::session::{ExitStatus, SessionError};
use crate::store::{Journal, RunRow};

use super::{compare, find, journal, pick, root};

/// Show what a run changed in the workspace, or how two runs differ
///
/// With one run: a unified diff, as `git apply` takes it, of what its `write:` steps and agent programs changed.
/// Files that several steps wrote are shown once, from before the first to after the last;
/// --each shows every step on its own. It is made of the journal: what happened to the files
/// since does not show, and what commands changed is not known.
///
/// With two runs: which steps ended otherwise, needed other attempts, tokens or money, and
/// unified diffs of their artifacts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs diff 7d1d\n  orch runs diff 7d1d | git apply --reverse\n  orch runs diff 7d1d c395"
)]
pub(in crate::cli) struct RunsDiffArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Another run to compare it with
    #[arg(value_name = "OTHER")]
    other: Option<String>,

    /// Show what each step wrote on its own, in order
    #[arg(long, conflicts_with = "other")]
    each: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsDiffArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let journal = journal(&args.state, &root(&here()?))?;
    let row = pick(&journal, args.run.as_deref())?;
    match &args.other {
        Some(other) => compare::run(&journal, &row, &find(&journal, other)?, args.output, ui),
        None => one(args, &journal, &row, ui),
    }
}

fn one(args: &RunsDiffArgs, journal: &Journal, row: &RunRow, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let events = journal.events(row.run)?;
    for (step, path) in left_out(&events) {
        ui.say(format!(
            "{step}: what changed in `{path}` is not on record: it is large, no plain file, or holds a secret"
        ));
    }
    let all = written(row.run, &events)?;
    for unsure in all.iter().filter(|written| written.done.is_none()) {
        ui.say(format!("{}: whether all its files were written is not on record; left out", unsure.step));
    }
    let done: Vec<&StepWrite> = all.iter().filter(|written| written.done.is_some()).collect();
    let looks: Vec<(String, ChangeSet)> = if args.each {
        done.iter().map(|written| (written.step.to_string(), written.look.clone())).collect()
    } else {
        let looks: Vec<ChangeSet> = done.iter().map(|written| written.look.clone()).collect();
        vec![(String::new(), files::together(&looks))]
    };
    if args.output == OutputFormat::Json {
        let files: Vec<_> = looks.iter().flat_map(|(step, look)| of(step, look)).collect();
        let diff: String = looks.iter().map(|(_, look)| files::diff(look)).collect();
        let text = json!({ "run": row.run.to_string(), "workspace": row.workspace, "files": files, "diff": diff });
        ui.data(&format!("{text:#}"))?;
        return Ok(ExitStatus::Success);
    }
    let mut nothing = true;
    for (step, look) in &looks {
        let diff = files::diff(look);
        if diff.is_empty() {
            continue;
        }
        nothing = false;
        // A line before `diff --git` is a comment to git.
        let head = if step.is_empty() { String::new() } else { format!("# {step}\n") };
        ui.data(&format!("{head}{diff}"))?;
    }
    if nothing {
        ui.say(format!("run {} changed no files", row.run));
    }
    Ok(ExitStatus::Success)
}

fn of(step: &str, look: &ChangeSet) -> Vec<serde_json::Value> {
    let changed = look.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged);
    changed
        .map(|change| {
            let mut file = json!({ "path": change.path, "change": change.kind() });
            if !step.is_empty() {
                file["step"] = json!(step);
            }
            file
        })
        .collect()
}
