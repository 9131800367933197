//! Findings about a user's files, and all ways to render them.
//!
//! Contains [`Diagnostic`], the table of codes, and the renderings: with source and caret for people, on one line, and
//! in the formats of other programs. Codes are stable, and a rendering accepts any span without a panic. This module
//! reads no files and prints nothing.

mod code;
pub mod equivalents;
mod explain;
mod github;
mod json;
mod junit;
mod render;
mod sarif;
mod suggest;
mod yaml_scalar;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

pub use code::Code;
pub use explain::{
    ExampleFile, Explanation, example_project, explanation, render_all_explanations, render_explanation,
};
pub use github::render_github;
pub use json::{json_report, to_json};
pub use junit::render_junit;
pub use render::{RenderStyle, render, render_all, render_counts, render_line};
pub use sarif::render_sarif;
pub use suggest::did_you_mean;
pub use yaml_scalar::expression_in_yaml;

use crate::model::most_similar_name;

/// A source file: its path in messages, and its text.
#[derive(Debug)]
pub struct SourceFile {
    /// The path that messages show, with `/` on every system.
    pub path: String,
    /// The text; empty if orch could not read the file.
    pub text: String,
    /// The offsets at which the lines begin, so that a finding does not count the lines before it.
    line_starts: OnceLock<Vec<usize>>,
}

impl PartialEq for SourceFile {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.text) == (&other.path, &other.text)
    }
}

impl Eq for SourceFile {}

impl SourceFile {
    /// Creates a file from the path that messages show and its text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into(), line_starts: OnceLock::new() })
    }

    /// Returns the line and the column of a byte offset. Both begin at 1; columns count characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let end = floor_char_boundary(&self.text, offset);
        let line_starts = self.line_starts.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
        });
        let line = line_starts.partition_point(|start| *start <= end);
        let line_start = line_starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(line_start..end).unwrap_or_default().chars().count();
        (line, column + 1)
    }
}

/// Returns the largest character boundary of `text` that is not after `offset`.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline can't run as written.
    Error,
    /// The pipeline can run, but probably not as the author intended.
    Warning,
}

impl Severity {
    /// Returns the name of the severity, as in messages and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A second location that explains the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The file that contains the location.
    pub file: Arc<SourceFile>,
    /// The bytes of the location.
    pub span: Range<usize>,
    /// A short description of the location, such as "first written here".
    pub text: String,
}

/// An edit that fixes the mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The bytes to replace, in the file of the finding.
    pub span: Range<usize>,
    /// The text to insert there.
    pub replacement: String,
    /// Whether orch may apply it without confirmation.
    pub is_safe: bool,
}

