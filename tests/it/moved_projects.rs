//! Projects that the user moves or copies before a run has ended.

use std::path::Path;

use serde_json::{Value, json};

use crate::step_kinds::{AGENT, project, prompt_name, run};
use crate::support::{Orch, Reply, RunOutput, Server};

/// A project with a run that failed at its last step, after it wrote files.
fn project_with_failed_run() -> (Server, Orch, String) {
    let server = Server::start(|request| match prompt_name(request).as_str() {
        "review" => Reply::status(400, "{}"),
        step => Reply::openai_text(&json!({ "said": step }).to_string()),
    });
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: files, write: \"[{{'path': 'src/a', 'content': plan.said}}]\", inputs: [plan] }}\n  - {{ id: review, {AGENT}, prompt: review.md, inputs: [plan], output: review }}\n"
    );
    let orch = project(&server, &steps);
    let (_, report) = run(&orch, &[]);
    (server, orch, report["run"].as_str().unwrap().to_owned())
}

/// The folder of the project, and another name for it in the same parent folder.
fn old_and_new_folder(orch: &Orch) -> (std::path::PathBuf, std::path::PathBuf) {
    (orch.path().join("old"), orch.path().join("new"))
}

/// A project inside a parent folder, so that it can be moved.
fn movable_project() -> (Server, Orch, String) {
    let (server, outer, _) = project_with_failed_run();
    let inner = outer.path().join("old");
    std::fs::create_dir(&inner).unwrap();
    for name in ["orch.yaml", "pipelines", "prompts"] {
        std::fs::rename(outer.path().join(name), inner.join(name)).unwrap();
    }
    std::fs::remove_dir_all(outer.path().join(".orch")).unwrap();
    std::fs::remove_dir_all(outer.path().join("workspace")).unwrap();
    run_in(&outer, &inner, &["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(1);
    let listed = run_in(&outer, &inner, &["runs", "list", "--output", "json"]).exits(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    (server, outer, listed[0]["run"].as_str().unwrap().to_owned())
}

fn run_in(orch: &Orch, folder: &Path, args: &[&str]) -> RunOutput {
    RunOutput::of(&orch.command(args).current_dir(folder).output().unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_run_resumes_in_the_new_folder_of_its_project() {
    let (server, orch, run) = movable_project();
    let (old, new) = old_and_new_folder(&orch);
    std::fs::rename(&old, &new).unwrap();
    let before = server.requests().len();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    run_in(&orch, &new, &["pipeline", "resume", &run, "--dry-run"]).exits(0);
    let ran = run_in(&orch, &new, &["pipeline", "resume", &run]).exits(0).says("the run continues here");
    assert!(ran.stderr.contains("plan: reused") && ran.stderr.contains("files: reused"), "{ran:?}");
    assert!(!old.exists(), "nothing is made where the project was");
    assert!(new.join("workspace/review.json").exists());
    assert_eq!(server.requests().len(), before + 1);
    // Afterwards the run belongs to the new folder, and orch recognizes the files that it wrote.
    let again = run_in(&orch, &new, &["pipeline", "resume", &run]).exits(0);
    assert!(!again.stderr.contains("continues here"), "{again:?}");
    run_in(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(0);
    run_in(&orch, &new, &["runs", "revert", &run]);
    assert!(!old.exists());
}

#[test]
fn a_run_of_a_copied_project_resumes_in_the_copy_and_leaves_the_original_alone() {
    let (_server, orch, run) = movable_project();
    let (old, new) = old_and_new_folder(&orch);
    copy(&old, &new);
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    let before = std::fs::read_dir(old.join("workspace")).unwrap().count();
    // A copied journal looks like a foreign one.
    run_in(&orch, &new, &["pipeline", "resume", &run]).exits(2).says("--workspace");
    run_in(&orch, &new, &["pipeline", "resume", &run, "--workspace", "workspace"]).exits(0);
    assert!(new.join("workspace/review.json").exists(), "the prompt of the copy was asked");
    assert_eq!(std::fs::read_dir(old.join("workspace")).unwrap().count(), before);
    run_in(&orch, &new, &["runs", "revert", &run, "--workspace", "workspace"]).exits(0);
    assert!(old.join("workspace/src/a").exists() && !new.join("workspace/src/a").exists());
    // The original is unchanged.
    run_in(&orch, &old, &["pipeline", "resume", &run]).exits(1);
    assert!(!old.join("workspace/review.json").exists());
}

#[test]
fn files_of_a_moved_project_are_recognized_although_its_journal_stayed() {
    let (_server, orch, _) = movable_project();
    let (old, new) = old_and_new_folder(&orch);
    let state = orch.path().join("state").display().to_string();
    run_in(&orch, &old, &["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--clean"]);
    std::fs::rename(old.join(".orch"), &state).unwrap();
    std::fs::rename(&old, &new).unwrap();
    std::fs::write(new.join("prompts/plan.md"), "step:code\n").unwrap();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    run_in(&orch, &new, &["pipeline", "resume", "--state", &state]).exits(0).says("the run continues here");
    run_in(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y", "--clean", "--state", &state])
        .exits(0);
    assert!(!old.exists());
}

#[test]
fn restored_artifact_files_beside_a_copied_journal_are_recognized_by_later_runs() {
    let (_server, orch, run) = movable_project();
    let (old, new) = old_and_new_folder(&orch);
    copy(&old, &new);
    std::fs::remove_dir_all(new.join("workspace")).unwrap();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    let resume = ["pipeline", "resume", &run, "--workspace", "workspace"];
    run_in(&orch, &new, &[&resume[..], &["--discard-changed"]].concat()).exits(0).says("plan: reused");
    run_in(&orch, &new, &resume).exits(0);
    run_in(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y", "--clean"]).exits(0);
}

#[test]
fn a_run_stays_in_its_project_although_another_project_shares_the_journal() {
    let (_server, orch, run) = movable_project();
    let (old, new) = old_and_new_folder(&orch);
    copy(&old, &new);
    std::fs::remove_dir_all(new.join(".orch")).unwrap();
    std::fs::remove_dir_all(new.join("workspace")).unwrap();
    let state = ["--state", &old.join(".orch").display().to_string()].map(str::to_owned);
    let run_shared = |folder: &Path, args: &[&str]| {
        run_in(&orch, folder, &args.iter().copied().chain(state.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    std::fs::write(old.join("prompts/review.md"), "step:code\n").unwrap();
    let ran = run_shared(&new, &["pipeline", "resume", &run]).exits(0);
    assert!(!ran.stderr.contains("continues here"), "{ran:?}");
    assert!(old.join("workspace/review.json").exists() && !new.join("workspace").exists());
    // The same holds for the run of the other project.
    std::fs::write(new.join("prompts/review.md"), "step:review\n").unwrap();
    run_shared(&new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y"]).exits(1);
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    std::fs::remove_file(old.join("workspace/review.json")).unwrap();
    run_shared(&old, &["pipeline", "resume"]).exits(0);
    assert!(new.join("workspace/review.json").exists() && !old.join("workspace/review.json").exists());
}
