//! How the commands that check show what they found: for people, or in a format of a machine.

use crate::diagnostic::{self, Diagnostic, Severity};

use super::error::{CliError, Code};
use super::ui::Ui;

/// What goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Nothing; findings go to standard error, with their source and a caret.
    #[default]
    Human,
    /// One object with `checked`, `errors`, `warnings` and `findings`.
    Json,
    /// A SARIF 2.1.0 log, for code hosts and editors.
    Sarif,
    /// Workflow commands of GitHub Actions.
    Github,
    /// A JUnit report, for CI systems that show test results.
    Junit,
}

/// What counts as an error although it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Deny {
    /// Findings that are likely not meant.
    Warnings,
}

/// The flags of the commands that check.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// How findings are told; all but `human` go to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: Format,

    /// What counts as an error: `warnings`
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) deny: Vec<Deny>,
}

/// Shows what a check found, and says with which exit code it ends.
pub(super) fn tell(
    flags: &Flags,
    checked: &[String],
    mut found: Vec<Diagnostic>,
    what: &str,
    ui: &Ui,
) -> Result<Code, CliError> {
    if flags.deny.contains(&Deny::Warnings) {
        for finding in &mut found {
            finding.severity = Severity::Error;
        }
    }
    let bad = found.iter().any(Diagnostic::is_error);
    match flags.format {
        Format::Human => {
            ui.findings(&found);
            if !bad {
                let (count, plural) = (checked.len(), if checked.len() == 1 { "" } else { "s" });
                ui.always(&format!("{} {count} {what}{plural} checked", ui.style.good("ok:")));
            }
        }
        Format::Json => ui.data(&format!("{:#}", diagnostic::json_report(checked, &found)))?,
        Format::Sarif => ui.data(&format!("{:#}", diagnostic::sarif(&found)))?,
        Format::Github if found.is_empty() => {}
        Format::Github => ui.data(&diagnostic::github(&found))?,
        Format::Junit => {
            let text = diagnostic::junit(checked, &found)
                .map_err(|error| CliError::internal(format!("the JUnit report can't be written: {error}")))?;
            ui.data(&text)?;
        }
    }
    Ok(if bad { Code::Usage } else { Code::Ok })
}
