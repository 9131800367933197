//! Halves of surrogate pairs in JSON, such as `"\ud83d"`: valid JSON, but no text. A server that splits its texts by
//! UTF-16 code units sends the halves of one character in two pieces, or only the first half of a text that it cut off.
//!
//! [`parse_json`] replaces each half by a mark in its string. The functions and the type below join the halves again,
//! or write the rest as escapes, so that a half in JSON remains a half and the checks of the reply find it.
//! [`replace_halves`] is for messages whose halves never come in two pieces.

use std::borrow::Cow;

use crate::model::repeated_keys::{ReadJson, read_json};

/// Precedes the four hexadecimal digits of a half. Unicode reserves this code point for internal use, so texts do not
/// contain it.
const MARK: char = '\u{fdd0}';

/// Parses JSON. In strings, halves of surrogate pairs become marks. Keys that an object has again with another value
/// have marks too ([`read_json`]).
pub fn parse_json(bytes: &[u8]) -> serde_json::Result<ReadJson> {
    read_json(bytes).or_else(|error| match mark_halves(bytes) {
        Some(marked) => read_json(&marked).map_err(|_| error),
        None => Err(error),
    })
}

/// A piece of a text that is JSON itself, with the halves as escapes. Halves that follow each other form a pair again.
pub fn with_escapes(text: &str) -> Cow<'_, str> {
    if text.contains(MARK) { Cow::Owned(text.replace(MARK, "\\u")) } else { Cow::Borrowed(text) }
}

/// A text without halves: joins those that belong together, and replaces the others by U+FFFD.
pub fn without_halves(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((unit, following)) = split_half(rest) {
            units.push(unit);
            rest = following;
        } else {
            let (plain, following) = split_at_mark(rest);
            units.extend(plain.encode_utf16());
            rest = following;
        }
    }
    Cow::Owned(String::from_utf16_lossy(&units))
}

/// Appends a piece to a text with marks, and joins the halves of a pair where they meet.
pub fn append(text: &mut String, piece: &str) {
    let joined = || {
        let (second_half, following) = split_half(piece)?;
        let start = text.rfind(MARK)?;
        let (first_half, "") = split_half(text.get(start..)?)? else { return None };
        let character = char::decode_utf16([first_half, second_half]).next()?.ok()?;
        Some((start, character, following))
    };
    match joined() {
        Some((start, character, following)) => {
            text.truncate(start);
            text.push(character);
            text.push_str(following);
        }
        None => text.push_str(piece),
    }
}

/// Joins the halves in the pieces of a text.
#[derive(Default)]
pub struct HalfJoiner {
    /// The first half of a pair at the end of the pieces so far.
    first_half: Option<u16>,
    /// Whether the text has a half without the other one.
    has_lone_half: bool,
}

impl HalfJoiner {
    /// The text of the next piece, with lone halves as escapes. Holds the first half of a pair at its end back.
    pub fn push<'a>(&mut self, piece: &'a str) -> Cow<'a, str> {
        if piece.is_empty() || (self.first_half.is_none() && !piece.contains(MARK)) {
            return Cow::Borrowed(piece);
        }
        let mut text = String::with_capacity(piece.len());
        let mut rest = piece;
        while !rest.is_empty() {
            if let Some((unit, following)) = split_half(rest) {
                self.push_half(unit, &mut text);
                rest = following;
                continue;
            }
            if let Some(first_half) = self.first_half.take() {
                self.push_escape(first_half, &mut text);
            }
            let (plain, following) = split_at_mark(rest);
            text.push_str(plain);
            rest = following;
        }
        Cow::Owned(text)
    }

    fn push_half(&mut self, unit: u16, text: &mut String) {
        let first_half = self.first_half.take();
        let is_first = (0xd800..=0xdbff).contains(&unit);
        match first_half {
            Some(first_half) if !is_first => text.extend(char::decode_utf16([first_half, unit]).flatten()),
            first_half => {
                if let Some(first_half) = first_half {
                    self.push_escape(first_half, text);
                }
                if is_first {
                    self.first_half = Some(unit);
                } else {
                    self.push_escape(unit, text);
                }
            }
        }
    }

    fn push_escape(&mut self, unit: u16, text: &mut String) {
        self.has_lone_half = true;
        text.push_str(&format!("\\u{unit:04x}"));
    }

    /// Whether the text has a half without the other one, if no further piece follows.
    pub fn has_lone_half(&self) -> bool {
        self.has_lone_half || self.first_half.is_some()
    }
}

