//! What an untrusted project or import cannot do: see keys, reach outside the project, grant permissions, fill the
//! disk, or forge lines in orch's output.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::step_kinds::{AGENT, answering_server, project, run};
use crate::support::agents::fake_program;
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, RunOutput, Server};

const COMMANDS: &str = "name: main\nsteps:\n  - { id: a, run: [\"true\"] }\n";

fn project_with_command() -> Orch {
    let orch = Orch::empty();
    orch.write("orch.yaml", "").write("pipelines/main.yaml", COMMANDS);
    orch
}

#[test]
fn setup_commands_of_a_test_case_see_the_environment_of_a_step() {
    let orch = project_with_command();
    orch.write(
        "pipelines/main.yaml",
        "name: main\nsteps:\n  - { id: a, run: [sh, -c, \"env | cut -d= -f1 | sort | grep -v '^_$\\\\|PWD\\\\|SHLVL' > step.txt; diff setup.txt step.txt\"] }\n",
    );
    let list = "env | cut -d= -f1 | sort | grep -v '^_$\\\\|PWD\\\\|SHLVL' | grep -v '^GIT_' > setup.txt";
    let git = "test \\\"$GIT_AUTHOR_NAME\\\" = Somebody && test -n \\\"$HOME\\\" && test -z \\\"$GIT_DIR$GIT_CONFIG_COUNT\\\"";
    orch.write(
        "pipelines/tests/one.yaml",
        &format!("pipeline: ../main.yaml\nsetup: [[sh, -c, \"{list}\"], [sh, -c, \"{git}\"], [sh, -c, \"! env | grep SECRET\"]]\n"),
    );
    let mut command = orch.command(&["pipeline", "test"]);
    command.env("OPENAI_API_KEY", "SECRET-of-openai").env("AWS_SECRET_ACCESS_KEY", "SECRET-of-aws");
    command.env("GIT_AUTHOR_NAME", "Somebody").env("GIT_DIR", "/nowhere").env("GIT_CONFIG_COUNT", "0");
    let ran = RunOutput::of(&command.output().unwrap()).exits(0);
    assert!(ran.stdout.contains("1 passed"), "{ran:?}");
}

