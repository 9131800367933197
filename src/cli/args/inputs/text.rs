//! Reads the texts of inputs from the command line, a file or standard input.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{self, Document};
use crate::diagnostic::SourceFile;
use crate::model::text::{decode_text, strip_bom};
use crate::model::visible::one_line;

use crate::runner::RunnerError;
use crate::runner::inputs::InputLocation;

/// The maximum size in bytes of an input, and of the file of `--input-file`.
const MAX_INPUT_BYTES: u64 = 4 * 1024 * 1024;

/// The source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextSource {
    /// The command line itself.
    Literal,
    /// The file with this path, as written on the command line.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl TextSource {
    /// Creates the source for a path. `-` means standard input.
    pub(super) fn from_path(path: &str) -> Self {
        if path == "-" { Self::Stdin } else { Self::File(path.into()) }
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal => f.write_str("the command line"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// A text with its source.
pub(super) struct SourcedText {
    pub(super) text: String,
    pub(super) source: TextSource,
}

impl SourcedText {
    /// Creates a text from the command line.
    ///
    /// # Errors
    /// The text is too long.
    pub(super) fn literal(label: &str, text: &str) -> Result<Self, RunnerError> {
        if text.len() as u64 > MAX_INPUT_BYTES {
            return Err(too_long_error(label));
        }
        // Remove a byte order mark, because a shell can insert the content of a file: `"$(cat task.md)"`.
        Ok(Self { text: strip_bom(text).to_owned(), source: TextSource::Literal })
    }

    /// Reads a source. `label` names the text in messages, and `hint` describes what the option accepts.
    ///
    /// # Errors
    /// orch can't read the source, or the content is not text or is too long.
    pub(super) fn read(label: &str, source: TextSource, hint: &str) -> Result<Self, RunnerError> {
        let mut bytes = Vec::new();
        match &source {
            TextSource::Literal => {}
            TextSource::File(path) => {
                let result = File::open(path).and_then(|file| file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes));
                result.map_err(|error| RunnerError::unreadable(path, &error).with_hint(hint))?;
            }
            TextSource::Stdin => {
                let result = std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes);
                result.map_err(|error| {
                    RunnerError::usage(format!("{label} can't be read from standard input: {error}"))
                })?;
            }
        }
        // Check the length before decoding, because the limit may split a character.
        if bytes.len() as u64 > MAX_INPUT_BYTES {
            return Err(too_long_error(label));
        }
        let text = decode_text(bytes).map_err(|reason| match &source {
            TextSource::File(path) => RunnerError::usage(format!("`{}` {reason}", path.display())).with_hint(hint),
            TextSource::Literal | TextSource::Stdin => {
                RunnerError::usage(format!("{label} on standard input {reason}"))
            }
        })?;
        Ok(Self { text, source })
    }

    /// Parses the text as JSON. If the text comes from a file or standard input, the result contains its location.
    ///
    /// # Errors
    /// The text is invalid JSON, or an object has a duplicate key.
    pub(super) fn parse_json(&self, label: &str, expected_type: &str) -> Result<LocatedJson, RunnerError> {
        if self.source == TextSource::Literal {
            let value = serde_json::from_str(&self.text).map_err(|error| {
                RunnerError::usage(format!(
                    "{label} must be {expected_type}, but `{}` is not valid JSON: {error}",
                    one_line(&self.text, 80)
                ))
            })?;
            return Ok(LocatedJson { value, location: None });
        }
        let document = config::json_document(SourceFile::new(self.source.to_string(), self.text.as_str()));
        let document = document.map_err(|findings| {
            RunnerError::with_findings(findings).with_message(format!("{label} must be JSON of type {expected_type}"))
        })?;
        let value = document.value.clone();
        Ok(LocatedJson {
            value,
            location: Some(ValueLocation { document: Arc::new(document), pointer: String::new() }),
        })
    }
}

/// A JSON value, and its location if it comes from a file or standard input.
#[derive(Clone)]
pub(super) struct LocatedJson {
    pub(super) value: Value,
    pub(super) location: Option<ValueLocation>,
}

/// The location of a value: the file, and a JSON pointer within the file.
#[derive(Clone)]
pub(super) struct ValueLocation {
    pub(super) document: Arc<Document>,
    pub(super) pointer: String,
}

impl ValueLocation {
    /// The file, line and column of the part of the value at a JSON pointer: `inputs.json:3:12`.
    pub(super) fn position_of(&self, pointer: &str) -> String {
        self.format_position(self.document.spans.value(&format!("{}{pointer}", self.pointer)).start)
    }

    fn format_position(&self, offset: usize) -> String {
        let Document { file, spans, .. } = &*self.document;
        // orch records no positions for large files.
        if !spans.contains("") {
            return file.path.clone();
        }
        let (line, column) = file.line_column(offset);
        format!("{}:{line}:{column}", file.path)
    }
}

impl InputLocation for ValueLocation {
    fn value_position(&self, pointer: &str) -> String {
        self.position_of(pointer)
    }

    fn key_position(&self) -> String {
        self.format_position(self.document.spans.key(&self.pointer).start)
    }
}

fn too_long_error(label: &str) -> RunnerError {
    let error = RunnerError::usage(format!("{label} is longer than {} MiB", MAX_INPUT_BYTES >> 20));
    error.with_hint("write long texts to files of the workspace, and name the files in the input")
}
