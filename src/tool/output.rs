//! The result of a tool: a text for the model of limited size, and the whole text for the record.

use crate::files::ChangeSet;
use crate::model::{AgentActivity, Failure, ToolOutput};
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
        let content = shorten(&text, self.advice);
        let full_output = match self.full_text {
            Some(full_text) => Some(redactor.redact(&full_text).into_bytes()),
            None => content.is_some().then(|| text.clone().into_bytes()),
        };
        let content = content.unwrap_or(text);
        let output = ToolOutput { content, is_error: self.is_error, full_output: None, changed_files };
        PerformedTool { result: Ok(output), full_output, activity }
    }
}

/// A note about changed files, for the end of an output.
pub(super) fn changed_files_note(activity: &AgentActivity) -> Option<String> {
    if activity.changed.is_empty() {
        return None;
    }
    let names: Vec<&str> = activity.changed.iter().take(MAX_NAMED_FILES).map(String::as_str).collect();
    let more = activity.changed.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let incomplete = if activity.partial { "; there may be others" } else { "" };
    Some(format!("[changed files: {}{more}{incomplete}]", names.join(", ")))
}

/// Shortens a text that is too long for a model to its beginning and its end. Cuts at line breaks if there are any
/// nearby. Returns `None` if the text is short enough.
fn shorten(text: &str, advice: &str) -> Option<String> {
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
    let omitted = text.len() - head.len() - tail.len();
    let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
    Some(format!("{head}\n[… {omitted} bytes are left out here{advice} …]\n{tail}"))
}

/// Collects lines until they are too many for a model, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LineCollector {
    shown: String,
    all: String,
    omitted_count: usize,
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
        if self.all.len() + line.len() < MAX_LISTED_BYTES {
            self.all.push_str(line);
            self.all.push('\n');
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
            self.shown.push_str(note);
            self.shown.push('\n');
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
    fn secrets_are_removed_before_the_text_is_cut() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let text = format!("{}s3cret-value-of-a-key{}", "x".repeat(HEAD_BYTES - 5), "y".repeat(MAX_CONTENT_BYTES));
        let performed = RawOutput::new(text).finish(&redactor);
        assert!(!performed.result.unwrap().content.contains("s3cr"));
        assert!(!String::from_utf8(performed.full_output.unwrap()).unwrap().contains("s3cr"));
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
