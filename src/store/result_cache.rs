//! Results of earlier runs of the same project, found by their fingerprint (`--reuse`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension as _, params};

use crate::model::event::Fact;
use crate::model::{Artifact, Fingerprint, RunId};

use super::{Journal, StoreError};

/// Finds results of earlier runs; each result is used once.
#[derive(Clone)]
pub struct ResultCache(Arc<Mutex<ResultCacheState>>);

struct ResultCacheState {
    journal: Journal,
    /// The row id of the last result taken, by fingerprint; the next lookup takes an older one.
    taken: HashMap<Fingerprint, i64>,
}

impl ResultCache {
    /// A cache with a connection of its own to the same journal.
    pub fn open(journal: &Journal) -> Result<Self, StoreError> {
        Ok(Self::of(Journal::open(journal.state())?))
    }

    /// A cache that reads the given journal.
    pub fn of(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(ResultCacheState { journal, taken: HashMap::new() })))
    }

    /// The latest result with this fingerprint that was not taken yet, and the run that produced it. Results of runs
    /// from elsewhere are not taken, since this orch did not make their requests.
    pub fn find(&self, recipe: &Fingerprint) -> Result<Option<(RunId, Artifact)>, StoreError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ResultCacheState { journal, taken } = &mut *inner;
        if journal.is_all_foreign() {
            return Ok(None);
        }
        let before = taken.get(recipe).copied().unwrap_or(i64::MAX);
        let found: Option<(String, i64, i64)> = journal
            .reader()
            .prepare_cached(
                "SELECT run, seq, id FROM results WHERE request = ?1 AND decode = ?2 AND id < ?3
                 AND run NOT IN (SELECT run FROM foreign_runs) ORDER BY id DESC LIMIT 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![recipe.request.as_str(), recipe.decode.as_str(), before], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })
                    .optional()
            })
            .map_err(|error| journal.error(error))?;
        let Some((run, seq, id)) = found else { return Ok(None) };
        taken.insert(recipe.clone(), id);
        let run = RunId(uuid::Uuid::parse_str(&run).map_err(|error| journal.damaged(error.to_string()))?);
        Ok(match journal.event_at(run, seq)?.map(|event| event.fact) {
            Some(Fact::StepCompleted(fact)) => fact.artifact.map(|artifact| (run, artifact)),
            _ => None,
        })
    }
}
