//! The tool `search`: the lines of the workspace's files that match a regular expression.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};

use crate::files::FolderEntryKind;
use crate::model::{PathPattern, counted};

use super::arguments::SearchArguments;
use super::file_type::{SNIFFED_BYTES, is_binary};
use super::job::{CancellableReader, FileJob, ToolError};
use super::list::walk_notes;
use super::output::{LineCollector, RawOutput};
use super::walk::WorkspaceWalk;

/// The maximum size of a compiled regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 4 << 20;
/// The maximum length of a line in a file, in bytes. orch does not search a file with a longer line further.
const MAX_LINE_BYTES: usize = 16 << 20;
/// The maximum length of a line in the result, in bytes.
const MAX_SHOWN_BYTES: usize = 400;
/// The part of that length for the text before the match.
const BEFORE_MATCH_BYTES: usize = 100;

/// Searches the files of the workspace.
pub(super) fn search(job: &FileJob, arguments: &SearchArguments) -> Result<RawOutput, ToolError> {
    let glob = arguments.glob.as_deref().map(PathPattern::parse).transpose();
    let glob = glob.map_err(|reason| format!("the glob can't be used: {reason}; correct it, or omit it"))?;
    let matcher = RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .build(&arguments.regex)
        .map_err(|error| {
            format!(
                "the regular expression can't be used: {error}; correct it: it is for single lines, in the syntax of \
                 Rust's `regex` crate"
            )
        })?;
    let searcher = SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .heap_limit(Some(MAX_LINE_BYTES))
        .line_number(true)
        .build();
    let mut walk = WorkspaceWalk::new(job, "", true).map_err(|error| job.describe_error("", &error))?;
    let mut line_search = LineSearch { job, searcher, matcher, found: FoundLines::default() };
    for entry in &mut walk {
        let is_searched = entry.kind == FolderEntryKind::File
            && glob.as_ref().is_none_or(|glob| glob.matches(&entry.path))
            && job.access.allows_reading(&entry.path);
        if !is_searched {
            continue;
        }
        match job.tree.open_file(&entry.path) {
            Ok(file) => line_search.search_file(&entry.path, file),
            Err(_) => line_search.found.unreadable_count += 1,
        }
    }
    let found = line_search.found;
    let mut notes = found.notes();
    notes.extend(walk_notes(&walk));
    Ok(found.lines.into_output(&notes))
}

/// The lines that match, and the number of files.
#[derive(Default)]
struct FoundLines {
    lines: LineCollector,
    line_count: usize,
    file_count: usize,
    unreadable_count: usize,
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
        match is_binary_file(&mut file) {
            Ok(false) => {}
            Ok(true) => return,
            Err(_) => {
                self.found.unreadable_count += 1;
                return;
            }
        }
        let count_before = self.found.line_count;
        let reader = CancellableReader::new(self.job, file);
        let sink = LineSink { job: self.job, path, matcher: &self.matcher, found: &mut self.found };
        if self.searcher.search_reader(&self.matcher, reader, sink).is_err() {
            self.found.unreadable_count += 1;
        }
        if self.found.line_count > count_before {
            self.found.file_count += 1;
        }
    }
}

impl FoundLines {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.line_count == 0 {
            notes.push("[no line matches]".to_owned());
        } else {
            let verb = if self.line_count == 1 { "matches" } else { "match" };
            let (lines, files) = (counted(self.line_count, "line"), counted(self.file_count, "file"));
            notes.push(format!("[{lines} in {files} {verb}]"));
        }
        if self.lines.omitted_count() > 0 {
            notes.push(format!(
                "[… {} of these lines are left out; use a stricter regular expression or `glob`]",
                self.lines.omitted_count()
            ));
        }
        if self.unreadable_count > 0 {
            let files = counted(self.unreadable_count, "file");
            notes.push(format!("[{files} could not be searched to the end]"));
        }
        notes
    }
}

/// Whether a file is not text. Text in UTF-16 with a byte order mark is text, which the searcher converts.
fn is_binary_file(file: &mut File) -> io::Result<bool> {
    let mut beginning = Vec::new();
    file.by_ref().take(SNIFFED_BYTES).read_to_end(&mut beginning)?;
    file.rewind()?;
    let is_utf16 = beginning.starts_with(&[0xff, 0xfe]) || beginning.starts_with(&[0xfe, 0xff]);
    Ok(!is_utf16 && is_binary(&beginning))
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
        let text = excerpt(found.bytes(), self.matcher);
        let number = found.line_number().unwrap_or_default();
        self.found.line_count += 1;
        self.found.lines.push(&format!("{}:{number}: {text}", self.path));
        Ok(!self.job.is_cancelled())
    }
}

/// The line without its end; of a long line, the part around the match.
fn excerpt(line: &[u8], matcher: &RegexMatcher) -> String {
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
    format!("{}{shown}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::tool::job::tests::job_in;

    #[test]
    fn a_search_that_was_cancelled_says_that_its_result_is_incomplete() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "needle\nneedle\n").unwrap();
        let arguments = SearchArguments { regex: "needle".to_owned(), glob: None };
        let job = job_in(folder.path());
        let text = |output: RawOutput| output.finish(&job.redactor).result.unwrap().content;
        assert!(text(search(&job, &arguments).unwrap()).ends_with("[2 lines in 1 files match]\n"));
        job.is_cancelled.store(true, Ordering::Relaxed);
        let cancelled = text(search(&job, &arguments).unwrap());
        assert!(cancelled.contains("the result is incomplete, since the call reached its time limit"), "{cancelled}");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_match_is_shown() {
        let matcher = RegexMatcherBuilder::new().build("needle").unwrap();
        assert_eq!(excerpt(b"a needle \r\n", &matcher), "a needle");
        for (before, after) in [(0, 1000), (150, 1000), (1000, 1000), (1000, 0)] {
            let line = format!("{}needle{}", "ä".repeat(before), "ö".repeat(after));
            let shown = excerpt(line.as_bytes(), &matcher);
            assert!(shown.contains("needle") && shown.len() < MAX_SHOWN_BYTES + 10, "{before} {after}: {shown}");
            assert_eq!((shown.starts_with('…'), shown.ends_with('…')), (before > 100, after > 0));
        }
    }
}
