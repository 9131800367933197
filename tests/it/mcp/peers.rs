//! Real servers: those of npm, and one of the official Python SDK, over pipes and over HTTP.

use std::fs;
use std::time::Duration;

use indexmap::IndexMap;
use orch::model::{Failure, FailureClass, InputAnswers, McpServerSpec};
use serde_json::{Value, json};

use crate::support::mcp::{HttpServer, McpSite, npm_server, python_server};
use crate::support::sandbox::reaches_full;
use crate::support::{ClosedPort, Reply, Server};

/// The versions of the old and of the new protocol.
const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";

#[test]
fn everything_lists_and_calls_its_tools() {
    let Some(command) = npm_server("everything", &[]) else { return };
    let site = McpSite::new();
    let spec = McpSite::program(&command, &[]);
    let (tools, version) = site.listed(&spec);
    assert_eq!(version, OLD);
    assert!(tools.is_sorted() && tools.contains(&"echo".to_owned()), "{tools:?}");
    assert_eq!(site.text(&spec, "echo", json!({ "message": "grüße" })), "Echo: grüße");
    assert_eq!(site.text(&spec, "get-sum", json!({ "a": 1, "b": 2.5 })), "The sum of 1 and 2.5 is 3.5.");
    let weather = site.call(&spec, "get-structured-content", json!({ "location": "Chicago" })).unwrap();
    let structured = weather.structured.unwrap();
    assert!(structured["temperature"].is_number() && structured["conditions"].is_string(), "{structured}");
    let image = site.text(&spec, "get-tiny-image", json!({}));
    assert!(image.contains("[image/png, ") && image.contains(" bytes: not shown]"), "{image}");
    let links = site.text(&spec, "get-resource-links", json!({ "count": 2 }));
    assert!(links.contains("[link demo://resource/dynamic/"), "{links}");
    let resource = json!({ "resourceType": "Text", "resourceId": 1 });
    let resource = site.text(&spec, "get-resource-reference", resource);
    assert!(resource.contains("[resource demo://resource/dynamic/text/1]\nResource 1: "), "{resource}");
    let wrong = site.call(&spec, "get-sum", json!({ "a": "x" })).unwrap();
    assert!(wrong.is_error && wrong.content.contains("Input validation error"), "{wrong:?}");
    let steps = json!({ "duration": 0.1, "steps": 2 });
    assert!(site.text(&spec, "trigger-long-running-operation", steps).starts_with("Long running operation completed"));
    let unknown = site.call(&spec, "no-tool", json!({})).unwrap();
    assert!(unknown.is_error && unknown.content == "the MCP server `peer` has no tool `no-tool`", "{unknown:?}");
    assert!(site.is_running());
    site.shutdown();
    assert!(!site.is_running());
    assert_eq!(site.call(&spec, "echo", json!({})).unwrap_err().class, FailureClass::Cancelled);
}

#[test]
fn a_server_gets_only_the_variables_that_its_settings_name() {
    let Some(command) = npm_server("everything", &[]) else { return };
    let site = McpSite::with_variables(&[("GIVEN", "1"), ("OTHER", "2")], &[]);
    let spec =
        McpSite::spec(json!({ "command": command, "env": ["GIVEN", "MISSING"], "sandbox": { "enabled": false } }));
    let environment: Value = serde_json::from_str(&site.text(&spec, "get-env", json!({}))).unwrap();
    assert_eq!(environment["GIVEN"], "1");
    for name in ["OTHER", "MISSING", "HOME", "ORCH_TEST_REQUIRE", "CARGO_MANIFEST_DIR"] {
        assert!(environment[name].is_null(), "{name}: {environment}");
    }
}

#[test]
fn a_confined_server_reads_the_workspace_and_changes_only_what_its_settings_allow() {
    if !reaches_full() {
        return;
    }
    let site = McpSite::new();
    let (workspace, outside) = (site.path(""), site.outside(""));
    let folders = [workspace.to_str().unwrap(), outside.to_str().unwrap()];
    let Some(command) = npm_server("filesystem", &folders) else { return };
    fs::write(site.path("a.txt"), "content").unwrap();
    fs::write(site.outside("b.txt"), "kept").unwrap();
    let path = |path: std::path::PathBuf| json!({ "path": path, "content": "owned" });
    for (sandbox, can_write) in [(json!({}), false), (json!({ "write": ["."] }), true)] {
        let spec = McpSite::spec(json!({ "command": command, "sandbox": sandbox }));
        assert_eq!(site.text(&spec, "read_text_file", json!({ "path": site.path("a.txt") })), "content");
        let written = site.call(&spec, "write_file", path(site.path("new.txt"))).unwrap();
        assert_eq!((written.is_error, site.path("new.txt").exists()), (!can_write, can_write), "{written:?}");
        let refused = site.call(&spec, "write_file", path(site.outside("b.txt"))).unwrap();
        // In the sandbox, the folder beside the workspace is read-only, or missing if it is below the private `/tmp`.
        let is_refused = ["EROFS", "outside allowed directories"].iter().any(|text| refused.content.contains(text));
        assert!(refused.is_error && is_refused, "{refused:?}");
        site.end();
    }
    assert_eq!(fs::read_to_string(site.outside("b.txt")).unwrap(), "kept");
}

