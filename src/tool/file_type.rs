//! Recognizes binary files by their first bytes, and reads text in UTF-16.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use crate::model::counted;
use crate::model::text::decode_output_lossy;

/// The part of a file that shows whether it is text, in bytes.
pub(super) const SNIFFED_BYTES: u64 = 8 << 10;
/// The largest file in UTF-16 that orch converts, in bytes.
pub(super) const MAX_UTF16_BYTES: u64 = 4 << 20;

/// The first bytes of common binary formats, and their names.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"BM", "BMP image"),
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\0", "xz archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (b"\x7fELF", "ELF executable"),
    (b"MZ", "Windows executable"),
    (b"\xcf\xfa\xed\xfe", "Mach-O executable"),
    (b"\0asm", "WebAssembly module"),
    (b"SQLite format 3\0", "SQLite database"),
    (b"GGUF", "GGUF model"),
    (b"OggS", "Ogg audio"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"wOF2", "WOFF2 font"),
];

/// Text in UTF-16 with a byte order mark.
pub(super) enum Utf16Text {
    /// The text, converted to UTF-8.
    Text(String),
    /// It has more than [`MAX_UTF16_BYTES`].
    TooLarge,
}

/// Reads a file that begins with these bytes, if it is text in UTF-16 with a byte order mark. The file is at its
/// beginning, before and afterwards.
pub(super) fn read_utf16(file: &mut File, beginning: &[u8]) -> io::Result<Option<Utf16Text>> {
    if !beginning.starts_with(&[0xff, 0xfe]) && !beginning.starts_with(&[0xfe, 0xff]) {
        return Ok(None);
    }
    // Binary data may begin with the same two bytes.
    let decode = |bytes: &[u8]| Some(decode_output_lossy(bytes)).filter(|text| !text.contains('\0'));
    if file.metadata()?.len() > MAX_UTF16_BYTES {
        // The part may end within a character, which has two or four bytes.
        let end = beginning.len() - beginning.len() % 2;
        let mut parts = [end, end.saturating_sub(2)].into_iter().filter_map(|end| beginning.get(..end));
        return Ok(parts.any(|part| decode(part).is_some()).then_some(Utf16Text::TooLarge));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_UTF16_BYTES).read_to_end(&mut bytes)?;
    file.rewind()?;
    Ok(decode(&bytes).map(Utf16Text::Text))
}

/// Whether a file with these first bytes is not text.
pub(super) fn is_binary(beginning: &[u8]) -> bool {
    // A text may begin with a signature that consists of letters, so such a signature counts only with a NUL.
    let is_distinct = |signature: &[u8]| !signature.is_ascii() || signature.iter().any(u8::is_ascii_control);
    let is_known = SIGNATURES
        .iter()
        .any(|(signature, _)| beginning.starts_with(signature) && (is_distinct(signature) || *signature == b"%PDF-"));
    is_known || beginning.contains(&0)
}

/// The type and the size of a binary file.
pub(super) fn describe_binary(beginning: &[u8], size: u64) -> String {
    let is_webp = beginning.starts_with(b"RIFF") && beginning.get(8..12) == Some(b"WEBP".as_slice());
    let known = SIGNATURES.iter().find(|(signature, _)| beginning.starts_with(signature)).map(|(_, name)| *name);
    let name = if is_webp { "WebP image" } else { known.unwrap_or("unknown type") };
    format!("{name}, {}", counted(size, "byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_begins_like_a_binary_format_is_text() {
        for text in ["BM is short for", "GGUF files", "MZ", "ID3 tags", "BZhang wrote", "", "plain", "grüße"] {
            assert!(!is_binary(text.as_bytes()), "{text}");
        }
        assert!(is_binary(b"a\0b") && is_binary(b"%PDF-1.7\n") && is_binary(b"\xff\xd8\xff\xe0"));
    }

    #[test]
    fn the_type_of_a_binary_file_is_named_if_it_is_known() {
        assert_eq!(describe_binary(b"\x89PNG\r\n\x1a\n....", 5), "PNG image, 5 bytes");
        assert_eq!(describe_binary(b"RIFF\0\0\0\0WEBPVP8", 9), "WebP image, 9 bytes");
        assert_eq!(describe_binary(b"BM\0\0", 4), "BMP image, 4 bytes");
        assert_eq!(describe_binary(b"\0\x01\x02", 3), "unknown type, 3 bytes");
    }
}
