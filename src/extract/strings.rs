//! Parses strings: strictly, or with repairs of their quotes.
//!
//! In tolerant mode, a quote closes a string only if the following text continues the JSON. Otherwise, the quote is
//! part of the string. The parser rejects a string that can be parsed in two ways.

use super::ambiguity::{QuotePairs, QuoteRole};
use super::cursor::{Fault, ParseMode, TextCursor, is_space};
use super::escape;
use super::report::Repair;

/// The role of a string in a JSON value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StringRole {
    Key,
    MemberValue,
    Item,
    /// The string is not inside any container.
    TopLevel,
}

/// The maximum length of a key, in bytes. Keys in malformed JSON are short, so a longer text is not a key.
const MAX_KEY_BYTES: usize = 200;

/// The fault for a string that can be parsed in two ways.
const AMBIGUOUS_QUOTES: Fault = Fault::Invalid("the quotes of a string are ambiguous");

/// The characters that may close a string that opens with `opening_quote`.
fn closing_quotes(opening_quote: char) -> Option<&'static [char]> {
    Some(match opening_quote {
        '"' => &['"'],
        '\'' => &['\''],
        '`' => &['`'],
        '“' | '”' | '„' | '‟' | '＂' => &['”', '“', '"', '‟', '＂'],
        '‘' | '’' | '‚' | '‛' => &['’', '‘', '\'', '‛'],
        '«' => &['»'],
        _ => return None,
    })
}

/// Whether a string may start with this character.
pub(super) fn is_opening_quote(c: char) -> bool {
    closing_quotes(c).is_some()
}

/// Parses the string at the cursor, which is at its opening quote.
pub(super) fn parse_string(cursor: &mut TextCursor<'_>, role: StringRole) -> Result<String, Fault> {
    let opening_quote = cursor.peek_char().ok_or(Fault::UnexpectedEnd)?;
    if cursor.mode == ParseMode::Exact {
        return if opening_quote == '"' { parse_exact(cursor) } else { Err(Fault::Invalid("it is not strict JSON")) };
    }
    let tail = cursor.remaining();
    if tail.starts_with("```") {
        return Err(AMBIGUOUS_QUOTES);
    }
    for triple_quote in ["\"\"\"", "'''"] {
        if tail.starts_with(triple_quote) {
            return parse_triple_quoted(cursor, triple_quote);
        }
    }
    match opening_quote {
        '"' => {}
        '\'' | '`' => cursor.add_repair(Repair::SingleQuotes)?,
        _ => cursor.add_repair(Repair::SmartQuotes)?,
    }
    cursor.pos += opening_quote.len_utf8();
    parse_tolerant(cursor, closing_quotes(opening_quote).unwrap_or_default(), role)
}

fn parse_exact(cursor: &mut TextCursor<'_>) -> Result<String, Fault> {
    cursor.pos += 1;
    let mut out = String::new();
    loop {
        let tail = cursor.remaining();
        let plain_length =
            tail.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\').ok_or(Fault::UnexpectedEnd)?;
        out.push_str(tail.get(..plain_length).unwrap_or_default());
        cursor.pos += plain_length;
        match cursor.peek_byte() {
            Some(b'"') => {
                cursor.pos += 1;
                return Ok(out);
            }
            Some(b'\\') => escape::parse_escape(cursor, &mut out, &['"'])?,
            _ => return Err(Fault::Invalid("it is not strict JSON")),
        }
    }
}

