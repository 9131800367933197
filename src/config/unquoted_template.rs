//! Advice for a template without quotes in a YAML file. YAML reads `{{ x }}` as a mapping with a mapping as its key.

use crate::diagnostic::expression_in_yaml;
use crate::template::expression_in_braces;

/// The keys whose value is an expression.
const EXPRESSION_KEYS: [&str; 7] = ["when", "until", "success", "for_each", "write", "stdin", "that"];
/// The keys of mappings from names to expressions.
const EXPRESSION_MAPPINGS: [&str; 2] = ["with", "outputs"];

/// The advice for a value at `pointer` that begins with two braces, the second of which is at the byte `offset` of the
/// text; `None` for a value with another beginning.
pub(super) fn advice(text: &str, offset: usize, pointer: &str) -> Option<String> {
    let template = text.get(offset.checked_sub(1)?..).filter(|template| template.starts_with("{{"))?;
    if !is_expression(pointer) {
        return Some("put quotes around a string that begins with `{{`".to_owned());
    }
    let line = template.lines().next().unwrap_or_default();
    let end = line.find("}}").map(|braces| braces + 2);
    let (braces, rest) = end.and_then(|end| line.split_at_checked(end)).unwrap_or(("", ""));
    // What follows the braces may be another part of the value.
    let is_whole = rest.trim_start().is_empty() || rest.trim_start().starts_with([',', '}', ']', '#']);
    Some(match expression_in_braces(braces).filter(|_| is_whole) {
        Some(expression) => format!("an expression has no braces: write `{}`", expression_in_yaml(expression)),
        None => "an expression has no braces: write it without them, in quotes".to_owned(),
    })
}

/// Whether the value at a pointer of a pipeline file is an expression.
fn is_expression(pointer: &str) -> bool {
    let mut segments = pointer.rsplit('/');
    let (key, parent) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    EXPRESSION_MAPPINGS.contains(&parent) || EXPRESSION_KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_shown_without_its_braces() {
        for (line, pointer, expected) in [
            ("{{ plan.steps }}", "/steps/0/for_each", Some("write `plan.steps`")),
            ("{{ 'a' in task }} # why", "/steps/0/when", Some("write `\"'a' in task\"`")),
            ("{{ item }}, b: 1 }", "/steps/0/with/a", Some("write `item`")),
            ("{{ a }} and {{ b }}", "/steps/0/when", Some("without them, in quotes")),
            ("{{ a", "/steps/0/when", Some("without them, in quotes")),
            ("{{ task }}", "/steps/0/run", Some("put quotes around")),
            ("{ [a]: b }", "/steps/0/run", None),
        ] {
            let advice = advice(line, 1, pointer);
            assert_eq!(advice.is_some(), expected.is_some(), "{line}");
            assert!(advice.as_deref().unwrap_or_default().contains(expected.unwrap_or_default()), "{line}: {advice:?}");
        }
        assert_eq!(advice("{{ a }}", 0, "/when"), None);
    }
}