/// A finding: one mistake in a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// How serious it is.
    pub severity: Severity,
    /// One sentence in lower case without a full stop; literals are in backticks.
    pub message: String,
    /// The file with the mistake, if there is one.
    pub file: Option<Arc<SourceFile>>,
    /// The bytes of the mistake; `None` if it concerns the whole file.
    pub span: Option<Range<usize>>,
    /// A short text to show next to the caret.
    pub label: Option<String>,
    /// Other locations that explain the mistake.
    pub related: Vec<Label>,
    /// Advice on how to fix the mistake; each item is one sentence.
    pub help: Vec<String>,
    /// An edit that fixes it.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// Creates an error without a location.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// Creates a warning without a location.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: Code, severity: Severity, message: String) -> Self {
        let (file, span, label, related, help, fix) = (None, None, None, Vec::new(), Vec::new(), None);
        Self { code, severity, message, file, span, label, related, help, fix }
    }

    /// Sets the location in a file.
    #[must_use]
    pub fn with_span(mut self, file: &Arc<SourceFile>, span: Range<usize>) -> Self {
        self.file = Some(Arc::clone(file));
        self.span = Some(span);
        self
    }

    /// Sets the file, for a finding about the whole file.
    #[must_use]
    pub fn with_file(mut self, file: &Arc<SourceFile>) -> Self {
        self.file = Some(Arc::clone(file));
        self
    }

    /// Sets the text next to the caret.
    #[must_use]
    pub fn with_label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Adds a second location.
    #[must_use]
    pub fn with_secondary_label(mut self, file: &Arc<SourceFile>, span: Range<usize>, text: impl Into<String>) -> Self {
        self.related.push(Label { file: Arc::clone(file), span, text: text.into() });
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn with_help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds the advice to write the candidate that is most similar to `unknown_name`, if one is similar enough. Also
    /// adds the fix if the user surely meant this candidate.
    #[must_use]
    pub fn with_suggestion<'a>(mut self, unknown_name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(similar) = most_similar_name(unknown_name, candidates) {
            self.help.push(format!("did you mean `{}`?", similar.name));
            self.fix = self
                .span
                .clone()
                .filter(|_| similar.is_certain())
                .and_then(|span| self.replacement_fix(&span, unknown_name, similar.name));
        }
        self
    }

    /// Sets the fix that replaces `old` by `new`, unless `new` is `None`.
    #[must_use]
    pub fn with_replacement(mut self, old: &str, new: Option<&str>) -> Self {
        if let (Some(span), Some(new)) = (self.span.clone(), new) {
            self.fix = self.replacement_fix(&span, old, new);
        }
        self
    }

    /// Makes the fix one that orch applies only after the user has confirmed it, because the user may intend the text as
    /// it is.
    #[must_use]
    pub fn with_unsafe_fix(mut self) -> Self {
        if let Some(fix) = &mut self.fix {
            fix.is_safe = false;
        }
        self
    }

    /// Returns the fix that replaces `old` by `new` inside `span`, if `old` occurs there exactly once.
    fn replacement_fix(&self, span: &Range<usize>, old: &str, new: &str) -> Option<Fix> {
        let text = self.file.as_ref()?.text.get(span.clone())?;
        let offset = text.find(old)?;
        (text.matches(old).count() == 1).then(|| {
            let start = span.start + offset;
            Fix { span: start..start + old.len(), replacement: new.to_owned(), is_safe: true }
        })
    }

    /// Returns whether the finding prevents the pipeline from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Returns the line and the column of the location; both begin at 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let (file, span) = (self.file.as_ref()?, self.span.as_ref()?);
        Some(file.line_column(span.start))
    }

    /// Compares findings for reports: by file, then by offset, then by code, then by message.
    pub fn report_order(&self, other: &Self) -> Ordering {
        let sort_key = |finding: &Self| {
            let offset = finding.span.as_ref().map_or(0, |span| span.start);
            (finding.file.as_ref().map(|file| file.path.clone()), offset, finding.code.as_str())
        };
        sort_key(self).cmp(&sort_key(other)).then_with(|| self.message.cmp(&other.message))
    }
}

/// Returns the safe fixes of one file with their findings, in order of position. Skips a fix that overlaps or touches
/// an earlier one, so that all returned fixes can be applied together.
pub fn non_overlapping_fixes<'a>(findings: impl IntoIterator<Item = &'a Diagnostic>) -> Vec<(&'a Diagnostic, &'a Fix)> {
    let mut fixes: Vec<(&Diagnostic, &Fix)> = Vec::new();
    for finding in findings {
        if let Some(fix) = finding.fix.as_ref().filter(|fix| fix.is_safe) {
            fixes.push((finding, fix));
        }
    }
    fixes.sort_by_key(|(_, fix)| (fix.span.start, fix.span.end));
    let mut previous_end = None;
    fixes.retain(|(_, fix)| {
        let is_separate = previous_end.is_none_or(|end| fix.span.start > end);
        if is_separate {
            previous_end = Some(fix.span.end);
        }
        is_separate
    });
    fixes
}

/// Sorts findings by file and offset, and removes duplicates.
pub fn sort_and_dedup(findings: &mut Vec<Diagnostic>) {
    findings.sort_by(Diagnostic::report_order);
    findings.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let file = SourceFile::new("a", "é: 1\nüü: 2");
        assert_eq!(file.line_column(0), (1, 1));
        assert_eq!(file.line_column(2), (1, 2));
        assert_eq!(file.line_column(1), (1, 1), "inside a character");
        assert_eq!(file.line_column(10), (2, 3));
        assert_eq!(file.line_column(999), (2, 6));
    }

    #[test]
    fn a_suggestion_contains_its_edit() {
        let file = SourceFile::new("a", "agent: codr");
        let finding = Diagnostic::error(Code::UnknownAgent, "unknown agent `codr`")
            .with_span(&file, 7..11)
            .with_suggestion("codr", ["coder"]);
        assert_eq!(finding.help, ["did you mean `coder`?"]);
        assert_eq!(finding.fix, Some(Fix { span: 7..11, replacement: "coder".into(), is_safe: true }));
        let finding = Diagnostic::error(Code::UnknownAgent, "x")
            .with_span(&file, 7..11)
            .with_suggestion("codr", ["coder", "code"]);
        assert_eq!((finding.help.len(), finding.fix), (1, None), "two similar names leave the choice to the user");
        let file = SourceFile::new("a", "reasoning: lot");
        let finding = Diagnostic::error(Code::WrongValue, "x").with_span(&file, 11..14).with_suggestion("lot", ["low"]);
        assert_eq!((finding.help.len(), finding.fix), (1, None), "a third of the letters is too much for a fix");
    }
}
