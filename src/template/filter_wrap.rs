//! Computes the texts that orch inserts into a template's source to apply its own filters to parts of the template.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::ranges::{byte_range, has_operator, span_starts_too_early};

/// A filter to insert around a part of a text.
#[derive(Clone, Debug)]
pub(super) struct FilterWrap {
    /// The byte range of the part in the original text.
    pub(super) range: Range<usize>,
    /// The text that closes it, such as `)|__check_operand`.
    pub(super) closing_text: &'static str,
}

/// The texts to insert for the wraps, sorted by offset in the original text. At one offset, closing texts come first,
/// and then opening texts; closing texts of inner parts come before those of outer parts.
pub(super) fn insertions(wraps: &[FilterWrap]) -> Vec<(usize, &'static str)> {
    let closing_inserts =
        wraps.iter().map(|wrap| (wrap.range.end, false, usize::MAX - wrap.range.start, wrap.closing_text));
    let opening_inserts = wraps.iter().map(|wrap| (wrap.range.start, true, usize::MAX - wrap.range.end, "("));
    let mut inserts: Vec<_> = closing_inserts.chain(opening_inserts).collect();
    inserts.sort_by_key(|(offset, is_opening, order, _)| (*offset, *is_opening, *order));
    inserts.into_iter().map(|(offset, _, _, text)| (offset, text)).collect()
}

/// The byte range of an operand, including the parentheses around it, which the ranges of nodes omit.
pub(super) fn range_with_parentheses(text: &str, expr: &Expr<'_>) -> Range<usize> {
    let mut range = expression_range(text, expr);
    while let (Some(preceding), Some(following)) = (text.get(..range.start), text.get(range.end..)) {
        let (preceding, following) = (preceding.trim_end(), following.trim_start());
        if !preceding.ends_with('(') || !following.starts_with(')') {
            break;
        }
        range = preceding.len() - 1..text.len() - following.len() + 1;
    }
    range
}

/// The source text of an expression as it can stand before a filter, a test or an operator: in parentheses if it has
/// operators of its own.
pub(crate) fn operand_text(text: &str, expr: &Expr<'_>) -> String {
    let source = text.get(expression_range(text, expr)).unwrap_or_default();
    if has_operator(expr) { format!("({source})") } else { source.to_owned() }
}

/// Whether the source of a negated expression starts with `not`. `not a in b` and `a not in b` parse to the same nodes.
fn has_leading_not(text: &str, expr: &Expr<'_>) -> bool {
    match expr {
        Expr::BinOp(inner) => {
            let between =
                range_with_parentheses(text, &inner.left).end..range_with_parentheses(text, &inner.right).start;
            text.get(between).is_some_and(|operator| operator.trim() == "in")
        }
        Expr::Test(_) => false,
        _ => true,
    }
}

