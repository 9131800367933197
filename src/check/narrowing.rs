//! Type narrowing: derives facts about values from a condition, for the branch in which it is true and for the branch
//! in which it is false, and narrows the types of these values.

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, UnaryOpKind};

use super::bindings::ConditionResult;
use super::index_paths::{comparison_pairs, index_text};
use super::infer::Checker;
use super::number_signs::{narrow_numbers, sign_narrowing};
use super::refined_types::requires_property;
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::truth::ConditionReader;
use super::types::{Property, Schemas, Type, TypeKind, union};
use crate::template::walk::arg_expr;

/// The path that an expression consists of, such as `plan.steps[0].title`; `None` for any other expression.
pub(super) fn expression_path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(var) => Some(var.id.to_owned()),
        Expr::GetAttr(attr) => Some(format!("{}.{}", expression_path(&attr.expr)?, attr.name)),
        Expr::GetItem(item) => {
            let base = expression_path(&item.expr)?;
            if let Some(index) = constant_index(&item.subscript_expr) {
                return Some(format!("{base}[{index}]"));
            }
            match &item.subscript_expr {
                Expr::Const(key) => key.value.as_str().map(|name| format!("{base}.{name}")),
                key => index_text(key).map(|key| format!("{base}[{key}]")),
            }
        }
        _ => None,
    }
}

