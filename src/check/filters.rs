//! Infers the types of filters: the operands that each accepts, the type that it returns, and the properties that it
//! reads.

use std::ops::Range;

use minijinja::machinery::ast::{CallArg, Expr, Filter};

use super::infer::Checker;
use super::narrowing::expression_path;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::truth::ConditionReader;
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::expr_range;
use crate::template::walk::arg_expr;

impl<'a> Checker<'a> {
    /// Infers the value that a filter returns.
    pub(super) fn infer_filter(&mut self, inner: &Filter<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        if let (Some(operand), "default" | "d") = (&inner.expr, inner.name) {
            return self.infer_default(operand, inner, scope);
        }
        let argument_types: Vec<Type<'a>> =
            inner.args.iter().map(|argument| self.infer_defined(arg_expr(argument), scope).ty).collect();
        let Some(operand) = &inner.expr else {
            return InferredValue::defined(Type::Text(None)); // a filter block
        };
        let base = self.infer_defined(operand, scope).ty;
        self.check_operand(inner.name, operand, &base);
        let is_not_empty =
            base.min_length() > 0 || scope.has_narrowing(expression_path(operand).as_ref(), &Narrowing::Truthy);
        let attribute = self.infer_attribute(inner, &base);
        if inner.name == "sum" {
            self.check_sum(operand, &base);
        }
        match inner.name {
            "length" | "count" | "int" | "float" | "abs" | "round" | "sum" => InferredValue::defined(Type::Number),
            "bool" => InferredValue::defined(Type::Bool),
            "tojson" | "join" | "lower" | "upper" | "title" | "capitalize" | "trim" | "replace" | "indent"
            | "string" => InferredValue::defined(Type::Text(None)),
            "lines" => InferredValue::defined(Type::List(Type::Text(None).into(), 0)),
            "split" => {
                // A text without the separator is one item. Splitting an empty text at white space gives no items.
                let has_separator = argument_types.first().is_some_and(|ty| ty.kind() == Some(TypeKind::Text));
                InferredValue::defined(Type::List(Type::Text(None).into(), u64::from(has_separator)))
            }
            "first" | "last" | "min" | "max" if base.kinds().is_some() => {
                InferredValue::new(self.element_type(&base), !is_not_empty)
            }
            "batch" | "slice" => {
                InferredValue::defined(Type::List(Type::List(self.element_type(&base).into(), 0).into(), 0))
            }
            "groupby" => {
                self.report_missing_attribute(inner, operand, attribute);
                InferredValue::defined(Type::List(Type::Unknown.into(), 0))
            }
            "items" | "dictsort" | "zip" => {
                InferredValue::defined(Type::List(Type::List(Type::Unknown.into(), 2).into(), 0))
            }
            "map" => self.infer_map(inner, operand, attribute, base.min_length()),
            "select" | "selectattr" | "reject" | "rejectattr" => {
                InferredValue::defined(Type::List(self.selected_item_type(inner, &base).into(), 0))
            }
            "reverse" if base.kind() == Some(TypeKind::Text) => InferredValue::defined(Type::Text(None)),
            "sort" | "reverse" | "list" => InferredValue::defined(self.list_type(&base, base.min_length())),
            "unique" => InferredValue::defined(self.list_type(&base, base.min_length().min(1))),
            _ => InferredValue::unknown(),
        }
    }

