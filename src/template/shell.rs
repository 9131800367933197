//! Renders command lines for a shell. Values never become part of the script.
//!
//! Each value that a template prints goes into an environment variable, and the script refers to that variable. A shell
//! does not parse the value of a variable, so no value can end a quotation or start a command, wherever the
//! reference is. The form of the reference depends on the quotes around it: `"${V}"` outside of quotes (one word,
//! whatever the value contains), `${V}` in double quotes, `'"${V}"'` in single quotes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::{Output, State, Value as TemplateValue};

/// A script and the variables that contain its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellScript {
    /// The command line for `sh -c`.
    pub script: String,
    /// The names and values of the variables that the script refers to.
    pub values: Vec<(String, String)>,
}

/// The private-use characters around the number of a value, which together are the marker of the value in the rendered
/// text.
const MARKER_START: char = '\u{F8FA}';
const MARKER_END: char = '\u{F8FB}';
/// The private-use character for the digit 0 of the random number in the markers; the other digits follow it.
const RANDOM_DIGIT_ZERO: u32 = 0xF8E0;

/// The values that a rendering printed, in order.
#[derive(Clone)]
pub(super) struct ShellValues {
    stored: Arc<Mutex<Vec<String>>>,
    /// The start of the markers. It contains a random number, so that no value can contain a marker, in private-use
    /// characters, so that filters such as `upper` do not change it.
    marker_start: Arc<str>,
}

impl ShellValues {
    pub(super) fn new() -> Self {
        let number = RandomState::new().build_hasher().finish();
        let digit = |index: u32| u32::try_from((number >> (4 * index)) & 0xf).ok();
        let digits = (0..16).filter_map(|index| char::from_u32(RANDOM_DIGIT_ZERO + digit(index)?));
        let marker_start: String = std::iter::once(MARKER_START).chain(digits).collect();
        Self { stored: Arc::default(), marker_start: marker_start.into() }
    }

    /// A formatter that stores each value and prints a marker in its place.
    pub(super) fn formatter(
        &self,
    ) -> impl Fn(&mut Output, &mut State, &TemplateValue) -> Result<(), minijinja::Error> + Send + Sync + 'static {
        let values = self.clone();
        move |out, state, value| {
            if value.is_undefined() {
                // The engine's own formatter reports it.
                return minijinja::escape_formatter(out, state, value);
            }
            let text = values.replace_markers(&value.to_string());
            let mut stored = values.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let marker = format!("{}{}{MARKER_END}", values.marker_start, stored.len());
            stored.push(text);
            out.write_str(&marker).map_err(minijinja::Error::from)
        }
    }

    /// Replaces the markers in a text by their values. For example, a `set` block captures markers.
    fn replace_markers(&self, text: &str) -> String {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(text.len());
        for piece in split_at_markers(text, &self.marker_start) {
            match piece {
                ShellPiece::Text(text) => out.push_str(text),
                ShellPiece::Value(index) => out.push_str(stored.get(index).map_or("", String::as_str)),
            }
        }
        out
    }

    /// The script with a reference to a variable in place of each marker.
    pub(super) fn into_script(self, text_with_markers: &str) -> ShellScript {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut script, mut values) = (String::with_capacity(text_with_markers.len()), Vec::new());
        let mut quotes = Quotes::default();
        for piece in split_at_markers(text_with_markers, &self.marker_start) {
            match piece {
                ShellPiece::Text(text) => {
                    quotes.advance_text(text);
                    script.push_str(text);
                }
                ShellPiece::Value(index) => {
                    let name = format!("ORCH_VALUE_{}", values.len() + 1);
                    script.push_str(&quotes.reference(&name));
                    values.push((name, stored.get(index).cloned().unwrap_or_default()));
                }
            }
        }
        ShellScript { script, values }
    }
}

enum ShellPiece<'a> {
    Text(&'a str),
    Value(usize),
}

