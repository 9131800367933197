//! What is wrong with a user's files: one value, many renderings.
//!
//! A [`Diagnostic`] says what, where, and what to do. Its code is stable. Rendering is in
//! [`render`]; nothing here prints.

mod code;
mod render;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use crate::model::name::nearest;
pub use code::Code;
pub use render::{human, one_line};

/// A file that was read, for carets.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as people should see it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source to share.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        (line, before.get(start..).unwrap_or_default().chars().count() + 1)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline does not run.
    Error,
    /// The pipeline runs, and probably not as meant.
    Warning,
}

impl Severity {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, literals in backticks, no full stop.
    pub message: String,
    /// The file.
    pub source: Arc<Source>,
    /// The bytes that are meant; `None` for the file as a whole.
    pub span: Option<Range<usize>>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding of a code, whose severity is the code's.
    pub fn new(code: Code, message: impl Into<String>, source: &Arc<Source>, span: Option<Range<usize>>) -> Self {
        Self { code, severity: code.severity(), message: message.into(), source: source.clone(), span, help: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with what to do, if anything.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Line and column, both from 1, when a place is known.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.span.as_ref().map(|span| self.source.line_column(span.start))
    }
}

/// `did you mean `x`?`, when a candidate is spelt alike.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}
