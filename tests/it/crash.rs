//! The process ends at each place where something is made durable, at each time that it comes there.
//!
//! Needs the feature `failpoints`: `cargo test --features failpoints --test it crash`.

use crate::control::project;
use crate::kill::{STEPS, answer, replies_on_record, workspace};
use crate::support::Server;

/// How often a place is let through before the process ends there; further on it is all the same.
const PASSES: usize = 14;

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_process_that_ends_at_any_boundary_loses_nothing() {
    let server = Server::start(answer);
    // A large payload, so that blobs are written too; it is the last, and costs no request.
    let steps = STEPS.replace(
        "finally:",
        "  - { id: large, run: \"head -c 100000 /dev/zero | tr '\\\\0' x\", output: large, schema: text }\nfinally:",
    );
    let whole = project(&server, &steps);
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    whole.run(&args).exits(0);
    let (expected, all) = (workspace(&whole), server.requests().len());
    let mut ended = 0;
    for point in orch::crash::POINTS {
        for pass in 0..PASSES {
            let server = Server::start(answer);
            let orch = project(&server, &steps);
            let chosen = format!("{point}={pass}*off->return");
            let status = orch.command(&args).env("FAILPOINTS", &chosen).output().unwrap().status;
            if status.success() {
                assert!(pass > 0, "{point} is never reached");
                break;
            }
            assert_eq!(status.code(), None, "{chosen}: {status}");
            ended += 1;
            let before = server.requests().len();
            let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
            let runs: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
            let Some(run) = runs[0]["run"].as_str() else {
                assert!(before <= 1, "{chosen}: {before} requests and no run");
                continue;
            };
            let recorded = replies_on_record(&orch, run);
            orch.run(&["pipeline", "resume", run, "--quiet"]).exits(0);
            assert_eq!(workspace(&orch), expected, "{chosen}");
            assert_eq!(server.requests().len() - before, all - recorded, "{chosen}");
            assert!(before - recorded <= 3, "{chosen}: {before} asked, {recorded} recorded");
        }
    }
    println!("ended {ended} times at {} places", orch::crash::POINTS.len());
}
