//! `orch runs import`: a run from the file of another journal.

use std::path::PathBuf;

use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::files::{FileChange, FileState, check_path, read_bounded};
use crate::model::RunId;
use crate::model::event::{Event, Fact};
use crate::session::writes::written;
use crate::session::{ExitStatus, SessionError};
use crate::store::{ExportedRun, ExportedRunError, Journal};

use super::root;

/// Read a run from a file that `orch runs export` wrote
///
/// The run can then be shown, compared and exported again. Its record may come from anybody: to
/// resume or revert it writes only in a workspace that you name with --workspace, its project is
/// the one here, and `--reuse` takes no results from it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  orch runs import run.json\n  orch runs import run.json --state /tmp/looked-at")]
pub(in crate::cli) struct RunsImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    state: State,
}

/// The largest file that is imported.
const MAX_BYTES: u64 = 512 << 20;

pub(super) fn run(args: &RunsImportArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let refused = |why: String| SessionError::usage(format!("can't import `{}`: {why}", args.file.display()));
    let hint = "it must be a file that `orch runs export` wrote";
    let bytes = read_bounded(&args.file, MAX_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => refused(error.to_string()).hint(hint),
        _ => SessionError::unreadable(&args.file, &error).hint(hint),
    })?;
    let whole = ExportedRun::read(bytes).map_err(|error| {
        let hint = if matches!(error, ExportedRunError::OtherVersion(_)) { "install the newer orch" } else { hint };
        refused(error.to_string()).hint(hint)
    })?;
    acceptable(whole.run, &whole.events).map_err(|why| refused(why).hint("nothing was imported"))?;
    let journal = Journal::open(&args.state.folder(&root(&here()?)))?;
    journal.import(whole.run, &whole.events)?;
    ui.say(format!("run {} is here, with {} events", whole.run, whole.events.len()));
    Ok(ExitStatus::Success)
}

/// Whether every file that the records name may be written, with the mode that it records, by the rules of `write`; else which is the first that may not.
fn acceptable(run: RunId, events: &[Event]) -> Result<(), String> {
    let written = written(run, events).map_err(|error| error.message().to_owned())?;
    let looked = written.iter().flat_map(|written| {
        let files = written.look.files.iter().map(|change| change.path.as_str());
        files.chain(written.look.new_folders.iter().map(String::as_str))
    });
    let shown = events.iter().filter_map(|event| {
        let artifact = match &event.fact {
            Fact::StepCompleted(fact) => fact.artifact.as_ref(),
            Fact::ArtifactAccepted(fact) => Some(&fact.artifact),
            Fact::StepReused(fact) => fact.renamed_artifact.as_ref(),
            _ => None,
        };
        artifact?.path.as_deref()
    });
    looked.chain(shown).try_for_each(|path| {
        check_path(path).map_err(|why| format!("it records the file {path:?}, and that path {why}"))
    })?;
    let mut changes = written.iter().flat_map(|written| &written.look.files);
    let lends = |change: &&FileChange| change.before.iter().chain(&change.after).any(FileState::lends_rights);
    match changes.find(lends) {
        None => Ok(()),
        Some(change) => Err(format!(
            "it records the file {:?} with a mode above 0777, which lets whoever runs the file act as its owner",
            change.path
        )),
    }
}
