//! `orch runs import`: imports a run from a file of `orch runs export`.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::StateArgs;
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::files::{FileChange, FileState, check_path, check_recorded_path, read_file_bounded};
use crate::model::event::{Event, Fact};
use crate::model::{RunId, counted};
use crate::runner::project_state::project_root;
use crate::runner::writes::{StepWrite, step_writes};
use crate::runner::{ExitStatus, RunnerError};
use crate::store::{ExportedRun, ExportedRunError, Journal};

/// Import a run from a file of `orch runs export`
///
/// You can then inspect, compare and export the run. orch does not trust the imported record: to resume or revert the
/// run, you must select the workspace with --workspace, and orch uses the project of the current folder. `--reuse`
/// never uses results of an imported run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  orch runs import run.json\n  orch runs import run.json --state /tmp/imported")]
pub(in crate::cli) struct RunsImportArgs {
    /// The file to import
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    state: StateArgs,
}

/// The maximum size of the file in bytes.
const MAX_FILE_BYTES: u64 = 512 << 20;

pub(super) fn run(args: &RunsImportArgs, ui: &Ui) -> Result<ExitStatus> {
    let import_error = |reason: String| RunnerError::usage(format!("can't import `{}`: {reason}", args.file.display()));
    let hint = "the file must come from `orch runs export`";
    let bytes = read_file_bounded(&args.file, MAX_FILE_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => import_error(error.to_string()).with_hint(hint),
        _ => RunnerError::unreadable(&args.file, &error).with_hint(hint),
    })?;
    let imported = ExportedRun::parse(bytes).map_err(|error| {
        let hint =
            if matches!(error, ExportedRunError::OtherVersion(_)) { "install the newer orch version" } else { hint };
        import_error(error.to_string()).with_hint(hint)
    })?;
    check_files(imported.run, &imported.events)
        .map_err(|reason| import_error(reason).with_hint("nothing was imported"))?;
    let journal = Journal::open(&args.state.folder(&project_root(&current_dir()?)))?;
    journal.import(imported.run, &imported.events)?;
    ui.print_message(format!("imported run {} with {}", imported.run, counted(imported.events.len(), "event")));
    Ok(ExitStatus::Success)
}

/// Checks that the rules for `write` steps allow the paths and modes of all files that these steps wrote in the imported
/// events. A program can give a file any name and mode, so of the files that programs changed, only the paths must stay
/// in the workspace: a revert skips each file that it can't restore, and sets no mode above 0777.
fn check_files(run: RunId, events: &[Event]) -> Result<(), String> {
    let writes = step_writes(run, events).map_err(|error| error.message().to_owned())?;
    let (turns, writes): (Vec<StepWrite>, Vec<StepWrite>) = writes.into_iter().partition(|write| write.is_agent_turn);
    let refused = |path: &str, reason: String| format!("it records the file {path:?}, and that path {reason}");
    for path in turns.iter().flat_map(paths_of) {
        check_recorded_path(path).map_err(|reason| refused(path, reason))?;
    }
    let written_paths = writes.iter().flat_map(paths_of);
    let artifact_paths = events.iter().filter_map(|event| {
        let artifact = match &event.fact {
            Fact::StepCompleted(fact) => fact.artifact.as_ref(),
            Fact::ArtifactAccepted(fact) => Some(&fact.artifact),
            Fact::StepReused(fact) => fact.renamed_artifact.as_ref(),
            _ => None,
        };
        artifact?.path.as_deref()
    });
    written_paths
        .chain(artifact_paths)
        .try_for_each(|path| check_path(path).map_err(|reason| refused(path, reason)))?;
    let mut changes = writes.iter().flat_map(|write| &write.changes.files);
    let has_privilege_bits =
        |change: &&FileChange| change.before.iter().chain(&change.after).any(FileState::has_privilege_bits);
    match changes.find(has_privilege_bits) {
        None => Ok(()),
        Some(change) => Err(format!(
            "it records the file {:?} with a mode above 0777, which lets every user run the file with the rights of its owner",
            change.path
        )),
    }
}

/// The paths of the files and folders that a step changed.
fn paths_of(write: &StepWrite) -> impl Iterator<Item = &str> {
    let files = write.changes.files.iter().map(|change| change.path.as_str());
    files.chain(write.changes.new_folders.iter().map(String::as_str))
}
