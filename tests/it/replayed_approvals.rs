//! Replays that wait for an approval: the answer and the resume go on with the same recordings, and call no model.

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, RunOutput};

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];
/// The decisions, and how a template prints them.
const DECISIONS: [(&str, &str); 2] = [("approve", "True"), ("reject", "False")];

/// The decision about the question of the latest run, with a note on which the next request depends.
fn decide(orch: &Orch, decision: &str, more: &[&str]) -> RunOutput {
    let (run, _) = latest_run(orch).unwrap();
    orch.run(&[&["runs", decision, &run, "--note", "as agreed"], more].concat())
}

/// A project with a question between two requests, and the recordings of a run with this decision. No server runs any
/// more.
fn recorded_project(decision: &str) -> Orch {
    let server = answering_server(|step, message| json!({ "step": step, "heard": message.trim() }));
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: ask, approve: \"ok?\", on_reject: continue, output: verdict }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [verdict], message: \"{{{{ verdict.approved }}}} {{{{ verdict.note }}}}\", output: done }}\n"
    );
    let orch = project(&server, &steps);
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(3);
    decide(&orch, decision, &[]).exits(0);
    let (run, _) = latest_run(&orch).unwrap();
    orch.run(&["pipeline", "resume", &run, "--record", "recordings"]).exits(0);
    assert_eq!(server.requests().len(), 2);
    orch
}

