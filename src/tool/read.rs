//! The tool `read`: the numbered lines of a text file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};

use crate::files::FolderEntryKind;
use crate::model::counted;
use crate::model::visible::escape_line_breaks;
use crate::secret::Redactor;

use super::arguments::ReadArguments;
use super::file_type::{MAX_UTF16_BYTES, SNIFFED_BYTES, Utf16Text, describe_binary, is_binary, read_utf16};
use super::job::{CancellableReader, FileJob, ToolError};
use super::output::RawOutput;

/// The size of the lines that a result shows, in bytes, without their numbers.
const MAX_SHOWN_BYTES: usize = 48 << 10;
/// The part of that size for the end of a file of which all lines were requested.
const TAIL_BYTES: usize = 12 << 10;
/// The maximum length of a line in the result, in bytes.
const MAX_LINE_BYTES: usize = 4000;
/// The number of lines whose numbers also fit into the result.
const MAX_SHOWN_LINES: usize = 1500;

/// Reads a file.
pub(super) fn read(job: &FileJob, arguments: &ReadArguments) -> Result<RawOutput, ToolError> {
    let path = job.readable_path(&arguments.path)?;
    job.access.check_reading(&path)?;
    if matches!(job.tree.entry_kind(&path), Ok(FolderEntryKind::Folder)) {
        let shown = escape_line_breaks(&arguments.path);
        return Err(ToolError::Refused(format!("`{shown}` is a folder; use `list` to see its files")));
    }
    let file = job.tree.open_file(&path).map_err(|error| job.describe_error(&path, &error))?;
    let contents = read_lines(job, file, arguments);
    let path = escape_line_breaks(&path);
    match contents.map_err(|error| format!("`{path}` can't be read: {error}; choose another file"))? {
        FileContents::Binary(description) => {
            Ok(RawOutput::new(format!("[`{path}` is a binary file: {description}]\n")))
        }
        FileContents::LargeUtf16(size) => Ok(RawOutput::new(format!(
            "[`{path}` is text in UTF-16 with {size} bytes, and `read` converts at most {MAX_UTF16_BYTES}; convert it to \
             UTF-8 with a command]\n"
        ))),
        FileContents::Text(lines) => Ok(lines.into_output(job, arguments)?),
    }
}

/// The contents of a file.
enum FileContents {
    Text(SelectedLines),
    /// Not text, with a description of its type and size.
    Binary(String),
    /// Text in UTF-16 that is too large, with its size in bytes.
    LargeUtf16(u64),
}

fn read_lines(job: &FileJob, mut file: File, arguments: &ReadArguments) -> io::Result<FileContents> {
    let size = file.metadata()?.len();
    let mut beginning = Vec::new();
    file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut beginning)?;
    file.rewind()?;
    let mut lines = SelectedLines::new(arguments);
    match read_utf16(&mut file, &beginning)? {
        Some(Utf16Text::Text(text)) => {
            lines.notes.push("the file is UTF-16, shown as UTF-8; `edit` can't change it".to_owned());
            lines.read_from(job, text.as_bytes())?;
            return Ok(FileContents::Text(lines));
        }
        Some(Utf16Text::TooLarge) => return Ok(FileContents::LargeUtf16(size)),
        None => {}
    }
    if is_binary(&beginning) {
        return Ok(FileContents::Binary(describe_binary(&beginning, size)));
    }
    lines.read_from(job, BufReader::new(CancellableReader::new(job, file)))?;
    Ok(FileContents::Text(lines))
}

/// One line of a file.
struct FileLine {
    /// The beginning of the line, without its end.
    bytes: Vec<u8>,
    /// The number of bytes that are left out.
    omitted: u64,
}

/// The lines of a file that a result shows.
struct SelectedLines {
    /// The number of the first requested line, from 1.
    first: u64,
    /// The number of the last requested line.
    last: u64,
    /// The lines from the first one on.
    head: Vec<FileLine>,
    head_bytes: usize,
    max_head_bytes: usize,
    /// The last requested lines, if not all lines fit.
    tail: VecDeque<FileLine>,
    tail_bytes: usize,
    max_tail_bytes: usize,
    /// The number of lines of the file.
    line_count: u64,
    has_crlf: bool,
    has_invalid_utf8: bool,
    /// Whether the call was interrupted before the end of the file.
    is_incomplete: bool,
    notes: Vec<String>,
}

