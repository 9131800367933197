//! Type narrowing: derives facts about values from a condition, for the branch in which it is true and for the branch
//! in which it is false, and narrows the types of these values.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::index_paths::{comparison_pairs, index_text};
use super::infer::Checker;
use super::number_signs::{narrow_numbers, sign_narrowing};
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::types::{Property, Type, TypeKind, union};

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
                collect_test(path, inner.name, outcome, narrowings);
            }
        }
        // A length counts as true only if the list is not empty.
        Expr::Filter(_) => {
            if let (Some(path), true) = (length_operand(expr), outcome) {
                narrowings.push((path, Narrowing::Truthy));
            }
        }
        other if outcome => narrowings.extend(expression_path(other).map(|path| (path, Narrowing::Truthy))),
        _ => {}
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

/// Collects the narrowings that follow from a test such as `is string`.
fn collect_test(path: String, test: &str, outcome: bool, narrowings: &mut Vec<(String, Narrowing)>) {
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
        narrowings.push((path.clone(), Narrowing::Kinds(kinds, outcome)));
    }
    match (test, outcome) {
        ("defined", true) | ("undefined", false) => narrowings.push((path, Narrowing::Defined)),
        ("none", false) => narrowings.push((path, Narrowing::NotNull)),
        // The results of these tests establish nothing: they can be the same for an undefined value, which is a
        // sequence and differs from every other value.
        ("none" | "undefined" | "defined" | "false" | "sequence" | "iterable" | "ne" | "!=", _) => {}
        (_, true) => {
            narrowings.push((path.clone(), Narrowing::Defined));
            narrowings.push((path, Narrowing::NotNull));
        }
        _ => {}
    }
}

impl<'a> Checker<'a> {
    /// Narrows a value by the facts that conditions have established about its path.
    pub(super) fn narrow(
        &self,
        inferred: InferredValue<'a>,
        path: Option<&String>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let Some(path) = path else { return inferred };
        let may_be_undefined = inferred.may_be_undefined && !scope.has_narrowing(Some(path), &Narrowing::Defined);
        let mut ty =
            if scope.has_narrowing(Some(path), &Narrowing::NotNull) { inferred.ty.without_null() } else { inferred.ty };
        for (name, narrowing) in scope.type_narrowings(path) {
            ty = self.narrow_union(&ty, name, narrowing);
        }
        ty = narrow_numbers(ty, Some(path), scope);
        InferredValue { ty, may_be_undefined, declared_properties: inferred.declared_properties }
    }

    /// Removes the branches of a union that contradict a narrowing. Returns the union unchanged if every branch does:
    /// then the mistake is in the condition, not in the value.
    fn narrow_union(&self, ty: &Type<'a>, name: &str, narrowing: &Narrowing) -> Type<'a> {
        let Type::Union(branches) = ty else { return ty.clone() };
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
            Narrowing::Defined
            | Narrowing::NotNull
            | Narrowing::Truthy
            | Narrowing::MinItems(_)
            | Narrowing::MaxItems(_)
            | Narrowing::NotZero
            | Narrowing::Positive
            | Narrowing::NotNegative => true,
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
