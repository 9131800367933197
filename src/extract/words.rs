//! Reads scalars without quotes: numbers, literals, and words whose quotes are missing.

use serde_json::Value;

use super::cursor::{Fault, LEFT_OUT, Mode, NO_NUMBER, TextCursor, is_space};
use super::report::Repair;

/// Words for values that JSON can't express; the parser refuses them instead of a substitution.
const NO_VALUE: [&str; 9] = ["nan", "infinity", "-infinity", "+infinity", "inf", "-inf", "+inf", "undefined", "-nan"];

/// The longest text, in bytes, that is accepted as a string without quotes.
const LONGEST_WORD: usize = 400;

/// Reads the scalar here. `member`: whether it is the value of a key.
pub(super) fn read(cursor: &mut TextCursor<'_>, member: bool) -> Result<Value, Fault> {
    let rest = cursor.rest();
    let token = rest.get(..rest.bytes().position(ends_token).unwrap_or(rest.len())).unwrap_or_default();
    if token.is_empty() {
        return Err(if rest.is_empty() { Fault::Cut } else { Fault::Bad("a value is missing") });
    }
    let literal = match token {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "null" => Some(Value::Null),
        _ if is_number(token.as_bytes()) => number(token),
        _ => None,
    };
    let at = cursor.pos;
    if let Some(value) = literal {
        cursor.pos += token.len();
        if cursor.mode == Mode::Exact || alone(cursor.rest()) {
            return Ok(value);
        }
        cursor.pos = at;
    }
    if cursor.mode == Mode::Exact {
        return Err(if token.len() == rest.len() { Fault::Cut } else { Fault::Bad("it is no strict JSON") });
    }
    sloppy(cursor, member)
}

/// Whether the text after a literal ends it: a bracket, a comma, a comment, a quote, or a new line.
fn alone(rest: &str) -> bool {
    let after = rest.trim_start_matches(|c| is_space(c) && c != '\n' && c != '\r');
    match after.chars().next() {
        None | Some('\n' | '\r' | ',' | '，' | '}' | ']' | '"' | '\'' | '\\' | '“' | '#') => true,
        Some('/') => after.starts_with("//") || after.starts_with("/*"),
        // Neighbours without a comma, as in `1 2` or `1 key: 2`, are ambiguous.
        Some(_) => false,
    }
}

fn ends_token(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']' | b'{' | b'[' | b':' | b'"' | b'\\' | 0x80..)
}

fn sloppy(cursor: &mut TextCursor<'_>, member: bool) -> Result<Value, Fault> {
    let rest = cursor.rest();
    let token = word(rest);
    if matches!(token, "-" | "+" | "/" | "#") {
        return Err(Fault::Bad("a string has no quotes"));
    }
    let lower = token.to_ascii_lowercase();
    if lower.starts_with("...") || lower.starts_with('…') || lower.ends_with("...") || lower.ends_with('…') {
        return Err(Fault::Bad(LEFT_OUT));
    }
    let (value, repair) = match lower.as_str() {
        "" => return Err(if rest.is_empty() { Fault::Cut } else { Fault::Bad("a value is missing") }),
        "true" => (Value::Bool(true), Repair::LiteralSpelling),
        "false" => (Value::Bool(false), Repair::LiteralSpelling),
        "null" | "none" => (Value::Null, Repair::LiteralSpelling),
        word if NO_VALUE.contains(&word) => return Err(Fault::Bad(NO_NUMBER)),
        _ => match respelled(token) {
            Some(value) => (value, Repair::NumberSpelling),
            None => (bare(cursor, token, member)?, Repair::UnquotedValue),
        },
    };
    let exact = matches!(token, "true" | "false" | "null") || is_number(token.as_bytes());
    if !exact {
        cursor.note(repair)?;
    }
    cursor.pos += token.len();
    Ok(if exact { number(token).unwrap_or(value) } else { value })
}

