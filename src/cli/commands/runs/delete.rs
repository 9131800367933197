//! `orch runs delete`: deletes runs from the journal.

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::RunId;
use crate::report::human;
use crate::runner::ExitStatus;
use crate::runner::project_state::{find_run, project_root};
use crate::store::{GcSummary, Journal, Lock};

use super::open_journal;

/// The maximum number of runs that orch locks and deletes in one transaction.
const BATCH_SIZE: usize = 100;

/// Delete the records of runs
///
/// Permanently deletes the events, replies and artifacts of runs from the journal. orch keeps the files in workspaces
/// and the data that other runs share. It refuses to delete a run while a process executes the run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs delete 7d1d c395\n  orch runs export 7d1d --to run.json && orch runs delete 7d1d"
)]
pub(in crate::cli) struct RunsDeleteArgs {
    /// The IDs of the runs, or the starts of them
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsDeleteArgs, ui: &Ui) -> Result<ExitStatus> {
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let mut runs: Vec<RunId> = Vec::new();
    for id in &args.runs {
        let run = find_run(&journal, id)?.run;
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let summary = delete_runs(&journal, &runs)?;
    if args.output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", summary.to_json(&runs, false)))?;
    } else {
        ui.print_message(summary.describe("deleted"));
    }
    Ok(ExitStatus::Success)
}

/// The number of deleted runs, events and blobs.
#[derive(Debug, Default)]
pub(super) struct DeletedRuns {
    pub(super) runs: usize,
    pub(super) events: usize,
    pub(super) removed_blobs: GcSummary,
}

impl DeletedRuns {
    /// A message with these numbers. It starts with `verb`.
    pub(super) fn describe(&self, verb: &str) -> String {
        let format_count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let blobs = if self.removed_blobs.blobs == 0 {
            String::new()
        } else {
            format!(
                " and {} ({})",
                format_count(self.removed_blobs.blobs, "blob"),
                human::format_bytes(self.removed_blobs.bytes)
            )
        };
        let events =
            if self.events == 0 { String::new() } else { format!(" with {}", format_count(self.events, "event")) };
        format!("{verb} {}{events}{blobs}", format_count(self.runs, "run"))
    }

    pub(super) fn to_json(&self, runs: &[RunId], dry_run: bool) -> serde_json::Value {
        let run_ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
        json!({
            "runs": run_ids, "dry_run": dry_run, "events": self.events, "blobs": self.removed_blobs.blobs,
            "blob_bytes": self.removed_blobs.bytes,
        })
    }
}

/// Deletes runs, and the blobs that no other run uses. Fails if a process executes one of the runs.
pub(super) fn delete_runs(journal: &Journal, runs: &[RunId]) -> Result<DeletedRuns> {
    let mut summary = DeletedRuns::default();
    let mut blobs = Vec::new();
    let owner = format!("process {} (deleting runs)", std::process::id());
    for batch in runs.chunks(BATCH_SIZE) {
        let mut locks = Vec::new();
        for run in batch {
            locks.push(Lock::acquire(&journal.lock_file(*run), &format!("run {run}"), &owner)?.removed_on_drop());
        }
        let deleted = journal.delete(batch)?;
        drop(locks.into_iter().map(Lock::ignoring_former_owner).collect::<Vec<_>>());
        summary.runs += batch.len();
        summary.events += deleted.events;
        blobs.extend(deleted.blobs);
    }
    blobs.sort_unstable();
    blobs.dedup();
    summary.removed_blobs = journal.remove_blobs(&blobs)?;
    Ok(summary)
}
