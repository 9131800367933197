//! Renders command lines for a shell. Values never become part of the script.
//!
//! Each value that a template prints goes into an environment variable, and the script refers to that variable. A shell
//! does not parse what a variable expands to, so no value can end a quotation or start a command, wherever the
//! reference is. The form of the reference depends on the quotes around it: `"${V}"` outside of quotes (one word,
//! whatever the value contains), `${V}` in double quotes, `'"${V}"'` in single quotes.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::{Output, State, Value as Templated};

/// A script and the variables that hold its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// The command line for `sh -c`.
    pub script: String,
    /// The names and values of the variables that the script refers to.
    pub values: Vec<(String, String)>,
}

/// The characters around a value's number in the rendered text. They are private-use characters, which values and
/// templates normally do not contain.
const OPEN: char = '\u{F8FA}';
const CLOSE: char = '\u{F8FB}';

/// The values that a rendering printed, in order.
#[derive(Clone, Default)]
pub(super) struct Values(Arc<Mutex<Vec<String>>>);

impl Values {
    /// A formatter that stores each value and prints a mark in its place.
    pub(super) fn formatter(
        &self,
    ) -> impl Fn(&mut Output, &mut State, &Templated) -> Result<(), minijinja::Error> + Send + Sync + 'static {
        let values = self.clone();
        move |out, state, value| {
            if value.is_undefined() {
                // The engine's own formatter reports it.
                return minijinja::escape_formatter(out, state, value);
            }
            let text = values.resolved(&value.to_string());
            let mut held = values.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mark = format!("{OPEN}{}{CLOSE}", held.len());
            held.push(text);
            out.write_str(&mark).map_err(minijinja::Error::from)
        }
    }

    /// Replaces the marks in a text by their values. A `set` block, for example, captures marks.
    fn resolved(&self, text: &str) -> String {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(text.len());
        for part in pieces(text) {
            match part {
                ShellPiece::Text(text) => out.push_str(text),
                ShellPiece::Value(index) => out.push_str(held.get(index).map_or("", String::as_str)),
            }
        }
        out
    }

    /// The script with a reference to a variable in place of each mark.
    pub(super) fn put_into(self, marked: &str) -> Shell {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut script, mut values) = (String::with_capacity(marked.len()), Vec::new());
        let mut quotes = Quotes::default();
        for part in pieces(marked) {
            match part {
                ShellPiece::Text(text) => {
                    quotes.read(text);
                    script.push_str(text);
                }
                ShellPiece::Value(index) => {
                    let name = format!("ORCH_VALUE_{}", values.len() + 1);
                    script.push_str(&quotes.reference(&name));
                    values.push((name, held.get(index).cloned().unwrap_or_default()));
                }
            }
        }
        Shell { script, values }
    }
}

enum ShellPiece<'a> {
    Text(&'a str),
    Value(usize),
}

/// Splits a text at its marks.
fn pieces(text: &str) -> Vec<ShellPiece<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let (before, from) = rest.split_at(at);
        let inside = from.get(OPEN.len_utf8()..).unwrap_or_default();
        let Some((number, after)) = inside.split_once(CLOSE) else { break };
        let Ok(index) = number.parse() else { break };
        out.push(ShellPiece::Text(before));
        out.push(ShellPiece::Value(index));
        rest = after;
    }
    out.push(ShellPiece::Text(rest));
    out
}

/// The quotes that are open at a position of a script.
#[derive(Debug, Default)]
struct Quotes {
    /// The open quotes, innermost last: `'`, `"`, or `(` for a command substitution.
    open: Vec<char>,
    escaped: bool,
    dollar: bool,
}

impl Quotes {
    fn read(&mut self, text: &str) {
        for c in text.chars() {
            self.step(c);
        }
    }

    fn step(&mut self, c: char) {
        let (escaped, dollar) = (self.escaped, self.dollar);
        (self.escaped, self.dollar) = (false, false);
        let inside = self.open.last().copied();
        match (inside, c) {
            (Some('\''), '\'') => drop(self.open.pop()),
            (Some('\''), _) => {}
            _ if escaped => {}
            (_, '\\') => self.escaped = true,
            (_, '$') => self.dollar = true,
            (_, '(') if dollar => self.open.push('('),
            (Some('('), ')') => drop(self.open.pop()),
            (Some('"'), '"') => drop(self.open.pop()),
            (Some('"'), _) => {}
            (_, '"' | '\'') => self.open.push(c),
            _ => {}
        }
    }

    /// The reference to a variable at this position, written so that it gives one word.
    fn reference(&mut self, name: &str) -> String {
        (self.escaped, self.dollar) = (false, false);
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
    fn a_value_is_referred_to_as_its_quotes_demand() {
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
