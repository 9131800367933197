//! Finds the root of a project, and the pipelines and test cases in it.

use std::path::{Component, Path, PathBuf};

use super::files::{self, FolderListing};
use super::sources::Sources;
use crate::diagnostic::{Diagnostic, Severity};

/// The settings file. A folder with this file is the root of a project, unless the file is the placeholder that orch
/// creates while a confined program runs.
pub const SETTINGS_FILE: &str = "orch.yaml";

/// The maximum number of folders above a file to search for a root.
const MAX_FOLDERS: usize = 128;

/// The root of the project to which a pipeline file belongs.
///
/// The root is the nearest ancestor with `orch.yaml`, else the parent of the nearest ancestor named `pipelines`, else
/// the file's folder. A relative path gives a relative root if the root is below the current folder, which keeps
/// messages short.
pub fn find_root(pipeline: &Path) -> PathBuf {
    find_root_from(&Sources::default(), pipeline)
}

/// Like [`find_root`], with texts that replace files.
pub fn find_root_from(sources: &Sources, pipeline: &Path) -> PathBuf {
    let has_no_parent_dirs = !pipeline.components().any(|component| matches!(component, Component::ParentDir));
    let pipeline_path = if has_no_parent_dirs { pipeline.to_owned() } else { absolute(pipeline) };
    let own_folder = dot_if_empty(pipeline_path.parent());
    let absolute_path = absolute(&pipeline_path);
    let depth = pipeline_path.ancestors().count();
    let folders = || pipeline_path.ancestors().skip(1).chain(absolute_path.ancestors().skip(depth.max(1)));
    let settings_folder = find_root_with_settings(sources, folders());
    // The empty path stands for the current folder, whose name only the absolute path contains.
    let folder_name = |folder: &Path| {
        let named = if folder.as_os_str().is_empty() { absolute_path.ancestors().nth(depth - 1) } else { Some(folder) };
        named.and_then(Path::file_name).map(ToOwned::to_owned)
    };
    let pipelines_folder =
        || folders().take(MAX_FOLDERS).find(|folder| folder_name(folder).is_some_and(|name| name == "pipelines"));
    match settings_folder {
        Some(folder) => dot_if_empty(Some(folder)),
        None => pipelines_folder().map_or(own_folder, |folder| match folder.parent() {
            // The current folder is itself named `pipelines`, so the path does not contain the name of its parent.
            None => PathBuf::from(".."),
            parent => dot_if_empty(parent),
        }),
    }
}

/// The first folder with an `orch.yaml` among the first 128 of `folders`. A folder `pipelines` that is a link belongs
/// to the project with the link, so an `orch.yaml` at the target of the link does not make the folder a root.
pub fn find_root_with_settings<'a>(sources: &Sources, folders: impl Iterator<Item = &'a Path>) -> Option<&'a Path> {
    let is_linked_pipelines =
        |folder: &Path| folder.file_name().is_some_and(|name| name == "pipelines") && folder.is_symlink();
    folders
        .take(MAX_FOLDERS)
        .find(|folder| sources.is_settings_file(&folder.join(SETTINGS_FILE)) && !is_linked_pipelines(folder))
}

/// Whether a folder contains an `orch.yaml`. The placeholder that orch creates while a confined program runs does not
/// count.
pub fn has_settings_file(folder: &Path) -> bool {
    Sources::default().is_settings_file(&folder.join(SETTINGS_FILE))
}

/// The folder, or `.` for an empty path.
fn dot_if_empty(folder: Option<&Path>) -> PathBuf {
    match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Returns the absolute path without `..`; does not resolve links.
pub fn absolute(path: &Path) -> PathBuf {
    let absolute_path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normalized = PathBuf::new();
    for component in absolute_path.components() {
        match component {
            Component::ParentDir => {
                normalized.pop();
            }
            component => normalized.push(component),
        }
    }
    normalized
}

/// The pipeline files of a root, as sorted paths relative to it, such as `pipelines/default.yaml`.
pub fn list_pipelines(root: &Path) -> Vec<String> {
    pipeline_listing(root).names
}

/// Like [`list_pipelines`], with a diagnostic for each skipped entry. Omits the files below `pipelines/tests`, which
/// belong to test cases and need not be valid.
pub fn pipeline_listing(root: &Path) -> FolderListing {
    let folder = display_path(root, "pipelines");
    if let Some(diagnostic) = files::check_link_target(root, &root.join("pipelines"), &folder) {
        return FolderListing { names: Vec::new(), diagnostics: vec![("pipelines".to_owned(), *diagnostic)] };
    }
    let mut listing = files::list_folder(&root.join("pipelines"), &folder, &is_pipeline);
    let is_outside_tests = |name: &String| !is_below_tests(Path::new(name));
    listing.names = listing.names.iter().map(|name| format!("pipelines/{name}")).filter(is_outside_tests).collect();
    listing.diagnostics.retain(|(name, _)| is_outside_tests(&format!("pipelines/{name}")));
    listing
}

/// The test cases of a root, as sorted paths relative to it, such as `pipelines/tests/default.yaml`.
pub fn list_cases(root: &Path) -> Vec<String> {
    let folder = root.join("pipelines").join("tests");
    if files::is_outside_folder(root, &folder) {
        return Vec::new();
    }
    let names = files::list_file_names(&folder).into_iter();
    names.map(|name| format!("pipelines/tests/{name}")).filter(|name| is_case(Path::new(name))).collect()
}

/// Whether a file is a test case, judged by its location: a YAML file directly in `pipelines/tests/`.
pub fn is_case(path: &Path) -> bool {
    is_pipeline(&path.to_string_lossy()) && path.parent().is_some_and(|folder| folder.ends_with("pipelines/tests"))
}

/// Whether a file is below `pipelines/tests/`, which contains test cases and the files that they use.
fn is_below_tests(path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| folder.ends_with("pipelines/tests"))
}

