//! Derives facts about values from a condition, for the branch where it is true and for the one where it is false.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::scope::PathFact;
use super::types::TypeKind;

/// The path that an expression consists of, such as `plan.steps[0].title`; `None` for any other expression.
pub(super) fn path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(var) => Some(var.id.to_owned()),
        Expr::GetAttr(attr) => Some(format!("{}.{}", path(&attr.expr)?, attr.name)),
        Expr::GetItem(item) => {
            let base = path(&item.expr)?;
            if let Some(index) = index(&item.subscript_expr) {
                return Some(format!("{base}[{index}]"));
            }
            let Expr::Const(key) = &item.subscript_expr else { return None };
            key.value.as_str().map(|name| format!("{base}.{name}"))
        }
        _ => None,
    }
}

/// The integer that an expression consists of, such as `0` or `-1`; `None` for any other expression.
pub(super) fn index(expr: &Expr<'_>) -> Option<i64> {
    match expr {
        Expr::Const(constant) => constant.value.as_i64(),
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Neg) => index(&inner.expr)?.checked_neg(),
        _ => None,
    }
}

/// The facts that hold when the expression is true (`when`) or when it is false, each with the path that it is about.
pub(super) fn facts(expr: &Expr<'_>, when: bool) -> Vec<(String, PathFact)> {
    let mut found = Vec::new();
    collect(expr, when, &mut found);
    found
}

fn collect(expr: &Expr<'_>, when: bool, found: &mut Vec<(String, PathFact)>) {
    match expr {
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => collect(&inner.expr, !when, found),
        Expr::BinOp(inner) => match (inner.op, when) {
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                collect(&inner.left, when, found);
                collect(&inner.right, when, found);
            }
            (BinOpKind::ScAnd | BinOpKind::ScOr, _) => {}
            (BinOpKind::In, _) => contained(&inner.left, &inner.right, when, found),
            (op, _) => compared(op, &inner.left, &inner.right, when, found),
        },
        Expr::Test(inner) => {
            if let Some(path) = path(&inner.expr) {
                tested(path, inner.name, when, found);
            }
        }
        // A length is true in a condition when the list is not empty.
        Expr::Filter(_) => {
            if let (Some(path), true) = (measured(expr), when) {
                found.push((path, PathFact::True));
            }
        }
        other if when => found.extend(path(other).map(|path| (path, PathFact::True))),
        _ => {}
    }
}

/// The path whose length an expression takes.
fn measured(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Filter(inner) if matches!(inner.name, "length" | "count") => path(inner.expr.as_ref()?),
        _ => None,
    }
}

fn text(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
        _ => None,
    }
}

fn number(expr: &Expr<'_>) -> Option<u64> {
    match expr {
        Expr::Const(constant) => constant.value.as_usize().and_then(|number| u64::try_from(number).ok()),
        _ => None,
    }
}

/// Collects the facts that follow from `name in value` and `value in [...]`.
fn contained(item: &Expr<'_>, whole: &Expr<'_>, when: bool, found: &mut Vec<(String, PathFact)>) {
    if let (Some(name), Some(path), true) = (text(item), path(whole), when) {
        found.push((format!("{path}.{name}"), PathFact::Defined));
    }
    if let (Some(path), Expr::List(list)) = (path(item), whole) {
        let texts: Option<Vec<String>> = list.items.iter().map(text).collect();
        found.extend(texts.map(|texts| (path, PathFact::Among(texts, when))));
    }
}

fn compared(op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>, when: bool, found: &mut Vec<(String, PathFact)>) {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    // A comparison with an undefined value fails, so a true one shows that the value is defined.
    if when && matches!(op, Eq | Gt | Gte | Lt | Lte) {
        found.extend(path(left).map(|path| (path, PathFact::Defined)));
    }
    let equal = match (op, when) {
        (Eq, true) | (Ne, false) => Some(true),
        (Eq, false) | (Ne, true) => Some(false),
        _ => None,
    };
    for (value, constant) in [(left, right), (right, left)] {
        if let (Some(path), Some(text), Some(equal)) = (path(value), text(constant), equal) {
            found.push((path, PathFact::Among(vec![text], equal)));
        }
    }
    for (value, constant) in [(left, right), (right, left)] {
        let none = matches!(constant, Expr::Const(constant) if constant.value.is_none());
        if let (Some(path), true, Some(false)) = (path(value), none, equal) {
            found.push((path, PathFact::NotNull));
        }
    }
    let (list, op, than) = match (measured(left), measured(right)) {
        (Some(list), None) => (list, op, number(right)),
        (None, Some(list)) => (list, mirrored(op), number(left)),
        _ => return,
    };
    let Some(than) = than else { return };
    let least = match (op, when) {
        (Gt, true) | (Lte, false) => than.saturating_add(1),
        (Gte | Eq, true) | (Lt | Ne, false) => than,
        (Ne, true) | (Eq, false) if than == 0 => 1,
        _ => return,
    };
    found.push((list, PathFact::AtLeast(least)));
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
fn tested(path: String, name: &str, when: bool, found: &mut Vec<(String, PathFact)>) {
    let kinds = match name {
        "string" => vec![TypeKind::Text],
        "mapping" => vec![TypeKind::Object],
        "sequence" => vec![TypeKind::List],
        "boolean" => vec![TypeKind::Bool],
        "number" => vec![TypeKind::Number, TypeKind::Bool],
        "none" => vec![TypeKind::Null],
        _ => Vec::new(),
    };
    if !kinds.is_empty() {
        found.push((path.clone(), PathFact::Kinds(kinds, when)));
    }
    match (name, when) {
        ("defined", true) | ("undefined", false) => found.push((path, PathFact::Defined)),
        ("none", false) => found.push((path, PathFact::NotNull)),
        // These tests are also true for some undefined values: an undefined value is a sequence, and it is unequal to
        // everything.
        ("none" | "undefined" | "defined" | "false" | "sequence" | "iterable" | "ne" | "!=", _) => {}
        (_, true) => {
            found.push((path.clone(), PathFact::Defined));
            found.push((path, PathFact::NotNull));
        }
        _ => {}
    }
}
