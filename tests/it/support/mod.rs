//! Helpers that tests share, such as a scripted model server and a builder for runs of the real program.
#![allow(dead_code, reason = "on some systems, no test uses a helper")]

pub(crate) mod agents;
pub(crate) mod ajv;
pub(crate) mod branches;
mod closed_port;
pub(crate) mod command_output;
pub(crate) mod convex;
mod editor;
#[path = "../../../local-llm/tests/support/gguf.rs"]
pub(crate) mod gguf;
pub(crate) mod llamacpp_process;
pub(crate) mod mcp;
mod npm;
mod orch;
pub(crate) mod sandbox;
pub(crate) mod sdk_types;
pub(crate) mod server;
mod stored_file;
pub(crate) mod wait;

use std::io::Write as _;

pub(crate) use closed_port::ClosedPort;
pub(crate) use editor::{Editor, completion_labels, split_cursor};
pub(crate) use orch::{Orch, RunOutput};
pub(crate) use server::{ReceivedRequest, Reply, Server};
pub(crate) use stored_file::{assert_stored, stored_difference};

/// Prints that something is not tested here, and why. Writes to standard error directly, because the test harness shows
/// the output of `println!` and `eprintln!` only for tests that fail. With `ORCH_TEST_REQUIRE=all`, the test fails
/// instead.
#[track_caller]
pub(crate) fn print_skipped(untested: &str, reason: &str) {
    let is_required = std::env::var_os("ORCH_TEST_REQUIRE").is_some_and(|value| value == "all");
    assert!(!is_required, "a required test can't run: {untested}: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {untested}: {reason}");
}

/// The processor time of this thread. Unlike the elapsed time, it does not depend on other processes.
pub(crate) fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
