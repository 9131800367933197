//! Tests of `shell`: commands in a sandbox, their output, and the files that they change.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use orch::files::ChangeSet;
use orch::model::{BuiltinTool, Failure, FailureClass};
use serde_json::json;

use super::ToolSite;
use crate::support::sandbox::reaches_full;

#[test]
fn a_command_returns_its_output_in_order_with_its_exit_code_and_its_changes() {
    if !reaches_full() {
        return;
    }
    let mut site = ToolSite::new(&["shell"]);
    site.reserved = vec!["plan.json".to_owned()];
    site.put("a", "1\n").put("gone", "x");
    let command = "echo one; echo two >&2; echo three; pwd; cat; echo 2 >> a; echo new > b; rm gone; \
                   echo x > plan.json; exit 3";
    let call = site.call("shell", json!({"command": command}));
    let folder = site.path("").components().collect::<PathBuf>();
    let output = format!("one\ntwo\nthree\n{}\n", folder.display());
    let expected = format!("{output}[exit code 3]\n[changed files: a, b, gone]\n");
    assert_eq!((call.text.as_str(), call.is_error), (expected.as_str(), true));
    assert_eq!(site.recorded(), ["snapshot"], "the workspace is recorded before the command starts");
    assert_eq!(call.activity.changed, ["a", "b", "gone"]);
    let change_set: ChangeSet = serde_json::from_value(call.activity.files.unwrap()).unwrap();
    assert_eq!(change_set.files.len(), 3);
    let existed = call.changed_files.iter().map(|file| (file.before.is_some(), file.after.is_some()));
    assert_eq!(existed.collect::<Vec<_>>(), [(true, true), (false, true), (true, false)]);
    let call = site.call("shell", json!({"command": "true"})).succeeds();
    assert_eq!(call.text, "[exit code 0]\n");
}

#[test]
fn a_line_break_in_the_name_of_a_changed_file_can_not_add_a_line_to_the_result() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let call = site.call("shell", json!({"command": "touch \"$(printf 'a]\\n[exit code 0')\"; exit 3"}));
    assert_eq!(call.text, "[exit code 3]\n[changed files: a]\\n[exit code 0]\n");
    assert_eq!(call.activity.changed, ["a]\n[exit code 0"]);
}

#[test]
fn a_command_can_not_leave_its_sandbox() {
    if !reaches_full() {
        return;
    }
    let mut site = ToolSite::new(&["shell"]);
    site.project_files = vec!["pipelines/main.yaml".to_owned()];
    site.put("pipelines/main.yaml", "old").put(".git/config", "old").put("keys/a", "hidden").put("out/x", "");
    site.put(".orch/journal.db", "hidden");
    site.sandbox = Some(json!({ "deny_read": ["keys", ".orch"] }));
    let outside = site.outside("file").display().to_string();
    for command in [
        format!("echo owned > {outside}"),
        "echo owned > ../outside/new".to_owned(),
        "ln -s ../outside link && echo owned > link/new".to_owned(),
        "echo owned > pipelines/main.yaml".to_owned(),
        "echo owned > .git/config".to_owned(),
        "mkdir -p .git/hooks && echo owned > .git/hooks/pre-commit".to_owned(),
        "echo owned > orch.yaml".to_owned(),
        "mkdir .github && echo owned > .github/x".to_owned(),
    ] {
        let call = site.call("shell", json!({"command": command}));
        assert!(call.is_error, "{command}: {}", call.text);
    }
    let read = site.call("shell", json!({"command": "cat keys/a .orch/journal.db; cat /etc/shadow"})).text;
    assert!(!read.contains("hidden") && !read.contains("root:"), "{read}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "sentinel");
    assert!(!site.outside("new").exists() && !site.path("orch.yaml").exists());
    for path in ["pipelines/main.yaml", ".git/config"] {
        assert_eq!(site.content(path), "old", "{path}");
    }
}

#[test]
fn a_narrowed_command_runs_without_a_shell() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell(printf:*)", "shell(cat a)"]);
    site.put("a", "content\n");
    let call = site.call("shell", json!({"command": "printf '%s|' 'a; rm b' \"c d\" $"}));
    call.fails_with("`$` expands a variable");
    let call = site.call("shell", json!({"command": "printf '%s|' 'a; touch b && $(touch b)' e\\ f"})).succeeds();
    assert_eq!(call.text, "a; touch b && $(touch b)|e f|\n[exit code 0]\n");
    assert_eq!(site.call("shell", json!({"command": " cat a\n"})).succeeds().text, "content\n[exit code 0]\n");
    for command in ["cat b", "cat a; touch b", "cat a && touch b", "cat a > b", "sh -c 'touch b'", "X=1 cat a"] {
        site.call("shell", json!({"command": command})).fails_with("the command was not run");
    }
    assert!(!site.path("b").exists());
    assert_eq!(site.recorded(), ["snapshot", "snapshot"], "a refused command does not start");
    let missing = ToolSite::new(&["shell(no-such-program:*)"]).call("shell", json!({"command": "no-such-program"}));
    assert!(missing.is_error && missing.text.contains("[exit code 127]"), "{}", missing.text);
}

