//! Helpers that tests share, such as a scripted model server and a builder for runs of the real program.
#![allow(dead_code, reason = "on some systems, no test uses a helper")]

pub(crate) mod agents;
pub(crate) mod ajv;
pub(crate) mod convex;
mod editor;
#[path = "../../../local-llm/tests/support/gguf.rs"]
pub(crate) mod gguf;
mod npm;
mod orch;
pub(crate) mod sdk_types;
pub(crate) mod server;

pub(crate) use editor::{Editor, completion_labels, split_cursor};
pub(crate) use orch::{Orch, RunOutput};
pub(crate) use server::{ReceivedRequest, Reply, Server};

/// The processor time of this thread. Unlike the elapsed time, it does not depend on other processes.
pub(crate) fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
