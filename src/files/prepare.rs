//! Checks a list of entries against a workspace and reads the files that it would replace.

use std::collections::{BTreeSet, HashMap};

use cap_std::fs::Dir;
use serde_json::Value;

use crate::model::{Failure, FailureClass};

use super::entry::{FileEntry, MAX_MODE, parse_entries};
use super::path::{fold_path, refusal_reason};
use super::problem::{Problems, escaped_path};
use super::record::{ChangeSet, Content, FileChange, FileState};
use super::repository::NewEntries;
use super::reserved::ReservedFiles;
use super::tree::{AccessError, DiskEntry, Tree, ancestors_of, cannot_be, folder_of, name_of};

/// The maximum number of files in one list.
pub const MAX_FILES: usize = 10_000;

/// The maximum number of bytes in one list, and of the files that it replaces.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The version of the rules that [`refusals`] checks. It is part of fingerprints, so a change of the rules invalidates
/// results.
pub const RULES_VERSION: u32 = 2;

/// The problems for which `write` would refuse an artifact in any workspace: a list that can't be parsed or is too
/// long, and paths that are not allowed or conflict with one another. Empty if `write` accepts the artifact.
pub fn refusals(artifact: &Value, reserved: ReservedFiles<'_>) -> Vec<String> {
    let parsed = parse_entries(artifact).and_then(|entries| check_limits(&entries).map(|()| entries));
    match parsed {
        Ok(entries) => {
            let mut problems = Problems::default();
            check_paths(&entries, reserved, &mut problems);
            problems.into_messages()
        }
        Err(failure) => vec![failure.message],
    }
}

/// The hint for paths that conflict with files in the workspace.
const CONFLICT_HINT: &str =
    "nothing was written; remove the conflicting files from the workspace, then run `orch pipeline resume`";

impl Tree {
    /// Checks every path and reads the existing files. The failure lists all problems; nothing is written.
    pub fn prepare(&self, entries: &[FileEntry], reserved: ReservedFiles<'_>) -> Result<ChangeSet, Failure> {
        check_limits(entries)?;
        let mut problems = Problems::default();
        let valid_entries = check_paths(entries, reserved, &mut problems);
        let mut reader = DiskReader { tree: self, names_by_folder: HashMap::new(), remaining_bytes: MAX_BYTES };
        let mut change_set = ChangeSet::default();
        let mut new_folders = BTreeSet::new();
        let mut has_conflict = false;
        let new_entries = entries_of(&valid_entries);
        for entry in valid_entries {
            match reader.read_file(&entry.path) {
                Ok(before) => change_set.files.push(new_change(entry, before)),
                Err(conflict) => {
                    problems.add_for_path(&entry.path, conflict);
                    has_conflict = true;
                    continue;
                }
            }
            if entry.content.is_some() {
                match new_entries.refusal_in(self, &entry.path) {
                    Ok(None) => {}
                    Ok(Some(refusal)) => problems.add_for_path(&entry.path, refusal),
                    Err(conflict) => {
                        problems.add_for_path(&entry.path, conflict);
                        has_conflict = true;
                    }
                }
                new_folders.extend(reader.missing_folders(&entry.path).map(str::to_owned));
            }
        }
        // The path of a folder is a prefix of the paths inside it, so parents come first in sorted order.
        change_set.new_folders = new_folders.into_iter().collect();
        let hint = if has_conflict { CONFLICT_HINT } else { "nothing was written" };
        problems.into_result(FailureClass::PathRefused, "the files can't be written", hint)?;
        Ok(change_set)
    }
}

fn check_limits(entries: &[FileEntry]) -> Result<(), Failure> {
    let bytes: usize = entries.iter().filter_map(|entry| entry.content.as_ref()).map(String::len).sum();
    let excess = if entries.len() > MAX_FILES {
        format!("{} files, and {MAX_FILES} are the most", entries.len())
    } else if bytes as u64 > MAX_BYTES {
        format!("{} MiB of files, and {} MiB are the most", bytes.div_ceil(1024 * 1024), MAX_BYTES / 1024 / 1024)
    } else {
        return Ok(());
    };
    Err(Failure::new(FailureClass::OutputTooLarge, format!("the artifact lists {excess}"))
        .with_hint("split the files over several steps"))
}

