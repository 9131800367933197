//! Captures the output of a child process up to a limit: all of it, or its beginning and its end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::model::counted;
use crate::model::text::decode_output_lossy;

/// The maximum number of last lines of an output that a message contains.
const MAX_LAST_LINES: usize = 12;
/// The maximum size of these lines, in bytes.
const MAX_LAST_BYTES: usize = 4 << 10;

/// An output stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The captured output of one stream. Of an output that is longer than the limit, it contains the beginning and the
/// end, each up to half of the limit.
#[derive(Clone, Debug)]
pub struct CapturedOutput {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// How many bytes the program wrote in total.
    pub total: u64,
    limit: usize,
}

impl CapturedOutput {
    /// Creates an empty output of which up to `limit` bytes are captured.
    pub fn new(limit: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), total: 0, limit }
    }

    /// Adds the next bytes of the output.
    pub fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head_limit, tail_limit) = (self.limit.div_ceil(2), self.limit / 2);
        let (for_head, for_tail) = bytes.split_at(head_limit.saturating_sub(self.head.len()).min(bytes.len()));
        self.head.extend_from_slice(for_head);
        let for_tail = for_tail.get(for_tail.len().saturating_sub(tail_limit)..).unwrap_or_default();
        let surplus = (self.tail.len() + for_tail.len()).saturating_sub(tail_limit);
        self.tail.drain(..surplus);
        self.tail.extend(for_tail);
    }

    /// Whether the program wrote nothing.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The number of bytes that are omitted between the beginning and the end.
    pub fn omitted_bytes(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// Returns the beginning and the end as texts, without a byte order mark and with invalid UTF-8 replaced. If no
    /// bytes are omitted, the first text is the whole output, and the second text is empty.
    pub fn head_and_tail(&self) -> (String, String) {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.omitted_bytes() == 0 {
            return (decode_output_lossy(&[self.head.as_slice(), &tail].concat()), String::new());
        }
        // Incomplete characters at the cut are omitted too.
        let is_continuation = |byte: &u8| byte & 0xC0 == 0x80;
        let last_char_start = self.head.iter().rposition(|byte| !is_continuation(byte)).unwrap_or_default();
        let last_char = self.head.get(last_char_start..).unwrap_or_default();
        let end = if std::str::from_utf8(last_char).is_ok() { self.head.len() } else { last_char_start };
        let head = decode_output_lossy(self.head.get(..end).unwrap_or_default());
        let start = tail.iter().take(3).take_while(|byte| is_continuation(byte)).count();
        (head, String::from_utf8_lossy(tail.get(start..).unwrap_or_default()).into_owned())
    }

    /// The text, with a marker in place of omitted bytes.
    pub fn text(&self) -> String {
        let (head, tail) = self.head_and_tail();
        if self.omitted_bytes() == 0 { head } else { join_with_marker(&head, &tail, self.omitted_bytes()) }
    }

    /// The last lines, for a message.
    pub fn last_lines(&self) -> String {
        self.last_lines_of(str::to_owned)
    }

    /// The last lines of the output after `redact`, for a message. Its argument may have been cut off at its beginning.
    pub fn last_lines_of(&self, redact: impl FnOnce(&str) -> String) -> String {
        let (head, tail) = self.head_and_tail();
        last_lines(&redact(if tail.is_empty() { &head } else { &tail }))
    }
}

/// Joins two parts of an output with a marker for the omitted bytes between them.
pub fn join_with_marker(head: &str, tail: &str, omitted: u64) -> String {
    let verb = if omitted == 1 { "is" } else { "are" };
    format!("{head}\n[… {} {verb} left out here …]\n{tail}", counted(omitted, "byte"))
}

/// Shortens a text that is longer than `limit` bytes to its beginning and its end, with a marker for the omitted bytes.
pub fn shorten_middle(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let (head, tail) = (text.floor_char_boundary(limit / 2), text.ceil_char_boundary(text.len() - limit / 2));
    let slice = |range: Range<usize>| text.get(range).unwrap_or_default();
    join_with_marker(slice(0..head), slice(tail..text.len()), (tail - head) as u64).into()
}

/// Returns the last lines of a text for a message. If they are too long, returns only their end.
pub fn last_lines(text: &str) -> String {
    let text = text.trim_end();
    let first_line = text.rmatch_indices('\n').nth(MAX_LAST_LINES - 1).map_or(0, |(newline, _)| newline + 1);
    let lines = text.get(first_line..).unwrap_or_default();
    let start = lines.ceil_char_boundary(lines.len().saturating_sub(MAX_LAST_BYTES));
    let ellipsis = if start > 0 { "…" } else { "" };
    format!("{ellipsis}{}", lines.get(start..).unwrap_or_default())
}

/// Reads a pipe to its end, or until the program has written more than `max_bytes`. Also reads the bytes that
/// `captured` omits, so that a full pipe never blocks the program.
pub(super) async fn capture_stream(
    pipe: Option<impl AsyncRead + Unpin>,
    stream: OutputStream,
    captured: &mut CapturedOutput,
    max_bytes: u64,
    on_output: &(dyn Fn(OutputStream, &[u8]) + Send + Sync),
) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = pipe.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        captured.add(bytes);
        on_output(stream, bytes);
        if captured.total > max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(limit: usize, text: &[u8], chunk_size: usize) -> CapturedOutput {
        let mut captured = CapturedOutput::new(limit);
        text.chunks(chunk_size).for_each(|bytes| captured.add(bytes));
        captured
    }

    #[test]
    fn chunks_of_any_size_give_the_same_beginning_and_end() {
        let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (limit, chunk_size) in [(10, 1), (10, 3), (11, 7), (10, 1000), (999, 64), (1000, 64), (2000, 64)] {
            let output = captured(limit, &text, chunk_size);
            let bytes: Vec<u8> = output.head.iter().chain(&output.tail).copied().collect();
            let half = limit.min(1000) / 2;
            assert_eq!((output.total, bytes.len()), (1000, limit.min(1000)), "{limit} {chunk_size}");
            assert!(text.starts_with(&bytes[..half]), "{limit} {chunk_size}");
            assert!(text.ends_with(&bytes[bytes.len() - half..]), "{limit} {chunk_size}");
            assert_eq!(output.omitted_bytes(), 1000 - bytes.len() as u64);
        }
    }

    #[test]
    fn the_marker_counts_the_omitted_bytes_and_no_character_is_split() {
        let output = captured(9, "äöüäöüäöü".as_bytes(), 2);
        assert_eq!(output.text(), "äö\n[… 9 bytes are left out here …]\nöü");
        assert_eq!(captured(18, "äöüäöüäöü".as_bytes(), 1).text(), "äöüäöüäöü");
    }

    #[test]
    fn a_long_text_is_shortened_between_characters_with_a_marker() {
        assert!(matches!(shorten_middle("äöü", 6), Cow::Borrowed("äöü")));
        assert_eq!(shorten_middle("äöüäöü", 7), "ä\n[… 8 bytes are left out here …]\nü");
        assert_eq!(shorten_middle("abc", 2), "a\n[… 1 byte is left out here …]\nc");
    }

    #[test]
    fn the_number_and_the_size_of_the_last_lines_are_limited() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let lines = last_lines(&text);
        assert_eq!((lines.lines().count(), lines.lines().last()), (12, Some("line 99")));
        let long = last_lines(&"ä".repeat(10_000));
        assert!(long.starts_with('…') && long.len() < 4200, "{}", long.len());
        assert_eq!(last_lines("\n \n"), "");
    }
}
