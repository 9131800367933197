//! The tool `search`: the lines of the workspace's files that match a regular expression.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};

use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkFinish, SinkMatch};

use crate::files::FolderEntryKind;
use crate::model::visible::escape_line_breaks;
use crate::model::{PathPattern, counted};
use crate::secret::Redactor;

use super::arguments::SearchArguments;
use super::file_type::{MAX_UTF16_BYTES, SNIFFED_BYTES, Utf16Text, is_binary, read_utf16};
use super::job::{CancellableReader, FileJob, ToolError};
use super::line_cutter::LineCutter;
use super::missed_paths::MissedPaths;
use super::output::{LineCollector, RawOutput};
use super::walk::WorkspaceWalk;

/// The maximum length of a regular expression, in bytes. Parsing it takes hundreds of times its size.
const MAX_REGEX_BYTES: usize = 64 << 10;
/// The maximum size of a compiled regular expression, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// The length up to which orch searches a line for a small regular expression, in bytes.
const MAX_LINE_BYTES: usize = 1 << 20;
/// The length up to which orch searches a line for the largest regular expression, in bytes.
const MIN_LINE_BYTES: usize = 16 << 10;
/// Sizes of a compiled regular expression, each with the length up to which orch then searches a line, in bytes. In the
/// worst case, the time for a line is proportional to the product of both.
const SEARCH_LIMITS: [(usize, usize); 4] =
    [(16 << 10, MAX_LINE_BYTES), (64 << 10, 256 << 10), (256 << 10, 64 << 10), (MAX_COMPILED_BYTES, MIN_LINE_BYTES)];
/// The maximum size of the cache for the states of a regular expression, in bytes.
const MAX_CACHE_BYTES: usize = 4 << 20;
/// The maximum size of the buffer of a search, in bytes. It must exceed the longest line.
const MAX_BUFFER_BYTES: usize = 16 << 20;
/// The maximum length of a line in the result, in bytes.
const MAX_SHOWN_BYTES: usize = 400;
/// The part of that length for the text before the match.
const BEFORE_MATCH_BYTES: usize = 100;
/// How a model can get fewer lines.
const NARROW_ADVICE: &str = "use a stricter regular expression or `glob`";
/// How a model can search what a search did not reach.
const REST_ADVICE: &str = "search fewer files with `glob`";

/// Searches the files of the workspace.
pub(super) fn search(job: &FileJob, arguments: &SearchArguments) -> Result<RawOutput, ToolError> {
    let glob = arguments.glob.as_deref().map(PathPattern::parse).transpose();
    let glob = glob.map_err(|reason| format!("the glob can't be used: {reason}; correct it, or omit it"))?;
    let (matcher, max_line_bytes) = compile(&arguments.regex)?;
    let searcher = SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(Some(MAX_BUFFER_BYTES))
        .line_number(true)
        .build();
    let mut walk = WorkspaceWalk::new(job, "", true).map_err(|error| job.describe_error("", &error))?;
    let found = FoundLines { max_line_bytes, ..FoundLines::default() };
    let mut line_search = LineSearch { job, searcher, matcher, found };
    for entry in &mut walk {
        let is_searched = entry.kind == FolderEntryKind::File
            && glob.as_ref().is_none_or(|glob| glob.matches(&entry.path))
            && job.access.allows_reading(&entry.path);
        if !is_searched {
            continue;
        }
        match job.tree.open_file(&entry.path) {
            Ok(file) => line_search.search_file(&entry.path, file),
            Err(error) => line_search.found.missed_files.add(format!("`{}` {error}", entry.path)),
        }
    }
    let found = line_search.found;
    let mut notes = found.notes(walk.is_complete());
    notes.extend(walk.notes(REST_ADVICE));
    Ok(found.lines.into_output(&notes))
}

/// Why `search` can't use a regular expression, in one line; `None` if it can.
pub fn regex_problem(regex: &str) -> Option<String> {
    let problem = length_problem(regex).or_else(|| build_matcher(regex).err())?;
    // The parser draws the place of the problem in the lines before the last one.
    let last_line = problem.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    Some(last_line.strip_prefix("error: ").unwrap_or(last_line).to_owned())
}

