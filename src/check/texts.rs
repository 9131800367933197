//! Checks every template and expression of a project: can it be evaluated, and does it fit the schemas?

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::parse_expr;

use super::infer::{Checker, ExpressionPlace};
use super::programs::has_tags;
use super::scope::{KnownValue, TypeScope};
use super::sites::{Site, Sites};
use super::types::{Property, Schemas, Type, TypeKind};
use crate::config::{Project, child, item};
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::step::{CommandLine, Expression};
use crate::model::{Step, StepAction as Written};
use crate::template::{TemplateError, TemplateErrorKind, extent, inspect_expression, inspect_template};

pub(super) fn check(project: &Project, sites: &Sites<'_>) -> Vec<Diagnostic> {
    let mut texts = Texts::new(project);
    for file in project.prompts.values() {
        if let Err(errors) = inspect_template(&file.text) {
            texts.refused(&ExpressionPlace::File(Arc::clone(file)), errors);
        }
    }
    for site in &sites.list {
        texts.step(site);
    }
    let end = sites.end.everything(project);
    if let Some(success) = &project.pipeline.success {
        texts.condition(None, "/success", success, &end);
    }
    for (name, expression) in &project.pipeline.outputs {
        texts.expression(None, &child("/outputs", name), expression, &end);
    }
    texts.unused();
    texts.found
}

/// The scopes at the mark, whichever text of the pipeline or prompt contains it.
pub(super) fn marked<'a>(project: &'a Project, sites: &'a Sites<'a>) -> Vec<TypeScope<'a>> {
    let mut texts = Texts::new(project);
    for site in &sites.list {
        texts.step(site);
    }
    texts.seen
}

/// The syntax errors of a prompt and the features that it may not use. Types are checked only together with a pipeline
/// that uses the prompt.
pub fn check_prompt(file: &Arc<SourceFile>) -> Vec<Diagnostic> {
    let errors = inspect_template(&file.text).err().unwrap_or_default();
    errors.into_iter().map(|error| refusal(error, |problem, range| problem.at(file, range))).collect()
}

struct Texts<'a> {
    project: &'a Project,
    found: Vec<Diagnostic>,
    used: BTreeSet<String>,
    seen: Vec<TypeScope<'a>>,
}

impl<'a> Texts<'a> {
    fn new(project: &'a Project) -> Self {
        Self { project, found: Vec::new(), used: BTreeSet::new(), seen: Vec::new() }
    }

    fn step(&mut self, site: &'a Site<'a>) {
        let (step, at) = (site.step, &site.pointer);
        let scope = site.view.of_step(self.project, step);
        if let Some(name) = &step.prompt
            && let Some(file) = self.project.prompts.get(name)
            && inspect_template(&file.text).is_ok()
        {
            let mut checker = Checker::new(self.project, Some(site));
            checker.enter(name);
            checker.template(ExpressionPlace::File(Arc::clone(file)), &file.text, &mut scope.clone());
            self.take(checker);
        }
        self.kind(site, &scope);
        if let Some(when) = &step.when {
            self.condition(Some(site), &child(at, "when"), when, &scope);
        }
        if let Some(list) = &step.for_each {
            let pointer = child(at, "for_each");
            if let Some((known, range)) = self.expression(Some(site), &pointer, list, &scope)
                && let Some(kinds) = known.ty.kinds()
                && let Some(wrong) = kinds.iter().find(|kind| **kind != TypeKind::List)
            {
                let list = list.trim();
                let problem = if kinds.contains(&TypeKind::List) {
                    let message = format!("`{list}` may be {}, not a list", wrong.words());
                    self.unsure(Code::NotList, &pointer, range, message)
                } else {
                    self.at(Code::NotList, &pointer, range, format!("`{list}` is {}, not a list", known.ty.words()))
                };
                self.found.push(problem.help("`for_each` runs over a list, such as `plan.steps`"));
            }
        }
    }

    /// Reports a message that is always empty.
    fn silent(&mut self, pointer: &str, step: &Step) {
        let span = self.project.document.spans.value(pointer);
        let message = format!("the message of step `{}` is empty", step.id);
        let problem = Diagnostic::error(Code::NothingToSay, message).at(&self.project.document.file, span);
        self.found.push(problem.help("write one, or leave `message` out: then it is made of the inputs"));
    }

