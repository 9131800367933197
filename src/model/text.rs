//! Decodes bytes from files and programs as text: UTF-8, without a byte order mark. Detects UTF-16 by its byte order
//! mark.

use std::fmt;

/// The byte order mark as a character.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why bytes are not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeTextError {
    /// They are UTF-16 with a byte order mark.
    Utf16,
    /// They contain a NUL at this offset.
    Nul(usize),
    /// They are not valid UTF-8 from this offset on.
    NotUtf8(usize),
}

impl fmt::Display for DecodeTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf16 => f.write_str("is UTF-16 text: save it as UTF-8"),
            Self::Nul(offset) => write!(f, "is not a text file: it holds a NUL at byte {offset}"),
            Self::NotUtf8(offset) => write!(f, "is not UTF-8 text: see byte {offset}"),
        }
    }
}

/// Decodes a file or standard input.
///
/// # Errors
/// The reason why the bytes are not text.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, DecodeTextError> {
    if decode_utf16(&bytes).is_some() {
        return Err(DecodeTextError::Utf16);
    }
    let nul = bytes.iter().position(|byte| *byte == 0);
    let text = match (String::from_utf8(bytes), nul) {
        (Ok(text), None) => text,
        // If the bytes have both errors, report the first one.
        (Err(error), nul) if nul.is_none_or(|offset| error.utf8_error().valid_up_to() <= offset) => {
            return Err(DecodeTextError::NotUtf8(error.utf8_error().valid_up_to()));
        }
        (Ok(_) | Err(_), nul) => return Err(DecodeTextError::Nul(nul.unwrap_or_default())),
    };
    Ok(match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(without_bom) => without_bom.to_owned(),
        None => text,
    })
}

/// Decodes the output of a program: converts UTF-16, and replaces invalid bytes.
pub fn decode_output_lossy(bytes: &[u8]) -> String {
    if let Some(text) = decode_utf16(bytes) {
        return text;
    }
    let text = String::from_utf8_lossy(bytes);
    strip_bom(&text).to_owned()
}

/// Prepares the bytes of a reply for lenient parsing: converts UTF-16 to UTF-8, and removes a byte order mark.
pub fn normalize_reply_bytes(bytes: Vec<u8>) -> Vec<u8> {
    match decode_utf16(&bytes) {
        Some(text) => text.into_bytes(),
        None => strip_bom_bytes(&bytes).to_vec(),
    }
}

/// Removes the byte order mark from JSON.
pub fn strip_bom_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Removes the byte order mark from a text.
pub fn strip_bom(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Decodes UTF-16 that has a byte order mark; `None` for anything else.
///
/// Binary data may begin with the same two bytes. Therefore the rest must be valid UTF-16 and contain an ASCII
/// character, such as a space, a line break or a digit.
fn decode_utf16(bytes: &[u8]) -> Option<String> {
    let (is_little_endian, data) = match bytes {
        [0xff, 0xfe, data @ ..] => (true, data),
        [0xfe, 0xff, data @ ..] => (false, data),
        _ => return None,
    };
    let (pairs, remainder) = data.as_chunks::<2>();
    let to_unit = |pair: &[u8; 2]| if is_little_endian { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
    let text: String = char::decode_utf16(pairs.iter().map(to_unit)).collect::<Result<_, _>>().ok()?;
    (remainder.is_empty() && text.contains(|c: char| c.is_ascii() && c != '\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode_utf16_le(text: &str) -> Vec<u8> {
        format!("{BYTE_ORDER_MARK}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_is_removed() {
        assert_eq!(decode_text("\u{feff}é\n".into()).unwrap(), "é\n");
        assert_eq!(decode_text("a\u{feff}".into()).unwrap(), "a\u{feff}");
        assert_eq!(decode_output_lossy("\u{feff}{}".as_bytes()), "{}");
        assert_eq!(decode_output_lossy(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(strip_bom_bytes("\u{feff}[]".as_bytes()), b"[]");
    }

    #[test]
    fn utf_16_is_an_error_in_a_file_and_decoded_in_an_output() {
        let bytes = encode_utf16_le("é 😀");
        assert_eq!(decode_text(bytes.clone()), Err(DecodeTextError::Utf16));
        assert_eq!(decode_output_lossy(&bytes), "é 😀");
        let big_endian: Vec<u8> = bytes.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
        assert_eq!(decode_output_lossy(&big_endian), "é 😀");
        assert_eq!(decode_text(b"a\0".to_vec()), Err(DecodeTextError::Nul(1)));
        assert_eq!(decode_text(b"a\xe9".to_vec()), Err(DecodeTextError::NotUtf8(1)));
    }

    #[test]
    fn binary_data_that_begins_with_a_byte_order_mark_is_not_utf_16() {
        assert_eq!(decode_text(b"\xff\xfe\0".to_vec()), Err(DecodeTextError::NotUtf8(0)));
        assert_eq!(decode_text(b"a\0\xff".to_vec()), Err(DecodeTextError::Nul(1)));
        let garbage = b"\xff\xfe garbage \0 no value";
        assert_eq!(decode_output_lossy(garbage), String::from_utf8_lossy(garbage));
        // Half of a surrogate pair.
        assert_eq!(decode_output_lossy(b"\xff\xfe \0\x00\xd8 \0"), String::from_utf8_lossy(b"\xff\xfe \0\x00\xd8 \0"));
    }
}