#[test]
fn memory_keeps_what_a_call_wrote_after_the_server_has_started_again() {
    let Some(command) = npm_server("memory", &[]) else { return };
    let mut site = McpSite::new();
    site.set_variable("MEMORY_FILE_PATH", &site.path("memory.jsonl"));
    let spec = McpSite::program(&command, &["MEMORY_FILE_PATH"]);
    let entity = json!({ "name": "orch", "entityType": "program", "observations": ["runs pipelines"] });
    let created = site.call(&spec, "create_entities", json!({ "entities": [entity] })).unwrap();
    assert_eq!(created.structured.unwrap()["entities"][0]["name"], "orch");
    site.restart();
    let graph = site.call(&spec, "read_graph", json!({})).unwrap().structured.unwrap();
    assert_eq!(graph["entities"][0]["observations"], json!(["runs pipelines"]));
}

#[test]
fn the_python_sdk_speaks_the_new_protocol() {
    let Some(command) = python_server("stdio") else { return };
    let site = McpSite::with_variables(&[("GIVEN", "1"), ("OTHER", "2")], &[]);
    let spec = McpSite::program(&command, &["GIVEN"]);
    check_python(&site, &spec);
    let environment = site.text(&spec, "environment", json!({}));
    let names: Vec<&str> = environment.split(' ').collect();
    assert!(names.contains(&"GIVEN") && !names.contains(&"OTHER"), "{environment}");
}

#[test]
fn the_python_sdk_speaks_the_new_protocol_over_http() {
    let Some(server) = HttpServer::python() else { return };
    let site = McpSite::new();
    check_python(&site, &McpSite::spec(json!({ "url": server.url() })));
}

/// Uses every tool of the server of the Python SDK.
fn check_python(site: &McpSite, spec: &McpServerSpec) {
    let (tools, version) = site.listed(spec);
    assert_eq!((tools.len(), version.as_str()), (5, NEW), "{tools:?}");
    let sum = site.call(spec, "add", json!({ "a": 1, "b": 2 })).unwrap();
    assert_eq!(sum.structured, Some(json!({ "sum": 3, "exact": 3.5 })));
    assert!(sum.content.contains("\"exact\": 3.5"), "{sum:?}");
    let failed = site.call(spec, "fail", json!({})).unwrap();
    assert!(failed.is_error && failed.content.contains("Error executing tool fail"), "{failed:?}");
    let wrong = site.call(spec, "add", json!({ "a": "x" })).unwrap();
    assert!(wrong.is_error, "{wrong:?}");
    check_progress_and_cancellation(site, spec);
    let question = site.call(spec, "order", json!({})).unwrap().input_required.unwrap();
    assert_eq!(question.questions["size"].message, "Which size?");
    let schema = question.questions["size"].schema.as_ref().unwrap();
    assert_eq!(schema["properties"]["size"]["enum"], json!(["S", "L"]));
    for (answer, expected) in
        [(json!({ "size": "L" }), "ordered L (order 7)"), (Value::Null, "not ordered: decline (order 7)")]
    {
        let responses = IndexMap::from([("size".to_owned(), answer)]);
        let answers = InputAnswers { responses, state: question.state.clone() };
        assert_eq!(site.answer(spec, "order", &answers).unwrap().content, expected);
    }
}

/// Interrupts a call after the server has reported progress. The server then answers the next call.
fn check_progress_and_cancellation(site: &McpSite, spec: &McpServerSpec) {
    let has_progress = async {
        while site.progress.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Failure::new(FailureClass::Cancelled, "stop")
    };
    let path = site.path("never");
    let arguments = json!({ "path": path });
    let failure = site.call_until(spec, "wait_for_file", &arguments, Duration::from_mins(2), has_progress).unwrap_err();
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Cancelled, "stop"));
    assert_eq!(site.progress.lock().unwrap()[0], "0.5/1000: waiting");
    assert_eq!(site.text(spec, "add", json!({ "a": 1, "b": 1 })).matches("\"sum\": 2").count(), 1);
}

