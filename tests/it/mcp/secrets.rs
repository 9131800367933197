//! A server over HTTP that sends back the headers that it received. Nothing that orch records, shows or sends to a model
//! contains the secret in them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::calls::{RUN as RUN_CALLS, calling_project};
use super::scripted::{CallAnswer, McpServer, Protocol, project, text, tool};
use crate::secrets::collect_files;
use crate::support::mcp::hostile_server;
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};
use crate::tool_loop::{RUN, answer, calls};

/// The secret in `DOCS_AUTH`, without its scheme.
const TOKEN: &str = "kFq9xB2mWz7RtY4pL8sN";

/// Whether a text contains eight characters of the secret in a row.
fn leaks(text: &str) -> bool {
    (0..=TOKEN.len() - 8).any(|start| text.contains(&TOKEN[start..start + 8]))
}

/// A server whose answers contain the header that it received, after as many other characters as the call says.
fn respond(request: &ReceivedRequest) -> Reply {
    let sent = request.header("authorization").unwrap_or_default();
    let arguments = &request.body["params"]["arguments"];
    let padding = "x".repeat(usize::try_from(arguments["padding"].as_u64().unwrap_or_default()).unwrap());
    let padded = format!("{padding}{sent}{}", "y".repeat(5000));
    let message =
        |member: &str, value: Value| json!({ "jsonrpc": "2.0", "id": request.body["id"], member: value }).to_string();
    let result = |value: Value| Reply::status(200, message("result", value));
    let said = |text: &str| result(json!({ "content": [{ "type": "text", "text": text }] }));
    match (request.body["method"].as_str().unwrap_or_default(), arguments["how"].as_str().unwrap_or_default()) {
        ("initialize", _) => result(json!({
            "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
            "serverInfo": { "name": sent, "version": sent },
        })),
        ("tools/list", _) => result(json!({ "tools": [
            { "name": "t", "description": padded, "inputSchema": { "type": "object" }, "outputSchema": { "type": sent } },
            { "name": sent, "inputSchema": { "type": "object" } },
        ] })),
        ("tools/call", "full") => said(&padded),
        ("tools/call", "bare") => said(&format!("{padding}{}", sent.trim_start_matches("Bearer "))),
        ("tools/call", "base64") => said(&STANDARD.encode(sent)),
        ("tools/call", "error") => {
            Reply::status(200, message("error", json!({ "code": -1, "message": padded, "data": { sent: sent } })))
        }
        ("tools/call", "status") => Reply::status(418, padded),
        ("tools/call", "junk") => Reply::status(200, padded),
        ("tools/call", "type") => Reply::typed(&format!("text/{}", sent.trim_start_matches("Bearer ")), "x"),
        ("tools/call", "progress") => {
            let token = &request.body["params"]["_meta"]["progressToken"];
            let progress = json!({
                "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": token, "progress": 1, "message": padded },
            });
            let content = json!([{ "type": "text", "text": "done" }]);
            let done = json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": { "content": content } });
            Reply::events(&[progress, done])
        }
        (method, _) if method.starts_with("notifications/") => Reply::status(202, ""),
        (_, _) if request.method != "POST" => Reply::status(405, ""),
        _ => Reply::status(200, message("error", json!({ "code": -32601, "message": "unknown method" }))),
    }
}

/// The settings of the server, with the example of the documentation for a secret.
fn settings(server: &Server) -> Value {
    let headers = json!({ "Authorization": { "env": "DOCS_AUTH" } });
    json!({ "docs": { "url": format!("{}/mcp", server.url()), "headers": headers, "access": "read" } })
}

fn run(orch: &Orch, arguments: &[&str]) -> RunOutput {
    let output = orch.command(arguments).env("DOCS_AUTH", format!("Bearer {TOKEN}")).output().unwrap();
    RunOutput::of(&output)
}

