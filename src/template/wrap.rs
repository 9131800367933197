//! Inserts filters around parts of a template, which turns the text as written into the text that runs.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::inspect::{begins_early, bytes};

/// A filter to insert around a part of a text.
#[derive(Clone, Debug)]
pub(super) struct Wrap {
    /// The byte range of the part in the text as written.
    pub(super) range: Range<usize>,
    /// The text that closes it, such as `)|__operand`.
    pub(super) close: &'static str,
}

/// The texts to insert for the wraps, sorted by offset in the text as written. At one offset, closing texts come first,
/// inner parts before outer ones, then opening texts.
pub(super) fn inserts(wraps: &[Wrap]) -> Vec<(usize, &'static str)> {
    let ends = wraps.iter().map(|wrap| (wrap.range.end, false, usize::MAX - wrap.range.start, wrap.close));
    let starts = wraps.iter().map(|wrap| (wrap.range.start, true, usize::MAX - wrap.range.end, "("));
    let mut all: Vec<_> = ends.chain(starts).collect();
    all.sort_by_key(|(at, starts, nesting, _)| (*at, *starts, *nesting));
    all.into_iter().map(|(at, _, _, text)| (at, text)).collect()
}

/// The byte range of an operand, including the parentheses around it, which nodes do not include.
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

/// Whether the `not` that has the same range as this expression is written before it, as in `not a in b`, and not
/// inside it.
fn is_before(text: &str, expr: &Expr<'_>) -> bool {
    match expr {
        Expr::BinOp(inner) => {
            let between = operand_extent(text, &inner.left).end..operand_extent(text, &inner.right).start;
            text.get(between).is_some_and(|operator| operator.trim() == "in")
        }
        Expr::Test(_) => false,
        _ => true,
    }
}

/// The byte range of an expression from its first operand to its last, including the parentheses around each.
///
/// The node of a chain such as `a.b[0]` or `a + b` only has the range of its last link.
pub(super) fn whole(text: &str, expr: &Expr<'_>) -> Range<usize> {
    let own = bytes(expr.span());
    let (first, last): (Option<&Expr<'_>>, Option<&Expr<'_>>) = match expr {
        Expr::GetAttr(inner) => (Some(&inner.expr), None),
        Expr::GetItem(inner) => (Some(&inner.expr), None),
        Expr::Slice(inner) => (Some(&inner.expr), None),
        Expr::Call(inner) => (Some(&inner.expr), None),
        Expr::Filter(inner) => (inner.expr.as_ref(), None),
        Expr::Test(inner) => (Some(&inner.expr), None),
        Expr::UnaryOp(inner) if begins_early(expr) && !is_before(text, &inner.expr) => {
            (Some(&inner.expr), Some(&inner.expr))
        }
        Expr::UnaryOp(inner) => (None, Some(&inner.expr)),
        Expr::BinOp(inner) => (Some(&inner.left), Some(&inner.right)),
        Expr::Compare(inner) => (Some(&inner.expr), inner.ops.last().map(|op| &op.expr)),
        Expr::IfExpr(inner) => (Some(&inner.true_expr), inner.false_expr.as_ref().or(Some(&inner.test_expr))),
        Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => (None, None),
    };
    let start = match first {
        Some(first) if begins_early(expr) => operand_extent(text, first).start,
        Some(first) => operand_extent(text, first).start.min(own.start),
        None => own.start,
    };
    let end = last.map_or(own.end, |last| operand_extent(text, last).end.max(own.end));
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
            let after = proptest::sample::select(&[" | string", " | default('')", "| length"][..]);
            prop_oneof![
                3 => binary.prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
                2 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} if {b} else {c}")),
                1 => inner.clone().prop_map(|expr| format!("(not {expr})")),
                1 => inner.clone().prop_map(|expr| format!("-{expr}")),
                // Without parentheses, a test would take the name after it for its argument.
                1 => inner.clone().prop_map(|expr| format!("({expr} is none)")),
                1 => inner.clone().prop_map(|expr| format!("({expr} is not string)")),
                2 => inner.clone().prop_map(|expr| format!("({expr})")),
                2 => (inner.clone(), after).prop_map(|(expr, after)| format!("{expr}{after}")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, ( {b} )]")),
                1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dict(k={a}, l={b})")),
                1 => (inner.clone(), inner).prop_map(|(a, b)| format!("range({a} == {b})")),
            ]
        });
        // After an operator, the parser takes `not` for a name.
        (proptest::bool::ANY, inner).prop_map(|(negated, expr)| if negated { format!("not {expr}") } else { expr })
    }

    /// The result of a text without orch's filters.
    fn plain(text: &str) -> Result<String, ()> {
        let env = environment();
        let template = env.template_from_str(text).map_err(|_| ())?;
        render(&template, &context()).map_err(|_| ())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// This also shows that the text that runs can be parsed: otherwise it would have no result to compare.
        #[test]
        fn a_text_gives_the_same_with_the_filters_around_its_parts(a in expressions(), b in expressions()) {
            for text in [
                format!("{{{{ {a} }}}}"),
                format!("{{% set x = {a} %}}{{{{ x }}}}"),
                format!("{{% set x={a} %}}{{% set y = ({b}) %}}{{{{ [x, y] }}}}"),
                format!("{{% set ns = namespace() %}}{{% set ns.x = {a} %}}{{{{ ns.x }}}}"),
                format!("{{% with x = {a}, y = {b} %}}{{{{ x }}}}{{{{ y }}}}{{% endwith %}}"),
                format!("{{% if {a} %}}yes{{% elif {b} %}}other{{% endif %}}"),
                format!("{{% for x in [1, 2] if {a} %}}{{{{ {b} }}}}{{% endfor %}}"),
            ] {
                let plain = plain(&text);
                let ours = Templates::new([("t", text.as_str())]).map_err(|_| ());
                let ours = ours.and_then(|templates| templates.render("t", &context()).map_err(|_| ()));
                prop_assert_eq!(ours, plain, "{}", text);
            }
            let value = eval(&a, &context()).map_err(|_| ());
            let plain = plain(&format!("{{{{ ({a}) | tojson(indent=0) }}}}"));
            prop_assert_eq!(value.map(|value| value.to_string()), plain, "{}", a);
        }
    }
}
