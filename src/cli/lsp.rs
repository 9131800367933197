//! `orch lsp`.

use crate::lsp::{self, End};

use crate::session::{ExitStatus, SessionError};

/// Serve an editor: findings, completion, hover and more as you type
///
/// A language server (LSP 3.17) for pipelines, their test cases, prompts, schemas and orch.yaml, on
/// standard input and output. You do not start it yourself: an editor does, with the command
/// `orch lsp`, for YAML, Markdown and JSON files; docs/editors.md has the lines for VS Code,
/// Neovim, Helix, Zed and JetBrains. It tells what `orch pipeline validate` tells, of the text that
/// is open and not yet saved. Other files that the editor hands over are left alone.
///
/// It runs nothing, writes no file and opens no connection. It ends with exit code 0 when the
/// editor asks for it (`shutdown`, then `exit`), and 1 when the editor is gone without a word.
#[derive(Debug, clap::Args)]
pub(super) struct LspArgs {
    /// Speak on standard input and output; it always does, and some editors say so
    #[arg(long, hide = true)]
    stdio: bool,
}

pub(super) fn run(_args: &LspArgs) -> Result<ExitStatus, SessionError> {
    match lsp::serve(std::io::stdin(), std::io::stdout())? {
        End::Asked => Ok(ExitStatus::Success),
        End::Abrupt => Ok(ExitStatus::Failed),
    }
}
