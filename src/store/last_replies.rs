//! Finds the recorded text that contains the value of an artifact: what the last call of the step returned.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::event::{Event, Fact};
use crate::model::{MAX_VALUES, RunId, StepKey, count_values};

use super::StoreError;
use super::blob::Blobs;
use super::event_ids::EventIds;
use super::payload::{StoredFact, parse_fact};
use super::value_reference::{RecordedText, recorded_text};

/// For each step of a run, the `seq` of the event with the text that its last call returned. The calls of tools in a
/// conversation do not count, since the value of an artifact comes from a reply.
#[derive(Debug, Default)]
pub(super) struct LastReplies(HashMap<StepKey, u64>);

impl LastReplies {
    pub(super) fn from_events(events: &[Event]) -> Self {
        let mut last_replies = Self::default();
        for event in events {
            last_replies.note(event);
        }
        last_replies
    }

    /// Takes an event into account.
    pub(super) fn note(&mut self, event: &Event) {
        if let Fact::CallEnded(call) = &event.fact
            && call.call.tool_call.is_none()
            && recorded_text(&event.fact).is_some()
        {
            self.0.insert(call.call.step.clone(), event.seq);
        }
    }

    pub(super) fn of_step(&self, step: &StepKey) -> Option<u64> {
        self.0.get(step).copied()
    }

    /// The text that the last call of a step returned; `events` are in order.
    pub(super) fn find<'e>(&self, events: &'e [Event], step: &StepKey) -> Option<RecordedText<'e>> {
        let seq = self.of_step(step)?;
        Some(RecordedText { seq, text: find_text(events, seq)? })
    }
}

/// The text of a call in events that are in order.
pub(super) fn find_text(events: &[Event], seq: u64) -> Option<Cow<'_, str>> {
    let position = events.binary_search_by_key(&seq, |event| event.seq).ok()?;
    recorded_text(&events.get(position)?.fact)
}

/// Reads the text of a call from a journal; `path` is its database. `None` if the event with this `seq` is not the end of
/// a call that returned a text.
///
/// # Errors
/// The event can't be read, or it has too many values and `limit` refuses them.
pub(super) fn read_text(
    connection: &Connection,
    path: &Path,
    blobs: &Blobs,
    event: EventKey,
    limit: SizeLimit,
) -> Result<Option<String>, StoreError> {
    let error = |source| StoreError::Journal { operation: "read", path: path.to_owned(), source };
    let EventKey { run, seq } = event;
    let Some(ids) = EventIds::find(connection, &run.0.to_string()).map_err(error)? else { return Ok(None) };
    let id = ids.clamped(i64::try_from(seq).unwrap_or(i64::MAX));
    let row = connection
        .prepare_cached("SELECT body, blob FROM events WHERE id = ?1 AND kind = 'call_ended'")
        .and_then(|mut statement| statement.query_row([id], |row| StoredFact::read(row, 0)).optional())
        .map_err(error)?;
    let Some(json) = row.map(|row| row.into_json(blobs)).transpose()?.flatten() else { return Ok(None) };
    let damaged = |problem: String| StoreError::Damaged {
        path: path.to_owned(),
        problem: format!("run {run}, event {seq}: {problem}"),
    };
    if count_values(&json) > MAX_VALUES {
        return match limit {
            SizeLimit::Refuse => Err(damaged(format!("it has more than {MAX_VALUES} values"))),
            SizeLimit::Skip => Ok(None),
        };
    }
    let fact = parse_fact(&json).map_err(|error| damaged(error.to_string()))?;
    Ok(recorded_text(&fact).map(Cow::into_owned))
}

/// What [`read_text`] returns for an event with more values than a foreign run may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum SizeLimit {
    /// An error.
    Refuse,
    /// `None`.
    Skip,
}

/// Identifies an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventKey {
    pub(super) run: RunId,
    pub(super) seq: u64,
}
