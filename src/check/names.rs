//! Checks names: inputs, artifacts and steps share one namespace, and some names are reserved.

use std::collections::HashMap;

use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::name_scope::ExportedNames;
use crate::model::pipeline::RESERVED_NAMES;

/// A declaration of a name.
#[derive(Clone)]
struct NameDeclaration {
    /// The kind of object that has the name, with its article, such as `an input`.
    kind: &'static str,
    pointer: String,
    /// The index of the step that declares the name. A step may have the same name as its own output.
    step: Option<usize>,
}

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut names = NameTable { project, declarations: HashMap::new(), diagnostics: Vec::new() };
    for name in project.pipeline.inputs.keys() {
        names.declare(name, &NameDeclaration { kind: "an input", pointer: child_pointer("/inputs", name), step: None });
    }
    for (index, (pointer, step)) in steps_with_pointers(&project.pipeline).into_iter().enumerate() {
        names.declare(
            &step.id,
            &NameDeclaration { kind: "a step", pointer: child_pointer(&pointer, "id"), step: Some(index) },
        );
        let declaration = |key: &str| NameDeclaration {
            kind: "an artifact",
            pointer: child_pointer(&pointer, key),
            step: Some(index),
        };
        match (step.exported_names(), &step.pipeline) {
            (ExportedNames::Output(output), _) => names.declare(output, &declaration("output")),
            (ExportedNames::OfCalledPipeline, Some(file)) => {
                let called = project.called_projects.get(file).into_iter();
                for output in called.flat_map(|called| called.pipeline.outputs.keys()) {
                    names.declare(output, &declaration("pipeline"));
                }
            }
            (ExportedNames::OfCalledPipeline | ExportedNames::OfChildren | ExportedNames::Nothing, _) => {}
        }
    }
    names.diagnostics
}

struct NameTable<'a> {
    project: &'a Project,
    declarations: HashMap<String, Vec<NameDeclaration>>,
    diagnostics: Vec<Diagnostic>,
}

impl NameTable<'_> {
    fn declare(&mut self, name: &str, declaration: &NameDeclaration) {
        if RESERVED_NAMES.contains(&name) {
            let message = format!("the name `{name}` is reserved");
            let diagnostic = self.diagnostic_at(Code::InvalidName, message, declaration);
            self.diagnostics.push(diagnostic.with_help(format!("reserved: {}", quoted_list(RESERVED_NAMES))));
        }
        let declarations = self.declarations.entry(name.to_lowercase()).or_default();
        let others = || declarations.iter().filter(|other| other.step.is_none() || other.step != declaration.step);
        let conflicting = others().find(|other| other.kind == declaration.kind).or_else(|| others().next()).cloned();
        declarations.push(declaration.clone());
        if let Some(first) = conflicting {
            let diagnostic = self.conflict_diagnostic(name, declaration, &first);
            self.diagnostics.push(diagnostic);
        }
    }

    fn conflict_diagnostic(&self, name: &str, declaration: &NameDeclaration, first: &NameDeclaration) -> Diagnostic {
        let kinds = (declaration.kind, first.kind);
        let (code, message) = match kinds {
            ("an artifact", "an artifact") => {
                (Code::DuplicateArtifact, format!("the artifact `{name}` is produced by two steps"))
            }
            ("a step", "a step") => (Code::DuplicateName, format!("two steps have the id `{name}`")),
            (new, old) => {
                (Code::DuplicateName, format!("{new} cannot be called `{name}`: {old} has this name already"))
            }
        };
        let (document, spans) = (&self.project.document, &self.project.document.spans);
        let span = if first.kind == "an input" { spans.key(&first.pointer) } else { spans.value(&first.pointer) };
        let diagnostic = self.diagnostic_at(code, message, declaration).with_secondary_label(
            &document.file,
            span,
            "first used here",
        );
        if code == Code::DuplicateArtifact {
            diagnostic.with_help("give one of the outputs another name")
        } else {
            diagnostic
        }
    }

    fn diagnostic_at(&self, code: Code, message: String, declaration: &NameDeclaration) -> Diagnostic {
        let document = &self.project.document;
        let is_key = declaration.kind == "an input";
        let span =
            if is_key { document.spans.key(&declaration.pointer) } else { document.spans.value(&declaration.pointer) };
        Diagnostic::error(code, message).with_span(&document.file, span)
    }
}

fn quoted_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
