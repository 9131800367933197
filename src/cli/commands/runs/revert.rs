//! `orch runs revert`: reverts the files that `write:` steps, CLI agents and tools of a run changed.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::files::{RevertOutcome, RevertedFile, Tree, UnrecordedChange};
use crate::model::RunState;
use crate::model::visible::escape_line_breaks;
use crate::runner::project_state::{find_run, project_root};
use crate::runner::recorded_changes::{ChangeGap, RecordedChanges};
use crate::runner::{ExitStatus, RunLocks, RunnerError, locate, remove_project_placeholders, run_workspace};
use crate::store::Workspace;

use super::open_journal;

/// Revert the file changes of a run
///
/// Restores the files that `write:` steps, CLI agents and tools of the run changed in the workspace to their state
/// before the run. orch skips and lists the files that were changed since, and the exit code is then 1; --force reverts
/// these files too. orch also lists the files that it can't restore because it did not record their contents, and says
/// if it does not know all changed files; the exit code is 1 in both cases. If a write fails, orch restores none of the
/// files. orch does not know the changes of commands, and does not revert artifact files. To write the files again,
/// start a new run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs diff 7d1d            # shows the changes\n  orch runs revert 7d1d --dry-run\n  orch runs revert 7d1d"
)]
pub(in crate::cli) struct RunsRevertArgs {
    /// The ID of the run, or the start of it
    #[arg(value_name = "RUN")]
    run: String,

    /// The workspace; required if the run was imported or was started in another copy of the project [default: the
    /// run's workspace]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// Also revert files that were changed since
    #[arg(long)]
    force: bool,

    /// Only show what orch would do
    #[arg(long)]
    dry_run: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsRevertArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let root = project_root(&current_dir);
    let journal = open_journal(&args.state, &root)?;
    let row = find_run(&journal, &args.run)?;
    let run = RunState::fold(row.run, &journal.events(row.run)?);
    let location = locate(&journal, &run, &args.state.state_folder(), &root)?;
    let workspace_path = run_workspace(&journal, row.run, args.workspace.as_ref(), &location, &current_dir)?;
    let workspace = Workspace::open_existing(&workspace_path)?.ok_or_else(|| {
        RunnerError::usage(format!("the workspace `{}` of run {} does not exist", workspace_path.display(), row.run))
    })?;
    let _locks = RunLocks::acquire(&journal, row.run, &workspace)?;
    remove_project_placeholders(&workspace, &location.root, &[])?;
    let events = journal.events(row.run)?;
    let recorded = RecordedChanges::read(&journal, row.run, &events)?;
    let (change_sets, unrecorded) = (recorded.change_sets_to_revert(), recorded.unrecorded_changes());
    let tree = Tree::open(workspace.folder())?;
    let reverted = if args.dry_run {
        Ok(tree.preview_revert(&change_sets, &unrecorded, args.force))
    } else {
        tree.revert_all(&change_sets, &unrecorded, args.force)
    };
    let reverted = reverted.map_err(|failure| RunnerError::from(failure).with_status(ExitStatus::Failed))?;
    if args.output == OutputFormat::Json {
        let report = json!({
            "run": row.run.to_string(),
            "workspace": workspace.path_in_journal(),
            "dry_run": args.dry_run,
            "files": reverted.files,
            "incomplete": recorded.gaps,
            "commands_ran": recorded.commands_ran,
        });
        ui.write_data(&format!("{report:#}"))?;
    } else {
        print_files(args, &reverted.files, ui)?;
        print_gaps(&recorded.gaps, ui);
        if reverted.files.is_empty() {
            ui.print_message(recorded.describe_no_changes(row.run));
        }
        print_hints(&reverted.files, &unrecorded, ui);
    }
    let is_incomplete =
        !recorded.gaps.is_empty() || reverted.files.iter().any(|file| file.outcome == RevertOutcome::Skipped);
    Ok(if is_incomplete { ExitStatus::Failed } else { ExitStatus::Success })
}

fn print_files(args: &RunsRevertArgs, files: &[RevertedFile], ui: &Ui) -> Result<()> {
    for file in files {
        let (outcome, reason) = match file.outcome {
            RevertOutcome::Reverted if args.dry_run => ("would revert", None),
            RevertOutcome::Reverted => ("reverted", None),
            RevertOutcome::Unchanged => ("unchanged", None),
            RevertOutcome::Skipped => ("skipped", file.reason.as_deref()),
        };
        let reason = reason.map(|reason| format!(": it {reason}")).unwrap_or_default();
        let width = if args.dry_run { 12 } else { 9 };
        ui.write_row(&format!("{outcome:<width$} "), &escape_line_breaks(&format!("{}{reason}", file.path)))?;
    }
    Ok(())
}

/// Prints where the record of the changes is incomplete.
fn print_gaps(gaps: &[ChangeGap], ui: &Ui) {
    for gap in gaps {
        let (warning, gap) = (ui.stderr_style.warning("warning:"), gap.to_string());
        ui.print_always(&format!("{warning} {}; the revert leaves them as they are", escape_line_breaks(&gap)));
    }
}

/// Prints what the user can do about the skipped files.
fn print_hints(files: &[RevertedFile], unrecorded: &[UnrecordedChange], ui: &Ui) {
    let is_unknown =
        |file: &&RevertedFile| unrecorded.iter().any(|change| change.hides_original && change.path == file.path);
    let skipped = || files.iter().filter(|file| file.outcome == RevertOutcome::Skipped);
    let unknown_count = skipped().filter(is_unknown).count();
    let hint = ui.stderr_style.bold("hint:");
    if skipped().count() > unknown_count {
        ui.print_always(&format!(
            "\n{hint} --force also reverts files that were changed since, unless they are no longer regular files"
        ));
    }
    if unknown_count > 0 {
        ui.print_always(&format!(
            "\n{hint} orch has no earlier content of the files that it did not record; restore them from another copy"
        ));
    }
}
