//! The texts of computed indexes, such as `list[n + 1]`, by which conditions about items are found again.

use minijinja::machinery::ast::{BinOpKind, Compare, CompareOp, CompareOpKind, Expr, UnaryOpKind};

use super::narrowing::expression_path;

/// The text of an expression that computes an index, such as `loop.index0` or `n + 1`. Expressions with the same text
/// have the same value. `None` for an expression that is too complex to recognize.
pub(super) fn index_text(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Const(constant) => constant.value.as_i64().map(|number| number.to_string()),
        Expr::UnaryOp(inner) if matches!(inner.op, UnaryOpKind::Neg) => Some(format!("-{}", index_text(&inner.expr)?)),
        Expr::BinOp(inner) => {
            let operator = match inner.op {
                BinOpKind::Add => "+",
                BinOpKind::Sub => "-",
                BinOpKind::Mul => "*",
                BinOpKind::FloorDiv => "//",
                BinOpKind::Rem => "%",
                _ => return None,
            };
            Some(format!("{} {operator} {}", index_text(&inner.left)?, index_text(&inner.right)?))
        }
        Expr::Filter(inner) if matches!(inner.name, "length" | "count") => {
            Some(format!("{} | length", expression_path(inner.expr.as_ref()?)?))
        }
        other => expression_path(other),
    }
}

/// The comparisons that a chain such as `0 <= n < 3` consists of.
pub(super) fn comparison_pairs<'b, 'a>(
    comparison: &'b Compare<'a>,
) -> impl Iterator<Item = (BinOpKind, &'b Expr<'a>, &'b Expr<'a>)> {
    let operands = std::iter::once(&comparison.expr).chain(comparison.ops.iter().map(|op| &op.expr));
    let pairs = operands.zip(&comparison.ops);
    pairs.filter_map(|(left, op)| Some((operator_kind(op)?, left, &op.expr)))
}

/// The operator of a comparison in a chain; `None` for `in`.
pub(super) fn operator_kind(op: &CompareOp<'_>) -> Option<BinOpKind> {
    match op.op {
        CompareOpKind::Eq => Some(BinOpKind::Eq),
        CompareOpKind::Ne => Some(BinOpKind::Ne),
        CompareOpKind::Lt => Some(BinOpKind::Lt),
        CompareOpKind::Lte => Some(BinOpKind::Lte),
        CompareOpKind::Gt => Some(BinOpKind::Gt),
        CompareOpKind::Gte => Some(BinOpKind::Gte),
        CompareOpKind::In | CompareOpKind::NotIn => None,
    }
}
