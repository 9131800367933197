//! Splits a template tag or an expression into words, even if it is incomplete.

use std::ops::Range;

/// The kind of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LexemeKind {
    /// A name or keyword.
    Name,
    /// A number.
    Number,
    /// A string in quotes.
    Text,
    /// An operator or bracket.
    Mark,
}

/// A word and its bytes; for a string, `at` is the range inside the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lexeme {
    pub(super) sort: LexemeKind,
    pub(super) at: Range<usize>,
    /// The byte after the word, including its closing quote.
    pub(super) end: usize,
}

impl Lexeme {
    /// The word as written.
    pub(super) fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.at.clone()).unwrap_or_default()
    }

    /// Whether the word is this mark or name.
    pub(super) fn is(&self, text: &str, word: &str) -> bool {
        matches!(self.sort, LexemeKind::Mark | LexemeKind::Name) && self.text(text) == word
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the words in a range of a text.
pub(super) fn lex(text: &str, range: Range<usize>) -> Vec<Lexeme> {
    let mut found = Vec::new();
    let mut at = range.start;
    while let Some(c) = text.get(at..range.end).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..range.end).unwrap_or_default();
        let while_ = |keep: fn(char) -> bool| rest.find(|c: char| !keep(c)).unwrap_or(rest.len());
        let (sort, inner, length) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' | '\'' => {
                let inner = text_length(rest, c);
                let closed = rest.get(1 + inner..).is_some_and(|rest| rest.starts_with(c));
                (LexemeKind::Text, at + 1..at + 1 + inner, 1 + inner + usize::from(closed))
            }
            c if c.is_ascii_digit() => {
                let length = while_(|c| c.is_ascii_alphanumeric() || c == '_');
                (LexemeKind::Number, at..at + length, length)
            }
            c if is_name(c) => {
                let length = while_(is_name);
                (LexemeKind::Name, at..at + length, length)
            }
            c => (LexemeKind::Mark, at..at + c.len_utf8(), c.len_utf8()),
        };
        found.push(Lexeme { sort, at: inner, end: at + length });
        at += length;
    }
    found
}

/// The number of bytes between the opening quote of a string and its closing quote.
fn text_length(rest: &str, quote: char) -> usize {
    let inner = rest.get(1..).unwrap_or_default();
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        if c == quote && !escaped {
            return at;
        }
        escaped = c == '\\' && !escaped;
    }
    inner.len()
}

/// Names that can't be variables.
pub(super) const KEYWORDS: &[&str] =
    &["and", "or", "not", "in", "is", "if", "else", "elif", "for", "set", "with", "include", "filter"];

/// The index of the first word of a value such as `plan.steps[0]` or `(a | first)`, where the value's last word is the
/// one before the index `end`.
pub(super) fn chain(text: &str, tokens: &[Lexeme], end: usize) -> Option<usize> {
    let mut at = end;
    loop {
        at = at.checked_sub(1)?;
        let token = tokens.get(at)?;
        match token.sort {
            LexemeKind::Name if !KEYWORDS.contains(&token.text(text)) => {}
            LexemeKind::Text | LexemeKind::Number => {}
            LexemeKind::Mark if token.is(text, "]") => {
                at = opening(text, tokens, at)?;
                continue;
            }
            LexemeKind::Mark if token.is(text, ")") => {
                at = opening(text, tokens, at)?;
                let call = at.checked_sub(1).and_then(|before| tokens.get(before));
                if call.is_some_and(|call| call.sort == LexemeKind::Name && !KEYWORDS.contains(&call.text(text))) {
                    at -= 1;
                }
            }
            LexemeKind::Name | LexemeKind::Mark => return None,
        }
        match at.checked_sub(1).and_then(|before| tokens.get(before)) {
            Some(before) if before.is(text, ".") => at -= 1,
            _ => return Some(at),
        }
    }
}

/// The index of the bracket that the one at `close` closes.
fn opening(text: &str, tokens: &[Lexeme], close: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().take(close + 1).rev() {
        if token.sort == LexemeKind::Mark {
            match token.text(text) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_begins_where_its_chain_does() {
        for (text, base) in [
            ("a and plan.steps[0].", "plan.steps[0]"),
            ("plan.steps[plan.n].x.", "plan.steps[plan.n].x"),
            ("x == (plan.steps | first).", "(plan.steps | first)"),
            ("plan[\"a.b\"].", "plan[\"a.b\"]"),
            ("not ü.", "ü"),
        ] {
            let tokens = lex(text, 0..text.len());
            let start = chain(text, &tokens, tokens.len() - 1).unwrap();
            assert_eq!(&text[tokens[start].at.start..text.len() - 1], base);
        }
        let text = "not .";
        assert_eq!(chain(text, &lex(text, 0..text.len()), 1), None);
    }
}
