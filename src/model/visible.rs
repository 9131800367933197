//! Escapes untrusted text for display, so that text from a model, a file or a server can't control the terminal,
//! reorder the text around it or hide characters.

use std::borrow::Cow;
use std::path::Path;

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, VariationSelector};

/// The first character of an emoji flag that is spelled with invisible tags, such as the flag of Scotland.
const BLACK_FLAG: char = '\u{1f3f4}';
/// The tag that ends such a flag.
const CANCEL_TAG: char = '\u{e007f}';

/// Escapes control characters, direction controls and invisible characters, for example as `\u{1b}`. Does not escape
/// line ends and tabs, nor joiners, variation selectors and tags that a script or an emoji needs.
pub fn escape_unsafe(text: &str) -> Cow<'_, str> {
    escape_unsafe_except(text, |_| 0)
}

/// Escapes line breaks as `\n` and `\r`, so that no part of the text looks like a line from orch. Does not escape other
/// characters.
pub fn escape_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace('\n', "\\n").replace('\r', "\\r").into() } else { text.into() }
}

/// A text on one line: line breaks are `\n` and `\r`, and `…` stands for what exceeds `max_chars` characters.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let text = text.trim();
    // An escaped text is never shorter, so the rest of a long text does not matter.
    let end = text.char_indices().nth(max_chars + 1).map_or(text.len(), |(end, _)| end);
    let line = escape_line_breaks(text.get(..end).unwrap_or(text));
    if line.chars().count() <= max_chars {
        return line.into_owned();
    }
    let mut short: String = line.chars().take(max_chars.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A path for display, on one line.
pub fn path_for_display(path: &Path) -> String {
    escape_line_breaks(&path.to_string_lossy()).into_owned()
}

/// Escapes like [`escape_unsafe`], except for the texts that `raw_len` recognizes: it returns the number of bytes at
/// the start of a text that this function copies unchanged.
pub fn escape_unsafe_except(text: &str, raw_len: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut previous = None;
    let mut remaining = text;
    while let Some(c) = remaining.chars().next() {
        let mut len = c.len_utf8();
        if !is_unsafe(c) {
            out.push(c);
        } else if let Some(raw_len) = Some(raw_len(remaining)).filter(|len| *len > 0) {
            len = raw_len;
            out.push_str(remaining.get(..len).unwrap_or_default());
        } else if let Some(flag_len) = flag_len(previous, remaining) {
            len = flag_len;
            out.push_str(remaining.get(..len).unwrap_or_default());
        } else if is_needed(previous, c) {
            out.push(c);
        } else if !remaining.starts_with("\r\n") {
            out.extend(c.escape_unicode());
        }
        previous = remaining.get(..len).and_then(|copied| copied.chars().next_back());
        remaining = remaining.get(len..).unwrap_or_default();
    }
    out.into()
}

/// Whether a character can control the terminal, reorder text or be invisible.
pub fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        // Unicode noncharacters, which are not assigned to any character.
        '\u{fdd0}'..='\u{fdef}' => true,
        _ if u32::from(c) & 0xfffe == 0xfffe => true,
        _ => c.is_control() || (!c.is_ascii() && is_invisible(c)),
    }
}

