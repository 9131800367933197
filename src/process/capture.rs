//! Captures the output of a child process up to a limit: all of it, or its beginning and its end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::model::text::text_of_output;

/// How many lines of the end of an output a message shows.
const LINES: usize = 12;
/// How many bytes of the end of an output a message shows at most.
const BYTES: usize = 4 << 10;

/// One of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A captured output. Of an output that is longer than the limit, it has the beginning and the end, each up to half the
/// limit.
#[derive(Clone, Debug)]
pub struct Captured {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How many bytes the program wrote in all.
    pub total: u64,
    cap: usize,
}

impl Captured {
    pub(super) fn new(cap: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), total: 0, cap }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, tail) = (self.cap.div_ceil(2), self.cap / 2);
        let (first, rest) = bytes.split_at(head.saturating_sub(self.head.len()).min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = rest.get(rest.len().saturating_sub(tail)..).unwrap_or_default();
        let surplus = (self.tail.len() + rest.len()).saturating_sub(tail);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Whether the program wrote nothing.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many bytes between the beginning and the end are missing.
    pub fn left_out(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// The beginning and the end as texts, without a byte order mark; invalid UTF-8 is replaced. When nothing is left
    /// out, the first text is the whole output and the second one is empty.
    pub fn parts(&self) -> (String, String) {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out() == 0 {
            return (text_of_output(&[self.head.as_slice(), &tail].concat()), String::new());
        }
        // Characters that the cut splits are left out.
        let continues = |byte: &u8| byte & 0xC0 == 0x80;
        let begins = self.head.iter().rposition(|byte| !continues(byte)).unwrap_or_default();
        let last = self.head.get(begins..).unwrap_or_default();
        let whole = if std::str::from_utf8(last).is_ok() { self.head.len() } else { begins };
        let head = text_of_output(self.head.get(..whole).unwrap_or_default());
        let start = tail.iter().take(3).take_while(|byte| continues(byte)).count();
        (head, String::from_utf8_lossy(tail.get(start..).unwrap_or_default()).into_owned())
    }

    /// The text, with a marker where bytes are left out.
    pub fn text(&self) -> String {
        let (head, tail) = self.parts();
        if self.left_out() == 0 { head } else { joined(&head, &tail, self.left_out()) }
    }

    /// The last lines, for a message.
    pub fn last_lines(&self) -> String {
        let (head, tail) = self.parts();
        last_lines(if tail.is_empty() { &head } else { &tail })
    }
}

/// Joins two parts of an output with a marker that shows how many bytes are missing between them.
pub fn joined(head: &str, tail: &str, left_out: u64) -> String {
    format!("{head}\n[… {left_out} bytes are left out here …]\n{tail}")
}

/// Shortens a text that is longer than `most` bytes to its beginning and its end, with the marker of [`joined`] between
/// them.
pub fn beginning_and_end(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let (head, tail) = (text.floor_char_boundary(most / 2), text.ceil_char_boundary(text.len() - most / 2));
    let part = |range: Range<usize>| text.get(range).unwrap_or_default();
    joined(part(0..head), part(tail..text.len()), (tail - head) as u64).into()
}

/// The last lines of a text, for a message; if they are too long, their end.
pub fn last_lines(text: &str) -> String {
    let text = text.trim_end();
    let from = text.rmatch_indices('\n').nth(LINES - 1).map_or(0, |(at, _)| at + 1);
    let lines = text.get(from..).unwrap_or_default();
    let start = lines.ceil_char_boundary(lines.len().saturating_sub(BYTES));
    let cut = if start > 0 { "…" } else { "" };
    format!("{cut}{}", lines.get(start..).unwrap_or_default())
}

/// Reads a pipe to its end, or until it has delivered more than `most` bytes. Bytes beyond the limit of `into` are read
/// too, so that a full pipe never blocks the child.
pub(super) async fn capture(
    pipe: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    into: &mut Captured,
    most: u64,
    heard: &(dyn Fn(Stream, &[u8]) + Send + Sync),
) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = pipe.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        into.add(bytes);
        heard(stream, bytes);
        if into.total > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(cap: usize, text: &[u8], piece: usize) -> Captured {
        let mut captured = Captured::new(cap);
        text.chunks(piece).for_each(|bytes| captured.add(bytes));
        captured
    }

    #[test]
    fn the_beginning_and_the_end_are_kept_however_the_output_comes() {
        let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (cap, piece) in [(10, 1), (10, 3), (11, 7), (10, 1000), (999, 64), (1000, 64), (2000, 64)] {
            let got = captured(cap, &text, piece);
            let kept: Vec<u8> = got.head.iter().chain(&got.tail).copied().collect();
            let half = cap.min(1000) / 2;
            assert_eq!((got.total, kept.len()), (1000, cap.min(1000)), "{cap} {piece}");
            assert!(text.starts_with(&kept[..half]) && text.ends_with(&kept[kept.len() - half..]), "{cap} {piece}");
            assert_eq!(got.left_out(), 1000 - kept.len() as u64);
        }
    }

    #[test]
    fn a_mark_tells_how_much_is_missing_and_no_character_is_cut() {
        let got = captured(9, "äöüäöüäöü".as_bytes(), 2);
        assert_eq!(got.text(), "äö\n[… 9 bytes are left out here …]\nöü");
        assert_eq!(captured(18, "äöüäöüäöü".as_bytes(), 1).text(), "äöüäöüäöü");
    }

    #[test]
    fn a_long_text_is_shortened_between_characters_and_says_how_much_is_missing() {
        assert!(matches!(beginning_and_end("äöü", 6), Cow::Borrowed("äöü")));
        assert_eq!(beginning_and_end("äöüäöü", 7), "ä\n[… 8 bytes are left out here …]\nü");
    }

    #[test]
    fn the_last_lines_are_few_and_short() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let lines = last_lines(&text);
        assert_eq!((lines.lines().count(), lines.lines().last()), (12, Some("line 99")));
        let long = last_lines(&"ä".repeat(10_000));
        assert!(long.starts_with('…') && long.len() < 4200, "{}", long.len());
        assert_eq!(last_lines("\n \n"), "");
    }
}
