//! Checks schemas: those of outputs must exist and be valid, and those of inputs must be valid and fit their defaults.

use serde_json::Value;

use super::flow::{absent, unreadable};
use crate::config::{Document, OutputType, Project, child, output_type, places};
use crate::diagnostic::{Code, Diagnostic, equivalents};
use crate::schema::{Schema, SchemaError};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (at, step) in places(&project.pipeline) {
        let Some(OutputType::File(file)) = output_type(step) else { continue };
        let explicit = step.schema.is_some();
        let pointer = child(&at, if explicit { "schema" } else { "output" });
        found.extend(missing(project, &file, &pointer, explicit));
    }
    for (file, document) in &project.schema_documents {
        match project.schemas.get(file) {
            Err(error) => found.extend(broken(project, document, &error)),
            Ok(_) => found.extend(super::contradictions::check(document)),
        }
    }
    for name in project.pipeline.inputs.keys() {
        found.extend(input(project, name));
    }
    found
}

fn missing(project: &Project, file: &str, pointer: &str, explicit: bool) -> Option<Diagnostic> {
    if project.schema_documents.contains_key(file) || unreadable(project, &format!("schemas/{file}")) {
        return None;
    }
    let problem = Diagnostic::error(Code::SchemaNotFound, format!("there is no schema `schemas/{file}`"));
    let problem = problem.at(&project.document.file, project.document.spans.value(pointer));
    let stem = |name: &str| name.trim_end_matches(".json").trim_end_matches(".schema").to_owned();
    let stems: Vec<String> = project.schema_names.iter().map(|name| stem(name)).collect();
    let problem = absent(problem, &stem(file), &stems, "schemas");
    Some(if explicit {
        problem
    } else {
        problem.help("write the schema, or say `schema: text` for a string or `schema: any` for any JSON")
    })
}

fn broken(project: &Project, document: &Document, error: &SchemaError) -> Option<Diagnostic> {
    // A mistake in a file that this schema refers to is reported once, for that file.
    let elsewhere = error.pointer.starts_with("/$defs/") && !document.spans.has(&error.pointer);
    if elsewhere && project.schema_documents.len() > 1 {
        return None;
    }
    let document = project.schema_documents.get(&error.file).unwrap_or(document);
    Some(invalid(document, "", error))
}

/// Checks the schema of an input of the run, and its default.
fn input(project: &Project, name: &str) -> Vec<Diagnostic> {
    let pointer = child("/inputs", name);
    let document = &project.document;
    let Some(schema) = document.value.pointer(&pointer) else { return Vec::new() };
    let at = |code: Code, pointer: &str, message: String| {
        Diagnostic::error(code, message).at(&document.file, document.spans.value(pointer))
    };
    match Schema::compile(name, schema.clone()) {
        Err(error) => vec![invalid(document, &pointer, &error)],
        Ok(compiled) => {
            let Some(default) = schema.get("default") else { return Vec::new() };
            let errors = compiled.errors(default).into_iter().map(|wrong| {
                let place = format!("{pointer}/default{}", wrong.pointer);
                let message =
                    format!("the default of `{name}` does not fit: expected {}, got {}", wrong.expected, wrong.got);
                at(Code::DefaultMismatch, &place, message)
            });
            errors.collect()
        }
    }
}

const TYPES: &[&str] = &["string", "number", "integer", "boolean", "array", "object", "null"];

/// The diagnostic for a schema that can't be used, at the mistake's position in the document. `base` is the pointer of
/// the whole schema.
fn invalid(document: &Document, base: &str, error: &SchemaError) -> Diagnostic {
    let pointer = format!("{base}{}", error.pointer);
    let place = document.spans.value(&pointer);
    let written = document.value.pointer(&pointer).and_then(Value::as_str);
    if let Some(name) = written.filter(|_| pointer.ends_with("/type")) {
        // For this most common mistake, the validator's own message does not help the user.
        let problem = Diagnostic::error(Code::SchemaInvalid, format!("`{name}` is not a type of JSON Schema"))
            .at(&document.file, place);
        return match equivalents::json_type(name).filter(|known| *known != name) {
            Some(known) => problem.help(format!("write `{known}`")).replaced(name, Some(known)),
            None => problem.suggest(name, TYPES.iter().copied()),
        };
    }
    let problem = Diagnostic::error(Code::SchemaInvalid, format!("the schema cannot be used: {}", error.message));
    let problem = problem.at(&document.file, place);
    let is_flag = document.value.pointer(&pointer).is_some_and(Value::is_boolean);
    if is_flag && pointer.ends_with("/required") {
        return problem.help(if base.starts_with("/inputs/") && error.pointer == "/required" {
            "remove `required`: an input without a `default` must be given"
        } else {
            "name the required members beside `properties`: `required: [NAME]`"
        });
    }
    error.help.iter().fold(problem, Diagnostic::help)
}
