//! The files that steps wrote, in this process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::files::{ApplyReport, ChangeSet, FileLedger, Tree};
use crate::model::Failure;

use super::FileAccount;

/// The files that the steps of a run wrote.
#[derive(Debug, Default)]
pub struct LocalFiles(Mutex<FileLedger>);

impl LocalFiles {
    /// Starts with the files that earlier sessions wrote.
    pub fn new(ledger: FileLedger) -> Self {
        Self(Mutex::new(ledger))
    }

    fn lock(&self) -> MutexGuard<'_, FileLedger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileAccount for LocalFiles {
    fn apply(&self, tree: &Tree, change_set: &ChangeSet) -> Result<ApplyReport, Failure> {
        // Hold the lock while the files change, so that no other step checks for missing files meanwhile.
        let mut ledger = self.lock();
        let applied = tree.apply(change_set)?;
        ledger.record(change_set);
        Ok(applied)
    }

    fn record(&self, change_set: &ChangeSet) {
        self.lock().record(change_set);
    }

    fn reverted(&self, tree: Option<&Tree>) -> Vec<String> {
        let differing = self.lock().differing_files(tree);
        differing.into_iter().filter(|file| file.difference.is_loss()).map(|file| file.path).collect()
    }

    fn forget(&self, paths: &[String]) {
        // A step that writes files may hold the lock for long, so wait for it only if there are paths.
        if paths.is_empty() {
            return;
        }
        let mut ledger = self.lock();
        for path in paths {
            ledger.forget(path);
        }
    }
}
