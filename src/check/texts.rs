//! Every template and expression of a project: can it run, and does it fit the schemas?

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::machinery::parse_expr;
use serde_json::Value;

use super::flow::artifact;
use super::infer::{Checker, Place};
use super::scope::{Known, Scope};
use super::types::{Kind, Members, Schemas, Type};
use crate::config::{OutputType, Project, child, item, output_type};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Step;
use crate::template::{TemplateError, TemplateErrorKind, extent, inspect_expression, inspect_template};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut texts = Texts { project, found: Vec::new(), used: BTreeSet::new() };
    for file in project.prompts.values() {
        if let Err(errors) = inspect_template(&file.text) {
            texts.refused(&Place::File(Arc::clone(file)), errors);
        }
    }
    for (index, step) in project.pipeline.steps.iter().enumerate() {
        texts.step(index, step);
    }
    if let Some(success) = &project.pipeline.success {
        let scope = texts.final_scope();
        texts.condition(None, "/success", success, &scope);
    }
    texts.unused();
    texts.found
}

struct Texts<'a> {
    project: &'a Project,
    found: Vec<Diagnostic>,
    used: BTreeSet<String>,
}

impl<'a> Texts<'a> {
    fn step(&mut self, index: usize, step: &'a Step) {
        let at = item("/steps", index);
        let scope = self.scope(index, step);
        if let Some(file) = self.project.prompts.get(&step.prompt)
            && inspect_template(&file.text).is_ok()
        {
            let mut checker = Checker::new(self.project, Some(index));
            checker.enter(&step.prompt);
            checker.template(Place::File(Arc::clone(file)), &file.text, &mut scope.clone());
            self.take(checker);
        }
        match &step.message {
            Some(message) => {
                let place = Place::Yaml(child(&at, "message"));
                if let Err(errors) = inspect_template(message) {
                    self.refused(&place, errors);
                } else {
                    let mut checker = Checker::new(self.project, Some(index));
                    checker.template(place, message, &mut scope.clone());
                    self.take(checker);
                }
            }
            // The default message holds every input of the run.
            None => self.used.extend(self.project.pipeline.inputs.keys().cloned()),
        }
        if let Some(when) = &step.when {
            self.condition(Some(index), &child(&at, "when"), when, &scope);
        }
    }

    fn take(&mut self, checker: Checker<'a>) {
        self.found.extend(checker.found);
        self.used.extend(checker.used);
    }

    /// An expression that must give a boolean.
    fn condition(&mut self, step: Option<usize>, pointer: &str, text: &'a str, scope: &Scope<'a>) {
        let place = Place::Yaml(pointer.to_owned());
        if let Err(errors) = inspect_expression(text) {
            self.refused(&place, errors);
            return;
        }
        let Ok(parsed) = parse_expr(text) else { return };
        let mut checker = Checker::new(self.project, step);
        (checker.place, checker.text) = (place, text);
        let known = checker.value(&parsed, scope);
        if let Some(kinds) = known.ty.kinds()
            && !kinds.contains(&Kind::Bool)
        {
            let message = format!("`{}` is {}, not `true` or `false`", text.trim(), known.ty.words());
            let problem = checker.error(Code::NotBoolean, extent(&parsed), message);
            let help = match known.ty.kind() {
                Some(Kind::Number) => format!("compare it: `{} > 0`", text.trim()),
                Some(Kind::List | Kind::Text) => format!("compare its length: `{} | length > 0`", text.trim()),
                _ => format!("test it: `{} is defined`", text.trim()),
            };
            checker.report(problem.help(help));
        }
        self.take(checker);
    }

    /// Reports what a text may not do.
    fn refused(&mut self, place: &Place, errors: Vec<TemplateError>) {
        for error in errors {
            let code = match error.kind {
                TemplateErrorKind::Refused => Code::TemplateRefused,
                TemplateErrorKind::UnknownCallable => Code::UnknownCallable,
                TemplateErrorKind::MissingInclude => Code::IncludeNotFound,
                TemplateErrorKind::Syntax
                | TemplateErrorKind::TooMuch
                | TemplateErrorKind::Undefined
                | TemplateErrorKind::WrongType => Code::TemplateSyntax,
            };
            let problem = Diagnostic::error(code, error.message);
            let problem = match place {
                Place::File(file) => problem.at(file, error.range),
                Place::Yaml(pointer) => {
                    let document = &self.project.document;
                    problem.at(&document.file, document.within(pointer, error.range))
                }
            };
            self.found.push(match error.hint {
                Some(hint) => problem.help(hint),
                None => problem,
            });
        }
    }

    /// What the texts of a step can see: the inputs of the run, its own inputs, and the
    /// steps before it.
    fn scope(&self, index: usize, step: &'a Step) -> Scope<'a> {
        let mut scope = self.base_scope(index);
        for written in &step.inputs {
            let (name, optional) = artifact(written);
            let writer = self.project.pipeline.steps.iter().take(index).find(|step| step.output == name);
            // An unknown artifact was reported where it is listed.
            let ty = writer.map_or(Type::Unknown, |writer| self.output(writer));
            scope.bind(name, Known { ty, maybe: optional });
        }
        scope
    }

    /// What the success condition can see: everything; a step with a condition may not
    /// have run.
    fn final_scope(&self) -> Scope<'a> {
        let mut scope = self.base_scope(self.project.pipeline.steps.len());
        for step in &self.project.pipeline.steps {
            scope.bind(&step.output, Known { ty: self.output(step), maybe: step.when.is_some() });
        }
        scope
    }

    fn base_scope(&self, before: usize) -> Scope<'a> {
        let mut scope = Scope::default();
        let schemas = Schemas(&self.project.schema_documents);
        for name in self.project.pipeline.inputs.keys() {
            let schema = self.project.document.value.pointer(&child("/inputs", name));
            let ty = schema.map_or(Type::Unknown, |schema: &'a Value| schemas.root(schema));
            scope.bind(name, Known::is(ty));
        }
        let steps = self.project.pipeline.steps.iter().take(before);
        let members: Members<'a> = steps.map(|step| (step.id.as_str(), Type::Unknown)).collect();
        scope.bind("steps", Known::is(Type::Fixed(members.into())));
        scope
    }

    fn output(&self, step: &Step) -> Type<'a> {
        match output_type(step) {
            OutputType::Text => Type::Text(None),
            OutputType::Any => Type::Unknown,
            OutputType::File(file) => match self.project.schema_documents.get(&file) {
                Some(document) => Schemas(&self.project.schema_documents).root(&document.value),
                None => Type::Unknown,
            },
        }
    }

    fn unused(&mut self) {
        // A misspelt variable makes the input that it means seem unused.
        if self.found.iter().any(Diagnostic::is_error) {
            return;
        }
        for name in self.project.pipeline.inputs.keys().filter(|name| !self.used.contains(*name)) {
            let document = &self.project.document;
            let span = document.spans.key(&child("/inputs", name));
            let message = format!("the input `{name}` is never used");
            self.found.push(Diagnostic::warning(Code::UnusedInput, message).at(&document.file, span));
        }
    }
}
