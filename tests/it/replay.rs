//! Recording a run, replaying it offline, and test cases.

use std::time::Duration;

use serde_json::json;

use crate::step_kinds::{answering_server, project, prompt_name, run};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

fn record_run() -> (Orch, usize) {
    let server = answering_server(|step, message| json!({ "step": step, "heard": message.trim() }));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, message: \"{{{{ task }}}}\", output: plan }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [plan], for_each: \"[1, 2]\", message: \"{{{{ plan.heard }}}} {{{{ item }}}}\", output: parts }}\n  - {{ id: ask, approve: \"ok?\", on_reject: continue, output: verdict }}\n"
        ),
    );
    let (ran, _) = run(&orch, &["--record", "pipelines/tests/main"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    (orch, server.requests().len())
}

#[test]
fn a_recorded_run_is_replayed_without_any_server() {
    let (orch, asked) = record_run();
    let files: Vec<String> =
        orch.files().into_iter().filter(|name| name.starts_with("pipelines/tests/main/")).collect();
    assert_eq!((files.len(), asked), (3, 3), "{files:?}");
    let first = orch.json(files.iter().find(|name| name.contains("/plan.")).unwrap());
    assert_eq!((&first["step"], &first["model"]), (&json!("plan"), &json!("lab/test")));
    // The server does not run any more.
    let (ran, report) = run(&orch, &["--replay", "pipelines/tests/main", "--workspace", "second"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(report["steps"][1]["output"][1]["heard"], "do it 2", "{report:#}");
    assert_eq!(orch.json("second/plan.json"), orch.json("workspace/plan.json"));
}

#[test]
fn an_unrecorded_request_fails_and_shows_the_difference() {
    let (orch, _) = record_run();
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe bold.");
    let (ran, report) = run(&orch, &["--replay", "pipelines/tests/main"]);
    assert_eq!(ran.code, 1);
    assert_eq!(report["steps"][0]["error"]["class"], "no_recording");
    assert!(ran.stderr.contains("+Be bold."), "{}", ran.stderr);
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--replay", "nowhere"]).exits(2);
    assert!(ran.stderr.contains("--record"), "{}", ran.stderr);
}

#[test]
fn test_cases_pass_or_fail_and_are_reported() {
    let (orch, _) = record_run();
    orch.write(
        "pipelines/tests/main.yaml",
        "pipeline: ../main.yaml\ninputs: { task: do it }\nanswers:\n  ask: { approved: false, note: later }\nexpect:\n  steps: { plan: completed, \"work[1]\": completed }\n  assert: [\"plan.heard == 'do it'\", \"parts | length == 2\", \"verdict.note == 'later'\"]\n  files: [plan.json, parts.json]\n",
    );
    let ran = orch.run(&["pipeline", "test"]).exits(0);
    assert!(ran.stdout.contains("ok") && ran.stdout.contains("1 passed, 0 failed"), "{ran:?}");
    assert!(
        !orch.exists(".orch/locks") || orch.run(&["runs", "list"]).stdout.lines().count() == 1,
        "tests leave no run"
    );

    orch.edit("pipelines/tests/main.yaml", "parts | length == 2", "parts | length == 3");
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("FAIL") && ran.stdout.contains("`parts | length == 3` is false"), "{ran:?}");
    let ran = orch.run(&["pipeline", "test", "--format", "junit"]).exits(1);
    assert!(ran.stdout.contains("<testsuite ") && ran.stdout.contains("failures=\"1\""), "{}", ran.stdout);

    orch.edit("pipelines/tests/main.yaml", "expect:", "expct:");
    orch.run(&["pipeline", "test"]).exits(1).says("unknown key `expct`").says("did you mean `expect`?");
}

#[test]
fn a_test_case_can_be_recorded_anew() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n"));
    orch.write("pipelines/tests/first.yaml", "pipeline: ../main.yaml\ninputs: { task: do it }\n");
    orch.write("pipelines/tests/first/old.json", "{}");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    assert!(!orch.exists("pipelines/tests/first/old.json"));
    assert_eq!(server.requests().len(), 1);
    orch.run(&["pipeline", "test"]).exits(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_test_case_without_a_recording_names_the_command_that_records_it() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n"));
    orch.write("pipelines/tests/first.yaml", "pipeline: ../main.yaml\ninputs: { task: do it }\n");
    let test = || orch.run(&["pipeline", "test"]).exits(1);
    let update = "record the replies with `orch pipeline test --update pipelines/tests/first.yaml`";
    let ran = test();
    assert!(ran.stdout.contains(update) && !ran.stdout.contains("--record"), "{ran:?}");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe bold.");
    let ran = test();
    assert!(ran.stdout.contains(update) && !ran.stdout.contains("--record"), "{ran:?}");
}

#[test]
fn steps_with_the_same_request_are_replayed_with_their_own_replies() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = answering_server(move |_, _| json!(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: votes, {AGENT}, prompt: one.md, for_each: \"[1, 2, 3]\", max_parallel: 3, message: vote, output: votes }}\n"
        ),
    );
    assert_eq!(run(&orch, &["--record", "recordings"]).0.code, 0);
    assert_eq!(run(&orch, &["--replay", "recordings", "--workspace", "second"]).0.code, 0);
    assert_eq!(orch.json("second/votes.json"), orch.json("workspace/votes.json"));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn recordings_are_kept_when_recording_anew_fails() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_broken = broken.clone();
    let server = Server::start(move |_| {
        if is_broken.load(std::sync::atomic::Ordering::SeqCst) {
            Reply::status(400, "{\"error\":{\"message\":\"not today\"}}")
        } else {
            Reply::openai_text("1")
        }
    });
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    orch.write("pipelines/tests/main.yaml", "pipeline: ../main.yaml\ninputs: { task: do it }\n");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let ran = orch.run(&["pipeline", "test", "--update"]).exits(1);
    assert!(ran.stdout.contains("the recordings are unchanged"), "{ran:?}");
    orch.run(&["pipeline", "test"]).exits(0);
    assert!(!orch.files().iter().any(|name| name.contains(".orch-tmp-")), "{:?}", orch.files());
}

#[test]
fn a_test_case_has_files_and_commands_that_prepare_its_workspace() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, "  - { id: look, run: [cat, deep/given.txt, made.txt], output: seen }\n");
    orch.write("pipelines/tests/main-files/deep/given.txt", "given ");
    let case = "pipeline: ../main.yaml\ninputs: { task: do it }\nworkspace: main-files\nsetup:\n  - [sh, -c, \"printf made > made.txt\"]\nexpect:\n  assert: [\"seen.stdout == 'given made'\"]\n";
    orch.write("pipelines/tests/main.yaml", case);
    orch.run(&["pipeline", "validate"]).exits(0);
    orch.run(&["pipeline", "test"]).exits(0);
    assert!(!orch.exists("made.txt") && !orch.exists("workspace"), "{:?}", orch.files());

    orch.edit("pipelines/tests/main.yaml", "printf made > made.txt", "echo no such luck >&2; exit 3");
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("ended with exit code 3") && ran.stdout.contains("no such luck"), "{ran:?}");
    orch.edit("pipelines/tests/main.yaml", "main-files", "nowhere");
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("`workspace: nowhere` is not a folder"), "{ran:?}");
}

