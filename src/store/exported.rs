//! Exported runs: the files that `orch runs export` writes and `orch runs import` reads.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::text::{NotText, text_of};
use crate::model::{Event, MAX_NESTING, MAX_VALUES, RunId, nesting, values};

/// The version of the file format.
const VERSION: u32 = 2;

/// A run outside of its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportedRun {
    /// The version of the file format.
    orch_run: u32,
    /// The version of orch that wrote the file.
    version: String,
    /// The run.
    pub run: RunId,
    /// Every event, in order.
    pub events: Vec<Event>,
}

/// The one member that every version of the format has.
#[derive(Deserialize)]
struct Form {
    orch_run: u32,
}

/// Why bytes are not an exported run.
#[derive(Debug, thiserror::Error)]
pub enum ExportedRunError {
    /// JSON that is nested deeper than any export.
    #[error("it is nested {depth} levels deep, and an export is nested {MAX_NESTING} levels deep at most")]
    TooDeep {
        /// How deep it is nested.
        depth: usize,
    },
    /// JSON that would take more memory than an import may use.
    #[error("it has more than {MAX_VALUES} values, and that is as many as an import may have")]
    TooMany,
    /// Bytes that are not text.
    #[error("it {0}")]
    NotText(NotText),
    /// Text that is not in this format.
    #[error("{0}")]
    WrongForm(serde_json::Error),
    /// The format of another version of orch.
    #[error("it has form {0}, and this orch reads {VERSION}")]
    OtherVersion(u32),
}

impl ExportedRun {
    /// A run with all of its events.
    pub fn new(run: RunId, events: Vec<Event>) -> Self {
        Self { orch_run: VERSION, version: env!("CARGO_PKG_VERSION").to_owned(), run, events }
    }

    /// Reads a file that [`to_text`](Self::to_text) made.
    ///
    /// # Errors
    /// The reason why the bytes are not an exported run.
    pub fn read(bytes: Vec<u8>) -> Result<Self, ExportedRunError> {
        let depth = nesting(&bytes);
        if depth > MAX_NESTING {
            return Err(ExportedRunError::TooDeep { depth });
        }
        if values(&bytes) > MAX_VALUES {
            return Err(ExportedRunError::TooMany);
        }
        let text = text_of(bytes).map_err(ExportedRunError::NotText)?;
        // Another version may not even have the same members, so check the version first.
        let Form { orch_run } = read_as(&text)?;
        if orch_run != VERSION {
            return Err(ExportedRunError::OtherVersion(orch_run));
        }
        let mut whole: Self = read_as(&text)?;
        // The journal stores whole microseconds. Cut finer times, so that the events equal what an import stores.
        for event in &mut whole.events {
            event.at = Timestamp::from_microsecond(event.at.as_microsecond()).unwrap_or(event.at);
        }
        Ok(whole)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// An event can't be written as JSON.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// Reads the text of an export, whose depth is checked before: values are as deep as when they were recorded.
fn read_as<T: DeserializeOwned>(text: &str) -> Result<T, ExportedRunError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    let read = T::deserialize(&mut reader).and_then(|whole| reader.end().map(|()| whole));
    read.map_err(ExportedRunError::WrongForm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named_whatever_the_rest_is() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for events in ["[]", r#"[{"of": "another form"}]"#, &deep] {
            let read = ExportedRun::read(format!(r#"{{"orch_run":1,"events":{events}}}"#).into_bytes());
            assert!(matches!(read, Err(ExportedRunError::OtherVersion(1))), "{events}: {read:?}");
        }
        assert!(matches!(ExportedRun::read(b"{}".to_vec()), Err(ExportedRunError::WrongForm(_))));
    }
}
