//! Determines the orch project that a file belongs to, if any, and the role of the file in the project.
//!
//! Editors send every YAML file that they open, and most of these files do not belong to orch.

use std::path::{Path, PathBuf};

use crate::config::{self, SETTINGS_FILE, Sources, find_root_from};

/// The role of a file in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileRole {
    /// A pipeline.
    Pipeline,
    /// A test case of a pipeline.
    TestCase,
    /// `orch.yaml`.
    Settings,
    /// A prompt, by its name in `prompts/`.
    Prompt(String),
    /// A schema, by its name in `schemas/`.
    Schema(String),
}

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProjectFile {
    /// The project's root.
    pub(super) root: PathBuf,
    /// The role of the file.
    pub(super) role: FileRole,
}

/// Returns whether a file is a pipeline of an orch project.
pub(super) fn is_project_pipeline(path: &Path, sources: &Sources) -> bool {
    classify_file(path, sources).is_some_and(|file| matches!(file.role, FileRole::Pipeline))
}

/// Finds the project and the role of a file; returns `None` if the file does not belong to a project.
pub(super) fn classify_file(path: &Path, sources: &Sources) -> Option<ProjectFile> {
    let root = match config::find_root_with_settings(sources, path.ancestors().skip(1)) {
        Some(folder) => folder.to_owned(),
        None => root_without_settings(path, sources)?,
    };
    let name = path.strip_prefix(&root).ok()?.to_string_lossy().replace('\\', "/");
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let role = match name.split_once('/') {
        None if name == SETTINGS_FILE => FileRole::Settings,
        // A placeholder of a confined program, which is not the settings of a project.
        _ if path.ends_with(SETTINGS_FILE) => return None,
        Some(("prompts", prompt)) => FileRole::Prompt(prompt.to_owned()),
        Some(("schemas", schema)) if name.ends_with(".json") => FileRole::Schema(schema.to_owned()),
        Some(("pipelines", _)) if is_yaml && config::is_case(path) => FileRole::TestCase,
        Some(("pipelines", rest)) if is_yaml && rest.starts_with("tests/") => return None,
        Some(("pipelines", _)) if is_yaml => FileRole::Pipeline,
        _ if is_yaml && is_pipeline(path, sources) => FileRole::Pipeline,
        _ => return None,
    };
    Some(ProjectFile { root, role })
}

/// Returns the root for a file with no `orch.yaml` in any parent folder: the folder that contains `pipelines/`, or the
/// file's own folder.
fn root_without_settings(path: &Path, sources: &Sources) -> Option<PathBuf> {
    let has_name = |folder: &&Path, name: &str| folder.file_name().is_some_and(|folder_name| folder_name == name);
    if path.ancestors().skip(1).any(|folder| has_name(&folder, "pipelines")) {
        return Some(find_root_from(sources, path));
    }
    let mut folders = path.ancestors().skip(1);
    let content_folder = folders.find(|folder| has_name(folder, "prompts") || has_name(folder, "schemas"));
    match content_folder.and_then(Path::parent) {
        Some(root) if root.join("pipelines").is_dir() || !pipelines_in(root, sources).is_empty() => {
            Some(root.to_owned())
        }
        _ => path.parent().map(Path::to_owned),
    }
}

/// Returns whether a YAML file outside `pipelines/` is a pipeline: it names the schema of pipelines, or has the keys of
/// a pipeline.
fn is_pipeline(path: &Path, sources: &Sources) -> bool {
    let Ok(file) = sources.read(path, "") else { return false };
    let mut lines = file.text.lines();
    let names_schema =
        lines.clone().take(5).any(|line| line.contains("$schema=") && line.contains("pipeline.schema.json"));
    let has_top_level_key = |key: &str| file.text.lines().any(|line| line.starts_with(key));
    names_schema
        || (has_top_level_key("name:")
            && has_top_level_key("steps:")
            && lines.any(|line| line.trim_start_matches([' ', '-', '{']).starts_with("id:")))
}

/// Returns the pipelines directly in a folder.
fn pipelines_in(root: &Path, sources: &Sources) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let yaml_files = paths.filter(is_yaml).take(200);
    yaml_files
        .filter(|path| path.file_name().is_some_and(|name| name != SETTINGS_FILE) && is_pipeline(path, sources))
        .collect()
}

/// Returns the pipelines and test cases of a root, including files that are open and not yet on the disk.
pub(super) fn pipelines_and_test_cases<'a>(
    root: &Path,
    open_paths: impl Iterator<Item = &'a Path>,
    sources: &Sources,
) -> Vec<PathBuf> {
    let is_in_project = |path: &&Path| {
        let file = classify_file(path, sources).filter(|file| file.root == root);
        file.is_some_and(|file| matches!(file.role, FileRole::Pipeline | FileRole::TestCase))
    };
    let names = config::list_pipelines(root).into_iter().chain(config::list_cases(root));
    let mut files: Vec<PathBuf> = names.map(|name| root.join(name)).collect();
    files.extend(pipelines_in(root, sources));
    files.extend(open_paths.filter(is_in_project).map(Path::to_owned));
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_content_of_a_file_determine_its_role() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let path = |name: &str| root.join(name);
        std::fs::create_dir_all(path("pipelines/tests/default")).unwrap();
        let mut sources = Sources::default();
        sources.put(path("ci.yaml"), "name: ci\nsteps:\n  - script: x\n");
        sources.put(path("p.yaml"), "name: p\nsteps:\n  - id: x\n");
        std::fs::write(path("pipelines/orch.yaml"), crate::model::SETTINGS_PLACEHOLDER).unwrap();
        let role = |name: &str| classify_file(&path(name), &sources).map(|file| (file.root == root, file.role));
        assert_eq!(role("pipelines/a/b.yaml"), Some((true, FileRole::Pipeline)));
        assert_eq!(role("pipelines/tests/default.yaml"), Some((true, FileRole::TestCase)));
        assert_eq!(role("pipelines/tests/default/x.yaml"), None);
        assert_eq!(role("prompts/a/b.md"), Some((true, FileRole::Prompt("a/b.md".into()))));
        assert_eq!(role("schemas/a.json"), Some((true, FileRole::Schema("a.json".into()))));
        assert_eq!(role("orch.yaml"), Some((true, FileRole::Settings)));
        assert_eq!(role("pipelines/orch.yaml"), None);
        assert_eq!(role("p.yaml"), Some((true, FileRole::Pipeline)));
        assert_eq!((role("ci.yaml"), role("notes.md"), role("x/prompts/a.md")), (None, None, None));
    }
}