#[test]
fn no_command_shows_a_part_of_the_secret_in_a_header() {
    let server = Server::start(respond);
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": settings(&server) }).to_string()).trust();
    for arguments in [&["tools", "list"][..], &["tools", "list", "--output", "json"], &["tools", "show", "docs.t"]] {
        let ran = run(&orch, arguments);
        assert!(!leaks(&ran.stdout) && !leaks(&ran.stderr), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.contains("docs.t"), "{ran:?}");
    }
    // Texts are cut after 256 bytes, 300 characters, half a KiB and 4 KiB.
    let calls: [(&str, &[u32]); 8] = [
        ("full", &[0]),
        ("bare", &[0]),
        ("base64", &[0]),
        ("error", &[0, 500]),
        ("status", &[0, 480, 4075]),
        ("junk", &[0, 240]),
        ("type", &[0]),
        ("progress", &[0, 285]),
    ];
    let calls: Vec<(&str, u32)> =
        calls.iter().flat_map(|(how, paddings)| paddings.iter().map(|padding| (*how, *padding))).collect();
    for (how, padding) in &calls {
        let arguments = json!({ "how": how, "padding": padding }).to_string();
        let ran = run(&orch, &["tools", "call", "docs.t", "--args", &arguments]);
        assert!(!leaks(&ran.stdout) && !leaks(&ran.stderr), "{how} {padding}: {ran:?}");
    }
    let received = server.requests();
    let received = received.iter().filter(|request| request.body["method"] == "tools/call");
    assert_eq!(received.count(), calls.len(), "each call reached the server");
}

#[test]
fn the_version_of_the_protocol_is_redacted() {
    let server = Server::start(|request| match request.body["method"].as_str() {
        Some("initialize") => {
            let version = request.header("authorization").unwrap_or_default();
            let info = json!({ "name": "x", "version": "1" });
            let result = json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": info });
            let message = json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": result });
            Reply::status(200, message.to_string())
        }
        _ => respond(request),
    });
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": settings(&server) }).to_string()).trust();
    let listed = run(&orch, &["tools", "list", "--output", "json"]);
    assert!(!leaks(&listed.stdout) && !leaks(&listed.stderr), "{listed:?}");
    assert!(listed.stdout.contains("[secret DOCS_AUTH]"), "{listed:?}");
}

#[test]
fn no_record_and_no_request_contains_the_secret_in_a_header() {
    let server = Server::start(respond);
    let hows = ["full", "bare", "base64", "error", "status", "junk", "progress"];
    let turns: Vec<_> = hows.iter().map(|how| calls([("docs__t", json!({ "how": how, "padding": 500 }))])).collect();
    let turns = turns.into_iter().chain([answer(&json!("fine"))]).collect();
    let agent = json!({ "tools": ["docs.t"], "max_turns": 20 });
    let (model, orch) = project(turns, &agent, &json!({}), &settings(&server));
    let ran = run(&orch, &RUN).exits(0);
    let shown = run(&orch, &["runs", "show", "--replies"]).exits(0);
    let events = run(&orch, &["runs", "events"]).exits(0);
    let exported = run(&orch, &["runs", "export"]).exits(0);
    for output in [ran, shown, events, exported] {
        assert!(!leaks(&output.stdout) && !leaks(&output.stderr), "{output:?}");
    }
    let requests = model.requests();
    assert_eq!(requests.len(), hows.len() + 1);
    for request in requests {
        assert!(!leaks(&request.body.to_string()), "{}", request.body);
    }
    let mut files = Vec::new();
    collect_files(&orch.path().join(".orch"), &mut files);
    for (name, bytes) in &files {
        assert!(!leaks(&String::from_utf8_lossy(bytes)), "{name}");
    }
    assert!(!files.is_empty());
}

