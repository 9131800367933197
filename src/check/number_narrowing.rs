//! Narrows numbers by comparisons with constants, such as `n > 0` and `n in [1, 2]`.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

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

/// The numbers for which a comparison with a constant on the right side has this outcome; `None` if they form no range.
pub(super) fn compared_range(op: BinOpKind, constant: &Expr<'_>, outcome: bool) -> Option<NumberRange> {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    let number = constant_number(constant)?;
    match (op, outcome) {
        (Gt, true) | (Lte, false) => Some(NumberRange { min: number, excludes_min: true, ..NumberRange::ANY }),
        (Gte, true) | (Lt, false) => Some(NumberRange { min: number, ..NumberRange::ANY }),
        (Lt, true) | (Gte, false) => Some(NumberRange { max: number, excludes_max: true, ..NumberRange::ANY }),
        (Lte, true) | (Gt, false) => Some(NumberRange { max: number, ..NumberRange::ANY }),
        (Eq, true) | (Ne, false) => Some(NumberRange::exactly(number)),
        (Ne, true) | (Eq, false) if number == 0.0 => Some(NumberRange::NOT_ZERO),
        _ => None,
    }
}

/// The numbers for which `value in [...]` has this outcome; `None` if they form no range.
pub(super) fn listed_range(items: &[Expr<'_>], outcome: bool) -> Option<NumberRange> {
    if !outcome {
        let has_zero = items.iter().any(|item| constant_number(item) == Some(0.0));
        return has_zero.then_some(NumberRange::NOT_ZERO);
    }
    let mut range: Option<NumberRange> = None;
    for item in items {
        match (constant_number(item), item) {
            (Some(number), _) => {
                let number = NumberRange::exactly(number);
                range = Some(range.map_or(number, |range| range.union(number)));
            }
            // No number equals a string or null. It may equal a boolean, or the value of any other expression.
            (None, Expr::Const(constant)) if constant.value.as_str().is_some() || constant.value.is_none() => {}
            (None, _) => return None,
        }
    }
    range
}

/// Narrows the numbers of a type by the facts that conditions have established about the value at a path.
pub(super) fn narrow_numbers<'a>(ty: Type<'a>, path: Option<&String>, scope: &TypeScope<'a>) -> Type<'a> {
    if ty.numbers().is_none() {
        return ty;
    }
    let is_not_zero = scope.has_narrowing(path, &Narrowing::Truthy).then_some(NumberRange::NOT_ZERO);
    let ranges: Vec<NumberRange> = scope.number_ranges(path).chain(is_not_zero).collect();
    if ranges.is_empty() {
        return ty;
    }
    // Conditions that contradict each other leave no number: a run never gets there. The checks accept such a range.
    union(ty.branches().into_iter().map(|branch| match branch.number_range() {
        Some(range) => Type::Numeric(ranges.iter().copied().fold(range, NumberRange::intersection)),
        None => branch,
    }))
}
