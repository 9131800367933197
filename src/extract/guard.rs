//! Recognizes brackets in prose that can be parsed as JSON but mean something else.

use serde_json::Value;

use super::parser::Parsed;
use super::report::{Repair, ValueSource};

/// Where a bracket is.
#[derive(Clone, Copy)]
pub(super) struct BracketPlace {
    pub(super) source: ValueSource,
    /// Whether the bracket is the first thing of its line, block or tag, or follows a colon.
    pub(super) leads: bool,
    pub(super) start: usize,
}

/// Whether JSON can follow this bracket. One byte is enough to rule out most brackets in prose.
pub(super) fn is_plausible(text: &str, start: usize) -> bool {
    let bytes = text.as_bytes();
    let at = (start + 1..start + 65).find(|at| bytes.get(*at).is_some_and(|b| !b.is_ascii_whitespace()));
    let Some((at, next)) = at.and_then(|at| Some((at, bytes.get(at)?))) else { return true };
    if *next == b'.' {
        return bytes.get(at + 1).is_some_and(|b| *b == b'.' || b.is_ascii_digit());
    }
    let both = matches!(next, b'"' | b'\'' | b'`' | b'/' | b'#' | b'\\' | 0x80..) || next.is_ascii_digit();
    match bytes.get(start) {
        Some(b'{') => both || matches!(next, b'}' | b'_' | b'$' | b'@') || next.is_ascii_alphabetic(),
        _ => {
            both || matches!(
                next,
                b'[' | b'{' | b']' | b'-' | b'+' | b't' | b'f' | b'n' | b'T' | b'F' | b'N' | b'i' | b'I' | b'u' | b','
            )
        }
    }
}

/// What a parsed value turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardVerdict {
    /// A value of the reply.
    Value,
    /// Punctuation: a footnote, an index, a check box, a call.
    Prose,
    /// A piece of a larger text that is not JSON.
    Fragment,
}

/// Whether the text before `at` on its line is blank, or ends with a colon.
pub(super) fn leads_line(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default().trim_end_matches([' ', '\t', '*', '`']);
    before.is_empty() || before.ends_with(['\n', ':', '：'])
}

/// Judges a parsed value by the text around it.
pub(super) fn check(text: &str, parsed: &Parsed, place: &BracketPlace) -> GuardVerdict {
    let after = text.get(parsed.end..).unwrap_or_default();
    if fragment(after) {
        return GuardVerdict::Fragment;
    }
    if is_note(parsed) {
        return GuardVerdict::Prose;
    }
    if place.source != ValueSource::Prose {
        return GuardVerdict::Value;
    }
    let before = text.get(..place.start).unwrap_or_default();
    let attached =
        before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '$' | '!' | '&' | '%'));
    let prose = match &parsed.value {
        Value::Array(_) if !place.leads && is_rough(parsed) => true,
        Value::Array(items) => {
            attached
                || after.starts_with(['(', ':']) && !items.iter().any(Value::is_object)
                || check_box(before, items, after)
        }
        Value::Object(members) => attached && (members.is_empty() || parsed.repairs.contains(&Repair::UnquotedKey)),
        _ => false,
    };
    if prose { GuardVerdict::Prose } else { GuardVerdict::Value }
}

/// Whether the parser guessed at the quotes of a value: in the middle of prose it may have begun at an apostrophe.
fn is_rough(parsed: &Parsed) -> bool {
    let rough = [Repair::UnescapedQuote, Repair::RawControl, Repair::MissingComma, Repair::UnquotedValue];
    parsed.repairs.iter().any(|repair| rough.contains(repair))
}

/// Whether a value is a note such as `[see below]`.
fn is_note(parsed: &Parsed) -> bool {
    parsed.repairs.contains(&Repair::UnquotedValue)
        && parsed.value.as_array().is_some_and(|items| items.len() == 1 && items.iter().any(Value::is_string))
}

/// Whether a value is the check box of a list item: `- [ ] to do`.
fn check_box(before: &str, items: &[Value], after: &str) -> bool {
    let mut from = before.len().saturating_sub(24);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let line = before.get(from..).unwrap_or_default().rsplit('\n').next().unwrap_or_default().trim();
    items.is_empty() && (matches!(line, "-" | "*" | "+") || line.ends_with('.')) && after.starts_with(' ')
}

/// Whether the next member of an object follows, which means that the value was closed too early.
fn fragment(after: &str) -> bool {
    let Some(rest) = after.trim_start().strip_prefix(',') else { return false };
    let Some(key) = rest.trim_start().strip_prefix('"') else { return false };
    let end = key.bytes().take(200).position(|b| b == b'"');
    end.and_then(|end| key.get(end + 1..)).is_some_and(|rest| rest.trim_start().starts_with(':'))
}

/// Whether a value in prose (`[1]`, `{}`) is too small to be an answer when the schema accepts everything.
pub(super) fn is_vague(value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            items.is_empty() || items.len() == 1 && !items.iter().any(|item| item.is_object() || item.is_array())
        }
        Value::Object(members) => members.is_empty(),
        _ => true,
    }
}
