//! Finds the root of a project, and the pipelines and test cases in it.

use std::path::{Component, Path, PathBuf};

use super::files::{self, FolderListing};
use super::sources::Sources;
use crate::diagnostic::{Diagnostic, Severity};

/// The file that marks a root and holds the settings.
pub const SETTINGS_FILE: &str = "orch.yaml";

/// How many folders above a file are searched for a root.
const MAX_FOLDERS: usize = 128;

/// The root of the project that a pipeline file belongs to.
///
/// It is the nearest ancestor with `orch.yaml`, else the parent of the nearest ancestor named `pipelines`, else the
/// file's folder. A relative path gives a relative root if the root is below the current folder, which keeps messages
/// short.
pub fn find_root(pipeline: &Path) -> PathBuf {
    find_root_from(&Sources::default(), pipeline)
}

/// Like [`find_root`], with texts that replace files.
pub fn find_root_from(sources: &Sources, pipeline: &Path) -> PathBuf {
    let plain = !pipeline.components().any(|part| matches!(part, Component::ParentDir));
    let near = if plain { pipeline.to_owned() } else { absolute(pipeline) };
    let own = shown_folder(near.parent());
    let far = absolute(&near);
    let near_depth = near.ancestors().count();
    let folders = || near.ancestors().skip(1).chain(far.ancestors().skip(near_depth.max(1)));
    let marked = marked_root(sources, folders());
    let named =
        || folders().take(MAX_FOLDERS).find(|folder| folder.file_name().is_some_and(|name| name == "pipelines"));
    match marked {
        Some(folder) => shown_folder(Some(folder)),
        None => named().map_or(own, |folder| match folder.parent() {
            // The current folder is itself named `pipelines`, so no part of the path names its parent.
            None => PathBuf::from(".."),
            parent => shown_folder(parent),
        }),
    }
}

/// The first of the folders that has `orch.yaml`, among the first 128. A folder `pipelines` that is a link belongs to
/// the project with the link, so an `orch.yaml` at the link's target does not make it a root.
pub fn marked_root<'a>(sources: &Sources, folders: impl Iterator<Item = &'a Path>) -> Option<&'a Path> {
    let linked = |folder: &Path| folder.file_name().is_some_and(|name| name == "pipelines") && folder.is_symlink();
    folders.take(MAX_FOLDERS).find(|folder| sources.is_file(&folder.join(SETTINGS_FILE)) && !linked(folder))
}

fn shown_folder(folder: Option<&Path>) -> PathBuf {
    match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// The absolute path without `..`; does not resolve links.
pub fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut out = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// The pipeline files of a root, as sorted paths relative to it, such as `pipelines/default.yaml`.
pub fn list_pipelines(root: &Path) -> Vec<String> {
    look_for_pipelines(root).names
}

/// Like [`list_pipelines`], with the problems of what was skipped. Files below `pipelines/tests` are left out: they
/// belong to test cases and need not be valid.
pub fn look_for_pipelines(root: &Path) -> FolderListing {
    let folder = shown(root, "pipelines");
    if let Some(problem) = files::link_outside(root, &root.join("pipelines"), &folder) {
        return FolderListing { names: Vec::new(), problems: vec![("pipelines".to_owned(), *problem)] };
    }
    let mut found = files::look(&root.join("pipelines"), &folder, &is_pipeline);
    let ours = |name: &String| !is_of_tests(Path::new(name));
    found.names = found.names.iter().map(|name| format!("pipelines/{name}")).filter(ours).collect();
    found.problems.retain(|(name, _)| ours(&format!("pipelines/{name}")));
    found
}

/// The test cases of a root, as sorted paths relative to it, such as `pipelines/tests/default.yaml`.
pub fn list_cases(root: &Path) -> Vec<String> {
    let folder = root.join("pipelines").join("tests");
    if files::escapes(root, &folder) {
        return Vec::new();
    }
    let names = files::list(&folder).into_iter();
    names.map(|name| format!("pipelines/tests/{name}")).filter(|name| is_case(Path::new(name))).collect()
}

/// Whether the location of a file makes it a test case: a YAML file directly in `pipelines/tests/`.
pub fn is_case(path: &Path) -> bool {
    is_pipeline(&path.to_string_lossy()) && path.parent().is_some_and(|folder| folder.ends_with("pipelines/tests"))
}

/// Whether a file lies below `pipelines/tests/`: a test case, or a file that one uses.
fn is_of_tests(path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| folder.ends_with("pipelines/tests"))
}

