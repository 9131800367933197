//! `orch runs diff`: shows the file changes of a run, or the differences between two runs.

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::files::{self, ChangeKind, ChangeSet};
use crate::model::visible::escape_line_breaks;
use crate::runner::ExitStatus;
use crate::runner::project_state::{find_run, project_root};
use crate::runner::recorded_changes::{ChangeGap, RecordedChanges};
use crate::runner::writes::{StepWrite, UnrecordedFile};
use crate::store::{Journal, RunRow};

use super::{compare, find_run_or_latest, open_journal};

/// Show the file changes of a run, or the differences between two runs
///
/// With one run, orch prints the changes of its `write:` steps, CLI agents and tools as a unified diff that
/// `git apply` accepts. If several steps wrote a file, the diff shows the combined change; --each shows
/// the changes of each step separately. The diff comes from the journal: it does not show later
/// changes, and orch does not know the changes of commands. orch also names changed files whose
/// contents it did not record.
///
/// With two runs, orch prints the differences in the status, attempts, tokens and costs of their steps,
/// and unified diffs of their artifacts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs diff 7d1d\n  orch runs diff 7d1d | git apply --reverse\n  orch runs diff 7d1d c395"
)]
pub(in crate::cli) struct RunsDiffArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The run to compare the first run with
    #[arg(value_name = "OTHER")]
    other: Option<String>,

    /// Show the changes of each step separately, in order
    #[arg(long, conflicts_with = "other")]
    each: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsDiffArgs, ui: &Ui) -> Result<ExitStatus> {
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let row = find_run_or_latest(&journal, args.run.as_deref())?;
    match &args.other {
        Some(other) => compare::run(&journal, &row, &find_run(&journal, other)?, args.output, ui),
        None => print_changes(args, &journal, &row, ui),
    }
}

fn print_changes(args: &RunsDiffArgs, journal: &Journal, row: &RunRow, ui: &Ui) -> Result<ExitStatus> {
    let recorded = RecordedChanges::read(journal, row.run, &journal.events(row.run)?)?;
    for file in &recorded.unrecorded {
        let (step, path, clause) = (&file.step, escape_line_breaks(&file.path), file.clause());
        ui.print_message(format!("{step}: orch did not record the change of `{path}`: {clause}"));
    }
    let writes = &recorded.writes;
    let omitted_writes = writes.iter().filter(|write| write.applied_seq.is_none()).map(|write| ChangeGap {
        step: Some(write.step.clone()),
        reason: "orch did not record whether it wrote all files, so the diff omits this step".to_owned(),
    });
    let gaps: Vec<ChangeGap> = recorded.gaps.iter().cloned().chain(omitted_writes).collect();
    for gap in &gaps {
        ui.print_message(escape_line_breaks(&gap.to_string()));
    }
    let complete_writes: Vec<&StepWrite> = writes.iter().filter(|write| write.applied_seq.is_some()).collect();
    let changes: Vec<(String, ChangeSet)> = if args.each {
        complete_writes.iter().map(|write| (write.step.to_string(), write.changes.clone())).collect()
    } else {
        let change_sets: Vec<ChangeSet> = complete_writes.iter().map(|write| write.changes.clone()).collect();
        vec![(String::new(), files::merge_change_sets(&change_sets))]
    };
    if args.output == OutputFormat::Json {
        let files: Vec<_> = changes.iter().flat_map(|(step, change_set)| changed_files(step, change_set)).collect();
        let diff: String = changes.iter().map(|(_, change_set)| files::diff(change_set)).collect();
        let unrecorded: Vec<_> = recorded.unrecorded.iter().map(unrecorded_file).collect();
        let report = json!({
            "run": row.run.to_string(), "workspace": row.workspace, "files": files, "unrecorded": unrecorded,
            "incomplete": gaps, "commands_ran": recorded.commands_ran, "diff": diff,
        });
        ui.write_data(&format!("{report:#}"))?;
        return Ok(ExitStatus::Success);
    }
    let mut is_empty = true;
    for (step, change_set) in &changes {
        let diff = files::diff(change_set);
        if diff.is_empty() {
            continue;
        }
        is_empty = false;
        // git ignores lines before `diff --git`.
        let header = if step.is_empty() { String::new() } else { format!("# {step}\n") };
        ui.write_data(&format!("{header}{diff}"))?;
    }
    if is_empty && recorded.unrecorded.is_empty() {
        ui.print_message(recorded.describe_no_changes(row.run));
    }
    Ok(ExitStatus::Success)
}

fn unrecorded_file(file: &UnrecordedFile) -> serde_json::Value {
    json!({ "step": file.step, "path": file.path, "reason": file.clause() })
}

fn changed_files(step: &str, change_set: &ChangeSet) -> Vec<serde_json::Value> {
    let changes = change_set.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged);
    changes
        .map(|change| {
            let mut file = json!({ "path": change.path, "change": change.kind() });
            if !step.is_empty() {
                file["step"] = json!(step);
            }
            file
        })
        .collect()
}
