//! `orch runs revert`: takes back what a run's `write:` steps and agent programs changed.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::files::{ChangeSet, RevertOutcome, RevertedFile, Tree};
use crate::model::RunState;
use crate::model::visible::one_line;
use crate::session::writes::written;
use crate::session::{ExitStatus, RunLocks, SessionError, locate, run_workspace};
use crate::store::{RunRow, WorkspaceView};

use super::{find, journal, root};

/// Take back what a run's `write:` steps and agent programs changed in the workspace
///
/// Every file becomes what it was before the run, all or none. A file that somebody
/// changed since orch wrote it is left and named, and the exit code is 1; --force puts it back
/// too. The journal stays as it is: run the pipeline anew to write the files again. What
/// commands changed is not known and not taken back; artifact files stay.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs diff 7d1d            what would be taken back\n  orch runs revert 7d1d --dry-run\n  orch runs revert 7d1d"
)]
pub(in crate::cli) struct RunsRevertArgs {
    /// The run, by its id or the start of it
    #[arg(value_name = "RUN")]
    run: String,

    /// The workspace, for a run whose record came from elsewhere [default: the one on record]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// Put back also what was changed since
    #[arg(long)]
    force: bool,

    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsRevertArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let root = root(&here);
    let journal = journal(&args.state, &root)?;
    let row = find(&journal, &args.run)?;
    let run = RunState::fold(row.run, &journal.events(row.run)?);
    let recorded = locate(&journal, &run, &args.state.named(), &root)?;
    let workspace = run_workspace(&journal, row.run, args.workspace.as_ref(), &recorded, &here)?;
    let view = WorkspaceView::existing(&workspace)?.ok_or_else(|| {
        SessionError::usage(format!("the workspace `{}` of run {} is not there", workspace.display(), row.run))
    })?;
    let _locks = RunLocks::take(&journal, row.run, &view)?;
    let events = journal.events(row.run)?;
    let looks: Vec<ChangeSet> = written(row.run, &events)?.into_iter().map(|written| written.look).collect();
    let tree = Tree::open(view.folder())?;
    let reverted =
        if args.dry_run { tree.would_revert(&looks, args.force) } else { tree.revert_all(&looks, args.force) };
    let reverted = reverted.map_err(|failure| SessionError::from(failure).with_status(ExitStatus::Failed))?;
    tell(args, &row, &view, &reverted.files, ui)?;
    let left = reverted.files.iter().any(|file| file.ending == RevertOutcome::Left);
    Ok(if left { ExitStatus::Failed } else { ExitStatus::Success })
}

fn tell(
    args: &RunsRevertArgs,
    row: &RunRow,
    view: &WorkspaceView,
    files: &[RevertedFile],
    ui: &Ui,
) -> Result<(), SessionError> {
    if args.output == OutputFormat::Json {
        let text = json!({
            "run": row.run.to_string(), "workspace": view.name(), "dry_run": args.dry_run, "files": files,
        });
        return ui.data(&format!("{text:#}"));
    }
    for file in files {
        let (word, why) = match file.ending {
            RevertOutcome::Restored if args.dry_run => ("would be put back", None),
            RevertOutcome::Restored => ("put back", None),
            RevertOutcome::Unchanged => ("was so already", None),
            RevertOutcome::Left => ("left", file.reason.as_deref()),
        };
        let why = why.map(|why| format!(": it {why}")).unwrap_or_default();
        ui.text(&one_line(&format!("{word:<9} {}{why}", file.path)))?;
    }
    if files.is_empty() {
        ui.say(format!("run {} changed no files", row.run));
    }
    if files.iter().any(|file| file.ending == RevertOutcome::Left) {
        ui.always(&format!("\n{} --force puts back what was left, if it is still a file", ui.style.strong("hint:")));
    }
    Ok(())
}
