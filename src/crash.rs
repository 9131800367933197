//! Crash points: before and after each write that must be durable, a test can end the process as a power cut would.
//! Without the feature `failpoints` they compile to nothing.
//!
//! `FAILPOINTS="journal::committed=2*off->return"` ends the process at the third commit.

/// Marks a point in the code at which a test can end the process.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name, |_| std::process::abort());
    };
}

pub(crate) use crash_point;

/// Activates the crash points that the environment names, until the returned value is dropped.
#[cfg(feature = "failpoints")]
pub fn activate_from_env() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Every crash point of a run; a test crashes a run at each of them.
pub const POINTS: &[&str] = &[
    "journal::queued",
    "journal::begin",
    "journal::commit",
    "journal::committed",
    "workspace::write",
    "workspace::written",
    "file::created",
    "file::written",
    "file::synced",
    "file::renamed",
    "blob::put",
    "blob::kept",
    "files::apply",
    "files::written",
    "files::staged",
    "files::aside",
    "files::swapped",
    "files::applied",
    "files::tidied",
    "call::performed",
    "call::recorded",
    "state::made",
    "schema::create",
    "schema::created",
    "lock::signed",
    "inbox::posted",
    "inbox::discarded",
];

/// The crash points of commands that maintain runs (delete, import, clean); another test covers them.
pub const MAINTENANCE_POINTS: &[&str] = &[
    "delete::commit",
    "delete::committed",
    "delete::homes",
    "sweep::removed",
    "sweep::done",
    "import::commit",
    "import::committed",
    "whole::written",
    "whole::named",
    "clean::removed",
];