/// Starts a replay in another workspace. It waits for the decision.
fn start_replay(orch: &Orch) {
    orch.run(&[&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat()).exits(3);
}

#[test]
fn a_replay_continues_after_a_decision_without_a_terminal() {
    for (decision, approved) in DECISIONS {
        let orch = recorded_project(decision);
        for resumes_at_once in [true, false] {
            start_replay(&orch);
            if resumes_at_once {
                decide(&orch, decision, &["--resume"]).exits(0);
            } else {
                decide(&orch, decision, &[]).exits(0).says("continue with `orch pipeline resume");
                orch.run(&["pipeline", "resume", "--dry-run"]).exits(0);
                orch.run(&["pipeline", "resume"]).exits(0);
            }
            let done = orch.json("second/done.json");
            assert_eq!(done["heard"], format!("{approved} as agreed"), "{decision} {resumes_at_once}: {done}");
            assert_eq!(done, orch.json("workspace/done.json"));
        }
    }
}

#[cfg(unix)]
#[test]
fn a_replay_continues_after_a_decision_on_a_terminal() {
    use std::process::Command;
    let on_terminal = |orch: &Orch, typed: &[&str], args: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
        let mut command = Command::new("python3");
        command.arg(script).args(typed).arg("--").arg(env!("CARGO_BIN_EXE_orch")).args(args);
        command.current_dir(orch.path()).env("TERM", "xterm").env("XDG_CONFIG_HOME", orch.configuration());
        RunOutput::of(&command.output().unwrap())
    };
    let replay = [&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat();
    for (decision, approved) in DECISIONS {
        let orch = recorded_project(decision);
        let typed = ["for later", if decision == "approve" { "y" } else { "n" }, "empty", "as agreed"];
        let ran = on_terminal(&orch, &typed, &replay);
        assert_eq!(ran.code, 0, "{decision}: {}", ran.stdout);
        assert_eq!(orch.json("second/done.json")["heard"], format!("{approved} as agreed"));
        // The person answers later, and the resume asks again.
        let ran = on_terminal(&orch, &["for later", "later"], &replay);
        assert_eq!(ran.code, 3, "{decision}: {}", ran.stdout);
        let ran = on_terminal(&orch, &typed, &["pipeline", "resume"]);
        assert_eq!(ran.code, 0, "{decision}: {}", ran.stdout);
        assert_eq!(orch.json("second/done.json")["heard"], format!("{approved} as agreed"));
    }
}

#[test]
fn a_replay_and_a_test_case_give_an_answer_the_recorded_name() {
    let server = answering_server(|step, message| json!({ "step": step, "heard": message.trim() }));
    let steps = format!(
        "  - {{ id: ask, approve: \"ok?\", output: verdict }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [verdict], message: \"{{{{ verdict.by }}}} said {{{{ verdict.note }}}}\", output: done }}\n"
    );
    let orch = project(&server, &steps);
    orch.run(&[&RUN[..], &["--record", "pipelines/tests/main"]].concat()).exits(3);
    decide(&orch, "approve", &["--by", "ana", "--resume"]).exits(0);
    assert_eq!(orch.json("workspace/done.json")["heard"], "ana said as agreed");
    let answers: Vec<String> = orch.files().into_iter().filter(|name| name.contains("/ask.answer.")).collect();
    assert_eq!(answers.len(), 1, "{:?}", orch.files());
    assert_eq!(orch.json(&answers[0])["answer"], json!({ "approved": true, "note": "as agreed", "by": "ana" }));

    // Another person answers the replay.
    orch.run(&[&RUN[..], &["--replay", "pipelines/tests/main", "--workspace", "second"]].concat()).exits(3);
    decide(&orch, "approve", &["--by", "bob", "--resume"]).exits(0);
    assert_eq!(orch.json("second/done.json"), orch.json("workspace/done.json"));
    assert_eq!(orch.json("second/verdict.json")["by"], "ana");
    let facts = crate::tool_loop::facts_of(&orch, "approval_answered");
    assert_eq!(facts[0]["answer"]["by"], "bob", "the journal has the person who answered");

    let case = |by: &str| {
        let answer = format!("{{ approved: true, note: as agreed{by} }}");
        let text = format!("pipeline: ../main.yaml\ninputs: {{ task: do it }}\nanswers: {{ ask: {answer} }}\n");
        orch.write("pipelines/tests/main.yaml", &text);
        orch.run(&["pipeline", "test"])
    };
    case("").exits(0);
    case(", by: ana").exits(0);
    let ran = case(", by: bob").exits(1);
    assert!(ran.stdout.contains("no_recording") && ran.stdout.contains("bob said as agreed"), "{ran:?}");
    assert_eq!(server.requests().len(), 1);
    // Without a recorded name, the name is `test`.
    std::fs::remove_file(orch.path().join(&answers[0])).unwrap();
    let ran = case("").exits(1);
    assert!(ran.stdout.contains("test said as agreed"), "{ran:?}");
}

#[test]
fn a_decision_that_was_not_recorded_fails_without_a_request() {
    let orch = recorded_project("approve");
    start_replay(&orch);
    let ran = decide(&orch, "reject", &["--resume"]).exits(1);
    assert!(ran.stderr.contains("no_recording") && ran.stderr.contains("False as agreed"), "{ran:?}");
}

#[test]
fn a_replay_finds_its_recordings_in_another_folder_only_if_it_is_named() {
    let orch = recorded_project("approve");
    start_replay(&orch);
    decide(&orch, "approve", &[]).exits(0);
    std::fs::rename(orch.path().join("recordings"), orch.path().join("moved")).unwrap();
    orch.run(&["pipeline", "resume"]).exits(2).says("name their folder with --replay");
    for (option, value) in [("--agent", "a=lab/test"), ("--record", "more")] {
        let ran = orch.run(&["pipeline", "resume", option, value]).exits(2);
        assert!(ran.stderr.contains(&format!("{option} has no effect")), "{ran:?}");
    }
    orch.run(&["pipeline", "resume", "--replay", "moved"]).exits(0);
    let facts = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let replays: Vec<Value> = facts
        .lines()
        .filter_map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let fact = ["run_started", "run_resumed"].iter().find_map(|kind| event["fact"].get(*kind))?;
            Some(fact["replay"]["folder"].clone())
        })
        .collect();
    assert_eq!(replays, [json!("recordings"), json!("moved")]);
}

#[test]
fn a_run_that_calls_models_can_not_continue_with_recordings() {
    let orch = recorded_project("approve");
    let (run, _) = latest_run(&orch).unwrap();
    let ran = orch.run(&["pipeline", "resume", &run, "--replay", "recordings"]).exits(2);
    assert!(ran.stderr.contains("calls models, so it can't continue with recordings"), "{ran:?}");
}
