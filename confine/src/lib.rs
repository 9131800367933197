//! Runs programs confined by the kernel: with namespaces, Landlock and seccomp on Linux, and with Seatbelt on macOS.
//!
//! orch does not use this crate yet; the program `orch-confine` drives it in the tests, in the place of orch.

pub mod confine;
