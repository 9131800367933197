//! Explains why a `pattern` can't be used. orch matches patterns in time that is linear in the text, so that no pattern
//! in a schema can hang a run. Look-around and back-references need backtracking, which is not linear.

use std::fmt;

/// The parts of a pattern that need backtracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backtracking {
    LookAhead,
    LookBehind,
    BackReference,
}

impl fmt::Display for Backtracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LookAhead => "look-ahead",
            Self::LookBehind => "look-behind",
            Self::BackReference => "a back-reference",
        })
    }
}

/// Explains a pattern that does not compile: the message, and what the user can do about it if there is advice.
pub(super) fn explain(pattern: &str) -> (String, Option<String>) {
    if let Some((what, written)) = backtracking(pattern) {
        let message = format!("the pattern `{pattern}` uses {what} (`{written}`), which is not supported");
        let instead = "say what must match and what must not as patterns of their own: \
                       `\"allOf\": [{ \"pattern\": \"…\" }], \"not\": { \"pattern\": \"…\" }`";
        return (message, Some(instead.to_owned()));
    }
    match regex::Regex::new(pattern) {
        Err(regex::Error::CompiledTooBig(_)) | Ok(_) => (
            format!("the pattern `{pattern}` is too large when compiled"),
            Some("use lower repetition counts, or `maxLength` beside the pattern".to_owned()),
        ),
        Err(error) => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            (format!("the pattern `{pattern}` is not a regular expression: {why}"), None)
        }
    }
}

/// The first part of a pattern that needs backtracking, with its source text.
fn backtracking(pattern: &str) -> Option<(Backtracking, &str)> {
    let mut in_class = false;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '\\' => {
                let next = rest.get(1..)?.chars().next()?;
                taken += next.len_utf8();
                if !in_class && (matches!(next, '1'..='9') || rest.starts_with("\\k<")) {
                    return Some((Backtracking::BackReference, rest.get(..taken)?));
                }
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                let found = [("(?=", Backtracking::LookAhead), ("(?!", Backtracking::LookAhead)];
                let found =
                    found.into_iter().chain([("(?<=", Backtracking::LookBehind), ("(?<!", Backtracking::LookBehind)]);
                if let Some((written, what)) = found.into_iter().find(|(open, _)| rest.starts_with(open)) {
                    return Some((what, written));
                }
            }
            _ => {}
        }
        rest = rest.get(taken..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::schema::Schema;

    #[test]
    fn what_needs_backtracking_is_named_with_a_way_out() {
        for (pattern, what) in [
            ("^(?!eo:)[a-z]+$", "uses look-ahead (`(?!`)"),
            (r"a(?=b)", "uses look-ahead (`(?=`)"),
            (r"(?<=a)b", "uses look-behind (`(?<=`)"),
            (r"(a)\1", r"uses a back-reference (`\1`)"),
            (r"(?<n>a)\k<n>", r"uses a back-reference (`\k`)"),
        ] {
            for schema in [json!({ "pattern": pattern }), json!({ "patternProperties": { pattern: true } })] {
                let error = Schema::compile("a", schema).unwrap_err();
                assert!(error.pointer.to_lowercase().starts_with("/pattern"), "{error:?}");
                assert!(error.message.contains(what), "{pattern}: {error}");
                assert!(error.help.unwrap().contains("\"not\""), "{pattern}");
            }
        }
    }

    #[test]
    fn the_way_out_means_the_same() {
        let schema = json!({ "allOf": [{ "pattern": "^[a-z:]+$" }], "not": { "pattern": "^eo:" } });
        let schema = Schema::compile("a", schema).unwrap();
        assert!(schema.is_valid(&json!("abc")) && !schema.is_valid(&json!("eo:abc")) && !schema.is_valid(&json!("A")));
    }

    #[test]
    fn other_mistakes_of_patterns_are_told_apart() {
        let error = |pattern: &str| Schema::compile("a", json!({ "pattern": pattern })).unwrap_err().message;
        assert!(error("(a").contains("not a regular expression: unclosed group"), "{}", error("(a"));
        assert!(error("(.{1000}){1000}").contains("too large"), "{}", error("(.{1000}){1000}"));
        for fine in [r"[(?!]", r"\(?!a", r"\\1", "(?:a)"] {
            let value: Value = json!({ "pattern": fine });
            assert!(Schema::compile("a", value).is_ok(), "{fine}");
        }
    }
}