/// Whether a character is invisible, such as a joiner, a filler or a direction control.
fn is_invisible(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether an invisible character is needed, because it changes how the character before it is displayed.
fn is_needed(previous: Option<char>, c: char) -> bool {
    let Some(previous) = previous.filter(|c| !c.is_whitespace() && !c.is_control()) else { return false };
    let is_selector = |c| CodePointSetData::new::<VariationSelector>().contains(c);
    match c {
        // Persian, the scripts of India and emoji of several parts need joiners. In an emoji, a joiner may follow a
        // variation selector.
        '\u{200c}' | '\u{200d}' => !previous.is_ascii() && (is_selector(previous) || !is_invisible(previous)),
        // A variation selector turns a digit into a keycap.
        '\u{fe0e}' | '\u{fe0f}' if previous.is_ascii_digit() || matches!(previous, '#' | '*') => true,
        selector if is_selector(selector) => !previous.is_ascii() && !is_invisible(previous),
        // Syllables of Old Korean need fillers.
        '\u{115f}' | '\u{1160}' => matches!(previous, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}'),
        _ => false,
    }
}

/// The length in bytes of the tags at the start of `text` that spell an emoji flag, after the character `previous`.
fn flag_len(previous: Option<char>, text: &str) -> Option<usize> {
    let is_tag = |c: &char| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    let tag_count = text.chars().take_while(is_tag).count();
    let is_cancelled = text.chars().nth(tag_count) == Some(CANCEL_TAG);
    let is_flag = previous == Some(BLACK_FLAG) && is_cancelled && (1..=6).contains(&tag_count);
    is_flag.then_some((tag_count + 1) * CANCEL_TAG.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_direction_controls_are_escaped() {
        for (text, escaped) in [
            ("a\tb\nc\r\n", "a\tb\nc\n"),
            ("\u{1b}]0;x\u{7}\u{1b}[2Jé", "\\u{1b}]0;x\\u{7}\\u{1b}[2Jé"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{9b}2J\u{7f}\ra", "\\u{9b}2J\\u{7f}\\u{d}a"),
            ("\u{202e}gpj.exe\u{202c}", "\\u{202e}gpj.exe\\u{202c}"),
            ("\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200e}\\u{200f}\\u{61c}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
        ] {
            assert_eq!(escape_unsafe(text), escaped);
        }
    }

    #[test]
    fn line_breaks_are_escaped() {
        assert_eq!(escape_line_breaks("a\n::warning::b\r\nc\td"), "a\\n::warning::b\\r\\nc\td");
        assert_eq!(escape_line_breaks("plain"), "plain");
    }

    #[test]
    fn a_text_on_one_line_shows_its_line_breaks_and_what_is_cut() {
        for (text, max_chars, expected) in [
            (" ls ", 9, "ls"),
            ("ls\nrm -rf /\n", 120, "ls\\nrm -rf /"),
            ("a\r\nb", 120, "a\\r\\nb"),
            ("abcdef", 6, "abcdef"),
            ("abcdef\nx", 4, "abc…"),
            ("\na\nb", 3, "a\\…"),
            ("äöü", 2, "ä…"),
            ("", 2, ""),
        ] {
            assert_eq!(one_line(text, max_chars), expected, "{text:?}");
        }
    }

    #[test]
    fn invisible_characters_are_escaped() {
        for hidden in [
            "rm\u{200b}x",
            "\u{feff}x",
            "a\u{200d}b",
            "a\u{ad}b",
            "a\u{2060}b",
            "a\u{3164}b",
            "a\u{180e}b",
            "x\u{e0061}\u{e0062}",
            "x\u{fe00}",
            "😀\u{fe0f}\u{fe0e}",
            "😀\u{e0100}\u{e0101}",
            "\u{1f3f4}\u{e0067}\u{e0062}",
            "ب\u{200c}\u{200d}\u{200c}",
            "a\u{fff9}b",
            "a\u{ffff}b",
        ] {
            assert!(escape_unsafe(hidden).contains("\\u{"), "{hidden:?}");
        }
    }

    #[test]
    fn ordinary_text_of_every_script_is_unchanged() {
        for text in [
            "plain ASCII, tab\tand line\n",
            "العربية والعبرية: שלום עולם, سلام دنیا",
            "می\u{200c}خواهم",
            "क्\u{200d}ष और क्\u{200c}ष",
            "e\u{301} n\u{303} ṩ \u{1e69}",
            "👩\u{200d}👩\u{200d}👧\u{200d}👦 👩🏽\u{200d}💻 ❤\u{fe0f}\u{200d}🔥 1\u{fe0f}\u{20e3} ☺\u{fe0e}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f} flag",
            "葛\u{e0100}飾区 日本語 中文 한국어",
            "ᠮᠣᠩ\u{180b}ᠭᠣᠯ",
            "ไทย ខ្មែរ မြန်မာ தமிழ் ελληνικά",
        ] {
            assert_eq!(escape_unsafe(text), text);
        }
    }
}