/// Compiles a regular expression. Also returns the length up to which orch searches a line, in bytes.
///
/// # Errors
/// It is not valid or too large. The error is a sentence for the model.
fn compile(regex: &str) -> Result<(RegexMatcher, usize), String> {
    if let Some(problem) = length_problem(regex) {
        return Err(format!("the regular expression can't be used: {problem}; write a shorter one"));
    }
    build_matcher(regex).map_err(|problem| {
        format!(
            "the regular expression can't be used: {problem}; correct it: it is for single lines, in the syntax of \
             Rust's `regex` crate, and large numbers of repetitions make it too large"
        )
    })
}

fn length_problem(regex: &str) -> Option<String> {
    let length = regex.len();
    (length > MAX_REGEX_BYTES).then(|| format!("it has {length} bytes, and at most {MAX_REGEX_BYTES} are allowed"))
}

/// Like [`compile`], without the limit of the length, and with the problem alone as the error.
fn build_matcher(regex: &str) -> Result<(RegexMatcher, usize), String> {
    let build = |max_bytes: usize| {
        let mut builder = RegexMatcherBuilder::new();
        builder.line_terminator(Some(b'\n')).size_limit(max_bytes).dfa_size_limit(MAX_CACHE_BYTES).build(regex)
    };
    let mut problem = String::new();
    for (max_regex_bytes, max_line_bytes) in SEARCH_LIMITS {
        match build(max_regex_bytes) {
            Ok(matcher) => return Ok((matcher, max_line_bytes)),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

/// The lines that match, and the number of files.
#[derive(Default)]
struct FoundLines {
    lines: LineCollector,
    line_count: u64,
    file_count: u64,
    /// The number of lines of which only an excerpt is shown.
    excerpt_count: u64,
    /// The length up to which lines are searched, in bytes.
    max_line_bytes: usize,
    /// The number of longer lines.
    cut_count: u64,
    /// The files that were not searched to their end.
    missed_files: MissedPaths,
}

/// A search in several files.
struct LineSearch<'a> {
    job: &'a FileJob,
    searcher: Searcher,
    matcher: RegexMatcher,
    found: FoundLines,
}

impl LineSearch<'_> {
    fn search_file(&mut self, path: &str, mut file: File) {
        // The searcher stops at the first NUL, but it would still show the lines before it.
        match contents_of(&mut file) {
            Ok(FileContents::Bytes) => self.search_text(path, CancellableReader::new(self.job, file)),
            Ok(FileContents::Utf16(text)) => self.search_text(path, Cursor::new(text)),
            Ok(FileContents::Binary) => {}
            Ok(FileContents::LargeUtf16) => {
                let reason = format!("`{path}` is text in UTF-16 with more than {MAX_UTF16_BYTES} bytes");
                self.found.missed_files.add(reason);
            }
            Err(error) => self.found.missed_files.add(format!("`{path}` can't be read: {error}")),
        }
    }

    fn search_text(&mut self, path: &str, text: impl Read) {
        let count_before = self.found.line_count;
        let mut text = LineCutter::new(text, self.found.max_line_bytes);
        let sink = LineSink { job: self.job, path, matcher: &self.matcher, found: &mut self.found };
        if let Err(error) = self.searcher.search_reader(&self.matcher, &mut text, sink) {
            self.found.missed_files.add(format!("`{path}` can't be searched: {error}"));
        }
        self.found.cut_count += text.cut_count();
        if self.found.line_count > count_before {
            self.found.file_count += 1;
        }
    }
}

impl FoundLines {
    /// The notes after the lines. `is_complete` is whether the search reached all files.
    fn notes(&self, is_complete: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let is_complete = is_complete && self.missed_files.is_empty() && self.cut_count == 0;
        match self.line_count {
            0 if is_complete => notes.push("[no line matches]".to_owned()),
            0 => notes.push("[no line matches in what was searched]".to_owned()),
            1 => notes.push("[1 line in 1 file matches]".to_owned()),
            count => notes.push(format!("[{count} lines in {} match]", counted(self.file_count, "file"))),
        }
        match self.lines.omitted_count() {
            0 => {}
            1 => notes.push(format!("[… 1 of these lines is left out; {NARROW_ADVICE}]")),
            count => notes.push(format!("[… {count} of these lines are left out; {NARROW_ADVICE}]")),
        }
        if self.excerpt_count > 0 {
            let lines = counted(self.excerpt_count, "long line");
            notes.push(format!("[of {lines}, only the part around the first match is shown; `read` shows more of it]"));
        }
        if self.cut_count > 0 {
            let (lines, max) = (counted(self.cut_count, "long line"), self.max_line_bytes);
            let advice = if max < MAX_LINE_BYTES { "; with a simpler regular expression, more" } else { "" };
            notes.push(format!("[of {lines}, only the first {max} bytes were searched{advice}]"));
        }
        if !self.missed_files.is_empty() {
            let (files, reasons) = (self.missed_files.counted("file"), self.missed_files.reasons());
            notes.push(format!("[not searched to the end: {files}: {reasons}]"));
        }
        notes
    }
}

/// What a file contains.
enum FileContents {
    /// Bytes to search as they are.
    Bytes,
    /// Text in UTF-16 with a byte order mark, converted to UTF-8.
    Utf16(String),
    /// Such a text that is too large.
    LargeUtf16,
    /// No text.
    Binary,
}

fn contents_of(file: &mut File) -> io::Result<FileContents> {
    let mut beginning = Vec::new();
    file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut beginning)?;
    file.rewind()?;
    Ok(match read_utf16(file, &beginning)? {
        Some(Utf16Text::Text(text)) => FileContents::Utf16(text),
        Some(Utf16Text::TooLarge) => FileContents::LargeUtf16,
        None if is_binary(&beginning) => FileContents::Binary,
        None => FileContents::Bytes,
    })
}

