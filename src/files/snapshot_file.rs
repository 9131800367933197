//! One file of a snapshot, and whether it is the same file in another snapshot.

use std::fs::Metadata;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::LeftOutReason;

use super::record::FileState;

/// One file of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotFile {
    /// The size in bytes, and the modification time in nanoseconds since 1970 (negative for an earlier time).
    pub(super) size_and_time: (u64, Option<i128>),
    /// On Unix, the time of the last change of the content or the metadata, which no program can set.
    #[serde(default)]
    pub(super) change_time: Option<i128>,
    pub(super) content: SnapshotContent,
}

/// What a snapshot contains of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SnapshotContent {
    /// The content and the mode.
    Read(FileState),
    /// Only the name.
    LeftOut(LeftOutReason),
}

impl SnapshotFile {
    /// A file with this content and the size and times of its metadata.
    pub(super) fn new(metadata: &Metadata, content: SnapshotContent) -> Self {
        let modified = metadata.modified().ok().map(unix_nanoseconds);
        Self { size_and_time: (metadata.len(), modified), change_time: change_time(metadata), content }
    }

    /// A folder of orch with the records of runs, which change during each run. Only its name counts.
    pub(super) fn state_folder() -> Self {
        let content = SnapshotContent::LeftOut(LeftOutReason::OwnFile);
        Self { size_and_time: (0, Some(0)), change_time: None, content }
    }

    /// The content and the mode, if the snapshot contains them.
    pub(super) fn state(&self) -> Option<&FileState> {
        match &self.content {
            SnapshotContent::Read(state) => Some(state),
            SnapshotContent::LeftOut(_) => None,
        }
    }

    /// Whether the sizes and the times of two states are the same, as far as the system knows them.
    fn has_same_stamp(&self, other: &Self) -> bool {
        let change_times = self.change_time.zip(other.change_time);
        self.size_and_time == other.size_and_time && change_times.is_none_or(|(old, new)| old == new)
    }

    /// Compares the file in two snapshots. Without both contents, its size and times decide: whether a file exceeds the
    /// limit of all contents depends on the other files.
    pub(super) fn compare(&self, other: &Self) -> Comparison {
        match (&self.content, &other.content) {
            (SnapshotContent::Read(state), SnapshotContent::Read(other_state)) => {
                return if state == other_state { Comparison::Same } else { Comparison::Different };
            }
            (SnapshotContent::LeftOut(_), SnapshotContent::LeftOut(_)) => {}
            (SnapshotContent::LeftOut(reason), SnapshotContent::Read(_))
            | (SnapshotContent::Read(_), SnapshotContent::LeftOut(reason)) => {
                if *reason != LeftOutReason::WorkspaceTooLarge {
                    return Comparison::Different;
                }
            }
        }
        match (self.has_same_stamp(other), self.size_and_time.1) {
            (false, _) => Comparison::Different,
            (true, Some(_)) => Comparison::Same,
            (true, None) => Comparison::SameSize,
        }
    }
}

/// How a file in one snapshot compares with the file in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Same,
    /// orch knows only the size of the file, which is the same.
    SameSize,
    Different,
}

/// The nanoseconds since 1970; negative for an earlier time.
fn unix_nanoseconds(time: SystemTime) -> i128 {
    let nanoseconds = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|error| -nanoseconds(error.duration()), nanoseconds)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems have no such time")]
fn change_time(metadata: &Metadata) -> Option<i128> {
    use std::os::unix::fs::MetadataExt as _;
    Some(i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn change_time(_: &Metadata) -> Option<i128> {
    None
}