    /// Reports a sum over items that are not numbers.
    fn check_sum(&mut self, operand: &Expr<'a>, base: &Type<'a>) {
        let Some(kinds) = self.element_type(base).kinds() else { return };
        if let Some(invalid_kind) = kinds.iter().find(|kind| **kind != TypeKind::Number) {
            let source = self.source(operand);
            let verb = if kinds.contains(&TypeKind::Number) { "may be" } else { "is" };
            let message = format!("an item of `{source}` {verb} {}; `sum` only adds numbers", invalid_kind.describe());
            let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(operand), message);
            self.report(diagnostic);
        }
    }

    /// The type of the values in a loop over a value: items of a list, characters of a string, or names of an object's
    /// properties.
    pub(super) fn element_type(&self, ty: &Type<'a>) -> Type<'a> {
        union(ty.branches().iter().map(|branch| match branch.kind() {
            Some(TypeKind::Object | TypeKind::Text) => Type::Text(None),
            Some(TypeKind::List | TypeKind::Null | TypeKind::Bool | TypeKind::Number) | None => {
                self.schemas.item_type(branch)
            }
        }))
    }

    fn list_type(&self, base: &Type<'a>, min_length: u64) -> Type<'a> {
        Type::List(self.element_type(base).into(), min_length)
    }

    fn infer_default(&mut self, operand: &Expr<'a>, inner: &Filter<'a>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        self.is_existence_test = true;
        let value = self.infer(operand, scope);
        let mut arguments = inner.args.iter().map(arg_expr);
        // Only if the operand is undefined, the value of the filter is the default.
        let mut default_scope = scope.clone();
        default_scope.add_assumption(ConditionReader { schemas: self.schemas, scope }.presence(operand).negate());
        let default = match arguments.next() {
            Some(argument) if inner.args.len() == 1 => self.infer(argument, &default_scope),
            Some(argument) => self.infer(argument, scope),
            None => InferredValue::defined(Type::Text(None)),
        };
        for argument in arguments {
            self.infer_defined(argument, scope);
        }
        let may_be_undefined = (value.may_be_undefined || inner.args.len() > 1) && default.may_be_undefined;
        InferredValue::new(union([value.ty, default.ty]), may_be_undefined)
    }

    /// Reports an operand that the filter does not accept.
    fn check_operand(&mut self, name: &str, operand: &Expr<'a>, ty: &Type<'a>) {
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
        } else {
            diagnostic
        });
    }

    /// The value of the property that a filter reads from each item, such as in `map(attribute="path")`; `None` if the
    /// filter names no property.
    fn infer_attribute(&mut self, inner: &Filter<'a>, base: &Type<'a>) -> Option<InferredValue<'a>> {
        let is_positional = matches!(inner.name, "selectattr" | "rejectattr" | "groupby");
        let expr = inner.args.iter().find_map(|argument| match argument {
            CallArg::Kwarg("attribute", expr) => Some(expr),
            CallArg::Pos(expr) if is_positional => Some(expr),
            _ => None,
        })?;
        let Expr::Const(constant) = expr else { return Some(InferredValue::unknown()) };
        let property_path = constant.value.as_str()?.to_owned();
        if base.kind() != Some(TypeKind::List) {
            if let Some(operand) = &inner.expr {
                let explanation = format!("so its items have no `{property_path}`");
                self.check_operand_kind(operand, base, |kind| kind == TypeKind::List, &explanation, &explanation);
            }
            return Some(InferredValue::unknown());
        }
        let item_type = self.schemas.item_type(base);
        let operand = inner.expr.as_ref().map_or("", |expr| self.source(expr));
        let inferred = self.infer_path(&format!("{operand}[…]"), item_type, &property_path, expr_range(expr));
        Some(inferred)
    }

    /// Infers the value at a dotted path. The text contains the path as a quoted string at `range`.
    fn infer_path(&mut self, base: &str, ty: Type<'a>, property_path: &str, range: Range<usize>) -> InferredValue<'a> {
        let (mut inferred, mut offset, mut source) = (InferredValue::defined(ty), range.start + 1, base.to_owned());
        for name in property_path.split('.') {
            let name_range = offset..offset + name.len();
            let error_range = if self.text.get(name_range.clone()) == Some(name) { name_range } else { range.clone() };
            let may_be_undefined = inferred.may_be_undefined;
            inferred = match name.parse::<usize>() {
                Ok(_) => InferredValue::defined(self.schemas.item_type(&inferred.ty)),
                Err(_) => self.infer_property_of_source(&source, &inferred.ty, name, error_range),
            };
            inferred.may_be_undefined |= may_be_undefined;
            source = format!("{source}.{name}");
            offset += name.len() + 1;
        }
        inferred
    }

    /// Infers the result of `map`: `map(attribute=…)` returns a list of these properties, and `map("filter")` a list of
    /// that filter's results.
    fn infer_map(
        &mut self,
        inner: &Filter<'a>,
        operand: &Expr<'a>,
        attribute: Option<InferredValue<'a>>,
        min_length: u64,
    ) -> InferredValue<'a> {
        let Some(property) = attribute else {
            let item_type = match inner.args.first().map(arg_expr) {
                Some(Expr::Const(name)) => match name.value.as_str() {
                    Some("lower" | "upper" | "title" | "capitalize" | "trim" | "string" | "tojson" | "join") => {
                        Type::Text(None)
                    }
                    Some("length" | "count" | "int" | "float" | "abs" | "round" | "sum") => Type::Number,
                    Some(_) | None => Type::Unknown,
                },
                Some(_) | None => Type::Unknown,
            };
            return InferredValue::defined(Type::List(item_type.into(), min_length));
        };
        let ty = if self.report_missing_attribute(inner, operand, Some(property.clone())) {
            Type::Unknown
        } else {
            property.ty
        };
        InferredValue::defined(Type::List(ty.into(), min_length))
    }

    /// Reports that some items may lack the property that a filter reads from each. Returns whether the filter has a
    /// default value for such items.
    fn report_missing_attribute(
        &mut self,
        inner: &Filter<'a>,
        operand: &Expr<'a>,
        attribute: Option<InferredValue<'a>>,
    ) -> bool {
        let has_default = inner.args.iter().any(|argument| matches!(argument, CallArg::Kwarg("default", _)));
        if attribute.is_some_and(|property| property.may_be_undefined) && !has_default {
            let name =
                inner.args.iter().find(|argument| matches!(argument, CallArg::Kwarg("attribute", _) | CallArg::Pos(_)));
            let name = name.map_or(operand, arg_expr);
            let source = self.source(name).trim_matches(['"', '\'']);
            let message = format!("some items of `{}` may lack `{source}`", self.source(operand));
            let diagnostic = self.warning(Code::PossiblyMissing, expr_range(name), message);
            self.report(diagnostic.with_help(format!("set a default: `{}(attribute=…, default=…)`", inner.name)));
        }
        has_default
    }
}

/// Whether a filter accepts values of this kind.
fn accepts(name: &str, kind: TypeKind) -> bool {
    let is_iterable = matches!(kind, TypeKind::List | TypeKind::Text | TypeKind::Object);
    match name {
        "batch" | "count" | "first" | "join" | "slice" | "last" | "length" | "list" | "map" | "max" | "min"
        | "reject" | "rejectattr" | "reverse" | "select" | "selectattr" | "sort" | "unique" => is_iterable,
        "sum" | "groupby" => kind == TypeKind::List,
        "indent" => kind == TypeKind::Text,
        "items" | "dictsort" => kind == TypeKind::Object,
        "abs" | "round" => kind == TypeKind::Number,
        "lower" | "upper" | "title" | "capitalize" | "trim" | "replace" | "lines" | "split" => {
            !matches!(kind, TypeKind::List | TypeKind::Object)
        }
        _ => true,
    }
}
