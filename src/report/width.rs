//! Measures, breaks and shortens text for the columns of a terminal.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The symbols with which a line of a report may begin, followed by a space.
const LINE_MARKS: &[char] = &['✓', '✗', '·', '!', '-'];
/// The indent of the continuation of a wrapped line that begins with such a symbol.
const MARKED_LINE_INDENT: usize = 4;

/// The number of columns of a printed text; colour codes take none.
pub fn display_width(text: &str) -> usize {
    if !text.contains('\u{1b}') {
        return text.width();
    }
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().width();
    first + parts.map(|part| strip_colour_code(part).width()).sum::<usize>()
}

/// The text after a colour code whose escape character was removed.
fn strip_colour_code(text: &str) -> &str {
    text.split_once('m').map_or(text, |(_, text)| text)
}

/// Shortens a plain text to at most `width` columns: removes its end and adds `…`.
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

/// Shortens a plain text from the beginning instead: the end of a step's key is more informative.
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

/// Adds spaces to the end of a plain text until it takes at least `width` columns.
pub fn pad_end(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Wraps a printed text between words, so that its lines have at most `width` columns. Text between backticks counts as
/// one word if it fits into a line; a word that is longer than a line is not broken.
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
        if i > 0 && used_width + space.len() + word_width > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used_width = indent + word_width;
        } else {
            out.push_str(space);
            used_width += space.len() + word_width;
        }
        out.push_str(word);
    }
    Cow::Owned(out)
}

/// The indent of the continuation of a wrapped line, in columns.
fn continuation_indent(line: &str) -> usize {
    let trimmed = line.trim_start_matches(' ');
    let leading = line.len() - trimmed.len();
    let first_text = trimmed.strip_prefix('\u{1b}').map_or(trimmed, strip_colour_code);
    if let Some(label) = ["= help: ", "= note: "].iter().find(|label| trimmed.starts_with(*label)) {
        return leading + label.len();
    }
    let mut chars = first_text.chars();
    let has_mark = chars.next().is_some_and(|first| LINE_MARKS.contains(&first));
    if leading == 0 && has_mark { MARKED_LINE_INDENT } else { leading }
}

/// The words of a line, each with the spaces before it.
fn split_words(line: &str, width: usize) -> Vec<(&str, &str)> {
    let mut words = Vec::new();
    let mut remaining = line;
    while !remaining.is_empty() {
        let word_start = remaining.find(|c| c != ' ').unwrap_or(remaining.len());
        let (space, unsplit) = remaining.split_at(word_start);
        let end = word_end(unsplit, width);
        let (word, tail) = unsplit.split_at(end);
        words.push((space, word));
        remaining = tail;
    }
    words
}

/// The length of the first word of a text; a word between backticks may contain spaces.
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
    fn lines_break_between_words_and_never_inside_one() {
        assert_eq!(wrap_lines("nothing else was reused", 12), "nothing else\nwas reused");
        assert_eq!(
            wrap_lines("  = help: set `access: read` so", 20),
            "  = help: set\n          `access:\n          read` so"
        );
        assert_eq!(wrap_lines("resume with `orch runs show 7d1d` now", 24), "resume with\n`orch runs show 7d1d`\nnow");
        assert_eq!(wrap_lines("! one  was ended by a timeout", 16), "! one  was ended\n    by a timeout");
        assert_eq!(wrap_lines("a-word-that-is-too-long for it", 10), "a-word-that-is-too-long\nfor it");
        assert_eq!(wrap_lines("unchanged", 10), "unchanged");
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
    fn shortened_texts_end_with_an_ellipsis() {
        assert_eq!(
            (truncate_end("abcdef", 4), truncate_end("abcdef", 6), truncate_end("你好", 3)),
            ("abc…".into(), "abcdef".into(), "你…".into())
        );
        assert_eq!((truncate_start("fix[1]/code", 5), truncate_start("ab", 0)), ("…code".into(), "".into()));
        assert_eq!(pad_end("你", 4), "你  ");
    }

    #[test]
    fn only_a_long_word_makes_a_line_too_wide() {
        let text = "run 7d1d `a b c` completed; `orch pipeline resume x` 你好 continues  the run, with  spaces";
        for width in 0..60 {
            let longest = text.split(' ').map(display_width).max().unwrap();
            assert!(wrap_lines(text, width).lines().all(|line| display_width(line) <= width.max(longest)), "{width}");
        }
    }
}