/// Parses a string in triple quotes, in which quotes and line breaks need no backslash.
fn parse_triple_quoted(cursor: &mut TextCursor<'_>, triple_quote: &str) -> Result<String, Fault> {
    cursor.add_repair(Repair::TripleQuotes)?;
    cursor.pos += triple_quote.len();
    let tail = cursor.remaining();
    let mut length = tail.find(triple_quote).ok_or(Fault::UnexpectedEnd)?;
    let quote = triple_quote.get(..1).unwrap_or_default();
    // In `"""a "quoted""""`, the last three quotes close the string.
    while tail.get(length + 3..).is_some_and(|following| following.starts_with(quote)) {
        length += 1;
    }
    let body = tail.get(..length).unwrap_or_default();
    // Two forms are ambiguous. `""" is empty"` may be a plain string that begins with two quotes. In
    // `"""x"" is it", "note": "y """`, the closing quotes may belong to the next member.
    let is_one_line = !body.contains('\n');
    let may_close = |(pos, _): (usize, &str)| {
        body.get(pos + 1..).is_some_and(|following| following.trim_start().starts_with([',', ':', '}', ']']))
    };
    if is_one_line && (body.starts_with([' ', '"', '\'']) || body.match_indices(quote).any(may_close)) {
        return Err(AMBIGUOUS_QUOTES);
    }
    cursor.pos += length + triple_quote.len();
    let mut inner = TextCursor::new(body, 0, cursor.mode);
    let mut out = String::new();
    while let Some(c) = inner.peek_char() {
        if c == '\\' {
            escape::parse_escape(&mut inner, &mut out, &['"', '\''])?;
        } else {
            out.push(c);
            inner.pos += c.len_utf8();
        }
    }
    inner.repairs.into_iter().try_for_each(|repair| cursor.add_repair(repair))?;
    Ok(out)
}

fn parse_tolerant(
    cursor: &mut TextCursor<'_>,
    closing_quotes: &'static [char],
    role: StringRole,
) -> Result<String, Fault> {
    let start = cursor.pos;
    let mut out = String::new();
    let mut inner_quotes = InnerQuotes::default();
    loop {
        let c = cursor.peek_char().ok_or(Fault::UnexpectedEnd)?;
        if c == '\\' {
            if let Some(quote) = cursor.remaining().chars().nth(1).filter(|next| closing_quotes.contains(next)) {
                inner_quotes.pairs.add_escaped_quote(cursor.text, cursor.pos, quote, start);
            }
            escape::parse_escape(cursor, &mut out, closing_quotes)?;
            continue;
        }
        if closing_quotes.contains(&c) {
            let quote_end = cursor.pos + c.len_utf8();
            match quote_verdict(cursor, quote_end, role, inner_quotes.count) {
                QuoteVerdict::Closes if inner_quotes.separates_strings() && cursor.ambiguity.fixed_roles.is_empty() => {
                    return Err(AMBIGUOUS_QUOTES);
                }
                QuoteVerdict::Closes => {
                    let has_bare_keys = cursor.repairs.contains(&Repair::UnquotedKey);
                    cursor.ambiguity.record_string_end(&inner_quotes.pairs, cursor.pos, role, has_bare_keys);
                    cursor.pos = quote_end;
                    return Ok(out);
                }
                QuoteVerdict::Unclosed => return end_unclosed(cursor, start, out),
                QuoteVerdict::ColonFollows => return Err(AMBIGUOUS_QUOTES),
                QuoteVerdict::Text if role == StringRole::Key && c != '\'' && c != '’' => {
                    return Err(AMBIGUOUS_QUOTES);
                }
                QuoteVerdict::Text => {
                    inner_quotes.add(cursor.text, cursor.pos, c, start);
                    if matches!(c, '"' | '\'' | '`') {
                        cursor.add_repair(Repair::UnescapedQuote)?;
                    }
                }
            }
        } else if c < ' ' {
            cursor.add_repair(Repair::RawControl)?;
        }
        if role == StringRole::Key && out.len() > MAX_KEY_BYTES {
            return Err(Fault::Invalid("a key does not end"));
        }
        out.push(c);
        cursor.pos += c.len_utf8();
    }
}

/// The quotes inside a string.
#[derive(Default)]
struct InnerQuotes {
    count: usize,
    /// Whether the first inner quote looks like a closing quote.
    first_looks_closing: bool,
    pairs: QuotePairs,
}

impl InnerQuotes {
    fn add(&mut self, text: &str, pos: usize, quote: char, start: usize) {
        self.pairs.add_quote(text, pos, quote, start);
        if self.count == 0 {
            let quote_end = pos + quote.len_utf8();
            let preceding = text.get(..pos).unwrap_or_default();
            let follows_word = !preceding
                .ends_with(|c: char| is_space(c) || matches!(c, '(' | '=' | '[' | '{' | '"' | '\'' | '“' | '‘'));
            self.first_looks_closing =
                follows_word && text.get(quote_end..).is_some_and(|tail| tail.starts_with(is_space));
        }
        self.count += 1;
    }

