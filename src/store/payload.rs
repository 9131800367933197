//! The form in which the table of events stores a fact.

use rusqlite::Row;
use serde::Deserialize as _;

use crate::model::event::{Event, Fact, StepCompleted};
use crate::model::{Artifact, Digest, MAX_NESTING, StepKey, nesting_depth};

use super::StoreError;
use super::blob::{Blobs, MIN_BLOB_BYTES};
use super::value_reference::{RecordedText, ValueReference};

/// A fact as JSON, with the digest of its blob if it is too large for a row.
pub(super) struct Payload {
    pub(super) body: String,
    pub(super) blob: Option<Digest>,
    /// A [`ValueReference`] as JSON, if the body has `null` in place of the value of the artifact.
    pub(super) value: Option<String>,
}

impl Payload {
    /// Creates the payload of an event. If it needs a blob, the blob is durable when this returns. `find_text` returns
    /// what the last call of a step returned, in the form in which the journal contains it.
    pub(super) fn from_event<'t>(
        event: &Event,
        blobs: &Blobs,
        find_text: impl FnOnce(&StepKey) -> Result<Option<RecordedText<'t>>, StoreError>,
    ) -> Result<Self, StoreError> {
        let error = |source| StoreError::Serialize { record: "an event", source };
        let (body, value) = match &event.fact {
            Fact::StepCompleted(fact) => match find_value(fact, find_text)? {
                Some(reference) => (
                    serde_json::to_string(&without_value(fact)).map_err(error)?,
                    Some(serde_json::to_string(&reference).map_err(error)?),
                ),
                None => (serde_json::to_string(&event.fact).map_err(error)?, None),
            },
            fact => (serde_json::to_string(fact).map_err(error)?, None),
        };
        let blob = if body.len() < MIN_BLOB_BYTES { None } else { Some(blobs.put(body.as_bytes())?) };
        Ok(Self { body, blob, value })
    }

    /// Writes the blob again if a garbage collection has removed it, since no event used it yet. The caller holds the
    /// write lock, so that no garbage collection runs at the same time.
    pub(super) fn restore_blob(&self, blobs: &Blobs) -> Result<(), StoreError> {
        match &self.blob {
            Some(digest) if !blobs.file(digest.as_str()).exists() => blobs.put(self.body.as_bytes()).map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// Finds the value of a step's artifact in what the last call of the step returned.
fn find_value<'t>(
    fact: &StepCompleted,
    find_text: impl FnOnce(&StepKey) -> Result<Option<RecordedText<'t>>, StoreError>,
) -> Result<Option<ValueReference>, StoreError> {
    let Some(artifact) = &fact.artifact else { return Ok(None) };
    let Some(json) = ValueReference::json_if_large(&artifact.value) else { return Ok(None) };
    let text = find_text(&fact.step)?;
    Ok(text.and_then(|text| ValueReference::find(&artifact.value, &json, &text)))
}

/// The completion of a step with `null` in place of the value of its artifact.
fn without_value(fact: &StepCompleted) -> Fact {
    let without_value = |artifact: &Artifact| Artifact {
        name: artifact.name.clone(),
        path: artifact.path.clone(),
        digest: artifact.digest.clone(),
        value: serde_json::Value::Null,
    };
    Fact::StepCompleted(StepCompleted {
        step: fact.step.clone(),
        attempt: fact.attempt,
        fingerprint: fact.fingerprint.clone(),
        reused_from: fact.reused_from,
        artifact: fact.artifact.as_ref().map(without_value),
    })
}

/// The columns of an event with its fact.
pub(super) struct StoredFact {
    body: Option<String>,
    blob: Option<String>,
}

impl StoredFact {
    /// Reads the columns `body` and `blob`, the first of which has this position.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self { body: row.get(first)?, blob: row.get(first + 1)? })
    }

    /// The fact as JSON; `None` if the event has no content.
    pub(super) fn into_json(self, blobs: &Blobs) -> Result<Option<Vec<u8>>, StoreError> {
        match (self.body, self.blob) {
            (Some(body), _) => Ok(Some(body.into_bytes())),
            (None, Some(blob)) => blobs.get(&blob).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// Parses a fact. Allows deeper nesting than the parser does by default. The nesting still has a limit, since a journal
/// may come from another machine.
pub(super) fn parse_fact(json: &[u8]) -> serde_json::Result<Fact> {
    if nesting_depth(json) > MAX_NESTING {
        return Err(serde::de::Error::custom(format!("it is nested more than {MAX_NESTING} levels deep")));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    Fact::deserialize(&mut reader)
}
