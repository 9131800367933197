//! What `orch runs show` says about a run that another process executes.

use std::time::{Duration, Instant};

use crate::step_kinds::{AGENT, project, prompt_name};
use crate::support::{Orch, Reply, RunOutput, Server};

/// A server that never completes its reply to the prompt `one`.
fn stalling_server() -> Server {
    Server::start(|request| {
        let reply = Reply::openai_text("1");
        if prompt_name(request) == "one" { reply.stall_after(0) } else { reply }
    })
}

/// Shows the latest run, once this text is part of it.
fn show_until(orch: &Orch, text: &str) -> RunOutput {
    let began = Instant::now();
    loop {
        let shown = orch.run(&["runs", "show"]);
        if shown.stdout.contains(text) {
            return shown;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "no {text:?} in {shown:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_running_run_names_its_process_and_how_to_follow_it() {
    let server = stalling_server();
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]);
    let shown = show_until(&orch, "in_progress").exits(0);
    let (run, status) = crate::kill::latest_run(&orch).unwrap();
    assert_eq!(status, "running");
    assert!(shown.stdout.contains(&format!("run {run} running in process {} (", child.id())), "{shown:?}");
    let follow = format!("next: `orch runs events {run} --follow` prints the events until the run ends or waits");
    let cancel = format!("`orch runs cancel {run}` stops it, as Ctrl-C does in its terminal");
    assert!(shown.stdout.contains(&follow) && shown.stdout.contains(&cancel), "{shown:?}");
    assert!(!shown.stdout.contains("resume"), "{shown:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let shown = orch.run(&["runs", "show"]).exits(0);
    let resume = format!("`orch pipeline resume {run}` continues the run");
    assert!(shown.stdout.contains(&resume) && !shown.stdout.contains("--follow"), "{shown:?}");
}

#[test]
fn a_running_run_that_asks_says_how_to_answer() {
    let server = stalling_server();
    let orch = project(
        &server,
        &format!(
            "  - id: both\n    parallel:\n      - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n      - {{ id: ask, approve: Go on? }}\n"
        ),
    );
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]);
    let shown = show_until(&orch, "Go on?").exits(0);
    let (run, _) = crate::kill::latest_run(&orch).unwrap();
    let answer = format!("if it has none, with `orch runs approve {run}` or `orch runs reject {run}`");
    assert!(shown.stdout.contains(&answer) && !shown.stdout.contains("resume"), "{shown:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
