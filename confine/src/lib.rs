//! Runs programs confined by the kernel: with namespaces, Landlock and seccomp on Linux, and with Seatbelt on macOS.
//!
//! orch uses this crate for commands and CLI agents (`src/process/`). In the tests of the crate, the program
//! `orch-confine` takes the role of orch.

pub mod confine;
