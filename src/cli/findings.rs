//! How the commands that check show what they found: for people, or in a format of a machine.

use std::path::PathBuf;

use crate::diagnostic::{self, Diagnostic, Severity};

use super::relative::Base;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// What goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FindingsFormat {
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
    pub(super) format: FindingsFormat,

    /// What counts as an error: `warnings`
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) deny: Vec<Deny>,

    /// Show paths in `json`, `sarif`, `github` and `junit` relative to this folder [default: the root of the git
    /// repository, where there is one; in `json` the current folder]
    #[arg(long, value_name = "DIR")]
    relative_to: Option<PathBuf>,
}

impl Flags {
    /// What paths are relative to in the chosen format; nothing for the current folder.
    fn base(&self) -> Result<Option<Base>, SessionError> {
        let here = super::here()?;
        match (&self.relative_to, self.format) {
            (Some(_), FindingsFormat::Human) => {
                let error = SessionError::usage("`--relative-to` is for the formats that machines read");
                Err(error.hint("add `--format github`, or another of `json`, `sarif` and `junit`"))
            }
            (Some(folder), _) => Base::named(folder, &here).map(Some),
            (None, FindingsFormat::Sarif | FindingsFormat::Github | FindingsFormat::Junit) => {
                Ok(Base::repository(&here))
            }
            // Scripts that read these open the files from where they are.
            (None, FindingsFormat::Human | FindingsFormat::Json) => Ok(None),
        }
    }
}

/// Shows what a check found, and says with which exit code it ends.
pub(super) fn tell(
    flags: &Flags,
    checked: &[String],
    mut found: Vec<Diagnostic>,
    what: &str,
    ui: &Ui,
) -> Result<ExitStatus, SessionError> {
    if flags.deny.contains(&Deny::Warnings) {
        for finding in &mut found {
            finding.severity = Severity::Error;
        }
    }
    let bad = found.iter().any(Diagnostic::is_error);
    let mut checked = checked.to_vec();
    if let Some(base) = flags.base()? {
        base.findings(&mut found);
        for path in &mut checked {
            *path = base.path(path);
        }
    }
    match flags.format {
        FindingsFormat::Human => {
            ui.findings(&found);
            if !bad {
                let (count, plural) = (checked.len(), if checked.len() == 1 { "" } else { "s" });
                ui.always(&format!("{} {count} {what}{plural} checked", ui.style.good("ok:")));
            }
        }
        FindingsFormat::Json => ui.data(&format!("{:#}", diagnostic::json_report(&checked, &found)))?,
        FindingsFormat::Sarif => ui.data(&format!("{:#}", diagnostic::sarif(&found)))?,
        FindingsFormat::Github if found.is_empty() => {}
        FindingsFormat::Github => ui.data(&diagnostic::github(&found))?,
        FindingsFormat::Junit => {
            let text = diagnostic::junit(&checked, &found)
                .map_err(|error| SessionError::internal(format!("the JUnit report can't be written: {error}")))?;
            ui.data(&text)?;
        }
    }
    Ok(if bad { ExitStatus::Usage } else { ExitStatus::Success })
}
