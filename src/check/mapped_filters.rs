//! Infers what `map` does with each item of a list, and finds out whether a template uses items that are undefined.

use minijinja::machinery::ast::{CallArg, Expr, Filter};

use super::arithmetic::range_of;
use super::calls::CallArgument;
use super::filters::{AppliedFilter, accepts};
use super::infer::Checker;
use super::item_filters::{may_fail_as_number, signature_named_by};
use super::number_range::NumberRange;
use super::scope::InferredValue;
use super::types::{Type, TypeKind, union};
use crate::diagnostic::{Code, Diagnostic};
use crate::template::expr_range;
use crate::template::signatures::FILTER_SIGNATURES;

/// What a template does with the undefined items of a list, which `map` returns for items that lack a property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MissingItems {
    /// It may use them, which fails.
    #[default]
    Used,
    /// `join` prints nothing for them.
    Printed,
    /// A filter leaves them out or replaces them.
    LeftOut,
}

/// Tests that are false for an undefined value, and do not fail on it.
const TESTS_REJECTING_UNDEFINED: &[&str] =
    &["boolean", "defined", "float", "int", "integer", "mapping", "number", "string", "true"];

impl MissingItems {
    /// What a filter does with the undefined items of its operand. `self` is what the template does with those of its
    /// result.
    pub(super) fn before(self, filter: &Filter<'_>) -> Self {
        let name = match filter.args.first() {
            Some(CallArg::Pos(Expr::Const(constant))) => constant.value.as_str(),
            _ => None,
        };
        match (filter.name, name) {
            ("list" | "reverse" | "sort" | "unique", _) => self,
            ("join", _) => Self::Printed,
            ("sum", _) => Self::LeftOut,
            ("select", _) if filter.args.is_empty() => Self::LeftOut,
            ("select", Some(test)) if TESTS_REJECTING_UNDEFINED.contains(&test) => Self::LeftOut,
            ("reject", Some("undefined")) | ("map", Some("default" | "d")) => Self::LeftOut,
            (_, _) => Self::Used,
        }
    }
}

