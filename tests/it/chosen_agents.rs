//! `--agent`: one agent of a run, a plan, a resume or a test gets another model or a CLI agent.

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, prompt_name, run};
use crate::support::{Orch, Reply, Server};

const STEPS: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n  - { id: two, agent: b, schema: any, prompt: two.md, output: y, fallback: [lab/spare] }\n";

/// A project with the agents `a` and `b`.
fn two_agents(server: &Server) -> Orch {
    let orch = project(server, STEPS);
    orch.edit(
        "pipelines/main.yaml",
        "  a: { model: auto }",
        "  a: { model: auto }\n  b: { model: auto, temperature: 0.5 }",
    );
    orch
}

/// The step and the model of each request.
fn requested(server: &Server) -> Vec<(String, String)> {
    let model = |body: &Value| body["model"].as_str().unwrap().to_owned();
    server.requests().iter().map(|request| (prompt_name(request), model(&request.body))).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(step, model)| ((*step).to_owned(), (*model).to_owned())).collect()
}

#[test]
fn an_agent_is_replaced_and_the_others_stay() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    run(&orch, &["--agent", "b=lab/other"]).0.exits(0);
    assert_eq!(requested(&server), pairs(&[("one", "test"), ("two", "other")]));
    assert_eq!(server.requests()[1].body["temperature"], json!(0.5), "its options still apply");
    // It takes precedence over --model, which applies to all others.
    run(&orch, &["--agent", "b=lab/other", "--model", "lab/all"]).0.exits(0);
    assert_eq!(requested(&server)[2..], pairs(&[("one", "all"), ("two", "other")]));
}

#[test]
fn the_steps_of_a_replaced_agent_have_no_fallback() {
    let server = Server::start(|request| match request.body["model"].as_str() {
        Some("other") => Reply::status(400, r#"{"error":{"message":"not today"}}"#),
        _ => Reply::openai_text("1"),
    });
    let orch = two_agents(&server);
    run(&orch, &["--agent", "b=lab/other"]).0.exits(1);
    assert_eq!(requested(&server), pairs(&[("one", "test"), ("two", "other")]));
}

#[test]
fn warnings_about_a_dropped_fallback_are_not_printed() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    orch.edit("pipelines/main.yaml", "temperature: 0.5", "temperature: 0.5, provider_options: { top_k: 4 }");
    orch.edit("pipelines/main.yaml", "fallback: [lab/spare]", "fallback: [openai/gpt-5.1]");
    let warning = "`provider_options` of agent `b` are not for the fallback `openai/gpt-5.1`";
    let plan = ["pipeline", "plan", "pipelines/main.yaml", "--task", "x"];
    orch.run(&plan).says(warning);
    // The choice for another agent keeps the fallback.
    orch.run(&[&plan[..], &["--agent", "a=lab/other"]].concat()).says(warning);
    let choice = ["--agent", "b=lab/other"];
    let planned = orch.run(&[&plan[..], &choice].concat()).exits(0);
    let (ran, report) = run(&orch, &choice);
    let id = report["run"].as_str().unwrap();
    let resumed = orch.run(&["pipeline", "resume", id, "--from", "two"]).exits(0);
    let with_model = run(&orch, &["--model", "lab/all"]).0;
    for ran in [planned, ran.exits(0), resumed, with_model.exits(0)] {
        assert!(!ran.stderr.contains("gpt-5.1"), "{ran:?}");
    }
}

#[test]
fn an_unknown_agent_is_an_error_that_lists_the_agents() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    let with = |choice: &str| orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--agent", choice]);
    with("writer=lab/x").exits(2).says("there is no agent `writer`").says("the agents are a, b");
    with("one=lab/x").exits(2).says("`one` is a step, and the name of its agent is `a`");
    with("a").exits(2).says("write the name of the agent");
    with("a=cli:gemini").exits(2).says("orch knows the CLI agents `claude` and `codex`");
    with("a=antropic/x").exits(2).says("unknown provider `antropic`");
    let twice = ["pipeline", "plan", "pipelines/main.yaml", "--agent", "a=lab/x", "--agent", "a=lab/y"];
    orch.run(&twice).exits(2).says("--agent replaces the agent `a` twice");
    assert!(server.requests().is_empty());
}

#[test]
fn a_model_can_become_a_program_and_a_program_a_model() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    orch.edit("pipelines/main.yaml", "agent: b, schema: any", "agent: b, schema: text");
    orch.disable_unsupported_sandboxes();
    let (ran, report) = run(&orch, &["--agent", "b=command:cat"]);
    let ran = ran.exits(0).says("agent `b` is a CLI agent in this run, so these options do not apply: `temperature`");
    assert!(!ran.stderr.contains("of agent `a`"), "{ran:?}");
    assert_eq!(report["steps"][1]["model"], "command/cat", "{report:#}");
    assert_eq!(requested(&server), pairs(&[("one", "test")]));

    orch.edit("pipelines/main.yaml", "b: { model: auto, temperature: 0.5 }", "b: { command: [cat], tools: [any] }");
    let (ran, report) = run(&orch, &["--agent", "b=lab/other"]);
    ran.exits(0).says("agent `b` is a model in this run, so these options do not apply: `tools`\n");
    assert_eq!(report["steps"][1]["model"], "lab/other", "{report:#}");
}

