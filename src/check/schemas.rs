//! Checks schemas: the schema of an output must exist and be valid; the schema of an input must be valid and fit its
//! default.

use serde_json::Value;

use super::flow::has_load_diagnostic;
use crate::config::{
    Document, NamedFolder, OutputType, Project, child_pointer, output_type, steps_with_pointers, unusable_link,
};
use crate::diagnostic::{Code, Diagnostic, equivalents};
use crate::schema::{Schema, SchemaError};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (step_pointer, step) in steps_with_pointers(&project.pipeline) {
        let Some(OutputType::File(file)) = output_type(step) else { continue };
        let pointer = child_pointer(&step_pointer, if step.schema.is_some() { "schema" } else { "output" });
        diagnostics.extend(check_exists(project, &file, &pointer, step.schema.as_deref()));
    }
    for (file, document) in &project.schema_documents {
        if let Err(error) = project.schemas.get(file) {
            diagnostics.extend(compilation_diagnostic(project, document, &error));
            continue;
        }
        diagnostics.extend(super::contradictions::check(document));
        diagnostics.extend(super::ineffective_keywords::check(document, &document.value, ""));
    }
    for name in project.pipeline.inputs.keys() {
        diagnostics.extend(check_input(project, name));
    }
    diagnostics
}

/// Checks that the schema of an output exists. `written` is the value of the key `schema`; `None` if the step has no such
/// key, and the name of its output determines the file.
fn check_exists(project: &Project, file: &str, pointer: &str, written: Option<&str>) -> Option<Diagnostic> {
    if project.schema_documents.contains_key(file) || has_load_diagnostic(project, &format!("schemas/{file}")) {
        return None;
    }
    let diagnostic = Diagnostic::error(Code::SchemaNotFound, format!("there is no schema `schemas/{file}`"));
    let diagnostic = diagnostic.with_span(&project.document.file, project.document.spans.value(pointer));
    let is_listed = project.schema_names.iter().any(|name| name == file);
    let diagnostic = if is_listed { unusable_link(diagnostic, &format!("schemas/{file}")) } else { diagnostic };
    // A file `plan.json` needs its whole name, because `plan` names `plan.schema.json`.
    let short_name = |name: &String| name.strip_suffix(".schema.json").unwrap_or(name).to_owned();
    let names: Vec<String> = project.schema_names.iter().map(short_name).collect();
    let folder = NamedFolder { folder: "schemas", names: &names, endings: &[".json", ".schema"] };
    Some(match written {
        Some(_) if is_listed => diagnostic,
        Some(written) => folder.add_advice(diagnostic, written),
        None => {
            let output = file.strip_suffix(".schema.json").unwrap_or(file);
            let diagnostic = if is_listed { diagnostic } else { folder.add_similar_name(diagnostic, output) };
            // The fix renames the artifact, although the user may intend its name.
            diagnostic
                .with_unsafe_fix()
                .with_help("write the schema, or set `schema: text` for a string or `schema: any` for any JSON")
        }
    })
}

fn compilation_diagnostic(project: &Project, document: &Document, error: &SchemaError) -> Option<Diagnostic> {
    // Skips a mistake in a file that this schema refers to, because the check of that file reports it.
    let is_in_other_file = error.pointer.starts_with("/$defs/") && !document.spans.contains(&error.pointer);
    if is_in_other_file && project.schema_documents.len() > 1 {
        return None;
    }
    let document = project.schema_documents.get(&error.file).unwrap_or(document);
    Some(invalid_schema(document, "", error))
}

/// Checks the schema of an input of the run, and that the default fits it.
fn check_input(project: &Project, name: &str) -> Vec<Diagnostic> {
    let pointer = child_pointer("/inputs", name);
    let document = &project.document;
    let Some(schema) = document.value.pointer(&pointer) else { return Vec::new() };
    let error_at = |code: Code, pointer: &str, message: String| {
        Diagnostic::error(code, message).with_span(&document.file, document.spans.value(pointer))
    };
    match Schema::compile(name, schema.clone()) {
        Err(error) => vec![invalid_schema(document, &pointer, &error)],
        Ok(compiled) => {
            let mut diagnostics = super::ineffective_keywords::check(document, schema, &pointer);
            let Some(default) = schema.get("default") else { return diagnostics };
            diagnostics.extend(compiled.mismatches(default).into_iter().map(|mismatch| {
                let value_pointer = format!("{pointer}/default{}", mismatch.pointer);
                let message = format!(
                    "the default of `{name}` does not fit: expected {}, got {}",
                    mismatch.expected, mismatch.got
                );
                error_at(Code::DefaultMismatch, &value_pointer, message)
            }));
            diagnostics
        }
    }
}

/// The types of JSON Schema.
const JSON_SCHEMA_TYPES: &[&str] = &["string", "number", "integer", "boolean", "array", "object", "null"];

/// Returns the diagnostic for a schema that can't be used, at the mistake's position in the document. `base_pointer`
/// is the pointer of the whole schema.
fn invalid_schema(document: &Document, base_pointer: &str, error: &SchemaError) -> Diagnostic {
    let pointer = format!("{base_pointer}{}", error.pointer);
    let span = document.spans.value(&pointer);
    let string = document.value.pointer(&pointer).and_then(Value::as_str);
    if let Some(name) = string.filter(|_| pointer.ends_with("/type")) {
        // This is the most common mistake, and the validator's own message does not help the user.
        let diagnostic = Diagnostic::error(Code::SchemaInvalid, format!("`{name}` is not a type of JSON Schema"))
            .with_span(&document.file, span);
        return match equivalents::json_schema_type(name).filter(|type_name| *type_name != name) {
            Some(type_name) => {
                diagnostic.with_help(format!("write `{type_name}`")).with_replacement(name, Some(type_name))
            }
            None => diagnostic.with_suggestion(name, JSON_SCHEMA_TYPES.iter().copied()),
        };
    }
    let diagnostic = Diagnostic::error(Code::SchemaInvalid, format!("the schema cannot be used: {}", error.message));
    let diagnostic = diagnostic.with_span(&document.file, span);
    let is_boolean = document.value.pointer(&pointer).is_some_and(Value::is_boolean);
    if is_boolean && pointer.ends_with("/required") {
        return diagnostic.with_help(if base_pointer.starts_with("/inputs/") && error.pointer == "/required" {
            "remove `required`: an input without a `default` is required"
        } else {
            "name the required members beside `properties`: `required: [NAME]`"
        });
    }
    error.help.iter().fold(diagnostic, Diagnostic::with_help)
}
