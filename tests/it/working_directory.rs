//! The working directory of commands, and how they find the files of the project.
#![cfg(unix)]

use crate::support::Orch;

/// A project with a script, and a pipeline of one command.
fn project(step: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("scripts/check.sh", "echo checked in $(basename \"$PWD\")\n");
    orch.write("pipelines/main.yaml", &format!("name: main\nsteps:\n  - {{ id: check, output: check, {step} }}\n"));
    orch
}

fn run(orch: &Orch) -> crate::support::RunOutput {
    orch.run(&["pipeline", "run", "pipelines/main.yaml"])
}

#[test]
fn the_hint_for_a_missing_file_names_the_folder_of_the_command() {
    for step in ["run: sh scripts/check.sh", "run: [sh, scripts/check.sh]", "run: scripts/check.sh", "run: [cat, nope]"]
    {
        let orch = project(step);
        let folder = orch.path().canonicalize().unwrap().join("workspace");
        run(&orch)
            .exits(1)
            .says(&format!("it ran in `{}`, in the workspace", folder.display()))
            .says("{{ project.root }}");
    }
    // A relative path to a program is resolved in that folder, too.
    let orch = project("run: [scripts/check.sh]");
    let folder = orch.path().canonicalize().unwrap().join("workspace");
    run(&orch)
        .exits(1)
        .says(&format!("there is no program `scripts/check.sh`: the command ran in `{}`", folder.display()))
        .says("{{ project.root }}");
    // Other failures have no such hint.
    let ran = run(&project("run: exit 3")).exits(1);
    assert!(!ran.stderr.contains("it ran in"), "{}", ran.stderr);
}

#[test]
fn the_hint_shows_the_actual_exit_code_and_works() {
    for (expect, code, shown) in [("", 3, "[0, 3]"), ("expect: { exit_code: [0, 5] }, ", 3, "[0, 3, 5]")] {
        let orch = project(&format!("{expect}run: exit {code}"));
        run(&orch).exits(1).says(&format!("`expect: {{ exit_code: {shown} }}`"));
        let orch = project(&format!("expect: {{ exit_code: {shown} }}, run: exit {code}"));
        run(&orch).exits(0);
    }
}

#[test]
fn a_command_finds_the_files_of_the_project_by_project_root() {
    for step in [
        "run: 'sh \"{{ project.root }}\"/scripts/check.sh'",
        "run: [sh, '{{ project.root }}/scripts/check.sh']",
        "run: [sh], stdin: \"'. ' ~ project.root ~ '/scripts/check.sh'\"",
    ] {
        let orch = project(step);
        run(&orch).exits(0);
        assert_eq!(orch.json("workspace/check.json")["stdout"], "checked in workspace\n");
        let plan = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--prompts"]).exits(0).stdout;
        let root = orch.path().canonicalize().unwrap();
        assert!(step.contains("stdin") || plan.contains(&root.display().to_string()), "{plan}");
    }
}

#[test]
fn the_result_of_a_command_is_kept_when_the_project_was_moved() {
    let orch = project("run: [sh, '{{ project.root }}/scripts/check.sh']");
    let old = orch.path().join("old");
    let files = std::fs::read_dir(orch.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    std::fs::create_dir(&old).unwrap();
    for file in files {
        std::fs::rename(&file, old.join(file.file_name().unwrap())).unwrap();
    }
    let more = "  - { id: last, run: test -e go }\n";
    let main = std::fs::read_to_string(old.join("pipelines/main.yaml")).unwrap() + more;
    std::fs::write(old.join("pipelines/main.yaml"), main).unwrap();
    let failed = orch.command(&["pipeline", "run", "pipelines/main.yaml"]).current_dir(&old).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let new = orch.path().join("new");
    std::fs::rename(&old, &new).unwrap();
    std::fs::write(new.join("workspace/go"), "").unwrap();
    let resumed = orch.command(&["pipeline", "resume"]).current_dir(&new).output().unwrap();
    let words = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success() && words.contains("check: reused"), "{words}");
}

#[test]
fn the_check_accepts_project_root_only_where_it_is_defined() {
    let says = |step: &str, text: &str| {
        let orch = project(step);
        orch.run(&["pipeline", "validate"]).exits(2).says(text);
    };
    says("run: '{{ project.rot }}/x'", "did you mean `root`?");
    says("run: '{{ project.root.x }}'", "ORCH");
    says(
        "run: ls, when: \"project.root == 'x'\"",
        "only the `run`, `cwd` and `stdin` of a command, and the `command` of an MCP server, can use `{{ project.root }}`",
    );
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: main\nsteps:\n  - { id: project, run: ls }\n");
    orch.run(&["pipeline", "validate"]).exits(2).says("the name `project` is reserved");
}

#[test]
fn the_hint_for_a_missing_file_in_a_setup_names_its_folder() {
    let orch = project("run: ls");
    for setup in ["[sh, scripts/check.sh]", "[scripts/check.sh]"] {
        orch.write("pipelines/tests/main.yaml", &format!("pipeline: ../main.yaml\nsetup: [{setup}]\n"));
        let told = orch.run(&["pipeline", "test"]).exits(1).stdout;
        assert!(told.contains("it ran in the workspace of the case"), "{told}");
    }
    // This follows the hint.
    let case = "pipeline: ../main.yaml\nworkspace: files\nsetup: [[sh, scripts/check.sh]]\n";
    orch.write("pipelines/tests/main.yaml", case).write("pipelines/tests/files/scripts/check.sh", "true\n");
    orch.run(&["pipeline", "test"]).exits(0);
}
