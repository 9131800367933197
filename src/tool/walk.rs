//! Walks the folders of a workspace in the order of their paths, without the files that `.gitignore` excludes.
//!
//! orch reads the folders itself instead of with the walker of the crate `ignore`, because that walker follows a link
//! that replaces a folder during the walk.

use std::sync::Arc;

use crate::files::{FolderEntry, FolderEntryKind, ReadPathError};

use super::ignore_rules::IgnoreRules;
use super::job::{FileJob, join_path};
use super::missed_paths::MissedPaths;

/// The maximum number of entries of a walk.
const MAX_VISITED: usize = 1_000_000;
/// The maximum number of folders above an entry.
const MAX_DEPTH: usize = 200;

/// An entry of a walk.
#[derive(Clone, Debug)]
pub(super) struct WalkEntry {
    /// The path relative to the workspace.
    pub(super) path: String,
    pub(super) kind: FolderEntryKind,
    /// The size in bytes.
    pub(super) size: u64,
}

/// The entries of a folder that a walk has not visited yet. It has only their names, because the paths of many entries in
/// a deep folder would need far more memory.
struct PendingFolder {
    path: String,
    rules: Option<Arc<IgnoreRules>>,
    /// The entries, in reverse order.
    entries: Vec<FolderEntry>,
}

/// A walk through a folder. Never follows a link.
pub(super) struct WorkspaceWalk<'a> {
    job: &'a FileJob,
    /// Whether the walk also visits the folders in the folder.
    is_recursive: bool,
    /// The folders with the next entries, the innermost last.
    stack: Vec<PendingFolder>,
    visited_count: usize,
    /// The folders whose entries are missing.
    missed_folders: MissedPaths,
    /// The files whose patterns of excluded files do not apply.
    missed_rules: MissedPaths,
    /// The first entry that the walk does not visit because of its limit.
    limit_path: Option<String>,
    /// Whether the walk ended early, because the call was interrupted or reached its time limit.
    is_stopped: bool,
}

impl<'a> WorkspaceWalk<'a> {
    /// Starts a walk in a folder without links.
    ///
    /// # Errors
    /// The folder can't be read.
    pub(super) fn new(job: &'a FileJob, folder: &str, is_recursive: bool) -> Result<Self, ReadPathError> {
        let mut walk = Self {
            job,
            is_recursive,
            stack: Vec::new(),
            visited_count: 0,
            missed_folders: MissedPaths::default(),
            missed_rules: MissedPaths::default(),
            limit_path: None,
            is_stopped: false,
        };
        let mut rules = None;
        if !folder.is_empty() {
            let parents = folder.match_indices('/').filter_map(|(end, _)| folder.get(..end));
            for parent in [""].into_iter().chain(parents) {
                rules = IgnoreRules::for_folder(&job.tree, parent, rules, &mut walk.missed_rules);
            }
        }
        walk.push_entries(folder, rules)?;
        Ok(walk)
    }

    /// Whether the walk has visited every entry so far.
    pub(super) fn is_complete(&self) -> bool {
        let has_missed = !self.missed_folders.is_empty() || !self.missed_rules.is_empty();
        !has_missed && self.limit_path.is_none() && !self.is_stopped
    }

    /// The notes about a walk that did not visit every entry. `advice` says how the model can get the rest.
    pub(super) fn notes(&self, advice: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.missed_folders.is_empty() {
            let (folders, reasons) = (self.missed_folders.counted("folder"), self.missed_folders.reasons());
            notes.push(format!("[the contents of {folders} are missing: {reasons}]"));
        }
        if !self.missed_rules.is_empty() {
            notes.push(format!(
                "[the result may contain excluded files and lack others, because some patterns of excluded files do \
                 not apply: {}]",
                self.missed_rules.reasons()
            ));
        }
        if let Some(path) = &self.limit_path {
            notes.push(format!(
                "[the result is incomplete: orch visits at most {MAX_VISITED} files and folders, and `{path}` and what \
                 follows are missing; {advice}]"
            ));
        }
        if self.is_stopped {
            notes.push(format!("[the result is incomplete: the call reached its time limit; {advice}]"));
        }
        notes
    }

    fn push_entries(&mut self, folder: &str, parent_rules: Option<Arc<IgnoreRules>>) -> Result<(), ReadPathError> {
        let entries = self.job.tree.list_folder_until(folder, &|| self.job.is_cancelled())?;
        let rules = IgnoreRules::for_folder(&self.job.tree, folder, parent_rules, &mut self.missed_rules);
        let access = &self.job.access;
        let is_visited = |entry: &FolderEntry| {
            let path = join_path(folder, &entry.name);
            let is_folder = entry.kind == FolderEntryKind::Folder;
            let is_excluded = entry.name == ".git"
                || access.is_denied(&path)
                || is_folder && !access.allows_entering(&path)
                || rules.as_ref().is_some_and(|rules| rules.exclude(&path, is_folder));
            !is_excluded
        };
        let entries = entries.into_iter().rev().filter(is_visited).collect();
        self.stack.push(PendingFolder { path: folder.to_owned(), rules, entries });
        self.drop_unreachable_entries();
        Ok(())
    }