/// The text up to the comma, bracket, comment or line end that ends a word.
fn word(rest: &str) -> &str {
    let mut end = rest.len().min(LONGEST_WORD + 4);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    let window = rest.get(..end).unwrap_or_default();
    // A word can't contain a bracket or a quote. The search stops there to stay linear.
    let stop = window.find([',', '，', '}', ']', '\n', '\r', '{', '[', '"', '<']).unwrap_or(window.len());
    let mut token = window.get(..stop).unwrap_or_default();
    for comment in [" //", " /*", " #", "\t//", "\t#"] {
        token = token.split(comment).next().unwrap_or_default();
    }
    let token = token.trim_end_matches(is_space);
    let comment = token.find("//").into_iter().chain(token.find("/*")).min();
    match comment.and_then(|at| token.get(..at)) {
        Some(head)
            if is_number(head.as_bytes()) || matches!(head, "true" | "false" | "null" | "True" | "False" | "None") =>
        {
            head
        }
        _ => token,
    }
}

/// A word whose quotes are missing.
fn bare(cursor: &TextCursor<'_>, token: &str, member: bool) -> Result<Value, Fault> {
    if cursor.mode != (Mode::Tolerant { bare: true }) {
        return Err(Fault::Bad("a string has no quotes"));
    }
    let first = token.chars().next().unwrap_or(' ');
    let starts = first.is_alphabetic()
        || member && (first.is_ascii_digit() || matches!(first, '_' | '/' | '$' | '.' | '@' | '-'));
    let odd = |c: char| matches!(c, '"' | '{' | '[' | '(' | '<' | '>' | '`' | '=' | ';' | '|' | '\\' | '“' | '”');
    let glued = cursor
        .rest()
        .get(token.len()..)
        .is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with(['{', '[', '"', '<']));
    let colon = glued || token.contains(": ") || token.ends_with(':');
    // Digits alone are a number in a form that JSON can't express; a string would be a guess.
    let hex = ["0x", "0b", "0o", "0X"].iter().any(|prefix| token.starts_with(prefix));
    let odd_number = !first.is_alphabetic()
        && token.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'e' | b'E' | b'.' | b'+' | b'n'));
    let digits = hex || odd_number || token.contains(is_space) && !token.contains(char::is_alphabetic);
    let whole_end = token.len() >= LONGEST_WORD;
    if !starts || token.contains(odd) || colon || digits && !version(token) || whole_end {
        return Err(Fault::Bad("a string has no quotes"));
    }
    if cursor.pos + token.len() == cursor.text.len() {
        return Err(Fault::Cut);
    }
    let after = cursor.rest().get(token.len()..).unwrap_or_default().trim_start_matches([' ', '\t']);
    if after.starts_with(['#', '/']) {
        return Err(Fault::Bad("a string without quotes goes on with what may be a comment"));
    }
    Ok(Value::String(token.to_owned()))
}

/// Whether a word is a version such as `1.2.3`.
fn version(token: &str) -> bool {
    token.split('.').count() > 2
        && token.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// The digits of a number that is grouped by thousands, such as `82_461_110`; `None` when the groups are irregular.
pub(super) fn ungrouped(token: &str) -> Option<String> {
    let digits = token.strip_prefix(['-', '+']).unwrap_or(token).split('.').next()?;
    let mut groups = digits.split('_');
    let first = groups.next().is_some_and(|group| (1..=3).contains(&group.len()));
    let rest = groups.all(|group| group.len() == 3);
    (first && rest && digits.contains('_') && !token.get(digits.len() + 1..).is_some_and(|tail| tail.contains('_')))
        .then(|| token.replace('_', ""))
}

/// The number behind a spelling that JSON does not allow: `+1`, `.5`, `5.`, `1_000`.
fn respelled(token: &str) -> Option<Value> {
    if let Some(plain) = ungrouped(token) {
        return number(plain.trim_start_matches('+'));
    }
    let (sign, rest) = match token.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", token.strip_prefix('+').unwrap_or(token)),
    };
    let head = if rest.starts_with('.') { "0" } else { "" };
    let tail = if rest.ends_with('.') { "0" } else { "" };
    let text = format!("{sign}{head}{rest}{tail}");
    let spelled = rest.bytes().any(|b| b.is_ascii_digit()) && is_number(text.as_bytes());
    spelled.then(|| number(&text)).flatten()
}

/// Parses a JSON number and keeps all its digits.
fn number(text: &str) -> Option<Value> {
    is_number(text.as_bytes()).then(|| serde_json::from_str(text).ok()).flatten()
}

/// Whether this is a number in the grammar of JSON.
pub(super) fn is_number(text: &[u8]) -> bool {
    let digits = |rest: &[u8]| rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || whole > 1 && rest.first() == Some(&b'0') {
        return false;
    }
    rest = rest.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = fraction.get(length..).unwrap_or_default();
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}