impl SelectedLines {
    fn new(arguments: &ReadArguments) -> Self {
        let first = arguments.from.unwrap_or(1).max(1);
        let last = arguments.lines.map_or(u64::MAX, |count| first.saturating_add(count.max(1) - 1));
        // A model that requests a range continues after the last line that it received.
        let is_whole_file = arguments.from.is_none() && arguments.lines.is_none();
        let max_tail_bytes = if is_whole_file { TAIL_BYTES } else { 0 };
        Self {
            first,
            last,
            head: Vec::new(),
            head_bytes: 0,
            max_head_bytes: MAX_SHOWN_BYTES - max_tail_bytes,
            tail: VecDeque::new(),
            tail_bytes: 0,
            max_tail_bytes,
            line_count: 0,
            has_crlf: false,
            has_invalid_utf8: false,
            is_incomplete: false,
            notes: Vec::new(),
        }
    }

    /// Reads all lines, so that the result can say how many there are.
    fn read_from(&mut self, job: &FileJob, mut reader: impl BufRead) -> io::Result<()> {
        while let Some(mut line) = read_line(&mut reader)? {
            self.line_count += 1;
            if self.line_count == 1 && line.bytes.starts_with(b"\xef\xbb\xbf") {
                line.bytes.drain(..3);
            }
            if line.bytes.last() == Some(&b'\r') && line.omitted == 0 {
                line.bytes.pop();
                self.has_crlf = true;
            }
            if (self.first..=self.last).contains(&self.line_count) {
                self.add(line);
            }
        }
        self.is_incomplete = job.is_cancelled();
        Ok(())
    }

    fn add(&mut self, line: FileLine) {
        let size = line.bytes.len() + 1;
        let is_head_full = self.head_bytes + size > self.max_head_bytes || self.head.len() >= MAX_SHOWN_LINES;
        // A line that does not fit ends the head, even if a later one would fit.
        if self.tail_bytes == 0 && !is_head_full && self.head.len() as u64 + self.first == self.line_count {
            self.head_bytes += size;
            self.head.push(line);
            return;
        }
        self.tail_bytes += size;
        self.tail.push_back(line);
        while self.tail_bytes > self.max_tail_bytes || self.tail.len() > MAX_SHOWN_LINES / 4 {
            let Some(dropped) = self.tail.pop_front() else { break };
            self.tail_bytes -= dropped.bytes.len() + 1;
        }
    }

    fn into_output(mut self, job: &FileJob, arguments: &ReadArguments) -> Result<RawOutput, String> {
        if self.first > self.line_count && self.first > 1 {
            let path = escape_line_breaks(&arguments.path);
            let (first, lines) = (self.first, counted(self.line_count, "line"));
            return Err(if self.is_incomplete {
                format!("`from` is {first}, and after {lines} the call reached its time limit; choose a smaller `from`")
            } else {
                format!("`from` is {first}, and `{path}` has {lines}; choose a smaller `from`")
            });
        }
        let head_end = self.first + self.head.len() as u64 - 1;
        let range_end = self.last.min(self.line_count);
        let tail_start = range_end + 1 - self.tail.len() as u64;
        let has_gap = head_end + 1 < tail_start;
        let (head, tail) = (join_lines(self.head.iter(), &job.redactor), join_lines(self.tail.iter(), &job.redactor));
        self.has_invalid_utf8 = head.contains('\u{fffd}') || tail.contains('\u{fffd}');
        let (head, tail) = if has_gap {
            (job.redactor.redact_beginning(&head), job.redactor.redact_ending(&tail))
        } else {
            (job.redactor.redact(&format!("{head}{tail}")), String::new())
        };
        let mut text = numbered_lines(&head, self.first);
        // After an interruption, the file has more lines than those that were counted.
        let at_least = if self.is_incomplete { "at least " } else { "" };
        let count = format!("{at_least}{}", self.line_count);
        if has_gap {
            let next = head_end + 1;
            if self.tail.is_empty() {
                let shown = range_with_verb(self.first, head_end, &count);
                self.notes.push(format!("{shown} shown; continue with `from: {next}`"));
            } else {
                let omitted = range_with_verb(next, tail_start - 1, &count);
                let them = if next + 1 == tail_start { "it" } else { "them" };
                text.push_str(&format!("[… {omitted} left out; read {them} with `from: {next}` …]\n"));
                text.push_str(&numbered_lines(&tail, tail_start));
            }
        } else if self.first > 1 || range_end < self.line_count {
            self.notes.push(format!("{} shown", range_with_verb(self.first, range_end, &count)));
        }
        self.add_notes_about_text();
        for note in &self.notes {
            text.push_str(&format!("[{note}]\n"));
        }
        Ok(RawOutput::new(text).with_advice("read a part with `from` and `lines`"))
    }

