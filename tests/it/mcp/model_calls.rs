//! Models that call tools of MCP servers.

use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, project, text, tool};
use crate::kill::latest_run;
use crate::support::{Orch, RunOutput};
use crate::tool_loop::{RUN, answer, calls, facts_of, last_results};

/// Runs the pipeline; returns the output and the report.
fn run(orch: &Orch) -> (RunOutput, Value) {
    let ran = orch.run(&[&RUN[..], &["--output", "json"]].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

#[test]
fn a_model_calls_tools_of_a_server_beside_those_of_orch() {
    let server = McpServer::echo();
    let turns = vec![
        calls([("docs__find", json!({ "text": "a" })), ("read", json!({ "path": "a.txt" }))]),
        calls([("docs__find", json!({ "text": "b" }))]),
        answer(&json!("fine")),
    ];
    let agent = json!({ "tools": ["read", "docs.*"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    orch.write("workspace/a.txt", "one\n");
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["result"]), (0, &json!("fine")), "{ran:?}");
    assert_eq!(report["steps"][0]["tool_calls"], 3);
    let results = last_results(&model);
    assert_eq!((results[0].as_str(), results[2].as_str()), ("found a", "found b"), "{results:?}");
    assert!(results[1].contains("one"), "{results:?}");
    let offered = model.requests()[0].body["tools"].clone();
    let names: Vec<&str> =
        offered.as_array().unwrap().iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["read", "docs__find"]);
    assert_eq!(offered[1]["function"]["description"], "Finds a text.");
    assert_eq!((server.list_count(), server.calls().len()), (1, 2), "one start of the server serves the run");
    let listed = facts_of(&orch, "tools_listed");
    assert_eq!((listed.len(), &listed[0]["listing"]["server"]), (1, &json!("docs")));
    let is_call = |fact: &Value| fact["kind"]["mcp_tool"] == "remote_read";
    let started: Vec<Value> = facts_of(&orch, "call_started").into_iter().filter(is_call).collect();
    assert_eq!((started.len(), &started[0]["arguments"]), (2, &json!("docs.find {\"text\":\"a\"}")));
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("call work@1#1.1 (docs.find {\"text\":\"a\"})\nfound a"), "{shown}");
}

#[test]
fn people_see_the_name_of_the_pipeline_file_and_the_model_that_of_the_request() {
    let server = McpServer::echo();
    let turns =
        vec![calls([("docs__find", json!({})), ("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    let ran = orch.run(&RUN).exits(0).says("docs.find failed: the arguments of `docs.find` do not fit its schema");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    assert!(shown.contains("[calls docs.find] {}") && shown.contains("call work@1#1.1 (docs.find), failed"), "{shown}");
    for text in [&ran.stderr, &ran.stdout, &shown, &events] {
        assert!(!text.contains("docs__find"), "{text}");
    }
    let sent = facts_of(&orch, "call_started").into_iter().find(|fact| fact["tool_results"].is_array()).unwrap();
    assert_eq!(sent["tool_results"][0]["name"], "docs.find");
    let report = orch.run(&["runs", "show", "--replies", "--output", "json"]).exits(0).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let tools = report["calls"].as_array().unwrap().iter().filter_map(|call| call["tool"].as_str());
    assert_eq!(tools.collect::<Vec<_>>(), ["docs.find", "docs.find"]);
    let call = &model.requests()[1].body["messages"].to_string();
    assert!(call.contains("docs__find") && !call.contains("\"docs.find\""), "{call}");
}

#[test]
fn a_call_that_a_reply_repeats_without_effect_is_stopped() {
    for access in ["read", "write"] {
        let server = McpServer::echo();
        let turns = vec![calls(vec![("docs__find", json!({ "text": "a" })); 20]), answer(&json!("fine"))];
        let agent = json!({ "tools": ["docs.find"] });
        let (_model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings(access) }));
        let (ran, report) = run(&orch);
        let error = &report["steps"][0]["error"];
        assert_eq!((ran.code, &error["class"]), (1, &json!("repeated_tool_call")), "{ran:?}");
        assert!(error["message"].as_str().unwrap().starts_with("the model called `docs.find` 5 times"), "{error}");
        assert_eq!(server.calls().len(), 5);
    }
}

#[test]
fn parallel_steps_share_one_start_of_their_server() {
    let server = McpServer::echo();
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    let mut pipeline: Value = serde_json::from_str(&orch.read("pipelines/main.yaml")).unwrap();
    let (first, mut second) = (pipeline["steps"][0].clone(), pipeline["steps"][0].clone());
    (second["id"], second["output"]) = (json!("more"), json!("more"));
    pipeline["steps"] = json!([{ "id": "both", "parallel": [first, second] }]);
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.run(&RUN).exits(0);
    assert_eq!((server.list_count(), server.calls().len(), model.requests().len()), (1, 2, 4));
    assert_eq!(facts_of(&orch, "tools_listed").len(), 1);
}

#[test]
fn the_arguments_are_checked_before_the_server_receives_them() {
    let server = McpServer::echo();
    let turns = vec![calls([("docs__find", json!({ "word": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("write") }));
    run(&orch).0.exits(0);
    let results = last_results(&model);
    assert!(results[0].contains("the arguments of `docs.find` do not fit its schema"), "{results:?}");
    assert_eq!(server.calls().len(), 0);
}

#[test]
fn an_error_of_a_tool_is_a_result() {
    let failed = || CallAnswer::Result(json!({ "content": [{ "type": "text", "text": "no index" }], "isError": true }));
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), move |_| failed());
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    let ran = orch.run(&RUN).exits(0).says("docs.find {\"text\":\"a\"} failed: no index");
    let results = last_results(&model);
    assert_eq!(results, ["Error:\nno index"], "{ran:?}");
}

#[test]
fn the_user_approves_the_calls_of_the_tools_that_need_it() {
    let server = McpServer::echo();
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.*"], "approve_tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": server.settings("read") }));
    orch.run(&RUN).exits(3);
    assert_eq!(server.calls().len(), 0);
    let question = facts_of(&orch, "approval_asked")[0]["question"].clone();
    assert_eq!(question, "Agent `a` calls the tool `docs.find`:\n\n{\n  \"text\": \"a\"\n}");
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "approve", &id, "--resume"]).exits(0);
    assert_eq!((last_results(&model), server.calls().len()), (vec!["found a".to_owned()], 1));
}

#[test]
fn a_step_fails_before_its_first_request_if_its_server_lacks_a_tool() {
    let server = McpServer::echo();
    let settings = json!({ "docs": server.settings("read") });
    // Without an error, a misspelt name of a tool that needs an approval would mean no approval.
    let misspelt_approval = json!({ "tools": ["docs.*"], "approve_tools": ["docs.search"] });
    for agent in [json!({ "tools": ["docs.search"] }), misspelt_approval] {
        let (model, orch) = project(vec![answer(&json!("fine"))], &agent, &json!({}), &settings);
        let (ran, report) = run(&orch);
        let error = &report["steps"][0]["error"];
        assert_eq!((ran.code, &error["class"]), (1, &json!("bad_request")), "{ran:?}");
        assert_eq!(error["message"], "the MCP server `docs` has no tool `search`; it has `find`");
        assert_eq!(model.requests().len(), 0);
    }
}

#[test]
fn the_progress_says_why_a_step_asks_its_server_again() {
    let settings = json!({ "docs": { "command": ["python3", "missing.py"], "sandbox": { "enabled": false } } });
    let (agent, step) = (json!({ "tools": ["docs.find"] }), json!({ "retry": { "max": 2, "backoff": "1ms" } }));
    let (_model, orch) = project(vec![answer(&json!("fine"))], &agent, &step, &settings);
    let (ran, _) = run(&orch);
    let wait = ran.stderr.find("work: waiting").unwrap_or_else(|| panic!("{ran:?}"));
    let before = &ran.stderr[..wait];
    assert!(before.contains("work: ") && before.contains("missing.py"), "{ran:?}");
    assert!(!before.contains("\\n"), "the line has only the last line of the server's output: {ran:?}");
}

#[test]
fn a_step_fails_if_its_server_cannot_be_reached() {
    let server = McpServer::echo();
    let settings = json!({ "docs": server.settings("read") });
    drop(server);
    let (agent, step) = (json!({ "tools": ["docs.find"] }), json!({ "retry": { "max": 1 } }));
    let (model, orch) = project(vec![answer(&json!("fine"))], &agent, &step, &settings);
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("provider_unavailable")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().contains("the MCP server `docs`"), "{error}");
    // A dry run asks no server, and knows that the step would run.
    let predicted = orch.run(&["pipeline", "resume", "--dry-run", "--output", "json"]).exits(0).stdout;
    let predicted: Value = serde_json::from_str(&predicted).unwrap();
    assert_eq!(predicted, json!([{ "step": "work", "action": "run", "reason": "it did not run yet" }]));
    assert_eq!(model.requests().len(), 0);
}

#[test]
fn a_call_without_an_answer_gives_the_model_an_error_and_is_not_repeated() {
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), |_| CallAnswer::Nothing);
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let (agent, step) = (json!({ "tools": ["docs.find"] }), json!({ "timeout": "1s" }));
    let (model, orch) = project(turns, &agent, &step, &json!({ "docs": server.settings("write") }));
    run(&orch).0.exits(0);
    let results = last_results(&model);
    let expected = "orch did not repeat the call; it is not known whether the call took effect";
    assert!(results[0].starts_with("Error:\n") && results[0].ends_with(expected), "{results:?}");
    assert_eq!(server.calls().len(), 1);
    let ends = facts_of(&orch, "call_ended").into_iter().filter(|call| call["call"]["tool_call"].is_number());
    let classes: Vec<Value> = ends.map(|call| call["failure"]["class"].clone()).collect();
    assert_eq!(classes, ["timeout"]);
}

#[test]
fn no_result_of_a_server_shows_a_secret_to_the_model_or_the_journal() {
    const SECRET: &str = "s3cret-value-of-a-key-0123456789";
    let server = McpServer::start(
        Protocol::Old,
        || json!([tool("find", &format!("Uses {SECRET}."))]),
        |_| text(&format!("the key is {SECRET}")),
    );
    let turns = vec![calls([("docs__find", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let mut settings = server.settings("read");
    settings["headers"] = json!({ "Authorization": { "env": "DOCS_TOKEN" } });
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({}), &json!({ "docs": settings }));
    let output = orch.command(&RUN).env("DOCS_TOKEN", SECRET).output().unwrap();
    RunOutput::of(&output).exits(0);
    let sent: String = model.requests().iter().map(|request| request.body.to_string()).collect();
    let recorded = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    assert!(sent.contains("[secret DOCS_TOKEN]") && recorded.contains("[secret DOCS_TOKEN]"), "{sent}");
    assert!(!sent.contains(SECRET) && !recorded.contains(SECRET));
}
