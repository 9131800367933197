//! Recognizes templates that are only one expression: `{{ plan.steps }}`.

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::parse;

use super::inspect::template_syntax;

/// The source text of the expression of a template that is nothing but this expression in braces; `None` for any other
/// template, or if it can't be parsed.
pub fn sole_expression(template: &str) -> Option<&str> {
    // The parser drops a line break at the end.
    let inner = template.strip_suffix('\n').unwrap_or(template).strip_prefix("{{")?.strip_suffix("}}")?;
    let Ok(Stmt::Template(parsed)) = parse(template, "template", template_syntax()) else { return None };
    if !matches!(parsed.children.as_slice(), [Stmt::EmitExpr(_)]) {
        return None;
    }
    // A sign beside the braces removes white space around the tag.
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some(inner.strip_suffix(['-', '+']).unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_expression_without_other_text_counts() {
        for (template, expected) in [
            ("{{ plan.steps }}", Some(" plan.steps ")),
            ("{{a}}\n", Some("a")),
            ("{{- a | length -}}", Some(" a | length ")),
            ("{{ '}}' }}", Some(" '}}' ")),
            ("{{ a }}{{ b }}", None),
            ("{{ a }}{# note #}", None),
            (" {{ a }}", None),
            ("x {{ a }}", None),
            ("{{ a }} x", None),
            ("{% if a %}{{ a }}{% endif %}", None),
            ("{{ }}", None),
            ("{{ a", None),
            ("plain", None),
            ("", None),
        ] {
            assert_eq!(sole_expression(template), expected, "{template:?}");
        }
    }
}
