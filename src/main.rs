//! The entry point of the `orch` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    orch::cli::main()
}
