//! Which results a resume keeps, which steps run again, and how orch explains it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::step_kinds::{answering_server, project, prompt_name, run};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

/// plan → code → review; the review can be made to fail.
fn three_step_project(server: &Server) -> Orch {
    project(
        server,
        &format!(
            "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: code, {AGENT}, prompt: code.md, inputs: [plan], output: code }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [code], output: review }}\n"
        ),
    )
}

fn requested_prompts(server: &Server) -> Vec<String> {
    server.requests().iter().map(prompt_name).collect()
}

/// The lines of `resume --dry-run`, with single spaces between the columns.
fn dry_run_lines(orch: &Orch, run: &str, more: &[&str]) -> Vec<String> {
    let ran = orch.run(&[&["pipeline", "resume", run, "--dry-run"], more].concat()).exits(0);
    ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_dry_run_explains_for_each_step_whether_it_is_kept_and_why() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = three_step_project(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    assert_eq!(dry_run_lines(&orch, &id, &[]), ["reuse plan", "reuse code", "reuse review"]);

    orch.edit("prompts/code.md", "step:code", "step:code\nBe brief.");
    assert_eq!(
        dry_run_lines(&orch, &id, &[]),
        ["reuse plan", "run code prompt code.md changed", "maybe_run review input code may change"]
    );
    assert_eq!(dry_run_lines(&orch, &id, &["--from", "plan"])[0], "run plan requested with --from");
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, temperature: 0.5");
    assert!(
        dry_run_lines(&orch, &id, &[])[0].contains("run plan parameters changed"),
        "{:?}",
        dry_run_lines(&orch, &id, &[])
    );
    assert_eq!(server.requests().len(), 3, "a rehearsal asks nothing");
}

#[test]
fn a_changed_schema_is_applied_to_the_recorded_output_of_a_command() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let command = "echo run >> log.txt; echo three";
    let orch = project(&server, &format!("  - {{ id: count, run: \"{command}\", output: count, schema: any }}\n"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("no_json")), "{ran:?}");
    orch.edit("pipelines/main.yaml", "schema: any", "schema: text");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(
        (orch.read("workspace/count.md").as_str(), orch.read("workspace/log.txt").as_str()),
        ("three\n", "run\n")
    );
}

#[test]
fn a_step_of_a_called_pipeline_may_run_if_an_input_of_the_call_may_change() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let call = "{ id: call, pipeline: inner.yaml, inputs: [plan], with: { plan: plan } }";
    let plan = format!("{{ id: plan, {AGENT}, prompt: plan.md, output: plan }}");
    let orch = project(&server, &format!("  - {plan}\n  - {call}\n"));
    let think = format!("{{ id: think, {AGENT}, prompt: one.md, message: \"{{{{ plan.step }}}}\", output: thought }}");
    orch.write(
        "pipelines/inner.yaml",
        &format!(
            "name: inner\ninputs: {{ plan: {{ type: object }} }}\nagents: {{ a: {{ model: auto }} }}\nsteps:\n  - {think}\n"
        ),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    assert_eq!(dry_run_lines(&orch, &id, &[]), ["reuse plan", "reuse call/think"]);
    orch.edit("prompts/plan.md", "step:plan", "step:plan\nBe brief.");
    assert_eq!(
        dry_run_lines(&orch, &id, &[]),
        ["run plan prompt plan.md changed", "maybe_run call/think input plan may change"]
    );
}

#[test]
fn from_repeats_one_step_and_those_whose_inputs_it_changes() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = answering_server(move |step, _| match step {
        "code" => json!({ "n": count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(1) }),
        step => json!({ "step": step }),
    });
    let orch = three_step_project(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    orch.run(&["pipeline", "resume", &id, "--from", "code"]).exits(0).says("requested with --from");
    assert_eq!(requested_prompts(&server), ["plan", "code", "review", "code", "review"]);
    // The output is the same, so the later step is kept.
    orch.run(&["pipeline", "resume", &id, "--from", "code"]).exits(0);
    assert_eq!(requested_prompts(&server)[5..], ["code"]);
    orch.run(&["pipeline", "resume", &id, "--from", "cod"]).exits(2).says("did you mean `code`?");
}

#[test]
fn wrapping_steps_into_a_group_and_inserting_others_repeats_nothing() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = three_step_project(&server);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap().to_owned();
    let text = orch.read("pipelines/main.yaml");
    let (head, steps) = text.split_once("steps:\n").unwrap();
    let inner: String = steps.lines().map(|line| format!("    {line}\n")).collect();
    let first = format!("  - {{ id: one, {AGENT}, prompt: one.md, output: extra }}\n");
    orch.write("pipelines/main.yaml", &format!("{head}steps:\n{first}  - id: wrapped\n    steps:\n{inner}"));
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(requested_prompts(&server), ["plan", "code", "review", "one"]);
}

