//! Ends the process at each point where orch makes something durable, at each time that it passes there.
//!
//! Needs the feature `failpoints`: `cargo test --features failpoints --test it crash`.

use std::time::Duration;

use serde_json::json;

use crate::kill::{
    MAX_IN_FLIGHT, answer, assert_completed_once, latest_run, project_with_every_kind, recorded_reply_count,
    resume_to_end, settled_request_count, workspace_files,
};
use crate::step_kinds::{answering_server, project};
use crate::store::assert_journal_whole;
use crate::support::{Orch, Reply, Server};

/// How often the process passes a point before the test stops trying; later passes behave alike.
const PASSES: usize = 14;

/// The large payload is stored as a blob; it is the last one, and needs no request.
fn project_with_large_payload(server: &Server) -> Orch {
    let orch = project_with_every_kind(server);
    let large =
        "  - { id: large, run: \"head -c 100000 /dev/zero | tr '\\\\0' x\", output: large, schema: text }\nfinally:";
    orch.edit("pipelines/main.yaml", "finally:", large);
    orch
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_process_that_ends_at_any_point_loses_nothing() {
    let server = Server::start(answer);
    let whole = project_with_large_payload(&server);
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    whole.run(&args).exits(3);
    let approve = |run: &str| ["runs", "approve", run, "--note", "fine", "--resume"].map(ToOwned::to_owned);
    let run = latest_run(&whole).unwrap().0;
    whole.run(&approve(&run).each_ref().map(String::as_str)).exits(0);
    let (expected, all) = (workspace_files(&whole), server.requests().len());
    let mut ended = 0;
    for point in orch::crash::POINTS {
        for pass in 0..PASSES {
            let server = Server::start(answer);
            let orch = project_with_large_payload(&server);
            let chosen = format!("{point}={pass}*off->return");
            let broken = |args: &[&str]| orch.command(args).env("FAILPOINTS", &chosen).output().unwrap().status;
            let mut status = broken(&args);
            if status.code() == Some(3) {
                let run = latest_run(&orch).unwrap().0;
                status = broken(&approve(&run).each_ref().map(String::as_str));
            }
            if status.success() {
                assert!(pass > 0, "{point} is never reached");
                break;
            }
            assert_eq!(status.code(), None, "{chosen}: {status}");
            ended += 1;
            let before = settled_request_count(&server);
            let Some((run, _)) = latest_run(&orch) else {
                assert!(before <= 1, "{chosen}: {before} requests and no run");
                continue;
            };
            let recorded = recorded_reply_count(&orch, &run);
            resume_to_end(&orch, &run);
            assert_eq!(workspace_files(&orch), expected, "{chosen}");
            assert_completed_once(&orch, &run);
            assert_eq!(server.requests().len() - before, all - recorded, "{chosen}");
            assert!(before - recorded <= MAX_IN_FLIGHT, "{chosen}: {before} asked, {recorded} recorded");
        }
    }
    println!("ended {ended} times at {} places", orch::crash::POINTS.len());
}

#[test]
fn a_recorded_reply_is_used_although_the_deadline_passed_after_the_process_ended() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: one, agent: a, schema: any, prompt: one.md, deadline: 1s, output: x }\n");
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    let status = orch.command(&args).env("FAILPOINTS", "call::recorded=return").output().unwrap().status;
    assert_eq!(status.code(), None, "{status}");
    std::thread::sleep(Duration::from_millis(1_500));
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 1);
}

/// Two runs whose payloads are blobs, of which they share one; the first is also exported.
fn project_with_two_runs() -> (Server, Orch, [String; 2]) {
    let server = answering_server(|_, _| json!(1));
    let orch = project(
        &server,
        "  - { id: large, run: \"head -c 100000 /dev/zero | tr '\\\\0' x\", output: large, schema: text }\n  - { id: own, run: \"head -c 100000 /dev/urandom | base64\", access: none, output: own, schema: text }\n  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n",
    );
    let runs = [(); 2].map(|()| {
        orch.run(&RUN).exits(0);
        latest_run(&orch).unwrap().0
    });
    orch.run(&["runs", "export", &runs[0], "--to", "first.json"]).exits(0);
    (server, orch, runs)
}

