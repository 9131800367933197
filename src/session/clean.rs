//! `--clean`: removes the files that earlier runs created in a workspace, unless the user or another program changed
//! them.

use std::collections::{HashMap, HashSet};

use crate::files::{ChangeSet, FileState, RevertOutcome, Tree};
use crate::store::{Journal, OwnedFiles, WorkspaceView};

use super::Runner;
use super::error::{ExitStatus, SessionError};
use super::writes::written;

/// Removes artifact files, and files that `write` steps created, if their bytes are still as orch wrote them. Project
/// files (`own`) stay.
pub(crate) fn clean(
    journal: &Journal,
    view: &WorkspaceView,
    records: &OwnedFiles,
    own: &[String],
    runner: &Runner,
) -> Result<(), SessionError> {
    let (mut removed, mut kept) = view.clean(records, own)?;
    let mut made = made(journal, &view.name())?;
    for look in &mut made {
        look.files.retain(|change| !own.contains(&change.path));
    }
    let reverted = Tree::open(view.folder()).and_then(|tree| tree.revert_all(&made, false));
    for file in reverted.map_err(|failure| SessionError::from(failure).with_status(ExitStatus::Usage))?.files {
        match file.ending {
            RevertOutcome::Restored => removed.push(file.path),
            RevertOutcome::Left => kept.push(file.path),
            RevertOutcome::Unchanged => {}
        }
    }
    if !removed.is_empty() {
        runner.reporter.info(&format!("removed {}", removed.join(", ")));
    }
    if !kept.is_empty() {
        runner.reporter.note(&format!("{} changed since orch wrote it, so it is kept", kept.join(", ")));
    }
    Ok(())
}

/// The changes by `write` steps in all runs of a workspace, oldest run first, without files that orch did not create.
fn made(journal: &Journal, workspace: &str) -> Result<Vec<ChangeSet>, SessionError> {
    let mut runs = journal.runs(usize::MAX >> 1)?;
    runs.retain(|row| row.workspace == workspace);
    runs.sort_by_key(|row| row.run.0);
    let mut looks = Vec::new();
    for row in runs {
        // A journal from elsewhere proves nothing about the files here.
        if journal.is_foreign(row.run)? {
            continue;
        }
        let all = written(row.run, &journal.events(row.run)?)?.into_iter();
        looks.extend(all.filter(|written| !written.turn).map(|written| written.look));
    }
    let foreign = foreign(&looks);
    for look in &mut looks {
        look.files.retain(|change| !foreign.contains(&change.path));
    }
    Ok(looks)
}

/// The paths where a step found a file that orch had not written: that file is not orch's, whatever happened to it
/// later.
fn foreign(looks: &[ChangeSet]) -> HashSet<String> {
    let mut last: HashMap<&str, Option<&FileState>> = HashMap::new();
    let mut found = HashSet::new();
    for change in looks.iter().flat_map(|look| &look.files) {
        let ours = last.insert(&change.path, change.after.as_ref()).flatten();
        if change.before.is_some() && change.before.as_ref() != ours {
            found.insert(change.path.clone());
        }
    }
    found
}
