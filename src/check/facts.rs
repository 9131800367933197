//! Derives facts about values from a condition, both for the branch where it is true and for the other branch.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::scope::PathFact;
use super::types::TypeKind;

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
            let Expr::Const(key) = &item.subscript_expr else { return None };
            key.value.as_str().map(|name| format!("{base}.{name}"))
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

/// The facts that hold when the expression evaluates to `outcome`, each with the path of its value.
pub(super) fn condition_facts(expr: &Expr<'_>, outcome: bool) -> Vec<(String, PathFact)> {
    let mut collected = Vec::new();
    collect(expr, outcome, &mut collected);
    collected
}

fn collect(expr: &Expr<'_>, outcome: bool, facts: &mut Vec<(String, PathFact)>) {
    match expr {
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => collect(&inner.expr, !outcome, facts),
        Expr::BinOp(inner) => match (inner.op, outcome) {
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                collect(&inner.left, outcome, facts);
                collect(&inner.right, outcome, facts);
            }
            (BinOpKind::ScAnd | BinOpKind::ScOr, _) => {}
            (BinOpKind::In, _) => collect_membership(&inner.left, &inner.right, outcome, facts),
            (op, _) => collect_comparison(op, &inner.left, &inner.right, outcome, facts),
        },
        Expr::Test(inner) => {
            if let Some(path) = expression_path(&inner.expr) {
                collect_test(path, inner.name, outcome, facts);
            }
        }
        // A length is true in a condition when the list is not empty.
        Expr::Filter(_) => {
            if let (Some(path), true) = (length_operand(expr), outcome) {
                facts.push((path, PathFact::True));
            }
        }
        other if outcome => facts.extend(expression_path(other).map(|path| (path, PathFact::True))),
        _ => {}
    }
}

/// The path whose length an expression computes.
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

/// Collects the facts that follow from `key in value` and `value in [...]`.
fn collect_membership(item: &Expr<'_>, container: &Expr<'_>, outcome: bool, facts: &mut Vec<(String, PathFact)>) {
    if let (Some(key), Some(path), true) = (string_constant(item), expression_path(container), outcome) {
        facts.push((format!("{path}.{key}"), PathFact::Defined));
    }
    if let (Some(path), Expr::List(list)) = (expression_path(item), container) {
        let texts: Option<Vec<String>> = list.items.iter().map(string_constant).collect();
        facts.extend(texts.map(|texts| (path, PathFact::OneOf(texts, outcome))));
    }
}

fn collect_comparison(
    op: BinOpKind,
    left: &Expr<'_>,
    right: &Expr<'_>,
    outcome: bool,
    facts: &mut Vec<(String, PathFact)>,
) {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    // A comparison with an undefined value fails, so a true one shows that the value is defined.
    if outcome && matches!(op, Eq | Gt | Gte | Lt | Lte) {
        facts.extend(expression_path(left).map(|path| (path, PathFact::Defined)));
    }
    let equal = match (op, outcome) {
        (Eq, true) | (Ne, false) => Some(true),
        (Eq, false) | (Ne, true) => Some(false),
        _ => None,
    };
    for (value, constant) in [(left, right), (right, left)] {
        if let (Some(path), Some(text), Some(equal)) = (expression_path(value), string_constant(constant), equal) {
            facts.push((path, PathFact::OneOf(vec![text], equal)));
        }
    }
    for (value, constant) in [(left, right), (right, left)] {
        let is_null = matches!(constant, Expr::Const(constant) if constant.value.is_none());
        if let (Some(path), true, Some(false)) = (expression_path(value), is_null, equal) {
            facts.push((path, PathFact::NotNull));
        }
    }
    let (list, op, count) = match (length_operand(left), length_operand(right)) {
        (Some(list), None) => (list, op, integer_constant(right)),
        (None, Some(list)) => (list, mirrored(op), integer_constant(left)),
        _ => return,
    };
    let Some(count) = count else { return };
    let min_items = match (op, outcome) {
        (Gt, true) | (Lte, false) => count.saturating_add(1),
        (Gte | Eq, true) | (Lt | Ne, false) => count,
        (Ne, true) | (Eq, false) if count == 0 => 1,
        _ => return,
    };
    facts.push((list, PathFact::MinItems(min_items)));
}

/// The operator that gives the same result with its two sides exchanged.
fn mirrored(op: BinOpKind) -> BinOpKind {
    match op {
        BinOpKind::Gt => BinOpKind::Lt,
        BinOpKind::Gte => BinOpKind::Lte,
        BinOpKind::Lt => BinOpKind::Gt,
        BinOpKind::Lte => BinOpKind::Gte,
        other => other,
    }
}

/// Collects the facts that follow from a test such as `is string`.
fn collect_test(path: String, test: &str, outcome: bool, facts: &mut Vec<(String, PathFact)>) {
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
        facts.push((path.clone(), PathFact::Kinds(kinds, outcome)));
    }
    match (test, outcome) {
        ("defined", true) | ("undefined", false) => facts.push((path, PathFact::Defined)),
        ("none", false) => facts.push((path, PathFact::NotNull)),
        // These tests are also true for some undefined values: an undefined value is a sequence, and it is unequal to
        // everything.
        ("none" | "undefined" | "defined" | "false" | "sequence" | "iterable" | "ne" | "!=", _) => {}
        (_, true) => {
            facts.push((path.clone(), PathFact::Defined));
            facts.push((path, PathFact::NotNull));
        }
        _ => {}
    }
}
