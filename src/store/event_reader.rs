//! Reads the events of a run.

use std::borrow::Cow;

use jiff::Timestamp;
use rusqlite::Row;

use crate::model::event::{Event, Fact, StepCompleted};
use crate::model::{MAX_VALUES, RunId, count_values};

use super::event_ids::EventIds;
use super::last_replies::{EventKey, SizeLimit, find_text, read_text};
use super::payload::{StoredFact, parse_fact};
use super::value_reference::ValueReference;
use super::{Journal, StoreError};

impl Journal {
    /// Every event of a run, in order; empty if there is no such run.
    pub fn events(&self, run: RunId) -> Result<Vec<Event>, StoreError> {
        self.events_after(run, 0)
    }

    /// The events of a run after the event `seq`, in order.
    pub fn events_after(&self, run: RunId, seq: u64) -> Result<Vec<Event>, StoreError> {
        self.events_between(run, i64::try_from(seq).unwrap_or(i64::MAX), i64::MAX)
    }

    /// The event of a run with this number, if there is one.
    pub(super) fn find_event(&self, run: RunId, seq: i64) -> Result<Option<Event>, StoreError> {
        Ok(self.events_between(run, seq.saturating_sub(1), seq)?.pop())
    }

    /// The events of a run after the event `after_seq`, up to and including the event `last_seq`.
    fn events_between(&self, run: RunId, after_seq: i64, last_seq: i64) -> Result<Vec<Event>, StoreError> {
        let error = |source| self.read_error(source);
        let Some(ids) = EventIds::find(&self.reader, &run.0.to_string()).map_err(error)? else {
            return Ok(Vec::new());
        };
        let sql = "SELECT id, at, value, body, blob FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id";
        let mut statement = self.reader.prepare_cached(sql).map_err(error)?;
        let rows = statement
            .query_map([ids.clamped(after_seq), ids.clamped(last_seq)], |row| EventRow::read(row, ids))
            .map_err(error)?;
        let mut limit = ValueLimit::new(self.is_foreign(run)?);
        let mut events = Vec::new();
        for row in rows {
            let row = row.map_err(error)?;
            let event = self.build_event(run, row, &events, &mut limit)?;
            events.push(event);
        }
        Ok(events)
    }

    /// Builds an event from its row; `earlier` are events before it, in order.
    fn build_event(
        &self,
        run: RunId,
        row: EventRow,
        earlier: &[Event],
        limit: &mut ValueLimit,
    ) -> Result<Event, StoreError> {
        let EventRow { seq, at, value, fact } = row;
        let damaged = |problem: String| self.damage_error(format!("run {run}, event {seq}: {problem}"));
        let json = fact.into_json(&self.blobs)?.ok_or_else(|| damaged("it has no content".to_owned()))?;
        limit.take(count_values(&json)).map_err(damaged)?;
        let mut event = Event {
            run,
            seq: u64::try_from(seq).map_err(|error| damaged(error.to_string()))?,
            at: Timestamp::from_microsecond(at).map_err(|error| damaged(error.to_string()))?,
            fact: parse_fact(&json).map_err(|error| damaged(error.to_string()))?,
        };
        if let Some(reference) = value {
            let reference = serde_json::from_str(&reference).map_err(|error| damaged(error.to_string()))?;
            self.restore_value(&mut event, reference, earlier, limit)?;
        }
        Ok(event)
    }

    /// Puts the value of an artifact back into its event, from the reply that contains it.
    fn restore_value(
        &self,
        event: &mut Event,
        reference: ValueReference,
        earlier: &[Event],
        limit: &mut ValueLimit,
    ) -> Result<(), StoreError> {
        let Event { run, seq, ref mut fact, .. } = *event;
        let damaged = |problem: String| self.damage_error(format!("run {run}, event {seq}: {problem}"));
        let Fact::StepCompleted(StepCompleted { artifact: Some(artifact), .. }) = fact else {
            return Err(damaged("it refers to a reply, but has no artifact".to_owned()));
        };
        let mut text = find_text(earlier, reference.seq);
        if text.is_none() {
            let key = EventKey { run, seq: reference.seq };
            text = read_text(&self.reader, &self.path, &self.blobs, key, SizeLimit::Refuse)?.map(Cow::Owned);
        }
        let part = text.as_deref().and_then(|text| reference.part(text));
        let part = part.ok_or_else(|| damaged(format!("its value is missing in event {}", reference.seq)))?;
        limit.take(reference.size_in_values(part)).map_err(damaged)?;
        artifact.value = reference.value(part).map_err(|error| damaged(error.to_string()))?;
        Ok(())
    }
}

/// A row of the table `events`.
struct EventRow {
    seq: i64,
    at: i64,
    /// A [`ValueReference`] as JSON.
    value: Option<String>,
    fact: StoredFact,
}

impl EventRow {
    fn read(row: &Row<'_>, ids: EventIds) -> rusqlite::Result<Self> {
        let id: i64 = row.get(0)?;
        Ok(Self { seq: id - ids.base(), at: row.get(1)?, value: row.get(2)?, fact: StoredFact::read(row, 3)? })
    }
}

/// How many JSON values orch may still parse while it reads a run; `None` if there is no limit. A foreign run may contain
/// data that exhausts the memory.
struct ValueLimit(Option<usize>);

impl ValueLimit {
    fn new(is_foreign: bool) -> Self {
        Self(is_foreign.then_some(MAX_VALUES))
    }

    /// Takes the number of the next values from the limit.
    fn take(&mut self, count: usize) -> Result<(), String> {
        if let Some(remaining) = self.0 {
            let left = remaining.checked_sub(count);
            self.0 = Some(left.ok_or_else(|| format!("the run has more than {MAX_VALUES} values"))?);
        }
        Ok(())
    }
}
