//! `orch lsp`.

use anyhow::Result;

use crate::lsp::{self, SessionEnd};
use crate::runner::{Environment, ExitStatus};

/// Start the language server for editors
///
/// The server provides findings, completion, hover and more for pipelines, test cases, prompts,
/// schemas and orch.yaml. It speaks LSP 3.17 on standard input and output. Configure your editor to
/// start `orch lsp` for YAML, Markdown and JSON files; docs/editors.md shows how for VS Code, Neovim,
/// Helix, Zed and JetBrains. The findings are those of `orch pipeline validate`, for the unsaved text
/// in the editor. The server ignores files that are not part of a project.
///
/// The server runs nothing, writes no file and opens no connection. It ends with exit code 0 after
/// the requests `shutdown` and `exit`, and 1 if the editor disconnects without them.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LspArgs {
    /// Ignored: the server always uses standard input and output, but some editors pass this option
    #[arg(long, hide = true)]
    stdio: bool,
}

pub(in crate::cli) fn run(_args: &LspArgs) -> Result<ExitStatus> {
    let env_addresses = Environment::from_process()?.sources().env_addresses();
    match lsp::serve(std::io::stdin(), std::io::stdout(), env_addresses)? {
        SessionEnd::Shutdown => Ok(ExitStatus::Success),
        SessionEnd::Abrupt => Ok(ExitStatus::Failed),
    }
}