#[test]
fn an_event_over_the_size_limit_is_reported_as_such() {
    let server = Server::start(|request| match request.body["method"].as_str() {
        Some("tools/call") => {
            let content = json!([{ "type": "text", "text": "x".repeat(17 << 20) }]);
            Reply::events(&[json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": { "content": content } })])
        }
        _ => respond(request),
    });
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": settings(&server) }).to_string()).trust();
    run(&orch, &["tools", "call", "docs.t"])
        .exits(1)
        .says("the MCP server `docs` sent a message of more than 16 MiB")
        .says("ask its tools for less at once");
}

#[test]
fn a_call_that_takes_too_long_names_the_option_of_the_command() {
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), |_| CallAnswer::Nothing);
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": { "docs": server.settings("read") } }).to_string()).trust();
    let ran = orch.run(&["tools", "call", "docs.find", "--arg", "text=a", "--timeout", "1s"]);
    let ran = ran.exits(1).says("raise `--timeout`");
    assert!(!ran.stderr.contains("of the step"), "{ran:?}");
}

#[test]
fn control_characters_of_a_result_are_escaped_in_the_text_and_data_in_json() {
    let said = "\u{1b}[31mred\u{202e} a\tb\nc";
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), move |_| text(said));
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": { "docs": server.settings("read") } }).to_string()).trust();
    let call = ["tools", "call", "docs.find", "--arg", "text=a"];
    let shown = orch.run(&call).exits(0).stdout;
    assert_eq!(shown, "\\u{1b}[31mred\\u{202e} a\tb\nc\n");
    let data = orch.run(&[&call[..], &["--output", "json"]].concat()).exits(0).stdout;
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(data["content"], said);
}

/// The hostile server as a program, whose tool `leak` returns the variable `TOKEN`.
fn leaking_program() -> Value {
    let mut command = hostile_server("plain");
    *command.last_mut().unwrap() = "../mcp.log".to_owned();
    json!({ "shop": { "command": command, "env": ["TOKEN"], "access": "read", "sandbox": { "enabled": false } } })
}

#[test]
fn a_value_for_a_program_is_a_secret_whatever_it_looks_like() {
    for (value, is_secret) in [("correct horse", true), ("postgres", true), ("/srv/shop/data", false), ("short", false)]
    {
        let orch = calling_project(&json!({ "call": "shop.leak", "args": { "how": "text" } }), &[], &leaking_program());
        let ran = RunOutput::of(&orch.command(&RUN_CALLS).env("TOKEN", value).output().unwrap());
        assert_eq!(ran.code, 0, "{value}: {ran:?}");
        let shown = if is_secret { "[secret TOKEN]" } else { value };
        assert_eq!(orch.json("workspace/found.json"), json!({ "secret": [shown] }));
        let call = ["tools", "call", "shop.leak", "--args", r#"{"how": "text"}"#];
        let called = RunOutput::of(&orch.command(&call).env("TOKEN", value).output().unwrap());
        assert_eq!(called.stdout, format!("the secret is {shown}\n"), "{value}: {called:?}");
        assert!(!is_secret || !ran.stdout.contains(value), "{ran:?}");
    }
}

#[test]
fn the_hint_for_refused_credentials_names_the_variable_that_orch_sent() {
    for status in [401, 403] {
        let server = Server::start(move |_: &ReceivedRequest| Reply::status(status, "no"));
        let orch = Orch::empty();
        let with_headers = settings(&server);
        orch.write("orch.yaml", &json!({ "mcp": with_headers }).to_string()).trust();
        let ran = run(&orch, &["tools", "list", "--server", "docs"]);
        let printed = format!("{}{}", ran.stdout, ran.stderr);
        assert!(printed.contains("check the value of DOCS_AUTH (header `Authorization`)"), "{status}: {printed}");
        assert!(!printed.contains("put a token into `headers`"), "{status}: {printed}");
        let mut without_headers = with_headers;
        without_headers["docs"].as_object_mut().unwrap().remove("headers");
        orch.write("orch.yaml", &json!({ "mcp": without_headers }).to_string()).trust();
        let ran = run(&orch, &["tools", "list", "--server", "docs"]);
        let printed = format!("{}{}", ran.stdout, ran.stderr);
        assert!(printed.contains("put a token into `headers`"), "{status}: {printed}");
    }
}
