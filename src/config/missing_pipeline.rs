//! Advice for a path without a pipeline.

use std::path::Path;

use super::root;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

/// Adds advice to the first diagnostic about a file whose name does not end in `.yaml` or `.yml`.
pub(super) fn add_file_type_advice(mut diagnostics: Vec<Diagnostic>, path: &Path) -> Vec<Diagnostic> {
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    if !is_yaml && let Some(first) = diagnostics.first_mut() {
        first.help.push("is this a pipeline? pipelines are YAML files, such as `pipelines/default.yaml`".to_owned());
    }
    diagnostics
}

/// Adds the pipeline with the closest name, or else all pipelines, to the diagnostic about a missing pipeline.
pub(super) fn add_missing_pipeline_advice(diagnostic: Diagnostic, root: &Path, display_path: &str) -> Diagnostic {
    if diagnostic.code != Code::FileNotFound && !Path::new(display_path).is_dir() {
        return diagnostic;
    }
    let pipelines: Vec<String> = root::list_pipelines(root).iter().map(|name| root::display_path(root, name)).collect();
    let stem_of = |path: &str| Path::new(path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let stems: Vec<String> = pipelines.iter().map(|name| stem_of(name)).collect();
    let wanted_stem = stem_of(display_path);
    let closest_stem = did_you_mean(&wanted_stem, stems.iter().map(String::as_str))
        .or(stems.iter().find(|stem| **stem == wanted_stem).map(String::as_str));
    let closest = closest_stem.and_then(|closest| stems.iter().position(|stem| stem == closest));
    match closest.and_then(|index| pipelines.get(index)) {
        Some(name) => diagnostic.with_help(format!("did you mean `{name}`?")),
        None if pipelines.is_empty() => diagnostic.with_help(format!(
            "there are no pipelines in `{}`; `orch init` creates a project with one",
            root::display_path(root, "pipelines")
        )),
        None => {
            let names: Vec<_> = pipelines.iter().take(10).map(|name| format!("`{name}`")).collect();
            diagnostic.with_help(format!("pipelines here: {}", names.join(", ")))
        }
    }
}
