//! Recognizes brackets in prose that can be parsed as JSON, but are not values of the reply.

use serde_json::Value;

use super::parser::ParsedValue;
use super::report::{Repair, ValueSource};

/// The position of a bracket, and the text around it.
#[derive(Clone, Copy)]
pub(super) struct BracketContext {
    pub(super) source: ValueSource,
    /// Whether the bracket starts a line, block or tag, or follows a colon.
    pub(super) is_leading: bool,
    pub(super) start: usize,
}

/// Whether JSON can follow the bracket at `start`. The next byte is enough to rule out most brackets in prose.
pub(super) fn may_start_json(text: &str, start: usize) -> bool {
    let bytes = text.as_bytes();
    let pos = (start + 1..start + 65).find(|pos| bytes.get(*pos).is_some_and(|b| !b.is_ascii_whitespace()));
    let Some((pos, next)) = pos.and_then(|pos| Some((pos, bytes.get(pos)?))) else { return true };
    if *next == b'.' {
        return bytes.get(pos + 1).is_some_and(|b| *b == b'.' || b.is_ascii_digit());
    }
    let starts_key_or_item =
        matches!(next, b'"' | b'\'' | b'`' | b'/' | b'#' | b'\\' | 0x80..) || next.is_ascii_digit();
    match bytes.get(start) {
        Some(b'{') => starts_key_or_item || matches!(next, b'}' | b'_' | b'$' | b'@') || next.is_ascii_alphabetic(),
        _ => starts_key_or_item || b"[{]-+tfnTFNiIu,".contains(next),
    }
}

/// The class of a parsed value, determined by the text around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BracketClass {
    /// A value of the reply.
    Value,
    /// Punctuation of prose or code: a footnote, an index, a check box, a call.
    Prose,
    /// A piece of a larger text that is not JSON.
    Fragment,
}

/// Whether the text before `pos` on its line is blank, or ends with a colon.
pub(super) fn is_leading(text: &str, pos: usize) -> bool {
    let preceding = text.get(..pos).unwrap_or_default().trim_end_matches([' ', '\t', '*', '`']);
    preceding.is_empty() || preceding.ends_with(['\n', ':', '：'])
}

/// Classifies a parsed value by the text around it.
pub(super) fn classify(text: &str, parsed: &ParsedValue, bracket: &BracketContext) -> BracketClass {
    let following = text.get(parsed.end..).unwrap_or_default();
    if is_fragment(following) {
        return BracketClass::Fragment;
    }
    if is_bracketed_note(parsed) {
        return BracketClass::Prose;
    }
    if bracket.source != ValueSource::Prose {
        return BracketClass::Value;
    }
    let preceding = text.get(..bracket.start).unwrap_or_default();
    let is_attached =
        preceding.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '$' | '!' | '&' | '%'));
    let is_prose = match &parsed.value {
        Value::Array(_) if !bracket.is_leading && has_guessed_quotes(parsed) => true,
        Value::Array(items) => {
            is_attached
                || following.starts_with(['(', ':']) && !items.iter().any(Value::is_object)
                || is_check_box(preceding, items, following)
        }
        Value::Object(members) => is_attached && (members.is_empty() || parsed.repairs.contains(&Repair::UnquotedKey)),
        _ => false,
    };
    if is_prose { BracketClass::Prose } else { BracketClass::Value }
}

/// Whether the parser guessed which quotes start and end the strings of a value. In prose, they may be apostrophes.
fn has_guessed_quotes(parsed: &ParsedValue) -> bool {
    let quote_repairs = [Repair::UnescapedQuote, Repair::RawControl, Repair::MissingComma, Repair::UnquotedValue];
    parsed.repairs.iter().any(|repair| quote_repairs.contains(repair))
}

/// Whether a value is a note such as `[see below]`.
fn is_bracketed_note(parsed: &ParsedValue) -> bool {
    parsed.repairs.contains(&Repair::UnquotedValue)
        && parsed.value.as_array().is_some_and(|items| items.len() == 1 && items.iter().any(Value::is_string))
}

/// Whether a value is the check box of a list item: `- [ ] to do`.
fn is_check_box(preceding: &str, items: &[Value], following: &str) -> bool {
    let mut window_start = preceding.len().saturating_sub(24);
    while !preceding.is_char_boundary(window_start) {
        window_start += 1;
    }
    let line = preceding.get(window_start..).unwrap_or_default().rsplit('\n').next().unwrap_or_default().trim();
    items.is_empty() && (matches!(line, "-" | "*" | "+") || line.ends_with('.')) && following.starts_with(' ')
}

/// Whether the next member of an object follows a value. The parser then ended the value too early.
fn is_fragment(following: &str) -> bool {
    let Some(member) = following.trim_start().strip_prefix(',') else { return false };
    let Some(key) = member.trim_start().strip_prefix('"') else { return false };
    let key_length = key.bytes().take(200).position(|b| b == b'"');
    let text_after_key = key_length.and_then(|length| key.get(length + 1..));
    text_after_key.is_some_and(|text_after_key| text_after_key.trim_start().starts_with(':'))
}

/// Whether a value in prose, such as `[1]` or `{}`, is too small to be the answer if the schema accepts all values.
pub(super) fn is_trivial_value(value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            items.is_empty() || items.len() == 1 && !items.iter().any(|item| item.is_object() || item.is_array())
        }
        Value::Object(members) => members.is_empty(),
        _ => true,
    }
}