/// Splits a text at its markers, which begin with `marker_start`.
fn split_at_markers<'a>(text: &'a str, marker_start: &str) -> Vec<ShellPiece<'a>> {
    let mut out = Vec::new();
    let mut remaining = text;
    while let Some((preceding, numbered)) = remaining.split_once(marker_start) {
        let Some((number, following)) = numbered.split_once(MARKER_END) else { break };
        let Ok(index) = number.parse() else { break };
        out.push(ShellPiece::Text(preceding));
        out.push(ShellPiece::Value(index));
        remaining = following;
    }
    out.push(ShellPiece::Text(remaining));
    out
}

/// The quotes that are open at a position of a script.
#[derive(Debug, Default)]
struct Quotes {
    /// The open quotes, innermost last: `'`, `"`, or `(` for a command substitution.
    open: Vec<char>,
    /// Whether a backslash escapes the next character.
    escaped: bool,
    /// Whether the next character follows a `$`.
    after_dollar: bool,
}

impl Quotes {
    fn advance_text(&mut self, text: &str) {
        for c in text.chars() {
            self.advance_char(c);
        }
    }

    fn advance_char(&mut self, c: char) {
        let (escaped, after_dollar) = (self.escaped, self.after_dollar);
        (self.escaped, self.after_dollar) = (false, false);
        let innermost = self.open.last().copied();
        match (innermost, c) {
            (Some('\''), '\'') => drop(self.open.pop()),
            (Some('\''), _) => {}
            _ if escaped => {}
            (_, '\\') => self.escaped = true,
            (_, '$') => self.after_dollar = true,
            (_, '(') if after_dollar => self.open.push('('),
            (Some('('), ')') => drop(self.open.pop()),
            (Some('"'), '"') => drop(self.open.pop()),
            (Some('"'), _) => {}
            (_, '"' | '\'') => self.open.push(c),
            _ => {}
        }
    }

    /// Returns the reference to a variable at this position, which the shell expands to one word.
    fn reference(&mut self, name: &str) -> String {
        (self.escaped, self.after_dollar) = (false, false);
        match self.open.last() {
            Some('"') => format!("${{{name}}}"),
            Some('\'') => format!("'\"${{{name}}}\"'"),
            Some(_) | None => format!("\"${{{name}}}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{TemplateContext, Templates};

    fn script(line: &str) -> String {
        let mut context = TemplateContext::new();
        context.insert("x", &serde_json::json!("a'b\"c $(touch hacked)"));
        Templates::new([]).unwrap().render_shell(line, &context).unwrap().script
    }

    #[test]
    fn references_fit_the_quotes_around_them() {
        assert_eq!(script("echo {{ x }} end"), "echo \"${ORCH_VALUE_1}\" end");
        assert_eq!(script("echo \"say {{ x }}\""), "echo \"say ${ORCH_VALUE_1}\"");
        assert_eq!(script("echo 'say {{ x }}'"), "echo 'say '\"${ORCH_VALUE_1}\"''");
        assert_eq!(
            script("echo \"$(cat {{ x }})\" {{ x }}"),
            "echo \"$(cat \"${ORCH_VALUE_1}\")\" \"${ORCH_VALUE_2}\""
        );
        assert_eq!(script("echo \\\"{{ x }}"), "echo \\\"\"${ORCH_VALUE_1}\"");
        assert_eq!(script("{% set y %}<{{ x }}>{% endset %}echo {{ y }}"), "echo \"${ORCH_VALUE_1}\"");
    }

    #[test]
    fn values_with_private_use_characters_stay_as_they_are() {
        let mut context = TemplateContext::new();
        let x = "\u{F8FA}0\u{F8FB} \u{F8FA}\u{F8E0}1\u{F8FB} \u{F8FA}";
        context.insert("secret", &serde_json::json!("s"));
        context.insert("x", &serde_json::json!(x));
        let line = "echo {{ secret }} {{ x }} {% set y %}{{ x }}{{ secret }}{% endset %}{{ y }}";
        let shell = Templates::new([]).unwrap().render_shell(line, &context).unwrap();
        let values: Vec<&str> = shell.values.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["s", x, &format!("{x}s")]);
    }
}
