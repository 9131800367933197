//! Infers what filters do with each item of a list: the properties that they read, the tests that they apply, and sums.
//! Also checks conversions of texts to numbers.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::arithmetic::range_of;
use super::calls::{CallArgument, CheckedCall};
use super::filters::AppliedFilter;
use super::infer::Checker;
use super::mapped_filters::MissingItems;
use super::number_range::NumberRange;
use super::scope::InferredValue;
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::signatures::{ArgumentKind, FILTER_SIGNATURES, Signature, TEST_SIGNATURES};

/// Filters that fail on an item in which a part of the path before the last property is missing.
const FAILING_ON_MISSING_PARENT: &[&str] = &["map", "selectattr", "rejectattr"];

impl<'a> Checker<'a> {
    /// The value of the property that a filter reads from each item, such as in `map(attribute="path")`; `None` if the
    /// filter names no property.
    pub(super) fn infer_attribute(&mut self, filter: &AppliedFilter<'_, 'a>) -> Option<InferredValue<'a>> {
        let signature = Signature::find(FILTER_SIGNATURES, filter.name)?;
        let reads_property =
            |kind: ArgumentKind| matches!(kind, ArgumentKind::Attribute | ArgumentKind::Attributes | ArgumentKind::Key);
        let position = signature.positional().position(|parameter| reads_property(parameter.kind));
        let has_property = signature.parameters.iter().any(|parameter| reads_property(parameter.kind));
        let argument = filter.argument("attribute", position.unwrap_or(usize::MAX)).filter(|_| has_property)?;
        let Expr::Const(constant) = argument.expr else { return Some(InferredValue::unknown()) };
        let property_paths = constant.value.as_str()?.to_owned();
        if filter.base.kinds().is_none_or(|kinds| kinds != [TypeKind::List]) {
            let explanation = format!("so its items have no `{property_paths}`");
            let is_list = |kind: TypeKind| kind == TypeKind::List;
            self.check_operand_kind(filter.operand, &filter.base, is_list, &explanation, &explanation);
            return Some(InferredValue::unknown());
        }
        // Only `sort` reads several properties.
        let separator = if filter.name == "sort" { ',' } else { '\0' };
        let range = expr_range(argument.expr);
        let mut offset = range.start + 1;
        let mut values = Vec::new();
        for property_path in property_paths.split(separator) {
            let start = offset + property_path.len() - property_path.trim_start().len();
            values.push(self.infer_path(filter, property_path.trim(), start, range.clone()));
            offset += property_path.len() + 1;
        }
        values.into_iter().next()
    }

    /// Infers the value at a dotted path of an item. The text contains the path at `start`, in a string at `range`.
    fn infer_path(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        property_path: &str,
        start: usize,
        range: Range<usize>,
    ) -> InferredValue<'a> {
        let mut source = format!("{}[…]", self.source(filter.operand));
        let (mut inferred, mut offset) = (InferredValue::defined(self.schemas.item_type(&filter.base)), start);
        for name in property_path.split('.') {
            let name_range = offset..offset + name.len();
            let error_range = if self.text.get(name_range.clone()) == Some(name) { name_range } else { range.clone() };
            let is_parent_missing = inferred.may_be_undefined;
            if is_parent_missing && FAILING_ON_MISSING_PARENT.contains(&filter.name) {
                self.report_missing_parent(filter, &source, error_range.clone());
            }
            inferred = match name.parse::<usize>() {
                Ok(index) => self.item_in_path(&inferred.ty, index),
                Err(_) => self.infer_property_of_source(&source, &inferred.ty, name, error_range.clone()),
            };
            if !inferred.declared_properties.is_empty() {
                self.report_undeclared(&source, name, &inferred, error_range);
                return InferredValue::unknown();
            }
            inferred.may_be_undefined |= is_parent_missing;
            source = format!("{source}.{name}");
            offset += name.len() + 1;
        }
        inferred
    }

    /// The item at an index in the path of a property. Only lists and texts have items, and they may have too few.
    fn item_in_path(&self, ty: &Type<'a>, index: usize) -> InferredValue<'a> {
        let needed_length = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
        let (mut types, mut may_be_missing) = (Vec::new(), false);
        for branch in ty.branches() {
            match branch.kind() {
                None => return InferredValue::unknown(),
                Some(TypeKind::List) => {
                    may_be_missing |= needed_length > branch.min_length();
                    types.push(self.schemas.item_type_at(&branch, index));
                }
                Some(TypeKind::Text) => {
                    may_be_missing |= needed_length > branch.min_count();
                    types.push(Type::NonEmptyText);
                }
                Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number | TypeKind::Object) => may_be_missing = true,
            }
        }
        InferredValue::new(union(types), may_be_missing)
    }

    fn report_missing_parent(&mut self, filter: &AppliedFilter<'_, 'a>, parent: &str, range: Range<usize>) {
        let has_default = filter.arguments.iter().any(|argument| argument.name == Some("default"));
        if has_default {
            return;
        }
        let message = format!("`{parent}` may be missing in some items, and the filter `{}` then fails", filter.name);
        let diagnostic = self.warning(Code::PossiblyMissing, range, message);
        let operand = self.operand_text(filter.operand);
        self.report(diagnostic.with_help(format!("select the items first: `{operand} | selectattr(…)`")));
    }

    fn report_undeclared(&mut self, base: &str, name: &str, inferred: &InferredValue<'a>, range: Range<usize>) {
        let message = format!("the schema of `{base}` does not declare `{name}`");
        let diagnostic = self.warning(Code::UnknownProperty, range, message);
        self.report(diagnostic.with_suggestion(name, inferred.declared_properties.iter().copied()));
    }

    /// Reports that some items may lack the property that a filter reads from each. Returns whether the filter has a
    /// default value for such items.
    pub(super) fn report_missing_attribute(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        attribute: Option<InferredValue<'a>>,
    ) -> bool {
        let has_default = filter.arguments.iter().any(|argument| argument.name == Some("default"));
        let are_left_out = filter.name == "map" && filter.missing_items == MissingItems::LeftOut;
        if attribute.is_some_and(|property| property.may_be_undefined) && !has_default && !are_left_out {
            let name = filter.argument("attribute", 0).map_or(filter.operand, |argument| argument.expr);
            let source = self.source(name).trim_matches(['"', '\'']);
            let message = format!("some items of `{}` may lack `{source}`", self.source(filter.operand));
            let diagnostic = self.warning(Code::PossiblyMissing, expr_range(name), message);
            self.report(diagnostic.with_help(format!("set a default: `{}(attribute=…, default=…)`", filter.name)));
        }
        has_default
    }

    /// Checks the test that a filter such as `select` applies to each item, or to a property of each item.
    pub(super) fn check_item_tests(&mut self, filter: &AppliedFilter<'_, 'a>, attribute: Option<InferredValue<'a>>) {
        let tests_property = matches!(filter.name, "selectattr" | "rejectattr");
        let position = usize::from(tests_property);
        let mut positional = filter.arguments.iter().filter(|argument| argument.name.is_none());
        let Some(name) = positional.nth(position) else { return };
        let Some(signature) = signature_named_by(TEST_SIGNATURES, name.expr) else { return };
        self.check_nested_call(signature, "test", filter, position + 1);
        let operand = self.source(filter.operand);
        let (subject, ty) = if tests_property {
            let Some(attribute) = attribute else { return };
            let property = filter.argument("attribute", 0).map_or("", |argument| self.source(argument.expr));
            let property = property.trim_matches(['"', '\'']);
            if attribute.may_be_undefined && matches!(signature.name, "startingwith" | "endingwith") {
                let message = format!("some items of `{operand}` may lack `{property}`, and the test then fails");
                let diagnostic = self.warning(Code::PossiblyMissing, expr_range(name.expr), message);
                self.report(diagnostic);
            }
            (format!("`{property}` of an item of `{operand}`"), attribute.ty)
        } else {
            (format!("an item of `{operand}`"), self.element_type(&filter.base))
        };
        let arguments: Vec<CallArgument<'_, 'a>> = nested_arguments(filter, position + 1);
        self.check_tested_constant(signature.name, &subject, &ty, &arguments);
    }

    /// Checks the arguments that a filter passes on to a filter or test: those by position after the first `skipped`.
    pub(super) fn check_nested_call(
        &mut self,
        signature: &'static Signature,
        callable_kind: &str,
        filter: &AppliedFilter<'_, 'a>,
        skipped: usize,
    ) {
        let range = filter.arguments.first().map_or(expr_range(filter.operand), |first| expr_range(first.expr));
        let label = format!("the {callable_kind} `{}`", signature.name);
        let call = CheckedCall { label, signature, range: &range };
        self.check_call(&call, &nested_arguments(filter, skipped));
    }

    /// Reports a sum over items that can't be added to its start. `attribute` is the property that it adds; `sum` leaves
    /// out the items without it.
    pub(super) fn check_sum(&mut self, filter: &AppliedFilter<'_, 'a>, attribute: Option<&InferredValue<'a>>) {
        let items = attribute.map_or_else(|| self.element_type(&filter.base), |property| property.ty.clone());
        let start = filter.argument("start", 1).map(|argument| argument.ty.clone());
        let subject = match filter.argument("attribute", 0).filter(|_| attribute.is_some()) {
            Some(name) => {
                let name = self.source(name.expr).trim_matches(['"', '\'']);
                format!("`{name}` of an item of `{}`", self.source(filter.operand))
            }
            None => format!("an item of `{}`", self.source(filter.operand)),
        };
        self.check_summed_items(&subject, &items, start.as_ref(), expr_range(filter.operand));
    }

    /// Reports items that `sum` can't add. Without a start, it starts with 0. The message calls an item `subject`.
    pub(super) fn check_summed_items(
        &mut self,
        subject: &str,
        items: &Type<'a>,
        start: Option<&Type<'a>>,
        range: Range<usize>,
    ) {
        let start_kinds = start.map_or(Some(vec![TypeKind::Number]), Type::kinds);
        let (Some(kinds), Some(start_kinds)) = (items.kinds(), start_kinds) else { return };
        let is_number = |kind: TypeKind| matches!(kind, TypeKind::Number | TypeKind::Bool);
        let can_add = |start: TypeKind, item: TypeKind| {
            (is_number(start) && is_number(item)) || (start == item && matches!(start, TypeKind::Text | TypeKind::List))
        };
        let refused = kinds.iter().find(|kind| !start_kinds.iter().all(|start| can_add(*start, **kind)));
        if let Some(refused) = refused {
            let is_possible = kinds.iter().any(|kind| start_kinds.iter().any(|start| can_add(*start, *kind)));
            let (verb, kind) = (if is_possible { "may be" } else { "is" }, refused.describe());
            let rule = match start_kinds.as_slice() {
                [start] if !is_number(*start) => format!("a `sum` that starts with {} can't add it", start.describe()),
                _ => "`sum` only adds numbers".to_owned(),
            };
            let diagnostic =
                self.warning(Code::UnsupportedOperation, range, format!("{subject} {verb} {kind}; {rule}"));
            self.report(diagnostic);
        }
    }

    /// The type of a sum.
    pub(super) fn sum_type(&self, filter: &AppliedFilter<'_, 'a>, attribute: Option<&InferredValue<'a>>) -> Type<'a> {
        let items = attribute.map_or_else(|| self.element_type(&filter.base), |property| property.ty.clone());
        let numbers = Type::Numeric(NumberRange { is_integer: range_of(&items).is_integer, ..NumberRange::ANY });
        let Some(start) = filter.argument("start", 1) else { return numbers };
        match start.ty.kind() {
            Some(TypeKind::Number) if range_of(&start.ty).is_integer => numbers,
            Some(TypeKind::Number | TypeKind::Bool) => Type::Number,
            Some(TypeKind::Text) => Type::Text(None),
            Some(TypeKind::List) => {
                // Another check reports the items that are no lists.
                let is_list = |ty: &Type<'a>| ty.kind().is_none_or(|kind| kind == TypeKind::List);
                let summed_lists = items.branches().into_iter().filter(is_list);
                let lists: Vec<Type<'a>> = std::iter::once(start.ty.clone()).chain(summed_lists).collect();
                let part = self.schemas.common_item_type(&lists).unwrap_or(Type::Unknown);
                Type::List(part.into(), start.ty.min_length())
            }
            Some(TypeKind::Null | TypeKind::Object) | None => Type::Unknown,
        }
    }

    /// Reports the conversion of a text that may not represent a number, and of a value that never does.
    pub(super) fn check_conversion(&mut self, filter: &AppliedFilter<'_, 'a>) {
        if filter.argument("default", 0).is_some() {
            return;
        }
        let (source, name) = (self.source(filter.operand), filter.name);
        let kinds = filter.base.kinds().unwrap_or_default();
        if let Some(kind) = kinds.iter().find(|kind| matches!(kind, TypeKind::List | TypeKind::Object)) {
            let message = format!("`{source}` may be {}; the filter `{name}` does not accept it", kind.describe());
            let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(filter.operand), message);
            return self.report(diagnostic);
        }
        let constant = match filter.operand {
            Expr::Const(constant) => constant.value.as_str(),
            _ => None,
        };
        // In another base, a known string such as `ff` can be a number.
        let has_known_texts = constant.is_some() || filter.base.possible_texts().is_some();
        let is_checked_by_base = has_known_texts && filter.argument("base", 1).is_some();
        if is_checked_by_base || !constant.map_or(may_fail_as_number(&filter.base), |text| !is_number_text(text)) {
            return;
        }
        let message = format!("`{source}` is a string that may not represent a number; `{name}` then fails");
        let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(filter.operand), message);
        let operand = self.operand_text(filter.operand);
        self.report(diagnostic.with_help(format!("give a value for that case: `{operand} | {name}(default=0)`")));
    }
}

/// The arguments by position after the first `skipped`.
fn nested_arguments<'b, 'a>(filter: &'b AppliedFilter<'_, 'a>, skipped: usize) -> Vec<CallArgument<'b, 'a>> {
    let positional = filter.arguments.iter().filter(|argument| argument.name.is_none()).skip(skipped);
    positional.map(|argument| CallArgument { name: None, expr: argument.expr, ty: argument.ty.clone() }).collect()
}

/// The signature whose name an expression consists of.
pub(super) fn signature_named_by(table: &'static [Signature], name: &Expr<'_>) -> Option<&'static Signature> {
    let Expr::Const(constant) = name else { return None };
    Signature::find(table, constant.value.as_str()?)
}

/// Whether a type allows a string that `int` and `float` can't convert.
pub(super) fn may_fail_as_number(ty: &Type<'_>) -> bool {
    ty.branches().iter().any(|branch| match branch {
        Type::Text(Some(texts)) => !texts.iter().all(|text| is_number_text(text)),
        Type::Text(None) | Type::NonEmptyText => true,
        _ => false,
    })
}

/// Whether `int` and `float` can convert a string.
fn is_number_text(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}
