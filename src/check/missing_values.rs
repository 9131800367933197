//! Reports values that may be missing, with advice on how to guard them.

use minijinja::machinery::ast::Expr;

use super::infer::{Checker, TextLocation};
use super::narrowing::{constant_index, expression_path};
use super::null_texts::may_be_null;
use super::scope::{InferredValue, TypeScope, depends_on};
use super::truth::ConditionReader;
use crate::diagnostic::{Code, Diagnostic};
use crate::template::expr_range;

/// The keys whose value is a condition.
const CONDITION_KEYS: &[&str] = &["when", "until", "success", "that"];

impl<'a> Checker<'a> {
    /// Returns a diagnostic for an expression whose value may be undefined where a value is necessary.
    pub(super) fn missing_value(
        &self,
        expr: &Expr<'a>,
        inferred: &InferredValue<'a>,
        scope: &TypeScope<'a>,
    ) -> Diagnostic {
        let source = self.source(expr);
        let new_diagnostic = |message: String| self.warning(Code::PossiblyMissing, expr_range(expr), message);
        if inferred.prints_as_nothing && matches!(expr, Expr::IfExpr(_)) {
            return new_diagnostic(format!("`{source}` has no value if its condition is false"))
                .with_help("write the other value: `… if … else …`");
        }
        if inferred.prints_as_nothing {
            let message = format!("`{source}` may be missing, because an expression without `else` sets it");
            return new_diagnostic(message).with_help("write the other value there: `… if … else …`");
        }
        // The value of `a.b and c` is missing if `a.b` is, so the advice is about `a.b`.
        let (operand, scope) = self.undefined_operand(expr, scope);
        let text = self.operand_text(operand);
        // A default alone replaces a missing value, but not null.
        let is_nullable = std::ptr::eq(operand, expr) && may_be_null(&inferred.ty);
        let (problem, condition, default) = if is_nullable {
            let condition = format!("{text} is defined and {text} is not none");
            ("may be missing or null", condition, format!("{text} | default(…, true)"))
        } else {
            ("may be missing", self.guard_condition(operand, &scope), format!("{text} | default(…)"))
        };
        let guard = self.guard_advice(operand, &condition);
        let default = format!("set a default: `{default}`");
        let message = format!("`{}` {problem}", self.source(operand));
        self.warning(Code::PossiblyMissing, expr_range(operand), message).with_help(format!("{guard}, or {default}"))
    }

    /// The condition that shows that the value of an expression is defined, and that is not known to be true already.
    fn guard_condition(&self, expr: &Expr<'a>, scope: &TypeScope<'a>) -> String {
        let reader = ConditionReader { schemas: self.schemas, scope };
        match list_that_must_have_items(expr).filter(|list| !scope.is_implied(&reader.truth(list))) {
            Some(list) => self.operand_text(list),
            None => format!("{} is defined", self.operand_text(expr)),
        }
    }

    /// Advice on where to test a condition before the text uses an expression.
    pub(super) fn guard_advice(&self, expr: &Expr<'a>, condition: &str) -> String {
        let is_condition = matches!(&self.location, TextLocation::Yaml(pointer) if is_condition_pointer(pointer));
        if self.is_template || matches!(self.location, TextLocation::File(_)) {
            return format!("guard it: `{{% if {condition} %}}…{{% endif %}}`");
        }
        if is_condition {
            return format!("guard it: `{condition} and …`");
        }
        // `when` applies to the whole step, not to an item.
        let path = expression_path(expr).unwrap_or_default();
        let is_of_item = ["item", "index"].iter().any(|name| depends_on(&path, name));
        match self.scoped_step {
            Some(scoped_step) if !is_of_item && scoped_step.step.when.is_some() => {
                format!("guard it: add `and {condition}` to the `when` of step `{}`", scoped_step.step.id)
            }
            Some(scoped_step) if !is_of_item => {
                format!("guard step `{}` with `when: {condition}`", scoped_step.step.id)
            }
            Some(_) | None => format!("guard it: `… if {condition} else …`"),
        }
    }
}

/// Whether the value at a pointer of the pipeline file is a condition.
fn is_condition_pointer(pointer: &str) -> bool {
    let mut segments = pointer.rsplit('/');
    let is_condition_key = segments.next().is_some_and(|key| CONDITION_KEYS.contains(&key));
    // The keys of these mappings are names of inputs and outputs.
    is_condition_key && !matches!(segments.next(), Some("with" | "outputs"))
}

/// The list from which an expression takes its first, last, smallest or largest item, which is missing only if the list
/// is empty.
fn list_that_must_have_items<'a, 'b>(expr: &'b Expr<'a>) -> Option<&'b Expr<'a>> {
    match expr {
        Expr::GetItem(inner) => match &inner.subscript_expr {
            key if matches!(constant_index(key), Some(0 | -1)) => Some(&inner.expr),
            _ => None,
        },
        Expr::Filter(inner) if matches!(inner.name, "first" | "last" | "min" | "max") => inner.expr.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_condition_pointer;

    #[test]
    fn the_names_of_inputs_and_outputs_are_not_keys() {
        for pointer in ["/steps/0/when", "/steps/0/repeat/until", "/success", "/steps/0/accept/1/that"] {
            assert!(is_condition_pointer(pointer), "{pointer}");
        }
        for pointer in ["/steps/0/write", "/steps/0/with/when", "/outputs/success", ""] {
            assert!(!is_condition_pointer(pointer), "{pointer}");
        }
    }
}
