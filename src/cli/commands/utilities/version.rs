//! `orch --version`.

use anyhow::Result;
use clap::{Arg, ArgAction, CommandFactory as _};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::runner::ExitStatus;
use crate::store::{EXPORT_FORMAT, JOURNAL_FORMAT};

/// Returns the value of `--output` on a command line with `--version`. The parser reports `--version` before it reads the
/// rest of the command line, so this reads everything again with `--version` as a flag like any other.
///
/// # Errors
/// The command line has an invalid argument, or asks for help.
pub(in crate::cli) fn requested_format() -> clap::error::Result<OutputFormat> {
    let version = Arg::new("version").short('V').long("version").action(ArgAction::SetTrue);
    let command = Cli::command().disable_version_flag(true).subcommand_required(false).arg_required_else_help(false);
    let matches = command.arg(version).try_get_matches()?;
    Ok(matches.get_one::<OutputFormat>("output").copied().unwrap_or_default())
}

/// Prints the version, or everything that is known about this build.
pub(in crate::cli) fn run(format: OutputFormat, ui: &Ui) -> Result<ExitStatus> {
    match format {
        OutputFormat::Text => ui.write_data(concat!("orch ", env!("CARGO_PKG_VERSION")))?,
        OutputFormat::Json => ui.write_data(&format!("{:#}", build_info()))?,
    }
    Ok(ExitStatus::Success)
}

fn build_info() -> Value {
    let features: Vec<&str> = [("local", cfg!(feature = "local")), ("failpoints", cfg!(feature = "failpoints"))]
        .into_iter()
        .filter_map(|(name, is_enabled)| is_enabled.then_some(name))
        .collect();
    json!({
        "name": "orch",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("ORCH_BUILD_COMMIT"),
        "target": env!("ORCH_BUILD_TARGET"),
        "features": features,
        "journal_format": JOURNAL_FORMAT,
        "export_format": EXPORT_FORMAT,
    })
}
