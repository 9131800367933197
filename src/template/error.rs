//! The errors of templates and expressions: MiniJinja's errors with orch's own messages, each with its location.

use std::fmt;
use std::ops::Range;

use minijinja::ErrorKind;

use super::inspect::Inspection;
use crate::diagnostic::equivalents::SyntaxMistake;

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
    /// It prints, compares or accesses an undefined value.
    Undefined,
    /// A value does not support the operation.
    WrongType,
    /// It does too much work, or its output is too large.
    LimitExceeded,
    /// It prints a value in a command line where the shell would not take it as one word.
    NotShellWord,
}

/// The kinds of texts in which a value may be undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    /// A template.
    Template,
    /// An expression with a result of any type.
    Expression,
    /// An expression whose result is `true` or `false`.
    Condition,
}

/// The error for a template or expression that can't be used, with its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The prompt's name; `None` for a text or expression in the pipeline file.
    pub file: Option<String>,
    /// The kind of the error.
    pub kind: TemplateErrorKind,
    /// The byte range in the original text.
    pub range: Range<usize>,
    /// The line, counted from 1.
    pub line: usize,
    /// One sentence in lower case, with literals in backticks. Never contains the value of a variable.
    pub message: String,
    /// Advice on how to fix the error.
    pub help: Option<String>,
    /// The text to replace and its replacement, if this replacement alone fixes the error.
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

/// The source of a template, found by its name: the displayed name, the original text, and the inspection. `None` if
/// there is no template of this name.
pub(super) type SourceLookup<'a> = Option<(Option<&'a str>, &'a str, &'a Inspection)>;

impl TemplateError {
    /// An error at a byte range of a text.
    pub(super) fn new(kind: TemplateErrorKind, text: &str, range: Range<usize>, message: String) -> Self {
        // MiniJinja's offsets may be inside a character.
        let start = text.floor_char_boundary(range.start);
        let range = start..text.ceil_char_boundary(range.end.min(text.len())).max(start);
        let line = text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
        Self { file: None, kind, range, line, message, help: None, replacement: None }
    }

