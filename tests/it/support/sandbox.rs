//! Finds out which sandboxes this machine can enforce, and reports the tests that can't run here.

use std::sync::OnceLock;

use orch::model::SandboxLevel;
use orch::process::SandboxProbe;

use super::print_skipped;

/// The oldest Landlock version with which the level `basic` works.
const LANDLOCK_OF_BASIC: u32 = 3;

/// The sandboxes of this machine.
struct Machine {
    level: SandboxLevel,
    landlock: u32,
    obstacles: String,
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let probe = SandboxProbe::new(env!("CARGO_BIN_EXE_orch").into());
        let machine = runtime.block_on(probe.machine()).unwrap();
        Machine { level: machine.level(), landlock: machine.landlock(), obstacles: machine.obstacles().join("; ") }
    })
}

/// Whether this machine reaches the level `full`, without a report.
pub(crate) fn is_full() -> bool {
    machine().level == SandboxLevel::Full
}

/// Whether this machine reaches the level `full`. If it does not, reports that the test is skipped.
pub(crate) fn reaches_full() -> bool {
    let Machine { level, obstacles, .. } = machine();
    if !is_full() {
        skip(&format!("a sandbox at the level `full` is not tested: this machine reaches `{level}`: {obstacles}"));
    }
    is_full()
}

/// Whether the kernel has the Landlock that the level `basic` needs. If it has not, reports that the test is skipped.
pub(crate) fn has_landlock() -> bool {
    let landlock = machine().landlock;
    if landlock < LANDLOCK_OF_BASIC {
        skip(&format!("a sandbox at the level `basic` is not tested: this kernel has Landlock {landlock}"));
    }
    landlock >= LANDLOCK_OF_BASIC
}

/// Reports that a test is skipped. With `ORCH_TEST_REQUIRE=all`, the test fails instead.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    print_skipped("a sandbox", reason);
}
