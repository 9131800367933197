//! Decodes a reply to text, removes terminal colour codes, and trims it.

use std::borrow::Cow;

use super::cursor::is_space;
use super::report::Repair;

/// Decodes a reply, and removes terminal codes. Returns the text and the repairs.
pub(super) fn decode_reply(reply: &[u8]) -> (Cow<'_, str>, Vec<Repair>) {
    let mut repairs = Vec::new();
    let text = String::from_utf8_lossy(reply);
    if matches!(text, Cow::Owned(_)) {
        repairs.push(Repair::InvalidUtf8);
    }
    let text = match strip_terminal_codes(&text) {
        Some(stripped) => {
            repairs.push(Repair::AnsiCodes);
            Cow::Owned(stripped)
        }
        None => text,
    };
    (text, repairs)
}

/// Trims white space, byte order marks and NUL characters.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c| is_space(c) || c == '\0')
}

/// The text without its terminal codes; `None` if the text has no terminal codes.
fn strip_terminal_codes(text: &str) -> Option<String> {
    let first = text.find('\u{1b}')?;
    let mut stripped = String::with_capacity(text.len());
    stripped.push_str(text.get(..first)?);
    let mut tail = text.get(first..)?;
    while let Some(code) = tail.strip_prefix('\u{1b}') {
        tail = code.get(code_length(code)..)?;
        let next = tail.find('\u{1b}').unwrap_or(tail.len());
        stripped.push_str(tail.get(..next)?);
        tail = tail.get(next..)?;
    }
    Some(stripped)
}

/// The length of a terminal code without its escape character.
fn code_length(code: &str) -> usize {
    let bytes = code.as_bytes();
    match bytes.first() {
        Some(b'[') => {
            let body = bytes.iter().skip(1).take(64).take_while(|b| matches!(b, 0x20..=0x3f)).count();
            1 + body + usize::from(bytes.get(1 + body).is_some_and(|b| matches!(b, 0x40..=0x7e)))
        }
        Some(b']') => bytes.iter().take(2048).position(|b| *b == 7).map_or(1, |pos| pos + 1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminal_codes_are_removed() {
        assert_eq!(strip_terminal_codes("a\u{1b}[1;32mb\u{1b}[0m\u{1b}]0;t\u{7}c").as_deref(), Some("abc"));
        assert_eq!(strip_terminal_codes("abc"), None);
        assert_eq!(decode_reply(b"\xffa").1, [Repair::InvalidUtf8]);
    }
}
