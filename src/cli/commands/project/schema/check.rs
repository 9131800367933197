//! `orch schema check`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::args::load_schema;
use crate::cli::output::{FindingsArgs, Ui, print_findings};
use crate::cli::startup::current_dir;
use crate::config::Document;
use crate::diagnostic::{Code as DiagnosticCode, Diagnostic};
use crate::runner::execute::resolve_path;
use crate::runner::project_state::project_root;
use crate::runner::{ExitStatus, RunnerError};
use crate::schema::{Mismatch, Schema};
use crate::{check, config};

/// Check every schema of the project, or validate an artifact
///
/// Without options, orch checks every file in `schemas/`, including those that no pipeline uses. The exit code is 2 if
/// there are errors, otherwise 0.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SchemaCheckArgs {
    /// The JSON file to validate against `--schema`
    #[arg(long, value_name = "FILE", requires = "schema")]
    artifact: Option<PathBuf>,

    /// The schema file, or the name of a schema in `schemas/`
    #[arg(long, value_name = "FILE|NAME", requires = "artifact")]
    schema: Option<String>,

    #[command(flatten)]
    findings_args: FindingsArgs,
}

pub(super) fn run(args: &SchemaCheckArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    match (&args.artifact, &args.schema) {
        (Some(file), Some(schema)) => {
            let schema = load_schema(schema, &current_dir)?;
            let display_path = file.to_string_lossy().replace('\\', "/");
            let findings = match config::load_json(&current_dir.join(file), &display_path) {
                Ok(document) => artifact_findings(&document, &schema),
                Err(findings) => findings,
            };
            print_findings(&args.findings_args, &[display_path], findings, "artifact", ui)
        }
        _ => check_all(args, &current_dir, ui),
    }
}

fn check_all(args: &SchemaCheckArgs, current_dir: &Path, ui: &Ui) -> Result<ExitStatus> {
    let root = resolve_path(&project_root(current_dir), current_dir);
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let project = config::load_schemas(&root).map_err(RunnerError::with_findings)?;
    let names = project.schema_documents.values().map(|document| document.file.path.clone());
    print_findings(&args.findings_args, &names.collect::<Vec<_>>(), check::check(&project), "schema", ui)
}

/// Returns a finding for each mismatch between an artifact and its schema.
fn artifact_findings(document: &Document, schema: &Schema) -> Vec<Diagnostic> {
    let name = schema.name();
    let findings = schema.mismatches(&document.value).into_iter().map(|mismatch| {
        let message = format!("expected {}, got {}", mismatch.expected, mismatch.got);
        let span = document.spans.value(&mismatch.pointer);
        let finding = Diagnostic::error(DiagnosticCode::ArtifactMismatch, message).with_span(&document.file, span);
        finding.with_help(help_text(&mismatch, name))
    });
    findings.collect()
}

fn help_text(mismatch: &Mismatch, schema: &str) -> String {
    match mismatch.pointer.as_str() {
        "" => format!("the value does not fit `{schema}`"),
        pointer => format!("`{pointer}` does not fit `{schema}`"),
    }
}