/// The change that an entry makes to a file with the state `before`.
fn new_change(entry: &FileEntry, before: Option<FileState>) -> FileChange {
    let after = entry.content.as_ref().map(|text| {
        let content = Content::from(text.clone().into_bytes());
        let previous_mode = before.as_ref().and_then(|before| before.mode);
        let mode = match (entry.mode, &before) {
            (Some(mode), _) => cfg!(unix).then_some(mode),
            // If the bytes do not change, the file keeps its mode.
            (None, Some(before)) if before.content == content => previous_mode,
            // New bytes must not inherit a bit such as setuid, with which the system would run them as another user.
            (None, _) => previous_mode.map(|mode| mode & MAX_MODE),
        };
        FileState { content, mode }
    });
    FileChange { path: entry.path.clone(), before, after }
}

/// Checks the paths without reading the disk. Returns the valid entries, and adds the problems of the others to
/// `problems`.
fn check_paths<'a>(
    entries: &'a [FileEntry],
    reserved: ReservedFiles<'_>,
    problems: &mut Problems,
) -> Vec<&'a FileEntry> {
    let mut entries_by_key: HashMap<String, &FileEntry> = HashMap::new();
    let mut folders_by_key: HashMap<String, &str> = HashMap::new();
    let mut valid_entries = Vec::new();
    for entry in entries {
        let key = fold_path(&entry.path);
        let previous_count = problems.count();
        if let Some(problem) = refusal_reason(&entry.path) {
            problems.add_for_path(&entry.path, problem);
        } else if let Some(file) = reserved.overlapping(&key) {
            problems.add_for_path(&entry.path, file.refusal(&entry.path, &key));
        } else if let Some((folder, spelling)) = find_other_spelling(&entry.path, &folders_by_key) {
            let problem =
                format!("lies in `{}`, which is also spelled `{}`", escaped_path(folder), escaped_path(spelling));
            problems.add_for_path(&entry.path, problem);
        }
        // Report a path that is both invalid and listed twice for both reasons, so that one re-ask can fix both.
        if let Some(first) = entries_by_key.get(&key) {
            problems.add_for_path(&entry.path, describe_duplicate(entry, first));
        }
        if problems.count() == previous_count && !entries_by_key.contains_key(&key) {
            folders_by_key.extend(ancestors_of(&entry.path).map(|folder| (fold_path(folder), folder)));
            valid_entries.push(entry);
        }
        entries_by_key.entry(key).or_insert(entry);
    }
    valid_entries.retain(|entry| {
        let parent = ancestors_of(&fold_path(&entry.path)).find_map(|folder| entries_by_key.get(folder).copied());
        if let Some(parent) = parent {
            problems.add_for_path(
                &entry.path,
                format!("lies in `{}`, which is listed as a file", escaped_path(&parent.path)),
            );
        }
        parent.is_none()
    });
    let new_entries = entries_of(&valid_entries);
    valid_entries.retain(|entry| {
        let refusal = entry.content.as_ref().and_then(|_| new_entries.refusal(&entry.path));
        if let Some(refusal) = &refusal {
            problems.add_for_path(&entry.path, refusal);
        }
        refusal.is_none()
    });
    valid_entries
}

/// The files and folders that a list creates.
fn entries_of(entries: &[&FileEntry]) -> NewEntries {
    NewEntries::of_files(entries.iter().filter(|entry| entry.content.is_some()).map(|entry| entry.path.as_str()))
}

/// Finds a folder of `path` that an earlier path spells differently. Returns the folder and the other spelling.
fn find_other_spelling<'a>(path: &'a str, folders_by_key: &HashMap<String, &'a str>) -> Option<(&'a str, &'a str)> {
    ancestors_of(path).find_map(|folder| {
        let spelling = folders_by_key.get(&fold_path(folder))?;
        (*spelling != folder).then_some((folder, *spelling))
    })
}

