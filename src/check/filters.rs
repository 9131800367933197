//! Infers the types of filters: which operands each accepts, what it returns, and which properties it reads.

use std::ops::Range;

use minijinja::machinery::ast::{CallArg, Expr, Filter};

use super::facts::path;
use super::infer::Checker;
use super::scope::{KnownValue, PathFact, TypeScope};
use super::types::{Type, TypeKind, union};
use crate::diagnostic::Code;
use crate::template::extent;
use crate::template::walk::arg;

impl<'a> Checker<'a> {
    /// Infers the value that a filter returns.
    pub(super) fn filter(&mut self, inner: &Filter<'a>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        for argument in &inner.args {
            self.value(arg(argument), scope);
        }
        let Some(operand) = &inner.expr else {
            return KnownValue::is(Type::Text(None)); // a filter block
        };
        if matches!(inner.name, "default" | "d") {
            return self.default_filter(operand, inner, scope);
        }
        let base = self.value(operand, scope).ty;
        self.takes(inner.name, operand, &base);
        let sure = base.least_length() > 0 || scope.knows(path(operand).as_ref(), &PathFact::True);
        let attribute = self.attribute(inner, &base);
        if inner.name == "sum" {
            self.summed(operand, &base);
        }
        match inner.name {
            "length" | "count" | "int" | "float" | "abs" | "round" | "sum" => KnownValue::is(Type::Number),
            "bool" => KnownValue::is(Type::Bool),
            "tojson" | "join" | "lower" | "upper" | "title" | "capitalize" | "trim" | "replace" | "indent"
            | "string" => KnownValue::is(Type::Text(None)),
            "lines" | "split" => KnownValue::is(Type::List(Type::Text(None).into(), 0)),
            "first" | "last" | "min" | "max" if base.kinds().is_some() => {
                KnownValue::maybe(self.elements(&base), !sure)
            }
            "batch" | "slice" => KnownValue::is(Type::List(Type::List(self.elements(&base).into(), 0).into(), 0)),
            "groupby" => {
                self.lacks(inner, operand, attribute);
                KnownValue::is(Type::List(Type::Unknown.into(), 0))
            }
            "items" | "dictsort" | "zip" => KnownValue::is(Type::List(Type::List(Type::Unknown.into(), 2).into(), 0)),
            "map" => self.map(inner, operand, attribute),
            "select" | "selectattr" | "reject" | "rejectattr" => KnownValue::is(self.list_of(&base, 0)),
            "reverse" if base.kind() == Some(TypeKind::Text) => KnownValue::is(Type::Text(None)),
            "sort" | "reverse" | "list" => KnownValue::is(self.list_of(&base, base.least_length())),
            "unique" => KnownValue::is(self.list_of(&base, base.least_length().min(1))),
            _ => KnownValue::unknown(),
        }
    }

    /// Reports a sum over items that are not numbers.
    fn summed(&mut self, operand: &Expr<'a>, base: &Type<'a>) {
        let Some(kinds) = self.elements(base).kinds() else { return };
        if let Some(wrong) = kinds.iter().find(|kind| **kind != TypeKind::Number) {
            let written = self.source(operand);
            let word = if kinds.contains(&TypeKind::Number) { "may be" } else { "is" };
            let message = format!("an item of `{written}` {word} {}; `sum` adds numbers", wrong.words());
            let problem = self.warning(Code::WrongOperand, extent(operand), message);
            self.report(problem);
        }
    }

    /// The type of what a loop over the value iterates over: items of a list, characters of a string, names of an
    /// object's properties.
    pub(super) fn elements(&self, ty: &Type<'a>) -> Type<'a> {
        union(ty.branches().iter().map(|branch| match branch.kind() {
            Some(TypeKind::Object | TypeKind::Text) => Type::Text(None),
            Some(TypeKind::List | TypeKind::Null | TypeKind::Bool | TypeKind::Number) | None => {
                self.schemas.items(branch)
            }
        }))
    }

    fn list_of(&self, base: &Type<'a>, least: u64) -> Type<'a> {
        Type::List(self.elements(base).into(), least)
    }

    fn default_filter(&mut self, operand: &Expr<'a>, inner: &Filter<'a>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        self.asking = true;
        let base = self.infer(operand, scope).ty;
        let other = match inner.args.first() {
            Some(argument) => self.infer(arg(argument), scope).ty,
            None => Type::Text(None),
        };
        KnownValue::is(union([base, other]))
    }

    /// Reports an operand that the filter can't be used on.
    fn takes(&mut self, name: &str, operand: &Expr<'a>, ty: &Type<'a>) {
        let Some(kinds) = ty.kinds() else { return };
        let Some(kind) = kinds.iter().copied().find(|kind| !fits(name, *kind)) else { return };
        let always = kinds.iter().all(|kind| !fits(name, *kind));
        let word = if always { "is" } else { "may be" };
        let message = format!("`{}` {word} {}; `{name}` cannot be used on it", self.source(operand), kind.words());
        let problem = if always {
            self.error(Code::WrongOperand, extent(operand), message)
        } else {
            self.warning(Code::WrongOperand, extent(operand), message)
        };
        let hint = kind == TypeKind::List && matches!(name, "lower" | "upper" | "title" | "capitalize" | "trim");
        self.report(if hint { problem.help(format!("for each item: `map(\"{name}\")`")) } else { problem });
    }

    /// What the items have under the property that a filter names, such as in `map(attribute="path")`; `None` if the
    /// filter names none.
    fn attribute(&mut self, inner: &Filter<'a>, base: &Type<'a>) -> Option<KnownValue<'a>> {
        let positional = matches!(inner.name, "selectattr" | "rejectattr" | "groupby");
        let expr = inner.args.iter().find_map(|argument| match argument {
            CallArg::Kwarg("attribute", expr) => Some(expr),
            CallArg::Pos(expr) if positional => Some(expr),
            _ => None,
        })?;
        let Expr::Const(constant) = expr else { return Some(KnownValue::unknown()) };
        let names = constant.value.as_str()?.to_owned();
        if base.kind() != Some(TypeKind::List) {
            if let Some(operand) = &inner.expr {
                let is = format!("and its parts have no `{names}`");
                self.operand(operand, base, |kind| kind == TypeKind::List, &is, &is);
            }
            return Some(KnownValue::unknown());
        }
        let items = self.schemas.items(base);
        let operand = inner.expr.as_ref().map_or("", |expr| self.source(expr));
        let known = self.follow(&format!("{operand}[…]"), items, &names, extent(expr));
        Some(known)
    }

    /// Follows a dotted path that is written as a quoted string at `range`.
    fn follow(&mut self, base: &str, ty: Type<'a>, names: &str, range: Range<usize>) -> KnownValue<'a> {
        let (mut known, mut at, mut written) = (KnownValue::is(ty), range.start + 1, base.to_owned());
        for name in names.split('.') {
            let exact = at..at + name.len();
            let place = if self.text.get(exact.clone()) == Some(name) { exact } else { range.clone() };
            let maybe = known.maybe;
            known = match name.parse::<usize>() {
                Ok(_) => KnownValue::is(self.schemas.items(&known.ty)),
                Err(_) => self.property_of(&written, &known.ty, name, place),
            };
            known.maybe |= maybe;
            written = format!("{written}.{name}");
            at += name.len() + 1;
        }
        known
    }

    /// `map(attribute=…)` returns a list of these properties, `map("filter")` a list of that filter's results.
    fn map(&mut self, inner: &Filter<'a>, operand: &Expr<'a>, attribute: Option<KnownValue<'a>>) -> KnownValue<'a> {
        let Some(found) = attribute else {
            let each = match inner.args.first().map(arg) {
                Some(Expr::Const(name)) => match name.value.as_str() {
                    Some("lower" | "upper" | "title" | "capitalize" | "trim" | "string" | "tojson" | "join") => {
                        Type::Text(None)
                    }
                    Some("length" | "count" | "int" | "float" | "abs" | "round" | "sum") => Type::Number,
                    Some(_) | None => Type::Unknown,
                },
                Some(_) | None => Type::Unknown,
            };
            return KnownValue::is(Type::List(each.into(), 0));
        };
        let ty = if self.lacks(inner, operand, Some(found.clone())) { Type::Unknown } else { found.ty };
        KnownValue::is(Type::List(ty.into(), 0))
    }

    /// Reports that some items may lack the property that a filter reads from each. Returns whether the filter has a
    /// default for such items.
    fn lacks(&mut self, inner: &Filter<'a>, operand: &Expr<'a>, attribute: Option<KnownValue<'a>>) -> bool {
        let has_default = inner.args.iter().any(|argument| matches!(argument, CallArg::Kwarg("default", _)));
        if attribute.is_some_and(|found| found.maybe) && !has_default {
            let name =
                inner.args.iter().find(|argument| matches!(argument, CallArg::Kwarg("attribute", _) | CallArg::Pos(_)));
            let name = name.map_or(operand, arg);
            let written = self.source(name).trim_matches(['"', '\'']);
            let message = format!("some items of `{}` may lack `{written}`", self.source(operand));
            let problem = self.warning(Code::MaybeMissing, extent(name), message);
            self.report(problem.help(format!("give it a value: `{}(attribute=…, default=…)`", inner.name)));
        }
        has_default
    }
}

/// Whether a filter can be used on values of this kind.
fn fits(name: &str, kind: TypeKind) -> bool {
    let listed = matches!(kind, TypeKind::List | TypeKind::Text | TypeKind::Object);
    match name {
        "batch" | "count" | "first" | "join" | "slice" | "last" | "length" | "list" | "map" | "max" | "min"
        | "reject" | "rejectattr" | "reverse" | "select" | "selectattr" | "sort" | "unique" => listed,
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