    /// Drops the last entries that the walk can't visit within its limit, so that no more than this number is pending.
    fn drop_unreachable_entries(&mut self) {
        let pending: usize = self.stack.iter().map(|folder| folder.entries.len()).sum();
        let mut excess = pending.saturating_sub(MAX_VISITED.saturating_sub(self.visited_count));
        for folder in &mut self.stack {
            let mut dropped = folder.entries.drain(..excess.min(folder.entries.len()));
            excess -= dropped.len();
            if let Some(first) = dropped.next_back() {
                self.limit_path = Some(join_path(&folder.path, &first.name));
            }
        }
    }

    /// Takes the next entry, with the rules of its folder.
    fn next_entry(&mut self) -> Option<(WalkEntry, Option<Arc<IgnoreRules>>)> {
        loop {
            let folder = self.stack.last_mut()?;
            if let Some(FolderEntry { name, kind, size }) = folder.entries.pop() {
                let path = join_path(&folder.path, &name);
                return Some((WalkEntry { path, kind, size }, folder.rules.clone()));
            }
            self.stack.pop();
        }
    }
}

impl Iterator for WorkspaceWalk<'_> {
    type Item = WalkEntry;

    fn next(&mut self) -> Option<WalkEntry> {
        // Also check after the last entry: the caller may have read only a part of its file.
        if self.job.is_cancelled() {
            self.is_stopped = true;
            self.stack.clear();
            return None;
        }
        let (entry, rules) = self.next_entry()?;
        self.visited_count += 1;
        if self.is_recursive && entry.kind == FolderEntryKind::Folder {
            if entry.path.matches('/').count() >= MAX_DEPTH {
                self.missed_folders.add(format!("a folder in {MAX_DEPTH} others is too deep"));
            } else if let Err(error) = self.push_entries(&entry.path, rules) {
                self.missed_folders.add(format!("`{}` {error}", entry.path));
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::tool::job::tests::job_in;

    #[test]
    fn a_walk_ends_when_the_call_is_cancelled_also_after_its_last_entry() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c/d"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        for count in 0..=4 {
            let job = job_in(folder.path());
            let mut walk = WorkspaceWalk::new(&job, "", true).unwrap();
            assert_eq!(walk.by_ref().take(count).count(), count);
            job.is_cancelled.store(true, Ordering::Relaxed);
            assert!(walk.next().is_none() && !walk.is_complete(), "after {count} entries");
            let note = "[the result is incomplete: the call reached its time limit; use `path`]";
            assert_eq!(walk.notes("use `path`"), [note]);
        }
        let job = job_in(folder.path());
        let mut walk = WorkspaceWalk::new(&job, "", true).unwrap();
        assert_eq!(walk.by_ref().count(), 4);
        assert!(walk.is_complete() && walk.notes("use `path`").is_empty());
    }

    #[test]
    fn a_walk_says_why_it_did_not_visit_every_entry() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["a/b", "c", "d"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let job = job_in(folder.path());
        let notes = |prepare: &dyn Fn(&mut WorkspaceWalk<'_>)| {
            let mut walk = WorkspaceWalk::new(&job, "", true).unwrap();
            prepare(&mut walk);
            let visited: Vec<String> = walk.by_ref().map(|entry| entry.path).collect();
            let notes = walk.notes("use `path`");
            assert_eq!(walk.is_complete(), notes.is_empty());
            (visited.join(" "), notes)
        };
        assert_eq!(notes(&|_| {}), ("a a/b c d".to_owned(), Vec::new()));
        assert_eq!(notes(&|walk| walk.visited_count = MAX_VISITED - 4), ("a a/b c d".to_owned(), Vec::new()));
        let (visited, limited) = notes(&|walk| walk.visited_count = MAX_VISITED - 3);
        assert_eq!(visited, "a a/b c");
        assert!(limited[0].contains("and `d` and what follows are missing; use `path`"), "{limited:?}");
        let (visited, missed) = notes(&|walk| walk.missed_folders.add("`e` can't be opened".to_owned()));
        let expected = "[the contents of 1 folder are missing: `e` can't be opened]";
        assert_eq!((visited.as_str(), missed), ("a a/b c d", vec![expected.to_owned()]));
        let (_, missed) = notes(&|walk| walk.missed_rules.add("`.gitignore` has more than 128 KiB".to_owned()));
        assert!(missed[0].contains("do not apply: `.gitignore` has more than 128 KiB]"), "{missed:?}");
    }

    #[test]
    fn entries_beyond_the_limit_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("x"), "x").unwrap();
        }
        let job = job_in(folder.path());
        let mut walk = WorkspaceWalk::new(&job, "", true).unwrap();
        walk.visited_count = MAX_VISITED - 4;
        walk.next().unwrap();
        let pending: Vec<usize> = walk.stack.iter().map(|folder| folder.entries.len()).collect();
        assert_eq!((pending, walk.limit_path.as_deref()), (vec![2, 1], Some("d")));
        walk.next().unwrap();
        walk.next().unwrap();
        assert_eq!(walk.limit_path.as_deref(), Some("c"), "a folder within the limit displaces later entries");
    }
}