#[test]
fn validate_checks_test_cases_with_the_project() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, message: \"{{{{ task }}}}\", output: plan }}\n  - {{ id: ask, approve: \"ok?\", output: verdict }}\n"
        ),
    );
    let case = "pipeline: ../main.yaml\ninputs: { task: do it }\nanswers: { ask: { approved: true } }\nexpect:\n  steps: { plan: completed }\n  assert: [\"plan.step == 'plan'\"]\n";
    orch.write("pipelines/tests/main.yaml", case);
    orch.run(&["pipeline", "validate"]).exits(0).says("2 files checked");
    for (from, to, said) in [
        ("task: do it", "tsk: do it", "the pipeline has no input `tsk`"),
        ("task: do it", "tsk: do it", "the pipeline needs the input `task`"),
        ("answers: { ask", "answers: { aks", "no step `aks` asks for approval"),
        ("answers: { ask", "answers: { plan", "a step asks if it has `approve`, or if its agent has `approve_tools`"),
        ("steps: { plan", "steps: { plna", "there is no step `plna`"),
        ("plan.step ==", "plan.step =", "pipelines/tests/main.yaml:6"),
        ("../main.yaml", "../man.yaml", "the pipeline `../man.yaml` does not exist"),
        ("expect:", "expct:", "did you mean `expect`?"),
    ] {
        orch.write("pipelines/tests/main.yaml", &case.replacen(from, to, 1));
        orch.run(&["pipeline", "validate"]).exits(2).says(said);
    }
}

