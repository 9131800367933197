//! Finds the names that can be written at a position of a template or expression, and what they mean there, for
//! completion and hover in editors.
//!
//! The caller puts the name [`MARK`] at the position, in a text that can be parsed. The checker then visits the text as
//! usual, so that loops, conditions and includes affect the scope as they do in a check.

use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::parse_expr;
use serde_json::Value;

use super::flow;
use super::infer::{Checker, ExpressionPlace};
use super::members::shown;
use super::scope::TypeScope;
use super::sites::Sites;
use super::texts;
use super::types::{SchemaNode, Schemas, Type};
use crate::config::{Document, OutputType, Project, child, output_type, places};
use crate::diagnostic::SourceFile;
use crate::model::StepAction;
use crate::template::inspect_expression;

/// The name that marks the position.
pub const MARK: &str = "orch_mark__";

/// The text that contains the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbedText<'s> {
    /// A prompt that contains the mark. The names of every step that uses it count, also if it uses it through
    /// includes.
    Prompt,
    /// A text of a step.
    Step {
        /// The step's pointer, such as `/steps/0`.
        pointer: &'s str,
        /// What is in scope in the text.
        sight: Sight,
    },
    /// An expression about the whole pipeline, such as `success` or one of `outputs`.
    End,
}

/// What is in scope in a text of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// What the step has in scope.
    Step,
    /// Also what a round of the loop produced, for the condition that ends the loop.
    Round,
    /// Also the reply, under the name of the output, for a condition of `accept`.
    Reply,
}

/// Where a name comes from.
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

/// A name that can be written at the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleName {
    /// The name.
    pub name: String,
    /// Where it comes from.
    pub origin: NameOrigin,
    /// Its type in a few words: `string`, `list of object`.
    pub ty: String,
    /// Whether it may be absent.
    pub maybe: bool,
    /// The description from its schema.
    pub about: Option<String>,
    /// The file and byte range where it is declared or produced.
    pub place: Option<(Arc<SourceFile>, Range<usize>)>,
}

/// Every name that can be written at a position: the variables in scope, or the properties of the expression `base`.
///
/// `text` is a template that contains the mark. For a prompt, the project must contain the marked text already.
pub fn look(project: &Project, spot: ProbedText<'_>, text: &str, base: Option<&str>) -> Vec<VisibleName> {
    let sites = Sites::of(project);
    let scopes = scopes(project, &sites, spot, text);
    let looker = CompletionProbe { project, schemas: Schemas(&project.schema_documents) };
    let mut found: Vec<VisibleName> = Vec::new();
    for scope in &scopes {
        let new = match base {
            Some(base) => looker.properties(base, scope),
            None => looker.variables(scope),
        };
        for one in new {
            match found.iter_mut().find(|known| known.name == one.name) {
                Some(known) if known.ty != one.ty => known.ty = joined(&known.ty, &one.ty),
                Some(_) => {}
                None => found.push(one),
            }
        }
    }
    found
}

/// The artifacts that the step at this pointer can list in its `inputs`.
pub fn visible(project: &Project, pointer: &str) -> Vec<VisibleName> {
    let sites = Sites::of(project);
    let looker = CompletionProbe { project, schemas: Schemas(&project.schema_documents) };
    let Some(site) = sites.list.iter().find(|site| site.pointer == pointer) else { return Vec::new() };
    let each = site.view.artifacts.iter().map(|(name, visible)| VisibleName {
        maybe: visible.conditional || visible.last_round,
        ..looker.named(name, &visible.ty)
    });
    each.collect()
}

/// Combines the types that a name has in different steps.
fn joined(one: &str, other: &str) -> String {
    if one.split(" | ").any(|part| part == other) { one.to_owned() } else { format!("{one} | {other}") }
}

fn scopes<'a>(project: &'a Project, sites: &'a Sites<'a>, spot: ProbedText<'_>, text: &'a str) -> Vec<TypeScope<'a>> {
    let (site, mut scope) = match spot {
        ProbedText::Prompt => return texts::marked(project, sites),
        ProbedText::End => (None, sites.end.everything(project)),
        ProbedText::Step { pointer, sight } => {
            let Some(site) = sites.list.iter().find(|site| site.pointer == pointer) else { return Vec::new() };
            let scope = match (sight, site.step.kind()) {
                (Sight::Step, Some(StepAction::Command(_))) => site.view.of_command(project, site.step),
                (Sight::Step, _) => site.view.of_step(project, site.step),
                (Sight::Round, _) => site.after_round(project),
                (Sight::Reply, _) => site.with_reply(project),
            };
            (Some(site), scope)
        }
    };
    let mut checker = Checker::new(project, site);
    checker.template(ExpressionPlace::Yaml(String::new()), text, &mut scope);
    checker.seen
}

