//! Infers the lists that `range` makes, and reports those with too many items.

use minijinja::machinery::ast::Expr;

use super::arithmetic::range_of;
use super::calls::CallArgument;
use super::infer::Checker;
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::walk::{Visit, walk_expr};

/// The maximum number of items of `range`.
const MAX_RANGE_ITEMS: f64 = 100_000.0;

impl<'a> Checker<'a> {
    /// Infers the result of `range`, and reports a range with too many items.
    pub(super) fn infer_range(
        &mut self,
        arguments: &[CallArgument<'_, 'a>],
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let one = NumberRange::exactly(1.0);
        let ranges: Vec<NumberRange> = arguments.iter().map(|argument| range_of(&argument.ty)).collect();
        let (start, stop, step) = match ranges.as_slice() {
            [stop] => (NumberRange::exactly(0.0), *stop, one),
            [start, stop] => (*start, *stop, one),
            [start, stop, step, ..] => (*start, *stop, *step),
            [] => return InferredValue::unknown(),
        };
        let (fewest, most) = range_counts(start, stop, step);
        let are_numbers = arguments.iter().all(|argument| argument.ty.kind() == Some(TypeKind::Number));
        let is_possible = are_numbers && !ranges.iter().copied().any(NumberRange::is_empty);
        if let Some(limit) = arguments.get(1).or(arguments.first()).filter(|_| is_possible) {
            self.check_range_count(limit.expr, fewest, most, scope);
        }
        let item = if step.min > 0.0 {
            NumberRange { min: start.min, max: stop.max - 1.0, ..NumberRange::INTEGERS }
        } else {
            NumberRange::INTEGERS
        };
        let (min_length, _) = NumberRange { min: fewest, ..NumberRange::FROM_ZERO }.count_bounds();
        InferredValue::defined(Type::List(Type::Numeric(item).into(), min_length))
    }

    /// Reports a range that has, or may have, too many items. `limit` is the argument that determines where it ends.
    fn check_range_count(&mut self, limit: &Expr<'a>, fewest: f64, most: f64, scope: &TypeScope<'a>) {
        let (range, source) = (expr_range(limit), self.source(limit));
        let message = format!("the function `range` makes at most {MAX_RANGE_ITEMS} numbers");
        if fewest > MAX_RANGE_ITEMS {
            let diagnostic = self.error(Code::WrongArgument, range, message);
            self.report(diagnostic);
        } else if most > MAX_RANGE_ITEMS && most.is_finite() {
            let message = format!("{message}, and `{source}` may require more");
            let diagnostic = self.warning(Code::WrongArgument, range, message);
            self.report(diagnostic);
        } else if most > MAX_RANGE_ITEMS && !counts_items(limit, scope) {
            self.note_unlimited_number(limit, &message);
        }
    }
}

/// The smallest and the largest number of items of `range(start, stop, step)`; infinity if there is no largest one.
fn range_counts(start: NumberRange, stop: NumberRange, step: NumberRange) -> (f64, f64) {
    let largest_step = step.max.abs().max(step.min.abs()).max(1.0);
    let smallest_step = match (step.min > 0.0, step.max < 0.0) {
        (true, _) => step.min.max(1.0),
        (_, true) => (-step.max).max(1.0),
        (false, false) => 1.0,
    };
    let upward = (step.max > 0.0).then_some((stop.min - start.max, stop.max - start.min));
    let downward = (step.min < 0.0).then_some((start.min - stop.max, start.max - stop.min));
    let counts = upward.into_iter().chain(downward).map(|(shortest, longest)| {
        let count = |distance: f64, step: f64| (distance / step).ceil().max(0.0);
        (count(shortest, largest_step), count(longest, smallest_step))
    });
    counts.reduce(|first, second| (first.0.min(second.0), first.1.max(second.1))).unwrap_or((0.0, f64::INFINITY))
}

/// Finds a number of items or iterations in an expression.
struct CountFinder<'s, 'a> {
    scope: &'s TypeScope<'a>,
    is_found: bool,
}

impl<'t> Visit<'t> for CountFinder<'_, '_> {
    fn visit_expr(&mut self, expr: &Expr<'t>) {
        self.is_found |= match expr {
            Expr::Filter(inner) => matches!(inner.name, "length" | "count"),
            Expr::Var(var) => {
                let holds_length = self.scope.condition_result(var.id).is_some_and(|result| result.length_of.is_some());
                holds_length || matches!(var.id, "index" | "loop")
            }
            _ => false,
        };
    }
}

/// Whether an expression counts items or iterations, of which there are never very many.
pub(super) fn counts_items(expr: &Expr<'_>, scope: &TypeScope<'_>) -> bool {
    let mut finder = CountFinder { scope, is_found: false };
    walk_expr(expr, &mut finder);
    finder.is_found
}
