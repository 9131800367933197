//! Tests of the protection of the workspace and of the project: what a program can't change, and which damage fails its
//! step.

use serde_json::{Value, json};

use super::{
    command_project, project_with, reaches_full, recorded_sandbox, run_command, run_with_report, stdout_of,
    without_namespaces,
};
use crate::support::{Orch, RunOutput};

/// Runs a project of [`command_project`] and asserts that the step fails because of damage to this file.
#[track_caller]
fn assert_damage(orch: &Orch, file: &str) {
    let (ran, report) = run_with_report(&mut run_command(orch));
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("path_refused")), "{report:#}");
    assert!(error["message"].as_str().unwrap().contains(&format!("workspace/{file}`")), "{report:#}");
    assert!(error["hint"].as_str().unwrap().contains("before you run git there"), "{report:#}");
    assert!(recorded_sandbox(orch)["damage"].to_string().contains(file));
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("damage") && shown.contains("the program"), "{shown}");
}

/// Creates the files of a repository in the workspace.
fn create_repository(orch: &Orch) {
    orch.write("workspace/.git/HEAD", "ref: refs/heads/main\n");
    for name in ["objects/info/x", "refs/heads/x", "hooks/x"] {
        orch.write(&format!("workspace/.git/{name}"), "");
    }
    orch.write("workspace/.git/config", "[core]\n\trepositoryformatversion = 0\n");
}

#[test]
fn a_command_that_damages_the_repository_fails() {
    if !reaches_full() {
        return;
    }
    for (line, file) in [
        ("rm .git/HEAD", ".git/HEAD"),
        ("echo x > .git/HEAD", ".git/HEAD"),
        ("mv .git/objects away", ".git/objects"),
        ("mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; echo '[core]' > config", "HEAD"),
    ] {
        let orch = command_project(line, json!({}));
        create_repository(&orch);
        assert_damage(&orch, file);
    }
    // Changes that git itself makes are no damage.
    let orch = command_project("echo 'ref: refs/heads/side' > .git/HEAD; touch .git/objects/x && echo done", json!({}));
    create_repository(&orch);
    assert_eq!(stdout_of(&orch), "done\n");
}

#[test]
fn a_folder_of_a_command_that_becomes_a_repository_fails_its_step() {
    if !reaches_full() {
        return;
    }
    let line = "mkdir objects refs; echo 'ref: refs/heads/x' > HEAD; echo '[core]' > config";
    let orch = command_project(line, json!({}));
    create_repository(&orch);
    orch.write("workspace/sub/x", "").edit("pipelines/main.yaml", "\"id\":\"it\"", "\"id\":\"it\",\"cwd\":\"sub\"");
    assert_damage(&orch, "sub/HEAD");
}

#[test]
fn an_agent_that_damages_the_repository_fails() {
    if !reaches_full() {
        return;
    }
    let agent = json!({ "command": ["sh", "-c", "rm .git/HEAD; echo fine"], "tools": ["any"] });
    let step = json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
    let orch = project_with(&json!({ "a": agent }), &json!([step]));
    create_repository(&orch);
    assert_damage(&orch, ".git/HEAD");
}

#[test]
fn a_command_cannot_remove_the_locks_of_the_workspace() {
    if !reaches_full() {
        return;
    }
    let orch = command_project("rm -f .orch.lock .orch.programs.lock; ls -A", json!({}));
    let listed = stdout_of(&orch);
    assert!(listed.contains(".orch.lock\n") && listed.contains(".orch.programs.lock\n"), "{listed}");
}

#[test]
fn at_basic_a_removed_lock_fails_the_step() {
    let orch = command_project("rm .orch.lock", json!({ "min": "basic" }));
    let Some(mut command) = without_namespaces(&run_command(&orch)) else { return };
    let (ran, report) = run_with_report(&mut command);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("path_refused")), "{report:#}");
    assert!(error["message"].as_str().unwrap().contains(".orch.lock"), "{report:#}");
}

