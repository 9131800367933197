//! Prints findings, for people or in a machine-readable format.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::startup::current_dir;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::model::counted;
use crate::runner::{ExitStatus, RunnerError};

use super::path_base::PathBase;
use super::ui::Ui;

/// The format of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum FindingsFormat {
    /// Findings with their source, on standard error.
    #[default]
    Human,
    /// One JSON object with `checked`, `errors`, `warnings` and `findings`.
    Json,
    /// A SARIF 2.1.0 log, for code hosts and editors.
    Sarif,
    /// Workflow commands of GitHub Actions.
    Github,
    /// A JUnit report, for CI systems that show test results.
    Junit,
}

/// The findings to treat as errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DeniedFindings {
    /// All warnings.
    Warnings,
}

/// The options of commands that print findings.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FindingsArgs {
    /// The format of the findings; every format except `human` goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(in crate::cli) format: FindingsFormat,

    /// The findings to treat as errors
    #[arg(long, value_enum, value_name = "FINDINGS")]
    deny: Vec<DeniedFindings>,

    /// Print paths relative to this folder in the machine-readable formats [default: the root of the git repository, or
    /// the current folder for `json` and outside of a repository]
    #[arg(long, value_name = "DIR")]
    relative_to: Option<PathBuf>,
}

impl FindingsArgs {
    /// The folder to which the paths in the selected format are relative. `None` means the current folder.
    fn path_base(&self) -> Result<Option<PathBase>, RunnerError> {
        let current_dir = current_dir()?;
        match (&self.relative_to, self.format) {
            (Some(_), FindingsFormat::Human) => {
                let error = RunnerError::usage("`--relative-to` requires a machine-readable format");
                Err(error.with_hint("add `--format json`, `sarif`, `github` or `junit`"))
            }
            (Some(folder), _) => PathBase::from_folder(folder, &current_dir).map(Some),
            (None, FindingsFormat::Sarif | FindingsFormat::Github | FindingsFormat::Junit) => {
                Ok(PathBase::from_repository(&current_dir))
            }
            // Scripts that read JSON open the files from the current folder, so keep their paths.
            (None, FindingsFormat::Human | FindingsFormat::Json) => Ok(None),
        }
    }
}

/// Prints the findings of a check, and returns the exit code. `noun` describes a checked file in the message.
pub(in crate::cli) fn print_findings(
    args: &FindingsArgs,
    checked_files: &[String],
    mut findings: Vec<Diagnostic>,
    noun: &str,
    ui: &Ui,
) -> Result<ExitStatus> {
    if args.deny.contains(&DeniedFindings::Warnings) {
        for finding in &mut findings {
            finding.severity = Severity::Error;
        }
    }
    let has_errors = findings.iter().any(Diagnostic::is_error);
    let mut checked_files = checked_files.to_vec();
    if let Some(base) = args.path_base()? {
        base.rewrite_findings(&mut findings);
        for path in &mut checked_files {
            *path = base.rewrite_path(path);
        }
    }
    match args.format {
        FindingsFormat::Human => {
            ui.print_findings(&findings);
            if !has_errors {
                let files = counted(checked_files.len(), noun);
                ui.print_always(&format!("{} {files} checked", ui.stderr_style.success("ok:")));
            }
        }
        FindingsFormat::Json => ui.write_data(&format!("{:#}", diagnostic::json_report(&checked_files, &findings)))?,
        FindingsFormat::Sarif => ui.write_data(&format!("{:#}", diagnostic::render_sarif(&findings)))?,
        FindingsFormat::Github if findings.is_empty() => {}
        FindingsFormat::Github => ui.write_data(&diagnostic::render_github(&findings))?,
        FindingsFormat::Junit => {
            let text = diagnostic::render_junit(&checked_files, &findings)
                .map_err(|error| RunnerError::internal(format!("the JUnit report can't be written: {error}")))?;
            ui.write_data(&text)?;
        }
    }
    Ok(if has_errors { ExitStatus::Usage } else { ExitStatus::Success })
}