/// The half at the start of a text with marks, and the text after it.
fn split_half(text: &str) -> Option<(u16, &str)> {
    let (digits, following) = text.strip_prefix(MARK)?.split_at_checked(4)?;
    let unit = parse_digits(digits.as_bytes()).filter(|unit| (0xd800..=0xdfff).contains(unit))?;
    Some((unit, following))
}

/// Splits a text that does not begin with a half at its next mark.
fn split_at_mark(text: &str) -> (&str, &str) {
    let next_mark = text.char_indices().skip(1).find(|(_, character)| *character == MARK);
    text.split_at(next_mark.map_or(text.len(), |(position, _)| position))
}

/// The JSON with a mark in the place of each half; `None` if there are no halves.
fn mark_halves(json: &[u8]) -> Option<Vec<u8>> {
    substitute_halves(json, |half| format!("{MARK}{half:04x}"))
}

/// JSON without halves: U+FFFD replaces each of them. The JSON may be cut off or wrong elsewhere.
pub fn replace_halves(json: &[u8]) -> Cow<'_, [u8]> {
    let replacement = char::REPLACEMENT_CHARACTER.to_string();
    substitute_halves(json, |_| replacement.clone()).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// The JSON with a text in the place of each half; `None` if there are no halves.
fn substitute_halves(json: &[u8], substitute: impl Fn(u16) -> String) -> Option<Vec<u8>> {
    let mut substituted = Vec::with_capacity(json.len());
    let mut has_halves = false;
    let mut rest = json;
    while let Some(start) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escape) = rest.split_at(start);
        substituted.extend_from_slice(plain);
        let unit = code_unit(escape);
        let is_pair = matches!(unit, Some(0xd800..=0xdbff))
            && matches!(escape.get(6..).and_then(code_unit), Some(0xdc00..=0xdfff));
        let (length, half) = match unit {
            Some(_) if is_pair => (12, None),
            Some(0xd800..=0xdfff) => (6, unit),
            Some(_) => (6, None),
            None => (escape.len().min(2), None),
        };
        let (escape, following) = escape.split_at(length);
        match half {
            Some(half) => {
                has_halves = true;
                substituted.extend_from_slice(substitute(half).as_bytes());
            }
            None => substituted.extend_from_slice(escape),
        }
        rest = following;
    }
    substituted.extend_from_slice(rest);
    has_halves.then_some(substituted)
}

/// The code unit of the escape (`\u` and four hexadecimal digits) at the start of some JSON.
fn code_unit(json: &[u8]) -> Option<u16> {
    parse_digits(json.strip_prefix(b"\\u")?.get(..4)?)
}