    /// Whether the quotes separate two strings, as in `"x" or "y"`, and are not inside one string.
    fn separates_strings(&self) -> bool {
        self.first_looks_closing && self.count.is_multiple_of(2) && self.pairs.is_open()
    }
}

/// The role of a quote in a string, as the parser determines it.
enum QuoteVerdict {
    /// The quote closes the string.
    Closes,
    /// A colon follows the quote, although the string is not a key.
    ColonFollows,
    /// The quote opens the next key, so the closing quote of this string is missing.
    Unclosed,
    /// The quote is part of the string's text.
    Text,
}

/// Determines the role of the quote at the cursor: its fixed role, or else the role that the following text suggests.
/// `inner_count` is the number of inner quotes before this quote.
fn quote_verdict(cursor: &TextCursor<'_>, quote_end: usize, role: StringRole, inner_count: usize) -> QuoteVerdict {
    match cursor.ambiguity.fixed_role(cursor.pos) {
        Some(QuoteRole::Closes) => return QuoteVerdict::Closes,
        Some(QuoteRole::Text) => return QuoteVerdict::Text,
        None => {}
    }
    match judge_by_following_text(cursor.text, quote_end, role) {
        // With fixed roles, the parser also accepts text that looks like a key.
        QuoteVerdict::ColonFollows if !cursor.ambiguity.fixed_roles.is_empty() => QuoteVerdict::Text,
        QuoteVerdict::ColonFollows if inner_count == 0 => QuoteVerdict::Unclosed,
        // If the quote seems to open the next key, the closing quote of this string is missing.
        QuoteVerdict::Text
            if inner_count == 0
                && role == StringRole::MemberValue
                && opens_next_key(cursor.text, cursor.pos, quote_end) =>
        {
            QuoteVerdict::Unclosed
        }
        verdict => verdict,
    }
}

/// Determines the role of the quote that ends at `quote_end` by the following text.
fn judge_by_following_text(text: &str, quote_end: usize, role: StringRole) -> QuoteVerdict {
    let pos = skip_space(text, quote_end);
    let Some(next) = text.get(pos..).and_then(|tail| tail.chars().next()) else { return QuoteVerdict::Closes };
    let has_gap = pos > quote_end;
    match (role, next) {
        (StringRole::Key, ':' | '：') | (StringRole::MemberValue, '}') | (StringRole::Item, ']') => {
            QuoteVerdict::from(role == StringRole::Key || is_plausible_close(text, pos))
        }
        (StringRole::Key, _) => QuoteVerdict::Text,
        (_, ':' | '：') => QuoteVerdict::ColonFollows,
        (StringRole::MemberValue, ',' | '，') => {
            QuoteVerdict::from(starts_member(text, skip_space(text, pos + next.len_utf8())))
        }
        (StringRole::Item, ',' | '，') => {
            QuoteVerdict::from(starts_item(text, skip_space(text, pos + next.len_utf8())))
        }
        (StringRole::MemberValue | StringRole::Item, '/' | '#') => QuoteVerdict::from(
            has_gap || text.get(pos..).is_some_and(|tail| tail.starts_with("//") || tail.starts_with("/*")),
        ),
        (StringRole::MemberValue, _) => QuoteVerdict::from(has_gap && is_opening_quote(next) && starts_key(text, pos)),
        (StringRole::Item, '"') => QuoteVerdict::from(has_gap),
        (StringRole::TopLevel | StringRole::Item, _) => QuoteVerdict::Text,
    }
}

impl From<bool> for QuoteVerdict {
    fn from(is_closing: bool) -> Self {
        if is_closing { Self::Closes } else { Self::Text }
    }
}

/// Whether more JSON, or the end of the JSON, follows the closing bracket at `pos`.
fn is_plausible_close(text: &str, pos: usize) -> bool {
    let next_pos = skip_space(text, pos + 1);
    let Some(next) = text.get(next_pos..).and_then(|tail| tail.chars().next()) else { return true };
    let has_line_break = text.get(pos..next_pos).is_some_and(|gap| gap.contains('\n'));
    has_line_break
        || matches!(next, ',' | '，' | '}' | ']' | '`' | '<' | '/' | '#' | '{' | '.' | ';' | ')')
        || next.is_alphabetic()
        || (is_opening_quote(next) && starts_key(text, next_pos))
}

