//! `orch runs delete`: takes runs out of the journal.

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::RunId;
use crate::report::human;
use crate::session::{ExitStatus, SessionError};
use crate::store::{Journal, Lock, Swept};

use super::{find, journal, root};

/// So many runs are deleted at once; each of them needs its lock.
const BATCH: usize = 100;

/// Delete what was recorded of runs
///
/// Takes their events, replies and artifacts out of the journal, for good. Files in workspaces
/// stay, and what other runs share stays. A run that a process is working on is refused.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs delete 7d1d c395\n  orch runs export 7d1d --to run.json && orch runs delete 7d1d"
)]
pub(in crate::cli) struct RunsDeleteArgs {
    /// The runs, by their ids or the starts of them
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsDeleteArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let journal = journal(&args.state, &root(&here()?))?;
    let mut runs: Vec<RunId> = Vec::new();
    for name in &args.runs {
        let run = find(&journal, name)?.run;
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let gone = delete(&journal, &runs)?;
    if args.output == OutputFormat::Json {
        ui.data(&format!("{:#}", gone.as_json(&runs, false)))?;
    } else {
        ui.say(gone.words("deleted"));
    }
    Ok(ExitStatus::Success)
}

/// What was deleted.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) runs: usize,
    pub(super) events: usize,
    pub(super) swept: Swept,
}

impl Gone {
    /// The same for people.
    pub(super) fn words(&self, verb: &str) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let freed = if self.swept.blobs == 0 {
            String::new()
        } else {
            format!(" and {} ({})", count(self.swept.blobs, "blob"), human::bytes(self.swept.bytes))
        };
        let events = if self.events == 0 { String::new() } else { format!(" with {}", count(self.events, "event")) };
        format!("{verb} {}{events}{freed}", count(self.runs, "run"))
    }

    pub(super) fn as_json(&self, runs: &[RunId], dry_run: bool) -> serde_json::Value {
        let names: Vec<String> = runs.iter().map(ToString::to_string).collect();
        json!({
            "runs": names, "dry_run": dry_run, "events": self.events, "blobs": self.swept.blobs,
            "blob_bytes": self.swept.bytes,
        })
    }
}

/// Deletes runs that nobody works on, and the blobs that nobody else uses.
pub(super) fn delete(journal: &Journal, runs: &[RunId]) -> Result<Gone, SessionError> {
    let mut gone = Gone::default();
    let mut blobs = Vec::new();
    let me = format!("process {} (deleting runs)", std::process::id());
    for batch in runs.chunks(BATCH) {
        let mut locks = Vec::new();
        for run in batch {
            locks.push(Lock::take(&journal.lock_file(*run), &format!("run {run}"), &me)?.disposable());
        }
        let deleted = journal.delete(batch)?;
        drop(locks.into_iter().map(Lock::obsolete).collect::<Vec<_>>());
        gone.runs += batch.len();
        gone.events += deleted.events;
        blobs.extend(deleted.blobs);
    }
    blobs.sort_unstable();
    blobs.dedup();
    gone.swept = journal.sweep(&blobs)?;
    Ok(gone)
}
