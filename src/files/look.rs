//! Checks a list of entries against a workspace and reads the files that it would replace.

use std::collections::{BTreeSet, HashMap};

use cap_std::fs::Dir;
use serde_json::Value;

use crate::model::{Class, Failure};

use super::entry::{FileEntry, MOST_MODE, entries};
use super::path::{fold, refused};
use super::problem::{Problems, shown};
use super::record::{ChangeSet, Content, FileChange, FileState};
use super::tree::{Blocked, DiskEntry, Tree, folder_of, folders_of, io, name_of};

/// The most files in one list.
pub const MAX_FILES: usize = 10_000;

/// The most bytes in one list, and the most bytes of the files that it replaces.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Files of the workspace that a list must not write; their paths are relative to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserved<'a> {
    /// The files that show artifacts of the run.
    pub artifacts: &'a [String],
    /// The files of the project that this run executes.
    pub project: &'a [String],
}

impl<'a> Reserved<'a> {
    /// Each file by its folded path, with the words of a message that says why it is reserved.
    fn folded(self) -> Vec<(String, &'a str, &'static str)> {
        let list = |paths: &'a [String], what| paths.iter().map(move |path| (fold(path), path.as_str(), what));
        let artifacts = list(self.artifacts, "is kept for the artifact in");
        artifacts.chain(list(self.project, "is kept, since this run itself is made of")).collect()
    }
}

/// The version of the rules that [`refusals`] checks; under another version, other lists may be refused.
pub const RULES: u32 = 1;

/// What `write` refuses in an artifact, whatever the workspace contains: a list that can't be parsed or is too long,
/// and paths that are not allowed or clash. Empty if there is nothing to refuse.
pub fn refusals(artifact: &Value, reserved: Reserved<'_>) -> Vec<String> {
    let listed = entries(artifact).and_then(|entries| bounded(&entries).map(|()| entries));
    match listed {
        Ok(entries) => {
            let mut problems = Problems::default();
            readable(&entries, reserved, &mut problems);
            problems.list()
        }
        Err(failure) => vec![failure.message],
    }
}

/// The hint for paths where something in the workspace is in the way.
const IN_THE_WAY: &str =
    "nothing was written; remove what is in the way from the workspace and go on with `orch pipeline resume`";

impl Tree {
    /// Checks every path and reads the files that are there. The failure lists everything that is wrong; nothing is
    /// written.
    pub fn look(&self, entries: &[FileEntry], reserved: Reserved<'_>) -> Result<ChangeSet, Failure> {
        bounded(entries)?;
        let mut problems = Problems::default();
        let clean = readable(entries, reserved, &mut problems);
        let mut survey = DiskSurvey { tree: self, names: HashMap::new(), left: MAX_BYTES };
        let mut look = ChangeSet::default();
        let mut new_folders = BTreeSet::new();
        let mut in_the_way = false;
        for entry in clean {
            match survey.find(&entry.path) {
                Ok(before) => look.files.push(change(entry, before)),
                Err(why) => {
                    problems.add(&entry.path, why);
                    in_the_way = true;
                    continue;
                }
            }
            if entry.content.is_some() {
                new_folders.extend(survey.missing(&entry.path).map(str::to_owned));
            }
        }
        // A folder's path is a prefix of the paths of its contents, so sorted paths have parents first.
        look.new_folders = new_folders.into_iter().collect();
        let hint = if in_the_way { IN_THE_WAY } else { "nothing was written" };
        problems.end(Class::PathRefused, "the files can't be written", hint)?;
        Ok(look)
    }
}

fn bounded(entries: &[FileEntry]) -> Result<(), Failure> {
    let bytes: usize = entries.iter().filter_map(|entry| entry.content.as_ref()).map(String::len).sum();
    let what = if entries.len() > MAX_FILES {
        format!("{} files, and {MAX_FILES} are the most", entries.len())
    } else if bytes as u64 > MAX_BYTES {
        format!("{} MiB of files, and {} MiB are the most", bytes.div_ceil(1024 * 1024), MAX_BYTES / 1024 / 1024)
    } else {
        return Ok(());
    };
    Err(Failure::new(Class::OutputTooLarge, format!("the artifact lists {what}"))
        .with_hint("split the files over several steps"))
}

