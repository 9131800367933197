//! Renders command lines for a shell. Values never become part of the script.
//!
//! Each value that a template prints goes into an environment variable, and the script refers to that variable. A shell
//! does not parse the value of a variable, so no value can end a quotation or start a command, wherever the
//! reference is. The form of the reference depends on the quotes around it: `"${V}"` outside of quotes (one word,
//! whatever the value contains), `${V}` in double quotes, `'"${V}"'` in single quotes.

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

/// The characters around the number of a value, which together are the marker of the value in the rendered text. They
/// are private-use characters, which values and templates normally do not contain.
const MARKER_START: char = '\u{F8FA}';
const MARKER_END: char = '\u{F8FB}';

/// The values that a rendering printed, in order.
#[derive(Clone, Default)]
pub(super) struct ShellValues(Arc<Mutex<Vec<String>>>);

impl ShellValues {
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
            let mut stored = values.0.lock().unwrap_or_else(PoisonError::into_inner);
            let marker = format!("{MARKER_START}{}{MARKER_END}", stored.len());
            stored.push(text);
            out.write_str(&marker).map_err(minijinja::Error::from)
        }
    }

    /// Replaces the markers in a text by their values. For example, a `set` block captures markers.
    fn replace_markers(&self, text: &str) -> String {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(text.len());
        for piece in split_at_markers(text) {
            match piece {
                ShellPiece::Text(text) => out.push_str(text),
                ShellPiece::Value(index) => out.push_str(stored.get(index).map_or("", String::as_str)),
            }
        }
        out
    }

    /// The script with a reference to a variable in place of each marker.
    pub(super) fn into_script(self, text_with_markers: &str) -> ShellScript {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut script, mut values) = (String::with_capacity(text_with_markers.len()), Vec::new());
        let mut quotes = Quotes::default();
        for piece in split_at_markers(text_with_markers) {
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

/// Splits a text at its markers.
fn split_at_markers(text: &str) -> Vec<ShellPiece<'_>> {
    let mut out = Vec::new();
    let mut remaining = text;
    while let Some(start) = remaining.find(MARKER_START) {
        let (preceding, marker) = remaining.split_at(start);
        let numbered = marker.get(MARKER_START.len_utf8()..).unwrap_or_default();
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
}