#[test]
fn a_test_case_answers_items_and_steps_of_called_pipelines() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(
        &server,
        "  - { id: ask, approve: \"{{ item }}?\", for_each: \"[1, 2]\", max_parallel: 1, on_reject: continue, output: verdicts }\n  - { id: call, pipeline: inner.yaml }\n",
    );
    orch.write("pipelines/inner.yaml", "name: inner\nsteps:\n  - { id: inside, approve: Go on? }\n");
    let case = "pipeline: ../main.yaml\ninputs: { task: do it }\nanswers:\n  ask: [{ approved: true, note: one }, { approved: false }]\n  inside: { approved: true }\nexpect:\n  assert: [\"verdicts[0].note == 'one'\", \"verdicts[1].note == 'one'\"]\n";
    orch.write("pipelines/tests/main.yaml", case);
    orch.run(&["pipeline", "validate"]).exits(0);
    let ran = orch.run(&["pipeline", "test"]).exits(0);
    assert!(ran.stdout.contains("1 passed, 0 failed"), "{ran:?}");
}

#[test]
fn branches_that_end_in_another_order_replay_with_the_same_result() {
    let steps = format!(
        "  - id: sides\n    parallel:\n      - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n      - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [x, y], for_each: \"[1, 2, 3]\", max_parallel: 3, message: \"{{{{ x.step }}}} {{{{ y.step }}}} {{{{ item }}}}\", output: parts }}\n"
    );
    // The delay of each answer: first in order, then in reverse order.
    let slow = |late: fn(u64) -> u64| {
        Server::start(move |request| {
            let place = match request.last().chars().last() {
                Some(c @ '1'..='3') => u64::from(c) - u64::from('0'),
                _ => {
                    if prompt_name(request) == "one" {
                        1
                    } else {
                        3
                    }
                }
            };
            let value = json!({ "step": prompt_name(request), "heard": request.last() });
            Reply::openai_text(&value.to_string()).delay(Duration::from_millis(late(place) * 40))
        })
    };
    let ended = |orch: &Orch| {
        let shown = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
        let events = shown.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events
            .filter_map(|event| Some(event["fact"]["step_completed"]["step"].as_str()?.to_owned()))
            .collect::<Vec<_>>()
    };
    let first = slow(|place| place);
    let recorded = project(&first, &steps);
    let (ran, report) = run(&recorded, &["--record", "recordings"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let other = slow(|place| 3 - place);
    let reversed = project(&other, &steps);
    assert_eq!(run(&reversed, &[]).0.code, 0);
    assert_ne!(ended(&recorded), ended(&reversed), "the branches did end in another order");
    assert_eq!(recorded.json("workspace/parts.json"), reversed.json("workspace/parts.json"));

    let (ran, replayed) = run(&recorded, &["--replay", "recordings", "--workspace", "second"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(replayed["steps"].as_array().unwrap().len(), report["steps"].as_array().unwrap().len());
    assert_eq!(recorded.json("second/parts.json"), recorded.json("workspace/parts.json"));
}

#[cfg(unix)]
#[test]
fn temporary_files_of_a_killed_update_are_removed_and_those_of_a_running_one_are_kept() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let slow = std::sync::Arc::new(AtomicBool::new(false));
    let flag = slow.clone();
    let server = Server::start(move |request| match crate::step_kinds::prompt_name(request).as_str() {
        "two" if flag.load(Ordering::SeqCst) => Reply::openai_text("2").delay(std::time::Duration::from_secs(30)),
        _ => Reply::openai_text("1"),
    });
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
    );
    let orch = project(&server, &steps);
    orch.write("pipelines/tests/main.yaml", "pipeline: ../main.yaml\ninputs: { task: do it }\n");
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    let files = orch.files();
    slow.store(true, Ordering::SeqCst);
    let mut child = orch.start(&["pipeline", "test", "--update"]);
    while server.requests().len() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    orch.run(&["pipeline", "test"]).exits(0);
    let left =
        |orch: &crate::support::Orch| orch.files().into_iter().filter(|name| name.contains(".orch-tmp-")).count();
    assert!(left(&orch) >= 2, "the recording of `one` and the lock: {:?}", orch.files());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(left(&orch) >= 2);
    orch.run(&["pipeline", "test"]).exits(0);
    assert_eq!(orch.files(), files);
}
