//! A JSON object or list that arrives in chunks. Examines each byte once, so that the time for a body is proportional to
//! its size, whatever its chunks are.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::contradictions::parse_json;
use crate::model::text::strip_bom_bytes;

/// The bytes of a UTF-8 byte order mark.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xef\xbb\xbf";

/// The bytes of a body so far.
#[derive(Debug, Default)]
pub(super) struct JsonBody {
    bytes: Vec<u8>,
    scan: Scan,
    /// Whether the value is valid JSON, once that was checked.
    is_valid: Option<bool>,
}

/// The position in a body, as far as its brackets and quotes show.
#[derive(Clone, Copy, Debug, Default)]
enum Scan {
    /// Before the value.
    #[default]
    Before,
    /// In the value, within so many brackets.
    InValue { depth: usize },
    /// In a string of the value.
    InString { depth: usize, is_escaped: bool },
    /// After the value: the offset of its end, and that of the first byte after it that is no white space.
    After { value_end: usize, text_start: Option<usize> },
    /// The body does not begin with an object or a list.
    OtherValue,
}

/// What follows a value in a body, except for white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterValue {
    Nothing,
    /// Comments or events of a stream.
    Events,
    Other,
}

impl JsonBody {
    /// Appends a chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk);
        self.scan = (start..).zip(chunk).fold(self.scan, |scan, (offset, byte)| scan.next(offset, *byte));
    }

    /// The number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether the body so far is one valid object or list, and white space. Parses the body at most once.
    pub(super) fn is_complete(&mut self) -> bool {
        let Scan::After { value_end, text_start: None } = self.scan else { return false };
        let value = self.bytes.get(..value_end).unwrap_or_default();
        *self.is_valid.get_or_insert_with(|| serde_json::from_slice::<IgnoredAny>(strip_bom_bytes(value)).is_ok())
    }

    /// The number of bytes of white space after the value, if nothing else follows it.
    pub(super) fn white_space_after_value(&self) -> usize {
        match self.scan {
            Scan::After { value_end, text_start: None } => self.bytes.len() - value_end,
            _ => 0,
        }
    }

    /// What follows the value; `None` while the value is incomplete.
    pub(super) fn after_value(&self) -> Option<AfterValue> {
        let Scan::After { text_start, .. } = self.scan else { return None };
        let Some(text) = text_start.and_then(|start| self.bytes.get(start..)) else { return Some(AfterValue::Nothing) };
        let begins_event = [&b":"[..], b"data:", b"event:"].iter().any(|field| text.starts_with(field));
        Some(if begins_event { AfterValue::Events } else { AfterValue::Other })
    }

    /// Parses the value; `None` while it is incomplete, and if it is not valid.
    pub(super) fn value(&self) -> Option<Value> {
        let Scan::After { value_end, .. } = self.scan else { return None };
        parse_json(strip_bom_bytes(self.bytes.get(..value_end)?)).ok()
    }
}

impl Scan {
    /// The position after a byte; `offset` is that of the byte in the body.
    fn next(self, offset: usize, byte: u8) -> Self {
        match (self, byte) {
            (Self::Before, b'{' | b'[') => Self::InValue { depth: 1 },
            (Self::Before, _) if byte.is_ascii_whitespace() || BYTE_ORDER_MARK.get(offset) == Some(&byte) => self,
            (Self::Before, _) => Self::OtherValue,
            (Self::InValue { depth }, b'"') => Self::InString { depth, is_escaped: false },
            (Self::InValue { depth }, b'{' | b'[') => Self::InValue { depth: depth + 1 },
            (Self::InValue { depth: 1 }, b'}' | b']') => Self::After { value_end: offset + 1, text_start: None },
            (Self::InValue { depth }, b'}' | b']') => Self::InValue { depth: depth - 1 },
            (Self::InString { depth, is_escaped: true }, _) => Self::InString { depth, is_escaped: false },
            (Self::InString { depth, .. }, b'\\') => Self::InString { depth, is_escaped: true },
            (Self::InString { depth, .. }, b'"') => Self::InValue { depth },
            (Self::After { value_end, text_start: None }, _) if !byte.is_ascii_whitespace() => {
                Self::After { value_end, text_start: Some(offset) }
            }
            (Self::InValue { .. } | Self::InString { .. } | Self::After { .. } | Self::OtherValue, _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(chunks: &[&str]) -> JsonBody {
        let mut body = JsonBody::default();
        for chunk in chunks {
            body.push(chunk.as_bytes());
        }
        body
    }

    #[test]
    fn a_value_is_complete_at_its_last_bracket_however_it_is_split() {
        for (text, is_complete) in [
            ("{}", true),
            (" \n[1, {\"a\": \"}\\\"]\"}]\n ", true),
            ("\u{feff}{\"a\": 1}", true),
            ("{\"a\": [1, 2}", false),
            ("{\"a\": 1", false),
            ("{nope}", false),
            ("{} {}", false),
            ("{}x", false),
            ("\"text\"", false),
            ("7", false),
            ("", false),
        ] {
            for size in 1..=text.len().max(1) {
                let mut body = JsonBody::default();
                text.as_bytes().chunks(size).for_each(|chunk| body.push(chunk));
                assert_eq!(body.is_complete(), is_complete, "{text:?} {size}");
            }
        }
    }

    #[test]
    fn the_bytes_after_a_value_are_distinguished() {
        for (text, after) in [
            ("{\"a\": 1", None),
            ("{}\n \n", Some(AfterValue::Nothing)),
            ("{}\n: ping", Some(AfterValue::Events)),
            ("[]\n\ndata: 1", Some(AfterValue::Events)),
            ("{}\nda", Some(AfterValue::Other)),
            ("{}{}", Some(AfterValue::Other)),
            ("data: {}", None),
        ] {
            assert_eq!(body(&[text]).after_value(), after, "{text:?}");
        }
        assert_eq!(body(&["\u{feff}{\"a\":", " [1]}\n: x"]).value(), Some(json!({"a": [1]})));
        assert_eq!(body(&["{nope}"]).value(), None);
        assert_eq!(body(&["{\"a\": 1"]).value(), None);
    }

    #[test]
    fn a_growing_list_is_not_parsed_before_its_end() {
        // Each of these chunks ends with a bracket, at which a list could be complete.
        let mut body = body(&["["]);
        for _ in 0..1000 {
            body.push(b"[],[]");
            assert!(!body.is_complete() && body.is_valid.is_none());
            body.push(b" ,");
        }
        body.push(b"[]]");
        assert!(body.is_complete() && body.is_valid == Some(true));
        // A value that is not valid is parsed once.
        let mut invalid = self::body(&["{nope}"]);
        assert!(!invalid.is_complete() && invalid.is_valid == Some(false));
    }
}