fn describe_duplicate(entry: &FileEntry, first: &FileEntry) -> String {
    if entry.path != first.path {
        format!("and `{}` are one file where case or Unicode form do not count", escaped_path(&first.path))
    } else if entry.content == first.content {
        "is listed twice, with different modes".to_owned()
    } else {
        "is listed twice, with different contents".to_owned()
    }
}

/// Reads files, and caches the names in each folder.
struct DiskReader<'a> {
    tree: &'a Tree,
    /// The names in each folder, grouped by their folded form (see `fold_path`); `None` if the folder does not exist.
    names_by_folder: HashMap<String, Option<HashMap<String, Vec<String>>>>,
    remaining_bytes: u64,
}

impl DiskReader<'_> {
    /// Reads the file at a path. Fails if a name of the path exists on disk only in another spelling.
    fn read_file(&mut self, path: &str) -> Result<Option<FileState>, AccessError> {
        for subpath in ancestors_of(path).chain([path]) {
            let Some(names) = self.names_in(folder_of(subpath))? else { return Ok(None) };
            let name = name_of(subpath);
            let spellings = names.get(&fold_path(name)).map(Vec::as_slice).unwrap_or_default();
            if let (false, Some(spelling)) = (spellings.iter().any(|spelling| spelling == name), spellings.first()) {
                let existing = format!("{}{}", &subpath[..subpath.len() - name.len()], escaped_path(spelling));
                return Err(AccessError::Refused(format!(
                    "differs from `{existing}` on disk only in case or Unicode form"
                )));
            }
        }
        match self.tree.read_entry(path, self.remaining_bytes)? {
            DiskEntry::Absent => Ok(None),
            DiskEntry::File(state) => {
                self.remaining_bytes = self.remaining_bytes.saturating_sub(state.content.bytes().len() as u64);
                Ok(Some(state))
            }
        }
    }

    /// The folders of a path that do not exist. Call this after [`DiskReader::read_file`], which looks up the folders.
    fn missing_folders<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        ancestors_of(path).filter(|folder| !matches!(self.names_by_folder.get(*folder), Some(Some(_))))
    }

    fn names_in(&mut self, folder: &str) -> Result<Option<&HashMap<String, Vec<String>>>, AccessError> {
        if !self.names_by_folder.contains_key(folder) {
            let names = self.tree.open_folder(folder)?.map(|dir| list_names(&dir)).transpose()?;
            self.names_by_folder.insert(folder.to_owned(), names);
        }
        Ok(self.names_by_folder.get(folder).and_then(Option::as_ref))
    }
}

