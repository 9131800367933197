//! Checks the texts in the arguments of a tool that a step calls: templates, and expressions whose values keep their
//! types.

use minijinja::machinery::ast::Stmt;
use serde_json::Value;

use super::call_steps::{Parameter, parameters};
use super::infer::{Checker, TextLocation};
use super::scope::TypeScope;
use super::step_scopes::ScopedStep;
use super::texts::TextChecks;
use super::types::{Type, TypeKind};
use crate::config::{child_pointer, item_pointer};
use crate::diagnostic::Code;
use crate::template::{expr_range, parse_template, sole_expression};

impl<'a> TextChecks<'a> {
    /// Checks the arguments of the tool that a step calls.
    pub(super) fn check_call_arguments(&mut self, scoped_step: &'a ScopedStep<'a>, scope: &TypeScope<'a>) {
        let args_pointer = child_pointer(&scoped_step.pointer, "args");
        let parameters = scoped_step.step.called_builtin().map(parameters).unwrap_or_default();
        for (name, value) in &scoped_step.step.args {
            let parameter = parameters.iter().find(|parameter| parameter.name == name);
            self.check_argument(scoped_step, &child_pointer(&args_pointer, name), value, parameter, scope);
        }
    }

    /// Checks the texts in an argument, or in a part of one. `parameter` is the parameter of the tool, if orch knows it.
    fn check_argument(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        pointer: &str,
        value: &'a Value,
        parameter: Option<&Parameter>,
        scope: &TypeScope<'a>,
    ) {
        match value {
            Value::String(text) if sole_expression(text).is_none() => {
                self.check_template(scoped_step, pointer, text, scope);
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

    /// Checks a text that is only one expression in braces, whose value is the argument.
    fn check_sole_expression(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        pointer: &str,
        text: &'a str,
        parameter: Option<&Parameter>,
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
        let Some((is_error, kind)) = misfit(parameter, &inferred.ty) else { return };
        let (expected, given) = (parameter.kind.describe(), kind.describe());
        let verb = if is_error { "is" } else { "may be" };
        let message = format!("`{source}` {verb} {given}, but the argument `{}` is {expected}", parameter.name);
        let diagnostic = if is_error {
            self.error_at(Code::InputMismatch, pointer, range, message)
        } else {
            self.warning_at(Code::InputMismatch, pointer, range, message)
        };
        self.push(diagnostic);
    }
}

/// A kind that the values of an argument can have and that its parameter does not accept, and whether it accepts none of
/// their kinds. An argument that is `null` counts as absent.
fn misfit(parameter: &Parameter, ty: &Type<'_>) -> Option<(bool, TypeKind)> {
    let accepts = |kind: &TypeKind| {
        *kind == parameter.kind || *kind == TypeKind::Null && !parameter.is_required
            // orch converts a text that contains a number or a boolean.
            || *kind == TypeKind::Text
    };
    let kinds = ty.kinds()?;
    let wrong = kinds.iter().copied().find(|kind| !accepts(kind))?;
    Some((!kinds.iter().any(accepts), wrong))
}