/// The change that an entry makes to a file with the state `before`.
fn change(entry: &FileEntry, before: Option<FileState>) -> FileChange {
    let after = entry.content.as_ref().map(|text| {
        let content = Content::from(text.clone().into_bytes());
        let kept = before.as_ref().and_then(|before| before.mode);
        let mode = match (entry.mode, &before) {
            (Some(mode), _) => cfg!(unix).then_some(mode),
            // The same bytes: the file keeps its mode, whatever it is.
            (None, Some(before)) if before.content == content => kept,
            // Other bytes must not inherit bits such as setuid, by which they would run as another user.
            (None, _) => kept.map(|mode| mode & MOST_MODE),
        };
        FileState { content, mode }
    });
    FileChange { path: entry.path.clone(), before, after }
}

/// The entries with paths that are acceptable as text; the problems of the others go to `problems`.
fn readable<'a>(entries: &'a [FileEntry], reserved: Reserved<'_>, problems: &mut Problems) -> Vec<&'a FileEntry> {
    let reserved = reserved.folded();
    let mut taken: HashMap<String, &FileEntry> = HashMap::new();
    let mut folders: HashMap<String, &str> = HashMap::new();
    let mut clean = Vec::new();
    for entry in entries {
        let key = fold(&entry.path);
        let before = problems.count();
        if let Some(why) = refused(&entry.path) {
            problems.add(&entry.path, why);
        } else if let Some((_, kept, what)) = reserved.iter().find(|(kept, ..)| overlap(kept, &key)) {
            problems.add(&entry.path, format!("{what} `{}`", shown(kept)));
        } else if let Some((folder, other)) = respelled(&entry.path, &folders) {
            problems.add(&entry.path, format!("lies in `{}`, which is also spelled `{}`", shown(folder), shown(other)));
        }
        // A path may be wrong by itself and also listed twice. Both are reported, so that one more reply can fix both.
        if let Some(other) = taken.get(&key) {
            problems.add(&entry.path, twin(entry, other));
        }
        if problems.count() == before && !taken.contains_key(&key) {
            folders.extend(folders_of(&entry.path).map(|folder| (fold(folder), folder)));
            clean.push(entry);
        }
        taken.entry(key).or_insert(entry);
    }
    clean.retain(|entry| {
        let parent = folders_of(&fold(&entry.path)).find_map(|folder| taken.get(folder).copied());
        if let Some(parent) = parent {
            problems.add(&entry.path, format!("lies in `{}`, which is listed as a file", shown(&parent.path)));
        }
        parent.is_none()
    });
    clean
}

/// A folder of a path that another path spells differently, with that other spelling.
fn respelled<'a>(path: &'a str, folders: &HashMap<String, &'a str>) -> Option<(&'a str, &'a str)> {
    folders_of(path).find_map(|folder| {
        let other = folders.get(&fold(folder))?;
        (*other != folder).then_some((folder, *other))
    })
}

fn twin(entry: &FileEntry, other: &FileEntry) -> String {
    if entry.path != other.path {
        format!("and `{}` are one file where case or Unicode form do not count", shown(&other.path))
    } else if entry.content == other.content {
        "is listed twice, with different modes".to_owned()
    } else {
        "is listed twice, with different contents".to_owned()
    }
}

/// Whether two folded paths are the same, or one is a folder of the other.
fn overlap(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || within(one, other) || within(other, one)
}

/// Reads the disk; lists the names of each folder once.
struct DiskSurvey<'a> {
    tree: &'a Tree,
    /// By folder: its names, by their folded form; `None` if the folder does not exist.
    names: HashMap<String, Option<HashMap<String, Vec<String>>>>,
    /// How many bytes may still be read.
    left: u64,
}

