//! `orch extract`.

use std::path::{Path, PathBuf};

use crate::config;
use crate::diagnostic::{Code as FindingCode, Diagnostic};
use crate::extract::{Options, StopHint, extract};
use crate::files::{read_file_bounded, read_to_end_bounded};
use crate::schema::{Schema, SchemaSet, render_mismatches};

use crate::model::text::normalize_reply_bytes;

use super::current_dir;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Extract the JSON from a model's reply
///
/// Reads an unmodified reply, including prose and code fences, and prints the one JSON value in it
/// that fits the schema. Exit code 0 if there is such a value; 1, with the reason on standard
/// error, if there is none.
#[derive(Debug, clap::Args)]
pub(super) struct ExtractArgs {
    /// The schema file, or the name of a schema in `schemas/`
    #[arg(long, value_name = "FILE|NAME")]
    schema: String,

    /// Reject repaired values, and replies that contain several values that fit
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

/// Why a model stopped.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StopReasonArg {
    /// The reply is complete
    End,
    /// A token limit cut the reply off
    Length,
    /// The model refused to answer
    Refusal,
}

pub(super) fn run(args: &ExtractArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
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

/// The maximum size of a reply; replies of providers are smaller.
const MAX_REPLY_BYTES: u64 = 64 << 20;

fn read_reply(file: Option<&Path>) -> Result<Vec<u8>, SessionError> {
    let bytes = match file {
        Some(path) if path != Path::new("-") => read_file_bounded(path, MAX_REPLY_BYTES).map_err(|error| {
            SessionError::unreadable(path, &error)
                .with_hint("pass the file of a reply, or pipe the reply to standard input")
        }),
        _ => read_to_end_bounded(std::io::stdin(), MAX_REPLY_BYTES)
            .map_err(|error| SessionError::usage(format!("standard input can't be read: {error}"))),
    }?;
    Ok(normalize_reply_bytes(bytes))
}

/// Loads a schema by its file or by its name.
pub(super) fn load_schema(name: &str, current_dir: &Path) -> Result<Schema, SessionError> {
    let direct_path = current_dir.join(name);
    let path = if direct_path.is_file() {
        direct_path
    } else {
        let root = super::runs::project_root(current_dir);
        let names = [name.to_owned(), format!("{name}.schema.json")];
        let mut candidates = names.iter().filter_map(|name| config::path_in_folder(&root, "schemas", name));
        candidates.find(|path| path.is_file()).ok_or_else(|| {
            SessionError::usage(format!("there is no schema `{name}`"))
                .with_hint("pass a schema file, or the name of a schema in schemas/")
        })?
    };
    let (folder, file) =
        (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    // The schema may refer to others in its folder, so load them all. Skip those with errors: the schema may not need
    // them.
    let mut set = SchemaSet::default();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let sibling = entry.path();
        let is_schema = sibling.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".schema.json"));
        if is_schema
            && !config::is_outside_folder(folder, &sibling)
            && let Ok(document) = load_document(&sibling)
        {
            set.insert(&entry.file_name().to_string_lossy(), document.value);
        }
    }
    let document = load_document(&path)?;
    set.insert(&file, document.value.clone());
    set.get(&file).map_err(|error| {
        let span = document.spans.value(&error.pointer);
        SessionError::with_findings(vec![
            Diagnostic::error(FindingCode::SchemaInvalid, error.message).with_span(&document.file, span),
        ])
    })
}

fn load_document(path: &Path) -> Result<config::Document, SessionError> {
    let display_path = path.display().to_string();
    config::load_json(path, &display_path).map_err(|findings| {
        // A user may pass another file by mistake, such as a pipeline.
        let findings = findings.into_iter().map(|finding| match finding.code {
            FindingCode::JsonSyntax => finding.with_help("a schema is a JSON file, such as `schemas/plan.schema.json`"),
            _ => finding,
        });
        SessionError::with_findings(findings.collect())
    })
}
