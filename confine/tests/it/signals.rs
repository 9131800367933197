//! Tests of the signals that a supervisor sends to a confined program and to `orch __confine`.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use orch_confine::confine::{
    AppliedSandbox, Connection, Level, Probe, ProgramEnd, SandboxOptions, SandboxSession, Start, confined_argv,
};
use rustix::process::{Pid, Signal, kill_process};

use super::support::{Fixture, Running, User, binary};

#[test]
fn a_term_signal_reaches_the_program_which_can_clean_up() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in ["full", "basic"] {
            drop(fs::remove_file(fixture.path("ws/cleaned")));
            // The shell starts no program while it waits: with `sleep` in the loop, a signal sometimes ended the shell
            // itself without its trap.
            let script = "trap 'echo a > cleaned; exit 3' TERM; echo up; while :; do :; done";
            let mut command = fixture.command(level, &fixture.policy(), &["sh", "-c", script]);
            let mut child = Running::start(command.stdout(Stdio::piped()));
            child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
            // A supervisor sends the signal to all descendants.
            for pid in child.descendants() {
                let _ = kill_process(pid, Signal::TERM);
            }
            let status = child.wait().unwrap();
            let result = fs::read_to_string(fixture.path("home/result"));
            assert_eq!(status.code(), Some(3), "{} {level} {status} {result:?}", user.name());
            assert!(fixture.path("ws/cleaned").exists(), "{level}");
        }
    }
}

/// Sends a signal to all processes of `orch __confine` after it has confined itself, and only then allows the program
/// `touch started` to start.
fn end_after_early_signal(fixture: &Fixture, level: Level, signal: Signal) -> (ProgramEnd, Option<i32>) {
    let (limits_by, cgroup, unenforced) = (None, None, Vec::new());
    let best = AppliedSandbox { level, landlock: 0, has_pid_namespace: true, limits_by, cgroup, unenforced };
    let probe = Probe { best, has_pid_namespace: true, obstacles: Vec::new() };
    let policy = fixture.policy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let on_connection = Arc::new(|_: Connection| {});
        let confinement = SandboxOptions { policy: &policy, probe: &probe, on_connection };
        let (mut session, socket) = SandboxSession::open(&confinement, None).unwrap();
        let argv = confined_argv(Path::new(binary()), &["touch", "started"].map(str::to_owned));
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(socket).current_dir(fixture.path("ws"));
        let mut confine = Running::start(&mut command);
        // Closes this process's copy of the socket of `orch __confine`.
        drop(command);
        session.confirm().await.unwrap();
        for pid in std::iter::once(Pid::from_child(&confine)).chain(confine.descendants()) {
            kill_process(pid, signal).unwrap();
        }
        session.start(&Start::default()).await.unwrap();
        let ended = session.ended().await.unwrap();
        let code = confine.wait().unwrap().code();
        session.finish().await;
        (ended, code)
    })
}

#[test]
fn a_program_does_not_start_after_a_signal_to_end_it() {
    if !super::support::reaches_full() {
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    for level in [Level::Full, Level::Basic, Level::None] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let (ended, code) = end_after_early_signal(&fixture, level, signal);
            let expected = Some(128 + signal.as_raw());
            assert_eq!((ended.code, code), (expected, expected), "{level} {signal:?} {ended:?}");
            assert!(!fixture.path("ws/started").exists(), "{level} {signal:?}");
        }
    }
}