impl DiskSurvey<'_> {
    /// The file at a path. Fails if a name of the path exists on disk only in another spelling.
    fn find(&mut self, path: &str) -> Result<Option<FileState>, Blocked> {
        for place in folders_of(path).chain([path]) {
            let Some(names) = self.names_in(folder_of(place))? else { return Ok(None) };
            let name = name_of(place);
            let twins = names.get(&fold(name)).map(Vec::as_slice).unwrap_or_default();
            if let (false, Some(twin)) = (twins.iter().any(|twin| twin == name), twins.first()) {
                let twin = format!("{}{}", &place[..place.len() - name.len()], shown(twin));
                return Err(Blocked::Kind(format!("differs from `{twin}` on disk only in case or Unicode form")));
            }
        }
        match self.tree.find(path, self.left)? {
            DiskEntry::Nothing => Ok(None),
            DiskEntry::File(state) => {
                self.left = self.left.saturating_sub(state.content.bytes().len() as u64);
                Ok(Some(state))
            }
        }
    }

    /// The folders of a path that do not exist; they are known since [`DiskSurvey::find`] has read the path.
    fn missing<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        folders_of(path).filter(|folder| !matches!(self.names.get(*folder), Some(Some(_))))
    }

    fn names_in(&mut self, folder: &str) -> Result<Option<&HashMap<String, Vec<String>>>, Blocked> {
        if !self.names.contains_key(folder) {
            let names = self.tree.folder_at(folder)?.map(|dir| names(&dir)).transpose()?;
            self.names.insert(folder.to_owned(), names);
        }
        Ok(self.names.get(folder).and_then(Option::as_ref))
    }
}

fn names(dir: &Dir) -> Result<HashMap<String, Vec<String>>, Blocked> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for item in dir.entries().map_err(io("listed"))? {
        // A name that is not Unicode can't be another spelling of one that is.
        if let Ok(name) = item.map_err(io("listed"))?.file_name().into_string() {
            names.entry(fold(&name)).or_default().push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> FileEntry {
        FileEntry { path: path.to_owned(), content: Some("x".to_owned()), mode: None }
    }

    fn refusal(tree: &Tree, paths: &[&str], reserved: &[&str]) -> String {
        let entries: Vec<FileEntry> = paths.iter().map(|path| entry(path)).collect();
        let reserved: Vec<String> = reserved.iter().map(|path| (*path).to_owned()).collect();
        let failure = tree.look(&entries, Reserved { artifacts: &reserved, ..Reserved::default() }).unwrap_err();
        assert_eq!(failure.class, Class::PathRefused);
        failure.message
    }

    #[test]
    fn entries_that_collide_are_refused_together() {
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
    fn artifact_files_are_reserved_with_what_is_above_and_below() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        for path in ["plan.json", "PLAN.json", "plan.json/x", "out"] {
            let message = refusal(&tree, &[path], &["plan.json", "out/review.md"]);
            assert!(message.contains("is kept for the artifact"), "{message}");
        }
        let others = [entry("out/other.md"), entry("plan.jsonl")];
        let reserved = Reserved { artifacts: &["plan.json".to_owned()], ..Reserved::default() };
        assert!(tree.look(&others, reserved).is_ok());
    }

    #[test]
    fn a_twin_on_disk_is_refused_unless_the_name_itself_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("Src")).unwrap();
        std::fs::write(folder.path().join("README"), "x").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let message = refusal(&tree, &["readme", "src/a"], &[]);
        assert!(message.contains("`readme` differs from `README`"), "{message}");
        assert!(message.contains("`src/a` differs from `Src`"), "{message}");
        assert!(tree.look(&[entry("README"), entry("Src/a")], Reserved::default()).is_ok());
    }

    #[test]
    fn too_much_is_refused_before_anything_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let many: Vec<FileEntry> = (0..=MAX_FILES).map(|index| entry(&index.to_string())).collect();
        assert_eq!(tree.look(&many, Reserved::default()).unwrap_err().class, Class::OutputTooLarge);
        let half = "x".repeat(usize::try_from(MAX_BYTES / 2).unwrap() + 1);
        let large = ["a", "b"].map(|path| FileEntry { content: Some(half.clone()), ..entry(path) });
        assert_eq!(tree.look(&large, Reserved::default()).unwrap_err().class, Class::OutputTooLarge);
    }

    #[test]
    fn folders_that_are_missing_are_told_parents_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let look = tree.look(&[entry("a/b/c/x"), entry("a/b/y"), entry("a/z")], Reserved::default()).unwrap();
        assert_eq!(look.new_folders, ["a/b", "a/b/c"]);
    }
}