#[test]
fn at_basic_a_run_in_the_folder_of_the_project_succeeds_although_orch_writes_its_journal_there() {
    let orch = command_project("sleep 2; echo a > a", json!({ "min": "basic" }));
    let mut command = run_command(&orch);
    command.args(["--workspace", "."]);
    let Some(mut command) = without_namespaces(&command) else { return };
    let (ran, report) = run_with_report(&mut command);
    assert_eq!(ran.code, 0, "{report:#}");
    assert!(orch.exists("a"));
}

#[test]
fn an_empty_folder_of_the_user_stays() {
    if !reaches_full() {
        return;
    }
    let orch = command_project("mkdir .github/x || echo refused", json!({}));
    for name in [".github", ".orch"] {
        std::fs::create_dir_all(orch.path().join("workspace").join(name)).unwrap();
    }
    orch.write("workspace/orch.yaml", "");
    assert_eq!(stdout_of(&orch), "refused\n");
    for name in [".github", ".orch", "orch.yaml"] {
        assert!(orch.exists(&format!("workspace/{name}")), "{name}");
    }
    assert!(!orch.exists("workspace/.git"), "orch created it as a placeholder");
}

/// Creates a project whose home is the folder of the project, with a step that runs this line with this access.
fn project_in_home(line: &str, access: &str, sandbox: Value) -> Orch {
    let orch = command_project(line, sandbox);
    orch.edit("pipelines/main.yaml", "\"id\":\"it\"", &format!("\"id\":\"it\",\"access\":\"{access}\""));
    orch
}

#[test]
fn without_write_access_the_workspace_stays_read_only_inside_a_writable_folder() {
    let line = "echo a > ../a && echo above; echo b > b || echo refused";
    for write in [json!(["~"]), json!([".", "~"])] {
        let orch = project_in_home(line, "read", json!({ "min": "basic", "write": write }));
        let mut command = run_command(&orch);
        command.env("HOME", orch.path());
        if reaches_full() {
            assert_eq!(run_with_report(&mut command).0.code, 0);
            assert_eq!(orch.json("workspace/said.json")["stdout"], "above\nrefused\n");
        }
        // Landlock can't take the right to write away from a folder inside a writable one.
        let Some(mut command) = without_namespaces(&command) else { return };
        let ran = RunOutput::of(&command.output().unwrap()).exits(2);
        ran.says("step `it` can't be confined: `sandbox.write` lists").says("which contains the workspace");
    }
}

#[test]
fn the_files_of_the_project_are_protected_outside_of_the_workspace() {
    if !reaches_full() {
        return;
    }
    let line = "cd ..; for f in pipelines/main.yaml orch.yaml .orch/x; do echo x > $f || echo refused; done; \
                mv pipelines away || echo refused; echo y > other && echo written";
    let orch = project_in_home(line, "write", json!({ "write": [".", "~"] }));
    let mut command = run_command(&orch);
    let (ran, report) = run_with_report(command.env("HOME", orch.path()));
    assert_eq!(ran.code, 0, "{report:#}");
    assert_eq!(orch.json("workspace/said.json")["stdout"], "refused\n".repeat(4) + "written\n");
    assert!(orch.read("pipelines/main.yaml").contains("\"it\"") && orch.exists("other"));
    assert!(!orch.exists("orch.yaml"), "orch removes the placeholder");
}

#[test]
fn a_denied_file_in_the_workspace_cannot_be_moved_for_the_next_step() {
    if !reaches_full() {
        return;
    }
    let sandbox = json!({ "deny_read": ["private/key"] });
    let step = |id: &str, line: &str| json!({ "id": id, "run": line, "sandbox": sandbox, "output": id });
    let steps =
        json!([step("first", "mv private public || true"), step("second", "cat public/key private/key || true")]);
    let orch = project_with(&json!({}), &steps);
    orch.write("workspace/private/key", "secret-text");
    let (ran, report) = run_with_report(&mut run_command(&orch));
    assert_eq!(ran.code, 0, "{report:#}");
    assert!(!orch.json("workspace/second.json").to_string().contains("secret-text"));
    assert_eq!(orch.read("workspace/private/key"), "secret-text");
}