fn parse_digits(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |number: u16, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((number << 4) | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse_json(bytes: &[u8]) -> serde_json::Result<Value> {
        super::parse_json(bytes).map(|read| read.value)
    }

    /// The text of pieces that are strings in JSON, and whether it has a lone half.
    fn join(pieces: &[&str]) -> (String, bool) {
        let mut joiner = HalfJoiner::default();
        let mut text = String::new();
        for piece in pieces {
            let piece = parse_json(format!("\"{piece}\"").as_bytes()).unwrap();
            text.push_str(&joiner.push(piece.as_str().unwrap()));
        }
        (text, joiner.has_lone_half())
    }

    #[test]
    fn halves_in_two_pieces_are_joined() {
        for pieces in [
            vec![r"hi \ud83d", r"\ude00!"],
            vec![r"hi \uD83D", "", r"\uDE00!"],
            vec!["hi ", r"\ud83d", r"\ude00", "!"],
            vec![r"hi \ud83d\ude00!"],
            vec!["hi 😀!"],
        ] {
            assert_eq!(join(&pieces), ("hi 😀!".to_owned(), false), "{pieces:?}");
        }
        assert_eq!(join(&[r"\ud83d", r"\ude00\ud83d", r"\ude00"]), ("😀😀".to_owned(), false));
    }

    #[test]
    fn lone_halves_are_escapes() {
        for (pieces, text) in [
            (vec![r"a\ud83db"], r"a\ud83db"),
            (vec![r"a\ude00b"], r"a\ude00b"),
            (vec![r"a\ud83d", "b"], r"a\ud83db"),
            (vec![r"a\ud83d", r"\ud83d", r"\ude00"], r"a\ud83d😀"),
            (vec![r"a\ude00", r"\ud83d\ude00"], r"a\ude00😀"),
            // The half waits for a further piece.
            (vec![r"a\ud83d"], "a"),
        ] {
            assert_eq!(join(&pieces), (text.to_owned(), true), "{pieces:?}");
        }
    }

    #[test]
    fn halves_in_json_are_escapes_again() {
        let piece = parse_json(br#""{\"a\": \"\ud83d""#).unwrap();
        assert_eq!(with_escapes(piece.as_str().unwrap()), r#"{"a": "\ud83d"#);
        assert_eq!(with_escapes("a"), "a");
        let value = parse_json(br#"{"a": "x\ud83d", "b": "\\ud83d \u00e9 \n"}"#).unwrap();
        assert_eq!(value["b"], json!("\\ud83d é \n"));
        assert!(serde_json::from_str::<Value>(&with_escapes(&value.to_string())).is_err());
    }

    #[test]
    fn a_text_without_halves_can_be_shown() {
        let piece = parse_json(br#""a\ud83d""#).unwrap();
        assert_eq!(without_halves(piece.as_str().unwrap()), "a\u{fffd}");
        let following = parse_json(r#""\ude00é""#.as_bytes()).unwrap();
        let both = format!("{}{}", piece.as_str().unwrap(), following.as_str().unwrap());
        assert_eq!(without_halves(&both), "a😀é");
        assert_eq!(without_halves("aé"), "aé");
    }

    #[test]
    fn a_text_with_marks_has_no_pair_of_halves() {
        let piece = |json: &str| parse_json(json.as_bytes()).unwrap();
        let mut text = String::new();
        for json in [r#""a\ud83d""#, r#""\ude00b\ud83d""#, r#""c\ude00""#, r#""\ude00""#] {
            append(&mut text, piece(json).as_str().unwrap());
        }
        let expected = piece(r#""a\ud83d\ude00b\ud83dc\ude00\ude00""#);
        assert_eq!(expected.as_str(), Some(text.as_str()));
    }

    #[test]
    fn json_without_halves_has_a_replacement_for_each() {
        let replaced = replace_halves(br#"{"a": "x\ud83d", "b": "\\ud83d \ud83d\ude00\ude00", "c": NaN}"#);
        assert_eq!(
            &*replaced,
            "{\"a\": \"x\u{fffd}\", \"b\": \"\\\\ud83d \\ud83d\\ude00\u{fffd}\", \"c\": NaN}".as_bytes()
        );
        assert!(matches!(replace_halves(b"{\"a\": \"\\n\"}"), Cow::Borrowed(_)));
    }

    #[test]
    fn other_json_is_read_as_before() {
        for json in [r#"{"a": 1.50, "b": [null, "é😀\n"]}"#, "4", "\"\""] {
            assert_eq!(parse_json(json.as_bytes()).unwrap(), serde_json::from_str::<Value>(json).unwrap(), "{json}");
        }
        for broken in [&b"{\"a\": \"\\ud83d"[..], b"\"\\ud8", b"\"\\", b"\"\xff\"", b"\"\\ud83d\\x\"", b""] {
            assert!(parse_json(broken).is_err(), "{broken:?}");
        }
    }
}
