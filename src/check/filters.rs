//! Infers the types of filters: the operands that each accepts, and the type that it returns.

use minijinja::machinery::ast::{CallArg, Expr, Filter, Spanned};

use super::arithmetic::range_of;
use super::calls::{CallArgument, CheckedCall, call_arguments};
use super::infer::Checker;
use super::mapped_filters::MissingItems;
use super::narrowing::{constant_index, expression_path};
use super::number_range::NumberRange;
use super::scope::{InferredValue, TypeScope};
use super::truth::ConditionReader;
use super::types::{TupleType, Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::signatures::{FILTER_SIGNATURES, OperandKind, Signature};
use crate::template::walk::arg_expr;
use crate::template::{byte_range, expr_range};

/// The names by which a template can read the parts of a group of `groupby`.
const GROUP_NAMES: &[&str] = &["grouper", "list"];

/// The maximum number of items of a list that has a type for each item.
pub(super) const MAX_TUPLE_ITEMS: usize = 16;

/// A filter with its operand and its arguments.
pub(super) struct AppliedFilter<'b, 'a> {
    pub(super) name: &'a str,
    pub(super) operand: &'b Expr<'a>,
    /// The type of the operand.
    pub(super) base: Type<'a>,
    /// The minimum number of items, characters or properties of the operand.
    pub(super) min_count: u64,
    /// What the template does with undefined items of the result.
    pub(super) missing_items: MissingItems,
    /// The arguments as the template writes them.
    pub(super) args: &'b [CallArg<'a>],
    /// The arguments with their types; empty if the template spreads a list or an object over them.
    pub(super) arguments: Vec<CallArgument<'b, 'a>>,
}

impl<'a> AppliedFilter<'_, 'a> {
    /// The argument that a call passes by name or at a position.
    pub(super) fn argument(&self, name: &str, position: usize) -> Option<&CallArgument<'_, 'a>> {
        let named = self.arguments.iter().find(|argument| argument.name == Some(name));
        let mut positional = self.arguments.iter().filter(|argument| argument.name.is_none());
        named.or_else(|| positional.nth(position))
    }
}

impl<'a> Checker<'a> {
    /// Infers the value that a filter returns.
    /// `missing_items` is what the template does with undefined items of the result.
    pub(super) fn infer_filter(
        &mut self,
        inner: &Spanned<Filter<'a>>,
        missing_items: MissingItems,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        if let (Some(operand), "default" | "d") = (&inner.expr, inner.name) {
            return self.infer_default(operand, inner, scope);
        }
        let arguments = self.infer_arguments(&inner.args, scope);
        self.check_filter_call(inner, arguments.as_deref());
        let Some(operand) = &inner.expr else {
            return InferredValue::defined(Type::Text(None)); // a filter block
        };
        self.missing_items = missing_items.before(inner);
        let finding_count = self.diagnostics.len();
        let base = self.infer_defined(operand, scope).ty;
        self.check_operand(inner.name, operand, &base);
        let has_finding = self.diagnostics.len() > finding_count;
        let (args, arguments) = (&inner.args, arguments.unwrap_or_default());
        let min_count = item_count(operand, &base, scope);
        let filter = AppliedFilter { name: inner.name, operand, base, min_count, missing_items, args, arguments };
        if matches!(inner.name, "int" | "float") {
            self.check_conversion(&filter);
        }
        if !has_finding {
            self.check_null_operand(&filter);
            self.check_joined_items(&filter);
        }
        let attribute = self.infer_attribute(&filter);
        if inner.name == "sum" {
            self.check_sum(&filter, attribute.as_ref());
        }
        self.filter_result(&filter, attribute, scope)
    }

