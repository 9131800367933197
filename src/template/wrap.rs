//! Filters put around parts of a template: how the text that runs differs from the text as written.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::inspect::bytes;

/// A filter that a part of a text runs through.
#[derive(Clone, Debug)]
pub(super) struct Wrap {
    /// The bytes of the part, as written.
    pub(super) range: Range<usize>,
    /// What closes it, such as `)|__operand`.
    pub(super) close: &'static str,
}

/// What is inserted for some wraps, by offset in the text as written: at one place first what ends there, inner parts
/// before outer ones, then what begins.
pub(super) fn inserts(wraps: &[Wrap]) -> Vec<(usize, &'static str)> {
    let ends = wraps.iter().map(|wrap| (wrap.range.end, false, usize::MAX - wrap.range.start, wrap.close));
    let starts = wraps.iter().map(|wrap| (wrap.range.start, true, usize::MAX - wrap.range.end, "("));
    let mut all: Vec<_> = ends.chain(starts).collect();
    all.sort_by_key(|(at, starts, nesting, _)| (*at, *starts, *nesting));
    all.into_iter().map(|(at, _, _, text)| (at, text)).collect()
}

/// The bytes of an operand, with the parentheses around it: nodes know nothing of theirs.
pub(super) fn operand_extent(text: &str, expr: &Expr<'_>) -> Range<usize> {
    let mut range = whole(text, expr);
    while let (Some(before), Some(after)) = (text.get(..range.start), text.get(range.end..)) {
        let (before, after) = (before.trim_end(), after.trim_start());
        if !before.ends_with('(') || !after.starts_with(')') {
            break;
        }
        range = before.len() - 1..text.len() - after.len() + 1;
    }
    range
}

/// The bytes of an expression from its first operand to its last, each with the parentheses around it.
///
/// The node of a chain such as `a.b[0]` or `a + b` only says where its last link is.
pub(super) fn whole(text: &str, expr: &Expr<'_>) -> Range<usize> {
    let own = bytes(expr.span());
    let (first, last): (Option<&Expr<'_>>, Option<&Expr<'_>>) = match expr {
        Expr::GetAttr(inner) => (Some(&inner.expr), None),
        Expr::GetItem(inner) => (Some(&inner.expr), None),
        Expr::Slice(inner) => (Some(&inner.expr), None),
        Expr::Call(inner) => (Some(&inner.expr), None),
        Expr::Filter(inner) => (inner.expr.as_ref(), None),
        Expr::Test(inner) => (Some(&inner.expr), None),
        Expr::UnaryOp(inner) => (None, Some(&inner.expr)),
        Expr::BinOp(inner) => (Some(&inner.left), Some(&inner.right)),
        Expr::Compare(inner) => (Some(&inner.expr), inner.ops.last().map(|op| &op.expr)),
        Expr::IfExpr(inner) => (Some(&inner.true_expr), inner.false_expr.as_ref().or(Some(&inner.test_expr))),
        Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => (None, None),
    };
    let start = first.map_or(own.start, |first| operand_extent(text, first).start.min(own.start));
    let end = last.map_or(own.end, |last| operand_extent(text, last).end.max(own.end));
    start..end
}
