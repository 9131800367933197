//! Infers the items that expressions such as `list[0]` and `list[n]` read, and reports items that may be missing.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, Expr, Slice, Spanned};

use super::condition_narrowings::length_operand;
use super::equal_lengths::EqualLengths;
use super::filters::item_count;
use super::index_paths::index_text;
use super::infer::{Checker, TextLocation};
use super::narrowing::{constant_index, expression_path};
use super::number_range::NumberRange;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::types::{Property, Type, TypeKind, union};
use crate::config::{child_pointer, steps_around};
use crate::diagnostic::Code;
use crate::template::{byte_range, expr_range};

impl<'a> Checker<'a> {
    pub(super) fn infer_item(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        key: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        if let Some(index) = constant_index(key) {
            return self.constant_item(base, ty, key, index, scope);
        }
        let Expr::Const(constant) = key else { return self.computed_item(base, ty, key, scope) };
        match constant.value.as_str() {
            Some(name) => self.infer_property(base, ty, name, expr_range(key)),
            None => InferredValue::unknown(),
        }
    }

    /// Infers the item of a value at an index: only lists and strings have items, and a list may have too few of them.
    fn constant_item(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        key: &Expr<'a>,
        index: i64,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let needed_length = index.unsigned_abs() + u64::from(index >= 0);
        let guaranteed_length = scope.min_items(expression_path(base).as_ref());
        let (mut types, mut may_be_missing) = (Vec::new(), false);
        for branch in ty.branches() {
            match branch.kind() {
                None => return InferredValue::unknown(),
                Some(TypeKind::List) => {
                    may_be_missing |= needed_length > branch.min_length().max(guaranteed_length);
                    types.push(match usize::try_from(index) {
                        Ok(position) => self.schemas.item_type_at(&branch, position),
                        Err(_) => self.schemas.item_type(&branch),
                    });
                }
                Some(TypeKind::Text) => {
                    may_be_missing |= needed_length > branch.min_count().max(guaranteed_length);
                    types.push(Type::NonEmptyText);
                }
                Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number | TypeKind::Object) => may_be_missing = true,
            }
        }
        if types.is_empty() {
            return self.report_no_items(base, ty, byte_range(key.span()));
        }
        InferredValue::new(union(types), may_be_missing)
    }

    /// Infers the item of a value at an index or name that an expression computes.
    fn computed_item(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        key: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let key_type = self.infer_defined(key, scope).ty;
        let base_path = expression_path(base);
        let is_position = self.is_position_in(key, base_path.as_deref());
        let distance_from_end = base_path.as_deref().and_then(|path| distance_from_end(key, path, scope));
        let guaranteed_length = scope.min_items(base_path.as_ref());
        let path = base_path.zip(index_text(key)).map(|(base, key)| format!("{base}[{key}]"));
        let is_member = scope.has_narrowing(path.as_ref(), &Narrowing::Member);
        let (mut types, mut may_be_missing) = (Vec::new(), false);
        for branch in ty.branches() {
            match branch.kind() {
                None => return InferredValue::unknown(),
                Some(TypeKind::List) => {
                    let length = branch.min_length().max(guaranteed_length);
                    let is_near_end = distance_from_end.is_some_and(|distance| (1..=length).contains(&distance));
                    may_be_missing |= !is_position && !is_near_end && !is_index_below(&key_type, length);
                    types.push(self.schemas.item_type(&branch));
                }
                Some(TypeKind::Text) => {
                    let length = branch.min_count().max(guaranteed_length);
                    let is_near_end = distance_from_end.is_some_and(|distance| (1..=length).contains(&distance));
                    may_be_missing |= !is_near_end && !is_index_below(&key_type, length);
                    types.push(Type::NonEmptyText);
                }
                Some(TypeKind::Object) => {
                    let value = self.named_value(&branch, &key_type);
                    may_be_missing |= value.may_be_undefined && !is_member;
                    types.push(value.ty);
                }
                Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number) => may_be_missing = true,
            }
        }
        if types.is_empty() {
            return self.report_no_items(base, ty, expr_range(key));
        }
        if self.report_wrong_key(base, ty, key, &key_type) {
            return InferredValue::unknown();
        }
        InferredValue::new(union(types), may_be_missing)
    }

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
        let min_length = min_slice_length(inner, item_count(&inner.expr, &ty, scope));
        InferredValue::defined(match ty.kind() {
            Some(TypeKind::List) => Type::List(self.schemas.item_type(&ty).into(), min_length),
            Some(TypeKind::Text) if min_length > 0 => Type::NonEmptyText,
            Some(TypeKind::Text) => Type::Text(None),
            Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number | TypeKind::Object) | None => Type::Unknown,
        })
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
        self.report(diagnostic.with_help("round it: `… | int`, or divide with `//`"));
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

    /// The value of the property of an object whose name an expression computes.
    fn named_value(&self, object: &Type<'a>, name: &Type<'a>) -> InferredValue<'a> {
        let Some(names) = name.possible_texts() else {
            return InferredValue::new(self.schemas.value_type(object), true);
        };
        let (mut types, mut may_be_missing) = (Vec::new(), false);
        for name in names {
            match self.schemas.property(object, name) {
                Some(Property::Present(ty)) => types.push(ty),
                Some(Property::Optional(ty)) => {
                    may_be_missing = true;
                    types.push(ty);
                }
                Some(Property::Absent(_) | Property::Open(_)) | None => may_be_missing = true,
            }
        }
        InferredValue::new(union(types), may_be_missing)
    }

    fn report_no_items(&mut self, base: &Expr<'a>, ty: &Type<'a>, range: Range<usize>) -> InferredValue<'a> {
        let reason = if ty.kind() == Some(TypeKind::Object) { "has no numbered items" } else { "has no items" };
        let message = format!("`{}` is {} and {reason}", self.source(base), ty.describe());
        let diagnostic = self.error(Code::UnknownProperty, range, message);
        self.report(diagnostic);
        InferredValue::unknown()
    }

    /// Reports an index that is no number, and a name that is no string. Returns whether it is always wrong.
    fn report_wrong_key(&mut self, base: &Expr<'a>, ty: &Type<'a>, key: &Expr<'a>, key_type: &Type<'a>) -> bool {
        let (Some(base_kind), Some(key_kinds)) = (ty.kind(), key_type.kinds()) else { return false };
        let (expected, reason): (&[TypeKind], &str) = match base_kind {
            TypeKind::List => (&[TypeKind::Number, TypeKind::Bool], "a list has only numbered items"),
            TypeKind::Object => (&[TypeKind::Text], "the names of an object are strings"),
            TypeKind::Null | TypeKind::Bool | TypeKind::Number | TypeKind::Text => return false,
        };
        if key_kinds.iter().any(|kind| expected.contains(kind)) {
            return false;
        }
        let (base, source) = (self.source(base), self.source(key));
        let message = format!("`{base}` has no item `{source}`, which is {}: {reason}", key_type.describe());
        let diagnostic = self.error(Code::UnknownProperty, expr_range(key), message);
        self.report(diagnostic);
        true
    }

    /// Whether an expression is the `index` of `for_each` over a list that has as many items as this one.
    fn is_position_in(&self, key: &Expr<'a>, list: Option<&str>) -> bool {
        let is_index = matches!(key, Expr::Var(var) if var.id == "index");
        let (true, Some(list), Some(mapped_list)) = (is_index, list, self.mapped_list()) else { return false };
        self.lists_of_same_length(mapped_list).iter().any(|other| other == list)
    }

    /// The list over which the nearest enclosing `for_each` maps, whose `index` the text sees.
    fn mapped_list(&self) -> Option<&'a str> {
        let scoped_step = self.scoped_step?;
        // `when` and `for_each` do not see the items of their own step.
        let list_texts = ["when", "for_each"].map(|key| child_pointer(&scoped_step.pointer, key));
        let is_before_items = matches!(&self.location, TextLocation::Yaml(pointer) if list_texts.contains(pointer));
        let steps = steps_around(&self.project.pipeline, &scoped_step.pointer).into_iter();
        let mut mapping_steps = steps.rev().filter(|(pointer, step)| {
            let is_own_list = is_before_items && *pointer == scoped_step.pointer;
            step.for_each.is_some() && !is_own_list
        });
        let (_, nearest) = mapping_steps.next()?;
        nearest.for_each.as_deref().map(str::trim)
    }

    /// The lists that have as many items as the list at a path, which is among them.
    pub(super) fn lists_of_same_length(&self, path: &str) -> Vec<String> {
        match self.scoped_step {
            Some(scoped_step) => scoped_step.equal_lengths.of_list(path),
            None => EqualLengths::of_pipeline(&self.project.pipeline).of_list(path),
        }
    }
}

