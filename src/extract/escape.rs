//! Reads escape sequences in strings.

use super::cursor::{Fault, TextCursor};
use super::report::Repair;

/// Reads the escape sequence here into `out`. A backslash that escapes nothing stays in the text.
pub(super) fn read(cursor: &mut TextCursor<'_>, out: &mut String, quotes: &[char]) -> Result<(), Fault> {
    let next = cursor.rest().chars().nth(1).ok_or(Fault::Cut)?;
    let plain = match next {
        '"' | '\\' | '/' => Some(next),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => return unicode(cursor, out),
        _ => None,
    };
    match plain {
        Some(_) if next.is_ascii_alphabetic() && in_path(cursor) => literally(cursor, out),
        Some(c) => {
            out.push(c);
            cursor.pos += 2;
            Ok(())
        }
        None if next == '\'' || quotes.contains(&next) => {
            cursor.note(Repair::InvalidEscape)?;
            out.push(next);
            cursor.pos += 1 + next.len_utf8();
            Ok(())
        }
        None => literally(cursor, out),
    }
}

fn literally(cursor: &mut TextCursor<'_>, out: &mut String) -> Result<(), Fault> {
    cursor.note(Repair::InvalidEscape)?;
    out.push('\\');
    cursor.pos += 1;
    Ok(())
}

/// Whether this backslash is part of a path such as `C:\Work\new`. Always false in exact mode.
fn in_path(cursor: &TextCursor<'_>) -> bool {
    if cursor.mode == super::cursor::Mode::Exact {
        return false;
    }
    let from = cursor.pos.saturating_sub(260);
    let before = cursor.text.as_bytes().get(from..cursor.pos).unwrap_or_default();
    let word =
        before.iter().rposition(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'(')).map_or(0, |i| i + 1);
    matches!(before.get(word..), Some([drive, b':', rest @ ..]) if drive.is_ascii_alphabetic() && !rest.windows(2).any(|w| w == b"\\\\"))
        && cursor.text.get(from + word + 2..).is_some_and(|path| path.starts_with('\\'))
}

fn unicode(cursor: &mut TextCursor<'_>, out: &mut String) -> Result<(), Fault> {
    let Some(first) = unit(cursor.rest())? else { return literally(cursor, out) };
    let c = match first {
        0xd800..=0xdbff => {
            let low = unit(cursor.rest().get(6..).unwrap_or_default())?.filter(|low| (0xdc00..=0xdfff).contains(low));
            let low = low.ok_or(Fault::Bad("half of a surrogate pair is missing"))?;
            cursor.pos += 6;
            char::from_u32(0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00))
        }
        _ => char::from_u32(first),
    };
    out.push(c.ok_or(Fault::Bad("half of a surrogate pair is missing"))?);
    cursor.pos += 6;
    Ok(())
}

/// The code unit of an escape (`\u` and four hexadecimal digits) at the start of the text; `None` when the text starts
/// with something else.
fn unit(text: &str) -> Result<Option<u32>, Fault> {
    let Some(digits) = text.strip_prefix("\\u") else { return Ok(None) };
    let mut value = 0;
    for i in 0..4 {
        let Some(digit) = digits.as_bytes().get(i) else { return Err(Fault::Cut) };
        let Some(digit) = char::from(*digit).to_digit(16) else { return Ok(None) };
        value = value * 16 + digit;
    }
    Ok(Some(value))
}
