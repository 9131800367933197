//! Recognizes bare git repositories: folders that hold `HEAD`, `objects` and `refs` themselves, and not in `.git`.
//!
//! git takes every folder with these entries for a repository. If a user runs git in such a folder or below it, git
//! runs programs that the `config` and the `hooks` of the folder name. So orch writes no file that makes a folder a
//! repository, and no file through which git would run programs in an existing repository. It compares case-folded and
//! normalized names (see [`fold_path`]), since a file system may ignore case.

use std::collections::{BTreeSet, HashMap};

use super::path::fold_path;
use super::problem::escaped_path;
use super::record::ChangeSet;
use super::tree::{AccessError, Tree, cannot_be};

/// The name of the file that names the current branch, case-folded like the names below.
const HEAD: &str = "head";
/// The name of the folder with the contents of the repository.
const OBJECTS: &str = "objects";
/// The name of the folder with the branches.
const REFS: &str = "refs";
/// The name of the file that refers to another folder with `objects` and `refs`.
const COMMON_FOLDER_FILE: &str = "commondir";
/// The names in a repository through which git runs programs or uses another repository.
const NAMES_THAT_RUN_PROGRAMS: [&str; 6] =
    [COMMON_FOLDER_FILE, "config", "config.worktree", "hooks", "modules", "worktrees"];

/// The entries of a folder by which git recognizes a repository.
#[derive(Clone, Copy, Debug, Default)]
struct Markers {
    has_head: bool,
    has_objects: bool,
    has_refs: bool,
    has_common_folder: bool,
}

impl Markers {
    /// Adds an entry with a case-folded and normalized name (see [`fold_path`]).
    fn add(&mut self, folded_name: &str, is_folder: bool) {
        match folded_name {
            HEAD => self.has_head |= !is_folder,
            OBJECTS => self.has_objects = true,
            REFS => self.has_refs = true,
            COMMON_FOLDER_FILE => self.has_common_folder = true,
            _ => {}
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            has_head: self.has_head || other.has_head,
            has_objects: self.has_objects || other.has_objects,
            has_refs: self.has_refs || other.has_refs,
            has_common_folder: self.has_common_folder || other.has_common_folder,
        }
    }

    /// Whether git may take the folder for a repository. The content of the entries does not count, since it may change
    /// later.
    fn are_complete(self) -> bool {
        self.has_head && (self.has_common_folder || (self.has_objects && self.has_refs))
    }
}

/// The entries that a list of files creates, in each folder.
#[derive(Debug, Default)]
pub(super) struct NewEntries(HashMap<String, Markers>);

impl NewEntries {
    /// The entries that writing these files creates.
    pub(super) fn of_files<'p>(paths: impl IntoIterator<Item = &'p str>) -> Self {
        let mut entries = Self::default();
        for path in paths {
            entries.add(path, false);
        }
        entries
    }

    fn add(&mut self, path: &str, is_folder: bool) {
        let folded = fold_path(path);
        for (start, end) in name_ranges(&folded) {
            let folder = folded[..start].trim_end_matches('/');
            let is_folder_entry = is_folder || end < folded.len();
            self.0.entry(folder.to_owned()).or_default().add(&folded[start..end], is_folder_entry);
        }
    }

    /// Why orch refuses to write `path` in an empty workspace, given all entries that are created together with it;
    /// `None` if orch writes it.
    pub(super) fn refusal(&self, path: &str) -> Option<String> {
        // This closure reads nothing from disk, so it can't fail.
        self.refusal_with(path, |_| Ok(Markers::default())).ok().flatten()
    }

    /// Why orch refuses to write `path` in this workspace, given all entries that are created together with it; `None`
    /// if orch writes it.
    ///
    /// # Errors
    /// A folder on the path can't be read.
    pub(super) fn refusal_in(&self, tree: &Tree, path: &str) -> Result<Option<String>, AccessError> {
        self.refusal_with(path, |folder| markers_on_disk(tree, folder))
    }

    /// Like [`NewEntries::refusal_in`], for a revert: orch first removes a file or link that is in place of a parent
    /// folder, so it counts as an empty folder.
    ///
    /// # Errors
    /// A folder on the path can't be read.
    pub(super) fn refusal_after_removal(&self, tree: &Tree, path: &str) -> Result<Option<String>, AccessError> {
        self.refusal_with(path, |folder| match markers_on_disk(tree, folder) {
            Err(AccessError::Refused(_)) => Ok(Markers::default()),
            markers => markers,
        })
    }

    fn refusal_with(
        &self,
        path: &str,
        on_disk: impl Fn(&str) -> Result<Markers, AccessError>,
    ) -> Result<Option<String>, AccessError> {
        for (start, end) in name_ranges(path) {
            let name = fold_path(&path[start..end]);
            let runs_programs = NAMES_THAT_RUN_PROGRAMS.contains(&name.as_str());
            if !runs_programs && ![HEAD, OBJECTS, REFS].contains(&name.as_str()) {
                continue;
            }
            let folder = path[..start].trim_end_matches('/');
            let before = on_disk(folder)?;
            let created = self.0.get(&fold_path(folder)).copied().unwrap_or_default();
            let place =
                if folder.is_empty() { "the workspace".to_owned() } else { format!("`{}`", escaped_path(folder)) };
            if before.are_complete() {
                if runs_programs {
                    return Ok(Some(format!(
                        "would change a file of the git repository in {place} that can make git run programs"
                    )));
                }
            } else if before.with(created).are_complete() {
                return Ok(Some(format!(
                    "would make {place} a git repository (`HEAD`, `objects`, `refs`), and the files of a repository \
                     can make git run programs"
                )));
            }
        }
        Ok(None)
    }
}

