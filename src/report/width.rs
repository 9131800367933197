//! Measures, wraps and shortens text for the columns of a terminal.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The symbols at the start of a line about a step and of an item of a list. The text of the line begins after the
/// spaces behind the symbol.
const LINE_SYMBOLS: &[char] = &['✓', '✗', '·', '!', '-'];
/// The minimum width of the text in the last column of a row, if the text is longer.
const MIN_ROW_TEXT_WIDTH: usize = 20;
/// The indent of the last column of a row in a line of its own.
const NARROW_ROW_INDENT: usize = 4;

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
    let mut out = String::with_capacity(line.len() + 16);
    push_words(&mut out, line, 0, indent, width);
    Cow::Owned(out)
}

/// Adds a line, wrapped between words. It begins in the column `start` of the last line of `out`, and its continuation
/// lines begin in the column `indent`.
fn push_words(out: &mut String, line: &str, start: usize, indent: usize, width: usize) {
    let mut used_width = start;
    for (i, (space, word)) in split_words(line, width.saturating_sub(indent)).into_iter().enumerate() {
        let word_width = display_width(word);
        let mut space_width = space.len();
        let is_first_in_line = i == 0 && start == 0;
        if !is_first_in_line && used_width + space_width + word_width > width {
            out.truncate(out.trim_end_matches(' ').len());
            if !out.ends_with('\n') {
                out.push('\n');
            }
            (used_width, space_width) = (0, indent);
        }
        if used_width == 0 {
            space_width = space_width.min(width.saturating_sub(word_width));
        }
        out.push_str(&" ".repeat(space_width));
        out.push_str(word);
        used_width += space_width + word_width;
    }
}

/// Wraps a row of a table between words, so that its lines have at most `width` columns. The lines of `text` begin in
/// the column after `label`, which contains the earlier columns with the spaces after them. If this leaves too few
/// columns, the text begins in the next line.
pub fn wrap_row(label: &str, text: &str, width: usize) -> String {
    let column = display_width(label);
    let text_width = text.lines().map(display_width).max().unwrap_or_default();
    let is_wide_enough = column + text_width.min(MIN_ROW_TEXT_WIDTH) <= width;
    let (mut out, indent) = if is_wide_enough {
        (label.to_owned(), column)
    } else {
        let indent = NARROW_ROW_INDENT.min(width / 2);
        let mut out = String::new();
        push_words(&mut out, label.trim_end(), 0, indent, width);
        (format!("{out}\n{}", " ".repeat(indent)), indent)
    };
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
        }
        push_words(&mut out, line, indent, indent, width);
    }
    out.truncate(out.trim_end().len());
    out
}

/// The indent of the continuation lines of a wrapped line, in columns.
fn continuation_indent(line: &str) -> usize {
    let trimmed = line.trim_start_matches(' ');
    let indent_width = line.len() - trimmed.len();
    if let Some(label) = ["= help: ", "= note: "].iter().find(|label| trimmed.starts_with(*label)) {
        return indent_width + label.len();
    }
    let Some(text) = skip_colour_code(trimmed).strip_prefix(LINE_SYMBOLS) else { return indent_width };
    let text = skip_colour_code(text);
    match text.len() - text.trim_start_matches(' ').len() {
        0 => indent_width,
        spaces => indent_width + 1 + spaces,
    }
}

/// Skips a colour code at the start of a text.
fn skip_colour_code(text: &str) -> &str {
    text.strip_prefix('\u{1b}').map_or(text, strip_colour_code)
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
        assert_eq!(wrap_lines("! one  was ended by a timeout", 16), "! one  was ended\n  by a timeout");
        assert_eq!(wrap_lines("  - a list of items", 12), "  - a list\n    of items");
        assert_eq!(wrap_lines("--model names a model", 12), "--model\nnames a\nmodel");
        assert_eq!(wrap_lines("a-word-that-is-too-long for it", 10), "a-word-that-is-too-long\nfor it");
        assert_eq!(wrap_lines("unchanged", 10), "unchanged");
        // A word that fits into a line only without the whole indent.
        assert_eq!(wrap_lines("    /path/to/x y", 12), "  /path/to/x\n    y");
        assert_eq!(wrap_lines("  = help: see /path/to/it", 12), "  = help:\n      see\n /path/to/it");
        assert_eq!(wrap_lines("    /path/to/another x", 12), "/path/to/another\n    x");
        assert_eq!(wrap_lines("你好 你好 你好", 9), "你好 你好\n你好");
    }

    #[test]
    fn a_row_continues_below_the_column_of_its_text() {
        let text = "the text of a column\nand  another line";
        assert_eq!(wrap_row("ok  name  ", text, 30), "ok  name  the text of a column\n          and  another line");
        assert_eq!(
            wrap_row("ok  a  ", "text in a column that is long", 28),
            "ok  a  text in a column that\n       is long"
        );
        assert_eq!(wrap_row("\u{1b}[32mok\u{1b}[0m  ", "a b c", 24), "\u{1b}[32mok\u{1b}[0m  a b c");
        // A long word moves to the left, and a row without a text has no spaces at its end.
        assert_eq!(
            wrap_row("name  ", "see /a/longer/path/to/a/file here", 26),
            "name  see\n  /a/longer/path/to/a/file\n      here"
        );
        assert_eq!(wrap_row("name  ", "/a/longer/path/to/a/file", 26), "name\n  /a/longer/path/to/a/file");
        assert_eq!(wrap_row("name  ", "", 26), "name");
        // The column leaves too little room.
        assert_eq!(wrap_row("a-long-name  ", "the text of a column", 20), "a-long-name\n    the text of a\n    column");
        assert_eq!(wrap_row("a-long-name  ", "short", 20), "a-long-name  short");
        assert_eq!(wrap_row("", "no label", 8), "no label");
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
