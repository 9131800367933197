//! Steps that call tools of MCP servers without a model.

use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, text, tool};
use crate::kill::latest_run;
use crate::support::{Orch, RunOutput};
use crate::tool_loop::facts_of;

pub(super) const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--output", "json"];

/// A trusted project with these MCP servers. Its first step is `find`, which calls the tool `find` of the server `docs`
/// unless the keys say something else.
pub(super) fn calling_project(step: &Value, more_steps: &[Value], servers: &Value) -> Orch {
    let orch = Orch::empty();
    let args = json!({ "text": "about {{ topic }}" });
    let mut keys = json!({ "id": "find", "call": "docs.find", "args": args, "output": "found" });
    keys.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
    let steps: Vec<&Value> = [&keys].into_iter().chain(more_steps).collect();
    let pipeline = json!({
        "name": "test",
        "inputs": {
            "topic": { "type": "string", "default": "birds" },
            "labels": { "type": "array", "items": { "type": "string" }, "default": ["a", "b"] },
        },
        "steps": steps,
        "outputs": { "found": "found" },
    });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.write("orch.yaml", &json!({ "mcp": servers }).to_string()).trust();
    orch
}

/// Runs the pipeline; returns the output and the report.
fn run(orch: &Orch) -> (RunOutput, Value) {
    let ran = orch.run(&RUN);
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// The server `docs` with these answers.
fn docs_server(call: impl Fn(&Value) -> CallAnswer + Send + Sync + 'static) -> McpServer {
    McpServer::start(Protocol::Old, || json!([tool("find", "Finds a text.")]), call)
}

fn docs(server: &McpServer, access: &str) -> Value {
    json!({ "docs": server.settings(access) })
}

#[test]
fn a_step_calls_a_tool_of_a_server() {
    let server = McpServer::echo();
    let orch = calling_project(&json!({}), &[], &docs(&server, "read"));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]["found"]), (0, &json!("found about birds")), "{ran:?}");
    assert_eq!(server.calls()[0]["arguments"], json!({ "text": "about birds" }));
    assert_eq!((server.list_count(), facts_of(&orch, "tools_listed").len()), (1, 1));
    let started = facts_of(&orch, "call_started");
    assert_eq!((started.len(), &started[0]["kind"]), (1, &json!({ "mcp_tool": "remote_read" })));
    assert_eq!(started[0]["arguments"], "docs.find {\"text\":\"about birds\"}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("find@1#1 (docs.find {\"text\":\"about birds\"})\nfound about birds"), "{shown}");
}

#[test]
fn arguments_keep_their_types_and_are_checked_before_the_call() {
    let schema = json!({ "type": "object", "properties": {
        "limit": { "type": "integer" }, "filter": { "type": "object", "properties": { "labels": { "type": "array" } } },
    } });
    let tools = move || json!([{ "name": "find", "inputSchema": schema }]);
    let server = McpServer::start(Protocol::Old, tools, |_| text("found"));
    let args = json!({ "limit": "{{ labels | length + 1 }}", "filter": { "labels": "{{ labels }}" } });
    let orch = calling_project(&json!({ "args": args }), &[], &docs(&server, "write"));
    assert_eq!(run(&orch).0.code, 0);
    assert_eq!(server.calls()[0]["arguments"], json!({ "limit": 3, "filter": { "labels": ["a", "b"] } }));
    let args = json!({ "limit": "{{ topic }}" });
    let orch = calling_project(&json!({ "args": args }), &[], &docs(&server, "write"));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("schema_mismatch")), "{ran:?}");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the arguments of `docs.find` do not fit its schema"), "{message}");
    assert_eq!(server.calls().len(), 1, "the server received only the call that fits");
}

#[test]
fn the_schema_of_the_step_decides_how_its_result_is_read() {
    let number = json!({ "content": [{ "type": "text", "text": "{\"count\": 3}" }] });
    let mut structured = number.clone();
    structured["structuredContent"] = json!({ "count": 4 });
    for (schema, result, expected) in [
        (None, &number, json!("{\"count\": 3}")),
        (None, &structured, json!({ "count": 4 })),
        (Some("any"), &number, json!({ "count": 3 })),
        (Some("count"), &number, json!({ "count": 3 })),
        (Some("count"), &structured, json!({ "count": 4 })),
        (Some("text"), &structured, json!("{\"count\": 3}")),
    ] {
        let mut definition = tool("find", "Counts.");
        if !result["structuredContent"].is_null() {
            definition["outputSchema"] = json!({ "type": "object", "properties": { "count": { "type": "integer" } } });
        }
        let answer = result.clone();
        let server =
            McpServer::start(Protocol::Old, move || json!([definition]), move |_| CallAnswer::Result(answer.clone()));
        let step = schema.map_or_else(|| json!({}), |schema| json!({ "schema": schema }));
        let orch = calling_project(&step, &[], &docs(&server, "read"));
        let count =
            json!({ "type": "object", "required": ["count"], "properties": { "count": { "type": "integer" } } });
        orch.write("schemas/count.schema.json", &count.to_string());
        let (ran, report) = run(&orch);
        assert_eq!((ran.code, &report["result"]["found"]), (0, &expected), "{schema:?} {result}: {ran:?}");
    }
}

