//! The result of a tool: a text for the model of limited size, and the whole text for the record.

use crate::files::ChangeSet;
use crate::model::visible::escape_line_breaks;
use crate::model::{AgentActivity, Failure, ToolOutput, counted};
use crate::secret::Redactor;

/// The maximum size of the text that a model receives, in bytes.
pub const MAX_CONTENT_BYTES: usize = 64 << 10;
/// The part of that size for the beginning of a longer text. The rest is for its end.
const HEAD_BYTES: usize = 40 << 10;
/// The part of that size that stays free for the marker between them.
const MARKER_BYTES: usize = 1 << 10;
/// The maximum size of the whole text of a list of lines, in bytes.
const MAX_LISTED_BYTES: usize = 4 << 20;
/// The maximum number of paths in a note about changed files.
const MAX_NAMED_FILES: usize = 20;

/// What a call of a tool did.
#[derive(Clone, Debug)]
pub struct PerformedTool {
    /// The result for the model; a failure if orch could not perform the call or interrupted it.
    pub result: Result<ToolOutput, Failure>,
    /// The whole output, without secrets, if the text for the model is only a part of it.
    pub full_output: Option<Vec<u8>>,
    /// The files that the call changed, also of an interrupted call.
    pub activity: AgentActivity,
}

impl From<Failure> for PerformedTool {
    fn from(failure: Failure) -> Self {
        Self { result: Err(failure), full_output: None, activity: AgentActivity::default() }
    }
}

/// The output of a tool before it is shortened.
#[derive(Clone, Debug, Default)]
pub(super) struct RawOutput {
    /// The text.
    pub(super) text: String,
    /// A longer form of the text, of which `text` is a part.
    pub(super) full_text: Option<String>,
    /// Whether the call failed.
    pub(super) is_error: bool,
    /// How the model can get the part of the text that is left out.
    pub(super) advice: &'static str,
    /// The number of bytes that are missing in the middle of the text.
    pub(super) omitted_bytes: u64,
    /// The changes that the tool made.
    pub(super) change_set: Option<ChangeSet>,
}

impl RawOutput {
    /// The output of a call that succeeded.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The output of a call that failed. The text is a sentence for the model.
    pub(super) fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true, ..Self::default() }
    }

    /// Adds how the model can get the part of the text that is left out.
    pub(super) fn with_advice(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// Shortens the text for the model, and removes secrets.
    pub(super) fn finish(self, redactor: &Redactor) -> PerformedTool {
        let activity = self.change_set.as_ref().map(ChangeSet::to_activity).unwrap_or_default();
        let changed_files = self.change_set.as_ref().map(ChangeSet::changed_files).unwrap_or_default();
        let text = redactor.redact(&self.text);
        let content = shorten(&text, self.omitted_bytes, self.advice);
        let full_output = match self.full_text {
            Some(full_text) => Some(redactor.redact(&full_text).into_bytes()),
            None => content.is_some().then(|| text.clone().into_bytes()),
        };
        let content = content.unwrap_or(text);
        let output = ToolOutput { content, is_error: self.is_error, full_output: None, changed_files };
        PerformedTool { result: Ok(output), full_output, activity }
    }
}

/// The notes about changed files, for the end of an output: which files changed, and why there may be others.
pub(super) fn changed_files_notes(activity: &AgentActivity) -> Vec<String> {
    let names: Vec<_> = activity.changed.iter().take(MAX_NAMED_FILES).map(|path| escape_line_breaks(path)).collect();
    let more = activity.changed.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let changed = (!names.is_empty()).then(|| format!("[changed files: {}{more}]", names.join(", ")));
    let partial = activity.partial_note().map(|note| format!("[{note}]"));
    changed.into_iter().chain(partial).collect()
}

/// Shortens a text that is too long for a model to its beginning and its end. Cuts at line breaks if there are any
/// nearby. `missing` is the number of bytes that are missing in the middle of the text already. Returns `None` if the
/// text is short enough.
fn shorten(text: &str, missing: u64, advice: &str) -> Option<String> {
    if text.len() <= MAX_CONTENT_BYTES {
        return None;
    }
    let tail_bytes = MAX_CONTENT_BYTES - HEAD_BYTES - MARKER_BYTES;
    let head = text.get(..text.floor_char_boundary(HEAD_BYTES)).unwrap_or_default();
    let head = match head.rfind('\n') {
        Some(end) if end > HEAD_BYTES / 2 => head.get(..end).unwrap_or_default(),
        _ => head,
    };
    let tail = text.get(text.ceil_char_boundary(text.len() - tail_bytes)..).unwrap_or_default();
    let tail = match tail.find('\n') {
        Some(end) if end < tail_bytes / 2 => tail.get(end + 1..).unwrap_or_default(),
        _ => tail,
    };
    let omitted = (text.len() - head.len() - tail.len()) as u64 + missing;
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    let verb = if omitted == 1 { "is" } else { "are" };
    Some(format!("{head}\n[… {} {verb} left out here{advice} …]\n{tail}", counted(omitted, "byte")))
}

/// Collects lines until they are too many for a model, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LineCollector {
    shown: String,
    all: String,
    omitted_count: usize,
    /// The number of lines that are not even in the whole text.
    unrecorded_count: u64,
}

impl LineCollector {
    /// Adds a line.
    pub(super) fn push(&mut self, line: &str) {
        if self.omitted_count == 0 && self.shown.len() + line.len() < MAX_CONTENT_BYTES - MARKER_BYTES {
            self.shown.push_str(line);
            self.shown.push('\n');
        } else {
            self.omitted_count += 1;
        }
        if self.unrecorded_count == 0 && self.all.len() + line.len() < MAX_LISTED_BYTES {
            self.all.push_str(line);
            self.all.push('\n');
        } else {
            self.unrecorded_count += 1;
        }
    }

