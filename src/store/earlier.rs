//! Results of earlier runs of the same project, found by their recipe.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension as _, params};

use crate::model::event::Fact;
use crate::model::{Artifact, Recipe, RunId};

use super::{Journal, StoreError};

/// A reader of what earlier runs completed.
#[derive(Clone)]
pub struct Earlier(Arc<Mutex<Journal>>);

impl Earlier {
    /// A reader of its own on the same journal.
    pub fn open(journal: &Journal) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Mutex::new(Journal::open(journal.state())?))))
    }

    /// The latest result with a recipe, and the run that it is of.
    pub fn find(&self, recipe: &Recipe) -> Result<Option<(RunId, Artifact)>, StoreError> {
        let journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Option<(String, i64)> = journal
            .reader()
            .prepare_cached("SELECT run, seq FROM results WHERE ask = ?1 AND take = ?2 ORDER BY id DESC LIMIT 1")
            .and_then(|mut statement| {
                statement
                    .query_row(params![recipe.ask.as_str(), recipe.take.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .map_err(|error| journal.error(error))?;
        let Some((run, seq)) = found else { return Ok(None) };
        let run = RunId(uuid::Uuid::parse_str(&run).map_err(|error| journal.damaged(error.to_string()))?);
        Ok(match journal.event_at(run, seq)?.map(|event| event.fact) {
            Some(Fact::StepCompleted(fact)) => fact.artifact.map(|artifact| (run, artifact)),
            _ => None,
        })
    }
}