struct CompletionProbe<'a> {
    project: &'a Project,
    schemas: Schemas<'a>,
}

impl<'a> CompletionProbe<'a> {
    fn variables(&self, scope: &TypeScope<'a>) -> Vec<VisibleName> {
        let mut names: Vec<&str> = scope.names().collect();
        names.sort_unstable();
        let each = names.into_iter().filter_map(|name| {
            let known = scope.get(name)?;
            Some(VisibleName { maybe: known.maybe, ..self.named(name, &known.ty) })
        });
        each.collect()
    }

    /// Describes a variable by its name. Inputs and artifacts share one namespace.
    fn named(&self, name: &str, ty: &Type<'a>) -> VisibleName {
        let document = &self.project.document;
        let pointer = child("/inputs", name);
        let ty = shown(self.schemas, ty);
        let new = |origin, about: Option<&str>, place| {
            let (name, ty, about) = (name.to_owned(), ty.clone(), about.map(str::to_owned));
            VisibleName { name, origin, ty, maybe: false, about, place }
        };
        if let Some(schema) = self.project.pipeline.inputs.get(name) {
            let about = schema.get("description").and_then(Value::as_str);
            return new(NameOrigin::Input, about, Some((Arc::clone(&document.file), document.spans.key(&pointer))));
        }
        match flow::producer(self.project, name) {
            Some(place) => {
                let span = document.spans.value(&place);
                new(NameOrigin::Artifact, self.of_artifact(name), Some((Arc::clone(&document.file), span)))
            }
            None => new(NameOrigin::Local, None, None),
        }
    }

    /// The description from the schema of an artifact.
    fn of_artifact(&self, name: &str) -> Option<&'a str> {
        let steps = places(&self.project.pipeline);
        let (_, step) = steps.iter().find(|(_, step)| step.output.as_deref() == Some(name))?;
        let OutputType::File(file) = output_type(step)? else { return None };
        let schema = &self.project.schema_documents.get(&file)?.value;
        self.schemas.about(SchemaNode { schema, root: schema })
    }

    fn properties(&self, base: &str, scope: &TypeScope<'a>) -> Vec<VisibleName> {
        let (Ok(_), Ok(parsed)) = (inspect_expression(base), parse_expr(base)) else { return Vec::new() };
        let mut checker = Checker::new(self.project, None);
        checker.text = base;
        let ty = checker.infer(&parsed, scope).ty;
        if let (Type::Unknown | Type::Fixed(_), Some((of, _))) = (&ty, base.rsplit_once('.'))
            && of == "steps"
        {
            return ended();
        }
        let each = self.schemas.members(&ty).into_iter().map(|member| VisibleName {
            name: member.name.to_owned(),
            origin: NameOrigin::Property,
            ty: shown(self.schemas, &member.ty),
            maybe: member.maybe,
            about: member.schema.and_then(|node| self.schemas.about(node)).map(str::to_owned),
            place: member.schema.and_then(|node| self.place(node.schema)),
        });
        each.collect()
    }

    /// Where a schema is written. Found by the schema's identity in memory, because types hold schemas, not files.
    fn place(&self, schema: &Value) -> Option<(Arc<SourceFile>, Range<usize>)> {
        let projects = self.project.with_called();
        let documents = projects
            .iter()
            .flat_map(|project| project.schema_documents.values().chain(std::iter::once(&project.document)));
        documents.into_iter().find_map(|document: &Document| {
            let pointer = pointer_to(&document.value, schema, "")?;
            Some((Arc::clone(&document.file), document.spans.key(&pointer)))
        })
    }
}

/// The properties of a step that has ended.
fn ended() -> Vec<VisibleName> {
    let new = |name: &str, ty: &str, maybe, about: &str| {
        let (name, ty, about) = (name.to_owned(), ty.to_owned(), Some(about.to_owned()));
        VisibleName { name, origin: NameOrigin::Property, ty, maybe, about, place: None }
    };
    vec![
        new("status", "\"completed\" | \"failed\" | \"skipped\"", false, "How the step ended."),
        new("error", "string", true, "Why it failed, or why it was skipped."),
    ]
}

/// The JSON pointer of a value inside another one, compared by identity.
fn pointer_to(within: &Value, wanted: &Value, at: &str) -> Option<String> {
    if std::ptr::eq(within, wanted) {
        return Some(at.to_owned());
    }
    match within {
        Value::Object(map) => map.iter().find_map(|(key, value)| pointer_to(value, wanted, &child(at, key))),
        Value::Array(list) => {
            let mut each = list.iter().enumerate();
            each.find_map(|(index, value)| pointer_to(value, wanted, &format!("{at}/{index}")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
