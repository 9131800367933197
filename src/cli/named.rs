//! Pipelines and test cases by their names: `default` is `pipelines/default.yaml` of the project.

use crate::session::execute::short_path;
use std::path::{Path, PathBuf};

use crate::config;
use crate::diagnostic::did_you_mean;

use super::runs;
use crate::session::SessionError;

/// The extensions of pipeline files, the usual one first.
const EXTENSIONS: &[&str] = &["yaml", "yml"];
/// How many names a message lists.
const LISTED: usize = 10;

/// The pipeline file that is meant: a path as it is, else the pipeline of that name.
///
/// # Errors
/// There is no pipeline of the name, or several; the message tells of those there are.
pub(super) fn pipeline(given: &Path, here: &Path) -> Result<PathBuf, SessionError> {
    let Some(name) = name(given, here) else { return Ok(given.to_owned()) };
    let root = runs::root(here);
    let (files, _) = runs::pipelines(&root, here);
    let folder = root.join("pipelines");
    if let Some(file) = by_file(&folder, name) {
        return Ok(short_path(&file, here));
    }
    let named = |file: &&PathBuf| said_name(file, here).as_deref() == Some(name);
    let found: Vec<&PathBuf> = files.iter().filter(named).collect();
    match found.as_slice() {
        [one] => Ok(short_path(one, here)),
        [] => Err(unknown("pipeline", name, &folder, &files, here)),
        several => {
            let list: Vec<String> = several.iter().map(|file| format!("`{}`", shown(file, here))).collect();
            Err(SessionError::usage(format!("{} pipelines are called `{name}`: {}", list.len(), list.join(", ")))
                .hint("name one by its path"))
        }
    }
}

/// The test case that is meant: a path as it is, else the case of that name in `pipelines/tests/`.
///
/// # Errors
/// There is no case of the name.
pub(super) fn case(given: &Path, here: &Path) -> Result<PathBuf, SessionError> {
    let Some(name) = name(given, here) else { return Ok(given.to_owned()) };
    let folder = runs::root(here).join("pipelines").join("tests");
    if let Some(file) = by_file(&folder, name) {
        return Ok(file);
    }
    Err(unknown("test case", name, &folder, &files_of(&folder), here))
}

/// The names that a project's test cases have here, for completion.
pub(super) fn cases(here: &Path) -> Vec<String> {
    let folder = runs::root(here).join("pipelines").join("tests");
    files_of(&folder).iter().filter_map(|file| stem(file, &folder)).collect()
}

/// The YAML files of a folder; one that can't be read has none here, and says why when one is asked for.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let files = |entries: std::fs::ReadDir| {
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_yaml(file)).collect()
    };
    std::fs::read_dir(folder).map(files).unwrap_or_default()
}

/// The names that a project's pipelines have here, for completion.
pub(super) fn pipelines(here: &Path) -> Vec<String> {
    let root = runs::root(here);
    let folder = root.join("pipelines");
    runs::pipelines(&root, here).0.iter().filter_map(|file| stem(file, &folder)).collect()
}

/// What is given, if it can only be a name: nothing is there, and it has neither an extension nor a `.` or `..`.
fn name<'g>(given: &'g Path, here: &Path) -> Option<&'g str> {
    let there = here.join(given);
    // A folder is no pipeline, so the name is meant.
    if there.is_file() || (there.is_symlink() && !there.is_dir()) || given.extension().is_some() {
        return None;
    }
    let plain = given.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    given.to_str().filter(|name| plain && !name.is_empty() && !name.ends_with('/'))
}

/// The file of a name in a folder, or below it: `sub/check`.
fn by_file(folder: &Path, name: &str) -> Option<PathBuf> {
    EXTENSIONS.iter().map(|extension| folder.join(format!("{name}.{extension}"))).find(|file| file.is_file())
}

/// The name that a pipeline file says itself.
fn said_name(file: &Path, here: &Path) -> Option<String> {
    config::load(&short_path(file, here)).ok().map(|project| project.pipeline.name)
}

/// The name of a file in a folder.
fn stem(file: &Path, folder: &Path) -> Option<String> {
    let inside = file.strip_prefix(folder).ok()?.with_extension("");
    inside.to_str().map(|name| name.replace('\\', "/"))
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

fn unknown(what: &str, name: &str, folder: &Path, files: &[PathBuf], here: &Path) -> SessionError {
    let mut names: Vec<String> = files.iter().filter_map(|file| stem(file, folder)).collect();
    names.sort_unstable();
    let error = SessionError::usage(format!("there is no {what} `{name}`"));
    let near = did_you_mean(name, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
    let folder = shown(folder, here);
    error.hint(near.unwrap_or_else(|| {
        let list: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
        match (list.len(), names.len() - list.len()) {
            (0, _) if what == "pipeline" => format!("`{folder}/` has none; `orch init` makes a first one"),
            (0, _) => format!("`{folder}/` has none"),
            (_, 0) => format!("`{folder}/` has {}", list.join(", ")),
            (_, more) => format!("`{folder}/` has {} and {more} more", list.join(", ")),
        }
    }))
}

fn shown(path: &Path, here: &Path) -> String {
    short_path(path, here).to_string_lossy().replace('\\', "/")
}
