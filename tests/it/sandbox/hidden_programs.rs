//! Tests of programs that are installed on this machine, but in a folder that the sandbox hides.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{command_project, project_with, reaches_full, run_command, run_with_report};
use crate::support::{Orch, RunOutput};

/// A program below `/tmp`, which a sandbox at the level `full` hides.
struct HiddenProgram {
    _folder: TempDir,
    /// The folder, without links.
    folder: PathBuf,
    program: PathBuf,
}

impl HiddenProgram {
    fn new() -> Self {
        let temporary_folder = tempfile::tempdir_in("/tmp").unwrap();
        let folder = temporary_folder.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("lib")).unwrap();
        let program = folder.join("lib/program");
        write_program(&program, "#!/bin/sh\necho ran\n");
        Self { _folder: temporary_folder, folder, program }
    }

    /// Creates a link to the program in the folder `bin` of the project.
    fn link(&self, orch: &Orch, name: &str) {
        std::fs::create_dir_all(orch.path().join("bin")).unwrap();
        symlink(&self.program, orch.path().join("bin").join(name)).unwrap();
    }

    /// The part of a message that says why the sandbox has no program, whose link has this name.
    fn reason(&self, orch: &Orch, name: &str) -> String {
        let link = orch.path().join("bin").join(name);
        format!(
            "the sandbox hides `/tmp`, which contains `{}`, to which `{}` leads",
            self.program.display(),
            link.display()
        )
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Sets a `PATH` of the folder `bin` of the project and the folders of the system, so that no other `claude` is found.
fn with_search_path(mut command: Command, orch: &Orch) -> Command {
    let search_path = format!("{}:/usr/bin:/bin", orch.path().join("bin").display());
    command.env("PATH", search_path);
    command
}

/// The error of the first step of a run.
#[track_caller]
fn error_of(orch: &Orch) -> Value {
    let (ran, report) = run_with_report(&mut with_search_path(run_command(orch), orch));
    assert_eq!(ran.code, 1, "{report:#}");
    report["steps"][0]["error"].clone()
}

#[track_caller]
fn assert_text(error: &Value, key: &str, expected: &str) {
    assert!(error[key].as_str().unwrap().contains(expected), "{expected}\n{error:#}");
}

#[test]
fn the_failure_of_a_command_names_its_hidden_program_and_a_setting_that_works() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let project = |sandbox: Value| {
        let orch = project_with(&json!({}), &json!([{ "id": "it", "run": ["hidden-tool"], "sandbox": sandbox }]));
        hidden.link(&orch, "hidden-tool");
        orch
    };
    let orch = project(json!({}));
    let error = error_of(&orch);
    assert_eq!(error["class"], "not_installed", "{error:#}");
    let expected = format!("there is no program `hidden-tool` in its sandbox: {}", hidden.reason(&orch, "hidden-tool"));
    assert_text(&error, "message", &expected);
    assert_text(&error, "hint", &format!("write `write: [., {}]` in `sandbox` of the step", hidden.folder.display()));
    let allowed = project(json!({ "write": [".", hidden.folder] }));
    run_with_report(&mut with_search_path(run_command(&allowed), &allowed)).0.exits(0);
}

#[test]
fn the_failure_of_a_shell_line_names_its_hidden_program_or_interpreter() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    for line in ["hidden-tool --version", "./script"] {
        let orch = command_project(line, json!({}));
        orch.edit("pipelines/main.yaml", "\"expect\":{\"exit_code\":[]},", "");
        hidden.link(&orch, "hidden-tool");
        orch.write("workspace/script", "");
        write_program(&orch.path().join("workspace/script"), "#!/usr/bin/env hidden-tool\n");
        let error = error_of(&orch);
        assert_eq!(error["class"], "command_failed", "{error:#}");
        assert_text(&error, "hint", &hidden.reason(&orch, "hidden-tool"));
    }
}

#[test]
fn the_failure_of_a_command_names_the_hidden_interpreter_of_its_script() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let orch = project_with(&json!({}), &json!([{ "id": "it", "run": ["./script"], "sandbox": {} }]));
    orch.write("workspace/script", "");
    write_program(&orch.path().join("workspace/script"), &format!("#!{}\n", hidden.program.display()));
    let error = error_of(&orch);
    assert_eq!(error["class"], "not_installed", "{error:#}");
    assert_text(&error, "message", &format!("which contains `{}`; `", hidden.program.display()));
    assert_text(&error, "message", "needs it as its interpreter");
}

#[test]
fn the_failure_of_an_agent_names_its_hidden_program() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    for (agent, name) in [
        (json!({ "cli": "claude" }), "claude"),
        (json!({ "cli": "codex" }), "codex"),
        (json!({ "acp": { "command": ["hidden-tool"] } }), "hidden-tool"),
        (json!({ "command": ["hidden-tool"] }), "hidden-tool"),
        // `env` starts, and then finds no interpreter.
        (json!({ "command": ["env-script"] }), "hidden-tool"),
    ] {
        let step = json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
        let orch = project_with(&json!({ "a": agent }), &json!([step]));
        hidden.link(&orch, name);
        write_program(&orch.path().join("bin/env-script"), "#!/usr/bin/env hidden-tool\n");
        let error = error_of(&orch);
        assert_eq!(error["class"], "not_installed", "{agent}: {error:#}");
        assert_text(&error, "message", &hidden.reason(&orch, name));
        let setting = format!("write `sandbox: {{ write: [., {}] }}` in orch.yaml", hidden.folder.display());
        assert_text(&error, "hint", &setting);
    }
}

