//! Parses scalars without quotes: numbers, literals, and words whose quotes are missing.

use serde_json::Value;

use super::cursor::{Fault, NOT_A_JSON_NUMBER, ParseMode, TextCursor, VALUES_OMITTED, is_space};
use super::report::Repair;

/// Words for values that JSON can't express; the parser rejects them.
const NON_JSON_WORDS: [&str; 9] =
    ["nan", "infinity", "-infinity", "+infinity", "inf", "-inf", "+inf", "undefined", "-nan"];

/// The maximum length of a string without quotes, in bytes.
const MAX_WORD_BYTES: usize = 400;

/// Parses the scalar at the cursor. `is_member_value` is true for the value of a key.
pub(super) fn parse_scalar(cursor: &mut TextCursor<'_>, is_member_value: bool) -> Result<Value, Fault> {
    let tail = cursor.remaining();
    let token = tail.get(..tail.bytes().position(ends_token).unwrap_or(tail.len())).unwrap_or_default();
    if token.is_empty() {
        return Err(if tail.is_empty() { Fault::UnexpectedEnd } else { Fault::Invalid("a value is missing") });
    }
    let literal = match token {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "null" => Some(Value::Null),
        _ if is_json_number(token.as_bytes()) => parse_number(token),
        _ => None,
    };
    let start = cursor.pos;
    if let Some(value) = literal {
        cursor.pos += token.len();
        if cursor.mode == ParseMode::Exact || ends_literal(cursor.remaining()) {
            return Ok(value);
        }
        cursor.pos = start;
    }
    if cursor.mode == ParseMode::Exact {
        return Err(if token.len() == tail.len() {
            Fault::UnexpectedEnd
        } else {
            Fault::Invalid("it is not strict JSON")
        });
    }
    parse_tolerant(cursor, is_member_value)
}

/// Whether the text after a literal ends it: a bracket, a comma, a comment, a quote, or a new line.
fn ends_literal(tail: &str) -> bool {
    let following = tail.trim_start_matches(|c| is_space(c) && c != '\n' && c != '\r');
    match following.chars().next() {
        None | Some('\n' | '\r' | ',' | '，' | '}' | ']' | '"' | '\'' | '\\' | '“' | '#') => true,
        Some('/') => following.starts_with("//") || following.starts_with("/*"),
        // Items or members without a comma between them, as in `1 2` or `1 key: 2`, are ambiguous.
        Some(_) => false,
    }
}

fn ends_token(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']' | b'{' | b'[' | b':' | b'"' | b'\\' | 0x80..)
}

fn parse_tolerant(cursor: &mut TextCursor<'_>, is_member_value: bool) -> Result<Value, Fault> {
    let tail = cursor.remaining();
    let token = next_word(tail);
    if matches!(token, "-" | "+" | "/" | "#") {
        return Err(Fault::Invalid("a string has no quotes"));
    }
    let lowercase = token.to_ascii_lowercase();
    if lowercase.starts_with("...")
        || lowercase.starts_with('…')
        || lowercase.ends_with("...")
        || lowercase.ends_with('…')
    {
        return Err(Fault::Invalid(VALUES_OMITTED));
    }
    let (value, repair) = match lowercase.as_str() {
        "" => return Err(if tail.is_empty() { Fault::UnexpectedEnd } else { Fault::Invalid("a value is missing") }),
        "true" => (Value::Bool(true), Repair::LiteralSpelling),
        "false" => (Value::Bool(false), Repair::LiteralSpelling),
        "null" | "none" => (Value::Null, Repair::LiteralSpelling),
        word if NON_JSON_WORDS.contains(&word) => return Err(Fault::Invalid(NOT_A_JSON_NUMBER)),
        _ => match parse_respelled_number(token) {
            Some(value) => (value, Repair::NumberSpelling),
            None => (parse_unquoted_string(cursor, token, is_member_value)?, Repair::UnquotedValue),
        },
    };
    let is_exact = matches!(token, "true" | "false" | "null") || is_json_number(token.as_bytes());
    if !is_exact {
        cursor.add_repair(repair)?;
    }
    cursor.pos += token.len();
    Ok(if is_exact { parse_number(token).unwrap_or(value) } else { value })
}

/// The word at the start of the text. It ends at a comma, a bracket, a comment or a line end.
fn next_word(tail: &str) -> &str {
    let mut end = tail.len().min(MAX_WORD_BYTES + 4);
    while !tail.is_char_boundary(end) {
        end -= 1;
    }
    let window = tail.get(..end).unwrap_or_default();
    // A word can't contain a bracket or a quote. The search ends there, so that parsing takes linear time.
    let word_end = window.find([',', '，', '}', ']', '\n', '\r', '{', '[', '"', '<']).unwrap_or(window.len());
    let mut token = window.get(..word_end).unwrap_or_default();
    for comment in [" //", " /*", " #", "\t//", "\t#"] {
        token = token.split(comment).next().unwrap_or_default();
    }
    let token = token.trim_end_matches(is_space);
    let comment_start = token.find("//").into_iter().chain(token.find("/*")).min();
    match comment_start.and_then(|start| token.get(..start)) {
        Some(value)
            if is_json_number(value.as_bytes())
                || matches!(value, "true" | "false" | "null" | "True" | "False" | "None") =>
        {
            value
        }
        _ => token,
    }
}

