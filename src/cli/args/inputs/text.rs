//! Texts of inputs: on the command line, in a file, or on standard input.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{self, Document};
use crate::diagnostic::SourceFile;
use crate::model::text::{decode_text, strip_bom};
use crate::report::human::first_line;

use crate::session::SessionError;
use crate::session::inputs::InputLocation;

/// The maximum size of an input, and of a file of inputs, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The source of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextSource {
    /// The command line itself.
    Literal,
    /// A file, with the path from the command line.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl TextSource {
    /// The file of a path, or standard input for `-`.
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
    pub(super) fn literal(label: &str, text: &str) -> Result<Self, SessionError> {
        if text.len() as u64 > MAX_BYTES {
            return Err(too_long(label));
        }
        // It may start with a byte order mark, since a shell can insert a file: `"$(cat task.md)"`.
        Ok(Self { text: strip_bom(text).to_owned(), source: TextSource::Literal })
    }

    /// Reads a source. `label` names the text in messages, and `hint` describes what the option accepts.
    ///
    /// # Errors
    /// orch can't read the source, or it is not text, or it is too long.
    pub(super) fn read(label: &str, source: TextSource, hint: &str) -> Result<Self, SessionError> {
        let mut bytes = Vec::new();
        match &source {
            TextSource::Literal => {}
            TextSource::File(path) => {
                let result = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
                result.map_err(|error| SessionError::unreadable(path, &error).with_hint(hint))?;
            }
            TextSource::Stdin => {
                let result = std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes);
                result.map_err(|error| {
                    SessionError::usage(format!("{label} can't be read from standard input: {error}"))
                })?;
            }
        }
        // Check the length first, because the limit may cut a character in two.
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_long(label));
        }
        let text = decode_text(bytes).map_err(|reason| match &source {
            TextSource::File(path) => SessionError::usage(format!("`{}` {reason}", path.display())).with_hint(hint),
            TextSource::Literal | TextSource::Stdin => {
                SessionError::usage(format!("{label} on standard input {reason}"))
            }
        })?;
        Ok(Self { text, source })
    }

    /// Parses the text as JSON. If it comes from a file or standard input, the result has the locations of its parts.
    ///
    /// # Errors
    /// The text is invalid JSON, or an object has a duplicate key.
    pub(super) fn parse_json(&self, label: &str, expected_type: &str) -> Result<LocatedJson, SessionError> {
        if self.source == TextSource::Literal {
            let value = serde_json::from_str(&self.text).map_err(|error| {
                SessionError::usage(format!(
                    "{label} must be {expected_type}, but `{}` is not valid JSON: {error}",
                    first_line(&self.text, 80)
                ))
            })?;
            return Ok(LocatedJson { value, location: None });
        }
        let document = config::json_document(SourceFile::new(self.source.to_string(), self.text.as_str()));
        let document = document.map_err(|findings| {
            SessionError::with_findings(findings).with_message(format!("{label} must be JSON of type {expected_type}"))
        })?;
        let value = document.value.clone();
        Ok(LocatedJson {
            value,
            location: Some(ValueLocation { document: Arc::new(document), pointer: String::new() }),
        })
    }
}

/// A JSON value with the locations of its parts.
#[derive(Clone)]
pub(super) struct LocatedJson {
    pub(super) value: Value,
    pub(super) location: Option<ValueLocation>,
}

/// The location of a value: a file, and a JSON pointer in it.
#[derive(Clone)]
pub(super) struct ValueLocation {
    pub(super) document: Arc<Document>,
    pub(super) pointer: String,
}

impl ValueLocation {
    /// The file, line and column of a part of the value: `inputs.json:3:12`.
    pub(super) fn of_part(&self, part: &str) -> String {
        self.position(self.document.spans.value(&format!("{}{part}", self.pointer)).start)
    }

    fn position(&self, offset: usize) -> String {
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
        self.of_part(pointer)
    }

    fn key_position(&self) -> String {
        self.position(self.document.spans.key(&self.pointer).start)
    }
}

fn too_long(label: &str) -> SessionError {
    let error = SessionError::usage(format!("{label} is longer than {} MiB", MAX_BYTES >> 20));
    error.with_hint("write long texts to files of the workspace, and name the files in the input")
}