    /// Checks the arguments of a filter; `None` if their number is unknown.
    fn check_filter_call(&mut self, inner: &Spanned<Filter<'a>>, arguments: Option<&[CallArgument<'_, 'a>]>) {
        if let (Some(arguments), Some(signature)) = (arguments, Signature::find(FILTER_SIGNATURES, inner.name)) {
            let range = byte_range(inner.span());
            let call = CheckedCall { label: format!("the filter `{}`", inner.name), signature, range: &range };
            self.check_call(&call, arguments);
        }
    }

    fn filter_result(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        attribute: Option<InferredValue<'a>>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let (base, min_count) = (&filter.base, filter.min_count);
        let list_of = |item: Type<'a>, min_length: u64| InferredValue::defined(Type::List(item.into(), min_length));
        match filter.name {
            "length" | "count" => {
                InferredValue::defined(Type::Numeric(NumberRange::counts(min_count, base.max_length())))
            }
            "int" | "float" | "abs" | "round" => InferredValue::defined(Self::numeric_result(filter)),
            "sum" => InferredValue::defined(self.sum_type(filter, attribute.as_ref())),
            "bool" => InferredValue::defined(Type::Bool),
            "tojson" => InferredValue::defined(Type::NonEmptyText),
            "lower" | "upper" | "title" | "capitalize" | "string" => {
                InferredValue::defined(printed_text(base, min_count))
            }
            "join" | "trim" | "replace" | "indent" => InferredValue::defined(Type::Text(None)),
            "lines" => list_of(Type::Text(None), min_count.min(1)),
            // A text that is split at a separator has at least one part, but an empty text has none at white space.
            "split" => {
                let separator = filter.argument("separator", 0);
                let has_separator = separator.is_some_and(|argument| argument.ty.kind() == Some(TypeKind::Text));
                list_of(Type::Text(None), u64::from(has_separator))
            }
            "first" | "last" if base.kinds().is_some() => InferredValue::new(self.element_type(base), min_count == 0),
            "min" | "max" if base.kinds().is_some() => InferredValue::new(self.extreme(filter), min_count == 0),
            "batch" => list_of(self.batch_type(filter), min_count.min(1)),
            "slice" => list_of(Type::List(self.element_type(base).into(), 0), 0),
            "groupby" => {
                let key = attribute.as_ref().map_or(Type::Unknown, |attribute| attribute.ty.clone());
                let has_default = self.report_missing_attribute(filter, attribute);
                let key = if has_default { Type::Unknown } else { key };
                let group = [key, Type::List(self.element_type(base).into(), 1)];
                let group = TupleType { items: group.into(), names: GROUP_NAMES };
                list_of(Type::Tuple(group.into()), min_count.min(1))
            }
            "items" | "dictsort" => {
                list_of(Type::tuple(vec![Type::Text(None), self.schemas.value_type(base)]), min_count)
            }
            "zip" => {
                let others = filter.arguments.iter().map(|argument| self.element_type(&argument.ty));
                let item = Type::tuple(std::iter::once(self.element_type(base)).chain(others).collect());
                let counts = filter.arguments.iter().map(|argument| item_count(argument.expr, &argument.ty, scope));
                list_of(item, counts.fold(min_count, u64::min))
            }
            "map" => self.infer_map(filter, attribute),
            "select" | "selectattr" | "reject" | "rejectattr" => {
                self.check_item_tests(filter, attribute);
                list_of(self.selected_item_type(filter), 0)
            }
            "reverse" if base.kind() == Some(TypeKind::Text) => InferredValue::defined(printed_text(base, min_count)),
            "sort" | "reverse" | "list" => list_of(self.element_type(base), min_count),
            "unique" => list_of(self.element_type(base), min_count.min(1)),
            _ => InferredValue::unknown(),
        }
    }

