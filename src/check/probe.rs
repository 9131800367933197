//! Lists the names that are valid at the cursor in a template or expression, with their types and origins, for
//! completion and hover in editors.
//!
//! The caller puts the name [`COMPLETION_MARKER`] at the cursor, in a text that can be parsed. The checker then
//! visits the text as usual, so that loops, conditions and includes affect the scope as they do in a check.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::parse;
use serde_json::Value;

use super::flow;
use super::infer::{Checker, TextLocation};
use super::scope::TypeScope;
use super::step_scopes::ScopedSteps;
use super::texts;
use super::type_members::render_type;
use super::types::{SchemaNode, Schemas, Type};
use crate::config::{Document, OutputType, Project, child_pointer, output_type, steps_with_pointers};
use crate::diagnostic::SourceFile;
use crate::model::StepAction;
use crate::model::name_scope::{ENDED_STEPS, TextScope, is_previous_path};
use crate::template::{parse_expression, template_syntax};

/// The marker: the name that the caller puts at the cursor.
pub const COMPLETION_MARKER: &str = "orch_marker__";

/// The text that contains the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbedText<'s> {
    /// A prompt that contains the marker. The result covers every step that uses the prompt, directly or through
    /// includes.
    Prompt,
    /// A text of a step.
    Step {
        /// The step's pointer, such as `/steps/0`.
        pointer: &'s str,
        /// The scope of the text.
        text_scope: TextScope,
    },
    /// An expression about the whole pipeline, such as `success` or one of `outputs`.
    Pipeline,
}

/// The origin of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOrigin {
    /// An input of the run.
    Input,
    /// An artifact that a step produces.
    Artifact,
    /// `item`, `loop`, `steps`, or a name that the template sets itself.
    Local,
    /// A property of a value.
    Property,
}

/// A name that is valid at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleName {
    /// The name.
    pub name: String,
    /// The origin of the name.
    pub origin: NameOrigin,
    /// Its type for the user, such as `string` or `list of object`.
    pub ty: String,
    /// Whether it may be absent.
    pub may_be_absent: bool,
    /// The description from its schema.
    pub description: Option<String>,
    /// The file and byte range where it is declared or produced.
    pub declaration: Option<(Arc<SourceFile>, Range<usize>)>,
}

/// Every name that is valid at the cursor: the variables in scope, or the properties of the expression `base`.
///
/// `text` is a template that contains the marker. For a prompt, the project must contain the text with the marker
/// already.
pub fn visible_names(
    project: &Project,
    probed_text: ProbedText<'_>,
    text: &str,
    base: Option<&str>,
) -> Vec<VisibleName> {
    let scoped_steps = ScopedSteps::from_project(project);
    let scopes = scopes_at_position(project, &scoped_steps, probed_text, text);
    let probe = CompletionProbe { project, schemas: Schemas(&project.schema_documents) };
    let mut names: Vec<VisibleName> = Vec::new();
    for scope in &scopes {
        let scope_names = match base {
            Some(base) => probe.properties(base, scope),
            None => probe.variables(scope),
        };
        for name in scope_names {
            match names.iter_mut().find(|existing| existing.name == name.name) {
                Some(existing) if existing.ty != name.ty => existing.ty = add_to_union(&existing.ty, &name.ty),
                Some(_) => {}
                None => names.push(name),
            }
        }
    }
    names
}

/// The artifacts that the step at this pointer can list in its `inputs`.
pub fn visible_artifacts(project: &Project, pointer: &str) -> Vec<VisibleName> {
    let scoped_steps = ScopedSteps::from_project(project);
    let probe = CompletionProbe { project, schemas: Schemas(&project.schema_documents) };
    let Some(scoped_step) = scoped_steps.steps.iter().find(|scoped_step| scoped_step.pointer == pointer) else {
        return Vec::new();
    };
    let names = scoped_step.scope.names.artifacts().iter().map(|(name, visible)| VisibleName {
        may_be_absent: visible.may_be_missing(),
        ..probe.describe_name(name, &visible.ty)
    });
    names.collect()
}

/// Adds a type to the union of the types that a name has in different steps.
fn add_to_union(union: &str, ty: &str) -> String {
    if union.split(" | ").any(|branch| branch == ty) { union.to_owned() } else { format!("{union} | {ty}") }
}

fn scopes_at_position<'a>(
    project: &'a Project,
    scoped_steps: &'a ScopedSteps<'a>,
    probed_text: ProbedText<'_>,
    text: &'a str,
) -> Vec<TypeScope<'a>> {
    let (scoped_step, mut scope) = match probed_text {
        ProbedText::Prompt => return texts::scopes_at_marker(project, scoped_steps),
        ProbedText::Pipeline => (None, scoped_steps.final_scope.for_pipeline(project)),
        ProbedText::Step { pointer, text_scope } => {
            let Some(scoped_step) = scoped_steps.steps.iter().find(|scoped_step| scoped_step.pointer == pointer) else {
                return Vec::new();
            };
            let scope = match (text_scope, scoped_step.step.action()) {
                (TextScope::Step, Some(StepAction::Command(_))) => scoped_step.command_scope(project),
                (text_scope, _) => scoped_step.text_scope(project, text_scope),
            };
            (Some(scoped_step), scope)
        }
    };
    let mut checker = Checker::new(project, scoped_step);
    // A text during editing may have mistakes that an inspection reports.
    if let Ok(parsed) = parse(text, "template", template_syntax()) {
        checker.check_template(TextLocation::Yaml(String::new()), text, &parsed, &mut scope);
    }
    checker.marker_scopes
}

struct CompletionProbe<'a> {
    project: &'a Project,
    schemas: Schemas<'a>,
}