fn list_names(dir: &Dir) -> Result<HashMap<String, Vec<String>>, AccessError> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for item in dir.entries().map_err(cannot_be("listed"))? {
        // Skip a name that is not Unicode, since it can't be another spelling of a Unicode name.
        if let Ok(name) = item.map_err(cannot_be("listed"))?.file_name().into_string() {
            names.entry(fold_path(&name)).or_default().push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::PathIndex;

    fn entry(path: &str) -> FileEntry {
        FileEntry { path: path.to_owned(), content: Some("x".to_owned()), mode: None }
    }

    fn refusal(tree: &Tree, paths: &[&str], reserved: &[&str]) -> String {
        let entries: Vec<FileEntry> = paths.iter().map(|path| entry(path)).collect();
        let reserved = PathIndex::new(reserved.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        let failure =
            tree.prepare(&entries, ReservedFiles { artifacts: &reserved, ..ReservedFiles::default() }).unwrap_err();
        assert_eq!(failure.class, FailureClass::PathRefused);
        failure.message
    }

    #[test]
    fn one_failure_lists_all_colliding_entries() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let paths = ["a", "A", "b/c", "B", "é", "e\u{301}", "x", "x", "d/e/1", "d/E/2"];
        let message = refusal(&tree, &paths, &[]);
        for part in [
            "`A` and `a`",
            "`b/c` lies in `B`",
            "and `é` are one file",
            "`x` is listed twice",
            "in `d/E`, which is also spelled `d/e`",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn artifact_files_protected_files_and_their_folders_are_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        for path in ["plan.json", "PLAN.json", "plan.json/x", "out"] {
            let message = refusal(&tree, &[path], &["plan.json", "out/review.md"]);
            assert!(message.contains("is kept for the artifact"), "{message}");
        }
        let protected = PathIndex::new([".github", "orch.yaml"].map(str::to_owned));
        let reserved = ReservedFiles { protected: &protected, ..ReservedFiles::default() };
        for (path, expected) in [
            (
                ".github/workflows/ci.yml",
                "`.github/workflows/ci.yml` lies in `.github`, which is protected, because git",
            ),
            (".GitHub/x", "`.GitHub/x` lies in `.github`, which is protected"),
            ("orch.yaml", "`orch.yaml` is protected, because git, GitHub or orch reads or runs it later"),
            ("ORCH.yaml", "`ORCH.yaml` is another spelling of `orch.yaml`, which is protected"),
        ] {
            let failure = tree.prepare(&[entry(path)], reserved).unwrap_err();
            assert!(failure.message.contains(expected), "{failure}");
        }
        let unreserved = [entry("out/other.md"), entry("plan.jsonl")];
        let artifacts = PathIndex::new(["plan.json".to_owned()]);
        let reserved = ReservedFiles { artifacts: &artifacts, ..ReservedFiles::default() };
        assert!(tree.prepare(&unreserved, reserved).is_ok());
    }

    #[test]
    fn a_repository_is_refused_whether_one_list_or_several_make_it() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let message = refusal(&tree, &["x/HEAD", "x/config", "x/objects/a", "x/refs/a"], &[]);
        assert!(message.contains("`x/config` would make `x` a git repository"), "{message}");
        let list = serde_json::json!([
            { "path": "HEAD", "content": "" }, { "path": "objects/a", "content": "" }, { "path": "refs/a", "content": "" },
        ]);
        let refusals = refusals(&list, ReservedFiles::default());
        assert!(
            refusals.len() == 3 && refusals[0].contains("would make the workspace a git repository"),
            "{refusals:?}"
        );
        for name in ["config", "objects/a", "refs/a"] {
            let change_set = tree.prepare(&[entry(&format!("x/{name}"))], ReservedFiles::default()).unwrap();
            tree.apply(&change_set).unwrap();
        }
        assert!(refusal(&tree, &["x/HEAD"], &[]).contains("`x/HEAD` would make `x` a git repository"));
        std::fs::write(folder.path().join("x/HEAD"), "ref: refs/heads/main\n").unwrap();
        assert!(refusal(&tree, &["x/config"], &[]).contains("would change a file of the git repository in `x`"));
        let harmless = [entry("x/refs/b"), FileEntry { content: None, ..entry("x/config") }];
        assert!(tree.prepare(&harmless, ReservedFiles::default()).is_ok());
    }

    #[test]
    fn another_spelling_on_disk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("Src")).unwrap();
        std::fs::write(folder.path().join("README"), "x").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let message = refusal(&tree, &["readme", "src/a"], &[]);
        assert!(message.contains("`readme` differs from `README`"), "{message}");
        assert!(message.contains("`src/a` differs from `Src`"), "{message}");
        assert!(tree.prepare(&[entry("README"), entry("Src/a")], ReservedFiles::default()).is_ok());
    }

    #[test]
    fn lists_above_the_limits_are_refused_before_reading() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let too_many: Vec<FileEntry> = (0..=MAX_FILES).map(|index| entry(&index.to_string())).collect();
        assert_eq!(tree.prepare(&too_many, ReservedFiles::default()).unwrap_err().class, FailureClass::OutputTooLarge);
        let half_limit = "x".repeat(usize::try_from(MAX_BYTES / 2).unwrap() + 1);
        let too_large = ["a", "b"].map(|path| FileEntry { content: Some(half_limit.clone()), ..entry(path) });
        assert_eq!(tree.prepare(&too_large, ReservedFiles::default()).unwrap_err().class, FailureClass::OutputTooLarge);
    }

    #[test]
    fn missing_folders_are_listed_parents_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let change_set =
            tree.prepare(&[entry("a/b/c/x"), entry("a/b/y"), entry("a/z")], ReservedFiles::default()).unwrap();
        assert_eq!(change_set.new_folders, ["a/b", "a/b/c"]);
    }
}
