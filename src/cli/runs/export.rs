//! `orch runs export`: a run as one JSON file.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::files::write_whole;
use crate::model::visible::shown_path;
use crate::session::{ExitStatus, SessionError};
use crate::store::ExportedRun;

use super::{journal, pick, root};

/// Write a run into one JSON file
///
/// The file holds every event with what is kept in blobs: inputs, replies, artifacts and what
/// `write:` steps replaced, as they were recorded, without keys. It is for looking into a run
/// elsewhere, for keeping one that is deleted here, and for `orch runs import`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs export 7d1d --to run.json\n  orch runs export 7d1d | jq '.events | length'"
)]
pub(in crate::cli) struct RunsExportArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The file, which must not be there yet; standard output when left out
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsExportArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let journal = journal(&args.state, &root(&here()?))?;
    let row = pick(&journal, args.run.as_deref())?;
    let events = journal.events(row.run)?;
    let count = events.len();
    let whole = ExportedRun::new(row.run, events);
    let text = whole.to_text().map_err(|error| SessionError::internal(error.to_string()))?;
    let Some(file) = &args.to else {
        ui.data(&text)?;
        return Ok(ExitStatus::Success);
    };
    write_whole(file, text.as_bytes(), false).map_err(|error| {
        let wrong = SessionError::usage(format!("can't write `{}`: {error}", file.display()));
        match error.kind() {
            ErrorKind::AlreadyExists => wrong.hint("name a file that is not there yet"),
            ErrorKind::NotFound => wrong.hint("the file's folder must be there"),
            _ => wrong,
        }
    })?;
    ui.say(format!("run {} with {count} events is in {}", row.run, shown_path(file)));
    Ok(ExitStatus::Success)
}