/// Receives the lines of a file that match.
struct LineSink<'a> {
    job: &'a FileJob,
    path: &'a str,
    matcher: &'a RegexMatcher,
    found: &'a mut FoundLines,
}

impl Sink for LineSink<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        let text = excerpt(found.bytes(), self.matcher, &self.job.redactor);
        let number = found.line_number().unwrap_or_default();
        self.found.line_count += 1;
        self.found.excerpt_count += u64::from(found.bytes().trim_ascii_end().len() > MAX_SHOWN_BYTES);
        self.found.lines.push(&format!("{}:{number}: {text}", escape_line_breaks(self.path)));
        Ok(!self.job.is_cancelled())
    }

    fn finish(&mut self, _: &Searcher, end: &SinkFinish) -> Result<(), io::Error> {
        if end.binary_byte_offset().is_some() {
            self.found.missed_files.add(format!("`{}` contains binary data", self.path));
        }
        Ok(())
    }
}

/// The line without its end; of a long line, the part around the match.
fn excerpt(line: &[u8], matcher: &RegexMatcher, redactor: &Redactor) -> String {
    let line = line.trim_ascii_end();
    if line.len() <= MAX_SHOWN_BYTES {
        return String::from_utf8_lossy(line).into_owned();
    }
    let match_start = matcher.find(line).ok().flatten().map_or(0, |found| found.start());
    let start = match_start.saturating_sub(BEFORE_MATCH_BYTES).min(line.len() - MAX_SHOWN_BYTES);
    let shown = String::from_utf8_lossy(line.get(start..start + MAX_SHOWN_BYTES).unwrap_or_default());
    // The cuts may be inside a character.
    let shown = shown.trim_matches(char::REPLACEMENT_CHARACTER);
    let (before, after) = (start > 0, start + MAX_SHOWN_BYTES < line.len());
    let shown = redactor.redact_part(shown, before, after);
    format!("{}{shown}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use secrecy::SecretString;

    use super::*;
    use crate::tool::job::tests::job_in;

    #[test]
    fn a_search_that_was_cancelled_says_that_its_result_is_incomplete() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "needle\nneedle\n").unwrap();
        let arguments = SearchArguments { regex: "needle".to_owned(), glob: None };
        let job = job_in(folder.path());
        let text = |output: RawOutput| output.finish(&job.redactor).result.unwrap().content;
        assert!(text(search(&job, &arguments).unwrap()).ends_with("[2 lines in 1 file match]\n"));
        job.is_cancelled.store(true, Ordering::Relaxed);
        let cancelled = text(search(&job, &arguments).unwrap());
        assert!(cancelled.contains("the result is incomplete: the call reached its time limit"), "{cancelled}");
    }

    #[test]
    fn the_notes_have_the_right_number_and_say_what_was_not_searched() {
        let found = |line_count, file_count| FoundLines { line_count, file_count, ..FoundLines::default() };
        assert_eq!(found(1, 1).notes(true), ["[1 line in 1 file matches]"]);
        assert_eq!(found(2, 1).notes(true), ["[2 lines in 1 file match]"]);
        assert_eq!(found(0, 0).notes(true), ["[no line matches]"]);
        assert_eq!(found(0, 0).notes(false), ["[no line matches in what was searched]"]);
        let mut missed = FoundLines { excerpt_count: 1, cut_count: 2, max_line_bytes: 1 << 20, ..found(3, 2) };
        missed.missed_files.add("`a` contains binary data".to_owned());
        let expected = [
            "[3 lines in 2 files match]",
            "[of 1 long line, only the part around the first match is shown; `read` shows more of it]",
            "[of 2 long lines, only the first 1048576 bytes were searched]",
            "[not searched to the end: 1 file: `a` contains binary data]",
        ];
        assert_eq!(missed.notes(true), expected);
        assert_eq!(FoundLines { line_count: 0, ..missed }.notes(true)[0], "[no line matches in what was searched]");
    }

    #[test]
    fn the_larger_a_regular_expression_the_less_of_a_line_is_searched() {
        let max_line_bytes = |regex: &str| compile(regex).map(|(_, max_line_bytes)| max_line_bytes);
        assert_eq!(max_line_bytes("needle"), Ok(MAX_LINE_BYTES));
        assert!(max_line_bytes("(?:x{1,60}){1,60}y").unwrap() <= 64 << 10);
        let error = max_line_bytes("(?:x{1,1000}){1,1000}").unwrap_err();
        assert!(error.contains("size limit of 1048576"), "{error}");
        let costs = SEARCH_LIMITS.map(|(regex_bytes, line_bytes)| regex_bytes * line_bytes);
        assert!(costs.iter().all(|cost| *cost == costs[0]) && MAX_BUFFER_BYTES > 2 * MAX_LINE_BYTES);
    }

    #[test]
    fn the_end_of_a_long_line_is_not_searched_and_the_next_line_is() {
        let folder = tempfile::tempdir().unwrap();
        let (_, max_line_bytes) = compile("needle").unwrap();
        let long = "x".repeat(max_line_bytes);
        let text = format!("{}needle\n{long}needle\nneedle\n", &long[6..]);
        std::fs::write(folder.path().join("a"), text).unwrap();
        let job = job_in(folder.path());
        let search_for = |regex: &str| {
            let arguments = SearchArguments { regex: regex.to_owned(), glob: None };
            search(&job, &arguments).unwrap().finish(&job.redactor).result.unwrap().content
        };
        let found = search_for("needle");
        assert!(found.starts_with("a:1: ") && found.contains("\na:3: needle\n[2 lines in 1 file match]\n"), "{found}");
        assert!(found.contains("[of 1 long line, only the first 1048576 bytes were searched]"), "{found}");
        let found = search_for("^x+$");
        assert!(found.starts_with("[no line matches in what was searched]\n"), "the cut is no end of a line: {found}");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_match_is_shown() {
        let matcher = RegexMatcherBuilder::new().build("needle").unwrap();
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        assert_eq!(excerpt(b"a needle \r\n", &matcher, &redactor), "a needle");
        for (before, after) in [(0, 1000), (150, 1000), (1000, 1000), (1000, 0)] {
            let line = format!("{}needle{}", "ä".repeat(before), "ö".repeat(after));
            let shown = excerpt(line.as_bytes(), &matcher, &redactor);
            assert!(shown.contains("needle") && shown.len() < MAX_SHOWN_BYTES + 10, "{before} {after}: {shown}");
            assert_eq!((shown.starts_with('…'), shown.ends_with('…')), (before > 100, after > 0));
        }
        for offset in 0..MAX_SHOWN_BYTES {
            let (before, after) = ("x".repeat(offset), "y".repeat(MAX_SHOWN_BYTES - offset));
            let line = format!("{before} s3cret-value-of-a-key {before}needle{after} s3cret-value-of-a-key {after}");
            let shown = excerpt(line.as_bytes(), &matcher, &redactor);
            assert!(!shown.contains("s3cret-v") && !shown.contains("of-a-key "), "{offset}: {shown}");
        }
    }
}
