//! Exported runs: the files that `orch runs export` writes and `orch runs import` reads.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::text::{DecodeTextError, decode_text};
use crate::model::{Event, MAX_NESTING, MAX_VALUES, RunId, count_values, nesting_depth};

/// The version of the file format.
pub const VERSION: u32 = 7;

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

/// The only member that every version of the format has.
#[derive(Deserialize)]
struct FormatVersion {
    orch_run: u32,
}

/// The reason why bytes are not an exported run.
#[derive(Debug, thiserror::Error)]
pub enum ExportedRunError {
    /// JSON that is nested deeper than any export.
    #[error("it is nested {depth} levels deep, and an export is nested {MAX_NESTING} levels deep at most")]
    TooDeep {
        /// The nesting depth.
        depth: usize,
    },
    /// JSON that needs more memory than an import may use.
    #[error("it has more than {MAX_VALUES} values, which is the limit of an import")]
    TooManyValues,
    /// Bytes that are not text.
    #[error("it {0}")]
    NotText(DecodeTextError),
    /// Text that is not in this format.
    #[error("{0}")]
    WrongFormat(serde_json::Error),
    /// The format of another version of orch.
    #[error("it has format {0}, and this version of orch reads {VERSION}")]
    OtherVersion(u32),
}

impl ExportedRun {
    /// A run with all of its events.
    pub fn new(run: RunId, events: Vec<Event>) -> Self {
        Self { orch_run: VERSION, version: env!("CARGO_PKG_VERSION").to_owned(), run, events }
    }

    /// Parses a file that [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// The reason why the bytes are not an exported run.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ExportedRunError> {
        let depth = nesting_depth(&bytes);
        if depth > MAX_NESTING {
            return Err(ExportedRunError::TooDeep { depth });
        }
        if count_values(&bytes) > MAX_VALUES {
            return Err(ExportedRunError::TooManyValues);
        }
        let text = decode_text(bytes).map_err(ExportedRunError::NotText)?;
        // Check the version first, since the members may differ in another version.
        let FormatVersion { orch_run } = parse_as(&text)?;
        if orch_run != VERSION {
            return Err(ExportedRunError::OtherVersion(orch_run));
        }
        let mut exported: Self = parse_as(&text)?;
        // Truncate times to microseconds, the precision of the journal, so that the events equal those that an import
        // stores.
        for event in &mut exported.events {
            event.at = Timestamp::from_microsecond(event.at.as_microsecond()).unwrap_or(event.at);
        }
        Ok(exported)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// An event can't be written as JSON.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// Parses the text of an export without a recursion limit; the caller checks the nesting depth first.
fn parse_as<T: DeserializeOwned>(text: &str) -> Result<T, ExportedRunError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    let result = T::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    result.map_err(ExportedRunError::WrongFormat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_reported_whatever_the_rest_contains() {
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for events in ["[]", r#"[{"of": "another form"}]"#, &deep] {
            let result = ExportedRun::parse(format!(r#"{{"orch_run":1,"events":{events}}}"#).into_bytes());
            assert!(matches!(result, Err(ExportedRunError::OtherVersion(1))), "{events}: {result:?}");
        }
        assert!(matches!(ExportedRun::parse(b"{}".to_vec()), Err(ExportedRunError::WrongFormat(_))));
    }
}
