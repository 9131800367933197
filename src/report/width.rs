//! Measures, breaks and shortens text for the columns of a terminal.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The signs with which a line of a report may begin, followed by a space.
const MARKS: &[char] = &['✓', '✗', '·', '!', '-'];
/// How far the rest of a wrapped line is indented under such a sign.
const UNDER_A_MARK: usize = 4;

/// How many columns a printed text takes; colour codes take none.
pub fn columns(text: &str) -> usize {
    if !text.contains('\u{1b}') {
        return text.width();
    }
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().width();
    first + parts.map(|part| after_code(part).width()).sum::<usize>()
}

/// The text after a colour code whose escape character was removed.
fn after_code(text: &str) -> &str {
    text.split_once('m').map_or(text, |(_, rest)| rest)
}

/// Shortens a plain text to at most `width` columns: cuts its end and adds `…`.
pub fn fitted(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let mut short = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

/// The same, but cuts the beginning: the end of a step's key says more.
pub fn fitted_end(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let mut from = text.len();
    for (at, c) in text.char_indices().rev() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        from = at;
    }
    let mark = if width > 0 { "…" } else { "" };
    Cow::Owned(format!("{mark}{}", text.get(from..).unwrap_or_default()))
}

/// A plain text with spaces added, so that it takes at least `width` columns.
pub fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Wraps a printed text between words, so that its lines have at most `width` columns. Text between backticks counts as
/// one word if it fits into a line; a word that is longer than a line is not broken.
pub fn wrapped(text: &str, width: usize) -> Cow<'_, str> {
    if text.lines().all(|line| columns(line) <= width) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(|line| wrapped_line(line, width)).collect();
    Cow::Owned(lines.join("\n"))
}

fn wrapped_line(line: &str, width: usize) -> Cow<'_, str> {
    if columns(line) <= width {
        return Cow::Borrowed(line);
    }
    let indent = continuation(line).min(width / 2);
    let (mut out, mut used) = (String::with_capacity(line.len() + 16), 0);
    for (number, (space, word)) in words(line, width.saturating_sub(indent)).into_iter().enumerate() {
        let wide = columns(word);
        if number > 0 && used + space.len() + wide > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent + wide;
        } else {
            out.push_str(space);
            used += space.len() + wide;
        }
        out.push_str(word);
    }
    Cow::Owned(out)
}

/// How far the rest of a wrapped line is indented, in columns.
fn continuation(line: &str) -> usize {
    let plain = line.trim_start_matches(' ');
    let leading = line.len() - plain.len();
    let shown = plain.strip_prefix('\u{1b}').map_or(plain, after_code);
    if let Some(advice) = ["= help: ", "= note: "].iter().find(|advice| plain.starts_with(*advice)) {
        return leading + advice.len();
    }
    let mut chars = shown.chars();
    let marked = chars.next().is_some_and(|first| MARKS.contains(&first));
    if leading == 0 && marked { UNDER_A_MARK } else { leading }
}

/// The words of a line, each with the spaces before it.
fn words(line: &str, width: usize) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word_at = rest.find(|c| c != ' ').unwrap_or(rest.len());
        let (space, after) = rest.split_at(word_at);
        let end = word_end(after, width);
        let (word, left) = after.split_at(end);
        found.push((space, word));
        rest = left;
    }
    found
}

/// The length of the first word of a text; a word between backticks may contain spaces.
fn word_end(text: &str, width: usize) -> usize {
    let plain = text.find(' ').unwrap_or(text.len());
    let Some(open) = text.get(..plain).and_then(|word| word.find('`')) else { return plain };
    let inside = text.get(open + 1..).unwrap_or_default();
    // A word with both backticks is complete.
    let Some(close) = inside.find('`') else { return plain };
    let closed = open + 1 + close + 1;
    let after = text.get(closed..).unwrap_or_default();
    let end = closed + after.find(' ').unwrap_or(after.len());
    let whole = text.get(..end).unwrap_or(text);
    if end <= plain || columns(whole) > width { plain } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_inside_one() {
        assert_eq!(wrapped("nothing that was answered", 12), "nothing that\nwas answered");
        assert_eq!(
            wrapped("  = help: say `access: read` so", 20),
            "  = help: say\n          `access:\n          read` so"
        );
        assert_eq!(wrapped("go on with `orch runs show 7d1d` now", 24), "go on with\n`orch runs show 7d1d`\nnow");
        assert_eq!(wrapped("! one  was given up at a stop", 16), "! one  was given\n    up at a stop");
        assert_eq!(wrapped("a-word-that-is-too-long for it", 10), "a-word-that-is-too-long\nfor it");
        assert_eq!(wrapped("as it is", 10), "as it is");
        assert_eq!(wrapped("你好 你好 你好", 9), "你好 你好\n你好");
    }

    #[test]
    fn colours_take_no_room() {
        let text = "\u{1b}[1;31merror:\u{1b}[0m no";
        assert_eq!(columns(text), 9);
        assert_eq!(wrapped(text, 9), text);
        assert_eq!(wrapped(text, 8), "\u{1b}[1;31merror:\u{1b}[0m\nno");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(
            (fitted("abcdef", 4), fitted("abcdef", 6), fitted("你好", 3)),
            ("abc…".into(), "abcdef".into(), "你…".into())
        );
        assert_eq!((fitted_end("fix[1]/code", 5), fitted_end("ab", 0)), ("…code".into(), "".into()));
        assert_eq!(padded("你", 4), "你  ");
    }

    #[test]
    fn no_line_is_wider_than_asked_unless_a_word_is() {
        let text = "run 7d1d `a b c` completed; `orch pipeline resume x` 你好 goes on  from here, with  spaces";
        for width in 0..60 {
            let longest = text.split(' ').map(columns).max().unwrap();
            assert!(wrapped(text, width).lines().all(|line| columns(line) <= width.max(longest)), "{width}");
        }
    }
}
