//! Makes untrusted text safe to display: text from a model, a file or a server can't control the terminal, reorder the
//! text around it or hide characters.

use std::borrow::Cow;
use std::path::Path;

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, VariationSelector};

/// The first character of an emoji flag that is spelled with invisible tags, such as that of Scotland, and the tag
/// that ends it.
const FLAG: char = '\u{1f3f4}';
const END_OF_FLAG: char = '\u{e007f}';

/// A text in which control characters, direction controls and invisible characters are escaped, such as `\u{1b}`; line
/// ends and tabs stay.
///
/// Joiners, variation selectors and tags stay where a script or an emoji needs them.
pub fn visible(text: &str) -> Cow<'_, str> {
    visible_except(text, |_| 0)
}

/// A text on one line: its line breaks become `\n` and `\r`, so that nothing after them looks like a line from orch.
/// Other characters are left to `visible`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) { text.replace('\n', "\\n").replace('\r', "\\r").into() } else { text.into() }
}

/// A path on one line.
pub fn shown_path(path: &Path) -> String {
    one_line(&path.to_string_lossy()).into_owned()
}

/// Like `visible`, but keeps the prefix whose length `kept` returns at each position.
pub fn visible_except(text: &str, kept: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if !text.contains(is_suspect) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = None;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let mut length = char.len_utf8();
        if !is_suspect(char) {
            out.push(char);
        } else if let Some(more) = Some(kept(rest)).filter(|length| *length > 0) {
            length = more;
            out.push_str(rest.get(..length).unwrap_or_default());
        } else if let Some(tags) = flag_tags(before, rest) {
            length = tags;
            out.push_str(rest.get(..length).unwrap_or_default());
        } else if is_needed(before, char) {
            out.push(char);
        } else if !rest.starts_with("\r\n") {
            out.extend(char.escape_unicode());
        }
        before = rest.get(..length).and_then(|taken| taken.chars().next_back());
        rest = rest.get(length..).unwrap_or_default();
    }
    out.into()
}

/// Whether a character can hide or control something.
pub fn is_suspect(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        // Noncharacters, which never occur in text.
        '\u{fdd0}'..='\u{fdef}' => true,
        _ if u32::from(char) & 0xfffe == 0xfffe => true,
        _ => char.is_control() || (!char.is_ascii() && is_invisible(char)),
    }
}

/// Whether a character is invisible, such as a joiner, a filler or a direction control.
fn is_invisible(char: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
}

/// Whether an invisible character is needed, because it changes how the character before it is displayed.
fn is_needed(before: Option<char>, char: char) -> bool {
    let Some(before) = before.filter(|before| !before.is_whitespace() && !before.is_control()) else { return false };
    let is_selector = |char| CodePointSetData::new::<VariationSelector>().contains(char);
    match char {
        // For Persian, the scripts of India and emoji of several parts. After a variation selector a joiner connects
        // emoji.
        '\u{200c}' | '\u{200d}' => !before.is_ascii() && (is_selector(before) || !is_invisible(before)),
        // A variation selector turns a digit into a keycap.
        '\u{fe0e}' | '\u{fe0f}' if before.is_ascii_digit() || matches!(before, '#' | '*') => true,
        selector if is_selector(selector) => !before.is_ascii() && !is_invisible(before),
        // Fillers in the syllables of Old Korean.
        '\u{115f}' | '\u{1160}' => matches!(before, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}'),
        _ => false,
    }
}

/// The length in bytes of the tags that spell an emoji flag; `None` if they do not spell one.
fn flag_tags(before: Option<char>, rest: &str) -> Option<usize> {
    let letter = |char: &char| matches!(char, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    let letters = rest.chars().take_while(letter).count();
    let ends = rest.chars().nth(letters) == Some(END_OF_FLAG);
    (before == Some(FLAG) && ends && (1..=6).contains(&letters)).then_some((letters + 1) * END_OF_FLAG.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_or_turn_the_text_is_written_out() {
        for (text, shown) in [
            ("a\tb\nc\r\n", "a\tb\nc\n"),
            ("\u{1b}]0;x\u{7}\u{1b}[2Jé", "\\u{1b}]0;x\\u{7}\\u{1b}[2Jé"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{9b}2J\u{7f}\ra", "\\u{9b}2J\\u{7f}\\u{d}a"),
            ("\u{202e}gpj.exe\u{202c}", "\\u{202e}gpj.exe\\u{202c}"),
            ("\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200e}\\u{200f}\\u{61c}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(one_line("a\n::warning::b\r\nc\td"), "a\\n::warning::b\\r\\nc\td");
        assert_eq!(one_line("plain"), "plain");
    }

    #[test]
    fn what_hides_in_a_text_is_written_out() {
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
            assert!(visible(hidden).contains("\\u{"), "{hidden:?}");
        }
    }

    #[test]
    fn ordinary_text_of_every_script_stays_as_it_is() {
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
            assert_eq!(visible(text), text);
        }
    }
}
