//! Decodes the escapes in a text, and maps each decoded byte to its range in the original text.

use std::borrow::Cow;
use std::ops::Range;

/// The maximum number of levels of nested escapes that orch decodes.
const MAX_DEPTH: usize = 3;

/// A text with some escapes decoded.
pub(super) struct DecodedText<'a> {
    bytes: Cow<'a, [u8]>,
    /// For each byte, its range in the original text; `None` if this is the original text.
    ranges: Option<Vec<Range<usize>>>,
}

/// The length of an escape in bytes, and the bytes that it encodes.
type Escape = (usize, Vec<u8>);

impl DecodedText<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range in the original text for a range of the decoded text.
    pub(super) fn original_range(&self, decoded: Range<usize>) -> Range<usize> {
        let Some(ranges) = &self.ranges else { return decoded };
        match (ranges.get(decoded.start), ranges.get(decoded.end.saturating_sub(1))) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => decoded,
        }
    }

    /// Decodes one kind of escape, which begins with `first_byte`; `None` if the text has no such escape.
    fn decode(&self, first_byte: u8, parse_escape: fn(&[u8]) -> Option<Escape>) -> Option<DecodedText<'static>> {
        if !self.bytes.contains(&first_byte) {
            return None;
        }
        let (mut bytes, mut ranges) = (Vec::with_capacity(self.bytes.len()), Vec::with_capacity(self.bytes.len()));
        let (mut pos, mut has_escape) = (0, false);
        while let Some(tail) = self.bytes.get(pos..).filter(|tail| !tail.is_empty()) {
            let escape = if tail.first() == Some(&first_byte) { parse_escape(tail) } else { None };
            has_escape |= escape.is_some();
            let (length, decoded) = escape.unwrap_or_else(|| (1, tail.iter().take(1).copied().collect()));
            let range = self.original_range(pos..pos + length);
            ranges.extend(decoded.iter().map(|_| range.clone()));
            bytes.extend(decoded);
            pos += length;
        }
        has_escape.then(|| DecodedText { bytes: bytes.into(), ranges: Some(ranges) })
    }

    /// Removes line breaks, since Base64 is often wrapped; `None` if the text has none.
    fn without_line_breaks(&self) -> Option<DecodedText<'static>> {
        let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
        if !self.bytes.iter().any(|byte| is_break(*byte)) {
            return None;
        }
        let content = self.bytes.iter().enumerate().filter(|(_, byte)| !is_break(**byte));
        let (bytes, ranges): (Vec<u8>, Vec<_>) =
            content.map(|(pos, byte)| (*byte, self.original_range(pos..pos + 1))).unzip();
        Some(DecodedText { bytes: bytes.into(), ranges: Some(ranges) })
    }
}

/// Calls `visit` with the text itself and with every decoding of it: with the escapes of JSON or of URLs decoded, also
/// several times in a row, and with line breaks removed.
pub(super) fn visit_decodings(text: &str, visit: &mut dyn FnMut(&DecodedText<'_>)) {
    let original = DecodedText { bytes: text.as_bytes().into(), ranges: None };
    visit_nested_decodings(&original, MAX_DEPTH, visit);
}

fn visit_nested_decodings(text: &DecodedText<'_>, depth: usize, visit: &mut dyn FnMut(&DecodedText<'_>)) {
    visit(text);
    if let Some(joined) = text.without_line_breaks() {
        visit(&joined);
    }
    if depth == 0 {
        return;
    }
    let decodings = [text.decode(b'\\', parse_json_escape), text.decode(b'%', parse_url_escape)];
    for decoding in decodings.into_iter().flatten() {
        visit_nested_decodings(&decoding, depth - 1, visit);
    }
}

/// Parses `\n`, `\"`, `\u0041`: the escapes of JSON strings, which most languages share.
fn parse_json_escape(text: &[u8]) -> Option<Escape> {
    let decoded = match text.get(1)? {
        b'u' => return parse_unicode_escape(text),
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        byte @ (b'"' | b'\\' | b'/' | b'\'') => *byte,
        _ => return None,
    };
    Some((2, vec![decoded]))
}

fn parse_unicode_escape(text: &[u8]) -> Option<Escape> {
    let code_unit = |pos: usize| -> Option<u16> {
        let digits = text.get(pos..pos + 6)?.strip_prefix(b"\\u")?;
        // `from_str_radix` would accept a sign.
        let digits =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [Some(code_unit(0)?), code_unit(6)];
    let first = char::decode_utf16(units.into_iter().flatten()).next()?.ok()?;
    Some((6 * first.len_utf16(), first.to_string().into_bytes()))
}

/// Parses `%41`: the escapes of URLs.
fn parse_url_escape(text: &[u8]) -> Option<Escape> {
    let digits = std::str::from_utf8(text.get(1..3)?).ok()?;
    let digits = Some(digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((3, vec![u8::from_str_radix(digits, 16).ok()?]))
}
