//! Schemas: each that is named is there, is valid, and refers to what exists.

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::schema::{Schema, SchemaError};

use super::{at, at_key};

pub(super) fn check(project: &Project, findings: &mut Vec<Diagnostic>) {
    for (i, step) in project.pipeline.steps.iter().enumerate() {
        let Some(file) = Project::schema_file(step) else {
            continue;
        };
        let pointer = if step.schema.is_some() { format!("/steps/{i}/schema") } else { format!("/steps/{i}/output") };
        if project.schemas.raw(&file).is_none() && !broken(project, &file) {
            let help = did_you_mean(&file, project.schemas.names()).unwrap_or_else(|| {
                "write it, or say `schema: text` for a string, `schema: any` for any JSON".to_owned()
            });
            findings.push(
                at(project, Code::MissingSchema, format!("there is no schema `schemas/{file}`"), &pointer).help(help),
            );
        }
    }
    for file in project.schemas.names() {
        if let Err(error) = project.schemas.get(file) {
            findings.push(located(project, file, &error));
        }
    }
    inputs(project, findings);
}

/// Whether a schema file is there but could not be read, which is told elsewhere.
fn broken(project: &Project, file: &str) -> bool {
    project.findings.iter().any(|finding| finding.source.path.file_name().is_some_and(|name| name == file))
}

fn located(project: &Project, file: &str, error: &SchemaError) -> Diagnostic {
    let document = project.schema_documents.get(&error.file).or_else(|| project.schema_documents.get(file));
    match document {
        Some(document) => Diagnostic::new(
            Code::BadSchema,
            error.message.clone(),
            &document.source,
            document.value_span(&error.pointer),
        ),
        None => Diagnostic::new(Code::BadSchema, error.message.clone(), &project.document.source, None),
    }
}

fn inputs(project: &Project, findings: &mut Vec<Diagnostic>) {
    for (name, input) in &project.pipeline.inputs {
        let pointer = format!("/inputs/{name}");
        match Schema::compile(name, serde_json::Value::Object(input.clone())) {
            Err(error) => {
                findings.push(at(project, Code::BadSchema, error.message, &format!("{pointer}{}", error.pointer)))
            }
            Ok(schema) => {
                if let Some(default) = input.get("default")
                    && let Some(first) = schema.errors(default).first()
                {
                    let finding = at_key(
                        project,
                        Code::BadDefault,
                        format!("the default does not fit: {first}"),
                        &format!("{pointer}/default"),
                    );
                    findings.push(finding);
                }
            }
        }
    }
}
