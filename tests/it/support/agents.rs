//! Installs real CLI agents for tests from npm, at pinned versions.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents");

/// The folder with `claude`, `codex`, `codex-acp` and `claude-agent-acp`. Prints a notice and returns `None` if npm
/// can't install them.
pub(crate) fn programs() -> Option<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(install) {
        Ok(folder) => Some(folder.clone()),
        Err(reason) => {
            super::print_skipped("the CLI agents are not tested", reason);
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let folder = super::npm::install(SOURCES, "agents")?;
    let bin = folder.join("node_modules/.bin");
    for program in ["claude", "codex"] {
        if program == "claude" && !runs(&bin.join(program)) {
            // Run the package's install script, because `npm ci --ignore-scripts` did not. It moves the program into
            // place.
            let script = folder.join("node_modules/@anthropic-ai/claude-code/install.cjs");
            let output = Command::new("node").arg(script).output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        if !runs(&bin.join(program)) {
            return Err(format!("`{program}` does not run here"));
        }
    }
    Ok(bin)
}

/// The definition of `claude-agent-acp` as an agent of a pipeline, with the home directory `ACP_HOME`. The program
/// refuses to run as root. If the test runs as root, the program runs as the user `nobody` with read access to all
/// files.
pub(crate) fn claude_adapter() -> String {
    let drop_root = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search ";
    let user = if is_root() { drop_root } else { "" };
    format!(
        "acp: {{ command: [sh, -c, 'HOME=\"$ACP_HOME\" exec {user}claude-agent-acp'] }}, env: [ACP_HOME, ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, CLAUDE_CODE_MAX_RETRIES, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC]"
    )
}

/// Creates a folder in which `claude-agent-acp` may write.
pub(crate) fn create_adapter_folder(path: &std::path::Path) {
    std::fs::create_dir_all(path).unwrap();
    #[cfg(unix)]
    if is_root() {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
}

/// Creates a shell script that replaces the program `name`. Returns a `PATH` on which the script comes first.
pub(crate) fn fake_program(orch: &super::Orch, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    orch.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    let path = orch.path().join("bin");
    std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", path.display(), std::env::var("PATH").unwrap())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == "0")
}

fn runs(program: &std::path::Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