    /// The type of the values in a loop over a value: items of a list, characters of a string, or names of an object's
    /// properties.
    pub(super) fn element_type(&self, ty: &Type<'a>) -> Type<'a> {
        let branches = ty.branches();
        let has_items = |branch: &&Type<'a>| branches.len() == 1 || branch.max_length() != Some(0);
        union(branches.iter().filter(has_items).map(|branch| match branch.kind() {
            Some(TypeKind::Object) => Type::Text(None),
            Some(TypeKind::Text) => Type::NonEmptyText,
            Some(TypeKind::List | TypeKind::Null | TypeKind::Bool | TypeKind::Number) | None => {
                self.schemas.item_type(branch)
            }
        }))
    }

    /// The type of the lists that `batch` returns. They have the same length if a value fills the last of them.
    fn batch_type(&self, filter: &AppliedFilter<'_, 'a>) -> Type<'a> {
        let item = self.element_type(&filter.base);
        let count = filter.argument("count", 0).and_then(|argument| constant_index(argument.expr));
        let count = count.and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| (1..=MAX_TUPLE_ITEMS).contains(count));
        let fill = filter.argument("fill_with", 1).map(|argument| argument.ty.clone());
        let fills = |fill: &Type<'a>| fill.kinds().is_some_and(|kinds| !kinds.contains(&TypeKind::Null));
        match (count, fill.filter(fills)) {
            (Some(count), Some(fill)) => Type::tuple(vec![union([item, fill]); count]),
            (_, _) => Type::List(item.into(), 1),
        }
    }

    /// The result of a filter that returns a number.
    fn numeric_result(filter: &AppliedFilter<'_, 'a>) -> Type<'a> {
        let operand_range = range_of(&filter.base);
        let is_number = filter.base.kind() == Some(TypeKind::Number);
        let converted = match filter.name {
            "int" if is_number && operand_range.is_integer => operand_range,
            "int" => NumberRange::INTEGERS,
            "float" if is_number => operand_range,
            "abs" => operand_range.abs(),
            "round" => {
                let is_integer = operand_range.is_integer || filter.argument("precision", 0).is_none();
                NumberRange { is_integer, ..NumberRange::ANY }
            }
            _ => NumberRange::ANY,
        };
        let converted = Type::Numeric(converted);
        let has_default = matches!(filter.name, "int" | "float") && !is_number;
        match filter.argument("default", 0).filter(|_| has_default) {
            Some(default) => union([converted, default.ty.clone()]),
            None => converted,
        }
    }

    /// The smallest or the largest item of a list.
    fn extreme(&self, filter: &AppliedFilter<'_, 'a>) -> Type<'a> {
        let item_type = self.element_type(&filter.base);
        let (Type::Tuple(tuple), Some(whole_range)) = (&filter.base, item_type.numbers()) else { return item_type };
        let ranges: Option<Vec<NumberRange>> = tuple.items.iter().map(Type::number_range).collect();
        let Some(ranges) = ranges.filter(|_| filter.argument("attribute", usize::MAX).is_none()) else {
            return item_type;
        };
        let is_max = filter.name == "max";
        let bound = |bound: fn(&NumberRange) -> f64| {
            let bounds = ranges.iter().map(bound);
            bounds.reduce(|a, b| if is_max { a.max(b) } else { a.min(b) })
        };
        let (Some(min), Some(max)) = (bound(|range| range.min), bound(|range| range.max)) else { return item_type };
        Type::Numeric(NumberRange { is_integer: whole_range.is_integer, min, max, ..NumberRange::ANY })
    }

    fn infer_default(
        &mut self,
        operand: &Expr<'a>,
        inner: &Spanned<Filter<'a>>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        self.is_existence_test = true;
        let value = self.infer(operand, scope);
        let has_flag = inner.args.len() > 1;
        let mut default_scope = scope.clone();
        if !has_flag {
            // The value of the filter is the default only if the operand is undefined.
            let presence = ConditionReader { schemas: self.schemas, scope }.presence(operand);
            default_scope.add_assumption(presence.negate());
        }
        let (mut default, mut types) = (InferredValue::defined(Type::Text(None)), Vec::new());
        for (position, argument) in inner.args.iter().map(arg_expr).enumerate() {
            let inferred = match position {
                0 => self.infer(argument, &default_scope),
                _ => self.infer_defined(argument, scope),
            };
            types.push(inferred.ty.clone());
            if position == 0 {
                default = inferred;
            }
        }
        self.check_filter_call(inner, call_arguments(&inner.args, types).as_deref());
        // With `true` as the second argument, the default also replaces null, 0 and other values that count as false.
        let flag = inner.args.get(1).map(arg_expr);
        let replaces_false = matches!(flag, Some(Expr::Const(constant)) if constant.value.is_true());
        let operand_type = if replaces_false { value.ty.truthy() } else { value.ty };
        let may_be_undefined = (value.may_be_undefined || has_flag) && default.may_be_undefined;
        InferredValue::new(union([operand_type, default.ty]), may_be_undefined)
    }

    /// Reports an operand that the filter does not accept.
    fn check_operand(&mut self, name: &str, operand: &Expr<'a>, ty: &Type<'a>) {
        if !accepts_any(name) {
            self.note_unchecked_use(operand, ty);
        }
        let Some(kinds) = ty.kinds() else { return };
        let Some(kind) = kinds.iter().copied().find(|kind| !accepts(name, *kind)) else { return };
        let is_always_wrong = kinds.iter().all(|kind| !accepts(name, *kind));
        let verb = if is_always_wrong { "is" } else { "may be" };
        let message =
            format!("`{}` {verb} {}; the filter `{name}` does not accept it", self.source(operand), kind.describe());
        let diagnostic = if is_always_wrong {
            self.error(Code::UnsupportedOperation, expr_range(operand), message)
        } else {
            self.warning(Code::UnsupportedOperation, expr_range(operand), message)
        };
        let can_map = kind == TypeKind::List && matches!(name, "lower" | "upper" | "title" | "capitalize" | "trim");
        self.report(if can_map {
            diagnostic.with_help(format!("for each item: `map(\"{name}\")`"))
        } else if kind == TypeKind::Null && !is_always_wrong {
            diagnostic.with_help(self.null_advice(operand))
        } else {
            diagnostic
        });
    }
}

