//! Tracks the child processes that may outlive their calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::model::CallKey;
use crate::process::EndingGroups;

/// For each call, the child processes that orch is still ending.
#[derive(Debug, Default)]
pub struct CallEndings(Mutex<HashMap<CallKey, EndingGroups>>);

impl CallEndings {
    pub(super) fn get_or_create(&self, key: &CallKey, clock: &Arc<dyn Clock>) -> EndingGroups {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone()).or_insert_with(|| EndingGroups::new(clock.clone())).clone()
    }

    pub(super) fn forget(&self, key: &CallKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
