//! Finds pipelines and test cases by name: `default` is `pipelines/default.yaml` of the project.

use std::path::{Path, PathBuf};

use crate::config;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::runner::RunnerError;
use crate::runner::execute::resolve_path;
use crate::runner::project_state::{pipeline_files, project_root};

/// The extensions of pipeline files, the usual one first.
const EXTENSIONS: &[&str] = &["yaml", "yml"];
/// The maximum number of names in a message.
const MAX_LISTED_NAMES: usize = 10;

/// Finds a pipeline file by its path or by its name.
///
/// # Errors
/// No pipeline or several pipelines have the name, or the pipeline may be in a folder that can't be read.
pub(in crate::cli) fn find_pipeline(path_or_name: &Path, current_dir: &Path) -> Result<PathBuf, RunnerError> {
    let Some(name) = parse_name(path_or_name, current_dir) else { return Ok(path_or_name.to_owned()) };
    let root = project_root(current_dir);
    let (files, findings) = pipeline_files(&root, current_dir);
    let folder = root.join("pipelines");
    if let Some(file) = find_yaml_file(&folder, name) {
        return Ok(resolve_path(&file, current_dir));
    }
    let has_name = |file: &&PathBuf| declared_name(file, current_dir).as_deref() == Some(name);
    let matches: Vec<&PathBuf> = files.iter().filter(has_name).collect();
    match matches.as_slice() {
        [file] => Ok(resolve_path(file, current_dir)),
        [] if findings.iter().any(Diagnostic::is_error) => Err(RunnerError::with_findings(findings)),
        [] => Err(not_found_error("pipeline", name, &folder, &files, current_dir)),
        files => {
            let list: Vec<String> = files.iter().map(|file| format!("`{}`", display_path(file, current_dir))).collect();
            Err(RunnerError::usage(format!("{} pipelines are called `{name}`: {}", list.len(), list.join(", ")))
                .with_hint("select one by its path"))
        }
    }
}

/// Finds a test case by its path, or by its name in `pipelines/tests/`.
///
/// # Errors
/// No test case has the name.
pub(in crate::cli) fn find_case(path_or_name: &Path, current_dir: &Path) -> Result<PathBuf, RunnerError> {
    let Some(name) = parse_name(path_or_name, current_dir) else { return Ok(path_or_name.to_owned()) };
    let folder = project_root(current_dir).join("pipelines").join("tests");
    if let Some(file) = find_yaml_file(&folder, name) {
        return Ok(file);
    }
    Err(not_found_error("test case", name, &folder, &list_yaml_files(&folder), current_dir))
}

/// The names of the project's test cases, for completion.
pub(in crate::cli) fn case_names(current_dir: &Path) -> Vec<String> {
    let folder = project_root(current_dir).join("pipelines").join("tests");
    list_yaml_files(&folder).iter().filter_map(|file| name_from_file(file, &folder)).collect()
}

/// Lists the YAML files in a folder without `orch.yaml`. Returns no files if orch can't read the folder.
fn list_yaml_files(folder: &Path) -> Vec<PathBuf> {
    let list_files = |entries: std::fs::ReadDir| {
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_yaml(file)).collect()
    };
    std::fs::read_dir(folder).map(list_files).unwrap_or_default()
}

/// The names of the project's pipelines, for completion.
pub(in crate::cli) fn pipeline_names(current_dir: &Path) -> Vec<String> {
    let root = project_root(current_dir);
    let folder = root.join("pipelines");
    pipeline_files(&root, current_dir).0.iter().filter_map(|file| name_from_file(file, &folder)).collect()
}

/// Returns the argument if it is a name. Returns `None` if it is the path of a file, or contains an extension, `.` or
/// `..`.
fn parse_name<'p>(path_or_name: &'p Path, current_dir: &Path) -> Option<&'p str> {
    let path = current_dir.join(path_or_name);
    // A folder can't be a pipeline file, so the path of a folder can still be the name of a pipeline.
    if path.is_file() || (path.is_symlink() && !path.is_dir()) || path_or_name.extension().is_some() {
        return None;
    }
    let is_plain = path_or_name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    path_or_name.to_str().filter(|name| is_plain && !name.is_empty() && !name.ends_with('/'))
}

/// Finds the YAML file with this name in a folder. A name such as `sub/check` means a file in a subfolder.
fn find_yaml_file(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut files = EXTENSIONS.iter().map(|extension| folder.join(format!("{name}.{extension}")));
    files.find(|file| is_yaml(file) && file.is_file())
}

/// The value of `name:` in a pipeline file.
fn declared_name(file: &Path, current_dir: &Path) -> Option<String> {
    config::load(&resolve_path(file, current_dir)).ok().map(|project| project.pipeline.name)
}

/// The name of a file in a folder: its path relative to the folder, without the extension.
fn name_from_file(file: &Path, folder: &Path) -> Option<String> {
    let relative_path = file.strip_prefix(folder).ok()?.with_extension("");
    relative_path.to_str().map(|name| name.replace('\\', "/"))
}

/// Whether a file may be a pipeline or a test case, judged by its name. `orch.yaml` is neither.
fn is_yaml(file: &Path) -> bool {
    let has_extension = file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|yaml| extension == *yaml));
    has_extension && !file.ends_with(config::SETTINGS_FILE)
}

/// The error for an unknown name. `noun` is "pipeline" or "test case".
fn not_found_error(noun: &str, name: &str, folder: &Path, files: &[PathBuf], current_dir: &Path) -> RunnerError {
    let mut names: Vec<String> = files.iter().filter_map(|file| name_from_file(file, folder)).collect();
    names.sort_unstable();
    let error = RunnerError::usage(format!("there is no {noun} `{name}`"));
    let suggestion = did_you_mean(name, names.iter().map(String::as_str)).map(|name| format!("did you mean `{name}`?"));
    let folder = display_path(folder, current_dir);
    error.with_hint(suggestion.unwrap_or_else(|| {
        let list: Vec<String> = names.iter().take(MAX_LISTED_NAMES).map(|name| format!("`{name}`")).collect();
        match (list.len(), names.len() - list.len()) {
            (0, _) if noun == "pipeline" => format!("`{folder}/` has none; `orch init` creates a project with one"),
            (0, _) => format!("`{folder}/` has none"),
            (_, 0) => format!("`{folder}/` has {}", list.join(", ")),
            (_, more) => format!("`{folder}/` has {} and {more} more", list.join(", ")),
        }
    }))
}

fn display_path(path: &Path, current_dir: &Path) -> String {
    resolve_path(path, current_dir).to_string_lossy().replace('\\', "/")
}