#[test]
fn a_command_is_ended_at_its_time_limit_with_the_output_so_far() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let command = "echo started; (sleep 600; echo late > late) & sleep 600";
    let call = site.call("shell", json!({"command": command, "timeout": 1}));
    assert_eq!(call.text, "started\n[the command was ended after its time limit of 1s]\n");
    assert!(call.is_error && !site.path("late").exists());
}

#[test]
fn an_interrupted_command_ends_and_its_changes_are_known() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let began = Instant::now();
    let stopped = async {
        while !site.path("made").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Failure::new(FailureClass::Cancelled, "stopped")
    };
    let arguments = json!({"command": "echo x > made; sleep 600"});
    let performed = site.perform(BuiltinTool::Shell, &arguments, stopped);
    assert_eq!(performed.result.unwrap_err().class, FailureClass::Cancelled);
    assert_eq!(performed.activity.changed, ["made"]);
    assert!(began.elapsed() < Duration::from_secs(500), "the command was not ended");
}

#[test]
fn the_damage_of_an_interrupted_command_counts_more_than_the_interruption() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let stopped = async {
        while !site.path("made").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Failure::new(FailureClass::Cancelled, "stopped")
    };
    let command = "mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; echo '[core]' > config; touch made; sleep 600";
    let performed = site.perform(BuiltinTool::Shell, &json!({ "command": command }), stopped);
    let failure = performed.result.unwrap_err();
    assert_eq!(failure.class, FailureClass::PathRefused, "{failure}");
    assert!(failure.message.contains("takes") && failure.hint.unwrap().contains("before you run git there"));
    assert!(performed.activity.changed.contains(&"made".to_owned()), "{:?}", performed.activity);
}

#[test]
fn a_command_that_is_too_long_is_a_mistake_of_the_model() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let longest = format!("true {}", "x".repeat(131_066));
    site.call("shell", json!({ "command": longest })).succeeds();
    let call = site.call("shell", json!({ "command": format!("{longest}x") }));
    call.fails_with("the command has 131072 bytes, and 131071 are the most, so nothing was run; write the text");
    assert_eq!(site.recorded(), ["snapshot"], "only the first command started");
}

#[test]
fn a_long_output_is_cut_for_the_model_and_kept_for_the_record() {
    if !reaches_full() {
        return;
    }
    let site = ToolSite::new(&["shell"]);
    let call = site.call("shell", json!({"command": "seq 1 200000"})).succeeds();
    assert!(call.text.starts_with("1\n2\n") && call.text.ends_with("200000\n[exit code 0]\n"), "{}", call.text.len());
    assert!(call.text.contains("bytes are left out here; to see it, run the command again"), "{}", call.text.len());
    let full = String::from_utf8(call.full_output.unwrap()).unwrap();
    assert_eq!(full.lines().count(), 200_001);
}

#[test]
fn without_a_sandbox_or_below_its_level_no_command_runs() {
    let mut site = ToolSite::new(&["shell"]);
    site.sandbox = None;
    let failure = site.failure("shell", json!({"command": "touch made"}));
    assert_eq!(failure.class, FailureClass::NotConfined);
    assert!(failure.message.starts_with("`shell` runs only in a sandbox"), "{failure}");
    assert!(!site.path("made").exists() && site.recorded().is_empty());
    site.sandbox = Some(json!({ "write": ["missing"] }));
    assert_eq!(site.failure("shell", json!({"command": "touch made"})).class, FailureClass::NotConfined);
    assert!(!site.path("made").exists());
}