#[test]
fn an_import_with_a_setuid_or_sticky_mode_is_refused() {
    let server = answering_server(|_, _| json!([{ "path": "new.sh", "content": "#!/bin/sh\n", "mode": "0755" }]));
    let steps = "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: put, write: made, inputs: [made] }\n";
    let from = project(&server, steps);
    let (ran, report) = run(&from, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let id = report["run"].as_str().unwrap();
    from.run(&["runs", "export", id, "--to", "run.json"]).exits(0);
    for state in ["before", "after"] {
        for (mode, taken) in [("4755", false), ("2755", false), ("1777", false), ("7777", false), ("0777", true)] {
            let mut record: Value = serde_json::from_str(&from.read("run.json")).unwrap();
            let changed = with_mode(&mut record, state, mode);
            assert_eq!(changed, 1, "{state}");
            let orch = project(&server, steps);
            orch.write("run.json", &record.to_string());
            let ran = orch.run(&["runs", "import", "run.json"]);
            if taken {
                ran.exits(0);
            } else {
                ran.exits(2).says("the file \"new.sh\"").says("mode above 0777").says("nothing was imported");
                assert!(!orch.exists(".orch"), "{state} {mode}");
            }
        }
    }
}

/// Gives the changed file this mode in its state before or after; returns how many files it changed.
fn with_mode(value: &mut Value, state: &str, mode: &str) -> usize {
    match value {
        Value::Object(map)
            if map.get("path").is_some_and(|path| path == "new.sh")
                && map.contains_key("after")
                && map["after"].is_object() =>
        {
            map.insert(state.to_owned(), json!({ "content": { "text": "#!/bin/sh\n" }, "mode": mode }));
            1
        }
        Value::Object(map) => map.values_mut().map(|value| with_mode(value, state, mode)).sum(),
        Value::Array(list) => list.iter_mut().map(|value| with_mode(value, state, mode)).sum(),
        _ => 0,
    }
}

#[test]
fn a_revert_never_restores_the_setuid_bit() {
    let server = answering_server(|_, _| json!([{ "path": "tool", "content": "new\n" }]));
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: any, prompt: one.md, output: made }\n  - { id: put, write: made, inputs: [made] }\n",
    );
    orch.write("workspace/tool", "old\n");
    let tool = orch.path().join("workspace/tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for _ in 0..2 {
        orch.run(&["runs", "revert", report["run"].as_str().unwrap()]).exits(0);
        assert_eq!(orch.read("workspace/tool"), "old\n");
        assert_eq!(fs::metadata(&tool).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn every_path_of_a_test_case_must_stay_inside_its_project() {
    for (keys, code, told) in [
        ("pipeline: ../../../trusted/pipelines/t.yaml\n", "ORCH0105", "leads out of the project"),
        ("pipeline: TRUSTED/pipelines/t.yaml\n", "ORCH0105", "leads out of the project"),
        ("pipeline: ../linked/t.yaml\n", "ORCH0106", "link that leads out of the project"),
        ("pipeline: ../../nested/pipelines/t.yaml\n", "ORCH0105", "another project"),
        ("pipeline: ../main.yaml\nworkspace: ../../../trusted\n", "ORCH0105", "leads out of the project"),
        ("pipeline: ../main.yaml\nworkspace: TRUSTED\n", "ORCH0105", "leads out of the project"),
        ("pipeline: ../main.yaml\nworkspace: ../linked\n", "ORCH0106", "link that leads out of the project"),
        ("pipeline: ../main.yaml\nrecordings: ../../../trusted\n", "ORCH0105", "leads out of the folder"),
        ("pipeline: ../main.yaml\nrecordings: TRUSTED\n", "ORCH0105", "leads out of the folder"),
        ("pipeline: ../main.yaml\nexpect: { files: [/etc/passwd] }\n", "ORCH0105", "leads out of the workspace"),
        ("pipeline: ../main.yaml\nexpect: { files: [a, ../../x] }\n", "ORCH0105", "leads out of the workspace"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let orch = Orch::empty();
        let inner = orch.path().join("cloned");
        for root in [place.path(), &inner.join("nested")] {
            fs::create_dir_all(root.join("pipelines")).unwrap();
            fs::write(root.join("orch.yaml"), "").unwrap();
            fs::write(root.join("pipelines/t.yaml"), "name: t\nsteps:\n  - { id: a, run: [touch, /nowhere/x] }\n")
                .unwrap();
        }
        symlink(place.path(), orch.path().join("trusted")).unwrap();
        let keys = keys.replace("TRUSTED", &place.path().display().to_string());
        orch.write("cloned/orch.yaml", "").write("cloned/pipelines/main.yaml", COMMANDS);
        symlink(place.path().join("pipelines"), inner.join("pipelines/linked")).unwrap();
        orch.write("cloned/pipelines/tests/one.yaml", &keys);
        let case = "cloned/pipelines/tests/one.yaml";
        for args in
            [&["pipeline", "test", case][..], &["pipeline", "test", "--update", case], &["pipeline", "validate", case]]
        {
            let ran = orch.run(args);
            assert!(ran.code == 1 || ran.code == 2, "{keys} {args:?}: {ran:?}");
            assert!(ran.stderr.contains(code) && ran.stderr.contains(told), "{keys} {args:?}: {ran:?}");
        }
    }
}

#[test]
fn an_expected_file_that_is_a_link_reveals_nothing_outside_the_workspace() {
    let orch = project_with_command();
    orch.write("pipelines/main.yaml", "name: main\nsteps:\n  - { id: a, run: [ln, -s, /etc/passwd, found] }\n");
    orch.write("pipelines/tests/one.yaml", "pipeline: ../main.yaml\nexpect: { files: [found] }\n");
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("no file `found`"), "{ran:?}");
}

/// A project whose test case copies a folder with links that fork into 2^20 folders.
fn project_with_forking_links() -> Orch {
    let orch = project_with_command();
    orch.write("pipelines/tests/one.yaml", "pipeline: ../main.yaml\nworkspace: dag/0\n");
    let dag = orch.path().join("pipelines/tests/dag");
    for level in 0..20 {
        let folder = dag.join(level.to_string());
        fs::create_dir_all(&folder).unwrap();
        for name in ["a", "b"] {
            symlink(format!("../{}", level + 1), folder.join(name)).unwrap();
        }
    }
    fs::create_dir_all(dag.join("20")).unwrap();
    orch
}

fn command_with_temporary_folder(orch: &Orch, args: &[&str]) -> (std::process::Command, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let mut command = orch.command(args);
    command.env("TMPDIR", place.path());
    (command, place)
}

#[test]
fn forking_links_pipes_and_circular_links_are_not_copied_endlessly() {
    let orch = project_with_forking_links();
    let (mut command, place) = command_with_temporary_folder(&orch, &["pipeline", "test"]);
    let ran = RunOutput::of(&command.output().unwrap()).exits(1);
    assert!(ran.stdout.contains("more than 10000 files and folders, including those behind links"), "{ran:?}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "the temporary folder is left");
    let orch = project_with_command();
    orch.write("pipelines/tests/one.yaml", "pipeline: ../main.yaml\nworkspace: files\n")
        .write("pipelines/tests/files/a", "");
    let pipe = orch.path().join("pipelines/tests/files/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ran = orch.run(&["pipeline", "test"]).exits(1);
    assert!(ran.stdout.contains("neither a file nor a folder"), "{ran:?}");
    fs::remove_file(&pipe).unwrap();
    symlink(".", orch.path().join("pipelines/tests/files/self")).unwrap();
    orch.run(&["pipeline", "test"]).exits(1);
}

#[test]
fn ctrl_c_leaves_no_files_of_a_test_case_behind() {
    let orch = project_with_command();
    orch.write(
        "pipelines/tests/one.yaml",
        "pipeline: ../main.yaml\nsetup: [[sh, -c, \"touch ../../begun; sleep 60\"]]\n",
    );
    orch.write("pipelines/tests/two.yaml", "pipeline: ../main.yaml\n");
    let (mut command, place) = command_with_temporary_folder(&orch, &["pipeline", "test"]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while !place.path().join("begun").exists() {
        assert!(began.elapsed() < Duration::from_mins(1), "the command of `setup:` did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["begun"]);
}

#[test]
fn programs_that_doctor_runs_see_no_keys() {
    let orch = project_with_command();
    let path = fake_program(&orch, "claude", "env > \"$(dirname \"$0\")/seen\"; echo 1.0");
    let mut command = orch.command(&["doctor"]);
    command.env("PATH", path).env("OPENAI_API_KEY", "SECRET-of-openai").env("SOME_TOKEN", "SECRET-token");
    RunOutput::of(&command.output().unwrap());
    let seen = orch.read("bin/seen");
    assert!(seen.contains("PATH=") && !seen.contains("SECRET"), "{seen}");
}

#[test]
fn recordings_are_not_written_through_a_symlink_of_the_project() {
    for name in ["recordings", "recordings/sub"] {
        let server = answering_server(|_, _| json!({ "a": 1 }));
        let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), orch.path().join("recordings")).unwrap();
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--record", name];
        orch.run(&args).exits(2).says("is a symbolic link").says("--record");
        assert!(server.requests().is_empty() && fs::read_dir(elsewhere.path()).unwrap().count() == 0);
        // A link outside of the project belongs to the user, so orch follows it.
        let links = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), links.path().join("mine")).unwrap();
        let mine = links.path().join("mine").display().to_string();
        orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--record", &mine]).exits(0);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_state_folder_that_becomes_a_symlink_during_a_run_is_not_followed() {
    // The project is not trusted, so it can't turn off the sandbox of its agent.
    if !reaches_full() {
        return;
    }
    let victim = tempfile::tempdir().unwrap();
    let orch = Orch::empty();
    orch.write("orch.yaml", "").write("prompts/p.md", "say it\n");
    orch.write(
        "pipelines/main.yaml",
        &format!(
            "name: main\nagents:\n  c: {{ command: [sh, -c, 'cat > /dev/null; echo fine'] }}\nsteps:\n  - {{ id: a, run: [sh, -c, 'rm -rf ../.orch/agents; ln -s {} ../.orch/agents'] }}\n  - {{ id: b, agent: c, access: write, prompt: p.md, output: x, schema: text }}\n",
            victim.path().display()
        ),
    );
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("`agents` is a symbolic link"), "{ran:?}");
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

#[test]
fn a_subdomain_of_localhost_is_not_this_machine() {
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        "name: main\nagents: { a: { model: lab/m } }\nsteps:\n  - { id: a, agent: a, prompt: p.md, output: x, schema: text }\n",
    );
    orch.write("prompts/p.md", "x\n");
    for host in ["foo.localhost", "localhost."] {
        orch.write(
            "orch.yaml",
            &format!("providers:\n  lab: {{ dialect: openai, base_url: \"http://{host}:9/v1\", api_key: {{ env: LAB_KEY }} }}\n"),
        );
        let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml"]);
        let ran = RunOutput::of(&command.env("LAB_KEY", "k-abcdefgh1234").output().unwrap()).exits(2);
        assert!(ran.stderr.contains("where others on the network can read it"), "{host}: {ran:?}");
    }
}

/// Characters that control a terminal, reverse the text or are invisible; and lines that imitate orch's output.
const HIDDEN: &str = "R\\u001b[31m\\u202eg\\u200bq\\u2028z\\ufeff";
const FORGED: &str = "x\\n::warning::FORGED\\nerror: FORGED\\r\\n::error::FORGED";

/// A project in which every text that orch prints ends with these characters, escaped as in a JSON string.
fn hostile_project(bad: &str) -> (Server, Orch) {
    let server = answering_server(|_, _| json!({ "a": 1 }));
    let orch = project(&server, "");
    orch.write("prompts/one.md", "say it\n");
    orch.write(
        "pipelines/main.yaml",
        &format!(
            "{{\"name\": \"main{bad}\", \"description\": \"d{bad}\", \"inputs\": {{\"task\": {{\"type\": \"string\", \"description\": \"i{bad}\"}}}}, \
             \"agents\": {{\"a\": {{\"model\": \"lab/test\"}}, \"c\": {{\"command\": [\"sh\", \"-c\", \"cat; echo {bad}\"]}}}}, \"steps\": [\
             {{\"id\": \"one\", \"agent\": \"a\", \"schema\": \"any\", \"prompt\": \"one.md\", \"output\": \"x\", \"when\": \"task != '{bad}'\"}},\
             {{\"id\": \"two\", \"run\": [\"sh\", \"-c\", \"true # {bad}\"]}},\
             {{\"id\": \"three\", \"agent\": \"c\", \"prompt\": \"one.md\", \"schema\": \"text\", \"output\": \"z\"}}]}}\n"
        ),
    );
    let name: String = serde_json::from_str(&format!("\"{bad}\"")).unwrap();
    let name = name.replace('/', "");
    for (file, text) in [
        (format!("pipelines/f{name}.yaml"), "name: x\nnope: 1\n"),
        (format!("pipelines/tests/f{name}.yaml"), "pipeline: ../none.yaml\n"),
        (format!("schemas/f{name}.schema.json"), "{ \"type\": 7 }\n"),
        (format!("f{name}.json"), "no run"),
    ] {
        orch.write(&file, text);
    }
    (server, orch)
}

#[test]
fn no_text_of_a_project_controls_the_terminal_or_forges_a_line() {
    if !reaches_full() {
        return;
    }
    for bad in [HIDDEN, FORGED] {
        let (_server, orch) = hostile_project(bad);
        let name: String = serde_json::from_str(&format!("\"f{bad}.json\"")).unwrap();
        let pipeline = "pipelines/main.yaml";
        orch.run(&["pipeline", "run", pipeline, "--task", "do it"]);
        for args in [
            &["pipeline", "validate"][..],
            &["pipeline", "validate", "--format", "github"],
            &["pipeline", "validate", "--format", "junit"],
            &["pipeline", "list"],
            &["pipeline", "show", pipeline],
            &["pipeline", "plan", pipeline, "--task", "x"],
            &["pipeline", "graph", pipeline],
            &["pipeline", "graph", pipeline, "--format", "mermaid"],
            &["pipeline", "graph", pipeline, "--format", "dot"],
            &["pipeline", "graph", pipeline, "--format", "svg"],
            &["pipeline", "run", pipeline, "--task", "do it"],
            &["pipeline", "test"],
            &["pipeline", "test", "--format", "junit"],
            &["schema", "check"],
            &["schema", "check", "--format", "junit"],
            &["trust"],
            &["trust", "--print"],
            &["doctor"],
            &["runs", "list"],
            &["runs", "show"],
            &["runs", "import", &name],
        ] {
            let ran = orch.run(args);
            let all = format!("{}\n{}", ran.stdout, ran.stderr);
            let raw =
                |c: char| (c.is_control() && c != '\n' && c != '\t') || "\u{202e}\u{200b}\u{2028}\u{feff}".contains(c);
            assert!(!all.contains(raw), "{args:?}: {all:?}");
            let forged = all.lines().find(|line| {
                let line = line.trim_start();
                line.starts_with("::warning::FORGED")
                    || line.starts_with("error: FORGED")
                    || line.starts_with("::error::FORGED")
            });
            assert_eq!(forged, None, "{args:?}:\n{all}");
        }
        // The texts are absent for another reason than an invalid file: both runs are listed.
        let ran = orch.run(&["runs", "list"]).exits(0);
        assert_eq!(ran.stdout.lines().filter(|line| line.contains("main")).count(), 2, "{ran:?}");
        // `trust --print` shows in full what the user agrees to.
        let ran = orch.run(&["trust", "--print"]).exits(0);
        let shown = if bad == HIDDEN {
            "\\u{1b}[31m\\u{202e}g\\u{200b}q\\u{2028}z\\u{feff}"
        } else {
            "x\\n::warning::FORGED\\nerror: FORGED\\r\\n"
        };
        assert!(ran.stderr.contains(shown), "{ran:?}");
    }
}
