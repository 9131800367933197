//! `orch completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::error::{CliError, Code};
use super::ui::Ui;

/// Print a completion script for your shell
///
/// For example: `orch completions bash > ~/.local/share/bash-completion/completions/orch`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "orch", &mut script);
    ui.data(&String::from_utf8_lossy(&script))?;
    Ok(Code::Ok)
}
