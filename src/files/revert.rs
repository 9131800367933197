//! Reverts change sets that were applied.

use std::collections::HashMap;

use crate::model::{Class, Failure};

use super::apply::acceptable;
use super::commit::{Move, commit, state, sweep};
use super::problem::Problems;
use super::record::{
    ChangeKind, ChangeSet, FileChange, FileState, RevertOutcome, Reverted, RevertedFile, shown_difference, shows,
};
use super::together;
use super::tree::{Blocked, Tree};

/// What to do with one file.
enum RevertPlan<'a> {
    Move(Move<'a>),
    End(RevertOutcome, Option<String>),
}

impl Tree {
    /// Restores every file of the change set to its state before, if the disk still shows its state after. Leaves and
    /// reports a file that was changed since, unless `force` is given, and always one that is no longer a regular file.
    /// Removes the folders that the change set created if they are empty.
    pub fn revert(&self, look: &ChangeSet, force: bool) -> Result<Reverted, Failure> {
        acceptable(look)?;
        let mut moves = Vec::new();
        let mut reverted = Reverted::default();
        for change in look.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged) {
            let (ending, reason) = match self.verdict(change, force) {
                RevertPlan::End(ending, reason) => (ending, reason),
                RevertPlan::Move(step) => {
                    moves.push(step);
                    (RevertOutcome::Restored, None)
                }
            };
            reverted.files.push(RevertedFile { path: change.path.clone(), ending, reason });
        }
        commit(self, &moves, &mut |_| {})?;
        self.remove_folders(look)?;
        Ok(reverted)
    }

    /// Reverts change sets that were applied one after another, all or none, as [`Tree::revert`] does: if a file shows
    /// the state after any of them, it gets its state before the first.
    pub fn revert_all(&self, looks: &[ChangeSet], force: bool) -> Result<Reverted, Failure> {
        for look in looks {
            acceptable(look)?;
        }
        self.revert(&self.seen(looks), force)
    }

    /// What [`Tree::revert_all`] would do to each file. Writes nothing.
    pub fn would_revert(&self, looks: &[ChangeSet], force: bool) -> Result<Reverted, Failure> {
        for look in looks {
            acceptable(look)?;
        }
        let look = self.seen(looks);
        let changed = look.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged);
        let files = changed.map(|change| {
            let (ending, reason) = match state(self, &change.path) {
                Ok(found) => judge(change, found.as_ref(), force),
                Err(why) => (RevertOutcome::Left, Some(why.to_string())),
            };
            RevertedFile { path: change.path.clone(), ending, reason }
        });
        Ok(Reverted { files: files.collect() })
    }

    /// The change sets merged into one. The `after` of each file is the state that the disk shows, if one of them wrote
    /// that state.
    fn seen(&self, looks: &[ChangeSet]) -> ChangeSet {
        let mut all = together(looks);
        let mut states: HashMap<&str, Vec<&Option<FileState>>> = HashMap::new();
        for change in looks.iter().flat_map(|look| &look.files) {
            states.entry(&change.path).or_default().push(&change.after);
        }
        for change in &mut all.files {
            // A file that can't be read is reported when it should be restored.
            let Ok(found) = state(self, &change.path) else { continue };
            let known = states.get(change.path.as_str()).into_iter().flatten();
            if let Some(shown) = known.copied().find(|after| shows(found.as_ref(), after.as_ref())) {
                change.after.clone_from(shown);
            }
        }
        all
    }

    /// Removes the folders that the change set created; leaves those that are not empty or were replaced.
    fn remove_folders(&self, look: &ChangeSet) -> Result<(), Failure> {
        let mut problems = Problems::default();
        for folder in look.new_folders.iter().rev() {
            match self.remove_folder(folder) {
                Ok(_) | Err(Blocked::Kind(_)) => {}
                Err(why) => problems.add(folder, why),
            }
        }
        let hint = "remove these folders by hand if nothing needs them";
        problems.end(Class::Storage, "the files are back, but not their empty folders", hint)
    }

    fn verdict<'a>(&self, change: &'a FileChange, force: bool) -> RevertPlan<'a> {
        let found = match state(self, &change.path).and_then(|found| sweep(self, &change.path).map(|()| found)) {
            Ok(found) => found,
            Err(why) => return RevertPlan::End(RevertOutcome::Left, Some(why.to_string())),
        };
        match judge(change, found.as_ref(), force) {
            (RevertOutcome::Restored, _) => {
                RevertPlan::Move(Move { path: &change.path, from: found, to: change.before.as_ref() })
            }
            (ending, reason) => RevertPlan::End(ending, reason),
        }
    }
}

/// How reverting a file ends that has the state `found`, and why it is left.
fn judge(change: &FileChange, found: Option<&FileState>, force: bool) -> (RevertOutcome, Option<String>) {
    let restored = change.before.as_ref().filter(|before| before.lends_rights()).map(FileState::writable);
    if shows(found, change.before.as_ref()) || (restored.is_some() && shows(found, restored.as_ref())) {
        return (RevertOutcome::Unchanged, None);
    }
    if force || shows(found, change.after.as_ref()) {
        return (RevertOutcome::Restored, None);
    }
    let how = shown_difference(found, change.after.as_ref());
    (RevertOutcome::Left, Some(format!("{how} since orch wrote it")))
}
