//! Takes back what applying a look did.

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

/// What is to be done with one file.
enum RevertPlan<'a> {
    Move(Move<'a>),
    End(RevertOutcome, Option<String>),
}

impl Tree {
    /// Puts every file of the look back as it was, where the disk still shows what the look made of it.
    /// A file that was changed since is left and told, unless `force` is given; what is no file any more
    /// is always left. Folders that the look made are removed when they are empty.
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

    /// Takes back looks that were applied one after another, all or none, as [`Tree::revert`] does: a
    /// file becomes what it was before the first of them if it shows what any of them made of it.
    pub fn revert_all(&self, looks: &[ChangeSet], force: bool) -> Result<Reverted, Failure> {
        for look in looks {
            acceptable(look)?;
        }
        self.revert(&self.seen(looks), force)
    }

    /// What [`Tree::revert_all`] would do to each file; nothing is written.
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

    /// Looks as one, whose `after` is the state of any of them that the disk shows, if it shows one.
    fn seen(&self, looks: &[ChangeSet]) -> ChangeSet {
        let mut all = together(looks);
        let mut states: HashMap<&str, Vec<&Option<FileState>>> = HashMap::new();
        for change in looks.iter().flat_map(|look| &look.files) {
            states.entry(&change.path).or_default().push(&change.after);
        }
        for change in &mut all.files {
            // What can't be read is told when it is to be put back.
            let Ok(found) = state(self, &change.path) else { continue };
            let known = states.get(change.path.as_str()).into_iter().flatten();
            if let Some(shown) = known.copied().find(|after| shows(found.as_ref(), after.as_ref())) {
                change.after.clone_from(shown);
            }
        }
        all
    }

    /// Removes the folders that the look made; one that is full, or that was replaced, is left.
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

/// How a file ends that is found so.
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
