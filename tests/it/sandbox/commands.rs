//! Tests of the sandboxes of commands: the files that a command can change and read, the hosts that it can connect to,
//! and its end.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{command_project, project_with, reaches_full, recorded_sandbox, run_command, run_with_report, stdout_of};
use crate::support::{Orch, Reply, RunOutput, Server};

#[test]
fn a_command_changes_the_workspace_and_nothing_else() {
    if !reaches_full() {
        return;
    }
    let line = "echo in > in.txt; echo out > ../out.txt || echo refused; touch ../pipelines/main.yaml || echo refused; \
                echo tmp > $TMPDIR/t && cat $TMPDIR/t; cat ../given.txt";
    let orch = command_project(line, json!({}));
    orch.write("given.txt", "given\n");
    assert_eq!(stdout_of(&orch), "refused\nrefused\ntmp\ngiven\n");
    assert_eq!(orch.read("workspace/in.txt"), "in\n");
    assert!(!orch.exists("out.txt"));
}

#[test]
fn without_write_access_a_command_cannot_change_the_workspace() {
    if !reaches_full() {
        return;
    }
    let orch = command_project("echo in > in.txt || echo refused", json!({}));
    orch.edit("pipelines/main.yaml", "\"id\":\"it\"", "\"id\":\"it\",\"access\":\"read\"");
    assert_eq!(stdout_of(&orch), "refused\n");
}

#[test]
fn a_command_can_change_only_the_folders_that_write_lists() {
    if !reaches_full() {
        return;
    }
    let line = "echo a > src/a && echo src; echo b > b || echo refused; echo c > ~/cache/c && echo cache";
    let orch = command_project(line, json!({ "write": ["src", "~/cache"] }));
    orch.write("workspace/src/x", "").write("home/cache/x", "");
    let mut command = run_command(&orch);
    let (ran, _) = run_with_report(command.env("HOME", orch.path().join("home")));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.json("workspace/said.json")["stdout"], "src\nrefused\ncache\n");
    assert_eq!(orch.read("home/cache/c"), "c\n");
}

#[test]
fn a_command_cannot_read_keys_of_the_user_and_paths_of_deny_read() {
    if !reaches_full() {
        return;
    }
    let line = "cat ~/.ssh/id ~/notes/n ~/plain; ls ~/.ssh ~/notes";
    let orch = command_project(line, json!({ "deny_read": ["~/notes"] }));
    orch.write("home/.ssh/id", "secret").write("home/notes/n", "secret").write("home/plain", "plain\n");
    let mut command = run_command(&orch);
    run_with_report(command.env("HOME", orch.path().join("home")));
    let said = orch.json("workspace/said.json");
    assert!(!said.to_string().contains("secret") && said["stdout"].as_str().unwrap().starts_with("plain\n"), "{said}");
}

