//! Questions on a real terminal.
#![cfg(unix)]

use std::process::Command;

use serde_json::json;

use crate::support::{Orch, Ran};

/// A pipeline that asks while another step goes on.
fn asking() -> Orch {
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        "name: ask\nsteps:\n  - id: both\n    parallel:\n      - { id: slow, run: \"sleep 1; echo done\" }\n      - { id: first, approve: \"Go on?\", output: one }\n      - { id: second, approve: \"Really?\", output: two }\n",
    );
    orch
}

/// Runs the pipeline on a terminal; each pair is what to wait for and what to type then.
fn on_terminal(orch: &Orch, typed: &[(&str, &str)]) -> Ran {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(typed.iter().flat_map(|(wait, keys)| [*wait, *keys]));
    command.args(["--", env!("CARGO_BIN_EXE_orch"), "pipeline", "run", "pipelines/main.yaml"]);
    Ran::of(&command.current_dir(orch.path()).env("TERM", "xterm").env("USER", "ana").output().unwrap())
}

#[test]
fn a_person_at_the_terminal_is_asked_one_question_at_a_time() {
    let orch = asking();
    let ran = on_terminal(&orch, &[("for later", "y"), ("empty", "fine"), ("for later", "yes"), ("empty", "")]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let verdicts = [orch.json("workspace/one.json"), orch.json("workspace/two.json")];
    assert!(verdicts.contains(&json!({ "approved": true, "note": "fine", "by": "ana" })), "{verdicts:?}");
    assert!(verdicts.contains(&json!({ "approved": true, "note": "", "by": "ana" })), "{verdicts:?}");
}

#[test]
fn ctrl_c_at_a_question_ends_at_once_and_later_parks() {
    let ran = on_terminal(&asking(), &[("for later", "^C")]);
    assert_eq!(ran.code, 130, "{}", ran.stdout);
    let ran = on_terminal(&asking(), &[("for later", "later"), ("for later", "later")]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("orch runs approve"), "{}", ran.stdout);
}

#[test]
fn a_secret_that_comes_in_two_pieces_is_not_shown_while_it_comes() {
    let orch = Orch::empty();
    let command = "printf tok-0123456; sleep 0.5; echo 789abcdef; sleep 0.5; echo it is done; sleep 0.5";
    orch.write("pipelines/main.yaml", &format!("name: say\nsteps:\n  - {{ id: say, run: \"{command}\" }}\n"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut terminal = Command::new("python3");
    terminal.args([script, "--", env!("CARGO_BIN_EXE_orch"), "pipeline", "run", "pipelines/main.yaml"]);
    let ran = Ran::of(
        &terminal
            .current_dir(orch.path())
            .env("TERM", "xterm")
            .env("DEPLOY_TOKEN", "tok-0123456789abcdef")
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("0123456") && !ran.stdout.contains("789abcdef"), "{}", ran.stdout);
}
