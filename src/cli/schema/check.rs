//! `orch schema check`.

use crate::session::execute::short_path;
use std::path::{Path, PathBuf};

use crate::config::Document;
use crate::diagnostic::{Code as FindingCode, Diagnostic};
use crate::schema::{Mismatch, Schema};
use crate::{check, config};

use crate::cli::findings::{Flags, tell};
use crate::cli::ui::Ui;
use crate::cli::{extract, here, runs};
use crate::session::{ExitStatus, SessionError};

/// Check every schema of the project, or an artifact against one
///
/// Without flags, every file of `schemas/` is checked, also those that no pipeline names. Exit
/// code 0, or 2 with errors.
#[derive(Debug, clap::Args)]
pub(in super::super) struct SchemaCheckArgs {
    /// A JSON file to check against `--schema`
    #[arg(long, value_name = "FILE", requires = "schema")]
    artifact: Option<PathBuf>,

    /// The schema: a file, or the name of one in `schemas/`
    #[arg(long, value_name = "FILE|NAME", requires = "artifact")]
    schema: Option<String>,

    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &SchemaCheckArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    match (&args.artifact, &args.schema) {
        (Some(file), Some(schema)) => {
            let schema = extract::schema(schema, &here)?;
            let shown = file.to_string_lossy().replace('\\', "/");
            let found = match config::load_json(&here.join(file), &shown) {
                Ok(document) => artifact(&document, &schema),
                Err(found) => found,
            };
            tell(&args.flags, &[shown], found, "artifact", ui)
        }
        _ => all(args, &here, ui),
    }
}

fn all(args: &SchemaCheckArgs, here: &Path, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let root = short_path(&runs::root(here), here);
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let project = config::load_schemas(&root)?;
    let names = project.schema_documents.values().map(|document| document.file.path.clone());
    tell(&args.flags, &names.collect::<Vec<_>>(), check::check(&project), "schema", ui)
}

/// Every way in which an artifact differs from its schema, at its place.
fn artifact(document: &Document, schema: &Schema) -> Vec<Diagnostic> {
    let name = schema.name();
    let found = schema.errors(&document.value).into_iter().map(|wrong| {
        let message = format!("expected {}, got {}", wrong.expected, wrong.got);
        let place = document.spans.value(&wrong.pointer);
        let problem = Diagnostic::error(FindingCode::ArtifactMismatch, message).at(&document.file, place);
        problem.help(advice(&wrong, name))
    });
    found.collect()
}

fn advice(wrong: &Mismatch, schema: &str) -> String {
    match wrong.pointer.as_str() {
        "" => format!("the whole value does not fit `{schema}`"),
        pointer => format!("`{pointer}` does not fit `{schema}`"),
    }
}
