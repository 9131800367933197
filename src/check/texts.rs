//! Checks every template and expression of a project: can orch evaluate it, and does it fit the schemas?

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{Expr, Stmt};

use super::Strictness;
use super::infer::{Checker, TextLocation};
use super::scope::{InferredValue, TypeScope};
use super::shell_values;
use super::step_scopes::{ScopedStep, ScopedSteps};
use super::template_errors::template_diagnostic;
use super::types::TypeKind;
use super::unchecked::{UNCHECKED_HELP, distinct_notes};
use crate::config::{Project, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::StepAction;
use crate::model::name_scope::TextScope;
use crate::model::step::{CommandLine, Expression};
use crate::template::{TemplateError, expr_range, inspect_template, parse_expression, parse_template};

pub(super) fn check(project: &Project, scoped_steps: &ScopedSteps<'_>, strictness: Strictness) -> Vec<Diagnostic> {
    let mut texts = TextChecks::new(project);
    for file in project.prompts.values() {
        if let Err(errors) = inspect_template(&file.text) {
            texts.report_template_errors(&TextLocation::File(Arc::clone(file)), errors);
        }
    }
    for scoped_step in &scoped_steps.steps {
        texts.check_step(scoped_step);
    }
    let final_scope = scoped_steps.final_scope.for_pipeline(project);
    if let Some(success) = &project.pipeline.success {
        texts.check_condition(None, "/success", success, &final_scope);
    }
    for (name, expression) in &project.pipeline.outputs {
        texts.check_expression(None, &child_pointer("/outputs", name), expression, &final_scope);
    }
    texts.report_unused_inputs();
    if strictness.reports(Code::UncheckedValue) {
        let notes = distinct_notes(texts.unchecked_uses, &texts.diagnostics);
        texts.diagnostics.extend(notes);
    }
    texts.diagnostics
}

/// The scopes at [`COMPLETION_MARKER`](super::probe::COMPLETION_MARKER), in every text that contains or includes it.
pub(super) fn scopes_at_marker<'a>(project: &'a Project, scoped_steps: &'a ScopedSteps<'a>) -> Vec<TypeScope<'a>> {
    let mut texts = TextChecks::new(project);
    for scoped_step in &scoped_steps.steps {
        texts.check_step(scoped_step);
    }
    texts.marker_scopes
}

/// Reports syntax errors and forbidden features of a prompt. Does not check types, which depend on the pipelines that
/// use the prompt.
pub fn check_prompt(file: &Arc<SourceFile>) -> Vec<Diagnostic> {
    let errors = inspect_template(&file.text).err().unwrap_or_default();
    errors
        .into_iter()
        .map(|error| template_diagnostic(error, |diagnostic, range| diagnostic.with_span(file, range)))
        .collect()
}

/// An input of a called pipeline, with the expression of its value.
pub(super) struct CallInput<'b, 'a> {
    pub(super) called: &'a Project,
    pub(super) name: &'b str,
    /// The location of the expression in the calling pipeline.
    pub(super) pointer: &'b str,
    /// The expression.
    pub(super) text: &'a str,
    /// The range of the value in the expression.
    pub(super) range: Range<usize>,
    /// The step that calls the pipeline, and the scope of the expression.
    pub(super) scoped_step: &'a ScopedStep<'a>,
    pub(super) scope: &'b TypeScope<'a>,
}

/// Checks the texts of a project and collects the results.
pub(super) struct TextChecks<'a> {
    pub(super) project: &'a Project,
    diagnostics: Vec<Diagnostic>,
    /// The uses of values about which the schemas say too little, for a strict check.
    pub(super) unchecked_uses: Vec<Diagnostic>,
    /// The inputs of the run that the texts use.
    pub(super) used_inputs: BTreeSet<String>,
    /// The scopes in which the texts use the name [`COMPLETION_MARKER`](super::probe::COMPLETION_MARKER).
    marker_scopes: Vec<TypeScope<'a>>,
}

/// A template that orch can run.
pub(super) struct CheckedTemplate<'a> {
    parsed: Stmt<'a>,
    /// Whether it always prints a text that is not blank.
    pub(super) prints_text: bool,
}

impl<'a> TextChecks<'a> {
    fn new(project: &'a Project) -> Self {
        Self {
            project,
            diagnostics: Vec::new(),
            unchecked_uses: Vec::new(),
            used_inputs: BTreeSet::new(),
            marker_scopes: Vec::new(),
        }
    }

