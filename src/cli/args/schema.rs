//! Loads the schema of `--schema`: a file, or the name of a schema in `schemas/`.

use std::path::Path;

use crate::config;
use crate::diagnostic::{Code as DiagnosticCode, Diagnostic};
use crate::runner::RunnerError;
use crate::runner::project_state::project_root;
use crate::schema::{Schema, SchemaSet};

/// Loads a schema by its file or by its name.
pub(in crate::cli) fn load_schema(name: &str, current_dir: &Path) -> Result<Schema, RunnerError> {
    let direct_path = current_dir.join(name);
    let path = if direct_path.is_file() {
        direct_path
    } else {
        let root = project_root(current_dir);
        let names = [name.to_owned(), format!("{name}.schema.json")];
        let mut candidates = names.iter().filter_map(|name| config::path_in_folder(&root, "schemas", name));
        candidates.find(|path| path.is_file()).ok_or_else(|| {
            RunnerError::usage(format!("there is no schema `{name}`"))
                .with_hint("pass a schema file, or the name of a schema in schemas/")
        })?
    };
    let (folder, file) =
        (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    // Load all schemas in the folder, because the schema may refer to them. Skip invalid schemas, because the schema
    // may not need them.
    let mut set = SchemaSet::default();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let sibling = entry.path();
        let is_schema = sibling.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".schema.json"));
        if is_schema
            && !config::is_outside_folder(folder, &sibling)
            && let Ok(document) = load_document(&sibling)
        {
            set.insert(&entry.file_name().to_string_lossy(), document.value);
        }
    }
    let document = load_document(&path)?;
    set.insert(&file, document.value.clone());
    set.get(&file).map_err(|error| {
        let span = document.spans.value(&error.pointer);
        RunnerError::with_findings(vec![
            Diagnostic::error(DiagnosticCode::SchemaInvalid, error.message).with_span(&document.file, span),
        ])
    })
}

fn load_document(path: &Path) -> Result<config::Document, RunnerError> {
    let display_path = path.display().to_string();
    config::load_json(path, &display_path).map_err(|findings| {
        // The user may have passed another file by mistake, such as a pipeline.
        let findings = findings.into_iter().map(|finding| match finding.code {
            DiagnosticCode::JsonSyntax => {
                finding.with_help("a schema is a JSON file, such as `schemas/plan.schema.json`")
            }
            _ => finding,
        });
        RunnerError::with_findings(findings.collect())
    })
}