#[test]
fn everything_speaks_the_old_protocol_over_http() {
    let Some(server) = HttpServer::everything() else { return };
    let site = McpSite::new();
    let spec = McpSite::spec(json!({ "url": server.url(), "tools": ["echo", "get-structured-content", "gone"] }));
    let listed = site.list(&spec).unwrap();
    assert_eq!((listed.listing.tools.len(), listed.listing.protocol_version.as_str()), (2, OLD));
    assert!(listed.notes[0].contains("does not list the tool `gone`"), "{:?}", listed.notes);
    assert_eq!(site.text(&spec, "echo", json!({ "message": "a" })), "Echo: a");
    let both = site.call_both(&spec, "echo", [&json!({ "message": "b" }), &json!({ "message": "c" })]);
    let texts: Vec<String> = both.into_iter().map(|result| result.unwrap().content).collect();
    assert_eq!(texts, ["Echo: b", "Echo: c"]);
    let refused = site.call(&spec, "get-sum", json!({ "a": 1, "b": 2 })).unwrap();
    assert!(refused.is_error && refused.content.contains("has no tool `get-sum`"), "{refused:?}");
    drop(server);
    let failure = site.call(&spec, "echo", json!({ "message": "a" })).unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure}");
}

#[test]
fn headers_go_to_the_server_and_a_refusal_names_what_to_do() {
    let server = Server::start(|request| match request.path.as_str() {
        "/challenge" => Reply::status(401, "{}").header("www-authenticate", "Bearer resource_metadata=\"x\""),
        "/plain" => Reply::status(401, "no token").header("content-type", "text/plain"),
        "/forbidden" => Reply::status(403, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"no\"}}"),
        "/busy" => Reply::status(429, ""),
        _ => Reply::status(500, "t0ken-of-the-server"),
    });
    let site = McpSite::with_variables(&[("AUTH", "Bearer t0ken-of-the-server")], &["AUTH"]);
    let spec = |path: &str, headers: Value| {
        McpSite::spec(json!({ "url": format!("{}{path}", server.url()), "headers": headers }))
    };
    let headers = json!({ "Authorization": { "env": "AUTH" }, "X-Team": "blue" });
    for path in ["/challenge", "/plain", "/forbidden"] {
        let failure = site.list(&spec(path, headers.clone())).unwrap_err();
        assert_eq!(failure.class, FailureClass::Auth, "{path}: {failure}");
        assert!(failure.hint.unwrap().starts_with("check the value of AUTH (header `Authorization`)"), "{path}");
    }
    assert_eq!(site.list(&spec("/busy", json!({}))).unwrap_err().class, FailureClass::RateLimited);
    let failure = site.list(&spec("/broken", json!({}))).unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::ProviderUnavailable, Some(500)), "{failure}");
    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), Some("Bearer t0ken-of-the-server"));
    assert_eq!((requests[0].header("x-team"), requests[0].method.as_str()), (Some("blue"), "POST"));
    // A refusal is final: another beginning of the connection would be refused too.
    assert_eq!(requests.iter().filter(|request| request.path == "/plain").count(), 1);
    let without_headers = site.list(&spec("/challenge", json!({}))).unwrap_err();
    assert!(without_headers.hint.unwrap().contains("does not support OAuth"));
    let missing = site.list(&spec("/plain", json!({ "Authorization": { "env": "NONE" } }))).unwrap_err();
    assert!(missing.message.ends_with("needs the variable NONE"), "{missing}");
    assert_eq!(missing.class, FailureClass::Auth);
}

#[test]
fn a_redirect_keeps_the_headers_only_on_the_same_server() {
    let other = Server::always(Reply::status(200, "{}"));
    let other_url = other.url();
    let server = Server::start(move |request| match request.path.as_str() {
        "/away" => Reply::status(307, "").header("location", &format!("{other_url}/mcp")),
        "/get" => Reply::status(303, "").header("location", "/mcp"),
        "/here" => Reply::status(308, "").header("location", "/mcp"),
        _ => Reply::status(401, ""),
    });
    let site = McpSite::new();
    let fails = |path: &str| {
        let url = format!("{}{path}", server.url());
        site.list(&McpSite::spec(json!({ "url": url, "headers": { "X-Key": "k" } }))).unwrap_err()
    };
    assert_eq!(fails("/here").class, FailureClass::Auth);
    assert!(server.requests().iter().any(|request| request.path == "/mcp" && request.header("x-key") == Some("k")));
    let count = server.requests().len();
    assert_ne!(fails("/away").class, FailureClass::Auth);
    assert_ne!(fails("/get").class, FailureClass::Auth);
    assert!(server.requests()[count..].iter().all(|request| request.path != "/mcp"));
    assert!(other.requests().is_empty());
}

#[test]
fn a_server_that_cannot_be_reached_is_named_without_a_second_try() {
    let closed = ClosedPort::reserve();
    let site = McpSite::new();
    let spec = McpSite::spec(json!({ "url": format!("{}/mcp?key=hidden", closed.url()) }));
    let failure = site.list(&spec).unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    let beginning = format!("the MCP server `peer` can't be reached at {}/mcp: ", closed.url());
    assert!(failure.message.starts_with(&beginning) && !failure.message.contains("hidden"), "{failure}");
    let hint = failure.hint.unwrap();
    let expected =
        format!("check that the MCP server `peer` runs and that `mcp.peer.url` is its address ({}/mcp)", closed.url());
    assert_eq!(hint, expected);
}
