//! `--clean`: removes the files that earlier runs created in a workspace, unless the files have changed since.

use std::collections::{HashMap, HashSet};

use crate::files::{ChangeSet, FileState, RevertOutcome, Tree};
use crate::model::visible::escape_line_breaks;
use crate::store::{Journal, OwnedFiles, Workspace};

use super::Runner;
use super::error::{ExitStatus, RunnerError};
use super::writes::step_writes;

/// Removes the artifact files, and the files that `write` steps created, if their contents are unchanged. Does not
/// remove project files.
pub(crate) fn remove_created_files(
    journal: &Journal,
    workspace: &Workspace,
    owned_files: &OwnedFiles,
    project_files: &[String],
    runner: &Runner,
) -> Result<(), RunnerError> {
    let (mut removed, mut changed) = workspace.remove_owned_files(owned_files, project_files)?;
    let mut change_sets = created_files(journal, &workspace.path_in_journal())?;
    for change_set in &mut change_sets {
        change_set.files.retain(|change| !project_files.contains(&change.path));
    }
    let reverted = Tree::open(workspace.folder()).and_then(|tree| tree.revert_all(&change_sets, &[], false));
    for file in reverted.map_err(|failure| RunnerError::from(failure).with_status(ExitStatus::Usage))?.files {
        match file.outcome {
            RevertOutcome::Reverted => removed.push(file.path),
            RevertOutcome::Skipped => changed.push(file.path),
            RevertOutcome::Unchanged => {}
        }
    }
    if !removed.is_empty() {
        runner.reporter.info(&format!("removed {}", escape_line_breaks(&removed.join(", "))));
    }
    if !changed.is_empty() {
        let changed = changed.join(", ");
        let changed = escape_line_breaks(&changed);
        runner.reporter.note(&format!("{changed} changed since orch wrote it, so it is not removed"));
    }
    Ok(())
}

/// The changes by the `write` steps of all runs in a workspace, oldest run first, without the files that orch did not
/// create.
fn created_files(journal: &Journal, workspace_path: &str) -> Result<Vec<ChangeSet>, RunnerError> {
    let mut runs = journal.runs(usize::MAX)?;
    runs.retain(|row| row.workspace == workspace_path);
    runs.sort_by_key(|row| row.run.0);
    let mut change_sets = Vec::new();
    for row in runs {
        // A journal entry from another machine or folder does not prove that orch created files here.
        if journal.is_foreign(row.run)? {
            continue;
        }
        let writes = step_writes(row.run, &journal.events(row.run)?)?.into_iter();
        change_sets.extend(writes.filter(|write| !write.is_agent_turn).map(|write| write.changes));
    }
    let foreign = foreign_paths(&change_sets);
    for change_set in &mut change_sets {
        change_set.files.retain(|change| !foreign.contains(&change.path));
    }
    Ok(change_sets)
}

/// The paths at which a step overwrote a file that orch had not written. orch did not create these files, even if later
/// steps wrote them again.
fn foreign_paths(change_sets: &[ChangeSet]) -> HashSet<String> {
    let mut written: HashMap<&str, Option<&FileState>> = HashMap::new();
    let mut foreign = HashSet::new();
    for change in change_sets.iter().flat_map(|change_set| &change_set.files) {
        let last_written = written.insert(&change.path, change.after.as_ref()).flatten();
        if change.before.is_some() && change.before.as_ref() != last_written {
            foreign.insert(change.path.clone());
        }
    }
    foreign
}
