//! The errors of templates and expressions: engine errors rewritten in orch's words, each with its location.

use std::fmt;
use std::ops::Range;

use minijinja::ErrorKind;

use super::inspect::Inspection;
use crate::diagnostic::equivalents::Slip;

/// The kind of a template error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// It can't be parsed.
    Syntax,
    /// It uses a feature that prompts may not use.
    Refused,
    /// A filter, test or function is unknown.
    UnknownCallable,
    /// An included prompt does not exist.
    MissingInclude,
    /// An undefined value is printed, compared or accessed.
    Undefined,
    /// A value does not support the operation.
    WrongType,
    /// It does too much work, or its output is too large.
    TooMuch,
}

/// Why a template or expression can't be used, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The prompt's name; `None` for a text or expression in the pipeline file.
    pub file: Option<String>,
    /// The kind.
    pub kind: TemplateErrorKind,
    /// The byte range in the text as written.
    pub range: Range<usize>,
    /// The line, counted from 1.
    pub line: usize,
    /// One sentence in lower case, with literals in backticks. Never contains the value of a variable.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The text to replace and its replacement, if that alone fixes the error.
    pub replacement: Option<Box<(String, String)>>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} (prompts/{file}:{})", self.message, self.line),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for TemplateError {}

/// The source of a template by its name: the name to show, the text as written, and how the text that runs differs.
pub(super) type SourceLookup<'a> = Option<(Option<&'a str>, &'a str, &'a Inspection)>;

impl TemplateError {
    /// An error at a byte range of a text.
    pub(super) fn new(kind: TemplateErrorKind, text: &str, range: Range<usize>, message: String) -> Self {
        // The engine's offsets may be inside of a character.
        let start = text.floor_char_boundary(range.start);
        let range = start..text.ceil_char_boundary(range.end.min(text.len())).max(start);
        let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
        Self { file: None, kind, range, line, message, hint: None, replacement: None }
    }

    /// Adds advice.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// An error about syntax of another language. The slip's range counts from the byte `from` of the text.
    pub(super) fn slip(text: &str, from: usize, slip: Slip) -> Self {
        let range = from + slip.range.start..from + slip.range.end;
        let written = text.get(range.clone()).unwrap_or_default().to_owned();
        let message = format!("syntax error: unexpected `{written}`");
        let error = Self::new(TemplateErrorKind::Syntax, text, range, message).hint(&slip.help);
        match slip.replacement {
            Some(right) => error.replaced_by(&written, right),
            None => error,
        }
    }

    /// Adds the replacement that fixes the error.
    pub(super) fn replaced_by(mut self, written: &str, right: &str) -> Self {
        self.replacement = Some(Box::new((written.to_owned(), right.to_owned())));
        self
    }

    /// An undefined value in a byte range of a text.
    pub(super) fn undefined(text: &str, range: Range<usize>) -> Self {
        let what = text.get(range.clone()).unwrap_or_default().trim();
        let message = if is_path(what) { format!("`{what}` is undefined") } else { "a value is undefined".to_owned() };
        Self::new(TemplateErrorKind::Undefined, text, range, message)
    }

    /// An error about an expression whose result has the wrong type.
    pub(super) fn wrong_type(text: &str, message: String) -> Self {
        Self::new(TemplateErrorKind::WrongType, text, 0..text.len(), message)
    }

    /// Converts a syntax error of the parser.
    pub(super) fn syntax(error: &minijinja::Error, text: &str) -> Self {
        let detail = error.detail().unwrap_or("cannot be parsed");
        let end = text.trim_end().len();
        let range = match error.range() {
            // Something is missing at the end of the text, so the error points there.
            _ if detail.contains("end of input") => end..end,
            Some(range) => range,
            None => line_range(text, error.line().unwrap_or(1)),
        };
        Self::new(TemplateErrorKind::Syntax, text, range, format!("syntax error: {}", lower(detail)))
    }

    /// Converts an error of the engine, at its place in the text or in the include where it occurred.
    pub(super) fn explain<'a>(error: &minijinja::Error, lookup: impl Fn(&str) -> SourceLookup<'a>) -> Self {
        let error = innermost(error);
        let empty = Inspection::default();
        let (file, text, inspection) = error.name().and_then(&lookup).unwrap_or((None, "", &empty));
        let range = match error.range() {
            Some(range) => inspection.original(range),
            None => line_range(text, error.line().unwrap_or(1)),
        };
        let mut made = Self::from_engine(error, text, range);
        made.file = file.map(str::to_owned);
        made
    }

    fn from_engine(error: &minijinja::Error, text: &str, range: Range<usize>) -> Self {
        use TemplateErrorKind as Kind;
        let detail = lower(error.detail().unwrap_or_default());
        let new = |kind: Kind, message: String| Self::new(kind, text, range.clone(), message);
        let or = |fallback: &str| if detail.is_empty() { fallback.to_owned() } else { detail.clone() };
        match error.kind() {
            ErrorKind::UndefinedError => Self::undefined_by(&detail, text, range),
            ErrorKind::SyntaxError => new(Kind::Syntax, format!("syntax error: {}", or("cannot be parsed"))),
            ErrorKind::TemplateNotFound => new(Kind::MissingInclude, "the included prompt does not exist".to_owned()),
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod => new(Kind::UnknownCallable, or("unknown filter, test or function")),
            ErrorKind::OutOfFuel if !detail.is_empty() => {
                new(Kind::TooMuch, detail).hint("is there a loop that makes it larger each time?")
            }
            ErrorKind::OutOfFuel => {
                new(Kind::TooMuch, format!("the template does more than {} steps of work", super::FUEL))
                    .hint("is there a loop over more data than was meant?")
            }
            ErrorKind::WriteFailure => {
                let message = format!("the rendered text is larger than {} MiB", super::MAX_OUTPUT >> 20);
                new(Kind::TooMuch, message).hint("does it print a large value several times?")
            }
            kind => new(Kind::WrongType, or(&kind.to_string())),
        }
    }

    /// Names the undefined value: by the engine's message if that names it, else by the text in the range.
    fn undefined_by(detail: &str, text: &str, range: Range<usize>) -> Self {
        let mut made = Self::undefined(text, range);
        let named = detail.split('`').nth(1).or_else(|| detail.split('\'').nth(1)).filter(|name| is_path(name));
        if let Some(name) = named {
            made.message = format!("`{name}` is undefined");
        }
        made.hint("test it first: `{% if … is defined %}`, or give it a value: `… | default(…)`")
    }
}

/// The error at the start of a chain of failed includes.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut error = error;
    while let Some(inner) = std::error::Error::source(error).and_then(|inner| inner.downcast_ref()) {
        error = inner;
    }
    error
}

/// Whether a text is a path such as `plan.steps[0].title`, short enough to name.
fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 120
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '"' | '\'' | '-'))
}

fn line_range(text: &str, line: usize) -> Range<usize> {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let length = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default().len();
    start..start + length
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
