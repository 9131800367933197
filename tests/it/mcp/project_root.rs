//! Servers whose programs are files of the project: `{{ project.root }}` in their commands.

use std::path::Path;

use serde_json::{Value, json};

use super::calls::calling_project;
use crate::support::sandbox::{is_full, reaches_full};
use crate::support::{Orch, RunOutput};

/// A project with a server in its folder `servers`, which is not in the workspace. Its only step appends a line to
/// `made.txt`.
fn project(step: &Value) -> Orch {
    let sandbox = if is_full() { json!({ "write": ["."] }) } else { json!({ "enabled": false }) };
    let server = json!({ "command": ["python3", "{{ project.root }}/servers/writer.py"], "sandbox": sandbox });
    let mut keys = json!({ "call": "files.append", "args": { "text": "one" } });
    keys.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
    let orch = calling_project(&keys, &[], &json!({ "files": server }));
    orch.write("servers/writer.py", include_str!("writer.py"));
    orch
}

#[test]
fn a_run_a_tool_call_and_a_test_case_start_a_server_of_the_project() {
    let orch = project(&json!({}));
    orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(0);
    assert_eq!(orch.read("workspace/made.txt"), "one\n");
    orch.run(&["tools", "call", "files.append", "--arg", "text=two", "--yes", "-w", "elsewhere"]).exits(0);
    assert_eq!(orch.read("elsewhere/made.txt"), "two\n");
    let case = json!({ "pipeline": "../main.yaml", "expect": { "files": ["made.txt"] } });
    orch.write("pipelines/tests/adds.yaml", &case.to_string());
    orch.run(&["pipeline", "test", "--update"]).exits(0);
    let ran = orch.run(&["pipeline", "test"]).exits(0);
    assert!(ran.stdout.contains("1 passed, 0 failed"), "{ran:?}");
}

#[test]
fn a_moved_project_reuses_the_result_of_its_server() {
    let orch = project(&json!({}));
    let (old, new) = (orch.path().join("old"), orch.path().join("new"));
    let entries = std::fs::read_dir(orch.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    std::fs::create_dir(&old).unwrap();
    for entry in entries {
        std::fs::rename(&entry, old.join(entry.file_name().unwrap())).unwrap();
    }
    let main = std::fs::read_to_string(old.join("pipelines/main.yaml")).unwrap();
    let with_check = main.replace("\"steps\":[", "\"finally\":[{\"id\":\"check\",\"run\":\"test -e go\"}],\"steps\":[");
    assert_ne!(with_check, main);
    std::fs::write(old.join("pipelines/main.yaml"), with_check).unwrap();
    let run = |folder: &Path, args: &[&str]| RunOutput::of(&orch.command(args).current_dir(folder).output().unwrap());
    run(&old, &["trust"]).exits(0);
    run(&old, &["pipeline", "run", "pipelines/main.yaml"]).exits(1);
    std::fs::rename(&old, &new).unwrap();
    std::fs::write(new.join("workspace/go"), "").unwrap();
    run(&new, &["trust"]).exits(0);
    run(&new, &["pipeline", "resume"]).exits(0).says("find: reused");
    assert_eq!(std::fs::read_to_string(new.join("workspace/made.txt")).unwrap(), "one\n");
}

#[test]
fn a_server_of_the_project_is_shown_with_the_text_of_its_settings() {
    let orch = project(&json!({}));
    let shown = orch.run(&["trust", "--print"]).exits(0).stderr;
    assert!(shown.contains("starts the MCP server [\"python3\", \"{{ project.root }}/servers/writer.py\"]"), "{shown}");
}

#[test]
fn another_expression_in_the_command_of_a_server_is_reported() {
    for (argument, code, expected) in [
        ("{{ project.rot }}/a.py", 2, "unknown variable `project.rot`"),
        ("{{ inputs.topic }}", 0, "orch passes `{{ inputs.topic }}` to the MCP server unchanged"),
    ] {
        let orch = project(&json!({}));
        orch.edit("orch.yaml", "{{ project.root }}/servers/writer.py", argument);
        orch.run(&["pipeline", "validate"]).exits(code).says(expected);
    }
    let orch = project(&json!({}));
    orch.edit("orch.yaml", "{{ project.root }}/servers/writer.py", "{{.Names}}");
    let ran = orch.run(&["pipeline", "validate"]).exits(0);
    assert!(!ran.stderr.contains("ORCH04"), "{ran:?}");
}

#[test]
fn the_server_in_the_document_starts() {
    if !reaches_full() {
        return;
    }
    let document = std::fs::read_to_string("docs/mcp.md").unwrap();
    let mut blocks = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let settings = blocks.find(|block| block.contains("{{ project.root }}")).unwrap();
    let orch = Orch::empty();
    orch.write("servers/shop.py", &include_str!("writer.py").replace("\"append\"", "\"stock\""));
    orch.write("orch.yaml", settings).trust();
    let listed = orch.run(&["tools", "list", "--server", "shop"]).exits(0);
    assert!(listed.stdout.contains("shop.stock"), "{listed:?}");
}
