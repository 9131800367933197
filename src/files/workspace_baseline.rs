//! The workspace before a call that may change it, as orch stores it on disk during the call.

use serde::Serialize;

use crate::model::{AgentActivity, ChangedFile, LeftOutReason};

use super::commit::read_state;
use super::record::{ChangeSet, FileChange, FileState, states_match};
use super::snapshot::FileSnapshot;
use super::tree::{AccessError, Tree};

/// What orch knows about the workspace before a call.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceBaseline<'a> {
    /// All files, for a program that may change any of them.
    Snapshot(&'a FileSnapshot),
    /// The changes that orch is about to make itself.
    Planned(&'a ChangeSet),
}

impl ChangeSet {
    /// The record of the changes of a tool, in the same form as for a CLI agent.
    pub fn to_activity(&self) -> AgentActivity {
        let mut activity = AgentActivity::default();
        if !self.files.is_empty() {
            activity.changed = self.files.iter().map(|change| change.path.clone()).collect();
            // A change set is plain data, so this conversion can't fail.
            activity.files = serde_json::to_value(self).ok();
        }
        activity
    }

    /// The files with the digests of their contents.
    pub fn changed_files(&self) -> Vec<ChangedFile> {
        let digest = |state: &Option<FileState>| state.as_ref().map(|state| state.content.digest());
        let to_changed_file = |change: &FileChange| ChangedFile {
            path: change.path.clone(),
            before: digest(&change.before),
            after: digest(&change.after),
        };
        self.files.iter().map(to_changed_file).collect()
    }
}

impl Tree {
    /// The planned changes that were made before orch was killed. Includes only the names of files for which
    /// `is_foreign` is true, since another process may have changed them, and of files that were replaced by an entry of
    /// another type. The result is partial if a file can't be read.
    pub fn applied_changes(&self, planned: &ChangeSet, is_foreign: &dyn Fn(&str) -> bool) -> AgentActivity {
        let mut applied = ChangeSet::default();
        let mut left_out: Vec<(&String, LeftOutReason)> = Vec::new();
        let mut unreadable = Vec::new();
        for change in &planned.files {
            match read_state(self, &change.path) {
                Ok(current) if states_match(current.as_ref(), change.before.as_ref()) => {}
                Ok(current) if !is_foreign(&change.path) => {
                    applied.files.push(FileChange { after: current, ..change.clone() });
                }
                Ok(_) => left_out.push((&change.path, LeftOutReason::OtherProcess)),
                Err(AccessError::Refused(_) | AccessError::TooLarge) => {
                    left_out.push((&change.path, LeftOutReason::Unreadable));
                }
                Err(error @ AccessError::Io(..)) => unreadable.push(format!("`{}` {error}", change.path)),
            }
        }
        let exists = |folder: &&String| matches!(self.open_folder(folder), Ok(Some(_)));
        applied.new_folders = planned.new_folders.iter().filter(exists).cloned().collect();
        let mut activity = applied.to_activity();
        for (path, reason) in left_out {
            activity.changed.push(path.clone());
            activity.leave_out(path.clone(), reason);
        }
        activity.changed.sort();
        for reason in unreadable {
            activity.add_partial_reason(reason);
        }
        activity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{FileEntry, FileState, ReservedFiles};

    #[test]
    fn only_changes_that_were_made_are_recorded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let entry = |path: &str| FileEntry { path: path.to_owned(), content: Some("new".to_owned()), mode: None };
        let planned = tree.prepare(&[entry("a"), entry("sub/b")], ReservedFiles::default()).unwrap();
        assert!(tree.applied_changes(&planned, &|_| false).is_empty(), "orch was killed before the first change");
        tree.apply(&planned).unwrap();
        let activity = tree.applied_changes(&planned, &|_| false);
        assert_eq!((activity.changed, activity.left_out), (vec!["a".to_owned(), "sub/b".to_owned()], Vec::new()));
        let record: ChangeSet = serde_json::from_value(activity.files.unwrap()).unwrap();
        assert_eq!(record.new_folders, ["sub"]);
        tree.revert(&record, false).unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"old");
        assert!(!folder.path().join("sub").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_can_not_be_read_is_neither_changed_nor_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        // The system refuses so long a name even to root.
        let name = "x".repeat(300);
        let after = FileState { content: b"new".to_vec().into(), mode: None };
        let change = FileChange { path: name.clone(), before: None, after: Some(after) };
        let planned = ChangeSet { files: vec![change], ..ChangeSet::default() };
        let activity = tree.applied_changes(&planned, &|_| false);
        assert!(activity.changed.is_empty() && activity.partial, "{activity:?}");
        assert!(activity.partial_reasons[0].starts_with(&format!("`{name}` can't be read: ")), "{activity:?}");
    }

    #[test]
    fn a_file_that_another_process_may_have_changed_is_only_named() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let entry = FileEntry { path: "a".to_owned(), content: Some("new".to_owned()), mode: None };
        let planned = tree.prepare(&[entry], ReservedFiles::default()).unwrap();
        std::fs::write(folder.path().join("a"), "other").unwrap();
        let activity = tree.applied_changes(&planned, &|_| true);
        assert_eq!(activity.left_out_reasons["a"], LeftOutReason::OtherProcess);
        assert_eq!((activity.left_out, activity.files), (vec!["a".to_owned()], None));
    }
}