impl<'a> Checker<'a> {
    /// Infers the result of `map`: `map(attribute=…)` returns a list of these properties, and `map("filter")` a list of
    /// that filter's results.
    pub(super) fn infer_map(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        attribute: Option<InferredValue<'a>>,
    ) -> InferredValue<'a> {
        let list_of = |item: Type<'a>| InferredValue::defined(Type::List(item.into(), filter.min_count));
        let mut positional = filter.arguments.iter().filter(|argument| argument.name.is_none());
        let property_argument = filter.arguments.iter().find(|argument| argument.name == Some("attribute"));
        match (positional.next(), property_argument) {
            (Some(name), None) => list_of(self.infer_mapped_filter(filter, name)),
            (None, Some(_)) => {
                let ty = attribute.as_ref().map_or(Type::Unknown, |property| property.ty.clone());
                self.report_missing_attribute(filter, attribute);
                let default = filter.arguments.iter().find(|argument| argument.name == Some("default"));
                list_of(union(std::iter::once(ty).chain(default.map(|default| default.ty.clone()))))
            }
            (name, _) => {
                let (message, range) = match name {
                    Some(name) => ("`map` applies a filter or reads a property, not both", expr_range(name.expr)),
                    None => ("the filter `map` needs the name of a filter or a property", expr_range(filter.operand)),
                };
                let diagnostic = self.error(Code::WrongArgument, range, message.to_owned());
                self.report(diagnostic.with_help("write `map(\"upper\")` or `map(attribute=\"title\")`"));
                list_of(Type::Unknown)
            }
        }
    }

    /// Checks the filter that `map` applies to each item, and infers its result.
    fn infer_mapped_filter(&mut self, filter: &AppliedFilter<'_, 'a>, name: &CallArgument<'_, 'a>) -> Type<'a> {
        let Some(signature) = signature_named_by(FILTER_SIGNATURES, name.expr) else { return Type::Unknown };
        if let Some(named) = filter.arguments.iter().find(|argument| argument.name.is_some()) {
            let label = format!("`map` passes no arguments by name to the filter `{}`", signature.name);
            let diagnostic = self.error(Code::WrongArgument, expr_range(named.expr), label);
            self.report(diagnostic.with_help("pass them by their positions, after the name of the filter"));
        }
        self.check_nested_call(signature, "filter", filter, 1);
        let item_type = self.element_type(&filter.base);
        self.check_item_operand(filter, signature.name, &item_type);
        let mut arguments = filter.arguments.iter().filter(|argument| argument.name.is_none()).skip(1);
        let (first, second) = (arguments.next(), arguments.next());
        if matches!(signature.name, "int" | "float") && first.is_none() {
            self.check_item_conversion(filter, name, signature.name, &item_type);
        }
        let inner_type = self.element_type(&item_type);
        let list_of = |min_length: u64| Type::List(inner_type.clone().into(), min_length);
        match signature.name {
            "lower" | "upper" | "title" | "capitalize" | "trim" | "string" | "tojson" | "join" | "replace"
            | "indent" => Type::Text(None),
            "length" | "count" => Type::Numeric(NumberRange::counts(item_type.min_count(), item_type.max_length())),
            "int" if first.is_none() => Type::Numeric(NumberRange::INTEGERS),
            "float" if first.is_none() => Type::Number,
            "abs" => Type::Numeric(range_of(&item_type).abs()),
            "round" => Type::Number,
            "sum" => {
                if first.is_none() {
                    let subject = format!("an item of an item of `{}`", self.source(filter.operand));
                    self.check_summed_items(&subject, &inner_type, None, expr_range(filter.operand));
                }
                if first.is_none() { Type::Number } else { Type::Unknown }
            }
            "bool" => Type::Bool,
            "default" | "d" => {
                // The items are null, 0 or empty after the filter, too, unless its second argument is `true`.
                let is_true =
                    |flag: &CallArgument<'_, 'a>| matches!(flag.expr, Expr::Const(flag) if flag.value.is_true());
                let kept = if second.is_some_and(is_true) { item_type.truthy() } else { item_type };
                let default = first.map_or(Type::Text(None), |argument| argument.ty.clone());
                union([kept, default])
            }
            "first" | "last" | "min" | "max" if item_type.kinds().is_some() => {
                self.check_item_of_items(filter, name, signature.name, &item_type);
                inner_type
            }
            "list" | "sort" => list_of(item_type.min_count()),
            "unique" => list_of(item_type.min_count().min(1)),
            _ => Type::Unknown,
        }
    }

    /// Reports items that the filter of `map` does not accept.
    fn check_item_operand(&mut self, filter: &AppliedFilter<'_, 'a>, name: &str, item_type: &Type<'a>) {
        self.check_item_kinds(filter, name, item_type, |kind| accepts(name, kind));
    }

    /// Reports items that the filter `name` does not accept, because of their kinds.
    fn check_item_kinds(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        name: &str,
        item_type: &Type<'a>,
        is_accepted: impl Fn(TypeKind) -> bool,
    ) {
        let Some(kinds) = item_type.kinds() else { return };
        let Some(kind) = kinds.iter().copied().find(|kind| !is_accepted(*kind)) else { return };
        let is_always_wrong = !kinds.iter().any(|kind| is_accepted(*kind));
        let verb = if is_always_wrong { "is" } else { "may be" };
        let (source, kind) = (self.source(filter.operand), kind.describe());
        let message = format!("an item of `{source}` {verb} {kind}; the filter `{name}` does not accept it");
        let range = expr_range(filter.operand);
        let diagnostic: Diagnostic = if is_always_wrong {
            self.error(Code::UnsupportedOperation, range, message)
        } else {
            self.warning(Code::UnsupportedOperation, range, message)
        };
        self.report(diagnostic);
    }

    /// Reports a conversion to numbers that fails for some items.
    fn check_item_conversion(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        argument: &CallArgument<'_, 'a>,
        name: &str,
        item_type: &Type<'a>,
    ) {
        let is_structure = |kind: TypeKind| matches!(kind, TypeKind::List | TypeKind::Object);
        self.check_item_kinds(filter, name, item_type, |kind| !is_structure(kind));
        if !may_fail_as_number(item_type) {
            return;
        }
        let source = self.source(filter.operand);
        let message = format!("an item of `{source}` is a string that may not represent a number; `{name}` then fails");
        let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(argument.expr), message);
        self.report(diagnostic.with_help(format!("give a value for that case: `map(\"{name}\", 0)`")));
    }

    /// Reports that `map` takes an item of lists that may be empty, if the template may use the missing item.
    fn check_item_of_items(
        &mut self,
        filter: &AppliedFilter<'_, 'a>,
        argument: &CallArgument<'_, 'a>,
        name: &str,
        item_type: &Type<'a>,
    ) {
        if item_type.min_count() > 0 || filter.missing_items != MissingItems::Used {
            return;
        }
        let source = self.source(filter.operand);
        let message = format!("some items of `{source}` may be empty, and `{name}` of them has no value");
        let diagnostic = self.warning(Code::PossiblyMissing, expr_range(argument.expr), message);
        let operand = self.operand_text(filter.operand);
        self.report(diagnostic.with_help(format!("leave them out: `{operand} | select | map(\"{name}\")`")));
    }
}
