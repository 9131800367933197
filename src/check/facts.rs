//! What a condition shows of the values in it, when it is true and when it is false.

use minijinja::machinery::ast::{BinOpKind, Expr, UnaryOpKind};

use super::scope::Fact;

/// The path that an expression is, such as `plan.steps[0].title`; `None` for anything else.
pub(super) fn path(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(var) => Some(var.id.to_owned()),
        Expr::GetAttr(attr) => Some(format!("{}.{}", path(&attr.expr)?, attr.name)),
        Expr::GetItem(item) => {
            let base = path(&item.expr)?;
            let Expr::Const(key) = &item.subscript_expr else { return None };
            match (key.value.as_str(), key.value.as_usize()) {
                (Some(name), _) => Some(format!("{base}.{name}")),
                (None, Some(index)) => Some(format!("{base}[{index}]")),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

/// The facts that hold when the expression is true, or when it is false.
pub(super) fn facts(expr: &Expr<'_>, when: bool) -> Vec<(String, Fact)> {
    let mut found = Vec::new();
    collect(expr, when, &mut found);
    found
}

fn collect(expr: &Expr<'_>, when: bool, found: &mut Vec<(String, Fact)>) {
    match expr {
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Not) => collect(&inner.expr, !when, found),
        Expr::BinOp(inner) => match (inner.op, when) {
            (BinOpKind::ScAnd, true) | (BinOpKind::ScOr, false) => {
                collect(&inner.left, when, found);
                collect(&inner.right, when, found);
            }
            // A comparison with a value that is not there fails, so that it was there.
            (BinOpKind::Eq | BinOpKind::Gt | BinOpKind::Gte | BinOpKind::Lt | BinOpKind::Lte, true) => {
                found.extend(path(&inner.left).map(|path| (path, Fact::Defined)));
            }
            _ => {}
        },
        Expr::Test(inner) => {
            let Some(path) = path(&inner.expr) else { return };
            match (inner.name, when) {
                ("defined", true) | ("undefined", false) => found.push((path, Fact::Defined)),
                ("none", false) => found.push((path, Fact::NotNull)),
                (name, true) if !matches!(name, "none" | "undefined" | "defined" | "false") => {
                    found.push((path.clone(), Fact::Defined));
                    found.push((path, Fact::NotNull));
                }
                _ => {}
            }
        }
        // The length of a list is true when the list is.
        Expr::Filter(inner) if when && matches!(inner.name, "length" | "count") => {
            if let Some(path) = inner.expr.as_ref().and_then(path) {
                found.push((path, Fact::True));
            }
        }
        other if when => found.extend(path(other).map(|path| (path, Fact::True))),
        _ => {}
    }
}
