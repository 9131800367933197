//! Renders command lines for a shell. Values never become part of the script.
//!
//! Each value that a template prints goes into an environment variable, and the script refers to that variable. A shell
//! does not parse what a variable expands to, so no value can end a quotation or start a command, wherever the
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

/// The characters around a value's number in the rendered text. They are private-use characters, which values and
/// templates normally do not contain.
const MARK_OPEN: char = '\u{F8FA}';
const MARK_CLOSE: char = '\u{F8FB}';

/// The values that a rendering printed, in order.
#[derive(Clone, Default)]
pub(super) struct ShellValues(Arc<Mutex<Vec<String>>>);

impl ShellValues {
    /// A formatter that stores each value and prints a mark in its place.
    pub(super) fn formatter(
        &self,
    ) -> impl Fn(&mut Output, &mut State, &TemplateValue) -> Result<(), minijinja::Error> + Send + Sync + 'static {
        let values = self.clone();
        move |out, state, value| {
            if value.is_undefined() {
                // The engine's own formatter reports it.
                return minijinja::escape_formatter(out, state, value);
            }
            let text = values.replace_marks(&value.to_string());
            let mut stored = values.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mark = format!("{MARK_OPEN}{}{MARK_CLOSE}", stored.len());
            stored.push(text);
            out.write_str(&mark).map_err(minijinja::Error::from)
        }
    }

    /// Replaces the marks in a text by their values. For example, a `set` block captures marks.
    fn replace_marks(&self, text: &str) -> String {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(text.len());
        for piece in split_at_marks(text) {
            match piece {
                ShellPiece::Text(text) => out.push_str(text),
                ShellPiece::Value(index) => out.push_str(stored.get(index).map_or("", String::as_str)),
            }
        }
        out
    }

    /// The script with a reference to a variable in place of each mark.
    pub(super) fn into_script(self, marked: &str) -> ShellScript {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut script, mut values) = (String::with_capacity(marked.len()), Vec::new());
        let mut quotes = Quotes::default();
        for piece in split_at_marks(marked) {
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

/// Splits a text at its marks.
fn split_at_marks(text: &str) -> Vec<ShellPiece<'_>> {
    let mut out = Vec::new();
    let mut remaining = text;
    while let Some(start) = remaining.find(MARK_OPEN) {
        let (before, mark) = remaining.split_at(start);
        let inside = mark.get(MARK_OPEN.len_utf8()..).unwrap_or_default();
        let Some((number, after)) = inside.split_once(MARK_CLOSE) else { break };
        let Ok(index) = number.parse() else { break };
        out.push(ShellPiece::Text(before));
        out.push(ShellPiece::Value(index));
        remaining = after;
    }
    out.push(ShellPiece::Text(remaining));
    out
}

/// The quotes that are open at a position of a script.
#[derive(Debug, Default)]
struct Quotes {
    /// The open quotes, innermost last: `'`, `"`, or `(` for a command substitution.
    open: Vec<char>,
    escaped: bool,
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
        assert_eq!(
            script("{% set y %}<{{ x }}>{% endset %}echo {{ y }}"),
            "echo \"${ORCH_VALUE_2}\"".replace('2', "1")
        );
    }
}
