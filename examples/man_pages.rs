//! Writes a man page for each command of orch:
//!
//! ```sh
//! cargo run --example man_pages -- target/man
//! ```

#![allow(clippy::print_stderr, reason = "an example prints")]

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: man_pages FOLDER");
        return ExitCode::from(2);
    };
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(orch::cli::command(), &folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the man pages can't be written to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
