//! Advice for a path at which there is no pipeline.

use std::path::Path;

use super::root;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// If the file's name is not that of a YAML file, adds to its first mistake the question whether it is a pipeline at
/// all.
pub(super) fn unlike_a_pipeline(mut found: Vec<Diagnostic>, path: &Path) -> Vec<Diagnostic> {
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if !is_yaml && let Some(first) = found.first_mut() {
        first.help.push("is this a pipeline? those are YAML files, such as `pipelines/default.yaml`".to_owned());
    }
    found
}

/// Completes the diagnostic about a missing pipeline with the closest name, or with the pipelines that exist.
pub(super) fn not_found(problem: Diagnostic, root: &Path, shown: &str) -> Diagnostic {
    if problem.code != Code::FileNotFound && !Path::new(shown).is_dir() {
        return problem;
    }
    let known: Vec<String> = root::list_pipelines(root).iter().map(|name| root::shown(root, name)).collect();
    let stem = |path: &str| Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = known.iter().map(|name| stem(name)).collect();
    let wanted = stem(shown);
    let close = did_you_mean(&wanted, stems.iter().map(String::as_str))
        .or(stems.iter().find(|s| **s == wanted).map(String::as_str));
    let close = close.and_then(|stem| stems.iter().position(|known| known == stem)).and_then(|at| known.get(at));
    match close {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None if known.is_empty() => problem.help(format!(
            "there are no pipelines in `{}`; `orch init` makes a project with a first one",
            root::shown(root, "pipelines")
        )),
        None => {
            let names: Vec<_> = known.iter().take(10).map(|name| format!("`{name}`")).collect();
            problem.help(format!("pipelines here: {}", names.join(", ")))
        }
    }
}