/// Whether a member, or the end of an object, starts at `pos`.
fn starts_member(text: &str, pos: usize) -> bool {
    let tail = text.get(pos..).unwrap_or_default();
    let Some(next) = tail.chars().next() else { return true };
    matches!(next, '}' | ',')
        || tail.starts_with("//")
        || tail.starts_with("/*")
        || next == '#'
        || next == '.'
        || starts_key(text, pos)
}

/// Whether an item, or the end of an array, starts at `pos`.
fn starts_item(text: &str, pos: usize) -> bool {
    let tail = text.get(pos..).unwrap_or_default();
    let Some(next) = tail.chars().next() else { return true };
    let word_length = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
    let is_literal = matches!(tail.get(..word_length), Some("true" | "false" | "null" | "True" | "False" | "None"));
    is_opening_quote(next)
        || is_literal
        || next.is_ascii_digit()
        || matches!(next, '{' | '[' | ']' | ',' | '-' | '/' | '#' | '.')
}

/// Whether a key with its colon starts at `pos`.
fn starts_key(text: &str, pos: usize) -> bool {
    let tail = text.get(pos..).unwrap_or_default();
    let Some(first) = tail.chars().next() else { return false };
    let Some(closing) = closing_quotes(first) else {
        let word_length =
            tail.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '.'))).unwrap_or(tail.len());
        return word_length > 0 && word_length <= MAX_KEY_BYTES && colon_follows(text, pos + word_length);
    };
    let mut is_escaped = false;
    for (offset, c) in tail.char_indices().skip(1).take_while(|(offset, _)| *offset <= MAX_KEY_BYTES) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if closing.contains(&c) && colon_follows(text, pos + offset + c.len_utf8()) {
            return true;
        } else if c == ',' || c == '"' && closing.contains(&'"') {
            return false;
        }
    }
    false
}

/// Whether a colon follows at `pos`, after white space.
fn colon_follows(text: &str, pos: usize) -> bool {
    text.get(skip_space(text, pos)..).is_some_and(|tail| tail.starts_with([':', '：']))
}

/// The first position at or after `pos` that is not white space.
fn skip_space(text: &str, pos: usize) -> usize {
    let tail = text.get(pos..).unwrap_or_default();
    pos + tail.find(|c: char| !is_space(c)).unwrap_or(tail.len())
}

/// Whether the quote from `quote_start` to `quote_end` follows a comma and opens the next key.
fn opens_next_key(text: &str, quote_start: usize, quote_end: usize) -> bool {
    let preceding = text.get(..quote_start).unwrap_or_default().trim_end_matches(is_space);
    preceding.ends_with(',')
        && text.get(quote_end..).is_some_and(|tail| tail.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        && starts_key(text, quote_start)
}

/// Ends a string whose closing quote is missing before `, "key":`.
fn end_unclosed(cursor: &mut TextCursor<'_>, start: usize, mut out: String) -> Result<String, Fault> {
    let raw = cursor.text.get(start..cursor.pos).unwrap_or_default();
    let body = raw.trim_end_matches(is_space).strip_suffix(',').ok_or(AMBIGUOUS_QUOTES)?;
    // If the string contains another comma, it could end at either comma.
    if body.contains([',', '\n', '\\']) {
        return Err(AMBIGUOUS_QUOTES);
    }
    cursor.add_repair(Repair::MissingQuote)?;
    cursor.ambiguity.record_missing_quote(cursor.pos);
    out.truncate(body.trim_end().len());
    cursor.pos = start + body.len();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_key_counts_in_bytes() {
        let is_key = |name: String| starts_key(&format!("\"{name}\": 1"), 0);
        assert!(is_key("o".repeat(199)) && !is_key("o".repeat(200)));
        assert!(is_key("ö".repeat(99)) && !is_key("ö".repeat(100)));
    }
}
