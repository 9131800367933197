//! Splits a template tag or an expression into tokens, even if it is incomplete.

use std::ops::Range;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateTokenKind {
    /// A name or keyword.
    Name,
    /// A number.
    Number,
    /// A string in quotes.
    String,
    /// An operator or bracket.
    Punctuation,
}

/// A token and its bytes. For a string, `range` is the text inside the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateToken {
    pub(super) kind: TemplateTokenKind,
    pub(super) range: Range<usize>,
    /// The byte after the token, including its closing quote.
    pub(super) end: usize,
}

impl TemplateToken {
    /// Returns the token's text.
    pub(super) fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.range.clone()).unwrap_or_default()
    }

    /// Returns whether the token is this name, operator or bracket.
    pub(super) fn matches_text(&self, text: &str, expected: &str) -> bool {
        matches!(self.kind, TemplateTokenKind::Punctuation | TemplateTokenKind::Name) && self.text(text) == expected
    }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the tokens in a range of a text.
pub(super) fn tokenize(text: &str, range: Range<usize>) -> Vec<TemplateToken> {
    let mut tokens = Vec::new();
    let mut start = range.start;
    while let Some(c) = text.get(start..range.end).and_then(|remaining| remaining.chars().next()) {
        let remaining = text.get(start..range.end).unwrap_or_default();
        let length_while = |matches: fn(char) -> bool| remaining.find(|c: char| !matches(c)).unwrap_or(remaining.len());
        let (kind, content, length) = match c {
            c if c.is_whitespace() => {
                start += c.len_utf8();
                continue;
            }
            '"' | '\'' => {
                let length = string_length(remaining, c);
                let is_closed = remaining.get(1 + length..).is_some_and(|remaining| remaining.starts_with(c));
                (TemplateTokenKind::String, start + 1..start + 1 + length, 1 + length + usize::from(is_closed))
            }
            c if c.is_ascii_digit() => {
                let length = length_while(|c| c.is_ascii_alphanumeric() || c == '_');
                (TemplateTokenKind::Number, start..start + length, length)
            }
            c if is_name_char(c) => {
                let length = length_while(is_name_char);
                (TemplateTokenKind::Name, start..start + length, length)
            }
            c => (TemplateTokenKind::Punctuation, start..start + c.len_utf8(), c.len_utf8()),
        };
        tokens.push(TemplateToken { kind, range: content, end: start + length });
        start += length;
    }
    tokens
}

/// Returns the number of bytes between the opening quote of a string and its closing quote.
fn string_length(remaining: &str, quote: char) -> usize {
    let content = remaining.get(1..).unwrap_or_default();
    let mut escaped = false;
    for (index, c) in content.char_indices() {
        if c == quote && !escaped {
            return index;
        }
        escaped = c == '\\' && !escaped;
    }
    content.len()
}

/// Names that can't be variables.
pub(super) const KEYWORDS: &[&str] =
    &["and", "or", "not", "in", "is", "if", "else", "elif", "for", "set", "with", "include", "filter"];

/// Returns the index of the first token of a value such as `plan.steps[0]` or `(a | first)`. The last token of the
/// value is the token before the index `end`.
pub(super) fn value_start(text: &str, tokens: &[TemplateToken], end: usize) -> Option<usize> {
    let mut index = end;
    loop {
        index = index.checked_sub(1)?;
        let token = tokens.get(index)?;
        match token.kind {
            TemplateTokenKind::Name if !KEYWORDS.contains(&token.text(text)) => {}
            TemplateTokenKind::String | TemplateTokenKind::Number => {}
            TemplateTokenKind::Punctuation if token.matches_text(text, "]") => {
                index = opening_bracket(text, tokens, index)?;
                continue;
            }
            TemplateTokenKind::Punctuation if token.matches_text(text, ")") => {
                index = opening_bracket(text, tokens, index)?;
                let callee = index.checked_sub(1).and_then(|previous| tokens.get(previous));
                let is_callee = |callee: &TemplateToken| {
                    callee.kind == TemplateTokenKind::Name && !KEYWORDS.contains(&callee.text(text))
                };
                if callee.is_some_and(is_callee) {
                    index -= 1;
                }
            }
            TemplateTokenKind::Name | TemplateTokenKind::Punctuation => return None,
        }
        match index.checked_sub(1).and_then(|previous| tokens.get(previous)) {
            Some(previous) if previous.matches_text(text, ".") => index -= 1,
            _ => return Some(index),
        }
    }
}

/// Returns the index of the opening bracket that matches the closing bracket at `closing_index`.
fn opening_bracket(text: &str, tokens: &[TemplateToken], closing_index: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().take(closing_index + 1).rev() {
        if token.kind == TemplateTokenKind::Punctuation {
            match token.text(text) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_begins_at_the_start_of_its_chain() {
        for (text, base) in [
            ("a and plan.steps[0].", "plan.steps[0]"),
            ("plan.steps[plan.n].x.", "plan.steps[plan.n].x"),
            ("x == (plan.steps | first).", "(plan.steps | first)"),
            ("plan[\"a.b\"].", "plan[\"a.b\"]"),
            ("not ü.", "ü"),
        ] {
            let tokens = tokenize(text, 0..text.len());
            let start = value_start(text, &tokens, tokens.len() - 1).unwrap();
            assert_eq!(&text[tokens[start].range.start..text.len() - 1], base);
        }
        let text = "not .";
        assert_eq!(value_start(text, &tokenize(text, 0..text.len()), 1), None);
    }
}
