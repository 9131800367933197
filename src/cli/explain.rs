//! `orch explain`.

use crate::diagnostic::{Code as FindingCode, did_you_mean, explain, explain_all};

use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Say what a code such as ORCH0305 means, with an example
///
/// Without a code, every code is listed with a few words.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The code; `305` is enough
    #[arg(value_name = "CODE", conflicts_with = "all")]
    code: Option<String>,

    /// Print the whole of docs/checks.md
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &ExplainArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let text = match &args.code {
        _ if args.all => explain_all(),
        Some(name) => explain(find(name)?),
        None => FindingCode::ALL.iter().map(|code| format!("{code}  {}\n", code.title())).collect(),
    };
    ui.text(&text)?;
    Ok(ExitStatus::Success)
}

fn find(name: &str) -> Result<FindingCode, SessionError> {
    let upper = name.to_ascii_uppercase();
    let whole = match upper.parse::<u16>() {
        Ok(number) => format!("ORCH{number:04}"),
        Err(_) => upper,
    };
    let known = || FindingCode::ALL.iter().map(|code| code.as_str());
    let found = FindingCode::ALL.iter().find(|code| code.as_str() == whole);
    found.copied().ok_or_else(|| {
        let error = SessionError::usage(format!("there is no code `{name}`"));
        match did_you_mean(&whole, known()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("`orch explain` lists all codes"),
        }
    })
}
