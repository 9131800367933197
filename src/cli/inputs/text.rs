//! Texts that the command line gives or names: as they stand, in a file, or on standard input.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{self, Document};
use crate::diagnostic::SourceFile;
use crate::model::text::{text_of, without_mark};
use crate::report::human::first_line;

use crate::session::SessionError;
use crate::session::inputs::InputPlace;

/// The largest text that is read as an input, and the largest file of inputs, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextSource {
    /// The command line itself.
    Literal,
    /// A file, by the path that the user wrote.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl TextSource {
    /// The file of a path, or standard input for `-`.
    pub(super) fn of(path: &str) -> Self {
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

/// A text with where it comes from.
pub(super) struct SourcedText {
    pub(super) text: String,
    pub(super) source: TextSource,
}

impl SourcedText {
    /// A text that the command line holds itself.
    ///
    /// # Errors
    /// It is too long.
    pub(super) fn literal(what: &str, text: &str) -> Result<Self, SessionError> {
        if text.len() as u64 > MAX_BYTES {
            return Err(too_long(what));
        }
        // A shell may have read it from a file: `"$(cat task.md)"`.
        Ok(Self { text: without_mark(text).to_owned(), source: TextSource::Literal })
    }

    /// Reads what a source holds; `what` names it in messages, and `hint` says what the option takes.
    ///
    /// # Errors
    /// It can't be read, is no text or is too long.
    pub(super) fn read(what: &str, source: TextSource, hint: &str) -> Result<Self, SessionError> {
        let mut bytes = Vec::new();
        match &source {
            TextSource::Literal => {}
            TextSource::File(path) => {
                let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
                read.map_err(|error| SessionError::unreadable(path, &error).hint(hint))?;
            }
            TextSource::Stdin => {
                let read = std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|error| {
                    SessionError::usage(format!("{what} can't be read from standard input: {error}"))
                })?;
            }
        }
        // What is cut off may end inside a character.
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_long(what));
        }
        let text = text_of(bytes).map_err(|why| match &source {
            TextSource::File(path) => SessionError::usage(format!("`{}` {why}", path.display())).hint(hint),
            TextSource::Literal | TextSource::Stdin => SessionError::usage(format!("{what} on standard input {why}")),
        })?;
        Ok(Self { text, source })
    }

    /// The JSON value that the text is, with the places of its parts when it was read from somewhere.
    ///
    /// # Errors
    /// Where it is no JSON, or what it has twice.
    pub(super) fn json(&self, what: &str, wanted: &str) -> Result<Json, SessionError> {
        if self.source == TextSource::Literal {
            let value = serde_json::from_str(&self.text).map_err(|error| {
                SessionError::usage(format!(
                    "{what} must be {wanted}, and `{}` is no JSON: {error}",
                    first_line(&self.text, 80)
                ))
            })?;
            return Ok(Json { value, places: None });
        }
        let document = config::json_document(SourceFile::new(self.source.to_string(), self.text.as_str()));
        let document = document.map_err(|found| {
            SessionError::with_findings(found).with_message(format!("{what} must be JSON of type {wanted}"))
        })?;
        let value = document.value.clone();
        Ok(Json { value, places: Some(ValuePlaces { document: Arc::new(document), pointer: String::new() }) })
    }
}

/// A JSON value with the places of its parts.
#[derive(Clone)]
pub(super) struct Json {
    pub(super) value: Value,
    pub(super) places: Option<ValuePlaces>,
}

/// Where a value is written: in a file, below a pointer.
#[derive(Clone)]
pub(super) struct ValuePlaces {
    pub(super) document: Arc<Document>,
    pub(super) pointer: String,
}

impl ValuePlaces {
    /// The file, line and column of a part of the value: `inputs.json:3:12`.
    pub(super) fn of(&self, part: &str) -> String {
        self.at(self.document.spans.value(&format!("{}{part}", self.pointer)).start)
    }

    fn at(&self, offset: usize) -> String {
        let Document { file, spans, .. } = &*self.document;
        // A large file goes without places.
        if !spans.has("") {
            return file.path.clone();
        }
        let (line, column) = file.line_column(offset);
        format!("{}:{line}:{column}", file.path)
    }
}

impl InputPlace for ValuePlaces {
    fn part(&self, pointer: &str) -> String {
        self.of(pointer)
    }

    fn name(&self) -> String {
        self.at(self.document.spans.key(&self.pointer).start)
    }
}

fn too_long(what: &str) -> SessionError {
    let error = SessionError::usage(format!("{what} is longer than {} MiB", MAX_BYTES >> 20));
    error.hint("put what is long into files of the workspace, and name them in the input")
}
