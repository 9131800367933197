//! Measures how much time confinement adds to the start of a program: runs `true` bare and confined. Run it with
//! `cargo bench --profile dist --bench overhead`.

#![allow(clippy::disallowed_methods, reason = "a bench waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_orch-confine");
const RUNS: usize = 50;

fn main() {
    let folder = tempfile::Builder::new().prefix("confine-").tempdir_in("/var/tmp").unwrap();
    let policy = folder.path().join("policy");
    let workspace = folder.path().join("ws");
    std::fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
    let text = format!(
        r#"{{"min": "none", "write": ["{0}"], "protect": [{{"path": "{0}/.git/hooks"}}], "deny_read": ["/etc/shadow"]}}"#,
        workspace.display()
    );
    std::fs::write(&policy, text).unwrap();
    let mut without_program = Command::new(BINARY);
    without_program.args(["__confine", "--nothing"]);
    let confined = |level: &str| {
        let mut command = Command::new(BINARY);
        command.args(["__confine", "--policy"]).arg(&policy).args(["--level", level, "--", "true"]);
        command
    };
    let bare = median("bare `true`", &mut Command::new("true"));
    let start = median("starting this program", &mut without_program);
    for level in ["none", "basic", "full"] {
        let duration = median(&format!("`true` at `{level}`"), &mut confined(level));
        println!("    added: {:?} (starting this program once: {:?})", duration.saturating_sub(bare), start);
    }
    if Command::new("bwrap").arg("--version").stdout(Stdio::null()).status().is_ok() {
        let mut command = Command::new("bwrap");
        command
            .args("--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all --die-with-parent true".split(' '));
        let duration = median("`true` in bwrap", &mut command);
        println!("    added: {:?}", duration.saturating_sub(bare));
    }
}

/// Runs a command [`RUNS`] times; returns the median duration.
fn median(name: &str, command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            command.status().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name}: {:?} (from {:?} to {:?})", times[RUNS / 2], times[0], times[RUNS - 1]);
    times[RUNS / 2]
}
