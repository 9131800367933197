//! Measures, wraps and shortens text for the columns of a terminal.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The symbols at the start of a line about a step.
const LINE_SYMBOLS: &[char] = &['✓', '✗', '·', '!', '-'];
/// The indent of the continuation lines, if the first line starts with such a symbol.
const SYMBOL_LINE_INDENT: usize = 4;

/// The number of columns that a printed text takes. Colour codes take no columns.
pub fn display_width(text: &str) -> usize {
    if !text.contains('\u{1b}') {
        return text.width();
    }
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().width();
    first + parts.map(|part| strip_colour_code(part).width()).sum::<usize>()
}

/// Removes a colour code from the start of a text. The caller has already removed the escape character of the code.
fn strip_colour_code(text: &str) -> &str {
    text.split_once('m').map_or(text, |(_, text)| text)
}

/// Shortens a plain text to at most `width` columns: replaces its end with `…`.
pub fn truncate_end(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut remaining_width = width.saturating_sub(1);
    let mut short = String::new();
    for c in text.chars() {
        let Some(remaining) = remaining_width.checked_sub(c.width().unwrap_or(0)) else { break };
        remaining_width = remaining;
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

/// Shortens a plain text to at most `width` columns: replaces its start with `…`. orch shortens the keys of steps in
/// this way, because the end of a key is more informative.
pub fn truncate_start(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut remaining_width = width.saturating_sub(1);
    let mut start = text.len();
    for (i, c) in text.char_indices().rev() {
        let Some(remaining) = remaining_width.checked_sub(c.width().unwrap_or(0)) else { break };
        remaining_width = remaining;
        start = i;
    }
    let ellipsis = if width > 0 { "…" } else { "" };
    Cow::Owned(format!("{ellipsis}{}", text.get(start..).unwrap_or_default()))
}

/// Pads the end of a plain text with spaces to at least `width` columns.
pub fn pad_end(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Wraps a printed text between words, so that its lines have at most `width` columns. A text between backticks counts
/// as one word if it fits into a line. A long word has a line of its own, with a smaller indent if it needs one; a word
/// that is longer than a line stays whole.
pub fn wrap_lines(text: &str, width: usize) -> Cow<'_, str> {
    if text.lines().all(|line| display_width(line) <= width) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(|line| wrap_line(line, width)).collect();
    Cow::Owned(lines.join("\n"))
}

fn wrap_line(line: &str, width: usize) -> Cow<'_, str> {
    if display_width(line) <= width {
        return Cow::Borrowed(line);
    }
    let indent = continuation_indent(line).min(width / 2);
    let (mut out, mut used_width) = (String::with_capacity(line.len() + 16), 0);
    for (i, (space, word)) in split_words(line, width.saturating_sub(indent)).into_iter().enumerate() {
        let word_width = display_width(word);
        let mut space_width = space.len();
        let starts_line = i == 0 || used_width + space_width + word_width > width;
        if starts_line {
            if i > 0 {
                out.push('\n');
                space_width = indent;
            }
            space_width = space_width.min(width.saturating_sub(word_width));
            used_width = 0;
        }
        out.push_str(&" ".repeat(space_width));
        out.push_str(word);
        used_width += space_width + word_width;
    }
    Cow::Owned(out)
}

/// The indent of the continuation lines of a wrapped line, in columns.
fn continuation_indent(line: &str) -> usize {
    let trimmed = line.trim_start_matches(' ');
    let indent_width = line.len() - trimmed.len();
    let text_without_colour = trimmed.strip_prefix('\u{1b}').map_or(trimmed, strip_colour_code);
    if let Some(label) = ["= help: ", "= note: "].iter().find(|label| trimmed.starts_with(*label)) {
        return indent_width + label.len();
    }
    let mut chars = text_without_colour.chars();
    let starts_with_symbol = chars.next().is_some_and(|first| LINE_SYMBOLS.contains(&first));
    if indent_width == 0 && starts_with_symbol { SYMBOL_LINE_INDENT } else { indent_width }
}

/// Splits a line into words, each with the spaces before it. `width` is the width of a line, in columns.
fn split_words(line: &str, width: usize) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut remaining = line;
    while !remaining.is_empty() {
        let word_start = remaining.find(|c| c != ' ').unwrap_or(remaining.len());
        let (space, rest) = remaining.split_at(word_start);
        let end = word_end(rest, width);
        let (word, rest) = rest.split_at(end);
        words.push((space, word));
        remaining = rest;
    }
    words
}