    /// The number of lines that are not shown.
    pub(super) fn omitted_count(&self) -> usize {
        self.omitted_count
    }

    /// Whether there is no line.
    pub(super) fn is_empty(&self) -> bool {
        self.shown.is_empty() && self.omitted_count == 0
    }

    /// The output with these notes at its end.
    pub(super) fn into_output(mut self, notes: &[String]) -> RawOutput {
        for note in notes {
            // A note may contain a path, and no part of a path may look like another note.
            self.shown.push_str(&escape_line_breaks(note));
            self.shown.push('\n');
        }
        if self.unrecorded_count > 0 {
            let verb = if self.unrecorded_count == 1 { "is" } else { "are" };
            self.all.push_str(&format!("[… {} {verb} not recorded …]\n", counted(self.unrecorded_count, "more line")));
        }
        let full_text = (self.omitted_count > 0).then_some(self.all);
        RawOutput { text: self.shown, full_text, ..RawOutput::default() }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn finish(output: RawOutput) -> (ToolOutput, Option<Vec<u8>>) {
        let performed = output.finish(&Redactor::default());
        (performed.result.unwrap(), performed.full_output)
    }

    #[test]
    fn a_long_text_is_shortened_at_line_breaks_and_kept_whole_for_the_record() {
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        let (output, full) = finish(RawOutput::new(text.clone()).with_advice("use `from`"));
        assert!(output.content.len() <= MAX_CONTENT_BYTES, "{}", output.content.len());
        assert!(output.content.starts_with("line 0\n") && output.content.ends_with("line 19999\n"));
        let marker = output.content.lines().find(|line| line.starts_with("[…")).unwrap();
        assert!(marker.ends_with("bytes are left out here; use `from` …]"), "{marker}");
        assert!(output.content.lines().all(|line| line.starts_with("line ") || line == marker), "no line is cut");
        assert_eq!(full, Some(text.into_bytes()));
    }

    #[test]
    fn a_text_without_line_breaks_is_cut_between_characters() {
        let (output, full) = finish(RawOutput::new("ä".repeat(100_000)));
        assert!(output.content.len() <= MAX_CONTENT_BYTES && !output.content.contains('\u{fffd}'));
        assert_eq!(full.map(|bytes| bytes.len()), Some(200_000));
        let (output, full) = finish(RawOutput::new("short"));
        assert_eq!((output.content.as_str(), full), ("short", None));
    }

    #[test]
    fn the_notes_about_changed_files_say_what_orch_could_not_compare() {
        let mut activity = AgentActivity::default();
        assert_eq!(changed_files_notes(&activity), Vec::<String>::new());
        activity.add_partial_reason("`sub` can't be read");
        let note = "[orch could not compare everything: `sub` can't be read; files may have changed]";
        assert_eq!(changed_files_notes(&activity), [note], "no changed file is known");
        activity.changed = (0..22).map(|number| number.to_string()).collect();
        let notes = changed_files_notes(&activity);
        assert!(notes[0].starts_with("[changed files: 0, 1, ") && notes[0].ends_with(", 19 and 2 more]"), "{notes:?}");
        assert!(notes[1].ends_with("; more files may have changed]"), "{notes:?}");
    }

    #[test]
    fn secrets_are_removed_before_the_text_is_cut() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let text = format!("{}s3cret-value-of-a-key{}", "x".repeat(HEAD_BYTES - 5), "y".repeat(MAX_CONTENT_BYTES));
        let performed = RawOutput::new(text).finish(&redactor);
        assert!(!performed.result.unwrap().content.contains("s3cr"));
        assert!(!String::from_utf8(performed.full_output.unwrap()).unwrap().contains("s3cr"));
    }

    #[test]
    fn the_marker_also_counts_the_bytes_that_were_never_recorded() {
        let text = "x".repeat(MAX_CONTENT_BYTES + 1);
        let omitted = |missing| {
            let (output, _) = finish(RawOutput { omitted_bytes: missing, ..RawOutput::new(text.clone()) });
            let (_, marker) = output.content.split_once("[… ").unwrap();
            marker.split_once(" bytes").unwrap().0.parse::<u64>().unwrap()
        };
        assert_eq!(omitted(1_000_000), omitted(0) + 1_000_000);
    }

    #[test]
    fn the_whole_list_says_which_lines_it_lacks() {
        let mut lines = LineCollector::default();
        let line = "x".repeat(MAX_LISTED_BYTES / 4);
        for _ in 0..5 {
            lines.push(&line);
        }
        lines.push("short");
        let (_, full) = finish(lines.into_output(&[]));
        let full = String::from_utf8(full.unwrap()).unwrap();
        assert!(full.ends_with("x\n[… 3 more lines are not recorded …]\n"), "{}", full.len());
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let mut lines = LineCollector::default();
        for number in 0..10_000 {
            lines.push(&format!("{number:>20}"));
        }
        let omitted = lines.omitted_count();
        let (output, full) = finish(lines.into_output(&[format!("[{omitted} more]")]));
        assert!(output.content.len() <= MAX_CONTENT_BYTES && output.content.ends_with(&format!("[{omitted} more]\n")));
        assert_eq!(output.content.lines().count() - 1 + omitted, 10_000);
        assert_eq!(full.map(|bytes| bytes.len()), Some(210_000));
    }
}