#[test]
fn options_of_a_replaced_cli_agent_are_named() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    let cli_agent = "b: { command: [cat], tools: [any], env: [HOME], estimate: { tokens: 10 }, sandbox: {} }";
    orch.edit("pipelines/main.yaml", "b: { model: auto, temperature: 0.5 }", cli_agent);
    let plan = |choice: &str| {
        let planned = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "x", "--agent", choice]);
        planned.exits(0)
    };
    plan("b=command:cat -u")
        .says("--agent replaces the CLI agent `b`, so these options do not apply: `tools`, `estimate`, `env`\n");
    plan("b=lab/other").says(
        "agent `b` is a model in this run, so these options do not apply: `tools`, `estimate`, `env`, `sandbox`\n",
    );
    // --model replaces only models, so the CLI agent keeps its options.
    let ran = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "x", "--model", "lab/other"]).exits(0);
    assert!(!ran.stderr.contains("do not apply"), "{ran:?}");
}

#[test]
fn a_resume_uses_the_agents_of_the_run() {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "two" => Reply::status(400, r#"{"error":{"message":"not today"}}"#),
        _ => Reply::openai_text("1"),
    });
    let orch = two_agents(&server);
    let (ran, report) = run(&orch, &["--agent", "b=lab/other"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    let started = orch.run(&["runs", "events", id, "--output", "json"]).exits(0).stdout;
    let started: Value = serde_json::from_str(started.lines().next().unwrap()).unwrap();
    assert_eq!(started["fact"]["run_started"]["agents"], json!({"b": "lab/other"}));

    let quick = answering_server(|_, _| json!(2));
    let orch = orch.with(&quick);
    let resume = |more: &[&str]| orch.run(&[&["pipeline", "resume", id], more].concat());
    resume(&[]).exits(0);
    resume(&["--from", "two"]).exits(0);
    resume(&["--agent", "a=lab/new"]).exits(0);
    resume(&["--model", "lab/all", "--from", "two"]).exits(0);
    assert_eq!(
        requested(&quick),
        pairs(&[("two", "other"), ("two", "other"), ("one", "new"), ("one", "all"), ("two", "all")])
    );
    // An agent that the file no longer has keeps its choice without effect.
    resume(&["--agent", "b=lab/other"]).exits(0);
    orch.edit("pipelines/main.yaml", "  b: { model: auto, temperature: 0.5 }\n", "");
    orch.edit("pipelines/main.yaml", "agent: b", "agent: a");
    resume(&[]).exits(0).says("the pipeline no longer has the agent `b`");
}

#[test]
fn a_plan_shows_the_chosen_agent() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    let ran = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--agent", "b=lab/other"]).exits(0);
    assert!(ran.stdout.contains("lab/test") && ran.stdout.contains("lab/other"), "{ran:?}");
    assert!(server.requests().is_empty());
}

#[test]
fn a_test_case_is_recorded_with_the_chosen_agent() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    orch.write("pipelines/tests/main.yaml", "pipeline: ../main.yaml\ninputs: { task: x }\n");
    orch.run(&["pipeline", "test", "--agent", "b=lab/other"]).exits(2).says("--update");
    orch.run(&["pipeline", "test", "--update", "--agent", "b=lab/other"]).exits(0);
    assert_eq!(requested(&server), pairs(&[("one", "test"), ("two", "other")]));
    orch.run(&["pipeline", "test"]).exits(0);
    // A mistake on the command line is no failure of a test case.
    orch.write("pipelines/tests/second.yaml", "pipeline: ../main.yaml\ninputs: { task: y }\n");
    for (choice, says) in [
        ("nope=lab/x", "there is no agent `nope`"),
        ("b=", "the choice for the agent `b` is invalid: it is empty"),
        ("b=antropic/x", "unknown provider `antropic`"),
    ] {
        let ran = orch.run(&["pipeline", "test", "--update", "--agent", choice]).exits(2).says(says);
        assert!(!ran.stdout.contains("FAIL"), "{ran:?}");
    }
    let twice = ["pipeline", "test", "--update", "--agent", "b=lab/x", "--agent", "b=lab/y"];
    orch.run(&twice).exits(2).says("--agent replaces the agent `b` twice");
    assert_eq!(requested(&server).len(), 2);
}

#[test]
fn provider_options_stay_with_their_provider() {
    let server = answering_server(|_, _| json!(1));
    let orch = two_agents(&server);
    orch.edit(
        "orch.yaml",
        "providers:\n",
        &format!("providers:\n  far: {{ dialect: openai, base_url: \"{}\" }}\n", server.openai_url()),
    );
    orch.edit("pipelines/main.yaml", "b: { model: auto,", "b: { model: lab/own, provider_options: { top_k: 40 },");
    run(&orch, &["--agent", "b=lab/other"]).0.exits(0);
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--agent", "b=far/other"]).exits(0);
    ran.says("orch does not send `provider_options` of agent `b` to far/other, another provider");
    let sent: Vec<Value> = server.requests().iter().map(|request| request.body["top_k"].clone()).collect();
    assert_eq!(sent, [Value::Null, json!(40), Value::Null, Value::Null]);
}
