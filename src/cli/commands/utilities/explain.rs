//! `orch explain`.

use anyhow::Result;

use crate::cli::output::Ui;
use crate::diagnostic::{Code as DiagnosticCode, did_you_mean, render_all_explanations, render_explanation};
use crate::runner::{ExitStatus, RunnerError};

/// Explain a code such as ORCH0305, with an example
///
/// Without a code, orch lists all codes with their titles.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The code to explain; `305` is short for `ORCH0305`
    #[arg(value_name = "CODE", conflicts_with = "all")]
    code: Option<String>,

    /// Print docs/checks.md, which explains all codes
    #[arg(long)]
    all: bool,
}

pub(in crate::cli) fn run(args: &ExplainArgs, ui: &Ui) -> Result<ExitStatus> {
    match &args.code {
        _ if args.all => ui.write_text(&render_all_explanations())?,
        Some(name) => ui.write_text(&render_explanation(find_code(name)?))?,
        None => DiagnosticCode::ALL.iter().try_for_each(|code| ui.write_row(&format!("{code}  "), code.title()))?,
    }
    Ok(ExitStatus::Success)
}

fn find_code(name: &str) -> Result<DiagnosticCode, RunnerError> {
    let uppercase = name.to_ascii_uppercase();
    let full_name = match uppercase.parse::<u16>() {
        Ok(number) => format!("ORCH{number:04}"),
        Err(_) => uppercase,
    };
    let code_names = || DiagnosticCode::ALL.iter().map(|code| code.as_str());
    let code = DiagnosticCode::ALL.iter().find(|code| code.as_str() == full_name);
    code.copied().ok_or_else(|| {
        let error = RunnerError::usage(format!("there is no code `{name}`"));
        match did_you_mean(&full_name, code_names()) {
            Some(suggestion) => error.with_hint(format!("did you mean `{suggestion}`?")),
            None => error.with_hint("`orch explain` lists all codes"),
        }
    })
}
