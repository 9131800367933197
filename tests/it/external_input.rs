//! External input is treated alike wherever it comes from: addresses, byte order marks, encodings.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::step_kinds::project;
use crate::support::agents::fake_program;
use crate::support::{Orch, Reply, RunOutput, Server};

fn sent_message(server: &Server) -> String {
    server.requests()[0].last()
}

fn project_and_server() -> (Server, Orch) {
    let server = Server::start(|_| Reply::openai_text("\"fine\""));
    let orch = project(&server, "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n");
    (server, orch)
}

#[test]
fn an_address_from_the_environment_is_checked_like_one_in_the_file() {
    for (name, model, address) in [
        ("OPENAI_BASE_URL", "openai/gpt-4o", "http://127.0.0.1:9/v1?api-version=1"),
        ("OPENAI_BASE_URL", "openai/gpt-4o", "127.0.0.1:9/v1"),
        ("ANTHROPIC_BASE_URL", "anthropic/claude-x", "localhost:9"),
        ("OLLAMA_HOST", "ollama/m", "http://127.0.0.1:9/v1#x"),
    ] {
        let (server, orch) = project_and_server();
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--model", model];
        let mut command = orch.command(&args);
        command.env("OPENAI_API_KEY", "sk-abcdefgh12345678").env("ANTHROPIC_API_KEY", "sk-abcdefgh12345678");
        let ran = RunOutput::of(&command.env(name, address).output().unwrap()).exits(2);
        assert!(ran.stderr.contains(&format!("the value of {name} is not the address of an API")), "{ran:?}");
        assert!(server.requests().is_empty() && !orch.exists(".orch/journal.db"), "{ran:?}");
        let doctor = RunOutput::of(&orch.command(&["doctor"]).env(name, address).output().unwrap());
        assert!(doctor.stdout.contains(&format!("the value of {name} is not the address")), "{doctor:?}");
    }
}

#[test]
fn the_address_of_a_tracker_is_checked_in_both_the_file_and_the_environment() {
    let (_server, orch) = project_and_server();
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}tracker: {{ convex: {{ url: \"localhost:3210\" }} }}\n"));
    orch.run(&["pipeline", "validate"])
        .exits(2)
        .says("ORCH0704")
        .says("`localhost:3210` is not the address of a tracker");
    orch.write("orch.yaml", &format!("{settings}tracker: {{ convex: {{ url: {{ env: THERE }} }} }}\n"));
    orch.run(&["pipeline", "validate"]).exits(0);
    let mut command = orch.command(&["runs", "track", "--all"]);
    orch.run(&["trust"]).exits(0);
    let ran = RunOutput::of(&command.env("THERE", "localhost:3210").output().unwrap());
    assert!((ran.stdout.clone() + &ran.stderr).contains("THERE is not an address") || ran.code == 2, "{ran:?}");
}

#[test]
fn a_byte_order_mark_is_removed_from_a_task() {
    let (server, orch) = project_and_server();
    orch.write("task.md", "\u{feff}do it");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task-file", "task.md"]).exits(0);
    assert!(
        sent_message(&server).contains("do it") && !sent_message(&server).contains('\u{feff}'),
        "{:?}",
        sent_message(&server)
    );
    let (server, orch) = project_and_server();
    let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("\u{feff}do it".as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!sent_message(&server).contains('\u{feff}'), "{:?}", sent_message(&server));
    for given in [["--task", "\u{feff}do it"], ["--input", "task=\u{feff}do it"]] {
        let (server, orch) = project_and_server();
        orch.run(&[&["pipeline", "run", "pipelines/main.yaml"], &given[..]].concat()).exits(0);
        assert!(
            sent_message(&server).contains("do it") && !sent_message(&server).contains('\u{feff}'),
            "{:?}",
            sent_message(&server)
        );
    }
}

#[test]
fn the_address_of_claude_code_is_checked_before_it_is_started() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: x\nagents: { a: { cli: claude } }\nsteps:\n  - { id: s, agent: a, prompt: p.md, output: o, schema: text }\n");
    orch.write("prompts/p.md", "Say it.");
    let path = fake_program(&orch, "claude", "touch started");
    let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml"]);
    let ran = RunOutput::of(&command.env("PATH", path).env("ANTHROPIC_BASE_URL", "localhost:9").output().unwrap());
    assert!(ran.code == 1 && !orch.exists("workspace/started"), "{ran:?}");
    assert!(ran.stderr.contains("the value of ANTHROPIC_BASE_URL is not the address of an API"), "{ran:?}");
}

#[test]
fn a_task_in_utf_16_is_reported_as_such() {
    let (server, orch) = project_and_server();
    let bytes: Vec<u8> = "\u{feff}do it".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(orch.path().join("task.md"), bytes).unwrap();
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task-file", "task.md"];
    orch.run(&args).exits(2).says("`task.md` is UTF-16 text: save it as UTF-8");
    std::fs::copy(orch.path().join("task.md"), orch.path().join("prompts/one.md")).unwrap();
    orch.run(&["pipeline", "validate"]).exits(2).says("`prompts/one.md` is UTF-16 text");
    assert!(server.requests().is_empty());
}

#[cfg(unix)]
#[test]
fn a_byte_order_mark_is_removed_from_the_output_of_a_command() {
    let (_server, orch) = project_and_server();
    orch.write("data.json", "\u{feff}{\"a\": 1}");
    let steps = "name: x\nsteps:\n  - { id: c, run: [cat, ../data.json], output: c, schema: any }\n";
    orch.write("pipelines/main.yaml", steps);
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(0);
    let artifact = orch.json("workspace/c.json");
    assert!(artifact == json!({ "a": 1 }) || artifact["stdout"] == "{\"a\": 1}", "{artifact}");
}

#[test]
fn recordings_imports_and_edited_artifacts_may_begin_with_a_byte_order_mark() {
    let (server, orch) = project_and_server();
    let run = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];
    orch.run(&[&run[..], &["--record", "recorded"]].concat()).exits(0);
    for name in orch.files().into_iter().filter(|name| name.starts_with("recorded/")) {
        let text = orch.read(&name);
        orch.write(&name, &format!("\u{feff}{text}"));
    }
    orch.run(&[&run[..], &["--replay", "recorded"]].concat()).exits(0);
    assert_eq!(server.requests().len(), 1);
    let id = crate::kill::latest_run(&orch).unwrap().0;
    orch.run(&["runs", "export", &id, "--to", "run.json"]).exits(0);
    orch.run(&["runs", "delete", &id]).exits(0);
    let exported = orch.read("run.json");
    orch.write("run.json", &format!("\u{feff}{exported}"));
    orch.run(&["runs", "import", "run.json"]).exits(0);
    orch.write("reply.txt", "\u{feff}{\"a\": 1}");
    orch.write("any.json", "{}");
    let ran = orch.run(&["extract", "--schema", "any.json", "reply.txt"]).exits(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), json!({ "a": 1 }));
}