/// Whether a file may be a pipeline, judged by its name.
fn is_pipeline(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        && path.file_name().is_some_and(|name| name != SETTINGS_FILE)
}

/// The pipeline files below a folder, sorted, and a diagnostic for each skipped entry.
///
/// If any of the files has an ancestor named `pipelines`, only such files count: other YAML files of a project need
/// not be pipelines.
pub fn pipelines_below(folder: &Path) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let FolderListing { names, diagnostics } = files::list_folder(folder, &display_path(folder, ""), &is_pipeline);
    let is_relevant = |path: &PathBuf| is_case(path) || !is_below_tests(path);
    let is_in_pipelines = |path: &Path| path.ancestors().any(|folder| folder.ends_with("pipelines"));
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).filter(is_relevant).collect();
    let diagnostics = diagnostics.into_iter().map(|(name, diagnostic)| (folder.join(name), diagnostic));
    let diagnostics = diagnostics.filter(|(path, _)| is_relevant(path));
    if !files.iter().any(|file| is_in_pipelines(file)) {
        return (files, diagnostics.map(|(_, diagnostic)| diagnostic).collect());
    }
    let diagnostics = diagnostics.filter_map(|(path, mut diagnostic)| match diagnostic.severity {
        Severity::Warning => is_in_pipelines(&path).then_some(diagnostic),
        Severity::Error if is_in_pipelines(&path) => Some(diagnostic),
        Severity::Error => {
            diagnostic.severity = Severity::Warning;
            Some(diagnostic)
        }
    });
    let diagnostics = diagnostics.collect();
    (files.into_iter().filter(|file| is_in_pipelines(file)).collect(), diagnostics)
}

/// The path of a file in a folder of a root, such as `plan.md` in `prompts`; `None` if the path leads out of the folder
/// or, by a link, out of the root.
pub fn path_in_folder(root: &Path, folder: &str, name: &str) -> Option<PathBuf> {
    files::resolve_in_folder(&root.join(folder), name).ok().filter(|path| !files::is_outside_folder(root, path))
}

/// The name that messages use for a file of a root.
pub(super) fn display_path(root: &Path, name: &str) -> String {
    let path = if root == Path::new(".") { PathBuf::from(name) } else { root.join(name) };
    path.to_string_lossy().replace('\\', "/").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::SETTINGS_PLACEHOLDER;

    #[test]
    fn the_nearest_folder_with_a_settings_file_is_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let deep_folder = folder.path().join("a/pipelines/sub");
        fs::create_dir_all(&deep_folder).unwrap();
        let file = deep_folder.join("p.yaml");
        assert_eq!(find_root(&file), folder.path().join("a"), "the parent of `pipelines`");
        fs::write(folder.path().join(SETTINGS_FILE), "").unwrap();
        assert_eq!(find_root(&file), folder.path());
        assert_eq!(find_root(&deep_folder.join("../../pipelines/sub/p.yaml")), folder.path());
        fs::create_dir_all(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/orch.yaml"), "").unwrap();
        assert_eq!(find_root(&folder.path().join("b/p.yaml")), folder.path().join("b"));
    }

    #[test]
    fn a_folder_with_the_placeholder_of_a_confined_program_is_not_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let pipelines = folder.path().join("pipelines");
        let (file, settings) = (pipelines.join("sub/p.yaml"), pipelines.join(SETTINGS_FILE));
        fs::create_dir_all(pipelines.join("sub")).unwrap();
        for placeholder in [folder.path().join(SETTINGS_FILE), settings.clone(), pipelines.join("sub/orch.yaml")] {
            fs::write(placeholder, SETTINGS_PLACEHOLDER).unwrap();
        }
        assert_eq!(find_root(&file), folder.path());
        assert!(!has_settings_file(folder.path()) && !has_settings_file(&pipelines));
        // Every other text is a settings file, also one of the same length.
        for text in [SETTINGS_PLACEHOLDER.replace("removes", "Removes"), format!("{SETTINGS_PLACEHOLDER}\n")] {
            fs::write(&settings, text).unwrap();
            assert_eq!(find_root(&file), pipelines);
        }
        let mut sources = Sources::default();
        sources.put(&settings, SETTINGS_PLACEHOLDER);
        assert_eq!(find_root_from(&sources, &file), folder.path(), "the editor has the placeholder open");
    }

    #[test]
    fn the_search_for_a_root_is_bounded() {
        let mut sources = Sources::default();
        sources.put("/orch.yaml", "");
        let path_at_depth = |folders: usize| PathBuf::from(format!("/{}p.yaml", "a/".repeat(folders)));
        assert_eq!(find_root_from(&sources, &path_at_depth(MAX_FOLDERS - 1)), PathBuf::from("/"));
        let deep_path = path_at_depth(MAX_FOLDERS + 1);
        assert_eq!(find_root_from(&sources, &deep_path), deep_path.parent().unwrap());
        let access_count = sources.accessed_paths().len();
        find_root_from(&sources, &path_at_depth(100_000));
        assert!(sources.accessed_paths().len() <= access_count + MAX_FOLDERS);
    }

    #[test]
    fn without_a_settings_file_the_folder_of_the_file_is_the_root() {
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
    fn pipelines_below_a_folder_are_listed() {
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
