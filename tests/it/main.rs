//! Integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod check;
mod llamacpp;
mod provider;
mod support;
