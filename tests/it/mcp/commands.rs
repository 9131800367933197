//! `orch tools`: lists, shows and calls the tools of orch and of MCP servers, without a run.

use std::fs;

use serde_json::{Value, json};

use super::questions::asking_server;
use super::scripted::{CallAnswer, McpServer, Protocol, project as scripted_project, tool};
use crate::support::mcp::{HttpServer, npm_server, python_server};
use crate::support::{Orch, RunOutput};
use crate::tool_loop::{RUN, answer, calls, last_results};

/// A trusted project with these MCP servers and no pipeline.
fn project(servers: &Value) -> Orch {
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": servers }).to_string()).trust();
    orch
}

/// The standard output as JSON.
fn output(ran: &RunOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The names of the listed tools.
fn names(listed: &Value) -> Vec<&str> {
    listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn the_tools_of_orch_need_no_project() {
    let orch = Orch::empty();
    let listed = orch.run(&["tools", "list"]).exits(0);
    assert!(listed.stdout.starts_with("read    read   Reads a text file of the workspace."), "{listed:?}");
    assert!(listed.stdout.contains("\nshell   write  Runs a command"), "{listed:?}");
    let shown = orch.run(&["tools", "show", "edit"]).exits(0).stdout;
    assert!(shown.starts_with("edit: its calls may change something") && shown.contains("\"old\""), "{shown}");
    orch.write("workspace/notes.md", "one\ntwo\n");
    let read = orch.run(&["tools", "call", "read", "--arg", "path=notes.md", "--arg", "lines=1"]).exits(0);
    assert!(read.stdout.contains("one") && !read.stdout.contains("two"), "{read:?}");
    orch.run(&["tools", "call", "read", "--args", r#"{"path": "absent.md"}"#]).exits(1);
    orch.run(&["tools", "call", "read", "--args", r#"{"file": "notes.md"}"#])
        .exits(2)
        .says("the arguments of `read` do not fit its schema")
        .says("`orch tools show read` prints the schema");
    orch.run(&["tools", "call", "read", "--args", "[]"]).exits(2).says("is not a JSON object");
    orch.run(&["tools", "show", "reed"]).exits(2).says("did you mean `read`?");
}

#[test]
fn a_call_that_may_change_something_needs_an_agreement_and_observes_the_protected_files() {
    let orch = Orch::empty();
    let write = |path: &str, more: &[&str]| {
        let arguments = json!({ "path": path, "content": "new" }).to_string();
        orch.run(&[&["tools", "call", "write", "--args", &arguments], more].concat())
    };
    write("a.txt", &[]).exits(2).says("pass --yes");
    assert!(!orch.exists("workspace/a.txt"));
    write("a.txt", &["--yes"]).exits(0);
    assert_eq!(orch.read("workspace/a.txt"), "new");
    write("orch.yaml", &["--yes", "-w", "."]).exits(1);
    assert!(!orch.exists("orch.yaml"));
    orch.write("pipelines/main.yaml", "name: main");
    write("pipelines/main.yaml", &["--yes", "-w", "."]).exits(1);
    assert_eq!(orch.read("pipelines/main.yaml"), "name: main");
    write("b.txt", &["--yes", "--workspace", "sub"]).exits(0);
    assert!(orch.exists("sub/b.txt"));
}

#[test]
fn a_server_is_started_only_in_a_trusted_project() {
    let server = McpServer::echo();
    let orch = Orch::empty();
    orch.write("orch.yaml", &json!({ "mcp": { "docs": server.settings("read") } }).to_string());
    for command in [&["list"][..], &["show", "docs.find"], &["call", "docs.find", "--arg", "text=a"]] {
        orch.run(&[&["tools"], command].concat()).exits(2).says("this project is not trusted yet");
    }
    assert_eq!((server.list_count(), server.calls().len()), (0, 0));
    // The tools of orch can be looked at.
    orch.run(&["tools", "show", "read"]).exits(0);
    orch.trust();
    let listed = output(&orch.run(&["tools", "list", "--output", "json"]).exits(0));
    assert_eq!(names(&listed).last(), Some(&"docs.find"));
    let called = orch.run(&["tools", "call", "docs.find", "--arg", "text=a"]).exits(0);
    assert_eq!(called.stdout, "found a\n");
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn tools_of_a_server_are_shown_with_their_schemas() {
    let server = McpServer::echo();
    let orch = project(&json!({ "docs": server.settings("write") }));
    let listed = output(&orch.run(&["tools", "list", "--server", "docs", "--output", "json"]).exits(0));
    let found = &listed["tools"][0];
    assert_eq!((names(&listed), &found["model_name"]), (vec!["docs.find"], &json!("docs__find")));
    assert_eq!((&found["access"], &found["arguments"]["required"]), (&json!("write"), &json!(["text"])));
    assert_eq!(listed["servers"][0]["protocol_version"], "2025-11-25");
    let shown = orch.run(&["tools", "show", "docs.find"]).exits(0).stdout;
    assert!(shown.contains("models see it as `docs__find`") && shown.contains("\nFinds a text.\n"), "{shown}");
    orch.run(&["tools", "show", "docs.finds"]).exits(2).says("did you mean `docs.find`?");
    orch.run(&["tools", "show", "docz.find"]).exits(2).says("did you mean `docs`?");
    orch.run(&["tools", "call", "docs.find", "--arg", "text=a"]).exits(2).says("`docs.find` may change something");
    orch.run(&["tools", "call", "docs.find", "--yes"]).exits(2).says("do not fit its schema");
    assert_eq!(server.calls().len(), 0);
}

#[test]
fn only_the_tools_that_the_settings_allow_are_listed_and_called() {
    let listed = || json!([tool("find", "Finds."), tool("delete", "Deletes.")]);
    let server = McpServer::start(Protocol::Old, listed, |_| CallAnswer::Nothing);
    let mut settings = server.settings("write");
    settings["tools"] = json!(["find"]);
    let orch = project(&json!({ "docs": settings }));
    let listed = output(&orch.run(&["tools", "list", "--server", "docs", "--output", "json"]).exits(0));
    assert_eq!(names(&listed), ["docs.find"]);
    orch.run(&["tools", "call", "docs.delete", "--arg", "text=a", "--yes"])
        .exits(2)
        .says("`orch.yaml` does not allow the tool `delete`");
    assert_eq!(server.calls().len(), 0);
}

#[test]
fn an_error_of_a_tool_has_an_exit_code_of_its_own() {
    let failed = json!({ "content": [{ "type": "text", "text": "no such page" }], "isError": true });
    let call = move |_: &Value| CallAnswer::Result(failed.clone());
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), call);
    let orch = project(&json!({ "docs": server.settings("read") }));
    let ran = orch.run(&["tools", "call", "docs.find", "--arg", "text=a", "--output", "json"]).exits(1);
    assert_eq!(output(&ran), json!({ "content": "no such page", "is_error": true, "structured": null }));
}

#[test]
fn a_server_that_cannot_be_started_does_not_hide_the_others() {
    let server = McpServer::echo();
    let gone = json!({ "command": ["no-such-server"], "sandbox": { "enabled": false } });
    let orch = project(&json!({ "gone": gone, "docs": server.settings("read") }));
    let ran = orch.run(&["tools", "list", "--output", "json"]).exits(2);
    let listed = output(&ran);
    assert_eq!(names(&listed).last(), Some(&"docs.find"));
    let servers = listed["servers"].as_array().unwrap();
    let gone = servers.iter().find(|server| server["name"] == "gone").unwrap();
    assert!(gone["error"].as_str().unwrap().contains("no-such-server"), "{listed}");
    assert!(ran.stderr.contains("no-such-server"), "{ran:?}");
}

#[test]
fn questions_are_printed_and_answered() {
    let server = asking_server();
    let orch = project(&json!({ "shop": server.settings("write") }));
    let order =
        |more: &[&str]| orch.run(&[&["tools", "call", "shop.order", "--arg", "text=a", "--yes"], more].concat());
    order(&[]).exits(3).says("Which size?").says("--answer JSON");
    order(&["--answer", r#"{"size": "XL"}"#]).exits(2).says("the answer can't be used");
    let ordered = order(&["--answer", r#"{"size": "L"}"#]).exits(0);
    assert_eq!(ordered.stdout, "size L\n");
    assert_eq!(order(&["--answer", "null"]).exits(0).stdout, "nothing ordered\n");
}

#[test]
fn the_workspace_of_a_run_is_not_used_at_the_same_time() {
    let orch = Orch::empty();
    let lock = orch.write("workspace/theirs.txt", "").path().join("workspace/.orch.lock");
    let file = fs::File::create(&lock).unwrap();
    file.lock().unwrap();
    let ran = orch.run(&["tools", "call", "read", "--arg", "path=a"]).exits(2);
    assert!(ran.stderr.contains("the workspace"), "{ran:?}");
}

#[test]
fn a_server_starts_in_the_same_folder_as_in_a_run() {
    let settings = json!({ "command": ["python3", "server.py", "plain"], "sandbox": { "enabled": false } });
    let turns = vec![calls([("peer__echo", json!({ "text": "a" }))]), answer(&json!("fine"))];
    let servers = json!({ "peer": settings });
    let (model, orch) = scripted_project(turns, &json!({ "tools": ["peer.echo"] }), &json!({}), &servers);
    let script = include_str!("hostile.py");
    // A program in the folder of the project is not found.
    orch.write("server.py", script);
    orch.run(&["tools", "list", "--server", "peer"]).exits(2).says("in the workspace");
    orch.write("workspace/server.py", script);
    orch.run(&["tools", "show", "peer.echo"]).exits(0);
    assert_eq!(orch.run(&["tools", "call", "peer.echo", "--yes", "--arg", "text=b"]).exits(0).stdout, "b\n");
    orch.run(&RUN).exits(0);
    assert_eq!(last_results(&model), ["a"]);
    orch.write("elsewhere/server.py", script);
    fs::remove_file(orch.path().join("workspace/server.py")).unwrap();
    orch.run(&["tools", "show", "peer.echo", "-w", "elsewhere"]).exits(0);
}

#[test]
fn a_flood_of_progress_is_printed_only_in_part() {
    let settings = json!({ "command": ["python3", "server.py", "plain"], "sandbox": { "enabled": false } });
    let orch = project(&json!({ "peer": settings }));
    orch.write("workspace/server.py", include_str!("hostile.py"));
    let ran = orch.run(&["tools", "call", "peer.flood", "--args", r#"{"count": 2000}"#, "--yes"]).exits(0);
    assert_eq!(ran.stdout, "the end\n");
    // With one line in 200 ms, more lines would need minutes.
    let count = ran.stderr.lines().filter(|line| line.contains(": yyy")).count();
    assert!((1..1000).contains(&count), "{count}");
}

#[test]
fn real_servers_are_listed_and_called() {
    let orch = |settings: Value| project(&json!({ "peer": settings }));
    let sandbox = json!({ "enabled": false });
    if let Some(command) = npm_server("everything", &[]) {
        let orch = orch(json!({ "command": command, "access": "read", "sandbox": sandbox }));
        let listed = output(&orch.run(&["tools", "list", "--server", "peer", "--output", "json"]).exits(0));
        assert!(names(&listed).contains(&"peer.echo"), "{listed}");
        let sum = orch.run(&["tools", "call", "peer.get-sum", "--arg", "a=1", "--arg", "b=2.5"]).exits(0);
        assert_eq!(sum.stdout, "The sum of 1 and 2.5 is 3.5.\n");
        let weather = ["tools", "call", "peer.get-structured-content", "--output", "json"];
        let weather = output(&orch.run(&[&weather[..], &["--arg", "location=Chicago"]].concat()).exits(0));
        assert!(weather["structured"]["temperature"].is_number(), "{weather}");
    }
    if let Some(command) = python_server("stdio") {
        let orch = orch(json!({ "command": command, "access": "read", "sandbox": sandbox }));
        let listed = output(&orch.run(&["tools", "list", "--server", "peer", "--output", "json"]).exits(0));
        assert_eq!(listed["servers"][0]["protocol_version"], "2026-07-28");
        orch.run(&["tools", "call", "peer.fail"]).exits(1);
        let ordered = orch.run(&["tools", "call", "peer.order", "--answer", r#"{"size": "S"}"#]).exits(0);
        assert_eq!(ordered.stdout, "ordered S (order 7)\n");
    }
    if let Some(server) = HttpServer::everything() {
        let orch = orch(json!({ "url": server.url(), "access": "read" }));
        let echoed = orch.run(&["tools", "call", "peer.echo", "--arg", "message=grüße"]).exits(0);
        assert_eq!(echoed.stdout, "Echo: grüße\n");
    }
}

#[test]
fn doctor_and_trust_list_servers_and_start_none() {
    let server = McpServer::echo();
    let orch = Orch::new();
    let files = json!({ "command": ["touch", "started"], "env": ["GITHUB_TOKEN"] });
    let servers = json!({ "files": files, "docs": server.settings("read") });
    orch.write("orch.yaml", &json!({ "mcp": servers }).to_string());
    let doctor = orch.run(&["doctor"]).stdout;
    for line in ["files: command `touch started`, not started", "`orch tools list --server docs` lists its tools"] {
        assert!(doctor.contains(line), "{line}: {doctor}");
    }
    orch.run(&["pipeline", "validate"]).exits(0);
    let trusted = output(&orch.run(&["trust", "--print", "--output", "json"]).exits(0));
    assert_eq!(
        trusted["programs"][0],
        "touch started, with the variables GITHUB_TOKEN, in a sandbox that lets it change no file and reach no host; at \
         least at the level `full`, with the default settings  (MCP server files of orch.yaml)"
    );
    orch.run(&["trust"])
        .exits(0)
        .says("starts the MCP server [\"touch\", \"started\"] with the variables GITHUB_TOKEN");
    assert!(!orch.exists("started") && server.list_count() == 0);
}

#[test]
fn validate_asks_the_servers_only_with_the_option() {
    let server = McpServer::echo();
    let unused = McpServer::echo();
    let pipeline = json!({
        "name": "test",
        "agents": { "a": { "model": "openai/gpt-4.1", "tools": ["docs.fnd", "docs.*"] } },
        "steps": [
            { "id": "work", "agent": "a", "prompt": "work.md", "output": "done", "schema": "text" },
            { "id": "find", "call": "docs.delete", "args": { "text": "a" }, "output": "found" },
        ],
    });
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("prompts/work.md", "Work.");
    let servers = json!({ "docs": server.settings("read"), "unused": unused.settings("read") });
    orch.write("orch.yaml", &json!({ "mcp": servers }).to_string());
    let validated = |more: &[&str]| {
        let ran = orch.run(&[&["pipeline", "validate", "--format", "json"], more].concat());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let findings = report["findings"].as_array().cloned().unwrap_or_default();
        let unknown = findings.iter().filter(|finding| finding["code"] == "ORCH0208");
        let messages = unknown.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect::<Vec<String>>();
        (messages, ran)
    };
    assert_eq!(validated(&[]).0, Vec::<String>::new());
    validated(&["--probe"]).1.exits(2).says("this project is not trusted yet");
    assert_eq!(server.list_count(), 0);
    orch.trust();
    let (messages, ran) = validated(&["--probe"]);
    let missing = ["the MCP server `docs` has no tool `fnd`", "the MCP server `docs` has no tool `delete`"];
    assert_eq!((messages, ran.code), (missing.map(str::to_owned).to_vec(), 2), "{}", ran.stderr);
    assert_eq!((server.list_count(), unused.list_count()), (1, 0));
    orch.edit("pipelines/main.yaml", "docs.fnd", "docs.find").edit("pipelines/main.yaml", "docs.delete", "docs.find");
    assert_eq!(validated(&["--probe"]).0, Vec::<String>::new());
    drop(server);
    validated(&["--probe"]).1.exits(2).says("the MCP server `docs`");
}