/// The minimum number of items, characters or properties of the value of an expression, from its type and from the
/// conditions about it.
pub(super) fn item_count(expr: &Expr<'_>, ty: &Type<'_>, scope: &TypeScope<'_>) -> u64 {
    ty.min_count().max(scope.min_items(expression_path(expr).as_ref()))
}

/// The type of a text that has as many characters as the printed form of a value. Only a string prints as nothing.
fn printed_text<'a>(ty: &Type<'a>, min_count: u64) -> Type<'a> {
    let is_other = |kinds: Vec<TypeKind>| !kinds.contains(&TypeKind::Text);
    if min_count > 0 || ty.is_always_truthy() || ty.kinds().is_some_and(is_other) {
        Type::NonEmptyText
    } else {
        Type::Text(None)
    }
}

fn accepts_any(name: &str) -> bool {
    Signature::find(FILTER_SIGNATURES, name).is_none_or(|signature| signature.operand == OperandKind::Any)
}

/// Whether a filter accepts values of this kind.
pub(super) fn accepts(name: &str, kind: TypeKind) -> bool {
    let Some(signature) = Signature::find(FILTER_SIGNATURES, name) else { return true };
    match signature.operand {
        OperandKind::Any => true,
        OperandKind::Number => kind == TypeKind::Number,
        OperandKind::Text => kind == TypeKind::Text,
        OperandKind::Scalar => !matches!(kind, TypeKind::List | TypeKind::Object),
        OperandKind::List => kind == TypeKind::List,
        OperandKind::Iterable => matches!(kind, TypeKind::List | TypeKind::Text | TypeKind::Object),
        OperandKind::Mapping => kind == TypeKind::Object,
    }
}
