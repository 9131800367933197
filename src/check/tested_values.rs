//! Comparisons that can never be true because of their values: those of tests such as `selectattr("level", "ge", 6)`,
//! comparisons of a boolean with a number, and comparisons with a text that a filter changes.

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::arithmetic::range_of;
use super::calls::CallArgument;
use super::condition_narrowings::comparison_of_test;
use super::infer::Checker;
use super::number_narrowing::constant_number;
use super::number_range::{NumberRange, RequiredOrder};
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::expr_range;

/// Whether values of two kinds can be equal and have an order. `true` counts as 1, and `false` as 0.
pub(super) fn are_comparable(left: TypeKind, right: TypeKind) -> bool {
    let is_number = |kind: TypeKind| matches!(kind, TypeKind::Bool | TypeKind::Number);
    left == right || (is_number(left) && is_number(right))
}

impl<'a> Checker<'a> {
    /// Reports a test that compares a value with one that it never equals, can't be ordered with, or never exceeds. The
    /// message calls the value `subject`.
    pub(super) fn check_tested_comparison(
        &mut self,
        test: &str,
        subject: &str,
        ty: &Type<'a>,
        argument: &CallArgument<'_, 'a>,
    ) {
        let Some(operator) = comparison_of_test(test) else { return };
        let (Some(kinds), Some(other_kinds)) = (ty.kinds(), argument.ty.kinds()) else { return };
        if kinds.iter().any(|kind| other_kinds.iter().any(|other| are_comparable(*kind, *other))) {
            return self.check_tested_order(operator, subject, ty, argument.expr);
        }
        let range = expr_range(argument.expr);
        let (kind, other, source) = (ty.describe(), argument.ty.describe(), self.source(argument.expr));
        let is_equality = matches!(operator, BinOpKind::Eq | BinOpKind::Ne);
        let diagnostic = if is_equality && other_kinds == [TypeKind::Null] {
            self.warning(Code::NeverEqual, range, format!("{subject} is never null"))
        } else if is_equality {
            let message = format!("{subject} is {kind}, and can never equal `{source}`, {other}");
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!("{subject} is {kind}, and cannot be ordered with `{source}`, {other}");
            self.error(Code::UnsupportedOperation, range, message)
        };
        self.report(diagnostic);
    }

    /// Reports a test for an order that no number of a range has.
    fn check_tested_order(&mut self, operator: BinOpKind, subject: &str, ty: &Type<'a>, constant: &Expr<'a>) {
        let (Some(number), Some(TypeKind::Number)) = (constant_number(constant), ty.kind()) else { return };
        let (range, other) = (range_of(ty), NumberRange::exactly(number));
        let (symbol, is_never) = match operator {
            BinOpKind::Lt => ("<", range.is_never(RequiredOrder::Less, other)),
            BinOpKind::Lte => ("<=", range.is_never(RequiredOrder::LessOrEqual, other)),
            BinOpKind::Gt => (">", other.is_never(RequiredOrder::Less, range)),
            BinOpKind::Gte => (">=", other.is_never(RequiredOrder::LessOrEqual, range)),
            _ => return,
        };
        // A range of one number may be a switch that the author changes.
        if !is_never || range.is_empty() || range.is_one_number() {
            return;
        }
        let message = format!("{subject} is never `{symbol} {number}`");
        let diagnostic = self.warning(Code::NeverTrue, expr_range(constant), message);
        self.report(match range.describe() {
            Some(range) => diagnostic.with_help(format!("it is {range}")),
            None => diagnostic,
        });
    }

    /// Reports a comparison of a boolean with a number: it is never true, or says less than the boolean alone. Returns
    /// whether these are the kinds of the two values.
    pub(super) fn check_boolean_number(
        &mut self,
        is_equality: bool,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) -> bool {
        let (boolean, number, number_type) = match (left_type.kind(), right_type.kind()) {
            (Some(TypeKind::Bool), Some(TypeKind::Number)) => (left, right, right_type),
            (Some(TypeKind::Number), Some(TypeKind::Bool)) => (right, left, left_type),
            _ => return false,
        };
        let range = expr_range(left).start..expr_range(right).end;
        let (boolean_text, number_text) = (self.source(boolean), self.source(number));
        let numbers = range_of(number_type);
        let diagnostic = if is_equality && !numbers.contains(0.0) && !numbers.contains(1.0) {
            let message = format!("`{boolean_text}`, a boolean, can never equal `{number_text}`, a number");
            self.error(Code::NeverEqual, range, message)
        } else {
            let message = format!("`{boolean_text}`, a boolean, is compared with `{number_text}`, a number");
            self.warning(Code::UnsupportedOperation, range, message)
        };
        let operand = self.operand_text(boolean);
        let help = format!("`true` counts as 1 and `false` as 0; write `{operand}` or `not {operand}`");
        self.report(diagnostic.with_help(help));
        true
    }

    /// Reports a comparison of what a filter returns with a text that the filter would have changed.
    pub(super) fn check_filtered_text(&mut self, value: &Expr<'a>, constant: &Expr<'a>) {
        let (Expr::Filter(filter), Expr::Const(constant_value)) = (value, constant) else { return };
        let Some(text) = constant_value.value.as_str().filter(|text| text.is_ascii()) else { return };
        let filtered = match filter.name {
            "lower" => text.to_lowercase(),
            "upper" => text.to_uppercase(),
            "trim" if filter.args.is_empty() => text.trim().to_owned(),
            _ => return,
        };
        if filtered == text {
            return;
        }
        let message = format!("`{}` is never `{text}`", self.source(value));
        let diagnostic = self.error(Code::NeverEqual, expr_range(constant), message);
        let help = format!("the filter `{}` would return `{filtered}` for this text", filter.name);
        self.report(diagnostic.with_help(help));
    }
}
