//! Narrows numbers by comparisons with constants, such as `n > 0`.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::narrowing::expression_path;
use super::number_range::NumberRange;
use super::scope::{Narrowing, TypeScope};
use super::types::{Type, union};

/// The number that an expression consists of, such as `0` or `-1.5`; `None` for any other expression.
pub(super) fn constant_number(expr: &Expr<'_>) -> Option<f64> {
    match expr {
        Expr::Const(constant) if constant.value.is_number() => f64::try_from(constant.value.clone()).ok(),
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Neg) => Some(-constant_number(&inner.expr)?),
        _ => None,
    }
}

/// The fact about the sign of the left side that follows from a comparison with a constant on the right side.
pub(super) fn sign_narrowing(
    op: BinOpKind,
    left: &Expr<'_>,
    right: &Expr<'_>,
    outcome: bool,
) -> Option<(String, Narrowing)> {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    let (path, number) = (expression_path(left)?, constant_number(right)?);
    let narrowing = match (op, outcome) {
        (Gt, true) | (Lte, false) if number >= 0.0 => Narrowing::Positive,
        (Gte | Eq, true) | (Lt | Ne, false) if number > 0.0 => Narrowing::Positive,
        (Gte, true) | (Lt, false) if number >= 0.0 => Narrowing::NotNegative,
        (Lt, true) | (Gte, false) if number <= 0.0 => Narrowing::NotZero,
        (Lte | Eq, true) | (Gt | Ne, false) if number < 0.0 => Narrowing::NotZero,
        (Ne, true) | (Eq, false) if number == 0.0 => Narrowing::NotZero,
        _ => return None,
    };
    Some((path, narrowing))
}

/// Narrows the numbers of a type by the facts that conditions have established about the value at a path.
pub(super) fn narrow_numbers<'a>(ty: Type<'a>, path: Option<&String>, scope: &TypeScope<'a>) -> Type<'a> {
    if ty.numbers().is_none() {
        return ty;
    }
    let has = |narrowing: Narrowing| scope.has_narrowing(path, &narrowing);
    let is_not_zero = has(Narrowing::NotZero) || has(Narrowing::Truthy);
    let (is_positive, is_not_negative) = (has(Narrowing::Positive), has(Narrowing::NotNegative));
    if !is_not_zero && !is_positive && !is_not_negative {
        return ty;
    }
    let narrow = |range: NumberRange| {
        let range = if is_not_negative { range.not_negative() } else { range };
        let range = if is_positive { range.positive() } else { range };
        if is_not_zero { range.without_zero() } else { range }
    };
    union(ty.branches().into_iter().map(|branch| match branch.number_range() {
        Some(range) => Type::Numeric(narrow(range)),
        None => branch,
    }))
}