/// The length in bytes of the first word of a text. A text between backticks counts as one word if it has at most
/// `width` columns.
fn word_end(text: &str, width: usize) -> usize {
    let space_index = text.find(' ').unwrap_or(text.len());
    let Some(first_backtick) = text.get(..space_index).and_then(|text| text.find('`')) else { return space_index };
    let after_first = text.get(first_backtick + 1..).unwrap_or_default();
    let Some(second_backtick) = after_first.find('`') else { return space_index };
    let quote_end = first_backtick + 1 + second_backtick + 1;
    let after_quote = text.get(quote_end..).unwrap_or_default();
    let end = quote_end + after_quote.find(' ').unwrap_or(after_quote.len());
    let word = text.get(..end).unwrap_or(text);
    if end <= space_index || display_width(word) > width { space_index } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_only_between_words() {
        assert_eq!(wrap_lines("nothing else was reused", 12), "nothing else\nwas reused");
        assert_eq!(
            wrap_lines("  = help: set `access: read` so", 20),
            "  = help: set\n          `access:\n          read` so"
        );
        assert_eq!(wrap_lines("resume with `orch runs show 7d1d` now", 24), "resume with\n`orch runs show 7d1d`\nnow");
        assert_eq!(wrap_lines("! one  was ended by a timeout", 16), "! one  was ended\n    by a timeout");
        assert_eq!(wrap_lines("a-word-that-is-too-long for it", 10), "a-word-that-is-too-long\nfor it");
        assert_eq!(wrap_lines("unchanged", 10), "unchanged");
        // A word that fits into a line only without the whole indent.
        assert_eq!(wrap_lines("    /path/to/x y", 12), "  /path/to/x\n    y");
        assert_eq!(wrap_lines("  = help: see /path/to/it", 12), "  = help:\n      see\n /path/to/it");
        assert_eq!(wrap_lines("    /path/to/another x", 12), "/path/to/another\n    x");
        assert_eq!(wrap_lines("你好 你好 你好", 9), "你好 你好\n你好");
    }

    #[test]
    fn colour_codes_take_no_columns() {
        let text = "\u{1b}[1;31merror:\u{1b}[0m no";
        assert_eq!(display_width(text), 9);
        assert_eq!(wrap_lines(text, 9), text);
        assert_eq!(wrap_lines(text, 8), "\u{1b}[1;31merror:\u{1b}[0m\nno");
    }

    #[test]
    fn shortened_texts_contain_an_ellipsis() {
        assert_eq!(
            (truncate_end("abcdef", 4), truncate_end("abcdef", 6), truncate_end("你好", 3)),
            ("abc…".into(), "abcdef".into(), "你…".into())
        );
        assert_eq!((truncate_start("fix[1]/code", 5), truncate_start("ab", 0)), ("…code".into(), "".into()));
        assert_eq!(pad_end("你", 4), "你  ");
    }

    #[test]
    fn a_line_is_too_wide_only_if_it_contains_a_long_word() {
        let text = "run 7d1d `a b c` completed; `orch pipeline resume x` 你好 continues  the run, with  spaces";
        for width in 0..60 {
            let longest = text.split(' ').map(display_width).max().unwrap();
            assert!(wrap_lines(text, width).lines().all(|line| display_width(line) <= width.max(longest)), "{width}");
        }
    }
}
