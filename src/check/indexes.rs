//! Infers the items that expressions such as `list[0]` and `list[n]` read, and reports items that may be missing.

use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::condition_narrowings::length_operand;
use super::index_paths::index_text;
use super::infer::Checker;
use super::narrowing::{constant_index, expression_path};
use super::number_range::NumberRange;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::types::{Property, Type, TypeKind, union};
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
