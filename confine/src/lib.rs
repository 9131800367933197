//! Runs programs confined by the kernel: with namespaces, Landlock and seccomp on Linux, and with Seatbelt on macOS.
//!
//! orch uses it for commands and CLI agents (`src/process/`). The program `orch-confine` drives it in the tests, in the
//! place of orch.

pub mod confine;
