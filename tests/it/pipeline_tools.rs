//! Pipelines that models call as tools.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};
use crate::tool_loop::{
    RUN, ScriptedTurn, answer, calls, facts_of, last_results, scripted_reply, tool_project, wait_until,
};

/// What the model of the called pipeline replies.
const PLAN: &str = r#"{"title": "wings"}"#;

/// The called pipeline: a model designs something, and a tool writes it into a file.
fn design_pipeline() -> Value {
    json!({
        "name": "design",
        "description": "Designs something.",
        "inputs": { "topic": { "type": "string" }, "depth": { "type": "integer", "default": 1 } },
        "agents": { "designer": { "model": "auto", "max_output_tokens": 2000 } },
        "steps": [
            {
                "id": "think", "agent": "designer", "prompt": "design.md", "message": "{{ topic }} {{ depth }}",
                "output": "plan", "schema": "any",
            },
            {
                "id": "note", "inputs": ["plan"], "call": "write",
                "args": { "path": "{{ topic }}.txt", "content": "{{ plan.title }}" },
            },
        ],
        "outputs": { "plan": "plan" },
    })
}

fn is_of_designer(request: &ReceivedRequest) -> bool {
    request.system().contains("You design")
}

/// The requests of the model that calls the pipeline, and of the model inside it.
fn request_counts(server: &Server) -> (usize, usize) {
    let requests = server.requests();
    let nested = requests.iter().filter(|request| is_of_designer(request)).count();
    (requests.len() - nested, nested)
}

/// A project whose model follows a script and may call the pipeline `design`. `reply` may reply in place of the script.
fn design_project_with(
    turns: Vec<ScriptedTurn>,
    step: &Value,
    reply: impl Fn(&ReceivedRequest) -> Option<Reply> + Send + Sync + 'static,
) -> (Server, Orch) {
    let server = Server::start(move |request| match reply(request) {
        Some(reply) => reply,
        None if is_of_designer(request) => Reply::text_for(&request.path, PLAN),
        None => scripted_reply(&turns, request),
    });
    let agent = json!({ "pipelines": ["design.yaml"], "max_output_tokens": 100 });
    let orch = tool_project(&server, &agent, step);
    orch.write("pipelines/design.yaml", &design_pipeline().to_string()).write("prompts/design.md", "You design.\n");
    (server, orch)
}

fn design_project(turns: Vec<ScriptedTurn>) -> (Server, Orch) {
    design_project_with(turns, &json!({}), |_| None)
}

/// A model that calls the pipeline once, and then answers.
fn one_call() -> Vec<ScriptedTurn> {
    vec![calls([("design", json!({ "topic": "birds" }))]), answer(&json!("fine"))]
}

