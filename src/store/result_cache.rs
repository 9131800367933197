//! Finds results of earlier runs of the same project by their fingerprints (`--reuse`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension as _, params};

use crate::model::event::Fact;
use crate::model::{Artifact, Fingerprint, RunId};

use super::{Journal, StoreError};

/// Finds results of earlier runs, and returns each result once.
#[derive(Clone)]
pub struct ResultCache(Arc<Mutex<ResultCacheState>>);

struct ResultCacheState {
    journal: Journal,
    /// For each fingerprint, the row id of the last returned result. The next call returns an older result.
    last_returned: HashMap<Fingerprint, i64>,
}

impl ResultCache {
    /// Creates a cache that opens its own connection to this journal.
    pub fn open(journal: &Journal) -> Result<Self, StoreError> {
        Ok(Self::from_journal(Journal::open(journal.state_folder())?))
    }

    /// Creates a cache that reads this journal.
    pub fn from_journal(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(ResultCacheState { journal, last_returned: HashMap::new() })))
    }

    /// Returns the latest result with this fingerprint that no earlier call returned, and the run that produced it.
    /// Ignores results of foreign runs, since orch did not make their requests here.
    pub fn next_result(&self, fingerprint: &Fingerprint) -> Result<Option<(RunId, Artifact)>, StoreError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ResultCacheState { journal, last_returned } = &mut *state;
        if journal.all_runs_are_foreign() {
            return Ok(None);
        }
        let Some([request, decode]) = fingerprint.to_bytes() else { return Ok(None) };
        let before_id = last_returned.get(fingerprint).copied().unwrap_or(i64::MAX);
        // The id of an event is the number of its run * 2^32 + seq.
        let row: Option<(String, i64, i64)> = journal
            .reader()
            .prepare_cached(
                "SELECT run, event & 0xffffffff, id FROM results JOIN run_numbers ON number = event >> 32
                 WHERE request = ?1 AND decode = ?2 AND id < ?3
                 AND run NOT IN (SELECT run FROM foreign_runs) ORDER BY id DESC LIMIT 1",
            )
            .and_then(|mut statement| {
                let result = statement
                    .query_row(params![request, decode, before_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
                result.optional()
            })
            .map_err(|error| journal.read_error(error))?;
        let Some((run, seq, id)) = row else { return Ok(None) };
        last_returned.insert(fingerprint.clone(), id);
        let run = RunId(uuid::Uuid::parse_str(&run).map_err(|error| journal.damage_error(error.to_string()))?);
        Ok(match journal.find_event(run, seq)?.map(|event| event.fact) {
            Some(Fact::StepCompleted(fact)) => fact.artifact.map(|artifact| (run, artifact)),
            _ => None,
        })
    }
}
