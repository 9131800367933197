//! The agent programs of tests: the real ones, from npm, at pinned versions.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents");

/// The folder with `claude`, `codex` and `codex-acp`; `None`, with a notice, where they can't be installed.
pub(crate) fn programs() -> Option<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(install) {
        Ok(folder) => Some(folder.clone()),
        Err(why) => {
            // Not through the macro, whose words are only shown of tests that fail.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the agent programs are not tested: {why}");
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let folder = super::npm::install(SOURCES, "agents")?;
    let bin = folder.join("node_modules/.bin");
    for program in ["claude", "codex", "codex-acp"] {
        if program == "claude" && !runs(&bin.join(program)) {
            // What its own script after an installation does: it puts the program in its place.
            let script = folder.join("node_modules/@anthropic-ai/claude-code/install.cjs");
            let done = Command::new("node").arg(script).output().map_err(|error| error.to_string())?;
            if !done.status.success() {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned());
            }
        }
        if program != "codex-acp" && !runs(&bin.join(program)) {
            return Err(format!("`{program}` does not run here"));
        }
    }
    Ok(bin)
}

fn runs(program: &std::path::Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}
