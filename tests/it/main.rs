//! Integration tests: the real program against real servers, files and processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod check;
mod control;
mod docs;
#[cfg(feature = "local")]
mod embedded;
mod extract;
mod files;
mod house;
mod llamacpp;
mod mistakes;
mod provider;
mod resume;
mod stands;
mod support;
mod track;
mod webhook;
mod workflow;