    /// Checks the texts that are specific to the kind of a step.
    fn kind(&mut self, site: &'a Site<'a>, scope: &TypeScope<'a>) {
        let (step, at) = (site.step, &site.pointer);
        match step.kind() {
            Some(Written::Agent { .. }) => self.agent(site, scope),
            Some(Written::Command(line)) => {
                let pointer = child(at, "run");
                let scope = &site.view.of_command(self.project, step);
                match line {
                    CommandLine::Shell(line) => self.template(site, &pointer, line, scope),
                    CommandLine::Argv(parts) => {
                        for (index, part) in parts.iter().enumerate() {
                            self.template(site, &item(&pointer, index), part, scope);
                        }
                    }
                }
                if let Some(cwd) = &step.cwd {
                    self.template(site, &child(at, "cwd"), cwd, scope);
                }
                if let Some(stdin) = &step.stdin {
                    self.expression(Some(site), &child(at, "stdin"), stdin, scope);
                }
            }
            Some(Written::Write(files)) => self.files(site, files, scope),
            Some(Written::Approve(message)) => self.template(site, &child(at, "approve"), message, scope),
            Some(Written::Repeat(repeat)) => {
                if let Some(until) = &repeat.until {
                    let scope = site.after_round(self.project);
                    self.condition(Some(site), &child(&child(at, "repeat"), "until"), until, &scope);
                }
            }
            Some(Written::Pipeline(file)) => {
                let called = self.project.called.get(file).map(|called| &**called);
                for (name, Expression(expression)) in &step.with {
                    let pointer = child(&child(at, "with"), name);
                    let known = self.expression(Some(site), &pointer, expression, scope);
                    if let (Some(called), Some((known, range))) = (called, known) {
                        self.given(called, name, &pointer, expression, known, range);
                    }
                }
            }
            Some(Written::Parallel(_) | Written::Sequence(_)) | None => {}
        }
    }

    /// Checks an agent's message and the conditions on its reply.
    fn agent(&mut self, site: &'a Site<'a>, scope: &TypeScope<'a>) {
        let (step, at) = (site.step, &site.pointer);
        match &step.message {
            Some(message) if message.trim().is_empty() => self.silent(&child(at, "message"), step),
            Some(message) => self.template(site, &child(at, "message"), message, scope),
            // The default message contains every input of the run.
            None => self.used.extend(self.project.pipeline.inputs.keys().cloned()),
        }
        if step.accept.is_empty() {
            return;
        }
        let (pointer, scope) = (child(at, "accept"), site.with_reply(self.project));
        for (index, accept) in step.accept.iter().enumerate() {
            let pointer = item(&pointer, index);
            self.condition(Some(site), &child(&pointer, "that"), &accept.that, &scope);
            if has_tags(&accept.otherwise) {
                let document = &self.project.document;
                let message = "the text of `else` is sent as it stands: it is no template";
                let warning = Diagnostic::warning(Code::NotReplaced, message);
                let place = document.spans.value(&child(&pointer, "else"));
                let help = "say it without a value, which the model has in its prompt";
                self.found.push(warning.at(&document.file, place).help(help));
            }
        }
    }

    fn template(&mut self, site: &'a Site<'a>, pointer: &str, text: &'a str, scope: &TypeScope<'a>) {
        let place = ExpressionPlace::Yaml(pointer.to_owned());
        if let Err(errors) = inspect_template(text) {
            self.refused(&place, errors);
            return;
        }
        let mut checker = Checker::new(self.project, Some(site));
        checker.template(place, text, &mut scope.clone());
        self.take(checker);
    }

    /// Infers the value and the range of an expression, and reports its mistakes. `None` if it can't be parsed.
    fn expression(
        &mut self,
        site: Option<&'a Site<'a>>,
        pointer: &str,
        text: &'a str,
        scope: &TypeScope<'a>,
    ) -> Option<(KnownValue<'a>, Range<usize>)> {
        let place = ExpressionPlace::Yaml(pointer.to_owned());
        if let Err(errors) = inspect_expression(text) {
            self.refused(&place, errors);
            return None;
        }
        let parsed = parse_expr(text).ok()?;
        let mut checker = Checker::new(self.project, site);
        (checker.place, checker.text) = (place, text);
        let known = checker.value(&parsed, scope);
        self.take(checker);
        Some((known, extent(&parsed)))
    }