    fn check_step(&mut self, scoped_step: &'a ScopedStep<'a>) {
        let (step, pointer) = (scoped_step.step, &scoped_step.pointer);
        let scope = scoped_step.text_scope(self.project, TextScope::Step);
        // A prompt that can't be checked has a finding already.
        let mut prompt_prints_text = true;
        if let Some(name) = &step.prompt
            && let Some(file) = self.project.prompts.get(name)
            && let Ok(parsed) = parse_template(&file.text)
        {
            let mut checker = Checker::new(self.project, Some(scoped_step));
            checker.start_prompt(name);
            checker.check_template(TextLocation::File(Arc::clone(file)), &file.text, &parsed, &mut scope.clone());
            prompt_prints_text = checker.prints_text;
            self.collect_results(checker);
        }
        if step.agent.is_some() {
            self.check_agent(scoped_step, &scope, prompt_prints_text);
        }
        self.check_kind_texts(scoped_step, &scope);
        if let Some(when) = &step.when {
            let scope = scoped_step.text_scope(self.project, TextScope::Condition);
            self.check_condition(Some(scoped_step), &child_pointer(pointer, "when"), when, &scope);
        }
        if let Some(list) = &step.for_each {
            let scope = scoped_step.text_scope(self.project, TextScope::List);
            self.check_mapped_list(scoped_step, list, &scope);
        }
    }

    /// Checks the list over which `for_each` maps.
    fn check_mapped_list(&mut self, scoped_step: &'a ScopedStep<'a>, text: &'a str, scope: &TypeScope<'a>) {
        let pointer = child_pointer(&scoped_step.pointer, "for_each");
        let Some((inferred, range)) = self.check_expression(Some(scoped_step), &pointer, text, scope) else { return };
        let Some(kinds) = inferred.ty.kinds() else { return self.note_unchecked(&pointer, range, text) };
        let Some(wrong_kind) = kinds.iter().find(|kind| **kind != TypeKind::List) else { return };
        let list = text.trim();
        let diagnostic = if kinds.contains(&TypeKind::List) {
            let message = format!("`{list}` may be {}, not a list", wrong_kind.describe());
            self.warning_at(Code::NotList, &pointer, range, message)
        } else {
            let message = format!("`{list}` is {}, not a list", inferred.ty.describe());
            self.error_at(Code::NotList, &pointer, range, message)
        };
        self.diagnostics.push(diagnostic.with_help("`for_each` maps over a list, such as `plan.steps`"));
    }

    /// Checks the texts that are specific to the kind of a step without an agent.
    fn check_kind_texts(&mut self, scoped_step: &'a ScopedStep<'a>, scope: &TypeScope<'a>) {
        let (step, step_pointer) = (scoped_step.step, &scoped_step.pointer);
        match step.action() {
            Some(StepAction::Command(line)) => {
                let pointer = child_pointer(step_pointer, "run");
                let scope = &scoped_step.command_scope(self.project);
                match line {
                    CommandLine::Shell(line) => {
                        let finding_count = self.diagnostics.len();
                        let checked = self.check_template(scoped_step, &pointer, line, scope);
                        // The text of an expression with a mistake may not be meant as a template.
                        if let Some(checked) = checked
                            && !self.diagnostics.iter().skip(finding_count).any(Diagnostic::is_error)
                        {
                            self.diagnostics.extend(shell_values::check(self.project, &pointer, line, &checked.parsed));
                        }
                    }
                    CommandLine::Argv(argv) => {
                        for (index, argument) in argv.iter().enumerate() {
                            self.check_template(scoped_step, &item_pointer(&pointer, index), argument, scope);
                        }
                    }
                }
                if let Some(cwd) = &step.cwd {
                    self.check_template(scoped_step, &child_pointer(step_pointer, "cwd"), cwd, scope);
                }
                if let Some(stdin) = &step.stdin {
                    self.check_expression(Some(scoped_step), &child_pointer(step_pointer, "stdin"), stdin, scope);
                }
            }
            Some(StepAction::Call(_)) => self.check_call_arguments(scoped_step, scope),
            Some(StepAction::Write(files)) => self.check_files(scoped_step, files, scope),
            Some(StepAction::Approve(message)) => {
                self.check_template(scoped_step, &child_pointer(step_pointer, "approve"), message, scope);
            }
            Some(StepAction::Repeat(repeat)) => {
                if let Some(until) = &repeat.until {
                    let scope = scoped_step.text_scope(self.project, TextScope::Iteration);
                    self.check_condition(
                        Some(scoped_step),
                        &child_pointer(&child_pointer(step_pointer, "repeat"), "until"),
                        until,
                        &scope,
                    );
                }
            }
            Some(StepAction::Pipeline(file)) => {
                let called = self.project.called_projects.get(file).map(|called| &**called);
                for (name, Expression(expression)) in &step.with {
                    let pointer = child_pointer(&child_pointer(step_pointer, "with"), name);
                    let inferred = self.check_expression(Some(scoped_step), &pointer, expression, scope);
                    if let (Some(called), Some((inferred, range))) = (called, inferred) {
                        let (pointer, text) = (&pointer, expression.as_str());
                        let input = CallInput { called, name, pointer, text, range, scoped_step, scope };
                        self.check_call_input(&input, &inferred.ty);
                    }
                }
            }
            Some(StepAction::Agent { .. } | StepAction::Parallel(_) | StepAction::Sequence(_)) | None => {}
        }
    }

