//! What the examples share that measure runs of orch.

use std::io::{self, Write as _};
use std::process::{ExitCode, Output};

/// Runs a measurement and returns its exit code: 0 if it returns true, 1 if it returns false, and 2 after an error,
/// which is printed.
///
/// The program also acts as `orch`, so that one cargo command builds both: with the arguments of `orch`, it runs no
/// measurement.
pub(crate) fn run_measurement(measure: impl FnOnce() -> anyhow::Result<bool>) -> ExitCode {
    let first_arg = std::env::args().nth(1).unwrap_or_default();
    if !first_arg.is_empty() && !first_arg.starts_with("--") || first_arg.starts_with("__") {
        return orch::cli::main();
    }
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Returns the standard error of a program that failed as an error.
pub(crate) fn check_status(output: &Output) -> anyhow::Result<()> {
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