#[test]
fn the_setting_in_the_hint_for_an_agent_works() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let step = json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
    let orch = project_with(&json!({ "a": { "command": ["hidden-tool"] } }), &json!([step]));
    hidden.link(&orch, "hidden-tool");
    orch.write("orch.yaml", &json!({ "sandbox": { "write": [".", hidden.folder] } }).to_string()).trust();
    run_with_report(&mut with_search_path(run_command(&orch), &orch)).0.exits(0);
    assert_eq!(orch.read("workspace/said.md"), "ran\n");
}

#[test]
fn the_failure_of_an_mcp_server_names_its_hidden_program() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let orch = Orch::empty();
    hidden.link(&orch, "hidden-tool");
    write_program(&orch.path().join("bin/env-script"), "#!/usr/bin/env hidden-tool\n");
    orch.write("workspace/x", "");
    for program in ["hidden-tool", "env-script"] {
        orch.write("orch.yaml", &json!({ "mcp": { "files": { "command": [program] } } }).to_string()).trust();
        let command = orch.command(&["tools", "list", "--server", "files"]);
        let ran = RunOutput::of(&with_search_path(command, &orch).output().unwrap());
        let printed = format!("{}{}", ran.stdout, ran.stderr);
        for expected in [
            format!("there is no program `{program}` in its sandbox: {}", hidden.reason(&orch, "hidden-tool")),
            format!("list `{}` under `mcp.files.sandbox.write`", hidden.folder.display()),
        ] {
            assert!(printed.contains(&expected), "{expected}\n{printed}");
        }
    }
}

#[test]
fn a_run_whose_mcp_server_is_hidden_does_not_start() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let steps = json!([
        { "id": "first", "run": "touch began" },
        { "id": "find", "call": "files.find", "args": {}, "output": "found" },
    ]);
    for sandbox in [json!({}), json!({ "write": ["."] })] {
        let orch = project_with(&json!({}), &steps);
        hidden.link(&orch, "hidden-tool");
        let server = json!({ "command": ["hidden-tool"], "sandbox": sandbox });
        orch.write("orch.yaml", &json!({ "mcp": { "files": server } }).to_string()).trust();
        let command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--workspace", "new"]);
        let ran = RunOutput::of(&with_search_path(command, &orch).output().unwrap()).exits(2);
        ran.says("step `find` can't run: the MCP server `files` can't be started: there is no program `hidden-tool`")
            .says(&hidden.reason(&orch, "hidden-tool"));
        assert!(!orch.exists("new/began"));
        let message = format!(
            "the MCP server `files` can't be started: there is no program `hidden-tool` in its sandbox: {}",
            hidden.reason(&orch, "hidden-tool")
        );
        let run = |args: &[&str]| RunOutput::of(&with_search_path(orch.command(args), &orch).output().unwrap());
        let commands: [&[&str]; 4] = [
            &["pipeline", "plan", "pipelines/main.yaml"],
            &["doctor"],
            &["tools", "list"],
            &["tools", "show", "files.x"],
        ];
        for command in commands {
            let ran = run(command);
            assert!(format!("{}{}", ran.stdout, ran.stderr).contains(&message), "{command:?}: {message}\n{ran:?}");
        }
        let planned = run(&["pipeline", "plan", "pipelines/main.yaml", "--output", "json"]).exits(0).stdout;
        let planned: Value = serde_json::from_str(&planned).unwrap();
        assert_eq!(planned["missing_requirements"], json!([message]));
        // `validate` starts no program, also not to find out which level of sandboxes works.
        let validated = run(&["pipeline", "validate"]);
        assert!(!validated.stderr.contains("can't be started"), "{validated:?}");
    }
}

#[test]
fn the_failure_of_an_mcp_server_names_its_hidden_script() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let script = hidden.folder.join("lib/server.py");
    std::fs::write(&script, "print('never')\n").unwrap();
    let orch = Orch::empty();
    for argument in [script.display().to_string(), format!("--script={}", script.display())] {
        let server = json!({ "command": ["sh", "-c", "python3 \"${0#--script=}\"", argument] });
        orch.write("orch.yaml", &json!({ "mcp": { "files": server } }).to_string()).trust();
        let ran = orch.run(&["tools", "list", "--server", "files"]);
        let printed = format!("{}{}", ran.stdout, ran.stderr);
        for expected in [
            format!("the sandbox hides `/tmp`, which contains `{}`", script.display()),
            format!(
                "move the file into the project, or list `{}` under `mcp.files.sandbox.write`",
                hidden.folder.display()
            ),
        ] {
            assert!(printed.contains(&expected), "{expected}\n{printed}");
        }
        assert!(!printed.contains("in a terminal"), "{printed}");
    }
}

#[test]
fn the_result_of_a_shell_command_names_its_hidden_program() {
    if !reaches_full() {
        return;
    }
    let hidden = HiddenProgram::new();
    let orch = Orch::empty();
    hidden.link(&orch, "hidden-tool");
    orch.write("workspace/x", "");
    let command = orch.command(&["tools", "call", "shell", "--yes", "--arg", "command=hidden-tool --version"]);
    let ran = RunOutput::of(&with_search_path(command, &orch).output().unwrap());
    let expected = format!("[{}; in a sandbox at the level `full`", hidden.reason(&orch, "hidden-tool"));
    assert!(ran.stdout.contains(&expected), "{expected}\n{ran:?}");
}