#[test]
fn a_command_cannot_change_or_create_protected_paths() {
    if !reaches_full() {
        return;
    }
    let line = "for f in orch.yaml .git/config .git/hooks/pre-commit .github/x .orch/x; do \
                mkdir -p $(dirname $f) 2>/dev/null; echo x > $f || echo refused; done";
    let orch = command_project(line, json!({}));
    assert_eq!(stdout_of(&orch), "refused\n".repeat(5));
    let remaining_files: Vec<String> = std::fs::read_dir(orch.path().join("workspace"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert_eq!(remaining_files, ["said.json"], "orch removes the placeholders");
    // Protected paths that exist.
    let orch = command_project(
        "echo x >> .git/config; mv .git/hooks away; touch .git/COMMIT_EDITMSG && echo edited",
        json!({}),
    );
    orch.write("workspace/.git/config", "mine\n").write("workspace/.git/hooks/post-commit", "mine\n");
    assert_eq!(stdout_of(&orch), "edited\n");
    assert_eq!(orch.read("workspace/.git/config"), "mine\n");
    assert_eq!(orch.read("workspace/.git/hooks/post-commit"), "mine\n");
}

/// Returns a shell line that requests a URL and prints the status or the error.
fn request_line(url: &str) -> String {
    format!(
        "python3 -c \"import urllib.request as u\ntry: print(u.urlopen('{url}', timeout=20).status)\nexcept Exception as e: print(type(e).__name__, getattr(e, 'code', ''))\""
    )
}

#[test]
fn a_command_connects_to_no_host_by_default_and_only_to_the_hosts_in_its_list() {
    if !reaches_full() {
        return;
    }
    let server = Server::always(Reply::status(200, "hi"));
    let host = server.url().replace("http://", "");
    let orch = command_project(&request_line(&format!("{}/", server.url())), json!({}));
    assert!(stdout_of(&orch).starts_with("URLError"), "{}", orch.read("workspace/said.json"));
    assert!(server.requests().is_empty());

    let both = format!("{}; {}", request_line(&format!("{}/", server.url())), request_line("http://other.invalid/"));
    let orch = command_project(&both, json!({ "network": [host] }));
    assert_eq!(stdout_of(&orch), "200\nHTTPError 403\n");
    assert_eq!(server.requests().len(), 1);
    let sandbox = recorded_sandbox(&orch);
    let connections = sandbox["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2, "{sandbox:#}");
    assert!(connections[0]["received"].as_u64() > Some(10) && connections[0]["refused"].is_null(), "{sandbox:#}");
    assert_eq!((&connections[1]["host"], &connections[1]["port"]), (&json!("other.invalid"), &json!(80)));
    assert!(connections[1]["refused"].as_str().unwrap().contains("does not list `other.invalid`"), "{sandbox:#}");

    let orch = command_project(&request_line(&format!("{}/", server.url())), json!({ "network": "all" }));
    assert_eq!(stdout_of(&orch), "200\n");
}

#[test]
fn servers_and_clients_on_the_loopback_of_a_command_reach_each_other() {
    if !reaches_full() {
        return;
    }
    let line = "python3 -m http.server 8765 --bind 127.0.0.1 2> /dev/null & \
                for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.3; python3 -c \
                \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8765/').status)\" 2> /dev/null && break; done; \
                kill %1 2> /dev/null; true";
    let orch = command_project(line, json!({}));
    assert_eq!(stdout_of(&orch), "200\n");
}

#[test]
fn the_failure_of_a_command_at_a_limit_names_the_limit() {
    for (line, limits, expected_text) in [
        ("while :; do :; done", json!({ "cpu_time": "1s" }), "its limit of 1 s of processor time"),
        ("head -c 3000000 /dev/zero > big", json!({ "file_size": "1MiB" }), "its limit of 1 MiB in one file"),
        (
            "python3 -c \"f = [open('/dev/null') for _ in range(100)]\"",
            json!({ "open_files": 30 }),
            "probably reached its limit of 30 open files",
        ),
    ] {
        // Every level enforces the limits, so this test works on every machine.
        let orch = command_project(line, json!({ "min": "none", "limits": limits }));
        orch.edit("pipelines/main.yaml", "\"expect\":{\"exit_code\":[]},", "");
        let (ran, report) = run_with_report(&mut run_command(&orch));
        let error = &report["steps"][0]["error"];
        assert_eq!((ran.code, &error["class"]), (1, &json!("sandbox_limit")), "{report:#}");
        assert!(error["message"].as_str().unwrap().contains(expected_text), "{report:#}");
        assert!(error["hint"].as_str().unwrap().contains("under `limits` of the sandbox"), "{report:#}");
    }
}

#[test]
fn if_the_sandbox_may_be_the_cause_of_a_failure_the_hint_says_so() {
    if !reaches_full() {
        return;
    }
    for (line, mentions_sandbox) in [("echo x > /etc/x", true), ("echo no >&2; exit 1", false)] {
        let orch = command_project(line, json!({}));
        orch.edit("pipelines/main.yaml", "\"expect\":{\"exit_code\":[]},", "");
        let (ran, report) = run_with_report(&mut run_command(&orch));
        let error = &report["steps"][0]["error"];
        assert_eq!((ran.code, &error["class"]), (1, &json!("command_failed")), "{report:#}");
        let hint = error["hint"].as_str().unwrap();
        assert_eq!(hint.contains("its sandbox may be the cause"), mentions_sandbox, "{hint}");
    }
}

#[test]
fn a_missing_program_has_the_same_class_as_without_a_sandbox() {
    let orch =
        project_with(&json!({}), &json!([{ "id": "it", "run": ["no-such-program"], "sandbox": { "min": "none" } }]));
    let (ran, report) = run_with_report(&mut run_command(&orch));
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("not_installed")), "{report:#}");
    assert!(error["message"].as_str().unwrap().contains("`no-such-program`"), "{report:#}");
}

/// The number of processes that run `sleep` with this time.
fn count_sleep_processes(seconds: u32) -> usize {
    let command_line = format!("sleep\0{seconds}\0");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|text| text == command_line.as_bytes()))
        .count()
}

#[test]
fn a_confined_command_that_takes_too_long_ends_with_every_process() {
    let orch = command_project("setsid sleep 39417 & touch begun; sleep 39417", json!({ "min": "none" }));
    orch.edit("pipelines/main.yaml", "\"id\":\"it\"", "\"id\":\"it\",\"timeout\":\"2s\"");
    let (ran, report) = run_with_report(&mut run_command(&orch));
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("timeout")), "{report:#}");
    assert!(orch.exists("workspace/begun"));
    assert_eq!(count_sleep_processes(39417), 0);
}

fn wait_until(event: &str, has_happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !has_happened() {
        assert!(start.elapsed() < Duration::from_mins(1), "timeout: {event}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_next_run_removes_the_placeholders_that_a_killed_orch_left() {
    if !reaches_full() {
        return;
    }
    let orch: Orch = command_project("touch begun; sleep 39418", json!({}));
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml"]);
    wait_until("the start of the command", || orch.exists("workspace/begun"));
    assert!(orch.exists("workspace/orch.yaml"), "orch creates a placeholder");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the command", || count_sleep_processes(39418) == 0);
    orch.edit("pipelines/main.yaml", "sleep 39418", "true");
    orch.run(&["pipeline", "resume"]).exits(0);
    for name in ["orch.yaml", ".git", ".github", ".orch"] {
        assert!(!orch.exists(&format!("workspace/{name}")), "{name}");
    }
}

#[test]
fn a_project_that_is_the_workspace_stays_usable_during_a_command_and_after_a_kill() {
    if !reaches_full() {
        return;
    }
    let orch: Orch = command_project("touch begun; sleep 39419", json!({}));
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--workspace", "."]);
    wait_until("the start of the command", || orch.exists("begun"));
    let assert_usable = || {
        let mut command = orch.command(&["pipeline", "list"]);
        let ran = RunOutput::of(&command.current_dir(orch.path().join("pipelines")).output().unwrap()).exits(0);
        assert!(ran.stdout.contains("main.yaml"), "{ran:?}");
        assert!(orch.exists("orch.yaml") && orch.exists("pipelines/orch.yaml"), "orch creates placeholders");
    };
    assert_usable();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the command", || count_sleep_processes(39419) == 0);
    assert_usable();
    orch.edit("pipelines/main.yaml", "sleep 39419", "true");
    orch.run(&["pipeline", "resume"]).exits(0);
    for name in ["orch.yaml", "pipelines/orch.yaml", ".git", ".github"] {
        assert!(!orch.exists(name), "{name}");
    }
}