#[test]
fn an_error_of_a_tool_fails_the_step_and_a_resume_makes_the_call_again() {
    let server = docs_server(|_| {
        CallAnswer::Result(json!({ "content": [{ "type": "text", "text": "no index" }], "isError": true }))
    });
    let orch = calling_project(&json!({}), &[], &docs(&server, "write"));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("tool_failed")), "{ran:?}");
    assert_eq!(error["message"], "`docs.find` failed: no index");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_step_fails_if_its_server_lacks_the_tool_or_cannot_be_reached() {
    let server = McpServer::echo();
    let settings = docs(&server, "read");
    let orch = calling_project(&json!({ "call": "docs.search" }), &[], &settings);
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("bad_request")), "{ran:?}");
    assert_eq!(error["message"], "the MCP server `docs` has no tool `search`; it has `find`");
    drop(server);
    let orch = calling_project(&json!({}), &[], &settings);
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("provider_unavailable")), "{ran:?}");
    // A dry run asks no server, and knows that the step would run.
    let predicted = orch.run(&["pipeline", "resume", "--dry-run", "--output", "json"]).exits(0).stdout;
    let predicted: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!((&predicted[0]["step"], &predicted[0]["action"]), (&json!("find"), &json!("run")));
}

#[test]
fn a_call_without_an_answer_is_repeated_only_if_it_only_reads() {
    for (access, code, calls) in [("read", 0, 2), ("write", 1, 1)] {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let server = docs_server(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => CallAnswer::Nothing,
            _ => text("found"),
        });
        let mut step = json!({ "timeout": "1s" });
        if access == "read" {
            step["retry"] = json!({ "max": 2, "backoff": "1ms" });
        }
        let orch = calling_project(&step, &[], &docs(&server, access));
        let (ran, report) = run(&orch);
        assert_eq!((ran.code, server.calls().len()), (code, calls), "{access}: {ran:?}");
        if access == "read" {
            continue;
        }
        let error = &report["steps"][0]["error"];
        assert_eq!(error["class"], "timeout");
        let message = error["message"].as_str().unwrap();
        let expected = "orch did not repeat the call; it is not known whether the call took effect";
        assert!(message.ends_with(expected), "{message}");
        assert!(error["hint"].as_str().unwrap().contains("--from find` calls the tool again"), "{error}");
        orch.run(&["pipeline", "resume"]).exits(1);
        assert_eq!(server.calls().len(), 1, "a resume alone does not repeat the call");
        orch.run(&["pipeline", "resume", "--from", "find"]).exits(0);
        assert_eq!(server.calls().len(), 2);
    }
}

#[test]
fn a_result_that_does_not_fit_is_read_again_after_a_correction_without_another_call() {
    let server = docs_server(|_| text("three"));
    let orch = calling_project(&json!({ "schema": "any" }), &[], &docs(&server, "write"));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("no_json")), "{ran:?}");
    assert!(error["hint"].as_str().unwrap().contains("`schema: text`"), "{error}");
    orch.run(&["pipeline", "resume"]).exits(1);
    assert_eq!(server.calls().len(), 1, "the call took effect, so a resume does not repeat it");
    orch.edit("pipelines/main.yaml", r#""schema":"any""#, r#""schema":"text""#);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!((orch.read("workspace/found.md").trim(), server.calls().len()), ("three", 1));
}

#[test]
fn a_completed_call_is_reused_without_its_server() {
    let server = McpServer::echo();
    let question = json!({ "id": "ask", "approve": "Go on?", "output": "verdict" });
    let orch = calling_project(&json!({}), &[question], &docs(&server, "write"));
    orch.run(&RUN).exits(3);
    drop(server);
    let (id, _) = latest_run(&orch).unwrap();
    let predicted = orch.run(&["pipeline", "resume", &id, "--dry-run", "--output", "json"]).exits(0).stdout;
    let predicted: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!((&predicted[0]["step"], &predicted[0]["action"]), (&json!("find"), &json!("reuse")));
    orch.run(&["runs", "approve", &id, "ask", "--resume"]).exits(0);
    assert_eq!(facts_of(&orch, "step_reused").len(), 1);
}

#[test]
fn each_item_calls_the_tool() {
    let server = McpServer::echo();
    let step = json!({ "for_each": "labels", "args": { "text": "{{ item }}{{ index }}" } });
    let orch = calling_project(&step, &[], &docs(&server, "write"));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]["found"]), (0, &json!(["found a0", "found b1"])), "{ran:?}");
}

#[test]
fn a_server_may_ask_the_user_during_the_call() {
    let schema = json!({ "type": "object", "properties": { "size": { "type": "string" } }, "required": ["size"] });
    let params = json!({ "mode": "form", "message": "Which size?", "requestedSchema": schema });
    let question = json!({ "method": "elicitation/create", "params": params });
    let asked = json!({ "resultType": "input_required", "inputRequests": { "q": question }, "requestState": "s1" });
    let call = move |params: &Value| match params["inputResponses"]["q"]["content"]["size"].as_str() {
        Some(size) => text(&format!("size {size}")),
        None => CallAnswer::Result(asked.clone()),
    };
    let server = McpServer::start(Protocol::New, || json!([tool("find", "Finds.")]), call);
    let orch = calling_project(&json!({}), &[], &docs(&server, "write"));
    orch.run(&RUN).exits(3);
    let asked = facts_of(&orch, "approval_asked")[0]["question"].as_str().unwrap().to_owned();
    let beginning = "Step `find` calls the tool `docs.find`, and the MCP server asks:\n\nWhich size?";
    assert!(asked.starts_with(beginning), "{asked}");
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "approve", &id, "--note", r#"{"size": "L"}"#, "--resume"]).exits(0);
    assert_eq!((server.calls().len(), orch.json("workspace/found.json")), (2, json!("size L")));
}

#[test]
fn a_replay_needs_no_server() {
    let server = McpServer::echo();
    let orch = calling_project(&json!({}), &[], &docs(&server, "write"));
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(0);
    drop(server);
    orch.write("second/other.txt", "");
    let replayed = orch.run(&[&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat()).exits(0);
    let report: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!(report["result"]["found"], "found about birds");
}