/// Runs the pipeline; returns the output and the report.
fn run(orch: &Orch) -> (RunOutput, Value) {
    let ran = orch.run(&[&RUN[..], &["--output", "json"]].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// Changes the steps of a pipeline file.
fn edit_steps(orch: &Orch, file: &str, edit: impl FnOnce(&mut Vec<Value>)) {
    let mut pipeline: Value = serde_json::from_str(&orch.read(file)).unwrap();
    edit(pipeline["steps"].as_array_mut().unwrap());
    orch.write(file, &pipeline.to_string());
}

fn completed_steps(orch: &Orch) -> Vec<String> {
    facts_of(orch, "step_completed").iter().map(|fact| fact["step"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_model_calls_a_pipeline_and_receives_its_outputs() {
    let (server, orch) = design_project(one_call());
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{ran:?}");
    assert_eq!(last_results(&server), ["{\n  \"plan\": {\n    \"title\": \"wings\"\n  }\n}"]);
    let tool = server.requests()[0].body["tools"][0]["function"].clone();
    assert_eq!((&tool["name"], &tool["parameters"]["required"]), (&json!("design"), &json!(["topic"])));
    assert_eq!(tool["description"], "Designs something. Returns a JSON object with `plan`.");
    let expected = ["work/design[0]/think", "work/design[0]/note", "work/design[0]", "work"];
    assert_eq!(completed_steps(&orch), expected);
    assert_eq!(orch.read("workspace/birds.txt"), "wings");
    let message = server.requests()[1].last();
    assert!(message.contains("birds 1"), "the input that the model left out has its default: {message}");
}

#[test]
fn each_call_has_steps_of_its_own() {
    let both = calls([("design", json!({ "topic": "birds" })), ("design", json!({ "topic": "cats", "depth": 2 }))]);
    let (server, orch) = design_project(vec![both, answer(&json!("fine"))]);
    run(&orch).0.exits(0);
    assert_eq!(request_counts(&server), (2, 2));
    let steps = completed_steps(&orch);
    assert_eq!((steps[0].as_str(), steps[3].as_str()), ("work/design[0]/think", "work/design[1]/think"));
    assert_eq!((orch.read("workspace/birds.txt"), orch.read("workspace/cats.txt")), ("wings".into(), "wings".into()));
}

#[test]
fn arguments_that_do_not_fit_are_a_result_for_the_model() {
    let turns = vec![calls([("design", json!({ "topik": "birds" }))]), answer(&json!("fine"))];
    let (server, orch) = design_project(turns);
    run(&orch).0.exits(0);
    let results = last_results(&server);
    assert!(results[0].starts_with("Error:\nthe arguments of `design` do not fit"), "{results:?}");
    assert_eq!(request_counts(&server), (2, 0));
}

#[test]
fn a_failed_pipeline_is_a_result_for_the_model() {
    let (server, orch) = design_project(one_call());
    edit_steps(&orch, "pipelines/design.yaml", |steps| {
        steps.push(json!({ "id": "fail", "call": "read", "args": { "path": "missing.txt" } }));
    });
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{ran:?}");
    let results = last_results(&server);
    let expected = "Error:\nthe pipeline failed (tool_failed): pipeline design: `read` failed: ";
    assert!(results[0].starts_with(expected), "{results:?}");
}

#[test]
fn a_run_waits_for_an_approval_inside_of_a_called_pipeline() {
    let (server, orch) = design_project(one_call());
    edit_steps(&orch, "pipelines/design.yaml", |steps| {
        steps.push(json!({ "id": "ask", "inputs": ["plan"], "approve": "Build {{ plan.title }}?" }));
    });
    orch.run(&RUN).exits(3);
    assert_eq!(facts_of(&orch, "approval_asked")[0]["step"], "work/design[0]/ask");
    orch.run(&["pipeline", "resume"]).exits(3);
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "approve", &id, "--resume"]).exits(0);
    assert_eq!(request_counts(&server), (2, 1), "no request is repeated");
    assert_eq!(completed_steps(&orch).iter().filter(|step| step.ends_with("/note")).count(), 1);
}

#[test]
fn a_resume_after_a_kill_continues_inside_of_the_called_pipeline() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = is_stalling.clone();
    let (server, orch) = design_project_with(one_call(), &json!({}), move |request| {
        let stalls = is_of_designer(request) && request.last().contains("birds") && stalls.load(Ordering::SeqCst);
        stalls.then(|| Reply::text_for(&request.path, PLAN).stall_after(0))
    });
    // The first step of the pipeline completes before the kill.
    edit_steps(&orch, "pipelines/design.yaml", |steps| {
        steps.insert(0, json!({ "id": "begin", "run": "echo begun >> log.txt" }));
    });
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the request of the called pipeline", || request_counts(&server).1 == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    is_stalling.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(request_counts(&server), (2, 2), "only the interrupted request is repeated");
    assert_eq!(
        (orch.read("workspace/log.txt").as_str(), orch.read("workspace/birds.txt").as_str()),
        ("begun\n", "wings")
    );
}

#[test]
fn a_conversation_continues_with_the_completed_pipelines_after_a_failed_request() {
    let is_failing = Arc::new(AtomicBool::new(true));
    let fails = is_failing.clone();
    let step = json!({ "retry": { "max": 1 } });
    let (server, orch) = design_project_with(one_call(), &step, move |request| {
        let has_result =
            !is_of_designer(request) && request.body["messages"].as_array().is_some_and(|all| all.len() > 2);
        (has_result && fails.load(Ordering::SeqCst)).then(|| Reply::status(500, "{}"))
    });
    orch.run(&RUN).exits(1);
    assert_eq!(request_counts(&server), (2, 1));
    is_failing.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(request_counts(&server), (3, 1), "the first request and the pipeline are not repeated");
    let writes = facts_of(&orch, "call_started").into_iter().filter(|fact| fact["kind"]["tool"] == "write");
    assert_eq!(writes.count(), 1);
}

#[test]
fn a_changed_pipeline_makes_the_step_of_its_caller_run_again() {
    let (server, orch) = design_project(one_call());
    edit_steps(&orch, "pipelines/main.yaml", |steps| steps.push(json!({ "id": "ask", "approve": "Go on?" })));
    orch.run(&RUN).exits(3);
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(request_counts(&server), (2, 1));
    orch.write("prompts/design.md", "You design well.\n");
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(request_counts(&server), (4, 2));
    let facts = facts_of(&orch, "step_started");
    let latest = facts.iter().rfind(|fact| fact["step"] == "work").unwrap();
    assert_eq!(latest["reason"], "tools changed");
}

#[test]
fn the_budget_of_the_agent_covers_the_pipelines_that_it_calls() {
    let (server, orch) = design_project(one_call());
    let mut pipeline: Value = serde_json::from_str(&orch.read("pipelines/main.yaml")).unwrap();
    pipeline["agents"]["a"]["budget"] = json!({ "tokens": 1500 });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    assert!(ran.stderr.contains("the budget of agent `a` is 1500 tokens"), "{ran:?}");
    assert_eq!(request_counts(&server), (1, 0));
}

/// What `validate` says about a project whose agent and step have these keys.
fn validate(agent: &Value, step: &Value) -> String {
    let server = Server::start(|request| Reply::text_for(&request.path, "{}"));
    let orch = tool_project(&server, agent, step);
    let text = design_pipeline().to_string();
    orch.write("prompts/design.md", "You design.\n");
    for name in ["design.yaml", "sub/design.yaml", "read.yaml", "My Design.yaml"] {
        orch.write(&format!("pipelines/{name}"), &text);
    }
    let caller = json!({
        "name": "caller", "agents": { "b": { "model": "auto", "pipelines": ["main.yaml"] } },
        "steps": [{ "id": "x", "agent": "b", "prompt": "work.md", "output": "o", "schema": "any" }],
    });
    orch.write("pipelines/caller.yaml", &caller.to_string());
    orch.run(&["pipeline", "validate", "pipelines/main.yaml"]).stderr
}

#[test]
fn mistakes_in_the_pipelines_of_an_agent_are_findings() {
    let pipelines = |files: &[&str]| json!({ "pipelines": files });
    for (agent, step, expected) in [
        (pipelines(&["design.yaml", "sub/design.yaml"]), json!({}), ["ORCH0302", "are the same tool `design`"]),
        (pipelines(&["design.yaml", "design.yaml"]), json!({}), ["ORCH0302", "is listed twice"]),
        (pipelines(&["read.yaml"]), json!({}), ["ORCH0302", "the name of a tool of orch"]),
        (pipelines(&["desing.yaml"]), json!({}), ["ORCH0320", "did you mean `design.yaml`?"]),
        (pipelines(&["../design.yaml"]), json!({}), ["ORCH0105", "leads out of the pipeline's folder"]),
        (pipelines(&["caller.yaml"]), json!({}), ["ORCH0321", "calls itself"]),
        (pipelines(&["design.yaml"]), json!({ "access": "read" }), ["ORCH0316", "`design.yaml`"]),
        (json!({ "cli": "claude", "pipelines": ["design.yaml"] }), json!({}), ["ORCH0206", "`pipelines`"]),
    ] {
        let found = validate(&agent, &step);
        for part in expected {
            assert!(found.contains(part), "{agent} {step}: no {part:?} in\n{found}");
        }
    }
    for agent in [
        pipelines(&["design.yaml"]),
        json!({ "pipelines": ["My Design.yaml"], "tools": ["read"], "max_turns": 5, "compaction": "fail" }),
    ] {
        let found = validate(&agent, &json!({}));
        assert!(!found.contains("error[") && !found.contains("ORCH0206"), "{agent}: {found}");
    }
}

#[test]
fn listings_and_graphs_show_what_a_model_may_call() {
    let (_server, orch) = design_project(one_call());
    let shown = orch.run(&["pipeline", "show", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(shown.contains("may call design.yaml"), "{shown}");
    let graph = orch.run(&["pipeline", "graph", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(graph.contains("may call design.yaml"), "{graph}");
    let planned = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "x"]).exits(0).stdout;
    assert!(planned.contains("work"), "{planned}");
}
