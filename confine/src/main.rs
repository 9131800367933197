//! `orch-confine __confine …`, as orch offers it, and `orch-confine drive FILE -- PROGRAM …`, which plays orch for the
//! tests: it runs a program with the policy in a file and writes what it learned, as JSON, to the descriptor of a file.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use orch_confine::confine::{self, Confinement, Connection, Ended, InForce, Level, Policy, Probe, Session, Start};
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

/// What the tests read.
#[derive(Serialize)]
struct Result {
    in_force: Option<InForce>,
    error: Option<String>,
    ended: Option<(Option<i32>, Option<String>, Option<i32>)>,
    connections: Vec<Connection>,
}

/// Plays orch: the level (or `probe`), the policy's file, the file for the result, and the program.
fn drive(arguments: &[OsString]) -> anyhow::Result<u8> {
    let [level, policy, result, _, argv @ ..] = arguments else { anyhow::bail!("LEVEL POLICY RESULT -- PROGRAM") };
    let policy: Policy = serde_json::from_slice(&std::fs::read(policy)?)?;
    let orch = std::env::current_exe()?;
    let probe = match level.to_str() {
        Some("full") => fixed(Level::Full),
        Some("shared") => Probe { own_processes: false, ..fixed(Level::Full) },
        Some("basic") => fixed(Level::Basic),
        Some("none") => fixed(Level::None),
        _ => confine::probe(&orch)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (found, code) = run(&orch, &policy, &probe, (argv, &connections)).await?;
        let connections = connections.lock().map(|all| all.clone()).unwrap_or_default();
        std::fs::write(result, serde_json::to_vec(&Result { connections, ..found })?).context("the result")?;
        Ok(code)
    })
}

fn fixed(level: Level) -> Probe {
    let best = InForce { level, landlock: 0, own_processes: true, limits_by: None, cgroup: None, gaps: Vec::new() };
    Probe { best, own_processes: true, obstacles: Vec::new() }
}

async fn run(
    orch: &Path,
    policy: &Policy,
    probe: &Probe,
    (argv, connections): (&[OsString], &Arc<Mutex<Vec<Connection>>>),
) -> anyhow::Result<(Result, u8)> {
    let recorded = Arc::clone(connections);
    let on_connection = Arc::new(move |connection| {
        if let Ok(mut all) = recorded.lock() {
            all.push(connection);
        }
    });
    let confinement = Confinement { policy, probe, on_connection };
    let input: OwnedFd = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let (mut session, socket) = match Session::open(&confinement, Some(input)) {
        Ok(opened) => opened,
        Err(error) => return Ok((failed(&error), 125)),
    };
    let argv: Vec<String> = argv.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let argv: Vec<OsString> = confine::confined_argv(orch, &argv);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut command = Command::new(PathBuf::from(&argv[0]));
    let mut child = command.arg0("orch").args(&argv[1..]).stdin(Stdio::from(socket)).process_group(0).spawn()?;
    drop(command);
    let in_force = session.confirm().await;
    let mut found = match &in_force {
        Err(error) => failed(error),
        Ok(in_force) => Result { in_force: Some(in_force.clone()), error: None, ended: None, connections: Vec::new() },
    };
    if in_force.is_ok() {
        session.start(&Start::default()).await?;
        match session.ended().await {
            Ok(Ended { code, limit, not_started }) => {
                found.ended = Some((code, limit.map(|limit| limit.to_string()), not_started));
            }
            Err(error) => found.error = Some(error.to_string()),
        }
    }
    #[allow(clippy::disallowed_methods, reason = "this plays orch for tests")]
    let status = child.wait()?;
    end_descendants();
    session.finish().await;
    Ok((found, u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

fn failed(error: &confine::ConfineError) -> Result {
    Result { in_force: None, error: Some(error.to_string()), ended: None, connections: Vec::new() }
}

/// Ends what the program left running, as a guard does.
fn end_descendants() {
    loop {
        let own = std::process::id().to_string();
        let mut children: Vec<String> = vec![own.clone()];
        let mut all: Vec<(String, String)> = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split(' ').collect();
            if fields.len() > 2 && fields[1] != "Z" {
                all.push((entry.file_name().to_string_lossy().into_owned(), fields[2].to_owned()));
            }
        }
        let mut index = 0;
        while let Some(parent) = children.get(index).cloned() {
            children.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid.clone()));
            index += 1;
        }
        if children.len() == 1 {
            return;
        }
        for pid in children.iter().skip(1).filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
    }
}
