//! The files that orch has written into a workspace, by path and digest. They distinguish orch's files from files of
//! the user.

use std::collections::HashMap;

/// The recorded contents of the files of one workspace.
#[derive(Clone, Debug, Default)]
pub struct OwnedFiles {
    records: HashMap<String, Vec<OwnedContent>>,
}

/// Content that orch wrote at a path: its digest, the run that recorded it, and a number that increases with each record
/// of the path.
#[derive(Clone, Debug)]
struct OwnedContent {
    digest: String,
    run: String,
    event: i64,
}

impl OwnedFiles {
    /// Adds one record.
    pub fn add(&mut self, path: String, digest: String, run: String, event: i64) {
        self.records.entry(path).or_default().push(OwnedContent { digest, run, event });
    }

    /// Whether orch ever wrote these bytes at this path.
    pub fn contains(&self, path: &str, digest: &str) -> bool {
        self.records.get(path).is_some_and(|records| records.iter().any(|record| record.digest == digest))
    }

    /// The run that wrote this path last.
    pub fn last_writer(&self, path: &str) -> Option<&str> {
        self.records.get(path)?.iter().max_by_key(|record| record.event).map(|record| record.run.as_str())
    }

    /// All recorded paths, sorted.
    pub fn paths(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = self.records.keys().map(String::as_str).collect();
        paths.sort_unstable();
        paths
    }
}
