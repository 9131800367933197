//! Projects that were moved or copied while a run was not at its end.

use std::path::Path;

use serde_json::{Value, json};

use crate::control::{AGENT, asked, project, run};
use crate::support::{Orch, Ran, Reply, Server};

/// A run that stopped at its last step, after files were written.
fn stopped() -> (Server, Orch, String) {
    let server = Server::start(|request| match asked(request).as_str() {
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

/// The project's folder under another name, in the folder that holds everything.
fn folders(orch: &Orch) -> (std::path::PathBuf, std::path::PathBuf) {
    (orch.path().join("old"), orch.path().join("new"))
}

/// Everything of a project in a folder of its own, so that it can be moved.
fn housed() -> (Server, Orch, String) {
    let (server, outer, _) = stopped();
    let inner = outer.path().join("old");
    std::fs::create_dir(&inner).unwrap();
    for name in ["orch.yaml", "pipelines", "prompts"] {
        std::fs::rename(outer.path().join(name), inner.join(name)).unwrap();
    }
    std::fs::remove_dir_all(outer.path().join(".orch")).unwrap();
    std::fs::remove_dir_all(outer.path().join("workspace")).unwrap();
    at(&outer, &inner, &["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(1);
    let listed = at(&outer, &inner, &["runs", "list", "--output", "json"]).exits(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    (server, outer, listed[0]["run"].as_str().unwrap().to_owned())
}

fn at(orch: &Orch, folder: &Path, args: &[&str]) -> Ran {
    Ran::of(&orch.command(args).current_dir(folder).output().unwrap())
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
fn a_run_goes_on_where_its_project_was_moved_to() {
    let (server, orch, run) = housed();
    let (old, new) = folders(&orch);
    std::fs::rename(&old, &new).unwrap();
    let before = server.requests().len();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    at(&orch, &new, &["pipeline", "resume", &run, "--dry-run"]).exits(0);
    let ran = at(&orch, &new, &["pipeline", "resume", &run]).exits(0).says("the run continues here");
    assert!(ran.stderr.contains("plan: reused") && ran.stderr.contains("files: reused"), "{ran:?}");
    assert!(!old.exists(), "nothing is made where the project was");
    assert!(new.join("workspace/review.json").exists());
    assert_eq!(server.requests().len(), before + 1);
    // The next time it is at home, and what was written is known as orch's own.
    let again = at(&orch, &new, &["pipeline", "resume", &run]).exits(0);
    assert!(!again.stderr.contains("continues here"), "{again:?}");
    at(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(0);
    at(&orch, &new, &["runs", "revert", &run]);
    assert!(!old.exists());
}

#[test]
fn a_run_of_a_copied_project_goes_on_in_the_copy_and_leaves_the_original_alone() {
    let (_server, orch, run) = housed();
    let (old, new) = folders(&orch);
    copy(&old, &new);
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    let before = std::fs::read_dir(old.join("workspace")).unwrap().count();
    // A copy of a journal can't be told from one that came with a project.
    at(&orch, &new, &["pipeline", "resume", &run]).exits(2).says("--workspace");
    at(&orch, &new, &["pipeline", "resume", &run, "--workspace", "workspace"]).exits(0);
    assert!(new.join("workspace/review.json").exists(), "the prompt of the copy was asked");
    assert_eq!(std::fs::read_dir(old.join("workspace")).unwrap().count(), before);
    at(&orch, &new, &["runs", "revert", &run, "--workspace", "workspace"]).exits(0);
    assert!(old.join("workspace/src/a").exists() && !new.join("workspace/src/a").exists());
    // The original is where it was.
    at(&orch, &old, &["pipeline", "resume", &run]).exits(1);
    assert!(!old.join("workspace/review.json").exists());
}

#[test]
fn files_are_known_as_orchs_own_where_a_project_went_whose_journal_stayed() {
    let (_server, orch, _) = housed();
    let (old, new) = folders(&orch);
    let state = orch.path().join("state").display().to_string();
    at(&orch, &old, &["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--clean"]);
    std::fs::rename(old.join(".orch"), &state).unwrap();
    std::fs::rename(&old, &new).unwrap();
    std::fs::write(new.join("prompts/plan.md"), "step:code\n").unwrap();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    at(&orch, &new, &["pipeline", "resume", "--state", &state]).exits(0).says("the run continues here");
    at(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y", "--clean", "--state", &state]).exits(0);
    assert!(!old.exists());
}

#[test]
fn files_that_are_shown_again_beside_a_copied_journal_are_orchs_own_the_next_time_too() {
    let (_server, orch, run) = housed();
    let (old, new) = folders(&orch);
    copy(&old, &new);
    std::fs::remove_dir_all(new.join("workspace")).unwrap();
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    let resume = ["pipeline", "resume", &run, "--workspace", "workspace"];
    at(&orch, &new, &[&resume[..], &["--discard-changed"]].concat()).exits(0).says("plan: reused");
    at(&orch, &new, &resume).exits(0);
    at(&orch, &new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y", "--clean"]).exits(0);
}

#[test]
fn a_run_stays_in_its_project_when_another_one_shares_the_journal() {
    let (_server, orch, run) = housed();
    let (old, new) = folders(&orch);
    copy(&old, &new);
    std::fs::remove_dir_all(new.join(".orch")).unwrap();
    std::fs::remove_dir_all(new.join("workspace")).unwrap();
    let state = ["--state", &old.join(".orch").display().to_string()].map(str::to_owned);
    let at = |folder: &Path, args: &[&str]| {
        at(&orch, folder, &args.iter().copied().chain(state.iter().map(String::as_str)).collect::<Vec<_>>())
    };
    std::fs::write(old.join("prompts/review.md"), "step:code\n").unwrap();
    let ran = at(&new, &["pipeline", "resume", &run]).exits(0);
    assert!(!ran.stderr.contains("continues here"), "{ran:?}");
    assert!(old.join("workspace/review.json").exists() && !new.join("workspace").exists());
    // The other way round too.
    std::fs::write(new.join("prompts/review.md"), "step:review\n").unwrap();
    at(&new, &["pipeline", "run", "pipelines/main.yaml", "--task", "y"]).exits(1);
    std::fs::write(new.join("prompts/review.md"), "step:code\n").unwrap();
    std::fs::remove_file(old.join("workspace/review.json")).unwrap();
    at(&old, &["pipeline", "resume"]).exits(0);
    assert!(new.join("workspace/review.json").exists() && !old.join("workspace/review.json").exists());
}
