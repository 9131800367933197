//! Which level is in force, what orch learns of it, and how a confined program ends with orch.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orch_confine::confine::{Level, Limits, Policy, probe};

use super::support::{BINARY, Lab, Run, User};

#[test]
fn this_machine_is_probed_and_the_level_is_reported() {
    let found = probe(Path::new(BINARY)).unwrap();
    println!("{found:?}");
    for user in User::all() {
        let lab = Lab::new(user);
        let run = lab.drive("probe", &lab.policy(), &["true"]);
        assert_eq!(run.succeeded().result["in_force"]["level"], found.level().to_string());
        assert!(run.result["in_force"]["landlock"].as_u64().is_some());
    }
}

/// The command line that runs another without user namespaces, as in a container.
fn without_namespaces(lab: &Lab, command: &Command) -> Command {
    let mut outer = lab.user.command("unshare");
    outer.args(["-U", "-r", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"]);
    // Inside, the user is root already.
    let start = command.get_args().position(|argument| argument == BINARY).map_or(0, |index| index + 1);
    outer.arg(BINARY).args(command.get_args().skip(start));
    outer.current_dir(lab.path("ws")).env("HOME", lab.path("home")).stdin(Stdio::null());
    outer
}

#[test]
fn without_user_namespaces_the_level_is_basic_and_a_higher_minimum_is_refused_with_the_way_out() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        let run = |policy: &Policy, argv: &[&str]| {
            let command = lab.command("probe", policy, argv);
            Run::new(without_namespaces(&lab, &command).output().unwrap(), &lab.path("home/result"))
        };
        let policy = Policy { min: Level::Basic, ..lab.policy() };
        let basic = run(&policy, &["sh", "-c", &format!("echo a > a; ! echo b > {}/b", lab.text("outside"))]);
        assert_eq!(basic.succeeded().result["in_force"]["level"], "basic");
        assert!(lab.path("ws/a").exists() && !lab.path("outside/b").exists());
        let refused = run(&Policy { min: Level::Full, ..policy }, &["touch", "started"]);
        let error = refused.result["error"].as_str().unwrap().to_owned();
        assert!(error.contains("creating namespaces failed: No space left on device"), "{error}");
        assert!(error.contains("sysctl user.max_user_namespaces=10000"), "{error}");
        assert!(error.contains("min: basic"), "{error}");
        assert!(!lab.path("ws/started").exists());
    }
}

#[test]
fn a_step_that_fails_is_named_and_the_program_does_not_start() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        for level in ["full", "shared", "basic"] {
            let limits = Limits { open_files: Some(u64::MAX), ..Limits::default() };
            let is_root = user == User::Root;
            let policy = if is_root && level == "basic" {
                continue;
            } else if level == "basic" {
                Policy { limits, ..lab.policy() }
            } else {
                Policy { write: vec![lab.path("missing")], ..lab.policy() }
            };
            let run = lab.drive(level, &policy, &["touch", "started"]);
            let error = run.result["error"].as_str().unwrap_or_else(|| panic!("{run:#?}"));
            let step = if level == "basic" { "setting limits failed" } else { "changing the mounts failed at" };
            assert!(error.contains(step), "{error}");
            assert!(!lab.path("ws/started").exists());
        }
    }
}

#[test]
fn a_program_that_is_missing_is_told_from_one_that_failed() {
    if !super::support::reaches_full() {
        return;
    }
    let lab = Lab::new(User::all()[0]);
    for level in ["full", "basic", "none"] {
        assert_eq!(lab.drive(level, &lab.policy(), &["no-such-program"]).result["ended"][2], 2, "{level}");
        assert_eq!(lab.drive(level, &lab.policy(), &["sh", "-c", "exit 7"]).code, Some(7));
        assert_eq!(lab.drive(level, &lab.policy(), &["sh", "-c", "kill -9 $$"]).code, Some(137));
    }
}

#[test]
fn the_program_gets_its_input_and_no_other_open_file() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        for level in ["full", "shared", "basic"] {
            let mut command = lab.command(level, &lab.policy(), &["sh", "-c", "cat; ls /proc/self/fd | tr '\\n' ' '"]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"input\n").unwrap();
            let mut text = String::new();
            child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            // The last one is the folder that `ls` reads.
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
        let lab = Lab::new(user);
        // The kernel ends what a program leaves running, even in a session of its own.
        let run = lab.drive("full", &lab.policy(), &["sh", "-c", "setsid sleep 98 & sleep 0.1"]);
        run.succeeded();
        assert!(!sleeps(98), "{user:?}");
        // A kill of the first stage, as by a guard.
        let script = "setsid sleep 97 & echo up; sleep 97";
        let mut child =
            lab.command("full", &lab.policy(), &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 3];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        wait_until(|| sleeps(97));
        let stage = children(child.id()).into_iter().next().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(stage).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        child.wait().unwrap();
        wait_until(|| !sleeps(97));
    }
}

#[track_caller]
fn wait_until(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "it took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a `sleep` with this time is running.
fn sleeps(seconds: u32) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == wanted.as_bytes()))
}

fn children(pid: u32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_term_signal_reaches_the_program_which_can_clean_up() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        for level in ["full", "basic"] {
            drop(fs::remove_file(lab.path("ws/cleaned")));
            let script = "trap 'echo a > cleaned; exit 3' TERM; echo up; while :; do sleep 0.01; done";
            let mut child =
                lab.command(level, &lab.policy(), &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
            // A guard sends the signal to all processes below it.
            let mut remaining = children(child.id());
            let mut all = Vec::new();
            while let Some(pid) = remaining.pop() {
                all.push(pid);
                remaining.extend(children(pid.unsigned_abs()));
            }
            for pid in all.into_iter().filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            assert_eq!(child.wait().unwrap().code(), Some(3), "{level}");
            assert!(lab.path("ws/cleaned").exists(), "{level}");
        }
    }
}

#[test]
fn the_program_starts_without_blocked_signals_and_without_capabilities() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        for level in ["full", "shared", "basic", "none"] {
            let run = lab.drive(
                level,
                &lab.policy(),
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
    let lab = Lab::new(User::all()[0]);
    lab.write("home/policy", &serde_json::to_string(&lab.policy()).unwrap());
    let script = format!("echo a > a; ! echo b > {}/b", lab.text("outside"));
    let mut command = lab.user.command(BINARY);
    command.args(["__confine", "--policy", &lab.text("home/policy"), "--level", "full", "--", "sh", "-c", &script]);
    assert!(command.current_dir(lab.path("ws")).status().unwrap().success());
    assert!(lab.path("ws/a").exists() && !lab.path("outside/b").exists());
    lab.write("home/policy", r#"{"network": {"hosts": ["example.org"]}}"#);
    let output =
        Command::new(BINARY).args(["__confine", "--policy", &lab.text("home/policy"), "--", "true"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a list of hosts needs orch to serve it") && output.status.code() == Some(125), "{text}");
}
