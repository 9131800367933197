//! `orch pipeline validate`.

use std::path::PathBuf;

use crate::diagnostic::Severity;
use crate::{check, config};

use super::error::{CliError, Code};
use super::here;
use super::ui::Ui;

/// Check pipelines, prompts and schemas without running anything
///
/// Reports everything that is wrong in one go, each finding with its file, line, column and what
/// to do. Without a path, every pipeline of the project is checked. Exit code 0, or 2 with errors.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pipeline files; all of `pipelines/` when left out
    #[arg(value_name = "PIPELINE")]
    pipelines: Vec<PathBuf>,

    /// Warnings count as errors
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let here = here()?;
    let paths = if args.pipelines.is_empty() {
        super::runs::pipelines(&super::runs::root(&here))
    } else {
        args.pipelines.clone()
    };
    if paths.is_empty() {
        return Err(
            CliError::could_not("there is no pipeline here").hint("`orch init` makes a project with a first pipeline")
        );
    }
    let mut all = Vec::new();
    for path in &paths {
        match config::load(&super::session::given(path, &here)) {
            Ok(project) => all.extend(check::check(&project)),
            Err(findings) => all.extend(findings),
        }
    }
    // A schema that two pipelines share is told of once.
    let mut findings = Vec::with_capacity(all.len());
    for finding in all {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    let bad = findings.iter().any(|finding| finding.severity == Severity::Error || args.deny_warnings);
    ui.findings(&findings);
    if bad {
        return Ok(Code::Usage);
    }
    let count = paths.len();
    ui.always(&format!("{} {count} pipeline{} checked", ui.style.good("ok:"), if count == 1 { "" } else { "s" }));
    Ok(Code::Ok)
}