/// The byte range of an expression from its first operand to its last, including the parentheses around each.
///
/// MiniJinja's span for `a | length` covers only `length`, and for `a.b[0]` only `.b[0]`. For a comparison or a
/// conditional expression, it starts at the token before the first operand.
pub(crate) fn expression_range(text: &str, expr: &Expr<'_>) -> Range<usize> {
    let node_range = byte_range(expr.span());
    let (first, last): (Option<&Expr<'_>>, Option<&Expr<'_>>) = match expr {
        Expr::GetAttr(inner) => (Some(&inner.expr), None),
        Expr::GetItem(inner) => (Some(&inner.expr), None),
        Expr::Slice(inner) => (Some(&inner.expr), None),
        Expr::Call(inner) => (Some(&inner.expr), None),
        Expr::Filter(inner) => (inner.expr.as_ref(), None),
        Expr::Test(inner) => (Some(&inner.expr), None),
        Expr::UnaryOp(inner) if span_starts_too_early(expr) && !has_leading_not(text, &inner.expr) => {
            (Some(&inner.expr), Some(&inner.expr))
        }
        Expr::UnaryOp(inner) => (None, Some(&inner.expr)),
        Expr::BinOp(inner) => (Some(&inner.left), Some(&inner.right)),
        Expr::Compare(inner) => (Some(&inner.expr), inner.ops.last().map(|op| &op.expr)),
        Expr::IfExpr(inner) => (Some(&inner.true_expr), inner.false_expr.as_ref().or(Some(&inner.test_expr))),
        Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => (None, None),
    };
    let start = match first {
        Some(first) if span_starts_too_early(expr) => range_with_parentheses(text, first).start,
        Some(first) => range_with_parentheses(text, first).start.min(node_range.start),
        None => node_range.start,
    };
    let end = last.map_or(node_range.end, |last| range_with_parentheses(text, last).end.max(node_range.end));
    start..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use crate::template::{TemplateContext, Templates, environment, eval, render};

    fn context() -> TemplateContext {
        let mut context = TemplateContext::new();
        context.insert("n", &json!(2));
        context.insert("a", &json!({"b": [1, 2, 3], "c": "text", "d": null}));
        context
    }

    /// Expressions about the values of [`context`], with every operator, and with parentheses where they change
    /// nothing.
    fn expressions() -> impl Strategy<Value = String> {
        const LEAVES: &[&str] =
            &["n", "a.b", "a.c", "a['d']", "a.b[0]", "(n)", "1", "-n", "'x'", "[n, 1]", "{'k': n}", "a.b[:1]"];
        let leaf = proptest::sample::select(LEAVES).prop_map(str::to_owned);
        let inner = leaf.prop_recursive(4, 24, 3, |inner| {
            const OPERATORS: &[&str] = &[
                "==", "!=", "<", ">=", "in", "not in", "~", "+", "-", "*", "//", "**", "and", "or", "== 1 ==", "< n <",
            ];
            let binary = (inner.clone(), proptest::sample::select(OPERATORS), inner.clone());
            let suffix = proptest::sample::select(&[" | string", " | default('')", "| length"][..]);
            prop_oneof![
                3 => binary.prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
                2 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} if {b} else {c}")),
                1 => inner.clone().prop_map(|expr| format!("(not {expr})")),
                1 => inner.clone().prop_map(|expr| format!("-{expr}")),
                // Without parentheses, the parser would read the next name as the argument of a test.
                1 => inner.clone().prop_map(|expr| format!("({expr} is none)")),
                1 => inner.clone().prop_map(|expr| format!("({expr} is not string)")),
                2 => inner.clone().prop_map(|expr| format!("({expr})")),
                2 => (inner.clone(), suffix).prop_map(|(expr, suffix)| format!("{expr}{suffix}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, ( {b} )]")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dict(k={a}, l={b})")),
                1 => (inner.clone(), inner).prop_map(|(a, b)| format!("range({a} == {b})")),
            ]
        });
        // After an operator, the parser reads `not` as a name.
        (proptest::bool::ANY, inner).prop_map(|(negated, expr)| if negated { format!("not {expr}") } else { expr })
    }

    /// The result of a text without orch's filters.
    fn render_plain(text: &str) -> Result<String, ()> {
        let env = environment();
        let template = env.template_from_str(text).map_err(|_| ())?;
        render(&template, &context()).map_err(|_| ())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// This also shows that MiniJinja can parse the text with the filters, because otherwise it would have no
        /// result.
        #[test]
        fn filters_around_parts_do_not_change_the_result(a in expressions(), b in expressions()) {
            for text in [
                format!("{{{{ {a} }}}}"),
                format!("{{% set x = {a} %}}{{{{ x }}}}"),
                format!("{{% set x={a} %}}{{% set y = ({b}) %}}{{{{ [x, y] }}}}"),
                format!("{{% set ns = namespace() %}}{{% set ns.x = {a} %}}{{{{ ns.x }}}}"),
                format!("{{% with x = {a}, y = {b} %}}{{{{ x }}}}{{{{ y }}}}{{% endwith %}}"),
                format!("{{% if {a} %}}yes{{% elif {b} %}}other{{% endif %}}"),
                format!("{{% for x in [1, 2] if {a} %}}{{{{ {b} }}}}{{% endfor %}}"),
            ] {
                let expected = render_plain(&text);
                let actual = Templates::new([("t", text.as_str())]).map_err(|_| ());
                let actual = actual.and_then(|templates| templates.render("t", &context()).map_err(|_| ()));
                prop_assert_eq!(actual, expected, "{}", text);
            }
            let value = eval(&a, &context()).map_err(|_| ());
            let expected = render_plain(&format!("{{{{ ({a}) | tojson(indent=0) }}}}"));
            prop_assert_eq!(value.map(|value| value.to_string()), expected, "{}", a);
        }
    }
}
