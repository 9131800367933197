//! Nothing that a command started outlives the run, however the run ends.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Orch;

/// A command with a child in the background and a grandchild in the foreground; each tells its process id.
const FAMILY: &str =
    "sh -c 'echo $$ > child.pid; sleep 600 & echo $! > grandchild.pid; wait' & echo $$ > own.pid; wait";

fn alive(pid: &str) -> bool {
    // A process that ended and that nobody has waited for is over too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// What `look` gives, once it gives something.
fn soon<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts the family, sends signals to orch alone, and waits until orch and all of them are gone.
fn ends_with(timeout: &str, signals: &[&str]) {
    let orch = Orch::empty();
    let step = serde_json::json!({ "id": "family", "run": FAMILY, "timeout": timeout });
    orch.write("pipelines/main.yaml", &format!("name: family\nsteps:\n  - {step}\n"));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    let mut run = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pids: Vec<String> = ["own", "child", "grandchild"]
        .map(|name| {
            let path = orch.path().join(format!("workspace/{name}.pid"));
            let read = || std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
            soon(name, || read().filter(|text| !text.is_empty()))
        })
        .into();
    for signal in signals {
        assert!(Command::new("kill").args([*signal, &run.id().to_string()]).status().unwrap().success());
    }
    run.wait().unwrap();
    for pid in pids {
        soon(&format!("process {pid} survived {signals:?}"), || (!alive(&pid)).then_some(()));
    }
}

#[test]
fn nothing_that_a_command_started_outlives_its_time_out() {
    ends_with("1s", &[]);
}

#[test]
fn nothing_that_a_command_started_outlives_a_stop() {
    ends_with("10m", &["-INT"]);
    ends_with("10m", &["-TERM"]);
    ends_with("10m", &["-HUP"]);
}

#[test]
fn nothing_that_a_command_started_outlives_a_second_stop_at_once() {
    ends_with("10m", &["-TERM", "-TERM"]);
}

#[test]
fn nothing_that_a_command_started_outlives_a_kill() {
    ends_with("10m", &["-KILL"]);
}

#[test]
fn what_a_command_removes_while_it_is_being_ended_is_nobodys_deed() {
    let orch = Orch::empty();
    let run = "trap 'sleep 0.1; rm late; exit' TERM; rm early; touch ../there; sleep 600 & wait";
    let steps = [
        serde_json::json!({ "id": "files", "write": "[{'path': 'early', 'content': '1'}, {'path': 'late', 'content': '1'}]" }),
        serde_json::json!({ "id": "tests", "run": run }),
    ];
    orch.write("pipelines/main.yaml", &format!("name: ended\nsteps: {}\n", serde_json::json!(steps)));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    let mut child = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    soon("the command", || orch.exists("there").then_some(()));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!orch.exists("workspace/late"), "it was asked to end");
    let events = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let undone: Vec<_> = events.filter_map(|event| event["fact"]["call_ended"].get("undone").cloned()).collect();
    assert_eq!(undone, [serde_json::json!(["early", "late"])]);
}
