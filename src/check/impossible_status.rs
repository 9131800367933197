//! Reports conditions that are never true because a step cannot have ended with the status that they need.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::infer::Checker;
use super::narrowing::member_of;
use super::scope::TypeScope;
use super::truth::ConditionReader;
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::walk::{Visit, walk_expr};

/// A comparison of the status of a step with a status that the step cannot have.
struct ImpossibleStatus {
    step: String,
    status: String,
    /// The range of the compared value.
    value_range: Range<usize>,
    /// The range of the status in the comparison.
    status_range: Range<usize>,
}

/// Finds the first such comparison in an expression.
struct StatusFinder<'s, 'a> {
    reader: ConditionReader<'s, 'a>,
    found: Option<ImpossibleStatus>,
}

impl StatusFinder<'_, '_> {
    fn check_pair(&mut self, value: &Expr<'_>, constant: &Expr<'_>) {
        let Expr::Const(text) = constant else { return };
        let Some(status) = text.value.as_str().filter(|text| matches!(*text, "failed" | "skipped" | "cancelled"))
        else {
            return;
        };
        let is_impossible = self.reader.step_status(value, status).is_some_and(|condition| condition.is_never());
        let step = member_of(value).and_then(|(base, _)| self.reader.ended_step(base));
        if let (Some((step, _)), true) = (step, is_impossible && self.found.is_none()) {
            self.found = Some(ImpossibleStatus {
                step: step.to_owned(),
                status: status.to_owned(),
                value_range: expr_range(value),
                status_range: expr_range(constant),
            });
        }
    }
}

impl<'a> Visit<'a> for StatusFinder<'_, '_> {
    fn visit_expr(&mut self, expr: &Expr<'a>) {
        let Expr::BinOp(inner) = expr else { return };
        match (inner.op, &inner.right) {
            (BinOpKind::Eq, _) => {
                self.check_pair(&inner.left, &inner.right);
                self.check_pair(&inner.right, &inner.left);
            }
            (BinOpKind::In, Expr::List(list)) => {
                list.items.iter().for_each(|status| self.check_pair(&inner.left, status));
            }
            (_, _) => {}
        }
    }
}

impl<'a> Checker<'a> {
    /// Reports a condition that is never true because of the status of a step.
    pub(super) fn check_impossible_status(&mut self, condition: &Expr<'a>, scope: &TypeScope<'a>) {
        let reader = ConditionReader { schemas: self.schemas, scope };
        if !reader.truth(condition).is_never() {
            return;
        }
        let mut finder = StatusFinder { reader, found: None };
        walk_expr(condition, &mut finder);
        let Some(found) = finder.found else { return };
        let ImpossibleStatus { step, status, value_range, status_range } = found;
        let value = self.text.get(value_range).unwrap_or_default();
        let message = format!("`{value}` is never `{status}` here");
        let help = match status.as_str() {
            "failed" => format!(
                "no later step runs if step `{step}` fails; to handle the failure, set `on_error: continue` on step \
                 `{step}`"
            ),
            "skipped" => format!("step `{step}` has no `when` and no input that may be missing"),
            _ => "a step is cancelled only if a parallel step fails, and then no step after the group runs".to_owned(),
        };
        let diagnostic = self.warning(Code::NeverEqual, status_range, message);
        self.report(diagnostic.with_help(help));
    }
}
