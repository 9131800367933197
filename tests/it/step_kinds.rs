//! The kinds of steps, end to end: groups, loops, commands, writes, approvals.

use serde_json::{Value, json};

use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

/// A project with one pipeline of these steps. Each prompt has the name of its file as its text.
pub(crate) fn project(server: &Server, steps: &str) -> Orch {
    let orch = Orch::empty().with(server);
    let text =
        format!("name: test\ninputs:\n  task: {{ type: string }}\nagents:\n  a: {{ model: auto }}\nsteps:\n{steps}");
    orch.write("pipelines/main.yaml", &text);
    for name in ["plan", "code", "review", "one", "two", "three"] {
        orch.write(&format!("prompts/{name}.md"), &format!("step:{name}\n"));
    }
    orch
}

/// The name of the prompt of a request.
pub(crate) fn prompt_name(request: &ReceivedRequest) -> String {
    request.system().trim().trim_start_matches("step:").to_owned()
}

/// A server whose answers depend on the name of the prompt and the message.
pub(crate) fn answering_server(answer: impl Fn(&str, &str) -> Value + Send + Sync + 'static) -> Server {
    Server::start(move |request| Reply::openai_text(&answer(&prompt_name(request), &request.last()).to_string()))
}

pub(crate) fn run(orch: &Orch, more: &[&str]) -> (RunOutput, Value) {
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--output", "json"];
    let ran = orch.run(&[&args, more].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// The names and statuses of a report's steps, in order.
pub(crate) fn statuses(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|s| format!("{} {}", s["name"].as_str().unwrap(), s["status"].as_str().unwrap())).collect()
}

pub(crate) const AGENT: &str = "agent: a, schema: any";

#[test]
fn parallel_steps_run_at_once_and_later_steps_see_their_outputs() {
    let server = answering_server(|step, _| json!({ "from": step }));
    let orch = project(
        &server,
        &format!(
            "  - id: both\n    parallel:\n      - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n      - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n  - {{ id: three, {AGENT}, prompt: three.md, inputs: [x, y], message: \"{{{{ x.from }}}}+{{{{ y.from }}}}\", output: z }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(statuses(&report), ["both completed", "both/one completed", "both/two completed", "three completed"]);
    assert!(server.requests().iter().any(|request| request.last().contains("one+two")));
    assert_eq!(orch.json("workspace/x.json"), json!({ "from": "one" }));
}

#[test]
fn for_each_returns_a_list_in_input_order_and_writes_no_file_for_an_item() {
    let server = answering_server(|step, message| match step {
        "plan" => json!({ "steps": ["c", "a", "b"] }),
        _ => json!({ "did": message.trim() }),
    });
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [plan], for_each: plan.steps, max_parallel: 2, message: \"{{{{ index }}}}:{{{{ item }}}}\", output: done }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let list = json!([{ "did": "0:c" }, { "did": "1:a" }, { "did": "2:b" }]);
    assert_eq!(orch.json("workspace/done.json"), list);
    assert_eq!(report["result"], list);
    assert_eq!(statuses(&report)[2..], ["work[0] completed", "work[1] completed", "work[2] completed"]);
    assert_eq!(orch.files().iter().filter(|name| name.starts_with("workspace/")).count(), 2, "{:?}", orch.files());
}

#[test]
fn the_list_of_for_each_marks_failed_items_and_keeps_the_others() {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "plan" => Reply::openai_text(&json!(["x", "bad", "y"]).to_string()),
        _ if request.last().contains("bad") => Reply::status(400, "{\"error\":{\"message\":\"no\"}}"),
        _ => Reply::openai_text("{\"ok\":true}"),
    });
    let steps = |on_error: &str| {
        format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [plan], for_each: plan, max_parallel: 1, message: \"{{{{ item }}}}\", output: done{on_error} }}\n"
        )
    };
    let orch = project(&server, &steps(", on_error: continue"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "a failed step fails the run: {ran:?}");
    let done = orch.json("workspace/done.json");
    assert_eq!(done[0], json!({ "index": 0, "status": "completed", "value": { "ok": true } }));
    assert_eq!((&done[1]["status"], &done[1]["error"]["class"]), (&json!("failed"), &json!("bad_request")));
    assert_eq!(done[2]["status"], "completed");
    assert_eq!(report["steps"][1]["status"], "completed", "{report:#}");

    let orch = project(&server, &steps(""));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(!orch.exists("workspace/done.json"));
    assert_eq!(statuses(&report)[1..], ["work failed", "work[0] completed", "work[1] failed"]);
    assert!(ran.stderr.contains("bad_request"), "{}", ran.stderr);
}

#[test]
fn a_loop_sees_the_previous_iteration_and_fails_after_its_maximum() {
    let server = answering_server(|step, message| match step {
        "code" => json!({ "text": message.trim() }),
        _ => json!({ "approved": false, "note": format!("not <{message}>") }),
    });
    let steps = format!(
        "  - id: fix\n    repeat:\n      until: review.approved\n      max: 2\n      steps:\n        - {{ id: code, {AGENT}, prompt: code.md, message: \"{{{{ loop.index }}}}{{% if loop.previous.review is defined %}} {{{{ loop.previous.review.note }}}}{{% endif %}}\", output: code }}\n        - {{ id: review, {AGENT}, prompt: review.md, inputs: [code], message: \"{{{{ code.text }}}}\", output: review }}\n"
    );
    let orch = project(&server, &steps);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(report["steps"][0]["error"]["class"], "max_iterations_reached", "{report:#}");
    assert_eq!(orch.json("workspace/code.json"), json!({ "text": "2 not <1>" }));

    let orch = project(&server, &steps.replace("max: 2", "max: 2\n      on_max_iterations: continue"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{report:#}");
}

#[test]
fn a_loop_stops_after_the_iteration_that_meets_its_condition() {
    let server = answering_server(|step, message| match step {
        "code" => json!({ "n": message.trim() }),
        _ => json!({ "approved": message.contains('2') }),
    });
    let orch = project(
        &server,
        &format!(
            "  - id: fix\n    repeat:\n      until: verdict.approved\n      max: 5\n      steps:\n        - {{ id: code, {AGENT}, prompt: code.md, message: \"{{{{ loop.index }}}}\", output: draft }}\n        - {{ id: review, {AGENT}, prompt: review.md, inputs: [draft], message: \"{{{{ draft.n }}}}\", output: verdict }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        statuses(&report),
        [
            "fix completed",
            "fix[0]/code completed",
            "fix[0]/review completed",
            "fix[1]/code completed",
            "fix[1]/review completed"
        ]
    );
    assert_eq!(orch.json("workspace/draft.json"), json!({ "n": "2" }));
}

#[test]
fn a_command_runs_in_the_workspace_and_its_output_is_the_artifact() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(
        &server,
        "  - id: list\n    run: \"printf '{\\\"n\\\": 3}' && touch made\"\n    output: numbers\n    schema: any\n  - id: both\n    run: [sh, -c, 'echo \"$0\"; echo oops >&2; exit 3', \"{{ numbers.n }} {{ task }}\"]\n    inputs: [numbers]\n    expect: { exit_code: [3] }\n    output: said\n",
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(orch.exists("workspace/made"));
    assert_eq!(report["result"], json!({ "exit_code": 3, "stdout": "3 do it\n", "stderr": "oops\n" }));
}

#[test]
fn a_failure_quotes_the_output_of_a_command_and_a_timeout_ends_its_children() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - id: tests\n    run: echo one test failed >&2; exit 2\n");
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("command_failed") && ran.stderr.contains("one test failed"), "{}", ran.stderr);

    let orch = project(&server, "  - id: slow\n    run: sleep 300 & echo $! > child; wait\n    timeout: 5s\n");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(report["steps"][0]["error"]["class"], "timeout", "{report:#}");
    let child = orch.read("workspace/child");
    let alive = std::path::Path::new("/proc").join(child.trim()).join("stat");
    let gone = std::fs::read_to_string(alive).map_or(true, |stat| stat.contains(") Z "));
    assert!(gone, "process {child} survived");
}

#[test]
fn values_in_a_shell_line_cannot_inject_commands() {
    let server = answering_server(|_, _| json!("'; touch hacked; echo \"$(touch hacked2)` touch hacked3`"));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - id: two\n    inputs: [x]\n    run: |\n      printf '%s|' {{{{ x }}}} \"{{{{ x }}}}\" '{{{{ x }}}}' \"$(printf %s {{{{ x }}}})\"\n    output: y\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let x = "'; touch hacked; echo \"$(touch hacked2)` touch hacked3`";
    assert_eq!(report["result"]["stdout"], format!("{x}|{x}|{x}|{x}|"));
    assert!(orch.files().iter().all(|file| !file.contains("hacked")), "{:?}", orch.files());
}

#[test]
fn write_puts_the_files_of_an_artifact_into_the_workspace() {
    let server = answering_server(
        |_, _| json!({ "files": [{ "path": "src/a.py", "content": "a = 1\n" }, { "path": "b.txt", "content": "é" }] }),
    );
    let orch = project(
        &server,
        &format!(
            "  - {{ id: code, {AGENT}, prompt: code.md, output: code_files }}\n  - {{ id: files, write: code_files, inputs: [code_files], output: written }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.read("workspace/src/a.py"), "a = 1\n");
    assert_eq!(report["result"]["files"][0]["path"], "src/a.py", "{report:#}");
    assert_eq!(report["result"]["files"][0]["change"], "created", "{report:#}");

    let server = answering_server(
        |_, _| json!([{ "path": "ok.txt", "content": "" }, { "path": "../out.txt", "content": "" }, { "path": "x.json", "content": "{}" }]),
    );
    let orch = project(
        &server,
        &format!(
            "  - {{ id: code, {AGENT}, prompt: code.md, output: x }}\n  - {{ id: files, write: \"x | list\", inputs: [x] }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(report["steps"][1]["error"]["class"], "path_refused");
    assert!(ran.stderr.contains("../out.txt") && ran.stderr.contains("x.json"), "{}", ran.stderr);
    assert!(!orch.exists("workspace/ok.txt") && !orch.exists("out.txt"));
}

#[test]
fn a_called_pipeline_has_its_own_inputs_and_outputs() {
    let server = answering_server(|step, message| json!({ "step": step, "said": message.trim() }));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: call, pipeline: inner.yaml, inputs: [plan], with: {{ topic: plan.step, size: 3 }} }}\n  - {{ id: two, {AGENT}, prompt: two.md, inputs: [summary], message: \"{{{{ summary.said }}}}\", output: last }}\n"
        ),
    );
    orch.write("pipelines/inner.yaml", &format!("name: inner\ninputs:\n  topic: {{ type: string }}\n  size: {{ type: integer }}\n  tone: {{ type: string, default: calm }}\nagents:\n  a: {{ model: auto }}\nsteps:\n  - {{ id: think, {AGENT}, prompt: one.md, message: \"{{{{ topic }}}} {{{{ size }}}} {{{{ tone }}}}\", output: thought }}\noutputs:\n  summary: thought\n"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report["result"], json!({ "step": "two", "said": "plan 3 calm" }));
    assert_eq!(statuses(&report), ["plan completed", "call completed", "call/think completed", "two completed"]);
    assert!(!orch.exists("workspace/thought.json"), "local to the called pipeline");
}

#[test]
fn finally_runs_after_success_and_after_failure() {
    for (step, code) in [("exit 0", 0), ("exit 1", 1)] {
        let server = answering_server(|_, _| json!(1));
        let orch = project(
            &server,
            &format!(
                "  - {{ id: main_step, run: \"{step}\" }}\n  - {{ id: next, run: \"true\" }}\nfinally:\n  - {{ id: tidy, run: \"echo {{{{ steps.main_step.status }}}} > tidied\" }}\n"
            ),
        );
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, code, "{ran:?}");
        let word = if code == 0 { "completed" } else { "failed" };
        assert_eq!(orch.read("workspace/tidied").trim(), word, "{report:#}");
    }
}

#[test]
fn an_approval_suspends_the_run_until_another_process_answers() {
    let server = answering_server(|_, message| json!({ "heard": message.trim() }));
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - id: ask\n    inputs: [x]\n    approve: \"Use {{{{ x.heard }}}}?\"\n    on_reject: continue\n    output: verdict\n  - {{ id: two, {AGENT}, prompt: two.md, inputs: [verdict], message: \"{{{{ verdict.approved }}}} {{{{ verdict.note }}}}\", output: y }}\n"
    );
    for (word, said) in [("approve", "True fine"), ("reject", "False fine")] {
        let orch = project(&server, &steps);
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert_eq!(report["status"], "waiting");
        assert_eq!(statuses(&report), ["one completed", "ask waiting", "two pending"]);
        let run_id = report["run"].as_str().unwrap().to_owned();
        assert!(ran.stderr.contains(&format!("orch runs approve {run_id}")), "{}", ran.stderr);
        orch.run(&["runs", "show", &run_id]).exits(0);
        // Without an answer, the step still waits after a resume.
        let ran = orch.run(&["pipeline", "resume", &run_id, "--output", "json"]).exits(3);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(statuses(&report), ["one completed", "ask waiting", "two pending"]);
        assert!(report["steps"][1]["question"].as_str().unwrap().starts_with("Use "), "{report:#}");
        let before = server.requests().len();
        orch.run(&["runs", word, &run_id, "--note", "fine", "--by", "ana"]).exits(0).says("orch pipeline resume");
        orch.run(&["runs", word, &run_id]).exits(2).says("was answered by ana before");
        let ran = orch.run(&["pipeline", "resume", &run_id, "--output", "json"]).exits(0);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["result"]["heard"], said, "{report:#}");
        assert_eq!(server.requests().len(), before + 1, "only the last step is asked");
        assert_eq!(
            orch.json("workspace/verdict.json"),
            json!({ "approved": word == "approve", "note": "fine", "by": "ana" })
        );
    }
}

#[test]
fn a_rejection_fails_the_step_and_a_late_answer_is_refused_as_a_timeout() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: ask, approve: \"Go on with {{ task }}?\", timeout: 1h }\n");
    let (_, report) = run(&orch, &[]);
    let run_id = report["run"].as_str().unwrap().to_owned();
    orch.run(&["runs", "reject", &run_id, "ask", "--note", "too risky", "--resume"])
        .exits(1)
        .says("too risky")
        .says("rejected");

    let orch = project(&server, "  - { id: ask, approve: \"Go on?\", timeout: 1s }\n");
    let (_, report) = run(&orch, &[]);
    let run_id = report["run"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    orch.run(&["runs", "approve", &run_id]).exits(2).says("over");
    orch.run(&["pipeline", "resume", &run_id]).exits(1).says("approval_timeout");
}

#[test]
fn a_resume_does_not_repeat_calls_that_completed_inside_groups() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let flag = failing.clone();
    let server = Server::start(move |request| match prompt_name(request).as_str() {
        "plan" => Reply::openai_text("[1, 2, 3]"),
        "review" if flag.load(std::sync::atomic::Ordering::SeqCst) => {
            Reply::status(400, "{\"error\":{\"message\":\"no\"}}")
        }
        step => Reply::openai_text(&json!({ "step": step }).to_string()),
    });
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - id: work\n    for_each: plan\n    inputs: [plan]\n    max_parallel: 1\n    output: all\n    steps:\n      - {{ id: code, {AGENT}, prompt: code.md, output: draft }}\n      - {{ id: note, run: \"echo {{{{ index }}}} >> log\" }}\n  - id: again\n    repeat:\n      max: 2\n      steps:\n        - {{ id: three, {AGENT}, prompt: three.md, message: \"{{{{ loop.index }}}}\", output: z }}\n  - {{ id: review, {AGENT}, prompt: review.md, output: verdict }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(orch.json("workspace/all.json")[2], json!({ "draft": { "step": "code" } }));
    let before = server.requests().len();
    failing.store(false, std::sync::atomic::Ordering::SeqCst);
    let ran = orch.run(&["pipeline", "resume", report["run"].as_str().unwrap(), "--output", "json"]).exits(0);
    assert_eq!(server.requests().len(), before + 1, "{}", ran.stderr);
    assert_eq!(orch.read("workspace/log"), "0\n1\n2\n", "commands are not run again");
}

#[test]
fn after_a_failure_calls_in_flight_are_kept_and_no_new_call_begins() {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "one" => Reply::status(400, "{\"error\":{\"message\":\"no\"}}"),
        "two" => Reply::openai_text("{\"slow\":true}").delay(std::time::Duration::from_millis(600)),
        _ => Reply::openai_text("{}"),
    });
    let orch = project(
        &server,
        &format!(
            "  - id: both\n    parallel:\n      - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n      - id: line\n        steps:\n          - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n          - {{ id: three, {AGENT}, prompt: three.md, output: z }}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let asked: Vec<String> = server.requests().iter().map(prompt_name).collect();
    assert!(!asked.contains(&"three".to_owned()), "{asked:?}");
    assert!(statuses(&report).contains(&"both/line/two completed".to_owned()), "{report:#}");
    assert_eq!(orch.json("workspace/y.json"), json!({ "slow": true }));
}
