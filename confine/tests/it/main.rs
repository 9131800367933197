//! Tests with the real kernel: what a confined program can and can't do.
#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs, reason = "tests wait for processes")]
#![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

mod attempts;
mod escapes;
mod levels;
mod limits;
mod network;
mod protected;
mod repositories;
mod signals;
mod support;
mod tools;