/// Whether a file's name allows it to be a pipeline.
fn is_pipeline(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        && path.file_name().is_some_and(|name| name != SETTINGS_FILE)
}

/// The pipeline files below a folder, sorted, and the problems of what was skipped.
///
/// If any of the files is in a folder named `pipelines`, at, above or below this one, only such files count: a project
/// has other YAML files and folders too, which need not be pipelines.
pub fn pipelines_below(folder: &Path) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let FolderListing { names, problems } = files::look(folder, &shown(folder, ""), &is_pipeline);
    let ours = |path: &PathBuf| is_case(path) || !is_of_tests(path);
    let in_pipelines = |path: &Path| path.ancestors().any(|folder| folder.ends_with("pipelines"));
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).filter(ours).collect();
    let problems = problems.into_iter().map(|(name, problem)| (folder.join(name), problem));
    let problems = problems.filter(|(place, _)| ours(place));
    if !files.iter().any(|file| in_pipelines(file)) {
        return (files, problems.map(|(_, problem)| problem).collect());
    }
    let problems = problems.filter_map(|(place, mut problem)| match problem.severity {
        Severity::Warning => in_pipelines(&place).then_some(problem),
        Severity::Error if in_pipelines(&place) => Some(problem),
        Severity::Error => {
            problem.severity = Severity::Warning;
            Some(problem)
        }
    });
    let problems = problems.collect();
    (files.into_iter().filter(|file| in_pipelines(file)).collect(), problems)
}

/// The path of a file by its name in a folder of a root, such as `plan.md` in `prompts`; `None` if the name leads out
/// of the folder.
pub fn member_path(root: &Path, folder: &str, name: &str) -> Option<PathBuf> {
    files::confined(&root.join(folder), name).ok().filter(|path| !files::escapes(root, path))
}

/// The name that messages use for a file of a root.
pub(super) fn shown(root: &Path, name: &str) -> String {
    let path = if root == Path::new(".") { PathBuf::from(name) } else { root.join(name) };
    path.to_string_lossy().replace('\\', "/").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_nearest_settings_file_marks_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/pipelines/sub");
        fs::create_dir_all(&deep).unwrap();
        let file = deep.join("p.yaml");
        assert_eq!(find_root(&file), folder.path().join("a"), "the parent of `pipelines`");
        fs::write(folder.path().join(SETTINGS_FILE), "").unwrap();
        assert_eq!(find_root(&file), folder.path());
        assert_eq!(find_root(&deep.join("../../pipelines/sub/p.yaml")), folder.path());
        fs::create_dir_all(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/orch.yaml"), "").unwrap();
        assert_eq!(find_root(&folder.path().join("b/p.yaml")), folder.path().join("b"));
    }

    #[test]
    fn a_root_far_above_a_file_is_not_looked_for() {
        let mut sources = Sources::default();
        sources.put("/orch.yaml", "");
        let below = |folders: usize| PathBuf::from(format!("/{}p.yaml", "a/".repeat(folders)));
        assert_eq!(find_root_from(&sources, &below(MAX_FOLDERS - 1)), PathBuf::from("/"));
        let deep = below(MAX_FOLDERS + 1);
        assert_eq!(find_root_from(&sources, &deep), deep.parent().unwrap());
        let asked = sources.asked().len();
        find_root_from(&sources, &below(100_000));
        assert!(sources.asked().len() <= asked + MAX_FOLDERS);
    }

    #[test]
    fn without_marks_the_folder_of_the_file_is_the_root() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_root(&folder.path().join("p.yaml")), folder.path());
        assert_eq!(find_root(Path::new("no-such-pipelines/p.yaml")), Path::new("no-such-pipelines"));
        assert_eq!(find_root(Path::new("pipelines/p.yaml")), Path::new("."));
    }

    #[test]
    fn pipelines_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("pipelines/x")).unwrap();
        for name in ["pipelines/b.yml", "pipelines/x/a.yaml", "pipelines/notes.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(list_pipelines(folder.path()), ["pipelines/b.yml", "pipelines/x/a.yaml"]);
    }

    #[test]
    fn a_folder_has_the_pipelines_below_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/pipelines")).unwrap();
        for name in ["x.yaml", "orch.yaml", "notes.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(pipelines_below(folder.path()).0, [folder.path().join("x.yaml")]);
        fs::write(folder.path().join("a/pipelines/p.yaml"), "").unwrap();
        assert_eq!(pipelines_below(folder.path()).0, [folder.path().join("a/pipelines/p.yaml")]);
    }
}
