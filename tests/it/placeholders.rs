//! Placeholders for a missing `orch.yaml`, as a killed orch process leaves them in a project: they are neither settings
//! nor pipelines, their folder is not the root of a project, and the next run removes them.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use orch::model::SETTINGS_PLACEHOLDER;
use serde_json::Value;

use crate::support::{Orch, RunOutput};

/// The modification time of each placeholder, in seconds since 1970.
const PLACEHOLDER_SECONDS: u64 = 981_173_106;

/// The folders with a placeholder after a run of every pipeline of [`project`] was killed.
const FOLDERS: [&str; 3] = [".", "pipelines", "pipelines/sub"];

const RUN: [&str; 3] = ["pipeline", "run", "pipelines/main.yaml"];

/// A project without `orch.yaml`, with two pipelines in different folders.
fn project() -> Orch {
    let orch = Orch::empty();
    for (file, name) in [("main", "main"), ("sub/other", "orch")] {
        let text = format!("name: {name}\nsteps: [{{ id: it, run: 'true', access: none }}]\n");
        orch.write(&format!("pipelines/{file}.yaml"), &text);
    }
    orch
}

/// Creates a placeholder in a folder of the project.
fn leave_placeholder(orch: &Orch, folder: &str) {
    let name = settings_in(folder);
    orch.write(&name, SETTINGS_PLACEHOLDER);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(PLACEHOLDER_SECONDS);
    File::open(orch.path().join(name)).unwrap().set_modified(time).unwrap();
}

fn settings_in(folder: &str) -> String {
    format!("{folder}/orch.yaml")
}

/// Runs the program in a folder of the project.
fn run_in(orch: &Orch, folder: &str, args: &[&str]) -> RunOutput {
    RunOutput::of(&orch.command(args).current_dir(orch.path().join(folder)).output().unwrap())
}

/// The names of the pipelines of the project to which a folder belongs.
fn pipeline_names(orch: &Orch, folder: &str) -> Vec<String> {
    let listed = run_in(orch, folder, &["pipeline", "list", "--output", "json"]).exits(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

/// The folders of [`FOLDERS`] with an `orch.yaml`.
fn folders_with_settings(orch: &Orch) -> Vec<&'static str> {
    FOLDERS.into_iter().filter(|folder| orch.exists(&settings_in(folder))).collect()
}

#[test]
fn a_folder_with_a_placeholder_is_not_the_root_and_the_next_run_removes_the_placeholder() {
    for run_folder in FOLDERS {
        let orch = project();
        for folder in FOLDERS {
            leave_placeholder(&orch, folder);
        }
        for folder in FOLDERS {
            assert_eq!(pipeline_names(&orch, folder), ["main", "orch"], "{folder}");
            run_in(&orch, folder, &["pipeline", "validate"]).exits(0);
        }
        assert_eq!(folders_with_settings(&orch), FOLDERS, "these commands change nothing");
        let workspace = orch.path().join("workspace");
        run_in(&orch, run_folder, &["pipeline", "run", "main", "--workspace", workspace.to_str().unwrap()]).exits(0);
        assert!(orch.exists(".orch/journal.db"), "{run_folder}");
        assert_eq!(folders_with_settings(&orch), Vec::<&str>::new(), "{run_folder}");
        assert!(!orch.exists("pipelines/.orch") && !orch.exists("pipelines/sub/.orch"), "{run_folder}");
    }
}

#[test]
fn a_placeholder_is_no_pipeline() {
    let orch = project();
    leave_placeholder(&orch, "pipelines");
    // The name of the file would precede the `name:` of a pipeline.
    for command in ["validate", "show", "run"] {
        orch.run(&["pipeline", command, "orch"]).exits(0);
    }
}

#[test]
fn a_resume_and_a_revert_remove_placeholders_too() {
    let orch = project();
    orch.run(&RUN).exits(0);
    let listed: Value = serde_json::from_str(&orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout).unwrap();
    let run = listed[0]["run"].as_str().unwrap();
    for command in [["pipeline", "resume", run], ["runs", "revert", run]] {
        for folder in FOLDERS {
            leave_placeholder(&orch, folder);
        }
        orch.run(&command).exits(0);
        assert_eq!(folders_with_settings(&orch), Vec::<&str>::new(), "{command:?}");
    }
}

#[test]
fn a_placeholder_that_another_process_uses_stays() {
    let orch = project();
    for folder in FOLDERS {
        leave_placeholder(&orch, folder);
    }
    let used = File::open(orch.path().join("pipelines/orch.yaml")).unwrap();
    used.lock_shared().unwrap();
    orch.run(&RUN).exits(0);
    assert_eq!(folders_with_settings(&orch), ["pipelines"]);
    used.unlock().unwrap();
    orch.run(&RUN).exits(0);
    assert_eq!(folders_with_settings(&orch), Vec::<&str>::new());
}

#[test]
fn placeholders_stay_while_programs_of_another_run_use_the_root_as_their_workspace() {
    let orch = project();
    leave_placeholder(&orch, "pipelines");
    orch.write(".orch.programs.lock", "process 1");
    let programs = File::open(orch.path().join(".orch.programs.lock")).unwrap();
    programs.lock().unwrap();
    orch.run(&RUN).exits(0);
    assert_eq!(folders_with_settings(&orch), ["pipelines"]);
    programs.unlock().unwrap();
    orch.run(&RUN).exits(0);
    assert_eq!(folders_with_settings(&orch), Vec::<&str>::new());
}

#[test]
fn orch_removes_only_files_with_the_time_of_a_placeholder_and_a_copy_has_no_effect_either() {
    let orch = project();
    orch.write("pipelines/orch.yaml", SETTINGS_PLACEHOLDER).write("orch.yaml", "# Mine.\n");
    orch.run(&RUN).exits(0);
    assert_eq!(folders_with_settings(&orch), [".", "pipelines"]);
    assert_eq!(pipeline_names(&orch, "pipelines"), ["main", "orch"]);
    // With any other text, the folder is a project of its own.
    orch.write("pipelines/orch.yaml", "# Mine.\n");
    assert_eq!(pipeline_names(&orch, "pipelines"), Vec::<String>::new());
}

#[test]
fn a_test_leaves_the_placeholders_of_the_project_alone() {
    let orch = project();
    leave_placeholder(&orch, "pipelines");
    leave_placeholder(&orch, "pipelines/tests");
    orch.write("pipelines/tests/main.yaml", "pipeline: ../main.yaml\n");
    // The placeholder beside the test case is no test case.
    orch.run(&["pipeline", "test"]).exits(0);
    assert!(orch.exists("pipelines/tests/orch.yaml"));
    assert_eq!(folders_with_settings(&orch), ["pipelines"]);
}

#[test]
fn a_new_project_gets_its_settings_in_place_of_a_placeholder() {
    let orch = Orch::empty();
    leave_placeholder(&orch, ".");
    let identity = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let path = orch.path().join("orch.yaml");
    let before = identity(&path);
    orch.run(&["init"]).exits(0).says("created orch.yaml");
    assert_ne!(orch.read("orch.yaml"), SETTINGS_PLACEHOLDER);
    assert_eq!(identity(&path), before, "a running program is protected from changing this file");
    orch.run(&["init"]).exits(0).says("skipped orch.yaml");
}