/// The paths of a change set that a `write` step refuses whatever the workspace contains, because they make a folder a
/// repository.
pub fn repository_files(change_set: &ChangeSet) -> BTreeSet<String> {
    let written = || change_set.files.iter().filter(|change| change.after.is_some()).map(|change| change.path.as_str());
    let mut entries = NewEntries::of_files(written());
    for folder in &change_set.new_folders {
        entries.add(folder, true);
    }
    written().filter(|path| entries.refusal(path).is_some()).map(str::to_owned).collect()
}

/// The start and the end of each name in a path.
fn name_ranges(path: &str) -> impl Iterator<Item = (usize, usize)> {
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(slash, _)| slash + 1));
    let ends = path.match_indices('/').map(|(slash, _)| slash).chain(std::iter::once(path.len()));
    starts.zip(ends)
}

/// Reads the entries of a folder. A folder that does not exist has none.
fn markers_on_disk(tree: &Tree, folder: &str) -> Result<Markers, AccessError> {
    let mut markers = Markers::default();
    let Some(dir) = tree.open_folder(folder)? else { return Ok(markers) };
    for item in dir.entries().map_err(cannot_be("listed"))? {
        let item = item.map_err(cannot_be("listed"))?;
        let is_folder = item.file_type().map_err(cannot_be("listed"))?.is_dir();
        if let Ok(name) = item.file_name().into_string() {
            markers.add(&fold_path(&name), is_folder);
        }
    }
    Ok(markers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of the list that orch refuses.
    fn refused<'p>(tree: Option<&Tree>, paths: &[&'p str]) -> Vec<&'p str> {
        let entries = NewEntries::of_files(paths.iter().copied());
        let is_refused = |path: &str| match tree {
            Some(tree) => entries.refusal_in(tree, path).unwrap().is_some(),
            None => entries.refusal(path).is_some(),
        };
        paths.iter().copied().filter(|path| is_refused(path)).collect()
    }

    #[test]
    fn a_list_that_makes_a_folder_a_repository_is_refused() {
        let repository = ["x/HEAD", "x/config", "x/objects/a", "x/refs/heads/a", "x/hooks/pre-commit"];
        assert_eq!(refused(None, &repository), repository);
        assert_eq!(refused(None, &["x/README", "x/head", "x/Objects/a", "x/REFS/a"]).len(), 3);
        assert_eq!(refused(None, &["HEAD", "objects/a", "refs/a", "src/main.rs"]), ["HEAD", "objects/a", "refs/a"]);
        assert_eq!(refused(None, &["a/b/HEAD", "a/b/commondir"]).len(), 2);
        assert_eq!(refused(None, &["x/HEAD", "x/objects", "x/refs"]).len(), 3, "a file can be replaced by a folder");
        for harmless in [
            &["HEAD", "config", "objects/a", "hooks/a"][..],
            &["x/HEAD", "y/objects/a", "z/refs/a"],
            &["head/a", "objects/a", "refs/a", "config"],
            &["x/objects/a", "x/refs/a", "x/config"],
            &["x/HEAD.md", "x/objects.rs", "x/refs.rs"],
        ] {
            assert_eq!(refused(None, harmless), Vec::<&str>::new());
        }
    }

    #[test]
    fn the_entries_on_disk_count() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("x/objects")).unwrap();
        std::fs::create_dir_all(folder.path().join("x/refs")).unwrap();
        assert_eq!(refused(Some(&tree), &["x/config", "x/refs/a", "y/HEAD"]), Vec::<&str>::new());
        assert_eq!(refused(Some(&tree), &["x/HEAD"]), ["x/HEAD"]);
        assert_eq!(refused(Some(&tree), &["x/HEAD/a"]), Vec::<&str>::new(), "a folder is no `HEAD`");
        std::fs::write(folder.path().join("x/HEAD"), "ref: refs/heads/main\n").unwrap();
        let paths = [
            "x/HEAD",
            "x/config",
            "x/hooks/a",
            "x/worktrees/a/commondir",
            "x/objects/a",
            "x/refs/heads/a",
            "x/a/config",
        ];
        let refused = refused(Some(&tree), &paths);
        let expected = ["x/config", "x/hooks/a", "x/worktrees/a/commondir"];
        assert_eq!(refused, expected, "changes to HEAD, objects and refs of an existing repository are harmless");
    }

    #[test]
    fn the_new_folders_of_a_change_set_count() {
        let mut change_set: ChangeSet = serde_json::from_str(
            r#"{"files":[{"path":"x/HEAD","after":{"content":{"text":"x"}}},{"path":"x/config"},
                {"path":"x/hooks/a","after":{"content":{"text":"x"}}},{"path":"a","after":{"content":{"text":"x"}}}]}"#,
        )
        .unwrap();
        assert!(repository_files(&change_set).is_empty());
        change_set.new_folders = ["x", "x/objects", "x/refs/heads"].map(str::to_owned).into();
        let expected = ["x/HEAD", "x/hooks/a"].map(str::to_owned);
        assert_eq!(repository_files(&change_set), BTreeSet::from(expected), "a deletion is harmless");
        change_set.new_folders = ["x/HEAD", "x/objects", "x/refs"].map(str::to_owned).into();
        change_set.files.remove(0);
        assert!(repository_files(&change_set).is_empty(), "a folder is no `HEAD`");
    }
}
