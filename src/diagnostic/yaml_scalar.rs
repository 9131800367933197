//! Writes expressions as YAML values in messages.

use std::borrow::Cow;

/// The text of an expression as the user can write it as a value in YAML: with quotes if YAML would read another value
/// without them.
pub fn expression_in_yaml(expression: &str) -> Cow<'_, str> {
    if is_plain(expression) {
        Cow::Borrowed(expression)
    } else if !expression.contains(['"', '\\']) {
        Cow::Owned(format!("\"{expression}\""))
    } else {
        Cow::Owned(format!("'{}'", expression.replace('\'', "''")))
    }
}

/// Whether YAML reads a text without quotes as the same string, also between brackets and braces.
fn is_plain(text: &str) -> bool {
    let starts_plain = text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '(');
    let has_indicator =
        text.contains(['[', ']', '{', '}', ',', '?', '\n']) || text.contains(": ") || text.contains(" #");
    let is_constant = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    starts_plain && !has_indicator && !is_constant && !text.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_written_only_where_yaml_needs_them() {
        for text in ["plan.steps", "task == 'x'", "not (a or b)", "items | length > 3"] {
            assert_eq!(expression_in_yaml(text), text);
        }
        for (text, written) in [
            ("'a' in task", "\"'a' in task\""),
            ("[a, 'b']", "\"[a, 'b']\""),
            ("plan.steps[0].id", "\"plan.steps[0].id\""),
            ("-1", "\"-1\""),
            ("true", "\"true\""),
            ("\"a\" ~ b", "'\"a\" ~ b'"),
            ("a ~ \"it's\" ~ \"b: c\"", "'a ~ \"it''s\" ~ \"b: c\"'"),
        ] {
            assert_eq!(expression_in_yaml(text), written, "{text}");
        }
    }
}
