//! Walks the folders of a workspace in the order of their paths, without the files that `.gitignore` excludes.
//!
//! orch reads the folders itself instead of with the walker of the crate `ignore`, because that walker follows a link
//! that replaces a folder during the walk.

use std::io::Read as _;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::files::{FolderEntry, FolderEntryKind, ReadPathError, Tree};
use crate::model::text::decode_output_lossy;

use super::job::{FileJob, join_path};
use super::missed_paths::MissedPaths;

/// The maximum number of entries of a walk.
const MAX_VISITED: usize = 1_000_000;
/// The maximum number of folders above an entry.
const MAX_DEPTH: usize = 200;
/// The largest part of a `.gitignore` that orch reads, in bytes.
const MAX_IGNORE_BYTES: u64 = 128 << 10;
/// The files with patterns of excluded files. The later ones take precedence.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".ignore"];
/// The patterns of a repository that are not in a `.gitignore`.
const REPOSITORY_EXCLUDES: &str = ".git/info/exclude";

/// An entry of a walk.
#[derive(Clone, Debug)]
pub(super) struct WalkEntry {
    /// The path relative to the workspace.
    pub(super) path: String,
    pub(super) kind: FolderEntryKind,
    /// The size in bytes.
    pub(super) size: u64,
}

/// A walk through a folder. Never follows a link.
pub(super) struct WorkspaceWalk<'a> {
    job: &'a FileJob,
    /// Whether the walk also visits the folders in the folder.
    is_recursive: bool,
    /// The next entries, in reverse order, each with the rules of its folder.
    stack: Vec<(WalkEntry, Option<Arc<IgnoreRules>>)>,
    visited_count: usize,
    /// The folders whose entries are missing.
    missed_folders: MissedPaths,
    /// The entry at which the walk reached its limit.
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
            limit_path: None,
            is_stopped: false,
        };
        let mut rules = None;
        if !folder.is_empty() {
            let parents = folder.match_indices('/').filter_map(|(end, _)| folder.get(..end));
            for parent in [""].into_iter().chain(parents) {
                rules = IgnoreRules::for_folder(&job.tree, parent, rules);
            }
        }
        walk.push_entries(folder, rules)?;
        Ok(walk)
    }

    /// Whether the walk has visited every entry so far.
    pub(super) fn is_complete(&self) -> bool {
        self.missed_folders.is_empty() && self.limit_path.is_none() && !self.is_stopped
    }

    /// The notes about a walk that did not visit every entry. `advice` says how the model can get the rest.
    pub(super) fn notes(&self, advice: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.missed_folders.is_empty() {
            let (folders, reasons) = (self.missed_folders.counted("folder"), self.missed_folders.reasons());
            notes.push(format!("[the contents of {folders} are missing: {reasons}]"));
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
        let rules = IgnoreRules::for_folder(&self.job.tree, folder, parent_rules);
        for FolderEntry { name, kind, size } in entries.into_iter().rev() {
            let path = join_path(folder, &name);
            let is_folder = kind == FolderEntryKind::Folder;
            let is_excluded = name == ".git"
                || self.job.access.is_denied(&path)
                || rules.as_ref().is_some_and(|rules| rules.exclude(&path, is_folder));
            if !is_excluded {
                self.stack.push((WalkEntry { path, kind, size }, rules.clone()));
            }
        }
        Ok(())
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
        let (entry, rules) = self.stack.pop()?;
        self.visited_count += 1;
        if self.visited_count > MAX_VISITED {
            self.stack.clear();
            self.limit_path = Some(entry.path);
            return None;
        }
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

/// The patterns of excluded files in a folder, and those of the folders above it.
struct IgnoreRules {
    parent: Option<Arc<IgnoreRules>>,
    folder: String,
    patterns: Gitignore,
}

impl IgnoreRules {
    /// Reads the patterns in a folder. Returns the rules of its parent if it has none.
    fn for_folder(tree: &Tree, folder: &str, parent: Option<Arc<Self>>) -> Option<Arc<Self>> {
        let in_folder = IGNORE_FILES.iter().map(|name| join_path(folder, name));
        let in_repository = folder.is_empty().then(|| REPOSITORY_EXCLUDES.to_owned());
        let texts = in_repository.into_iter().chain(in_folder).filter_map(|path| read_text(tree, &path));
        let mut builder = GitignoreBuilder::new("");
        let mut has_lines = false;
        for text in texts {
            for line in text.lines() {
                // Like git, ignore a pattern that is not valid.
                has_lines |= builder.add_line(None, line).is_ok();
            }
        }
        if !has_lines {
            return parent;
        }
        let Ok(patterns) = builder.build() else { return parent };
        Some(Arc::new(Self { parent, folder: folder.to_owned(), patterns }))
    }

    /// Whether the patterns exclude a path. The patterns of the innermost folder take precedence.
    fn exclude(&self, path: &str, is_folder: bool) -> bool {
        let mut level = Some(self);
        while let Some(rules) = level {
            let in_folder = path.strip_prefix(rules.folder.as_str()).unwrap_or(path).trim_start_matches('/');
            let matched = rules.patterns.matched(in_folder, is_folder);
            if !matched.is_none() {
                return matched.is_ignore();
            }
            level = rules.parent.as_deref();
        }
        false
    }
}

/// Reads the beginning of a small text file; `None` if there is no such file.
fn read_text(tree: &Tree, path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    tree.open_file(path).ok()?.take(MAX_IGNORE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_IGNORE_BYTES {
        // The beginning of a pattern may match other files than the pattern.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        bytes.truncate(end);
    }
    Some(decode_output_lossy(&bytes))
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
        std::fs::write(folder.path().join("only"), "x").unwrap();
        let job = job_in(folder.path());
        let notes = |prepare: &dyn Fn(&mut WorkspaceWalk<'_>)| {
            let mut walk = WorkspaceWalk::new(&job, "", true).unwrap();
            prepare(&mut walk);
            let visited = walk.by_ref().count();
            let notes = walk.notes("use `path`");
            assert_eq!(walk.is_complete(), notes.is_empty());
            (visited, notes)
        };
        assert_eq!(notes(&|_| {}), (1, Vec::new()));
        let (visited, limited) = notes(&|walk| walk.visited_count = MAX_VISITED);
        assert!(
            visited == 0 && limited[0].contains("and `only` and what follows are missing; use `path`"),
            "{limited:?}"
        );
        let (visited, missed) = notes(&|walk| walk.missed_folders.add("`a` can't be opened".to_owned()));
        assert_eq!(
            (visited, missed),
            (1, vec!["[the contents of 1 folder are missing: `a` can't be opened]".to_owned()])
        );
    }

    #[test]
    fn of_a_huge_list_of_ignored_files_only_whole_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let limit = usize::try_from(MAX_IGNORE_BYTES).unwrap();
        let text = format!("{}\nkept-out-of-sight", "#".repeat(limit - 5));
        std::fs::write(folder.path().join(".gitignore"), text).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        assert_eq!(read_text(&tree, ".gitignore").unwrap().len(), limit - 5, "the pattern `kept` is not in the file");
    }
}