impl<'a> CompletionProbe<'a> {
    fn variables(&self, scope: &TypeScope<'a>) -> Vec<VisibleName> {
        let mut names: Vec<&str> = scope.names().collect();
        names.sort_unstable();
        let variables = names.into_iter().filter_map(|name| {
            let inferred = scope.get(name)?;
            Some(VisibleName { may_be_absent: inferred.may_be_undefined, ..self.describe_name(name, &inferred.ty) })
        });
        variables.collect()
    }

    /// Describes a variable by its name. Inputs and artifacts share one namespace.
    fn describe_name(&self, name: &str, ty: &Type<'a>) -> VisibleName {
        let document = &self.project.document;
        let pointer = child_pointer("/inputs", name);
        let ty = render_type(self.schemas, ty);
        let new_name = |origin, description: Option<&str>, declaration| {
            let (name, ty, description) = (name.to_owned(), ty.clone(), description.map(str::to_owned));
            VisibleName { name, origin, ty, may_be_absent: false, description, declaration }
        };
        if let Some(schema) = self.project.pipeline.inputs.get(name) {
            let description = schema.get("description").and_then(Value::as_str);
            return new_name(
                NameOrigin::Input,
                description,
                Some((Arc::clone(&document.file), document.spans.key(&pointer))),
            );
        }
        match flow::producer_pointer(self.project, name) {
            Some(name_pointer) => {
                let span = document.spans.value(&name_pointer);
                new_name(
                    NameOrigin::Artifact,
                    self.artifact_description(name),
                    Some((Arc::clone(&document.file), span)),
                )
            }
            None => new_name(NameOrigin::Local, None, None),
        }
    }

    /// The description from the schema of an artifact.
    fn artifact_description(&self, name: &str) -> Option<&'a str> {
        let steps = steps_with_pointers(&self.project.pipeline);
        let (_, step) = steps.iter().find(|(_, step)| step.output.as_deref() == Some(name))?;
        let OutputType::File(file) = output_type(step)? else { return None };
        let schema = &self.project.schema_documents.get(&file)?.value;
        self.schemas.description(SchemaNode::from_document(schema))
    }

    fn properties(&self, base: &str, scope: &TypeScope<'a>) -> Vec<VisibleName> {
        let Ok(parsed) = parse_expression(base) else { return Vec::new() };
        let mut checker = Checker::new(self.project, None);
        checker.text = base;
        let ty = checker.infer(&parsed, scope).ty;
        let object = base.rsplit_once('.').map(|(object, _)| object).unwrap_or_default();
        if is_steps_path(object) {
            return step_status_properties();
        }
        if is_previous_path(base) {
            return self.previous_artifacts(&ty);
        }
        let properties = self.schemas.members(&ty).into_iter().map(|member| VisibleName {
            name: member.name.to_owned(),
            origin: NameOrigin::Property,
            ty: render_type(self.schemas, &member.ty),
            may_be_absent: member.may_be_absent,
            description: member.schema.and_then(|node| self.schemas.description(node)).map(str::to_owned),
            declaration: member.schema.and_then(|node| self.schema_location(node.schema)),
        });
        properties.collect()
    }

    /// The members of `loop.previous`: the artifacts of the previous iteration, with their descriptions, and `steps`.
    fn previous_artifacts(&self, ty: &Type<'a>) -> Vec<VisibleName> {
        let members = self.schemas.members(ty).into_iter();
        let names = members.map(|member| VisibleName {
            may_be_absent: member.may_be_absent,
            ..self.describe_name(member.name, &member.ty)
        });
        names.collect()
    }

    /// Finds the file and range of a schema by its address in memory, because types contain schemas, not files.
    fn schema_location(&self, schema: &Value) -> Option<(Arc<SourceFile>, Range<usize>)> {
        let projects = self.project.with_called_projects();
        let documents = projects
            .iter()
            .flat_map(|project| project.schema_documents.values().chain(std::iter::once(&project.document)));
        documents.into_iter().find_map(|document: &Document| {
            let pointer = pointer_to(&document.value, schema, "")?;
            Some((Arc::clone(&document.file), document.spans.key(&pointer)))
        })
    }
}

/// Whether a path leads to the statuses of steps: `steps`, or that of the previous iteration.
pub(super) fn is_steps_path(path: &str) -> bool {
    let previous = path.rsplit_once('.').filter(|(_, name)| *name == ENDED_STEPS).map(|(object, _)| object);
    path == ENDED_STEPS || previous.is_some_and(is_previous_path)
}

/// The properties of the status of a step, as in `steps.build.status`.
fn step_status_properties() -> Vec<VisibleName> {
    let new_property = |name: &str, ty: &str, may_be_absent, description: &str| {
        let (name, ty, description) = (name.to_owned(), ty.to_owned(), Some(description.to_owned()));
        VisibleName { name, origin: NameOrigin::Property, ty, may_be_absent, description, declaration: None }
    };
    vec![
        new_property(
            "status",
            "\"completed\" | \"failed\" | \"skipped\" | \"cancelled\"",
            false,
            "The status with which the step ended.",
        ),
        new_property("error", "string", true, "The reason why it failed or was skipped."),
    ]
}

/// The JSON pointer of a value inside another one, compared by address.
fn pointer_to(root: &Value, target: &Value, pointer: &str) -> Option<String> {
    if std::ptr::eq(root, target) {
        return Some(pointer.to_owned());
    }
    match root {
        Value::Object(map) => {
            map.iter().find_map(|(key, value)| pointer_to(value, target, &child_pointer(pointer, key)))
        }
        Value::Array(list) => {
            let mut items = list.iter().enumerate();
            items.find_map(|(index, value)| pointer_to(value, target, &format!("{pointer}/{index}")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
