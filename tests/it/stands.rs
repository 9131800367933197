//! What stands on a resume, what runs again, and how it is told.

use serde_json::{Value, json};

use crate::control::{answering, asked, project, run};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

/// plan → code → review, where the review can be made to fail.
fn three(server: &Server) -> Orch {
    project(
        server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: code, {AGENT}, prompt: code.md, inputs: [plan], output: code }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [code], output: review }}\n"
        ),
    )
}

fn prompts(server: &Server) -> Vec<String> {
    server.requests().iter().map(asked).collect()
}

/// What `resume --dry-run` says, without its columns' spaces.
fn told(orch: &Orch, run: &str, more: &[&str]) -> Vec<String> {
    let ran = orch.run(&[&["pipeline", "resume", run, "--dry-run"], more].concat()).exits(0);
    ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_resume_tells_step_by_step_what_it_keeps_and_what_it_runs_and_why() {
    let server = answering(|step, _| json!({ "step": step }));
    let orch = three(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    assert_eq!(told(&orch, &id, &[]), ["keep plan", "keep code", "keep review"]);

    orch.edit("prompts/code.md", "step:code", "step:code\nBe brief.");
    assert_eq!(
        told(&orch, &id, &[]),
        ["keep plan", "run code prompt code.md changed", "maybe review input code may change"]
    );
    assert_eq!(told(&orch, &id, &["--from", "plan"])[0], "run plan asked for with --from");
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, temperature: 0.5");
    assert!(told(&orch, &id, &[])[0].contains("run plan parameters changed"), "{:?}", told(&orch, &id, &[]));
    assert_eq!(server.requests().len(), 3, "a rehearsal asks nothing");
}

#[test]
fn from_makes_one_step_stale_and_what_its_output_changes_runs() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = answering(move |step, _| match step {
        "code" => json!({ "n": count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(1) }),
        step => json!({ "step": step }),
    });
    let orch = three(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    orch.run(&["pipeline", "resume", &id, "--from", "code"]).exits(0).says("asked for with --from");
    assert_eq!(prompts(&server), ["plan", "code", "review", "code", "review"]);
    // The same bytes again: what reads them is kept.
    orch.run(&["pipeline", "resume", &id, "--from", "code"]).exits(0);
    assert_eq!(prompts(&server)[5..], ["code"]);
    orch.run(&["pipeline", "resume", &id, "--from", "cod"]).exits(2).says("did you mean `code`?");
}

#[test]
fn wrapping_steps_and_inserting_others_costs_nothing() {
    let server = answering(|step, _| json!({ "step": step }));
    let orch = three(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    let text = orch.read("pipelines/main.yaml");
    let (head, steps) = text.split_once("steps:\n").unwrap();
    let inner: String = steps.lines().map(|line| format!("    {line}\n")).collect();
    let first = format!("  - {{ id: one, {AGENT}, prompt: one.md, output: extra }}\n");
    orch.write("pipelines/main.yaml", &format!("{head}steps:\n{first}  - id: wrapped\n    steps:\n{inner}"));
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(prompts(&server), ["plan", "code", "review", "one"]);
}

#[test]
fn another_run_takes_over_what_was_asked_exactly_so() {
    let server = answering(|step, _| json!({ "step": step }));
    let orch = three(&server);
    run(&orch, &[]);
    let (ran, report) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, server.requests().len()), (0, 3), "{ran:?}");
    assert_eq!(report["result"], json!({ "step": "review" }));
    orch.edit("prompts/review.md", "step:review", "step:review\nBe strict.");
    let (_, report) = run(&orch, &["--reuse"]);
    assert_eq!(server.requests().len(), 4, "{report:#}");
    // A run of its own right: it resumes without asking.
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!(server.requests().len(), 4);
    run(&orch, &[]);
    assert_eq!(server.requests().len(), 7, "not unless it is wanted");
}

#[test]
fn a_step_that_sees_the_workspace_runs_again_when_a_write_before_it_did() {
    let server = answering(|_, _| json!(1));
    let orch = project(
        &server,
        "  - { id: first, run: \"echo 1 >> first.log\" }\n  - { id: look, run: \"echo 1 >> look.log\", access: read }\n  - { id: apart, run: \"echo 1 >> apart.log\", access: none }\n  - { id: last, run: \"test -f ready\" }\n",
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    orch.write("workspace/ready", "");
    orch.run(&["pipeline", "resume", &id, "--from", "first"]).exits(0);
    let lines = |name: &str| orch.read(&format!("workspace/{name}.log")).lines().count();
    assert_eq!((lines("first"), lines("look"), lines("apart")), (2, 2, 1));
}

#[test]
fn a_reply_that_was_read_otherwise_is_read_again_before_anything_is_asked() {
    let server = Server::start(|_| Reply::openai_text("{\"n\": 3}"));
    let orch = project(&server, "  - { id: one, agent: a, prompt: one.md, output: x, re_ask: 0 }\n");
    let schema =
        |least: u32| json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": least } } });
    orch.write("schemas/x.schema.json", &schema(5).to_string());
    let (_, report) = run(&orch, &[]);
    let error: &Value = &report["steps"][0]["error"]["class"];
    assert_eq!(error, "schema_mismatch", "{report:#}");
    orch.write("schemas/x.schema.json", &schema(2).to_string());
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!(server.requests().len(), 1, "the recorded reply fits now");
    orch.write("schemas/x.schema.json", &schema(4).to_string());
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(1);
    assert_eq!(server.requests().len(), 2, "no recorded reply fits");
}

#[test]
fn an_edited_list_is_accepted_when_each_item_fits() {
    let server = answering(|step, _| if step == "plan" { json!([1, 2]) } else { json!({ "n": 3 }) });
    let orch = project(
        &server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: work, agent: a, prompt: code.md, inputs: [plan], for_each: plan, output: parts, schema: part }}\n"
        ),
    );
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    orch.write("schemas/part.schema.json", &schema.to_string());
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    orch.write("workspace/parts.json", "[{ \"n\": \"x\" }]");
    orch.run(&["pipeline", "resume", id, "--accept-changed"]).exits(2).says("can't be accepted");
    orch.write("workspace/parts.json", "[{ \"n\": 4 }, { \"n\": 5 }]");
    orch.run(&["pipeline", "resume", id, "--accept-changed"]).exits(0);
    assert_eq!(orch.json("workspace/parts.json"), json!([{ "n": 4 }, { "n": 5 }]));
}