    /// Sets the help.
    pub(super) fn with_help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }

    /// An error about syntax of another language. The range of the mistake is relative to the byte `offset` of the
    /// text.
    pub(super) fn from_syntax_mistake(text: &str, offset: usize, mistake: SyntaxMistake) -> Self {
        let range = offset + mistake.range.start..offset + mistake.range.end;
        let original = text.get(range.clone()).unwrap_or_default().to_owned();
        let message = format!("syntax error: unexpected `{original}`");
        let error = Self::new(TemplateErrorKind::Syntax, text, range, message).with_help(&mistake.help);
        match mistake.replacement {
            Some(replacement) => error.with_replacement(&original, replacement),
            None => error,
        }
    }

    /// Adds the replacement that fixes the error.
    pub(super) fn with_replacement(mut self, original: &str, replacement: &str) -> Self {
        self.replacement = Some(Box::new((original.to_owned(), replacement.to_owned())));
        self
    }

    /// An undefined value in a byte range of a text, without help.
    pub(super) fn undefined(text: &str, range: Range<usize>) -> Self {
        let name = text.get(range.clone()).unwrap_or_default().trim();
        // MiniJinja's range for the result of a filter covers only the name of the filter.
        let is_filter = text.get(..range.start).is_some_and(|preceding| preceding.trim_end().ends_with('|'));
        let is_named = is_path(name) && !name.starts_with(['.', '[']) && !is_filter;
        let message = if is_named { format!("`{name}` is undefined") } else { "a value is undefined".to_owned() };
        Self::new(TemplateErrorKind::Undefined, text, range, message)
    }

    /// The path of the undefined value that caused the error, such as `plan.steps[0].title`, if the message names it.
    pub fn undefined_value(&self) -> Option<&str> {
        let (text, _) = self.message.split_once("` is undefined")?;
        text.rsplit_once('`').map(|(_, path)| path).filter(|path| is_path(path))
    }

    /// Sets the help for an error about an undefined value: how this kind of text tests the value. An access to a
    /// member of an undefined value fails, too, so the help names the value that is undefined.
    pub(super) fn with_undefined_help(self, kind: TextKind) -> Self {
        if self.kind != TemplateErrorKind::Undefined {
            return self;
        }
        let path = self.undefined_value().unwrap_or("…");
        let test = match kind {
            TextKind::Template => format!("{{% if {path} is defined %}}…{{% endif %}}"),
            TextKind::Expression => format!("… if {path} is defined else …"),
            TextKind::Condition => format!("{path} is defined and …"),
        };
        self.with_help(&format!("test it first: `{test}`"))
    }

    /// An error about an expression whose result has the wrong type.
    pub(super) fn wrong_type(text: &str, message: String) -> Self {
        Self::new(TemplateErrorKind::WrongType, text, 0..text.len(), message)
    }

    /// Converts a syntax error of the parser.
    pub(super) fn from_syntax_error(error: &minijinja::Error, text: &str) -> Self {
        let detail = error.detail().unwrap_or("cannot be parsed");
        let end = text.trim_end().len();
        let range = match error.range() {
            // The text ends too early, so the error points to its end.
            _ if detail.contains("end of input") => end..end,
            Some(range) => range,
            None => line_range(text, error.line().unwrap_or(1)),
        };
        Self::new(TemplateErrorKind::Syntax, text, range, format!("syntax error: {}", lowercase_first(detail)))
    }

    /// Converts an error of MiniJinja, at its location in the text or in the include where it occurred.
    pub(super) fn from_minijinja<'a>(error: &minijinja::Error, lookup: impl Fn(&str) -> SourceLookup<'a>) -> Self {
        let error = innermost_error(error);
        let empty = Inspection::default();
        let (file, text, inspection) = error.name().and_then(&lookup).unwrap_or((None, "", &empty));
        let range = match error.range() {
            Some(range) => inspection.original_range(range),
            None => line_range(text, error.line().unwrap_or(1)),
        };
        let mut template_error = Self::convert_minijinja_error(error, text, range);
        template_error.file = file.map(str::to_owned);
        template_error
    }

    fn convert_minijinja_error(error: &minijinja::Error, text: &str, range: Range<usize>) -> Self {
        let detail = lowercase_first(error.detail().unwrap_or_default());
        let new_error = |kind: TemplateErrorKind, message: String| Self::new(kind, text, range.clone(), message);
        let detail_or = |fallback: &str| if detail.is_empty() { fallback.to_owned() } else { detail.clone() };
        match error.kind() {
            ErrorKind::UndefinedError => Self::undefined_from_detail(&detail, text, range),
            ErrorKind::SyntaxError => {
                new_error(TemplateErrorKind::Syntax, format!("syntax error: {}", detail_or("cannot be parsed")))
            }
            ErrorKind::TemplateNotFound => {
                new_error(TemplateErrorKind::MissingInclude, "the included prompt does not exist".to_owned())
            }
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod => {
                new_error(TemplateErrorKind::UnknownCallable, detail_or("unknown filter, test or function"))
            }
            ErrorKind::OutOfFuel if !detail.is_empty() => new_error(TemplateErrorKind::LimitExceeded, detail)
                .with_help("is there a loop that makes it larger each time?"),
            ErrorKind::OutOfFuel => new_error(
                TemplateErrorKind::LimitExceeded,
                format!("the template does more than {} steps of work", super::MAX_FUEL),
            )
            .with_help("is there a loop over more data than you intended?"),
            ErrorKind::WriteFailure => {
                let message = format!("the rendered text is larger than {} MiB", super::MAX_OUTPUT_BYTES >> 20);
                new_error(TemplateErrorKind::LimitExceeded, message)
                    .with_help("does it print a large value several times?")
            }
            kind => new_error(TemplateErrorKind::WrongType, detail_or(&kind.to_string())),
        }
    }

    /// Names the undefined value: from MiniJinja's message if it contains the name, else from the text in the range.
    fn undefined_from_detail(detail: &str, text: &str, range: Range<usize>) -> Self {
        let mut template_error = Self::undefined(text, range);
        let reported_name = detail.split('`').nth(1).or_else(|| detail.split('\'').nth(1)).filter(|name| is_path(name));
        if let Some(name) = reported_name {
            template_error.message = format!("`{name}` is undefined");
        }
        template_error.with_undefined_help(TextKind::Template)
    }
}

/// The first error of a chain: if an include fails, the error of the prompt that it includes.
fn innermost_error(error: &minijinja::Error) -> &minijinja::Error {
    let mut error = error;
    while let Some(inner) = std::error::Error::source(error).and_then(|inner| inner.downcast_ref()) {
        error = inner;
    }
    error
}

/// Whether a text is a path such as `plan.steps[0].title`, and short enough for a message.
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

fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
