//! `orch runs export`: exports a run as one JSON file.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::StateArgs;
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::files::write_atomically;
use crate::model::counted;
use crate::model::visible::path_for_display;
use crate::runner::project_state::project_root;
use crate::runner::{ExitStatus, RunnerError};
use crate::store::ExportedRun;

use super::{find_run_or_latest, open_journal};

/// Export a run as one JSON file
///
/// The file contains every recorded event, including inputs, replies, artifacts and the contents that `write:` steps
/// replaced. orch redacted the keys that it knew in them, except in replaced contents. Use the file to inspect a run on
/// another machine with `orch runs import`, or to archive a run before you delete it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs export 7d1d --to run.json\n  orch runs export 7d1d | jq '.events | length'"
)]
pub(in crate::cli) struct RunsExportArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The new file to write to [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsExportArgs, ui: &Ui) -> Result<ExitStatus> {
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let row = find_run_or_latest(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let event_count = events.len();
    let exported = ExportedRun::new(row.run, events);
    let text = exported.to_text()?;
    let Some(file) = &args.to else {
        ui.write_data(&text)?;
        return Ok(ExitStatus::Success);
    };
    write_atomically(file, text.as_bytes(), false).map_err(|error| {
        let write_error = RunnerError::usage(format!("can't write `{}`: {error}", file.display()));
        match error.kind() {
            ErrorKind::AlreadyExists => write_error.with_hint("select a file that does not exist yet"),
            ErrorKind::NotFound => write_error.with_hint("the folder of the file must exist"),
            _ => write_error,
        }
    })?;
    let events = counted(event_count, "event");
    ui.print_message(format!("exported run {} with {events} to {}", row.run, path_for_display(file)));
    Ok(ExitStatus::Success)
}
