//! Checks the values of a test case: its inputs against the schemas of the pipeline, and its assertions against the types
//! of the artifacts.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::exports::whole_output;
use super::infer::{Checker, TextLocation};
use super::scope::{InferredValue, TypeScope};
use super::step_scopes::ScopedSteps;
use super::template_errors::template_diagnostic;
use super::types::{Schemas, Type};
use crate::config::{Document, Project, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic, Fix, SourceFile};
use crate::model::name_scope::{ENDED_STEPS, ExportedNames};
use crate::model::test_case::TestCase;
use crate::schema::Schema;
use crate::template::parse_expression;

/// Returns a diagnostic for each value of an input that does not fit the schema of the input.
pub(super) fn input_diagnostics(document: &Document, case: &TestCase, project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, value) in &case.inputs {
        let Some(schema) = project.pipeline.inputs.get(name) else { continue };
        // The check of the pipeline reports a schema that can't be compiled.
        let Ok(compiled) = Schema::compile(name, Value::Object(schema.clone())) else { continue };
        diagnostics.extend(compiled.mismatches(value).into_iter().map(|mismatch| {
            let pointer = format!("{}{}", child_pointer("/inputs", name), mismatch.pointer);
            let message = format!(
                "the input `{name}` does not fit its schema: expected {}, got {}",
                mismatch.expected, mismatch.got
            );
            let span = document.spans.value(&pointer);
            Diagnostic::error(Code::InputMismatch, message).with_span(&document.file, span)
        }));
    }
    diagnostics
}

/// Returns the mistakes in the assertions of a test case. Does not report that a value may be missing: the recordings
/// decide whether it is.
pub(super) fn assertion_diagnostics<'a>(
    document: &Document,
    case: &'a TestCase,
    project: &'a Project,
) -> Vec<Diagnostic> {
    if case.expect.assert.is_empty() {
        return Vec::new();
    }
    let scope = assertion_scope(project);
    let mut diagnostics = Vec::new();
    for (index, text) in case.expect.assert.iter().enumerate() {
        let (text, pointer) = (text.as_str(), item_pointer("/expect/assert", index));
        let parsed = match parse_expression(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                diagnostics.extend(errors.into_iter().map(|error| {
                    template_diagnostic(error, |diagnostic, range| {
                        diagnostic.with_span(&document.file, document.span_in_value(&pointer, range))
                    })
                }));
                continue;
            }
        };
        let mut checker = Checker::new(project, None);
        let file = SourceFile::new(document.file.path.as_str(), text);
        (checker.location, checker.text) = (TextLocation::File(file), text);
        let inferred = checker.infer(&parsed, &scope);
        checker.check_boolean(&parsed, &inferred.ty, &scope);
        let is_certain = |diagnostic: &Diagnostic| diagnostic.code != Code::PossiblyMissing;
        let found = checker.diagnostics.into_iter().filter(is_certain);
        diagnostics.extend(found.map(|diagnostic| {
            let diagnostic = with_case_advice(diagnostic, text, project);
            relocated(diagnostic, text, document, &pointer)
        }));
    }
    diagnostics
}

/// The names that assertions can use: the inputs, and the artifacts that have a file, which those of items and of called
/// pipelines have not.
fn assertion_scope(project: &Project) -> TypeScope<'_> {
    let mut scope = TypeScope::default();
    for name in project.pipeline.inputs.keys() {
        let schema = project.document.value.pointer(&child_pointer("/inputs", name));
        let ty = schema.map_or(Type::Unknown, |schema| Schemas(&project.schema_documents).document_type(schema));
        scope.bind(name, InferredValue::defined(ty));
    }
    let scoped_steps = ScopedSteps::from_project(project);
    let mapped: Vec<String> = scoped_steps
        .steps
        .iter()
        .filter(|scoped_step| scoped_step.step.for_each.is_some())
        .map(|scoped_step| format!("{}/", scoped_step.pointer))
        .collect();
    let has_file = |pointer: &str| !mapped.iter().any(|mapping_step| pointer.starts_with(mapping_step.as_str()));
    for scoped_step in scoped_steps.steps.iter().filter(|scoped_step| has_file(&scoped_step.pointer)) {
        let step = scoped_step.step;
        if let ExportedNames::Output(name) = step.exported_names() {
            // No step of an item is in this scope, so nothing precedes the names.
            let ty = whole_output(project, step, &scoped_step.inner_artifacts, "");
            scope.bind(name, InferredValue::defined(ty));
        }
    }
    scope
}

/// The diagnostic with advice about a name that steps can use and assertions can't.
fn with_case_advice(mut diagnostic: Diagnostic, text: &str, project: &Project) -> Diagnostic {
    if diagnostic.code != Code::UnknownVariable {
        return diagnostic;
    }
    let name = diagnostic.span.clone().and_then(|span| text.get(span)).unwrap_or_default();
    let is_output = project.pipeline.all_steps().iter().any(|step| step.output.as_deref() == Some(name));
    let advice = match name {
        ENDED_STEPS => "list the expected status of a step under `steps:`, beside `assert:`",
        _ if is_output => "assertions can use only artifacts with a file, not those of items and of called pipelines",
        _ => return diagnostic,
    };
    diagnostic.help = vec![advice.to_owned()];
    diagnostic
}

/// The diagnostic about a part of an expression, at the location of this part in the file of the test case.
fn relocated(mut diagnostic: Diagnostic, text: &str, document: &Document, pointer: &str) -> Diagnostic {
    let in_file = |range: Range<usize>| document.span_in_value(pointer, range);
    diagnostic.file = Some(Arc::clone(&document.file));
    diagnostic.span = diagnostic.span.map(in_file);
    diagnostic.fix = diagnostic.fix.and_then(|fix| {
        let replaced = text.get(fix.span.clone())?;
        let span = in_file(fix.span);
        // Escapes of YAML can make the texts differ.
        (document.file.text.get(span.clone()) == Some(replaced)).then_some(Fix { span, ..fix })
    });
    diagnostic
}
