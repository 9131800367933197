//! Parses escape sequences in strings.

use super::cursor::{Fault, HALF_SURROGATE, TextCursor};
use super::report::Repair;

/// Appends the character of the escape sequence at the cursor to `out`. A backslash that does not start an escape
/// sequence is part of the text.
pub(super) fn parse_escape(cursor: &mut TextCursor<'_>, out: &mut String, quotes: &[char]) -> Result<(), Fault> {
    let next = cursor.remaining().chars().nth(1).ok_or(Fault::UnexpectedEnd)?;
    let unescaped = match next {
        '"' | '\\' | '/' => Some(next),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => return parse_unicode_escape(cursor, out),
        _ => None,
    };
    match unescaped {
        Some(_) if next.is_ascii_alphabetic() && is_in_windows_path(cursor) => keep_backslash(cursor, out),
        Some(c) => {
            out.push(c);
            cursor.pos += 2;
            Ok(())
        }
        None if next == '\'' || quotes.contains(&next) => {
            cursor.add_repair(Repair::InvalidEscape)?;
            out.push(next);
            cursor.pos += 1 + next.len_utf8();
            Ok(())
        }
        None => keep_backslash(cursor, out),
    }
}

/// Appends the backslash at the cursor to `out`.
fn keep_backslash(cursor: &mut TextCursor<'_>, out: &mut String) -> Result<(), Fault> {
    cursor.add_repair(Repair::InvalidEscape)?;
    out.push('\\');
    cursor.pos += 1;
    Ok(())
}

/// Whether the backslash at the cursor is part of a path such as `C:\Work\new`. Always false in exact mode.
fn is_in_windows_path(cursor: &TextCursor<'_>) -> bool {
    if cursor.mode == super::cursor::ParseMode::Exact {
        return false;
    }
    let window_start = cursor.pos.saturating_sub(260);
    let preceding = cursor.text.as_bytes().get(window_start..cursor.pos).unwrap_or_default();
    let word_start = preceding
        .iter()
        .rposition(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'('))
        .map_or(0, |i| i + 1);
    let Some([drive, b':', path_start @ ..]) = preceding.get(word_start..) else { return false };
    drive.is_ascii_alphabetic()
        && !path_start.windows(2).any(|pair| pair == b"\\\\")
        && cursor.text.get(window_start + word_start + 2..).is_some_and(|path| path.starts_with('\\'))
}

fn parse_unicode_escape(cursor: &mut TextCursor<'_>, out: &mut String) -> Result<(), Fault> {
    let Some(code_unit) = parse_code_unit(cursor.remaining())? else { return keep_backslash(cursor, out) };
    let c = match code_unit {
        0xd800..=0xdbff => {
            let following = cursor.remaining().get(6..).unwrap_or_default();
            if "\\u".starts_with(following) {
                return Err(Fault::UnexpectedEnd);
            }
            let low_surrogate =
                parse_code_unit(following)?.filter(|low_surrogate| (0xdc00..=0xdfff).contains(low_surrogate));
            let low_surrogate = low_surrogate.ok_or(Fault::Invalid(HALF_SURROGATE))?;
            cursor.pos += 6;
            char::from_u32(0x10000 + ((code_unit - 0xd800) << 10) + (low_surrogate - 0xdc00))
        }
        _ => char::from_u32(code_unit),
    };
    out.push(c.ok_or(Fault::Invalid(HALF_SURROGATE))?);
    cursor.pos += 6;
    Ok(())
}

/// The code unit of an escape (`\u` and four hexadecimal digits) at the start of the text; `None` if the text starts
/// with something else.
fn parse_code_unit(text: &str) -> Result<Option<u32>, Fault> {
    let Some(digits) = text.strip_prefix("\\u") else { return Ok(None) };
    let mut value = 0;
    for i in 0..4 {
        let Some(digit) = digits.as_bytes().get(i) else { return Err(Fault::UnexpectedEnd) };
        let Some(digit) = char::from(*digit).to_digit(16) else { return Ok(None) };
        value = value * 16 + digit;
    }
    Ok(Some(value))
}