const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn maintenance_that_ends_at_any_point_damages_no_run_and_can_be_repeated() {
    let mut ended = 0;
    for point in orch::crash::MAINTENANCE_POINTS {
        for pass in 0..3 {
            let (_server, orch, [first, second]) = project_with_two_runs();
            let chosen = format!("{point}={pass}*off->return");
            let mut reached = false;
            // The repeated command may refuse work that was done before the process ended.
            for (args, again) in [
                (&["runs", "export", &second, "--to", "second.json"][..], 2),
                (&["runs", "delete", &first], 2),
                (&["runs", "import", "first.json"], 2),
                (&["runs", "delete", &first], 2),
                (&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--clean", "--record", "recorded"], 0),
                (&["runs", "gc", "--keep", "2"], 0),
            ] {
                if reached {
                    orch.run(args).exits(0);
                    continue;
                }
                let status = orch.command(args).env("FAILPOINTS", &chosen).output().unwrap().status;
                if status.code().is_none() {
                    reached = true;
                    assert_journal_whole(&orch);
                    let repeated = orch.run(args);
                    assert!([0, again].contains(&repeated.code), "{chosen}: {repeated:?}");
                } else {
                    assert!(status.success(), "{chosen} {args:?}: {status}");
                }
            }
            if !reached {
                assert!(pass > 0, "{point} is never reached");
                break;
            }
            ended += 1;
            assert_journal_whole(&orch);
            let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout;
            assert!(listed.contains(&second) && !listed.contains(&first), "{chosen}: {listed}");
            for name in ["large", "own"] {
                orch.run(&["runs", "artifact", &second, name]).exits(0);
            }
            // The export is complete, the recordings replay, and no temporary file is left.
            orch.run(&["runs", "delete", &second]).exits(0);
            orch.run(&["runs", "import", "second.json"]).exits(0);
            orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--replay", "recorded"]).exits(0);
            orch.run(&["runs", "gc", "--keep", "9"]).exits(0);
            let left = orch.run(&["runs", "gc", "--keep", "9", "--dry-run", "--output", "json"]).exits(0).stdout;
            let left: serde_json::Value = serde_json::from_str(&left).unwrap();
            assert_eq!(left["blobs"], 0, "{chosen}: {left}");
        }
    }
    println!("ended {ended} times at {} places", orch::crash::MAINTENANCE_POINTS.len());
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_run_that_ends_at_any_point_of_its_last_step_is_resumed_without_its_id() {
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    let mut ended = 0;
    for point in orch::crash::POINTS {
        for pass in 0..PASSES {
            let answers = std::sync::atomic::AtomicUsize::new(0);
            let server = Server::start(move |_| {
                let number = answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Reply::openai_text(&format!(
                    "answer {}",
                    if number == 0 { "of the first run" } else { "of the second" }
                ))
            });
            let orch = project(&server, "  - { id: one, agent: a, prompt: one.md, output: x, schema: text }\n");
            orch.run(&args).exits(0);
            let chosen = format!("{point}={pass}*off->return");
            let status = orch.command(&args).env("FAILPOINTS", &chosen).output().unwrap().status;
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "{chosen}: {status}");
            ended += 1;
            let runs = orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout;
            let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
            if runs.as_array().unwrap().len() == 1 {
                continue;
            }
            let completed = runs[0]["status"] == "completed";
            assert!(!completed || orch.read("workspace/x.md") == "answer of the second\n", "{chosen}: {runs}");
            if !completed {
                orch.run(&["pipeline", "resume", "--quiet"]).exits(0);
            }
            assert_eq!(orch.read("workspace/x.md"), "answer of the second\n", "{chosen}");
            let left = orch.files().into_iter().filter(|name| name.contains(".orch-tmp-")).collect::<Vec<_>>();
            assert!(left.is_empty(), "{chosen}: {left:?}");
        }
    }
    println!("ended {ended} times");
    assert!(ended > 20, "{ended}");
}
