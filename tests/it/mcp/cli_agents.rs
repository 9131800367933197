//! CLI agents with MCP servers: the real programs start a real server, and use only the granted tools.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::cli_agents::Agents;
use crate::support::mcp::npm_server;
use crate::support::{ReceivedRequest, Reply};

/// A trusted project whose agent may use one tool of `everything`.
fn project(agent: &str, answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static) -> Option<Agents> {
    let command = npm_server("everything", &[])?;
    let agents = Agents::one(&format!("{agent}, tools: [peer.echo]"), ", schema: text", answer)?;
    let servers = json!({ "peer": { "command": command, "env": ["LAB_KEY"] } });
    agents.orch.write("orch.yaml", &json!({ "mcp": servers }).to_string()).trust();
    Some(agents)
}

/// Calls the tool `echo`. Claude Code may ask the model before it is connected to its servers, and then refuses the call:
/// the model makes it again a little later.
fn call_of_echo(request: &ReceivedRequest) -> Reply {
    // Claude Code takes calls with the same id for one call.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let messages = request.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_too_early = messages.last().is_some_and(|last| last.to_string().contains("is still connecting"));
    let id = format!("toolu_echo_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let call = Reply::anthropic_tool_call(&id, "mcp__peer__echo", &json!({ "message": "hello" }));
    if is_too_early { call.delay(Duration::from_secs(1)) } else { call }
}

/// The paths of all files in a folder and below it.
fn files_below(folder: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| {
        let is_folder = path.is_dir() && !path.is_symlink();
        if is_folder { files_below(&path) } else { vec![path.display().to_string()] }
    });
    files.collect()
}

#[test]
fn claude_calls_a_granted_tool_and_no_other() {
    let agents = project("cli: claude, model: claude-sonnet-4-5", |request| {
        let text = request.body.to_string();
        match () {
            () if text.contains("toolu_mcp__peer__get-env") => Reply::anthropic_text("done"),
            () if text.contains("Echo: hello") => Reply::anthropic_tool("mcp__peer__get-env", &json!({})),
            () => call_of_echo(request),
        }
    });
    let Some(agents) = agents else { return };
    let (ran, report) = agents.run(&[]);
    // The call of the other tool is denied, which fails the step.
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("permission_denied")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().ends_with(": mcp__peer__get-env"), "{error}");
    let requests = agents.model_requests();
    let last = requests.last().unwrap().body.to_string();
    assert!(last.contains("Echo: hello"), "{last}");
    assert!(!last.contains("\\\"PATH\\\""), "the environment was shown: {last}");
    // The description of the servers is needed only during the turn.
    let files = files_below(&agents.orch.path().join(".orch"));
    assert!(files.iter().any(|file| file.contains("/claude/")), "the home of the agent was not found: {files:?}");
    assert!(!files.iter().any(|file| file.ends_with("-mcp.json")), "{files:?}");
}

#[test]
fn codex_offers_only_the_granted_tools() {
    let agents = project("cli: codex, model: scripted", |_| Reply::response_text("done"));
    let Some(agents) = agents else { return };
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let offered = agents.model_requests()[0].body["tools"].to_string();
    assert!(offered.contains("echo") && !offered.contains("get-env"), "{offered}");
    // The value of a variable is not part of the arguments or the settings.
    assert!(!ran.stderr.contains("key-of-the-test"));
}

#[test]
fn an_agent_behind_acp_gets_the_servers() {
    let Some(command) = npm_server("everything", &[]) else { return };
    let adapter = crate::support::agents::claude_adapter();
    let agents = Agents::one(&format!("{adapter}, tools: [peer.echo]"), ", schema: text", |request| {
        let is_called = request.body.to_string().contains("Echo: hello");
        if is_called { Reply::anthropic_text("done") } else { call_of_echo(request) }
    });
    let Some(agents) = agents else { return };
    let servers = json!({ "peer": { "command": command } });
    let settings = json!({ "mcp": servers, "sandbox": { "enabled": false } });
    agents.orch.write("orch.yaml", &settings.to_string()).trust();
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let last = agents.model_requests().last().unwrap().body.to_string();
    assert!(last.contains("Echo: hello"), "{last}");
}
