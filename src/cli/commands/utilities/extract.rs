//! `orch extract`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::args::load_schema;
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::extract::{Options, StopHint, extract};
use crate::files::{read_file_bounded, read_to_end_bounded};
use crate::model::text::normalize_reply_bytes;
use crate::runner::{ExitStatus, RunnerError};
use crate::schema::render_mismatches;

/// Extract the JSON from a model's reply
///
/// Reads an unmodified reply, including prose and code fences, and prints the one JSON value in it that fits the
/// schema. If there is no such value, orch prints the reason on standard error, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExtractArgs {
    /// The schema file, or the name of a schema in `schemas/`
    #[arg(long, value_name = "FILE|NAME")]
    schema: String,

    /// Reject repaired values, and replies with several values that fit the schema
    #[arg(long)]
    strict: bool,

    /// The reason why the model stopped
    #[arg(long, value_enum, value_name = "REASON")]
    stop_reason: Option<StopReasonArg>,

    /// Print on standard error how orch found the value
    #[arg(long)]
    report: bool,

    /// The file that contains the reply; `-` is standard input [default: -]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The reason why a model stopped.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StopReasonArg {
    /// The reply is complete
    End,
    /// A token limit cut the reply off
    Length,
    /// The model refused to answer
    Refusal,
}

pub(in crate::cli) fn run(args: &ExtractArgs, ui: &Ui) -> Result<ExitStatus> {
    let schema = load_schema(&args.schema, &current_dir()?)?;
    let reply = read_reply(args.file.as_deref())?;
    let stop_hint = match args.stop_reason {
        Some(StopReasonArg::End) => StopHint::Complete,
        Some(StopReasonArg::Length) => StopHint::Length,
        Some(StopReasonArg::Refusal) => StopHint::Refusal,
        None => StopHint::Unknown,
    };
    match extract(&reply, &schema, &Options { strict: args.strict, stop: stop_hint }) {
        Ok(extraction) => {
            if args.report {
                let repairs: Vec<&str> = extraction.repairs.iter().map(|repair| repair.as_str()).collect();
                let mut report = serde_json::json!({ "source": extraction.source.as_str(), "repairs": repairs, "other_matches": extraction.others });
                if !extraction.left_out.is_empty() {
                    report["left_out"] = extraction.left_out.into();
                }
                ui.print_always(&report.to_string());
            }
            ui.write_data(&format!("{:#}", extraction.value))?;
            Ok(ExitStatus::Success)
        }
        Err(rejection) => {
            ui.print_always(&format!(
                "{} {}: {}",
                ui.stderr_style.error("error:"),
                rejection.reason.as_str(),
                rejection.message
            ));
            if !rejection.mismatches.is_empty() {
                ui.print_always(&render_mismatches(&rejection.mismatches));
            }
            Ok(ExitStatus::Failed)
        }
    }
}

/// The maximum size of a reply in bytes. orch's providers return smaller replies.
const MAX_REPLY_BYTES: u64 = 64 << 20;

fn read_reply(file: Option<&Path>) -> Result<Vec<u8>, RunnerError> {
    let bytes = match file {
        Some(path) if path != Path::new("-") => read_file_bounded(path, MAX_REPLY_BYTES).map_err(|error| {
            RunnerError::unreadable(path, &error)
                .with_hint("pass the file of a reply, or pipe the reply to standard input")
        }),
        _ => read_to_end_bounded(std::io::stdin(), MAX_REPLY_BYTES)
            .map_err(|error| RunnerError::usage(format!("standard input can't be read: {error}"))),
    }?;
    Ok(normalize_reply_bytes(bytes))
}
