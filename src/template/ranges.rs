//! The byte ranges of a template's nodes. MiniJinja's own spans do not always cover the whole node.

use std::ops::Range;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOpKind, Expr};

/// The byte range of a node.
pub(crate) fn byte_range(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

/// The byte range of an expression. MiniJinja's span for a chain such as `a.b[0].c` covers only its end, so the range
/// starts at the chain's first value.
pub(crate) fn expr_range(expr: &Expr<'_>) -> Range<usize> {
    let node_range = byte_range(expr.span());
    let first = match expr {
        Expr::GetAttr(inner) => Some(&inner.expr),
        Expr::GetItem(inner) => Some(&inner.expr),
        Expr::Slice(inner) => Some(&inner.expr),
        Expr::Call(inner) => Some(&inner.expr),
        Expr::Filter(inner) => inner.expr.as_ref(),
        Expr::Test(inner) => Some(&inner.expr),
        Expr::BinOp(inner) => Some(&inner.left),
        Expr::Compare(inner) => Some(&inner.expr),
        Expr::IfExpr(inner) => Some(&inner.true_expr),
        Expr::UnaryOp(inner) if span_starts_too_early(expr) => Some(&inner.expr),
        Expr::Var(_) | Expr::Const(_) | Expr::UnaryOp(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => None,
    };
    let start = match first {
        Some(first) if span_starts_too_early(expr) => expr_range(first).start,
        Some(first) => expr_range(first).start.min(node_range.start),
        None => node_range.start,
    };
    start..node_range.end
}

/// Whether an expression needs parentheses before a filter, a test or an operator.
pub(super) fn has_operator(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::BinOp(_) | Expr::Compare(_) | Expr::IfExpr(_) | Expr::UnaryOp(_) | Expr::Test(_))
}

/// Whether an expression only looks up an existing value, and creates none.
pub(super) fn is_lookup(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_))
}

/// Whether the range of a node may begin before its first operand, because the parser starts conditional expressions
/// and comparisons at the token before them. `a is not b` is `not` around `a is b`, and `a not in b` around `a in b`,
/// with the same range.
pub(super) fn span_starts_too_early(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::IfExpr(_) | Expr::Compare(_) => true,
        Expr::BinOp(inner) => is_in(inner.op) || is_comparison(inner.op),
        Expr::UnaryOp(inner) => {
            let has_same_range = byte_range(inner.span()) == byte_range(inner.expr.span());
            let negates_operand = matches!(&inner.expr, Expr::Test(_))
                || matches!(&inner.expr, Expr::BinOp(operation) if is_in(operation.op));
            has_same_range && negates_operand
        }
        _ => false,
    }
}

/// The byte range of a name at the end of a node, such as a property or a filter without arguments.
pub(crate) fn trailing_name_range(span: Span, name: &str) -> Range<usize> {
    let end = span.end_offset as usize;
    end.saturating_sub(name.len())..end
}

/// The byte range of the name of a filter or test: its first occurrence after the operand.
pub(crate) fn name_range_after(text: &str, operand: Option<&Expr<'_>>, span: Span, name: &str) -> Range<usize> {
    let node_range = byte_range(span);
    let search_start = operand.map_or(node_range.start, |expr| byte_range(expr.span()).end).min(node_range.end);
    match text.get(search_start..node_range.end).and_then(|remaining| remaining.find(name)) {
        Some(offset) => search_start + offset..search_start + offset + name.len(),
        None => node_range,
    }
}

/// Whether orch must check the operands of an operator, because it compares them. Excludes `in`, for which MiniJinja
/// itself refuses undefined values.
pub(super) fn is_comparison(op: BinOpKind) -> bool {
    use BinOpKind::{Eq, Gt, Gte, Lt, Lte, Ne};
    matches!(op, Eq | Ne | Lt | Lte | Gt | Gte)
}

fn is_in(op: BinOpKind) -> bool {
    matches!(op, BinOpKind::In)
}
