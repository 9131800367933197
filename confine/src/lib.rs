//! Runs programs confined by the kernel: with namespaces, Landlock and seccomp on Linux, and with Seatbelt on macOS.
//!
//! orch does not use this crate yet. In the tests, the program `orch-confine` takes the role of orch.

pub mod confine;
