//! Infers the parts of lists and strings that expressions such as `list[1:3]` read, with the number of their items.

use minijinja::machinery::ast::{Expr, Slice, Spanned};

use super::filters::MAX_TUPLE_ITEMS;
use super::infer::Checker;
use super::narrowing::{constant_index, expression_path};
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::expr_range;

impl<'a> Checker<'a> {
    /// Infers a part of a list or a string, such as `list[1:3]`.
    pub(super) fn infer_slice(&mut self, inner: &Spanned<Slice<'a>>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let ty = self.infer_defined(&inner.expr, scope).ty;
        self.note_unchecked_use(&inner.expr, &ty);
        let has_items = |kind| matches!(kind, TypeKind::List | TypeKind::Text | TypeKind::Null);
        self.check_operand_kind(&inner.expr, &ty, has_items, "which has no items", "which has no items");
        self.check_null_slice(&inner.expr, &ty);
        for bound in [&inner.start, &inner.stop].into_iter().flatten() {
            self.check_bound(bound, scope);
        }
        if let Some(step) = &inner.step {
            let step_type = self.check_bound(step, scope);
            self.check_step(step, &step_type);
        }
        let branches = ty.branches().into_iter();
        InferredValue::defined(union(branches.filter_map(|branch| self.sliced_type(inner, &branch, scope))))
    }

    /// The type of a slice of values of one alternative of a union; `None` if they have no slices.
    fn sliced_type(&self, slice: &Slice<'a>, branch: &Type<'a>, scope: &TypeScope<'a>) -> Option<Type<'a>> {
        let path = expression_path(&slice.expr);
        let min = branch.min_count().max(scope.min_items(path.as_ref()));
        let max = branch.max_length().into_iter().chain(scope.max_items(path.as_ref())).min();
        match branch.kind() {
            None => Some(Type::Unknown),
            Some(TypeKind::List) => {
                let (min, max) = slice_length(slice, min, max);
                Some(list_type(self.schemas.item_type(branch), min, max))
            }
            Some(TypeKind::Text) if slice_length(slice, min, max).0 > 0 => Some(Type::NonEmptyText),
            Some(TypeKind::Text) => Some(Type::Text(None)),
            Some(TypeKind::Null) => Some(Type::empty_list()),
            Some(TypeKind::Bool | TypeKind::Number | TypeKind::Object) => None,
        }
    }

    /// Reports a bound of a slice that is not, or may not be, an integer. Returns its type.
    fn check_bound(&mut self, bound: &Expr<'a>, scope: &TypeScope<'a>) -> Type<'a> {
        let ty = self.infer_defined(bound, scope).ty;
        let is_position = |kind| matches!(kind, TypeKind::Number | TypeKind::Bool | TypeKind::Null);
        self.check_operand_kind(bound, &ty, is_position, "not the position of an item", "not the position of an item");
        let Some(range) = ty.numbers().filter(|range| !range.is_integer) else { return ty };
        let (verb, source) = (if range.is_one_number() { "is" } else { "may be" }, self.source(bound));
        let message = format!("`{source}` {verb} a fraction, not the position of an item");
        let diagnostic = if range.is_one_number() {
            self.error(Code::UnsupportedOperation, expr_range(bound), message)
        } else {
            self.warning(Code::UnsupportedOperation, expr_range(bound), message)
        };
        self.report(diagnostic.with_help("iteration it: `… | int`, or divide with `//`"));
        ty
    }

    /// Reports a step of a slice that is or may be 0. The step `false` counts as 0.
    fn check_step(&mut self, step: &Expr<'a>, ty: &Type<'a>) {
        let numbers = ty.numbers();
        let is_zero = ty.kind() == Some(TypeKind::Number) && numbers.is_some_and(NumberRange::is_zero);
        let may_be_zero = numbers.is_some_and(|range| range.contains(0.0))
            || ty.kinds().is_some_and(|kinds| kinds.contains(&TypeKind::Bool));
        if is_zero {
            let message = "the step of a slice can't be 0".to_owned();
            let diagnostic = self.error(Code::UnsupportedOperation, expr_range(step), message);
            self.report(diagnostic);
        } else if may_be_zero {
            let source = self.source(step);
            let message = format!("`{source}` may be 0, and a slice with the step 0 fails");
            let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(step), message);
            let operand = self.operand_text(step);
            let help = format!("guard it: `… if {operand} != 0 else …`, or exclude 0 in its schema");
            self.report(diagnostic.with_help(help));
        }
    }
}