#[test]
fn reuse_takes_results_of_identical_requests_from_another_run() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = three_step_project(&server);
    run(&orch, &[]);
    let (ran, report) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, server.requests().len()), (0, 3), "{ran:?}");
    assert_eq!(report["result"], json!({ "step": "review" }));
    orch.edit("prompts/review.md", "step:review", "step:review\nBe strict.");
    let (_, report) = run(&orch, &["--reuse"]);
    assert_eq!(server.requests().len(), 4, "{report:#}");
    // The new run has its own results: it resumes without a request.
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    assert_eq!(server.requests().len(), 4);
    run(&orch, &[]);
    assert_eq!(server.requests().len(), 7, "not unless it is wanted");
}

#[test]
fn a_step_that_sees_the_workspace_runs_again_after_a_repeated_write() {
    let server = answering_server(|_, _| json!(1));
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
fn a_recorded_reply_is_decoded_again_before_any_request() {
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
fn a_reply_after_from_is_decoded_again_before_any_request() {
    let server = Server::start(|_| Reply::openai_text("{\"n\": 3}"));
    let orch = project(&server, "  - { id: one, agent: a, prompt: one.md, output: x, re_ask: 0 }\n");
    let schema =
        |least: u32| json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": least } } });
    orch.write("schemas/x.schema.json", &schema(5).to_string());
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap();
    orch.run(&["pipeline", "resume", id, "--from", "one"]).exits(1);
    assert_eq!(server.requests().len(), 2);
    orch.write("schemas/x.schema.json", &schema(2).to_string());
    orch.run(&["pipeline", "resume", id]).exits(0);
    assert_eq!(server.requests().len(), 2, "the reply to the request of --from fits now");
}

#[test]
fn an_accepted_edit_is_kept_when_the_conditions_change_and_change_back() {
    let server = answering_server(|_, _| json!({ "n": 3 }));
    let steps = |most: u32| {
        format!(
            "  - {{ id: one, {AGENT}, prompt: one.md, output: x, accept: [{{ that: \"x.n < {most}\", else: smaller }}] }}\n  - {{ id: two, run: [touch, ran], inputs: [x] }}\n"
        )
    };
    let orch = project(&server, &steps(9));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    let resumed = |from: u32, to: u32| {
        orch.edit("pipelines/main.yaml", &format!("x.n < {from}"), &format!("x.n < {to}"));
        orch.run(&["pipeline", "resume", id]).exits(0)
    };
    resumed(9, 8);
    orch.write("workspace/x.json", "{ \"n\": 4 }");
    orch.run(&["pipeline", "resume", id, "--accept-changed"]).exits(0);
    for (from, to) in [(8, 9), (9, 7)] {
        resumed(from, to);
        assert_eq!(orch.json("workspace/x.json"), json!({ "n": 4 }), "the edit is kept");
    }
    // If the conditions no longer allow the edit, the recorded reply replaces it.
    resumed(7, 4);
    assert_eq!(orch.json("workspace/x.json"), json!({ "n": 3 }));
    assert_eq!(server.requests().len(), 1, "nothing is asked again");
}

#[test]
fn an_edited_list_is_accepted_when_each_item_fits() {
    let server = answering_server(|step, _| if step == "plan" { json!([1, 2]) } else { json!({ "n": 3 }) });
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

#[test]
fn a_step_after_a_group_sees_the_writes_of_its_steps() {
    let server = answering_server(|_, _| json!(1));
    let steps = "  - id: both\n    parallel:\n      - { id: one, run: echo 1 > f }\n      - { id: two, run: \"true\", access: read }\n  - { id: look, run: cat f, access: read, output: seen }\n";
    let orch = project(&server, steps);
    run(&orch, &[]).0.exits(0);
    orch.edit("pipelines/main.yaml", "echo 1", "echo 2");
    let id = latest_run(&orch).unwrap().0;
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(orch.json("workspace/seen.json")["stdout"], "2\n");
    // After the change back, the file of the first session no longer exists, so the steps run again.
    orch.edit("pipelines/main.yaml", "echo 2", "echo 1");
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(orch.json("workspace/seen.json")["stdout"], "1\n");
    assert_eq!(orch.read("workspace/f"), "1\n");
}

#[test]
fn an_approval_of_one_item_does_not_apply_to_another_item() {
    let server = answering_server(|_, _| json!(1));
    let steps = "  - id: each\n    for_each: \"['a']\"\n    max_parallel: 1\n    steps:\n      - { id: ok, approve: \"deploy this one?\" }\n      - { id: go, run: \"echo {{ item }} >> done\" }\n";
    let orch = project(&server, steps);
    run(&orch, &[]).0.exits(3);
    let id = latest_run(&orch).unwrap().0;
    orch.run(&["runs", "approve", &id, "--resume"]).exits(0);
    orch.edit("pipelines/main.yaml", "['a']", "['prod', 'a']");
    orch.run(&["pipeline", "resume", &id]).exits(3);
    assert_eq!(orch.read("workspace/done"), "a\n", "nobody said yes to the other item");
}

#[test]
fn a_budget_from_the_command_line_applies_to_a_resume() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(
        &server,
        &format!(
            "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
        ),
    );
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    let (ran, _) = run(&orch, &["--budget", "tokens=120"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    orch.run(&["pipeline", "resume"]).exits(4);
    // The suggested limit has room for the next call.
    let mut ran = ran;
    for _ in 0..3 {
        let (_, suggested) = ran.stderr.split_once("--budget tokens=").unwrap();
        let suggested: u64 = suggested.split('`').next().unwrap().parse().unwrap();
        assert!((121..1000).contains(&suggested), "{}", ran.stderr);
        ran = orch.run(&["pipeline", "resume", "--budget", &format!("tokens={suggested}")]);
        if ran.code == 0 {
            break;
        }
    }
    ran.exits(0);
}

#[test]
fn steps_with_the_same_request_keep_their_own_replies_under_another_schema() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = answering_server(move |_, _| json!(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
    let steps = "  - { id: votes, agent: a, schema: any, prompt: one.md, for_each: \"[1, 2, 3]\", max_parallel: 1, message: vote, output: votes }\n";
    let orch = project(&server, steps);
    run(&orch, &[]).0.exits(0);
    let before = orch.json("workspace/votes.json");
    orch.write("schemas/votes.schema.json", "{ \"type\": \"integer\" }");
    orch.edit("pipelines/main.yaml", "schema: any, ", "");
    let id = latest_run(&orch).unwrap().0;
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!((server.requests().len(), orch.json("workspace/votes.json")), (3, before));
}

#[test]
fn a_renamed_step_runs_again_with_from() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    run(&orch, &[]).0.exits(0);
    orch.edit("pipelines/main.yaml", "id: one", "id: first");
    let id = latest_run(&orch).unwrap().0;
    orch.run(&["pipeline", "resume", &id, "--from", "first"]).exits(0);
    assert_eq!(server.requests().len(), 2);
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!(server.requests().len(), 2, "it ran again once");
}

#[test]
fn a_reply_of_a_killed_and_renamed_step_is_not_requested_again() {
    // The first reply is invalid; the kill comes before the re-ask ends.
    let server = Server::start(|request| match request.messages().len() {
        1 => Reply::openai_text("\"no number\""),
        _ => Reply::openai_text("7").delay(Duration::from_secs(2)),
    });
    let orch = project(&server, "  - { id: one, agent: a, prompt: one.md, output: x }\n");
    orch.write("schemas/x.schema.json", "{ \"type\": \"integer\" }");
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"]);
    while server.requests().len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    orch.edit("pipelines/main.yaml", "id: one", "id: first");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 3, "only the re-ask that was under way is made again");
}

#[test]
fn an_edit_of_an_artifact_is_kept_under_another_schema() {
    let server = answering_server(|step, _| json!({ "said": step }));
    let schema = |more: &str| json!({ "type": "object", "required": ["said"], "properties": { "said": { "type": "string" }, "more": { "type": more } } });
    let orch = project(
        &server,
        "  - { id: plan, agent: a, prompt: plan.md, output: plan }\n  - { id: code, agent: a, schema: any, prompt: code.md, inputs: [plan], output: code }\n",
    );
    // The schema is not sent, so it is no part of the request.
    orch.edit("orch.yaml", "dialect: openai,", "dialect: openai, structured_output: off,");
    orch.write("schemas/plan.schema.json", &schema("string").to_string());
    let (ran, report) = run(&orch, &[]);
    ran.exits(0);
    let id = report["run"].as_str().unwrap().to_owned();
    orch.write("workspace/plan.json", "{\"said\": \"by hand\"}");
    orch.run(&["pipeline", "resume", &id, "--accept-changed"]).exits(0);
    assert_eq!(server.requests().len(), 3);
    orch.write("schemas/plan.schema.json", &schema("number").to_string());
    let ran = orch.run(&["pipeline", "resume", &id, "--dry-run"]).exits(0);
    assert!(ran.stdout.contains("calls the model only if no recorded reply fits"), "{ran:?}");
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!((orch.json("workspace/plan.json"), server.requests().len()), (json!({ "said": "by hand" }), 3));
}