    fn at(&self, code: Code, pointer: &str, range: Range<usize>, message: String) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message).at(&document.file, document.within(pointer, range))
    }

    fn unsure(&self, code: Code, pointer: &str, range: Range<usize>, message: String) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::warning(code, message).at(&document.file, document.within(pointer, range))
    }

    /// Checks that the value which a step writes is a list of files, or has one under `files`.
    fn files(&mut self, site: &'a Site<'a>, files: &'a str, scope: &TypeScope<'a>) {
        let pointer = child(&site.pointer, "write");
        let Some((known, range)) = self.expression(Some(site), &pointer, files, scope) else { return };
        let schemas = Schemas(&self.project.schema_documents);
        let list = match schemas.property(&known.ty, "files") {
            Some(Property::Present(ty) | Property::Optional(ty)) => ty,
            Some(Property::Open(_)) => Type::Unknown,
            Some(Property::Absent(_)) | None => known.ty.clone(),
        };
        let entry = schemas.items(&list);
        let fits = |entry: &Type<'a>, name: &str| match schemas.property(entry, name) {
            Some(Property::Present(ty) | Property::Optional(ty)) => {
                ty.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::Text))
            }
            Some(Property::Open(_)) => true,
            Some(Property::Absent(_)) => false,
            None => matches!(entry, Type::Unknown),
        };
        let is_text = |name: &str| entry.branches().iter().any(|branch| fits(branch, name));
        let is_list = list.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::List));
        if !is_list || !is_text("path") || !is_text("content") {
            let message = format!("`{}` is not a list of files", files.trim());
            let problem = self.at(Code::NotFiles, &pointer, range, message);
            self.found.push(
                problem.help("files are a list of `{path, content}`, or an artifact with such a list under `files`"),
            );
        }
    }

    /// Checks that a value given to a called pipeline has a kind that its input accepts.
    fn given(
        &mut self,
        called: &'a Project,
        name: &str,
        pointer: &str,
        text: &str,
        known: KnownValue<'a>,
        range: Range<usize>,
    ) {
        let place = child("/inputs", name);
        let Some(schema) = called.document.value.pointer(&place) else { return };
        let wanted = Schemas(&called.schema_documents).root(schema);
        let (Some(given), Some(takes)) = (known.ty.kinds(), wanted.kinds()) else { return };
        if given.iter().any(|kind| takes.contains(kind)) {
            return;
        }
        let message = format!("`{}` is {}, and `{name}` takes {}", text.trim(), known.ty.words(), wanted.words());
        let problem = self.at(Code::InputMismatch, pointer, range, message);
        self.found.push(problem.also(&called.document.file, called.document.spans.value(&place), "declared here"));
    }

    fn take(&mut self, checker: Checker<'a>) {
        self.found.extend(checker.found);
        self.used.extend(checker.used);
        self.seen.extend(checker.seen);
    }

    /// Checks an expression whose result must be a boolean.
    fn condition(&mut self, site: Option<&'a Site<'a>>, pointer: &str, text: &'a str, scope: &TypeScope<'a>) {
        let Some((known, range)) = self.expression(site, pointer, text, scope) else { return };
        let Some(kinds) = known.ty.kinds() else { return };
        let Some(wrong) = kinds.iter().find(|kind| **kind != TypeKind::Bool) else { return };
        if kinds.contains(&TypeKind::Bool) {
            let message = format!("`{}` may be {}, not `true` or `false`", text.trim(), wrong.words());
            let problem = self.unsure(Code::NotBoolean, pointer, range, message);
            let joined = text.contains(" and ") || text.contains(" or ");
            self.found.push(if joined {
                problem.help("`and` and `or` give one of their values: compare each, as `x == true`")
            } else {
                problem.help(format!("compare it: `{} == true`", text.trim()))
            });
            return;
        }
        let message = format!("`{}` is {}, not `true` or `false`", text.trim(), known.ty.words());
        let problem = self.at(Code::NotBoolean, pointer, range, message);
        let help = match known.ty.kind() {
            Some(TypeKind::Number) => format!("compare it: `{} > 0`", text.trim()),
            Some(TypeKind::List | TypeKind::Text) => format!("compare its length: `{} | length > 0`", text.trim()),
            _ => format!("test it: `{} is defined`", text.trim()),
        };
        self.found.push(problem.help(help));
    }

    /// Reports the errors that inspection found in a text.
    fn refused(&mut self, place: &ExpressionPlace, errors: Vec<TemplateError>) {
        let project = self.project;
        self.found.extend(errors.into_iter().map(|error| {
            refusal(error, |problem, range| match place {
                ExpressionPlace::File(file) => problem.at(file, range),
                ExpressionPlace::Yaml(pointer) => {
                    let document = &project.document;
                    problem.at(&document.file, document.within(pointer, range))
                }
            })
        }));
    }

    fn unused(&mut self) {
        // If a variable is misspelt, the input that the user means only seems unused.
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

/// Turns an error of a template or expression into a diagnostic; `at` gives it its position.
pub(super) fn refusal(error: TemplateError, at: impl Fn(Diagnostic, Range<usize>) -> Diagnostic) -> Diagnostic {
    let code = match error.kind {
        TemplateErrorKind::Refused => Code::TemplateRefused,
        TemplateErrorKind::UnknownCallable => Code::UnknownCallable,
        TemplateErrorKind::MissingInclude => Code::IncludeNotFound,
        TemplateErrorKind::Syntax
        | TemplateErrorKind::TooMuch
        | TemplateErrorKind::Undefined
        | TemplateErrorKind::WrongType => Code::TemplateSyntax,
    };
    let mut problem = at(Diagnostic::error(code, error.message), error.range);
    if let Some(replacement) = error.replacement {
        let (written, right) = *replacement;
        problem = problem.replaced(&written, Some(&right));
    }
    match error.hint {
        Some(hint) => problem.help(hint),
        None => problem,
    }
}