/// The value of which an expression is a member, and the name of the member; `None` for any other expression.
pub(super) fn member_of<'e, 't>(expr: &'e Expr<'t>) -> Option<(&'e Expr<'t>, &'e str)> {
    match expr {
        Expr::GetAttr(inner) => Some((&inner.expr, inner.name)),
        Expr::GetItem(inner) => match &inner.subscript_expr {
            Expr::Const(name) => Some((&inner.expr, name.value.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// The integer that an expression consists of, such as `0` or `-1`; `None` for any other expression.
pub(super) fn constant_index(expr: &Expr<'_>) -> Option<i64> {
    match expr {
        Expr::Const(constant) => constant.value.as_i64(),
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Neg) => constant_index(&inner.expr)?.checked_neg(),
        _ => None,
    }
}

/// The narrowings that follow when the condition evaluates to `outcome`, each with the path of its value.
pub(super) fn condition_narrowings(expr: &Expr<'_>, outcome: bool) -> Vec<(String, Narrowing)> {
    let mut collected = Vec::new();
    collect_narrowings(expr, outcome, &mut collected);
    collected
}

fn collect_narrowings(expr: &Expr<'_>, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
    match expr {
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => {
            collect_narrowings(&inner.expr, !outcome, narrowings);
        }
        Expr::BinOp(inner) => match (inner.op, outcome) {
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                collect_narrowings(&inner.left, outcome, narrowings);
                collect_narrowings(&inner.right, outcome, narrowings);
            }
            (BinOpKind::ScAnd | BinOpKind::ScOr, _) => {}
            (BinOpKind::In, _) => collect_membership(&inner.left, &inner.right, outcome, narrowings),
            (op, _) => collect_comparison(op, &inner.left, &inner.right, outcome, narrowings),
        },
        Expr::Compare(inner) if outcome => {
            for (op, left, right) in comparison_pairs(inner) {
                collect_comparison(op, left, right, true, narrowings);
            }
        }
        Expr::Test(inner) => {
            if let Some(path) = expression_path(&inner.expr) {
                let established = test_narrowings(inner.name, &inner.args, outcome);
                narrowings.extend(established.into_iter().map(|narrowing| (path.clone(), narrowing)));
            }
        }
        // A length counts as true only if the list is not empty.
        Expr::Filter(_) => {
            if let (Some(path), true) = (length_operand(expr), outcome) {
                narrowings.push((path, Narrowing::Truthy));
            }
        }
        other => {
            let narrowing = if outcome { Narrowing::Truthy } else { Narrowing::Falsy };
            narrowings.extend(expression_path(other).map(|path| (path, narrowing)));
        }
    }
}

/// The path of the value whose length an expression computes.
fn length_operand(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Filter(inner) if matches!(inner.name, "length" | "count") => expression_path(inner.expr.as_ref()?),
        _ => None,
    }
}

fn string_constant(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
        _ => None,
    }
}

fn integer_constant(expr: &Expr<'_>) -> Option<u64> {
    match expr {
        Expr::Const(constant) => constant.value.as_usize().and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// Collects the narrowings that follow from `key in value` and `value in [...]`.
fn collect_membership(item: &Expr<'_>, container: &Expr<'_>, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
    if let (Some(key), Some(path), true) = (string_constant(item), expression_path(container), outcome) {
        narrowings.push((format!("{path}.{key}"), Narrowing::Defined));
    }
    if let (Some(path), Expr::List(list)) = (expression_path(item), container) {
        let texts: Option<Vec<String>> = list.items.iter().map(string_constant).collect();
        narrowings.extend(texts.map(|texts| (path, Narrowing::OneOf(texts, outcome))));
    }
}

fn collect_comparison(
    op: BinOpKind,
    left: &Expr<'_>,
    right: &Expr<'_>,
    outcome: bool,
    narrowings: &mut Vec<(String, Narrowing)>,
) {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    // A comparison with an undefined value fails, so a comparison that is true shows that the value is defined.
    if outcome && matches!(op, Eq | Gt | Gte | Lt | Lte) {
        narrowings.extend(expression_path(left).map(|path| (path, Narrowing::Defined)));
    }
    let equal = match (op, outcome) {
        (Eq, true) | (Ne, false) => Some(true),
        (Eq, false) | (Ne, true) => Some(false),
        _ => None,
    };
    for (value, constant) in [(left, right), (right, left)] {
        if let (Some(path), Some(text), Some(equal)) = (expression_path(value), string_constant(constant), equal) {
            narrowings.push((path, Narrowing::OneOf(vec![text], equal)));
        }
    }
    for (value, constant) in [(left, right), (right, left)] {
        let is_null = matches!(constant, Expr::Const(constant) if constant.value.is_none());
        if let (Some(path), true, Some(false)) = (expression_path(value), is_null, equal) {
            narrowings.push((path, Narrowing::NotNull));
        }
    }
    narrowings.extend(sign_narrowing(op, left, right, outcome));
    narrowings.extend(sign_narrowing(swap_operands(op), right, left, outcome));
    let (list, op, other) = match (length_operand(left), length_operand(right)) {
        (Some(list), None) => (list, op, right),
        (None, Some(list)) => (list, swap_operands(op), left),
        _ => return,
    };
    // `n < list | length` shows that `list[n]` exists.
    if let (Some(index), (Gt, true) | (Lte, false)) = (index_text(other), (op, outcome)) {
        narrowings.push((format!("{list}[{index}]"), Narrowing::Defined));
    }
    let Some(count) = integer_constant(other) else { return };
    let max_items = match (op, outcome) {
        (Lt, true) | (Gte, false) => count.checked_sub(1),
        (Lte | Eq, true) | (Gt | Ne, false) => Some(count),
        _ => None,
    };
    narrowings.extend(max_items.map(|max_items| (list.clone(), Narrowing::MaxItems(max_items))));
    let min_items = match (op, outcome) {
        (Gt, true) | (Lte, false) => count.saturating_add(1),
        (Gte | Eq, true) | (Lt | Ne, false) => count,
        (Ne, true) | (Eq, false) if count == 0 => 1,
        _ => return,
    };
    narrowings.push((list, Narrowing::MinItems(min_items)));
}

/// The operator that gives the same result if its operands are swapped.
fn swap_operands(op: BinOpKind) -> BinOpKind {
    match op {
        BinOpKind::Gt => BinOpKind::Lt,
        BinOpKind::Gte => BinOpKind::Lte,
        BinOpKind::Lt => BinOpKind::Gt,
        BinOpKind::Lte => BinOpKind::Gte,
        other => other,
    }
}

/// The narrowings of a value that follow when a test such as `is string` has this outcome.
pub(super) fn test_narrowings(test: &str, args: &[CallArg<'_>], outcome: bool) -> Vec<Narrowing> {
    let mut narrowings = Vec::new();
    match (test, outcome) {
        ("defined", true) | ("undefined", false) => narrowings.push(Narrowing::Defined),
        ("defined", false) | ("undefined", true) => narrowings.push(Narrowing::Undefined),
        ("none", false) => narrowings.push(Narrowing::NotNull),
        // The results of these tests establish nothing: they can be the same for an undefined value, which is a
        // sequence, differs from every other value and is less than every other value.
        ("none" | "false" | "sequence" | "iterable" | "ne" | "!=" | "lt" | "<" | "le" | "<=", _) => {}
        (_, true) => narrowings.extend([Narrowing::Defined, Narrowing::NotNull]),
        (_, false) => {}
    }
    let kinds = match test {
        "string" => vec![TypeKind::Text],
        "mapping" => vec![TypeKind::Object],
        "sequence" => vec![TypeKind::List],
        "boolean" => vec![TypeKind::Bool],
        "number" => vec![TypeKind::Number, TypeKind::Bool],
        "none" => vec![TypeKind::Null],
        _ => Vec::new(),
    };
    if !kinds.is_empty() {
        narrowings.push(Narrowing::Kinds(kinds, outcome));
    }
    let texts = match (test, args.first().map(arg_expr)) {
        ("eq" | "==" | "equalto" | "ne" | "!=", Some(constant)) => string_constant(constant).map(|text| vec![text]),
        ("in", Some(Expr::List(list))) => list.items.iter().map(string_constant).collect(),
        (_, _) => None,
    };
    let is_equal = outcome != matches!(test, "ne" | "!=");
    narrowings.extend(texts.map(|texts| Narrowing::OneOf(texts, is_equal)));
    narrowings
}

/// Adds to a scope what is known if a condition evaluates to `outcome`.
pub(super) fn assume<'a>(schemas: Schemas<'a>, expr: &Expr<'_>, outcome: bool, scope: &mut TypeScope<'a>) {
    let truth = ConditionReader { schemas, scope }.truth(expr);
    let narrowings = expand_results(condition_narrowings(expr, outcome), scope);
    scope.add_narrowings(narrowings);
    scope.add_assumption(if outcome { truth } else { truth.negate() });
}

/// Adds the narrowings that follow from the results of conditions that variables hold.
fn expand_results(mut narrowings: Vec<(String, Narrowing)>, scope: &TypeScope<'_>) -> Vec<(String, Narrowing)> {
    let mut expanded = Vec::new();
    for (path, narrowing) in &narrowings {
        let established = match (scope.condition_result(path), narrowing) {
            (Some(result), Narrowing::Truthy) => &result.if_true,
            (Some(result), Narrowing::Falsy) => &result.if_false,
            (Some(_) | None, _) => continue,
        };
        expanded.extend(established.iter().cloned());
    }
    narrowings.append(&mut expanded);
    narrowings
}

impl<'a> Checker<'a> {
    /// Adds to a scope what is known if a condition evaluates to `outcome`.
    pub(super) fn assume(&self, expr: &Expr<'_>, outcome: bool, scope: &mut TypeScope<'a>) {
        assume(self.schemas, expr, outcome, scope);
    }

    /// The condition that the value of an expression is the result of.
    pub(super) fn condition_result(&self, expr: &Expr<'_>, scope: &TypeScope<'a>) -> ConditionResult {
        ConditionResult {
            truth: ConditionReader { schemas: self.schemas, scope }.truth(expr),
            if_true: expand_results(condition_narrowings(expr, true), scope),
            if_false: expand_results(condition_narrowings(expr, false), scope),
        }
    }

    /// Narrows the value of an expression by the facts that conditions have established.
    pub(super) fn narrow(
        &self,
        inferred: InferredValue<'a>,
        expr: &Expr<'_>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let mut narrowed = inferred;
        let reader = ConditionReader { schemas: self.schemas, scope };
        if let Some(path) = expression_path(expr) {
            narrowed.may_be_undefined &= !scope.has_narrowing(Some(&path), &Narrowing::Defined);
            if scope.has_narrowing(Some(&path), &Narrowing::NotNull) {
                narrowed.ty = narrowed.ty.without_null();
            }
            let is_nonempty = scope.has_narrowing(Some(&path), &Narrowing::Truthy)
                || reader.previous_round_exists(expr).is_some_and(|exists| scope.is_implied(&exists));
            if is_nonempty {
                narrowed.ty = narrowed.ty.without_empty_objects();
            }
            for (name, narrowing) in scope.type_narrowings(&path) {
                narrowed.ty = self.narrow_union(&narrowed.ty, name, narrowing);
            }
            narrowed.ty = narrow_numbers(narrowed.ty, Some(&path), scope);
        }
        if narrowed.may_be_undefined {
            narrowed.may_be_undefined = !scope.is_implied(&reader.presence(expr));
        }
        narrowed
    }

    /// Removes the branches of a union that contradict a narrowing. Returns the union unchanged if every branch does:
    /// then the mistake is in the condition, not in the value.
    fn narrow_union(&self, ty: &Type<'a>, name: &str, narrowing: &Narrowing) -> Type<'a> {
        let Type::Union(branches) = ty else { return ty.clone() };
        // A path with an index leads to an item of a list.
        if name.contains('[') {
            return ty.clone();
        }
        let compatible: Vec<Type<'a>> =
            branches.iter().filter(|branch| self.is_compatible(branch, name, narrowing)).cloned().collect();
        if compatible.is_empty() { ty.clone() } else { union(compatible) }
    }

    fn is_compatible(&self, branch: &Type<'a>, name: &str, narrowing: &Narrowing) -> bool {
        match narrowing {
            Narrowing::Kinds(kinds, expected) => branch.kind().is_none_or(|kind| kinds.contains(&kind) == *expected),
            Narrowing::OneOf(strings, true) => self
                .possible_strings(branch, name)
                .is_none_or(|possible| possible.iter().any(|string| contains(strings, string))),
            Narrowing::OneOf(strings, false) => self
                .possible_strings(branch, name)
                .is_none_or(|possible| possible.is_empty() || !possible.iter().all(|string| contains(strings, string))),
            Narrowing::Defined | Narrowing::Truthy => !matches!(self.path_property(branch, name), Property::Absent(_)),
            Narrowing::Undefined => !matches!(self.path_property(branch, name), Property::Present(_)),
            Narrowing::Falsy => match self.path_property(branch, name) {
                Property::Present(ty) => !ty.is_always_truthy(),
                Property::Optional(_) | Property::Absent(_) | Property::Open(_) => true,
            },
            Narrowing::NotNull
            | Narrowing::MinItems(_)
            | Narrowing::MaxItems(_)
            | Narrowing::NotZero
            | Narrowing::Positive
            | Narrowing::NotNegative => true,
        }
    }

    /// Whether the objects of a type have the property at a dotted path. Only a property that the type requires counts
    /// as present.
    fn path_property(&self, ty: &Type<'a>, path: &str) -> Property<'a> {
        let (name, remaining) = path.split_once('.').map_or((path, None), |(name, remaining)| (name, Some(remaining)));
        let property = match self.schemas.property(ty, name) {
            Some(Property::Present(_)) if !requires_property(ty, name) => return Property::Open(Vec::new()),
            Some(property) => property,
            // A value that is no object has no properties.
            None if ty.kind().is_some() => Property::Absent(Vec::new()),
            None => Property::Open(Vec::new()),
        };
        match (property, remaining) {
            (Property::Present(ty), Some(remaining)) => self.path_property(&ty, remaining),
            (Property::Optional(_) | Property::Open(_), Some(_)) => Property::Open(Vec::new()),
            (property, _) => property,
        }
    }

    /// The strings that the property at a dotted path can have; empty if the property never exists, `None` if the
    /// strings are unknown.
    fn possible_strings(&self, ty: &Type<'a>, name: &str) -> Option<Vec<&'a str>> {
        let (first, remaining) =
            name.split_once('.').map_or((name, None), |(first, remaining)| (first, Some(remaining)));
        let property = match self.schemas.property(ty, first)? {
            Property::Present(ty) => ty,
            Property::Optional(_) | Property::Open(_) => return None,
            Property::Absent(_) => return Some(Vec::new()),
        };
        match (remaining, property) {
            (Some(remaining), property) => self.possible_strings(&property, remaining),
            (None, Type::Text(Some(strings))) => Some(strings),
            (None, _) => None,
        }
    }
}

fn contains(strings: &[String], string: &str) -> bool {
    strings.iter().any(|candidate| candidate == string)
}
