//! Converts bytes from outside to text: UTF-8 without its byte order mark; UTF-16 is recognised by its mark.

use std::fmt;

/// The byte order mark as a character.
const MARK: char = '\u{feff}';

/// Why bytes are not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotText {
    /// They are UTF-16, by their byte order mark.
    Utf16,
    /// They hold a NUL at this byte.
    Nul(usize),
    /// They are not UTF-8 from this byte on.
    NotUtf8(usize),
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf16 => f.write_str("is UTF-16 text, and UTF-8 is needed: save it as UTF-8"),
            Self::Nul(at) => write!(f, "is not a text file: it holds a NUL at byte {at}"),
            Self::NotUtf8(at) => write!(f, "is not UTF-8 text: see byte {at}"),
        }
    }
}

/// The text of a file or of standard input.
///
/// # Errors
/// The reason why the bytes are not text.
pub fn text_of(bytes: Vec<u8>) -> Result<String, NotText> {
    if utf16(&bytes).is_some() {
        return Err(NotText::Utf16);
    }
    let nul = bytes.iter().position(|byte| *byte == 0);
    let text = match (String::from_utf8(bytes), nul) {
        (Ok(text), None) => text,
        // Report the one that comes first.
        (Err(error), nul) if nul.is_none_or(|at| error.utf8_error().valid_up_to() <= at) => {
            return Err(NotText::NotUtf8(error.utf8_error().valid_up_to()));
        }
        (Ok(_) | Err(_), nul) => return Err(NotText::Nul(nul.unwrap_or_default())),
    };
    Ok(match text.strip_prefix(MARK) {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The text of an output, which the user can't save again: UTF-16 is decoded, and bytes that are not text are replaced.
pub fn text_of_output(bytes: &[u8]) -> String {
    if let Some(text) = utf16(bytes) {
        return text;
    }
    let text = String::from_utf8_lossy(bytes);
    without_mark(&text).to_owned()
}

/// The bytes of a reply, for lenient parsing: UTF-16 is converted, and a byte order mark is removed.
pub fn reply_bytes(bytes: Vec<u8>) -> Vec<u8> {
    match utf16(&bytes) {
        Some(text) => text.into_bytes(),
        None => json_bytes(&bytes).to_vec(),
    }
}

/// JSON without the byte order mark before it.
pub fn json_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A text without the byte order mark before it.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Decodes UTF-16 that has a byte order mark; `None` for anything else.
///
/// Binary data may begin with the two bytes of the mark too. So all of it must be valid UTF-16 with an ASCII character
/// in it. Every text of more than a few words has one: a space, a line break, a digit.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (little, rest) = match bytes {
        [0xff, 0xfe, rest @ ..] => (true, rest),
        [0xfe, 0xff, rest @ ..] => (false, rest),
        _ => return None,
    };
    let (pairs, odd) = rest.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
    let text: String = char::decode_utf16(pairs.iter().map(unit)).collect::<Result<_, _>>().ok()?;
    (odd.is_empty() && text.contains(|c: char| c.is_ascii() && c != '\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str) -> Vec<u8> {
        [MARK].into_iter().chain(text.chars()).collect::<String>().encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        assert_eq!(text_of("\u{feff}é\n".into()).unwrap(), "é\n");
        assert_eq!(text_of("a\u{feff}".into()).unwrap(), "a\u{feff}");
        assert_eq!(text_of_output("\u{feff}{}".as_bytes()), "{}");
        assert_eq!(text_of_output(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(json_bytes("\u{feff}[]".as_bytes()), b"[]");
    }

    #[test]
    fn utf_16_is_told_of_files_and_decoded_of_outputs() {
        let bytes = utf16_of("é 😀");
        assert_eq!(text_of(bytes.clone()), Err(NotText::Utf16));
        assert_eq!(text_of_output(&bytes), "é 😀");
        let swapped: Vec<u8> = bytes.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        assert_eq!(text_of_output(&swapped), "é 😀");
        assert_eq!(text_of(b"a\0".to_vec()), Err(NotText::Nul(1)));
        assert_eq!(text_of(b"a\xe9".to_vec()), Err(NotText::NotUtf8(1)));
    }

    #[test]
    fn binary_data_that_begins_like_a_mark_is_not_utf_16() {
        assert_eq!(text_of(b"\xff\xfe\0".to_vec()), Err(NotText::NotUtf8(0)));
        assert_eq!(text_of(b"a\0\xff".to_vec()), Err(NotText::Nul(1)));
        let garbage = b"\xff\xfe garbage \0 no value";
        assert_eq!(text_of_output(garbage), String::from_utf8_lossy(garbage));
        // Half of a surrogate pair.
        assert_eq!(text_of_output(b"\xff\xfe \0\x00\xd8 \0"), String::from_utf8_lossy(b"\xff\xfe \0\x00\xd8 \0"));
    }
}
