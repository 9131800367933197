//! Crash points: before and after each write that must be durable, a test can abort the process. Without the feature
//! `failpoints`, they compile to nothing.
//!
//! `FAILPOINTS="journal::committed=2*off->return"` aborts the process after the third commit.

/// Defines a crash point.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name, |_| std::process::abort());
    };
}

pub(crate) use crash_point;

/// Activates the crash points in the environment variable `FAILPOINTS` until the caller drops the returned value.
#[cfg(feature = "failpoints")]
pub fn activate_from_env() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// The crash points of a run. A test aborts a run at each of them.
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
    "blob::stored",
    "files::apply",
    "files::written",
    "files::staged",
    "files::backed_up",
    "files::swapped",
    "files::applied",
    "files::backup_removed",
    "call::performed",
    "call::recorded",
    "state::created",
    "schema::create",
    "schema::created",
    "lock::owner_written",
    "inbox::sent",
    "inbox::removed",
];

/// The crash points of commands that delete, import, export and clean up. Another test covers them.
pub const MAINTENANCE_POINTS: &[&str] = &[
    "delete::commit",
    "delete::committed",
    "delete::agent_folders_removed",
    "gc::removed",
    "gc::committed",
    "import::commit",
    "import::committed",
    "atomic_write::written",
    "atomic_write::renamed",
    "clean::removed",
];
