//! Reads the events of a run.

use jiff::Timestamp;
use rusqlite::Row;
use serde::Deserialize as _;

use crate::model::event::{Event, Fact};
use crate::model::{MAX_NESTING, MAX_VALUES, RunId, count_values, nesting_depth};

use super::event_ids::EventIds;
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
        let sql = "SELECT id, at, body, blob FROM events WHERE id > ?1 AND id <= ?2 ORDER BY id";
        let mut statement = self.reader.prepare_cached(sql).map_err(error)?;
        let rows = statement
            .query_map([ids.clamped(after_seq), ids.clamped(last_seq)], |row| EventRow::read(row, ids))
            .map_err(error)?;
        let mut limit = ValueLimit::new(self.is_foreign(run)?);
        let mut events = Vec::new();
        for row in rows {
            events.push(self.build_event(run, row.map_err(error)?, &mut limit)?);
        }
        Ok(events)
    }

    /// Builds an event from its row.
    fn build_event(&self, run: RunId, row: EventRow, limit: &mut ValueLimit) -> Result<Event, StoreError> {
        let seq = row.seq;
        let damaged = |problem: String| self.damage_error(format!("run {run}, event {seq}: {problem}"));
        let json = match (row.body, row.blob) {
            (Some(body), _) => body.into_bytes(),
            (None, Some(blob)) => self.blobs.get(&blob)?,
            (None, None) => return Err(damaged("it has no content".to_owned())),
        };
        limit.take(count_values(&json)).map_err(damaged)?;
        Ok(Event {
            run,
            seq: u64::try_from(seq).map_err(|error| damaged(error.to_string()))?,
            at: Timestamp::from_microsecond(row.at).map_err(|error| damaged(error.to_string()))?,
            fact: parse_fact(&json).map_err(|error| damaged(error.to_string()))?,
        })
    }
}

/// A row of the table `events`.
struct EventRow {
    seq: i64,
    at: i64,
    body: Option<String>,
    blob: Option<String>,
}

impl EventRow {
    fn read(row: &Row<'_>, ids: EventIds) -> rusqlite::Result<Self> {
        let id: i64 = row.get(0)?;
        Ok(Self { seq: id - ids.base(), at: row.get(1)?, body: row.get(2)?, blob: row.get(3)? })
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

/// Parses a fact. Allows deeper nesting than the parser does by default. The nesting still has a limit, since a journal
/// may come from another machine.
fn parse_fact(json: &[u8]) -> serde_json::Result<Fact> {
    if nesting_depth(json) > MAX_NESTING {
        return Err(serde::de::Error::custom(format!("it is nested more than {MAX_NESTING} levels deep")));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    Fact::deserialize(&mut reader)
}
