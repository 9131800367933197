//! `orch extract`.

use std::path::{Path, PathBuf};

use crate::config;
use crate::diagnostic::{Code as FindingCode, Diagnostic};
use crate::extract::{Options, StopHint, extract};
use crate::files::{read_all, read_bounded};
use crate::schema::{Schema, SchemaSet, render_mismatches};

use crate::model::text::reply_bytes;

use super::here;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Take the JSON out of a model's reply
///
/// Reads a reply as it came, with prose, fences and all, and prints the one JSON value in it that
/// fits the schema. Exit code 0 with the value, 1 with a typed reason on standard error.
#[derive(Debug, clap::Args)]
pub(super) struct ExtractArgs {
    /// The schema: a file, or the name of one in `schemas/`
    #[arg(long, value_name = "FILE|NAME")]
    schema: String,

    /// Refuse repaired values, and replies with several values that fit
    #[arg(long)]
    strict: bool,

    /// Why the model stopped, where that is known
    #[arg(long, value_enum, value_name = "REASON")]
    stop_reason: Option<StopReasonArg>,

    /// Say on standard error how the value was found
    #[arg(long)]
    report: bool,

    /// The reply; standard input when it is `-` or left out
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StopReasonArg {
    /// It had said everything
    End,
    /// A token limit cut it off
    Length,
    /// It refused
    Refusal,
}

pub(super) fn run(args: &ExtractArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let schema = schema(&args.schema, &here()?)?;
    let reply = read(args.file.as_deref())?;
    let stop = match args.stop_reason {
        Some(StopReasonArg::End) => StopHint::Complete,
        Some(StopReasonArg::Length) => StopHint::Length,
        Some(StopReasonArg::Refusal) => StopHint::Refusal,
        None => StopHint::Unknown,
    };
    match extract(&reply, &schema, &Options { strict: args.strict, stop }) {
        Ok(found) => {
            if args.report {
                let repairs: Vec<&str> = found.repairs.iter().map(|repair| repair.as_str()).collect();
                let mut how = serde_json::json!({ "source": found.source.as_str(), "repairs": repairs, "other_matches": found.others });
                if !found.left_out.is_empty() {
                    how["left_out"] = found.left_out.into();
                }
                ui.always(&how.to_string());
            }
            ui.data(&format!("{:#}", found.value))?;
            Ok(ExitStatus::Success)
        }
        Err(rejection) => {
            ui.always(&format!("{} {}: {}", ui.style.bad("error:"), rejection.reason.as_str(), rejection.message));
            if !rejection.mismatches.is_empty() {
                ui.always(&render_mismatches(&rejection.mismatches));
            }
            Ok(ExitStatus::Failed)
        }
    }
}

/// The largest reply that is read; those of providers are smaller.
const MAX_BYTES: u64 = 64 << 20;

fn read(file: Option<&Path>) -> Result<Vec<u8>, SessionError> {
    let bytes = match file {
        Some(path) if path != Path::new("-") => read_bounded(path, MAX_BYTES).map_err(|error| {
            SessionError::unreadable(path, &error).hint("give the file of a reply, or the reply on standard input")
        }),
        _ => read_all(std::io::stdin(), MAX_BYTES)
            .map_err(|error| SessionError::usage(format!("standard input can't be read: {error}"))),
    }?;
    Ok(reply_bytes(bytes))
}

/// A schema by file or by name.
pub(super) fn schema(name: &str, here: &Path) -> Result<Schema, SessionError> {
    let given = here.join(name);
    let path = if given.is_file() {
        given
    } else {
        let root = super::runs::root(here);
        let names = [name.to_owned(), format!("{name}.schema.json")];
        let candidates = names.iter().filter_map(|name| config::member_path(&root, "schemas", name));
        let found = candidates.into_iter().find(|path| path.is_file());
        found.ok_or_else(|| {
            SessionError::usage(format!("there is no schema `{name}`"))
                .hint("give a file, or the name of one in schemas/")
        })?
    };
    let (folder, file) =
        (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    // Its neighbours may be referred to; what they hold otherwise is no concern here.
    let mut set = SchemaSet::default();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let neighbour = entry.path();
        let is_schema = neighbour.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".schema.json"));
        if is_schema
            && !config::escapes(folder, &neighbour)
            && let Ok(document) = document(&neighbour)
        {
            set.insert(&entry.file_name().to_string_lossy(), document.value);
        }
    }
    let document = document(&path)?;
    set.insert(&file, document.value.clone());
    set.get(&file).map_err(|error| {
        let span = document.spans.value(&error.pointer);
        SessionError::with_findings(vec![
            Diagnostic::error(FindingCode::SchemaInvalid, error.message).at(&document.file, span),
        ])
    })
}

fn document(path: &Path) -> Result<config::Document, SessionError> {
    let shown = path.display().to_string();
    config::load_json(path, &shown).map_err(|found| {
        // A schema is JSON: a pipeline or a page of text would be one that lets everything pass.
        let found = found.into_iter().map(|problem| match problem.code {
            FindingCode::JsonSyntax => problem.help("a schema is a JSON file, such as `schemas/plan.schema.json`"),
            _ => problem,
        });
        SessionError::with_findings(found.collect())
    })
}
