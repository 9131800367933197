//! Tests of the levels: which level is in force, what orch learns about it, and how a confined program ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orch_confine::confine::{Level, Limits, Policy, probe};
use rustix::process::{Signal, kill_process};

use super::support::{Fixture, Run, Running, User, binary};

#[test]
fn this_machine_is_probed_and_the_level_is_reported() {
    let probe = probe(Path::new(binary())).unwrap();
    println!("{probe:?}");
    for user in User::all() {
        let fixture = Fixture::new(user);
        let run = fixture.drive("probe", &fixture.policy(), &["true"]);
        assert_eq!(run.succeeded().result["applied"]["level"], probe.level().to_string());
        assert!(run.result["applied"]["landlock"].as_u64().is_some());
    }
}

/// Wraps a command so that it runs without user namespaces, as in a container.
fn without_namespaces(fixture: &Fixture, command: &Command) -> Command {
    let mut outer = fixture.user.command("unshare");
    outer.args(["-U", "-r", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"]);
    // The command runs as root in the outer user namespace, so it needs no program that changes the user.
    let start = command.get_args().position(|argument| argument == binary()).map_or(0, |index| index + 1);
    outer.arg(binary()).args(command.get_args().skip(start));
    outer.current_dir(fixture.path("ws")).env("HOME", fixture.path("home")).stdin(Stdio::null());
    outer
}

#[test]
fn without_user_namespaces_the_level_is_basic_and_a_higher_minimum_is_an_error_with_advice() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        let run = |policy: &Policy, argv: &[&str]| {
            let command = fixture.command("probe", policy, argv);
            Run::new(without_namespaces(&fixture, &command).output().unwrap(), &fixture.path("home/result"))
        };
        let policy = Policy { min: Level::Basic, ..fixture.policy() };
        let basic = run(&policy, &["sh", "-c", &format!("echo a > a; ! echo b > {}/b", fixture.text("outside"))]);
        assert_eq!(basic.succeeded().result["applied"]["level"], "basic");
        assert!(fixture.path("ws/a").exists() && !fixture.path("outside/b").exists());
        let refused = run(&Policy { min: Level::Full, ..policy }, &["touch", "started"]);
        let error = refused.result["error"].as_str().unwrap().to_owned();
        assert!(error.contains("creating namespaces failed: No space left on device"), "{error}");
        assert!(error.contains("sysctl user.max_user_namespaces=10000"), "{error}");
        assert!(error.contains("min: basic"), "{error}");
        assert!(!fixture.path("ws/started").exists());
    }
}

#[test]
fn if_a_step_fails_the_error_names_it_and_the_program_does_not_start() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in ["full", "shared", "basic"] {
            let limits = Limits { open_files: Some(u64::MAX), ..Limits::default() };
            let is_root = user == User::Root;
            let policy = if is_root && level == "basic" {
                continue;
            } else if level == "basic" {
                Policy { limits, ..fixture.policy() }
            } else {
                Policy { write: vec![fixture.path("missing")], ..fixture.policy() }
            };
            let run = fixture.drive(level, &policy, &["touch", "started"]);
            let error = run.result["error"].as_str().unwrap_or_else(|| panic!("{run:#?}"));
            let step = if level == "basic" { "setting limits failed" } else { "changing the mounts failed at" };
            assert!(error.contains(step), "{error}");
            assert!(!fixture.path("ws/started").exists());
        }
    }
}

