//! Infers the results of arithmetic with their ranges, and reports divisions by what may be 0.

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::infer::Checker;
use super::number_range::{NumberRange, RequiredOrder};
use super::number_narrowing::constant_number;
use super::scope::InferredValue;
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::expr_range;

impl<'a> Checker<'a> {
    /// Infers the result of `-`, `/`, `//`, `%` or `**`.
    pub(super) fn infer_arithmetic(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) -> InferredValue<'a> {
        self.check_number(left, left_type);
        self.check_number(right, right_type);
        let (left_range, right_range) = (range_of(left_type), range_of(right_type));
        if matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem) {
            self.check_divisor(right, right_type);
        }
        let are_integers = left_range.is_integer && right_range.is_integer;
        let range = match op {
            BinOpKind::Sub => left_range.add(right_range.negate()),
            // The floor of a quotient is an integer, also if it is stored as a float.
            BinOpKind::FloorDiv => NumberRange::INTEGERS,
            BinOpKind::Rem if are_integers && right_range.min > 0.0 => {
                NumberRange { max: right_range.max, excludes_max: true, ..NumberRange::FROM_ZERO }
            }
            BinOpKind::Pow if are_integers && right_range.min >= 0.0 => NumberRange::INTEGERS,
            _ => NumberRange::ANY,
        };
        InferredValue::defined(Type::Numeric(range))
    }

    /// Reports a divisor that is or may be 0, with which the division fails.
    fn check_divisor(&mut self, divisor: &Expr<'a>, ty: &Type<'a>) {
        let Some(range) = ty.numbers().filter(|range| range.contains(0.0)) else { return };
        let source = self.source(divisor);
        if range.is_zero() {
            let message = format!("`{source}` is 0, and a division by it fails");
            let diagnostic = self.error(Code::UnsupportedOperation, expr_range(divisor), message);
            return self.report(diagnostic);
        }
        let message = format!("`{source}` may be 0, and a division by it fails");
        let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(divisor), message);
        let guard = if self.is_template {
            format!("`{{% if {source} != 0 %}}…{{% endif %}}`")
        } else {
            format!("`… if {source} != 0 else …`")
        };
        let help = format!("guard it: {guard}, or exclude 0 in its schema, such as with `\"minimum\": 1`");
        self.report(diagnostic.with_help(help));
    }

    /// Reports a comparison of a number with a constant that its schema never allows.
    pub(super) fn check_number_comparison(
        &mut self,
        op: BinOpKind,
        left: &Expr<'a>,
        left_type: &Type<'a>,
        right: &Expr<'a>,
        right_type: &Type<'a>,
    ) {
        let Some((left_range, right_range)) = only_numbers(left_type).zip(only_numbers(right_type)) else { return };
        let is_never = match op {
            BinOpKind::Lt => left_range.is_never(RequiredOrder::Less, right_range),
            BinOpKind::Lte => left_range.is_never(RequiredOrder::LessOrEqual, right_range),
            BinOpKind::Gt => right_range.is_never(RequiredOrder::Less, left_range),
            BinOpKind::Gte => right_range.is_never(RequiredOrder::LessOrEqual, left_range),
            BinOpKind::Eq | BinOpKind::Ne => left_range.is_never(RequiredOrder::Equal, right_range),
            _ => false,
        };
        let (value, range, constant) = match (constant_number(left), constant_number(right)) {
            (None, Some(constant)) => (left, left_range, constant),
            (Some(constant), None) => (right, right_range, constant),
            _ => return,
        };
        if !is_never || !is_limited_by_schema(value, range, constant) {
            return;
        }
        let range_text = range.describe().unwrap_or_else(|| "an integer".to_owned());
        let source = self.source(value);
        let whole_range = expr_range(left).start..expr_range(right).end;
        let diagnostic = if matches!(op, BinOpKind::Eq | BinOpKind::Ne) {
            self.error(Code::NeverEqual, whole_range, format!("`{source}` is never {constant}"))
        } else {
            let comparison = self.text.get(whole_range.clone()).unwrap_or_default();
            self.warning(Code::NeverTrue, whole_range, format!("`{comparison}` is never true"))
        };
        self.report(diagnostic.with_help(format!("`{source}` is {range_text}")));
    }
}

/// Whether a schema limits a value to a range that does not contain the constant. A length, or a variable that may
/// contain one, may be compared with a number below its minimum: such a test for an empty list is harmless. A variable
/// with one value may be a switch that the author changes.
fn is_limited_by_schema(value: &Expr<'_>, range: NumberRange, constant: f64) -> bool {
    match value {
        Expr::Filter(inner) => matches!(inner.name, "length" | "count") && constant >= range.max,
        Expr::Var(_) => constant >= range.max && !range.is_one_number(),
        Expr::GetAttr(_) | Expr::GetItem(_) => true,
        _ => false,
    }
}

/// The range of the numbers of a type; all numbers if it may be something else.
pub(super) fn range_of(ty: &Type<'_>) -> NumberRange {
    only_numbers(ty).unwrap_or(NumberRange::ANY)
}

/// The range of a type that allows only numbers.
fn only_numbers(ty: &Type<'_>) -> Option<NumberRange> {
    let has_only_numbers = ty.kinds()?.iter().all(|kind| *kind == TypeKind::Number);
    ty.numbers().filter(|_| has_only_numbers)
}
