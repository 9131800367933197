//! Decides which files belong to an orch project, to which one, and in which role.
//!
//! Editors send every YAML file that they open, and most of them are not orch files.

use std::path::{Path, PathBuf};

use crate::config::{self, SETTINGS_FILE, Sources, find_root_from};

/// The role of a file in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileRole {
    /// A pipeline.
    Pipeline,
    /// A test case of a pipeline.
    Case,
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
    /// What the file is.
    pub(super) kind: FileRole,
}

/// Whether a file is a pipeline of an orch project.
pub(super) fn is_pipeline_of_ours(path: &Path, sources: &Sources) -> bool {
    member(path, sources).is_some_and(|member| matches!(member.kind, FileRole::Pipeline))
}

/// Finds the project and the role of a file; returns `None` if the file does not belong to a project.
pub(super) fn member(path: &Path, sources: &Sources) -> Option<ProjectFile> {
    let root = match config::marked_root(sources, path.ancestors().skip(1)) {
        Some(folder) => folder.to_owned(),
        None => unmarked(path, sources)?,
    };
    let name = path.strip_prefix(&root).ok()?.to_string_lossy().replace('\\', "/");
    let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    let kind = match name.split_once('/') {
        None if name == SETTINGS_FILE => FileRole::Settings,
        Some(("prompts", prompt)) => FileRole::Prompt(prompt.to_owned()),
        Some(("schemas", schema)) if name.ends_with(".json") => FileRole::Schema(schema.to_owned()),
        Some(("pipelines", _)) if is_yaml && config::is_case(path) => FileRole::Case,
        Some(("pipelines", rest)) if is_yaml && rest.starts_with("tests/") => return None,
        Some(("pipelines", _)) if is_yaml => FileRole::Pipeline,
        _ if is_yaml && is_pipeline(path, sources) => FileRole::Pipeline,
        _ => return None,
    };
    Some(ProjectFile { root, kind })
}

/// The root for a file with no `orch.yaml` in a folder above it: the folder that contains `pipelines/`, or the file's
/// own folder.
fn unmarked(path: &Path, sources: &Sources) -> Option<PathBuf> {
    let named = |folder: &&Path, name: &str| folder.file_name().is_some_and(|own| own == name);
    if path.ancestors().skip(1).any(|folder| named(&folder, "pipelines")) {
        return Some(find_root_from(sources, path));
    }
    let of_project = path.ancestors().skip(1).find(|folder| named(folder, "prompts") || named(folder, "schemas"));
    match of_project.and_then(Path::parent) {
        Some(root) if root.join("pipelines").is_dir() || !beside(root, sources).is_empty() => Some(root.to_owned()),
        _ => path.parent().map(Path::to_owned),
    }
}

/// Whether a YAML file outside `pipelines/` is a pipeline: it names the schema of pipelines, or has a pipeline's keys.
fn is_pipeline(path: &Path, sources: &Sources) -> bool {
    let Ok(file) = sources.read(path, "") else { return false };
    let mut lines = file.text.lines();
    let named = lines.clone().take(5).any(|line| line.contains("$schema=") && line.contains("pipeline.schema.json"));
    let top = |key: &str| file.text.lines().any(|line| line.starts_with(key));
    named
        || (top("name:")
            && top("steps:")
            && lines.any(|line| line.trim_start_matches([' ', '-', '{']).starts_with("id:")))
}

/// The pipelines directly in a folder.
fn beside(root: &Path, sources: &Sources) -> Vec<PathBuf> {
    let names = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let yaml = names.filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml")).take(200);
    yaml.filter(|path| path.file_name().is_some_and(|name| name != SETTINGS_FILE) && is_pipeline(path, sources))
        .collect()
}

/// The pipelines and test cases of a root, including those that are open and not yet on the disk.
pub(super) fn files<'a>(root: &Path, open: impl Iterator<Item = &'a Path>, sources: &Sources) -> Vec<PathBuf> {
    let ours = |path: &&Path| {
        let member = member(path, sources).filter(|member| member.root == root);
        member.is_some_and(|member| matches!(member.kind, FileRole::Pipeline | FileRole::Case))
    };
    let listed = config::list_pipelines(root).into_iter().chain(config::list_cases(root));
    let mut all: Vec<PathBuf> = listed.map(|name| root.join(name)).collect();
    all.extend(beside(root, sources));
    all.extend(open.filter(ours).map(Path::to_owned));
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let at = |name: &str| root.join(name);
        std::fs::create_dir_all(at("pipelines/tests/default")).unwrap();
        let mut sources = Sources::default();
        sources.put(at("ci.yaml"), "name: ci\nsteps:\n  - script: x\n");
        sources.put(at("p.yaml"), "name: p\nsteps:\n  - id: x\n");
        let kind = |name: &str| member(&at(name), &sources).map(|member| (member.root == root, member.kind));
        assert_eq!(kind("pipelines/a/b.yaml"), Some((true, FileRole::Pipeline)));
        assert_eq!(kind("pipelines/tests/default.yaml"), Some((true, FileRole::Case)));
        assert_eq!(kind("pipelines/tests/default/x.yaml"), None);
        assert_eq!(kind("prompts/a/b.md"), Some((true, FileRole::Prompt("a/b.md".into()))));
        assert_eq!(kind("schemas/a.json"), Some((true, FileRole::Schema("a.json".into()))));
        assert_eq!(kind("orch.yaml"), Some((true, FileRole::Settings)));
        assert_eq!(kind("p.yaml"), Some((true, FileRole::Pipeline)));
        assert_eq!((kind("ci.yaml"), kind("notes.md"), kind("x/prompts/a.md")), (None, None, None));
    }
}
