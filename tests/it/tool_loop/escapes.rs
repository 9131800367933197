//! A model that tries to leave its workspace, through each tool.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::dialects::ToolCall;
use super::{allow_pages, answer, calls, facts_of, last_results, run, scripted_server, tool_project};
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, Reply, Server};

/// A project whose model makes these calls in one turn. Beside the workspace is a file that nothing may read or change.
fn escaping_project(server: &Server, tools: &[&str]) -> Orch {
    let orch = tool_project(server, &json!({ "tools": tools }), &json!({}));
    orch.write("outside/file.txt", "sentinel\n").write("workspace/inside.txt", "inside\n");
    symlink(orch.path().join("outside"), orch.path().join("workspace/link")).unwrap();
    symlink("../outside/file.txt", orch.path().join("workspace/alias")).unwrap();
    orch
}

/// The files of the project without those that a run writes, with their contents.
fn unchangeable_files(orch: &Orch) -> Vec<(String, String)> {
    let names = orch.files().into_iter().filter(|name| !name.ends_with(".lock") && name != "workspace/result.json");
    names.map(|name| (name.clone(), orch.read(&name))).collect()
}

/// Runs the project, and asserts that each call was refused, and that no file changed.
fn assert_refused(orch: &Orch, server: &Server, attempts: &[ToolCall]) {
    let before = unchangeable_files(orch);
    let (ran, _) = run(orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(server);
    assert_eq!(results.len(), attempts.len(), "{results:?}");
    for (attempt, result) in attempts.iter().zip(&results) {
        assert!(result.starts_with("Error:"), "{attempt:?}: {result}");
        assert!(!result.contains("sentinel") && !result.contains("root:"), "{attempt:?}: {result}");
    }
    assert_eq!(unchangeable_files(orch), before);
    let is_unchanged = facts_of(orch, "call_ended").iter().all(|call| call["agent_activity"]["changed"].is_null());
    assert!(is_unchanged, "no change is recorded");
}

#[test]
fn the_file_tools_stay_in_the_workspace() {
    let mut attempts: Vec<ToolCall> = Vec::new();
    for path in ["../outside/file.txt", "/etc/passwd", "link/file.txt", "alias", "inside.txt/../../outside/file.txt"] {
        attempts.push(("read", json!({ "path": path })));
        attempts.push(("write", json!({ "path": path, "content": "owned" })));
        attempts.push(("edit", json!({ "path": path, "old": "sent", "new": "owned" })));
    }
    for path in [".git/hooks/pre-commit", ".orch/x", "orch.yaml", ".github/workflows/x.yml", "result.json"] {
        attempts.push(("write", json!({ "path": path, "content": "owned" })));
    }
    for path in ["..", "link", "/etc"] {
        attempts.push(("list", json!({ "path": path })));
        attempts.push(("list", json!({ "path": path, "glob": "**" })));
    }
    let server = scripted_server(vec![calls(attempts.clone()), answer(&json!("fine"))]);
    let orch = escaping_project(&server, &["read", "list", "edit", "write"]);
    assert_refused(&orch, &server, &attempts);
}

#[test]
fn tools_do_not_change_the_files_that_define_the_run() {
    let paths = ["pipelines/main.yaml", "prompts/work.md", "orch.yaml", ".orch/journal"];
    let attempts: Vec<ToolCall> =
        paths.iter().map(|path| ("write", json!({ "path": path, "content": "owned" }))).collect();
    let server = scripted_server(vec![calls(attempts), answer(&json!("fine"))]);
    let orch = tool_project(&server, &json!({ "tools": ["write"] }), &json!({}));
    let contents = || ["pipelines/main.yaml", "prompts/work.md", "orch.yaml"].map(|name| orch.read(name));
    let before = contents();
    // The project is the workspace.
    orch.run(&[&super::RUN[..], &["--workspace", "."]].concat()).exits(0);
    assert_eq!(contents(), before);
    assert!(last_results(&server).iter().all(|result| result.starts_with("Error:")), "{:?}", last_results(&server));
}

#[test]
fn a_search_finds_nothing_outside_the_workspace() {
    let search = calls([("search", json!({ "regex": "sentinel|root:" })), ("list", json!({ "glob": "**" }))]);
    let server = scripted_server(vec![search, answer(&json!("fine"))]);
    let orch = escaping_project(&server, &["search", "list"]);
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(&server);
    assert!(results[0].contains("no line matches") && !results[1].contains("file.txt"), "{results:?}");
}

#[test]
fn fetch_reads_only_listed_hosts_and_follows_no_redirect_to_others() {
    let secret = Server::always(Reply::typed("text/plain", "sentinel"));
    let target = secret.url();
    let pages = Server::start(move |_| Reply::status(302, "").header("location", &target));
    let urls = [
        secret.url(),
        format!("http://localhost:{}", secret.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("{}/redirect", pages.url()),
        "file:///etc/passwd".to_owned(),
        format!("http://user@127.0.0.1:{}@{}", pages.port(), secret.url().trim_start_matches("http://")),
    ];
    let attempts: Vec<ToolCall> = urls.iter().map(|url| ("fetch", json!({ "url": url }))).collect();
    let server = scripted_server(vec![calls(attempts.clone()), answer(&json!("fine"))]);
    let grant = format!("fetch(127.0.0.1:{})", pages.port());
    let orch = escaping_project(&server, &[&grant]);
    allow_pages(&orch, &pages);
    assert_refused(&orch, &server, &attempts);
    assert_eq!((secret.requests().len(), pages.requests().len()), (0, 1));
}

#[test]
fn a_command_stays_in_its_sandbox_and_in_its_patterns() {
    if !reaches_full() {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let commands = [
        "echo owned > ../outside/file.txt".to_owned(),
        "echo owned > link/file.txt".to_owned(),
        "rm ../outside/file.txt".to_owned(),
        "grep . /etc/shadow".to_owned(),
        "mkdir -p .git/hooks && echo owned > .git/hooks/pre-commit".to_owned(),
        "echo owned > ../orch.yaml".to_owned(),
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        format!("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 5)'"),
        "unshare -U true".to_owned(),
    ];
    let attempts: Vec<ToolCall> = commands.iter().map(|command| ("shell", json!({ "command": command }))).collect();
    let server = scripted_server(vec![calls(attempts.clone()), answer(&json!("fine"))]);
    let orch = escaping_project(&server, &["shell"]);
    assert_refused(&orch, &server, &attempts);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "no command connected");

    let commands = ["rm inside.txt", "cat inside.txt; rm inside.txt", "cat $(rm inside.txt)", "cat inside.txt > new"];
    let attempts: Vec<ToolCall> = commands.iter().map(|command| ("shell", json!({ "command": command }))).collect();
    let server = scripted_server(vec![calls(attempts.clone()), answer(&json!("fine"))]);
    let orch = escaping_project(&server, &["shell(cat:*)"]);
    assert_refused(&orch, &server, &attempts);
}
