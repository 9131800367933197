//! Places where a test can end the process, as a power cut would: before and after whatever is
//! made durable. Without the feature `failpoints` there is nothing.
//!
//! `FAILPOINTS="journal::committed=2*off->return"` ends the process at the third commit.

/// A place where a test can end the process.
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name, |_| std::process::abort());
    };
}

pub(crate) use crash_point;

/// Reads the environment for the places that a test has chosen; they hold as long as the value lives.
#[cfg(feature = "failpoints")]
pub fn chosen() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Every place that a run comes to, for the test that goes through them.
pub const POINTS: &[&str] = &[
    "journal::queued",
    "journal::begin",
    "journal::commit",
    "journal::committed",
    "view::show",
    "view::shown",
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

/// Those of commands that look after runs, for another test.
pub const UPKEEP: &[&str] = &[
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
