//! Advice for YAML that can't be parsed.

use crate::diagnostic::expression_in_yaml;

const INDENTATION_HELP: &str = "is the line indented like the other lines of its block?";
const BRACKET_HELP: &str = "is a bracket or brace above not closed, or a comma missing?";
const COLON_HELP: &str = "put quotes around a string with `: ` in it";

/// The advice for an error of the parser at this byte offset of the text. `is_in_flow` tells whether a list or mapping in
/// brackets or braces is open that began before this line.
pub(super) fn syntax_advice(message: &str, text: &str, offset: usize, is_in_flow: bool) -> Option<String> {
    let next = text.get(offset..)?.chars().next();
    if message.contains("did not find expected") && message.contains("block") {
        return Some(INDENTATION_HELP.to_owned());
    }
    if message.contains("did not find expected ',' or") {
        let value = ValueStart::before(text, offset, is_in_flow);
        return Some(match next {
            Some(c @ ('[' | '{' | '"' | '\'')) if !value.text.trim().is_empty() => {
                format!("put quotes around the whole value: without them, it ends before `{c}`")
            }
            Some(':') => format!("{BRACKET_HELP} {COLON_HELP}"),
            _ => BRACKET_HELP.to_owned(),
        });
    }
    if message.contains("trailing content after") {
        return Some(trailing_content_advice(text, offset, is_in_flow));
    }
    if message.contains("illegal placement of ':'") {
        return Some(format!("{BRACKET_HELP} {COLON_HELP}"));
    }
    if message.contains("unexpected character") {
        return next.map(|c| format!("put quotes around a string that begins with `{c}`"));
    }
    if message.contains("unknown anchor") {
        return Some("put quotes around a string that begins with `*`".to_owned());
    }
    let has_unquoted_colon = message.contains("mapping values are not allowed");
    has_unquoted_colon.then(|| format!("{COLON_HELP}, or fix the indentation"))
}

/// The advice for text that follows a string in quotes.
fn trailing_content_advice(text: &str, offset: usize, is_in_flow: bool) -> String {
    let value = ValueStart::before(text, offset, is_in_flow);
    if value.is_quote_open || !value.text.trim_start().starts_with(['"', '\'']) {
        return "is a quote above not closed?".to_owned();
    }
    let line = text.get(value.start..).unwrap_or_default().lines().next().unwrap_or_default();
    // The bracket or brace around the value may be on a line above, of which the parser says nothing.
    let closes_bracket = line.matches([']', '}']).count() > line.matches(['[', '{']).count();
    if value.is_in_brackets || closes_bracket {
        return "put quotes around the whole value: without them, it ends at the first `,`, `[`, `]`, `{` or `}`"
            .to_owned();
    }
    format!("put quotes around the whole value: write `{}`", expression_in_yaml(line.trim()))
}

/// The beginning of the value that contains a position, on the line of this position.
struct ValueStart<'a> {
    /// The byte offset at which it begins.
    start: usize,
    /// The text from there to the position.
    text: &'a str,
    /// Whether a quote is open at the position.
    is_quote_open: bool,
    /// Whether the value is in a list or mapping in brackets or braces.
    is_in_brackets: bool,
}

impl<'a> ValueStart<'a> {
    fn before(text: &'a str, offset: usize, is_in_flow: bool) -> Self {
        let preceding = text.get(..offset).unwrap_or_default();
        let line_start = preceding.rfind('\n').map_or(0, |newline| newline + 1);
        let line = preceding.get(line_start..).unwrap_or_default();
        let (mut start, mut depth, mut quote, mut previous) = (0, usize::from(is_in_flow), None, ' ');
        for (position, c) in line.char_indices() {
            let before = line.get(start..position).unwrap_or_default().trim();
            match quote {
                Some(open) if c == open && !(open == '"' && previous == '\\') => quote = None,
                Some(_) => {}
                None if before.is_empty() && matches!(c, '"' | '\'') => quote = Some(c),
                None if before.is_empty() && matches!(c, '[' | '{') => {
                    depth += 1;
                    start = position + 1;
                }
                None if c == ',' && depth > 0 => start = position + 1,
                None if c == ' ' && (previous == ':' || before == "-") => start = position + 1,
                None => {}
            }
            previous = c;
        }
        Self {
            start: line_start + start,
            text: line.get(start..).unwrap_or_default(),
            is_quote_open: quote.is_some(),
            is_in_brackets: depth > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use crate::diagnostic::SourceFile;

    #[test]
    fn advice_says_which_quotes_or_brackets_are_missing() {
        for (text, advice) in [
            ("- { when: e in [\"a\"], run: x }", "without them, it ends before `[`"),
            ("- { run: echo {{ e }}, id: x }", "without them, it ends before `{`"),
            ("- { when: e | replace(\"a\", \"b\"), run: x }", "without them, it ends at the first `,`"),
            ("- { when: \"a\" in e, run: x }", "put quotes around the whole value"),
            ("- { run: x,\n    when: \"a\" in e }", "without them, it ends at the first `,`"),
            ("when: \"a\" == e", "write `'\"a\" == e'`"),
            ("when: 'a' in e", "write `\"'a' in e\"`"),
            ("- when: 'a' in e", "write `\"'a' in e\"`"),
            ("approve: 'Publish?\nwrite: \"[{'path': x}]\"", "is a quote above not closed?"),
            ("run: \"echo\nwhen: \"a\"", "is a quote above not closed?"),
            ("- { id: w run: echo }", "or a comma missing? put quotes around a string with `: ` in it"),
            ("- id: w\n  inputs: [a, b\n  run: echo", "is a bracket or brace above not closed"),
            ("a: what: this", "put quotes around a string with `: ` in it, or fix the indentation"),
            ("run: %x", "put quotes around a string that begins with `%`"),
            ("run: [ls, *.txt]", "put quotes around a string that begins with `*`"),
        ] {
            let found = parse(&SourceFile::new("f.yaml", text)).unwrap_err();
            assert!(found[0].help.iter().any(|help| help.contains(advice)), "{text}: {found:?}");
        }
    }
}
