//! The test program of this crate. `orch-confine __confine …` is the same command as `orch __confine …`. `orch-confine
//! drive LEVEL POLICY RESULT -- PROGRAM …` takes the role of orch: it runs a program with the policy in the file
//! `POLICY` and writes the result as JSON to the file `RESULT`.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use orch_confine::confine::{
    self, AppliedSandbox, Connection, Level, Policy, Probe, ProgramEnd, SandboxOptions, SandboxSession, Start,
};
use serde::Serialize;

#[allow(clippy::print_stderr, reason = "this is the executable")]
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let code = match arguments.split_first() {
        Some((first, rest)) if first == confine::CONFINE_COMMAND => {
            confine::run_confine(rest).map_err(anyhow::Error::from)
        }
        Some((first, rest)) if first == "drive" => drive(rest),
        _ => Err(anyhow::anyhow!(
            "usage: orch-confine __confine …, or orch-confine drive LEVEL POLICY RESULT -- PROGRAM …"
        )),
    };
    code.map_or_else(
        |error| {
            eprintln!("{error:#}");
            ExitCode::from(125)
        },
        ExitCode::from,
    )
}

/// The result of `drive`, which the tests read.
#[derive(Default, Serialize)]
struct DriveResult {
    applied: Option<AppliedSandbox>,
    error: Option<String>,
    /// The exit code, the limit that the program reached, and the error number if the program did not start.
    ended: Option<(Option<i32>, Option<String>, Option<i32>)>,
    /// What is not known about the limits that the program reached.
    unknown: Vec<String>,
    connections: Vec<Connection>,
}

/// Takes the role of orch. The level is that of a policy, `shared` for `full` without a separate PID namespace,
/// or `probe` for the strongest level that works on this machine.
fn drive(arguments: &[OsString]) -> anyhow::Result<u8> {
    let [level, policy, result, _, argv @ ..] = arguments else { anyhow::bail!("LEVEL POLICY RESULT -- PROGRAM") };
    let policy: Policy = serde_json::from_slice(&std::fs::read(policy)?)?;
    let orch = std::env::current_exe()?;
    let probe = match level.to_str() {
        Some("full") => fixed_probe(Level::Full),
        Some("shared") => Probe { has_pid_namespace: false, ..fixed_probe(Level::Full) },
        Some("basic") => fixed_probe(Level::Basic),
        Some("none") => fixed_probe(Level::None),
        _ => confine::probe(&orch)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (outcome, code) = run(&orch, &policy, &probe, (argv, &connections)).await?;
        let connections = connections.lock().map(|all| all.clone()).unwrap_or_default();
        std::fs::write(result, serde_json::to_vec(&DriveResult { connections, ..outcome })?)
            .context("cannot write the result")?;
        Ok(code)
    })
}

/// The result of a probe according to which a level works.
fn fixed_probe(level: Level) -> Probe {
    let best = AppliedSandbox {
        level,
        landlock: 0,
        has_pid_namespace: true,
        limits_by: None,
        cgroup: None,
        unenforced: Vec::new(),
    };
    Probe { best, has_pid_namespace: true, obstacles: Vec::new() }
}

async fn run(
    orch: &Path,
    policy: &Policy,
    probe: &Probe,
    (argv, connections): (&[OsString], &Arc<Mutex<Vec<Connection>>>),
) -> anyhow::Result<(DriveResult, u8)> {
    let recorded = Arc::clone(connections);
    let on_connection = Arc::new(move |connection| {
        if let Ok(mut all) = recorded.lock() {
            all.push(connection);
        }
    });
    let confinement = SandboxOptions { policy, probe, on_connection };
    let input: OwnedFd = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let (mut session, socket) = match SandboxSession::open(&confinement, Some(input)) {
        Ok(opened) => opened,
        Err(error) => return Ok((failed(&error), 125)),
    };
    let argv: Vec<String> = argv.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let argv: Vec<OsString> = confine::confined_argv(orch, &argv);
    // On other systems, processes whose parent has ended are not found.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut command = Command::new(PathBuf::from(&argv[0]));
    let mut child = command.arg0("orch").args(&argv[1..]).stdin(Stdio::from(socket)).process_group(0).spawn()?;
    drop(command);
    let applied = session.confirm().await;
    let mut outcome = match &applied {
        Err(error) => failed(error),
        Ok(applied) => DriveResult { applied: Some(applied.clone()), ..DriveResult::default() },
    };
    if applied.is_ok() {
        session.start(&Start::default()).await?;
        match session.ended().await {
            Ok(ProgramEnd { code, limit, unknown, not_started }) => {
                outcome.unknown = unknown;
                outcome.ended = Some((code, limit.map(|limit| limit.to_string()), not_started));
            }
            Err(error) => outcome.error = Some(error.to_string()),
        }
    }
    #[allow(clippy::disallowed_methods, reason = "this program takes the role of orch in tests")]
    let status = child.wait()?;
    end_descendants();
    session.finish().await;
    Ok((outcome, u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

fn failed(error: &confine::ConfineError) -> DriveResult {
    DriveResult { error: Some(error.to_string()), ..DriveResult::default() }
}

/// Kills the processes that the program left running, as the supervisor of orch does.
fn end_descendants() {
    loop {
        let mut family: Vec<String> = vec![std::process::id().to_string()];
        // The id and the parent's id of each process.
        let mut processes: Vec<(String, String)> = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split(' ').collect();
            if fields.len() > 2 && fields[1] != "Z" {
                processes.push((entry.file_name().to_string_lossy().into_owned(), fields[2].to_owned()));
            }
        }
        let mut index = 0;
        while let Some(parent) = family.get(index).cloned() {
            family.extend(processes.iter().filter(|(_, parent_id)| *parent_id == parent).map(|(pid, _)| pid.clone()));
            index += 1;
        }
        if family.len() == 1 {
            return;
        }
        for pid in family.iter().skip(1).filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
    }
}
