//! Checks the texts in the arguments of a tool that a step calls: templates, and expressions whose values keep their
//! types.

use minijinja::machinery::ast::Stmt;
use serde_json::Value;

use super::argument_fit::ToolParameter;
use super::call_inputs::InputFit;
use super::call_steps::parameters;
use super::infer::{Checker, TextLocation};
use super::scope::TypeScope;
use super::step_scopes::ScopedStep;
use super::texts::TextChecks;
use crate::config::{child_pointer, item_pointer};
use crate::diagnostic::Code;
use crate::template::{expr_range, parse_template, sole_expression};

impl<'a> TextChecks<'a> {
    /// Checks the arguments of the tool that a step calls.
    pub(super) fn check_call_arguments(&mut self, scoped_step: &'a ScopedStep<'a>, scope: &TypeScope<'a>) {
        let args_pointer = child_pointer(&scoped_step.pointer, "args");
        let tool = scoped_step.step.called_builtin();
        for (name, value) in &scoped_step.step.args {
            let parameter = tool.and_then(|tool| {
                let parameter = parameters(tool).iter().find(|parameter| parameter.name == name)?;
                Some(ToolParameter { tool, parameter })
            });
            self.check_argument(scoped_step, &child_pointer(&args_pointer, name), value, parameter, scope);
        }
    }

    /// Checks the texts in an argument, or in a part of one. `parameter` is the parameter of the tool, if orch knows it.
    fn check_argument(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        pointer: &str,
        value: &'a Value,
        parameter: Option<ToolParameter>,
        scope: &TypeScope<'a>,
    ) {
        match value {
            Value::String(text) if sole_expression(text).is_none() => {
                self.check_template(scoped_step, pointer, text, scope);
                if let Some(parameter) = parameter.filter(|_| text.contains("{{") || text.contains("{%")) {
                    self.check_text_argument(pointer, text, parameter);
                }
            }
            Value::String(text) => self.check_sole_expression(scoped_step, pointer, text, parameter, scope),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check_argument(scoped_step, &item_pointer(pointer, index), item, None, scope);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.check_argument(scoped_step, &child_pointer(pointer, name), member, None, scope);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Reports a text with tags that is never a value of the parameter.
    fn check_text_argument(&mut self, pointer: &str, text: &str, parameter: ToolParameter) {
        let Ok(parsed) = parse_template(text) else { return };
        if !parameter.refuses_text(&parsed) {
            return;
        }
        let (name, expected) = (parameter.parameter.name, parameter.parameter.kind.describe());
        let message = format!("`{text}` is never {expected}, but the argument `{name}` is {expected}");
        let diagnostic = self.error_at(Code::InputMismatch, pointer, 0..text.len(), message);
        self.push(diagnostic.with_help("write only the expression, as in `\"{{ count }}\"`"));
    }

    /// Checks a text that is only one expression in braces, whose value is the argument.
    fn check_sole_expression(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        pointer: &str,
        text: &'a str,
        parameter: Option<ToolParameter>,
        scope: &TypeScope<'a>,
    ) {
        let location = TextLocation::Yaml(pointer.to_owned());
        let parsed = match parse_template(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                self.report_template_errors(&location, errors);
                return;
            }
        };
        let Stmt::Template(template) = &parsed else { return };
        let [Stmt::EmitExpr(emitted)] = template.children.as_slice() else { return };
        let mut checker = Checker::new(self.project, Some(scoped_step));
        (checker.location, checker.text) = (location, text);
        let inferred = checker.infer_defined(&emitted.expr, scope);
        self.collect_results(checker);
        let range = expr_range(&emitted.expr);
        let source = text.get(range.clone()).unwrap_or(text);
        let Some(parameter) = parameter else { return };
        let diagnostic = match parameter.fit(source, &inferred.ty) {
            InputFit::Always => return,
            InputFit::Sometimes(message) => self.warning_at(Code::InputMismatch, pointer, range, message),
            InputFit::Never(message) => self.error_at(Code::InputMismatch, pointer, range, message),
        };
        self.push(diagnostic);
    }
}