/// Parses a string whose quotes are missing.
fn parse_unquoted_string(cursor: &TextCursor<'_>, token: &str, is_member_value: bool) -> Result<Value, Fault> {
    if cursor.mode != (ParseMode::Tolerant { allow_unquoted: true }) {
        return Err(Fault::Invalid("a string has no quotes"));
    }
    let first = token.chars().next().unwrap_or(' ');
    let starts_string = first.is_alphabetic()
        || is_member_value && (first.is_ascii_digit() || matches!(first, '_' | '/' | '$' | '.' | '@' | '-'));
    let is_forbidden =
        |c: char| matches!(c, '"' | '{' | '[' | '(' | '<' | '>' | '`' | '=' | ';' | '|' | '\\' | '“' | '”');
    let following = cursor.remaining().get(token.len()..).unwrap_or_default().trim_start_matches([' ', '\t']);
    let may_be_key = following.starts_with(['{', '[', '"', '<']) || token.contains(": ") || token.ends_with(':');
    // A token with only digits and similar characters is a number that JSON can't express. A string would be a guess.
    let has_radix_prefix = ["0x", "0b", "0o", "0X"].iter().any(|prefix| token.starts_with(prefix));
    let has_only_number_chars = !first.is_alphabetic()
        && token.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'e' | b'E' | b'.' | b'+' | b'n'));
    let is_number_like =
        has_radix_prefix || has_only_number_chars || token.contains(is_space) && !token.contains(char::is_alphabetic);
    let is_too_long = token.len() >= MAX_WORD_BYTES;
    if !starts_string
        || token.contains(is_forbidden)
        || may_be_key
        || is_number_like && !is_version(token)
        || is_too_long
    {
        return Err(Fault::Invalid("a string has no quotes"));
    }
    if cursor.pos + token.len() == cursor.text.len() {
        return Err(Fault::UnexpectedEnd);
    }
    if following.starts_with(['#', '/']) {
        return Err(Fault::Invalid("a string without quotes may end at a comment"));
    }
    Ok(Value::String(token.to_owned()))
}

/// Whether a word is a version such as `1.2.3`.
fn is_version(token: &str) -> bool {
    token.split('.').count() > 2
        && token.split('.').all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Removes the separators from a number with groups of three digits, such as `82_461_110`. Returns `None` if the groups
/// are irregular.
pub(super) fn remove_digit_groups(token: &str) -> Option<String> {
    let integer = token.strip_prefix(['-', '+']).unwrap_or(token).split('.').next()?;
    let mut groups = integer.split('_');
    let first_group_fits = groups.next().is_some_and(|group| (1..=3).contains(&group.len()));
    let other_groups_fit = groups.all(|group| group.len() == 3);
    let has_grouped_fraction = token.get(integer.len() + 1..).is_some_and(|tail| tail.contains('_'));
    (first_group_fits && other_groups_fit && integer.contains('_') && !has_grouped_fraction)
        .then(|| token.replace('_', ""))
}

/// Parses a number in a form that JSON does not allow: `+1`, `.5`, `5.`, `1_000`.
fn parse_respelled_number(token: &str) -> Option<Value> {
    if let Some(digits) = remove_digit_groups(token) {
        return parse_number(digits.trim_start_matches('+'));
    }
    let (sign, unsigned) = match token.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", token.strip_prefix('+').unwrap_or(token)),
    };
    let leading_zero = if unsigned.starts_with('.') { "0" } else { "" };
    let trailing_zero = if unsigned.ends_with('.') { "0" } else { "" };
    let text = format!("{sign}{leading_zero}{unsigned}{trailing_zero}");
    let has_digit = unsigned.bytes().any(|b| b.is_ascii_digit());
    has_digit.then(|| parse_number(&text)).flatten()
}

/// Parses a JSON number without losing digits.
fn parse_number(text: &str) -> Option<Value> {
    is_json_number(text.as_bytes()).then(|| serde_json::from_str(text).ok()).flatten()
}

/// Whether a text is a number in the grammar of JSON.
pub(super) fn is_json_number(text: &[u8]) -> bool {
    let digit_count = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut tail = text.strip_prefix(b"-").unwrap_or(text);
    let integer_length = digit_count(tail);
    if integer_length == 0 || integer_length > 1 && tail.first() == Some(&b'0') {
        return false;
    }
    tail = tail.get(integer_length..).unwrap_or_default();
    if let Some(fraction) = tail.strip_prefix(b".") {
        let length = digit_count(fraction);
        if length == 0 {
            return false;
        }
        tail = fraction.get(length..).unwrap_or_default();
    }
    if let Some(exponent) = tail.strip_prefix(b"e").or_else(|| tail.strip_prefix(b"E")) {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let length = digit_count(exponent);
        return length > 0 && length == exponent.len();
    }
    tail.is_empty()
}
