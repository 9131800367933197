//! Approval questions on a real terminal.
#![cfg(unix)]

use std::process::Command;

use serde_json::json;

use crate::support::mcp::hostile_server;
use crate::support::{Orch, RunOutput};

/// A pipeline that asks a question while another step runs.
fn project_with_question() -> Orch {
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        "name: ask\nsteps:\n  - id: both\n    parallel:\n      - { id: slow, run: \"sleep 1; echo done\" }\n      - { id: first, approve: \"Go on?\", output: one }\n      - { id: second, approve: \"Really?\", output: two }\n",
    );
    orch
}

/// Runs the pipeline on a terminal; each pair of `typed` is the text to wait for and the text to type then.
fn on_terminal(orch: &Orch, typed: &[(&str, &str)]) -> RunOutput {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(typed.iter().flat_map(|(wait, keys)| [*wait, *keys]));
    command.args(["--", env!("CARGO_BIN_EXE_orch"), "pipeline", "run", "pipelines/main.yaml"]);
    let environment = orch.command(&[]);
    command.env_clear().envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    RunOutput::of(&command.current_dir(orch.path()).env("TERM", "xterm").env("USER", "ana").output().unwrap())
}

/// What the terminal showed, without the line breaks that its width requires.
fn words(ran: &RunOutput) -> String {
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn questions_on_a_terminal_are_asked_one_at_a_time() {
    let orch = project_with_question();
    let ran = on_terminal(&orch, &[("for later", "y"), ("empty", "fine"), ("for later", "yes"), ("empty", "")]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let verdicts = [orch.json("workspace/one.json"), orch.json("workspace/two.json")];
    assert!(verdicts.contains(&json!({ "approved": true, "note": "fine", "by": "ana" })), "{verdicts:?}");
    assert!(verdicts.contains(&json!({ "approved": true, "note": "", "by": "ana" })), "{verdicts:?}");
}

#[test]
fn a_question_of_a_call_whose_time_is_up_is_withdrawn_and_takes_no_input() {
    let orch = Orch::empty();
    let mut command = hostile_server("plain");
    *command.last_mut().unwrap() = "../mcp.log".to_owned();
    let server = json!({ "command": command, "sandbox": { "enabled": false } });
    orch.write("orch.yaml", &json!({ "mcp": { "shop": server } }).to_string()).trust();
    let order = json!({ "id": "order", "call": "shop.order", "args": {}, "timeout": "8s", "on_error": "continue" });
    let after = json!({ "id": "after", "approve": "Go on?", "output": "verdict" });
    orch.write("pipelines/main.yaml", &json!({ "name": "ask", "steps": [order, after] }).to_string());
    // The user begins to type an answer to the first question, and answers only the second one.
    let typed = [("for later", "type n"), ("for later", "y"), ("note (may be empty)", "fine")];
    let ran = on_terminal(&orch, &typed);
    let shown = words(&ran);
    let withdrawn = "order: orch no longer waits for this answer: the step, its call or its time is over";
    for text in ["Which size?", withdrawn, "took longer than 8s"] {
        assert!(shown.contains(text), "{text}: {}", ran.stdout);
    }
    assert_eq!(orch.json("workspace/verdict.json"), json!({ "approved": true, "note": "fine", "by": "ana" }));
}

#[test]
fn what_was_typed_before_a_question_does_not_answer_it() {
    let steps = "  - { id: first, approve: Go on?, output: one }\n  - { id: second, approve: Really?, on_reject: continue, output: two }\n";
    // After the note of the first question, the user types lines, or the beginning of a line, before the second one.
    for typed_early in ["fine\ny\nsure", "type fine\ny"] {
        let orch = Orch::empty();
        orch.write("pipelines/main.yaml", &format!("name: ask\nsteps:\n{steps}"));
        let typed = [("for later", "y"), ("empty", typed_early), ("for later", "n"), ("empty", "too late")];
        let ran = on_terminal(&orch, &typed);
        assert_eq!(ran.code, 0, "{typed_early:?}: {}", ran.stdout);
        let discarded = "second asks: Really? note: orch discarded what you typed before this question approve?";
        assert!(words(&ran).contains(discarded), "{typed_early:?}: {}", ran.stdout);
        assert_eq!(ran.stdout.matches("orch discarded").count(), 1, "{}", ran.stdout);
        assert_eq!(orch.json("workspace/one.json"), json!({ "approved": true, "note": "fine", "by": "ana" }));
        assert_eq!(orch.json("workspace/two.json"), json!({ "approved": false, "note": "too late", "by": "ana" }));
    }
}

#[test]
fn an_answer_of_another_process_withdraws_the_question_on_the_terminal() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: ask\nsteps:\n  - { id: first, approve: Go on?, output: one }\n");
    let approve = format!("run '{}' runs approve --by bob --note fine", env!("CARGO_BIN_EXE_orch"));
    let ran = on_terminal(&orch, &[("for later", &approve)]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let winner = "first: the question was answered by bob (approved: fine); your answer does not count";
    assert!(words(&ran).contains(winner), "{}", ran.stdout);
    assert_eq!(orch.json("workspace/one.json"), json!({ "approved": true, "note": "fine", "by": "bob" }));
}

#[test]
fn ctrl_c_at_a_question_stops_at_once_and_later_suspends_the_run() {
    let ran = on_terminal(&project_with_question(), &[("for later", "^C")]);
    assert_eq!(ran.code, 130, "{}", ran.stdout);
    let ran = on_terminal(&project_with_question(), &[("for later", "later"), ("for later", "later")]);
    assert_eq!(ran.code, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("orch runs approve"), "{}", ran.stdout);
}

#[test]
fn a_secret_that_arrives_in_two_pieces_is_never_shown() {
    let orch = Orch::empty();
    let command = "printf tok-0123456; sleep 0.5; echo 789abcdef; sleep 0.5; echo it is done; sleep 0.5";
    orch.write("pipelines/main.yaml", &format!("name: say\nsteps:\n  - {{ id: say, run: \"{command}\" }}\n"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut terminal = Command::new("python3");
    terminal.args([script, "--", env!("CARGO_BIN_EXE_orch"), "pipeline", "run", "pipelines/main.yaml"]);
    let ran = RunOutput::of(
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
