//! Findings about a user's files, and all ways to render them.
//!
//! Contains [`Diagnostic`], the table of codes, and the renderings: with source and caret for people, on one line, and
//! in the formats of other programs. Codes are stable, and no span can make a rendering panic. This module does not
//! know where files come from or who prints the result.

mod code;
pub mod equivalents;
mod explain;
mod github;
mod json;
mod junit;
mod render;
mod sarif;
mod suggest;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

pub use code::Code;
pub use explain::{ExampleFile, Explanation, example_base, explain, explain_all, explanation};
pub use github::github;
pub use json::{json_report, to_json};
pub use junit::junit;
pub use render::{RenderStyle, render, render_all, summary, to_line};
pub use sarif::sarif;
pub use suggest::did_you_mean;

/// A file that was read: its path in messages, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The path as shown to people, with `/` on every system.
    pub path: String,
    /// The text; empty when the file could not be read.
    pub text: String,
}

impl SourceFile {
    /// Creates a file from the path to show and its text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let end = floor_boundary(&self.text, offset);
        let before = self.text.get(..end).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }
}

/// The largest character boundary of `text` that is not after `offset`.
fn floor_boundary(text: &str, offset: usize) -> usize {
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
    /// The word that orch prints, also in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A second place that explains the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The file of the place.
    pub file: Arc<SourceFile>,
    /// The bytes of the place.
    pub span: Range<usize>,
    /// A few words about the place, such as "first written here".
    pub text: String,
}

/// An edit that fixes the mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The bytes to replace, in the file of the finding.
    pub span: Range<usize>,
    /// The text to insert there.
    pub replacement: String,
}

/// A finding: one mistake in a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// How serious it is.
    pub severity: Severity,
    /// One sentence, lower case, literals in backticks, without a full stop.
    pub message: String,
    /// The file with the mistake, if there is one.
    pub file: Option<Arc<SourceFile>>,
    /// The bytes of the mistake; `None` if it concerns the whole file.
    pub span: Option<Range<usize>>,
    /// A few words to show beside the caret.
    pub label: Option<String>,
    /// Other places that explain the mistake.
    pub labels: Vec<Label>,
    /// What the user can do about it; each item is one sentence.
    pub help: Vec<String>,
    /// An edit that fixes it.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    /// Creates an error without a place.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    /// Creates a warning without a place.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: Code, severity: Severity, message: String) -> Self {
        let (file, span, label, labels, help, fix) = (None, None, None, Vec::new(), Vec::new(), None);
        Self { code, severity, message, file, span, label, labels, help, fix }
    }

    /// Sets the place in a file.
    #[must_use]
    pub fn at(mut self, file: &Arc<SourceFile>, span: Range<usize>) -> Self {
        self.file = Some(Arc::clone(file));
        self.span = Some(span);
        self
    }

    /// Sets the file, for a finding about the whole file.
    #[must_use]
    pub fn in_file(mut self, file: &Arc<SourceFile>) -> Self {
        self.file = Some(Arc::clone(file));
        self
    }

    /// Sets the words beside the caret.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, file: &Arc<SourceFile>, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push(Label { file: Arc::clone(file), span, text: text.into() });
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds the advice to write the known name that is most similar to `got`, if one is similar enough. Adds the fix
    /// too if no other name is similar.
    #[must_use]
    pub fn suggest<'a>(mut self, got: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some((name, only)) = suggest::near(got, known) {
            self.help.push(format!("did you mean `{name}`?"));
            self.fix = self.span.clone().filter(|_| only).and_then(|span| self.fix_within(&span, got, name));
        }
        self
    }

    /// Sets the fix that replaces `got` by `name`, if there is such a name.
    #[must_use]
    pub fn replaced(mut self, got: &str, name: Option<&str>) -> Self {
        if let (Some(span), Some(name)) = (self.span.clone(), name) {
            self.fix = self.fix_within(&span, got, name);
        }
        self
    }

    /// Replaces `got` inside `span` if the text contains it there exactly once.
    fn fix_within(&self, span: &Range<usize>, got: &str, name: &str) -> Option<Fix> {
        let text = self.file.as_ref()?.text.get(span.clone())?;
        let at = text.find(got)?;
        (text.matches(got).count() == 1).then(|| {
            let start = span.start + at;
            Fix { span: start..start + got.len(), replacement: name.to_owned() }
        })
    }

    /// Whether the finding prevents the pipeline from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Line and column of the place, both from 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let (file, span) = (self.file.as_ref()?, self.span.as_ref()?);
        Some(file.line_column(span.start))
    }

    /// The order in reports: by file, then by place, then by code, then by message.
    pub fn order(&self, other: &Self) -> Ordering {
        let key = |d: &Self| {
            let place = d.span.as_ref().map_or(0, |span| span.start);
            (d.file.as_ref().map(|file| file.path.clone()), place, d.code.as_str())
        };
        key(self).cmp(&key(other)).then_with(|| self.message.cmp(&other.message))
    }
}

/// Whether orch may apply a finding's fix without asking. Not for a missing schema: the name may be right as the name
/// of the artifact, and orch must not rename the user's artifact.
pub fn is_certain(finding: &Diagnostic) -> bool {
    finding.code != Code::SchemaNotFound
}

/// The certain fixes of one file with their findings, in order. Fixes that overlap or touch an earlier one are left
/// out, so that all the returned ones can be applied.
pub fn apart<'a>(found: impl IntoIterator<Item = &'a Diagnostic>) -> Vec<(&'a Diagnostic, &'a Fix)> {
    let mut edits: Vec<(&Diagnostic, &Fix)> = Vec::new();
    for d in found {
        if let Some(fix) = d.fix.as_ref().filter(|_| is_certain(d)) {
            edits.push((d, fix));
        }
    }
    edits.sort_by_key(|(_, fix)| (fix.span.start, fix.span.end));
    let mut end = None;
    edits.retain(|(_, fix)| {
        let apart = end.is_none_or(|end| fix.span.start > end);
        if apart {
            end = Some(fix.span.end);
        }
        apart
    });
    edits
}

/// Sorts by file and place, and removes duplicates.
pub fn sort(list: &mut Vec<Diagnostic>) {
    list.sort_by(Diagnostic::order);
    list.dedup();
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
    fn a_suggestion_carries_its_edit() {
        let file = SourceFile::new("a", "agent: codr");
        let d =
            Diagnostic::error(Code::UnknownAgent, "unknown agent `codr`").at(&file, 7..11).suggest("codr", ["coder"]);
        assert_eq!(d.help, ["did you mean `coder`?"]);
        assert_eq!(d.fix, Some(Fix { span: 7..11, replacement: "coder".into() }));
        let d = Diagnostic::error(Code::UnknownAgent, "x").at(&file, 7..11).suggest("codr", ["coder", "code"]);
        assert_eq!((d.help.len(), d.fix), (1, None), "what may mean two names is for a person to mend");
    }
}
