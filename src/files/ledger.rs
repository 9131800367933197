//! Tracks the files that steps wrote into a workspace, to find those that were edited, deleted or reverted since.

use indexmap::IndexMap;

use crate::model::{Class, Digest, Failure};

use super::commit::state;
use super::problem::Problems;
use super::record::{Applied, ChangeSet, FileChange, FileState};
use super::tree::Tree;

/// The files that change sets wrote, with the digests of their contents.
#[derive(Clone, Debug, Default)]
pub struct FileLedger {
    files: IndexMap<String, PathTraces>,
    looks: usize,
}

/// The known contents of a path.
#[derive(Clone, Debug)]
struct PathTraces {
    /// The index of the last change set with this path.
    look: usize,
    after: Option<Digest>,
    /// The contents before that change set, and those of all times before; `None` if the file was absent.
    earlier: Vec<Option<Digest>>,
    /// Whether programs that may change files have run since.
    stirred: bool,
}

/// A file that is no longer as orch wrote it: it is deleted, or as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoneFile {
    /// The path relative to the workspace.
    pub path: String,
    /// Whether it is deleted; otherwise it has the content of some time before.
    pub gone: bool,
    /// The index of the change set that wrote it, from 0.
    pub look: usize,
}

impl FileLedger {
    /// Records the files of a change set that was applied.
    pub fn lay(&mut self, look: &ChangeSet) {
        let digest = |state: &Option<FileState>| state.as_ref().map(|state| state.content.digest());
        for change in &look.files {
            let (before, after) = (digest(&change.before), digest(&change.after));
            let new = PathTraces { look: self.looks, after: None, earlier: Vec::new(), stirred: false };
            let traces = self.files.entry(change.path.clone()).or_insert(new);
            (traces.look, traces.stirred) = (self.looks, false);
            let last = std::mem::replace(&mut traces.after, after);
            for old in [last, before] {
                if !traces.earlier.contains(&old) {
                    traces.earlier.push(old);
                }
            }
        }
        self.looks += 1;
    }

    /// Stops tracking a file until a step writes it again.
    pub fn forget(&mut self, path: &str) {
        self.files.shift_remove(path);
    }

    /// Records that a program ran that may change files: from now on, the program may have made a change instead of the
    /// user.
    pub fn stir(&mut self) {
        self.files.values_mut().for_each(|traces| traces.stirred = true);
    }

    /// The files that the user edited, each with the index of the change set that wrote it. Leaves out files that a
    /// program may have changed instead.
    pub fn edited(&self, tree: &Tree) -> Vec<(String, usize)> {
        let judge = |(path, traces): (&String, &PathTraces)| {
            let found = Some(state(tree, path).ok()??.content.digest());
            let edited = found != traces.after && !traces.earlier.contains(&found) && !traces.stirred;
            edited.then(|| (path.clone(), traces.look))
        };
        self.files.iter().filter_map(judge).collect()
    }

    /// The files that are deleted or as they were before, in the order in which orch first wrote them. Without a
    /// workspace all of them count as deleted. A file that can't be read counts as changed, and is left out.
    pub fn undone(&self, tree: Option<&Tree>) -> Vec<UndoneFile> {
        let judge = |(path, traces): (&String, &PathTraces)| {
            let found = match tree {
                Some(tree) => state(tree, path).ok()?.map(|state| state.content.digest()),
                None => None,
            };
            // An absent file counts as well, even if it existed before the first change set: it may have been absent at
            // some time since.
            let undone = found != traces.after && (found.is_none() || traces.earlier.contains(&found));
            undone.then(|| UndoneFile { path: path.clone(), gone: found.is_none(), look: traces.look })
        };
        self.files.iter().filter_map(judge).collect()
    }
}

impl Tree {
    /// Gives files the wanted states, all or none, whatever is there now; `None` is an absent file.
    pub fn restore(&self, wanted: impl Iterator<Item = (String, Option<FileState>)>) -> Result<Applied, Failure> {
        let (mut look, mut problems) = (ChangeSet::default(), Problems::default());
        for (path, after) in wanted {
            match state(self, &path) {
                Ok(before) => look.files.push(FileChange { path, before, after }),
                Err(why) => problems.add(&path, why),
            }
        }
        problems.end(Class::PathRefused, "the files can't be written", "nothing was written; remove what is there")?;
        self.apply(&look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileEntry, Reserved};

    fn put(tree: &Tree, laid: &mut FileLedger, path: &str, content: Option<&str>) {
        let entry = FileEntry { path: path.to_owned(), content: content.map(str::to_owned), mode: None };
        let look = tree.look(&[entry], Reserved::default()).unwrap();
        tree.apply(&look).unwrap();
        laid.lay(&look);
    }

    #[test]
    fn what_is_gone_or_as_it_was_before_is_undone_and_what_was_edited_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("old"), "0").unwrap();
        std::fs::write(at("doomed"), "0").unwrap();
        let (tree, mut laid) = (Tree::open(folder.path()).unwrap(), FileLedger::default());
        put(&tree, &mut laid, "old", Some("1"));
        put(&tree, &mut laid, "new", Some("1"));
        put(&tree, &mut laid, "old", Some("2"));
        put(&tree, &mut laid, "doomed", None);
        let undone = |laid: &FileLedger| -> Vec<(String, bool, usize)> {
            laid.undone(Some(&tree)).into_iter().map(|file| (file.path, file.gone, file.look)).collect()
        };
        assert_eq!(undone(&laid), []);
        for earlier in ["0", "1"] {
            std::fs::write(at("old"), earlier).unwrap();
            assert_eq!(undone(&laid), [("old".to_owned(), false, 2)]);
        }
        std::fs::write(at("old"), "3").unwrap();
        std::fs::write(at("new"), "3").unwrap();
        assert_eq!(undone(&laid), [], "that is a person's work");
        assert_eq!(laid.edited(&tree), [("old".to_owned(), 2), ("new".to_owned(), 1)]);
        std::fs::remove_file(at("new")).unwrap();
        std::fs::write(at("doomed"), "0").unwrap();
        assert_eq!(undone(&laid), [("new".to_owned(), true, 1), ("doomed".to_owned(), false, 3)]);
        assert_eq!(laid.edited(&tree), [("old".to_owned(), 2)]);
        laid.stir();
        assert_eq!(laid.edited(&tree), [], "it may have been a program");
        laid.forget("new");
        laid.forget("doomed");
        assert_eq!(undone(&laid), []);
        let all: Vec<String> = laid.undone(None).into_iter().map(|file| file.path).collect();
        assert_eq!(all, ["old"]);
    }
}