/// The type of a list of so many items. A list of a fixed, small number of items has a type for each.
fn list_type(item: Type<'_>, min: u64, max: Option<u64>) -> Type<'_> {
    let fixed = max.filter(|max| *max == min).and_then(|max| usize::try_from(max).ok());
    match fixed.filter(|count| *count <= MAX_TUPLE_ITEMS) {
        Some(count) => Type::tuple(vec![item; count]),
        None => Type::List(item.into(), min),
    }
}

/// The number of items of a slice of a value with so many items: the minimum, and the maximum if there is one.
fn slice_length(slice: &Slice<'_>, min: u64, max: Option<u64>) -> (u64, Option<u64>) {
    let [start, stop, step] = [&slice.start, &slice.stop, &slice.step].map(|bound| bound.as_ref().map(constant_index));
    let step = step.unwrap_or(Some(1)).and_then(|step| u64::try_from(step).ok()).filter(|step| *step > 0);
    let (Some(start), Some(step), false) = (start.unwrap_or(Some(0)), step, stop == Some(None)) else {
        return (0, max);
    };
    let stop = stop.flatten();
    let (fewest, most) = match stop {
        // The first item may be behind the stop.
        Some(stop @ 0..) if start < 0 => {
            (0, start.unsigned_abs().min(stop.unsigned_abs()).min(max.unwrap_or(u64::MAX)))
        }
        _ => (sliced_count(start, stop, min), sliced_count(start, stop, max.unwrap_or(u64::MAX))),
    };
    // Without a maximum, only the bounds of the slice can limit the number.
    let is_limited = max.is_some() || u32::try_from(most).is_ok();
    (fewest.div_ceil(step), is_limited.then(|| most.div_ceil(step)))
}

/// The number of items of a slice with the step 1 of a value with `length` items.
fn sliced_count(start: i64, stop: Option<i64>, length: u64) -> u64 {
    let end = match stop {
        None => length,
        Some(stop @ 0..) => length.min(stop.unsigned_abs()),
        Some(stop) => length.saturating_sub(stop.unsigned_abs()),
    };
    let skipped = if start < 0 { length.saturating_sub(start.unsigned_abs()) } else { start.unsigned_abs() };
    end.saturating_sub(skipped)
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse_expr;

    use super::*;

    fn length(text: &str, min: u64, max: Option<u64>) -> (u64, Option<u64>) {
        match parse_expr(text).unwrap() {
            Expr::Slice(inner) => slice_length(&inner, min, max),
            _ => panic!("{text} is no slice"),
        }
    }

    #[test]
    fn a_slice_has_as_many_items_as_its_bounds_allow() {
        for (text, expected) in [
            ("l[:2]", (2, Some(2))),
            ("l[2:]", (1, Some(3))),
            ("l[:-1]", (2, Some(4))),
            ("l[-2:]", (2, Some(2))),
            ("l[-3:-1]", (2, Some(2))),
            ("l[-2:2]", (0, Some(2))),
            ("l[1:4]", (2, Some(3))),
            ("l[::2]", (2, Some(3))),
            ("l[::-1]", (0, Some(5))),
            ("l[:n]", (0, Some(5))),
            ("l[7:]", (0, Some(0))),
        ] {
            assert_eq!(length(text, 3, Some(5)), expected, "{text}");
        }
        for (text, expected) in [
            ("l[:2]", (0, Some(2))),
            ("l[1:]", (0, None)),
            ("l[-2:]", (0, Some(2))),
            ("l[:-1]", (0, None)),
            ("l[-9:1]", (0, Some(1))),
        ] {
            assert_eq!(length(text, 0, None), expected, "{text}");
        }
    }
}