    fn add_notes_about_text(&mut self) {
        if self.line_count == 0 && !self.is_incomplete {
            self.notes.push("the file is empty".to_owned());
        }
        if self.head.iter().chain(&self.tail).any(|line| line.omitted > 0) {
            self.notes.push(format!(
                "`read` shows at most {MAX_LINE_BYTES} bytes of a line; `search` or a command can show another part"
            ));
        }
        if self.has_crlf {
            self.notes.push("lines of the file end with CRLF".to_owned());
        }
        if self.has_invalid_utf8 {
            self.notes.push("bytes that are not UTF-8 are shown as \u{fffd}".to_owned());
        }
        if self.is_incomplete {
            self.notes.push(format!(
                "the call reached its time limit after {}, the last of which may be incomplete; a command can read the \
                 rest",
                counted(self.line_count, "line")
            ));
        }
    }
}

/// A range of the lines of a file with its verb: `line 2 of 3 is`, `lines 2–3 of 9 are`.
fn range_with_verb(first: u64, last: u64, count: &str) -> String {
    if first == last { format!("line {first} of {count} is") } else { format!("lines {first}–{last} of {count} are") }
}

/// Joins lines, each with a line break at its end.
fn join_lines<'a>(lines: impl Iterator<Item = &'a FileLine>, redactor: &Redactor) -> String {
    let mut text = String::new();
    for line in lines {
        let decoded = String::from_utf8_lossy(&line.bytes);
        if line.omitted > 0 {
            // The end of a shortened line may be a part of a character or of a secret.
            text.push_str(&redactor.redact_beginning(decoded.trim_end_matches('\u{fffd}')));
            text.push_str(&format!("… [{} in this line]", counted(line.omitted, "more byte")));
        } else {
            text.push_str(&decoded);
        }
        text.push('\n');
    }
    text
}

/// Reads a line without its line feed; of a long line, only its beginning. Returns `None` at the end of the file.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<FileLine>> {
    let mut line = FileLine { bytes: Vec::new(), omitted: 0 };
    let mut is_at_end = true;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok((!is_at_end).then_some(line));
        }
        is_at_end = false;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        let kept = part.len().min(MAX_LINE_BYTES.saturating_sub(line.bytes.len()));
        line.bytes.extend_from_slice(part.get(..kept).unwrap_or_default());
        line.omitted += (part.len() - kept) as u64;
        let consumed = part.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Adds a number to each line of a text.
pub(super) fn numbered_lines(text: &str, first: u64) -> String {
    let numbered = text.lines().zip(first..).map(|(line, number)| format!("{number:>6}\t{line}\n"));
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_long_line_is_read_only_partly() {
        let text = format!("short\n{}\nlast", "x".repeat(MAX_LINE_BYTES + 10));
        let mut reader = BufReader::with_capacity(7, text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut reader).unwrap() {
            lines.push((line.bytes.len(), line.omitted));
        }
        assert_eq!(lines, [(5, 0), (MAX_LINE_BYTES, 10), (4, 0)]);
        assert!(read_line(&mut "".as_bytes()).unwrap().is_none());
        assert_eq!(read_line(&mut "\n".as_bytes()).unwrap().unwrap().bytes, b"");
    }

    #[test]
    fn one_line_or_byte_is_singular() {
        assert_eq!(range_with_verb(2, 2, "3"), "line 2 of 3 is");
        assert_eq!(range_with_verb(2, 3, "at least 9"), "lines 2–3 of at least 9 are");
        let lines = [FileLine { bytes: b"a".to_vec(), omitted: 1 }, FileLine { bytes: b"b".to_vec(), omitted: 2 }];
        let joined = join_lines(lines.iter(), &Redactor::default());
        assert_eq!(joined, "a… [1 more byte in this line]\nb… [2 more bytes in this line]\n");
    }

    #[test]
    fn the_part_of_a_secret_at_the_end_of_a_shortened_line_is_redacted() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let lines = [FileLine { bytes: b"key s3cret-value-".to_vec(), omitted: 9 }];
        assert_eq!(join_lines(lines.iter(), &redactor), "key [secret KEY]… [9 more bytes in this line]\n");
    }

    #[test]
    fn lines_are_numbered_from_the_first_one() {
        assert_eq!(numbered_lines("a\n\nb\n", 9), "     9\ta\n    10\t\n    11\tb\n");
        assert_eq!(numbered_lines("", 1), "");
    }
}
