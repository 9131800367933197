//! Takes back what applying a look did.

use crate::model::{Class, Failure};

use super::apply::acceptable;
use super::commit::{Move, commit, state, sweep};
use super::problem::Problems;
use super::record::{Change, Ending, Kind, Look, Reverted, RevertedFile, shown_difference, shows};
use super::tree::{Blocked, Tree};

/// What is to be done with one file.
enum Verdict<'a> {
    Move(Move<'a>),
    End(Ending, Option<String>),
}

impl Tree {
    /// Puts every file of the look back as it was, where the disk still shows what the look made of it.
    /// A file that was changed since is left and told, unless `force` is given; what is no file any more
    /// is always left. Folders that the look made are removed when they are empty.
    pub fn revert(&self, look: &Look, force: bool) -> Result<Reverted, Failure> {
        acceptable(look)?;
        let mut moves = Vec::new();
        let mut reverted = Reverted::default();
        for change in look.files.iter().filter(|change| change.kind() != Kind::Unchanged) {
            let (ending, reason) = match self.verdict(change, force) {
                Verdict::End(ending, reason) => (ending, reason),
                Verdict::Move(step) => {
                    moves.push(step);
                    (Ending::Restored, None)
                }
            };
            reverted.files.push(RevertedFile { path: change.path.clone(), ending, reason });
        }
        commit(self, &moves, &mut |_| {})?;
        self.remove_folders(look)?;
        Ok(reverted)
    }

    /// Removes the folders that the look made; one that is full, or that was replaced, is left.
    fn remove_folders(&self, look: &Look) -> Result<(), Failure> {
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

    fn verdict<'a>(&self, change: &'a Change, force: bool) -> Verdict<'a> {
        let found = match state(self, &change.path).and_then(|found| sweep(self, &change.path).map(|()| found)) {
            Ok(found) => found,
            Err(why) => return Verdict::End(Ending::Left, Some(why.to_string())),
        };
        if shows(found.as_ref(), change.before.as_ref()) {
            return Verdict::End(Ending::Unchanged, None);
        }
        if force || shows(found.as_ref(), change.after.as_ref()) {
            return Verdict::Move(Move { path: &change.path, from: found, to: change.before.as_ref() });
        }
        let how = shown_difference(found.as_ref(), change.after.as_ref());
        Verdict::End(Ending::Left, Some(format!("{how} since orch wrote it")))
    }
}