    /// Checks a template. Returns `None` if orch refuses to run it.
    pub(super) fn check_template(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        pointer: &str,
        text: &'a str,
        scope: &TypeScope<'a>,
    ) -> Option<CheckedTemplate<'a>> {
        let location = TextLocation::Yaml(pointer.to_owned());
        let parsed = match parse_template(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                self.report_template_errors(&location, errors);
                return None;
            }
        };
        let mut checker = Checker::new(self.project, Some(scoped_step));
        checker.check_template(location, text, &parsed, &mut scope.clone());
        let prints_text = checker.prints_text;
        self.collect_results(checker);
        Some(CheckedTemplate { parsed, prints_text })
    }

    /// Infers the value and the range of an expression, and reports its mistakes. `None` if it can't be parsed.
    pub(super) fn check_expression(
        &mut self,
        scoped_step: Option<&'a ScopedStep<'a>>,
        pointer: &str,
        text: &'a str,
        scope: &TypeScope<'a>,
    ) -> Option<(InferredValue<'a>, Range<usize>)> {
        let (parsed, mut checker) = self.parse_for_check(scoped_step, pointer, text)?;
        let inferred = checker.infer_defined(&parsed, scope);
        self.collect_results(checker);
        Some((inferred, expr_range(&parsed)))
    }

    /// Parses an expression, and creates a checker for it. Reports why orch refuses to run it.
    fn parse_for_check(
        &mut self,
        scoped_step: Option<&'a ScopedStep<'a>>,
        pointer: &str,
        text: &'a str,
    ) -> Option<(Expr<'a>, Checker<'a>)> {
        let location = TextLocation::Yaml(pointer.to_owned());
        match parse_expression(text) {
            Ok(parsed) => {
                let mut checker = Checker::new(self.project, scoped_step);
                (checker.location, checker.text) = (location, text);
                Some((parsed, checker))
            }
            Err(errors) => {
                self.report_template_errors(&location, errors);
                None
            }
        }
    }

    pub(super) fn error_at(&self, code: Code, pointer: &str, range: Range<usize>, message: String) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message).with_span(&document.file, document.span_in_value(pointer, range))
    }

    pub(super) fn warning_at(&self, code: Code, pointer: &str, range: Range<usize>, message: String) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::warning(code, message).with_span(&document.file, document.span_in_value(pointer, range))
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Adds a finding of a strict check about a value of unknown type.
    pub(super) fn note_unchecked(&mut self, pointer: &str, range: Range<usize>, text: &str) {
        let message = format!("nothing says what `{}` is, so its use can't be checked", text.trim());
        let diagnostic = self.warning_at(Code::UncheckedValue, pointer, range, message);
        self.unchecked_uses.push(diagnostic.with_help(UNCHECKED_HELP));
    }

    pub(super) fn collect_results(&mut self, checker: Checker<'a>) {
        self.diagnostics.extend(checker.diagnostics);
        self.unchecked_uses.extend(checker.unchecked_uses);
        self.used_inputs.extend(checker.used_inputs);
        self.marker_scopes.extend(checker.marker_scopes);
    }

    /// Checks an expression whose result must be a boolean.
    pub(super) fn check_condition(
        &mut self,
        scoped_step: Option<&'a ScopedStep<'a>>,
        pointer: &str,
        text: &'a str,
        scope: &TypeScope<'a>,
    ) {
        let Some((parsed, mut checker)) = self.parse_for_check(scoped_step, pointer, text) else { return };
        let (inferred, range) = (checker.infer_defined(&parsed, scope), expr_range(&parsed));
        checker.check_impossible_status(&parsed, scope);
        checker.check_boolean(&parsed, &inferred.ty, scope);
        self.collect_results(checker);
        if inferred.ty.kinds().is_none() {
            self.note_unchecked(pointer, range, text);
        }
    }

    /// Reports the errors that inspection found in a text.
    pub(super) fn report_template_errors(&mut self, location: &TextLocation, errors: Vec<TemplateError>) {
        let project = self.project;
        self.diagnostics.extend(errors.into_iter().map(|error| {
            template_diagnostic(error, |diagnostic, range| match location {
                TextLocation::File(file) => diagnostic.with_span(file, range),
                TextLocation::Yaml(pointer) => {
                    let document = &project.document;
                    diagnostic.with_span(&document.file, document.span_in_value(pointer, range))
                }
            })
        }));
    }

    /// Reports inputs of the run that no text uses.
    fn report_unused_inputs(&mut self) {
        // If a text misspells the name of an input, the input seems unused.
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return;
        }
        for name in self.project.pipeline.inputs.keys().filter(|name| !self.used_inputs.contains(*name)) {
            let document = &self.project.document;
            let span = document.spans.key(&child_pointer("/inputs", name));
            let message = format!("the input `{name}` is never used");
            self.diagnostics.push(Diagnostic::warning(Code::UnusedInput, message).with_span(&document.file, span));
        }
    }
}