/// The minimum number of items of a slice of a value with at least `length` items.
fn min_slice_length(slice: &Slice<'_>, length: u64) -> u64 {
    let [start, stop, step] = [&slice.start, &slice.stop, &slice.step].map(|bound| bound.as_ref().map(constant_index));
    let (Some(start), Some(step)) = (start.unwrap_or(Some(0)), step.unwrap_or(Some(1))) else { return 0 };
    let Some(step) = u64::try_from(step).ok().filter(|step| *step > 0) else { return 0 };
    let from_end = |bound: i64| bound.unsigned_abs();
    let count = match (start, stop) {
        (0.., None) => length.saturating_sub(start.unsigned_abs()),
        (0.., Some(Some(stop @ 0..))) => length.min(stop.unsigned_abs()).saturating_sub(start.unsigned_abs()),
        (0.., Some(Some(stop))) => length.saturating_sub(from_end(stop)).saturating_sub(start.unsigned_abs()),
        (_, None) => length.min(from_end(start)),
        (_, Some(Some(stop @ ..=-1))) => length.min(from_end(start)).saturating_sub(from_end(stop)),
        // The first item may be behind the stop.
        (_, Some(_)) => 0,
    };
    count.div_ceil(step)
}

/// How far before the end of the list at a path an index is, such as 1 for `list | length - 1`; `None` if the index does
/// not count from the end of this list.
fn distance_from_end(index: &Expr<'_>, list: &str, scope: &TypeScope<'_>) -> Option<u64> {
    let Expr::BinOp(inner) = index else { return None };
    let distance = constant_index(&inner.right).filter(|_| matches!(inner.op, BinOpKind::Sub))?;
    let counts_list = match &inner.left {
        Expr::Var(var) => {
            scope.condition_result(var.id).is_some_and(|result| result.length_of.as_deref() == Some(list))
        }
        left => length_operand(left).as_deref() == Some(list),
    };
    u64::try_from(distance).ok().filter(|_| counts_list)
}

/// Whether every number of a type is the index of an item of a list with at least this many items.
fn is_index_below(key: &Type<'_>, min_length: u64) -> bool {
    let is_number = key.kind() == Some(TypeKind::Number);
    let length = NumberRange::counts(min_length, None).min;
    key.numbers().is_some_and(|range| is_number && range.is_integer && range.min >= -length && range.max < length)
}
