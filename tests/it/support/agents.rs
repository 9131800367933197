//! The CLI agents for tests: the real programs, from npm, at pinned versions.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents");

/// The folder with `claude`, `codex`, `codex-acp` and `claude-agent-acp`; `None`, with a notice, where npm can't
/// install them.
pub(crate) fn programs() -> Option<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(install) {
        Ok(folder) => Some(folder.clone()),
        Err(why) => {
            // The macro's output is only shown for failing tests.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the agent programs are not tested: {why}");
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let folder = super::npm::install(SOURCES, "agents")?;
    let bin = folder.join("node_modules/.bin");
    for program in ["claude", "codex"] {
        if program == "claude" && !runs(&bin.join(program)) {
            // This does what the package's own script does after an installation: it puts the program in its place.
            let script = folder.join("node_modules/@anthropic-ai/claude-code/install.cjs");
            let done = Command::new("node").arg(script).output().map_err(|error| error.to_string())?;
            if !done.status.success() {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned());
            }
        }
        if !runs(&bin.join(program)) {
            return Err(format!("`{program}` does not run here"));
        }
    }
    Ok(bin)
}

/// `claude-agent-acp` as an agent of a pipeline, with its own home in `ACP_HOME`. It refuses to run as root: then it
/// runs as nobody, who may read everything that root may, and write what it owns.
pub(crate) fn claude_adapter() -> String {
    let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search ";
    let user = if is_root() { drop } else { "" };
    format!(
        "acp: {{ command: [sh, -c, 'HOME=\"$ACP_HOME\" exec {user}claude-agent-acp'] }}, env: [ACP_HOME, ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, CLAUDE_CODE_MAX_RETRIES, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC]"
    )
}

/// Creates a folder in which that adapter may write.
pub(crate) fn create_adapter_folder(path: &std::path::Path) {
    std::fs::create_dir_all(path).unwrap();
    #[cfg(unix)]
    if is_root() {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
}

/// Creates a script with this name that precedes the real program; returns the `PATH` for it.
pub(crate) fn fake_program(orch: &super::Orch, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    orch.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    let path = orch.path().join("bin");
    std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", path.display(), std::env::var("PATH").unwrap())
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output();
    asked.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).trim() == "0")
}

fn runs(program: &std::path::Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}