#[test]
fn a_missing_program_is_distinguished_from_a_failed_program() {
    if !super::support::reaches_full() {
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    for level in ["full", "basic", "none"] {
        let run = fixture.drive(level, &fixture.policy(), &["no-such-program"]);
        assert_eq!(run.result["ended"][2], 2, "{level}");
        assert_eq!(run.code, Some(127), "{level}");
        assert_eq!(fixture.drive(level, &fixture.policy(), &["sh", "-c", "exit 7"]).code, Some(7));
        assert_eq!(fixture.drive(level, &fixture.policy(), &["sh", "-c", "kill -9 $$"]).code, Some(137));
    }
}

#[test]
fn a_program_that_cannot_start_is_distinguished_from_a_missing_one() {
    if !super::support::reaches_full() {
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    fixture.write("ws/file", "");
    let file = fixture.text("ws/file");
    let refused = format!("error: `{file}` can't be started: Permission denied");
    for level in ["full", "basic", "none"] {
        let run = fixture.drive(level, &fixture.policy(), &[file.as_str()]);
        assert_eq!(run.result["ended"][2], rustix::io::Errno::ACCESS.raw_os_error(), "{level}");
        assert_eq!(run.code, Some(126), "{level}");
        // Without orch, the user sees the reason.
        for (program, code, message) in [
            ("no-such-program", 127, "error: there is no program `no-such-program`, or the interpreter in its first"),
            (file.as_str(), 126, refused.as_str()),
        ] {
            let mut command = fixture.user.command(binary());
            command.args(["__confine", "--policy", &fixture.text("home/policy"), "--level", level, "--", program]);
            let output = command.current_dir(fixture.path("ws")).stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{level} {text}");
            assert!(text.starts_with(message), "{level} {text}");
        }
    }
}

#[test]
fn the_program_gets_its_input_and_no_other_open_file() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in ["full", "shared", "basic"] {
            let mut command =
                fixture.command(level, &fixture.policy(), &["sh", "-c", "cat; ls /proc/self/fd | tr '\\n' ' '"]);
            let mut child = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
            child.stdin.take().unwrap().write_all(b"input\n").unwrap();
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            // Descriptor 3 is the folder that `ls` reads.
            assert_eq!(text, "input\n0 1 2 3 ", "{level}");
            child.wait().unwrap();
        }
    }
}

#[test]
fn all_processes_end_with_the_program_and_with_the_first_stage() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        // The kernel kills the processes that a program leaves running, even if they are in a new session.
        let run = fixture.drive("full", &fixture.policy(), &["sh", "-c", "setsid sleep 98 & sleep 0.1"]);
        run.succeeded();
        assert!(!is_sleep_running(98), "{user:?}");
        // Kill the first stage, as a supervisor does.
        let script = "setsid sleep 97 & echo up; sleep 97";
        let mut command = fixture.command("full", &fixture.policy(), &["sh", "-c", script]);
        let mut child = Running::start(command.stdout(Stdio::piped()));
        let mut line = [0; 3];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        wait_until(|| is_sleep_running(97));
        kill_process(child.descendants()[0], Signal::KILL).unwrap();
        child.wait().unwrap();
        wait_until(|| !is_sleep_running(97));
    }
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(5), "it took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a `sleep` with this duration is running.
fn is_sleep_running(seconds: u32) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == wanted.as_bytes()))
}

#[test]
fn the_program_starts_without_blocked_signals_and_without_capabilities() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in ["full", "shared", "basic", "none"] {
            let run = fixture.drive(
                level,
                &fixture.policy(),
                &["grep", "-E", "^(SigBlk|CapEff|CapPrm|CapBnd|NoNewPrivs)", "/proc/self/status"],
            );
            let value = |name: &str| {
                let line = run.stdout.lines().find(|line| line.starts_with(name)).unwrap();
                line.rsplit('\t').next().unwrap().trim_start_matches('0').to_owned()
            };
            assert_eq!(value("SigBlk"), "", "{level} {run:#?}");
            if level != "none" {
                assert_eq!([value("CapEff"), value("CapPrm"), value("NoNewPrivs")], ["", "", "1"], "{level} {run:#?}");
            }
        }
    }
}

#[test]
fn a_policy_in_a_file_confines_without_orch() {
    if !super::support::reaches_full() {
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    fixture.write("home/policy", &serde_json::to_string(&fixture.policy()).unwrap());
    let script = format!("echo a > a; ! echo b > {}/b", fixture.text("outside"));
    let mut command = fixture.user.command(binary());
    command.args(["__confine", "--policy", &fixture.text("home/policy"), "--level", "full", "--", "sh", "-c", &script]);
    assert!(command.current_dir(fixture.path("ws")).status().unwrap().success());
    assert!(fixture.path("ws/a").exists() && !fixture.path("outside/b").exists());
    fixture.write("home/policy", r#"{"network": {"hosts": ["example.org"]}}"#);
    let output = Command::new(binary())
        .args(["__confine", "--policy", &fixture.text("home/policy"), "--", "true"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a list of hosts needs orch to serve it") && output.status.code() == Some(125), "{text}");
}
