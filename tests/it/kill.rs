//! A process that is killed at any instant: nothing that was answered is asked again, and the run
//! comes out as if nothing had happened.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::{asked, project};
use crate::support::{Orch, Recorded, Reply, Server};

/// How many random instants; more with `ORCH_TEST_KILLS`.
fn kills() -> u32 {
    std::env::var("ORCH_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Every kind of step, in 12 requests.
pub(crate) const STEPS: &str = "  - { id: plan, agent: a, schema: any, prompt: plan.md, output: plan }
  - id: sides
    parallel:
      - { id: one, agent: a, schema: any, prompt: one.md, output: x }
      - { id: two, agent: a, schema: any, prompt: two.md, output: y }
  - id: fix
    repeat:
      until: review.approved
      max: 3
      steps:
        - { id: code, agent: a, schema: any, prompt: code.md, inputs: [\"review?\"], message: \"round {{ loop.index }}\", output: code }
        - { id: files, write: code, inputs: [code], output: written }
        - { id: tests, run: \"cat src/round.txt\", inputs: [code], output: tests }
        - { id: review, agent: a, schema: any, prompt: review.md, inputs: [code, tests], message: \"{{ tests.stdout }}\", output: review }
  - id: every
    inputs: [plan]
    for_each: plan
    max_parallel: 3
    output: parts
    steps:
      - { id: part, agent: a, schema: any, prompt: three.md, message: \"item {{ item }}\", output: piece }
finally:
  - { id: tidy, run: \"echo done > tidied\" }
";

pub(crate) fn answer(request: &Recorded) -> Reply {
    let said = request.last();
    let value = match asked(request).as_str() {
        "plan" => json!([1, 2, 3, 4]),
        "code" => json!({ "files": [{ "path": "src/round.txt", "content": format!("{said}\n") }] }),
        "review" => json!({ "approved": said.contains("round 2") }),
        step => json!({ "step": step, "said": said }),
    };
    Reply::openai_text(&value.to_string()).delay(Duration::from_millis(3))
}

/// Every file of the workspace with its content.
pub(crate) fn workspace(orch: &Orch) -> BTreeMap<String, String> {
    let files = orch.files().into_iter().filter(|name| name.starts_with("workspace/") && !name.ends_with(".lock"));
    files.map(|name| (name.clone(), orch.read(&name))).collect()
}

/// Requests by what they ask, with how often the server answered them whole.
fn questions(server: &Server) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for request in server.requests() {
        *found.entry(format!("{} {}", asked(&request), request.last())).or_default() += 1;
    }
    found
}

pub(crate) fn replies_on_record(orch: &Orch, run: &str) -> usize {
    let ran = orch.run(&["runs", "show", run, "--replies", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    report["calls"].as_array().unwrap().iter().filter(|call| !call["reply"].is_null()).count()
}

#[cfg(unix)]
#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_run_that_is_killed_at_any_instant_comes_out_the_same() {
    let server = Server::start(answer);
    let whole = project(&server, STEPS);
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];
    let began = Instant::now();
    whole.run(&args).exits(0);
    let (took, expected, all) = (began.elapsed(), workspace(&whole), questions(&server));
    assert!(expected.len() >= 9, "{expected:?}");
    let mut seed = 7_u32;
    let (mut struck, mut twice) = (0, 0);
    for _ in 0..kills() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let server = Server::start(answer);
        let orch = project(&server, STEPS);
        let mut child = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(f64::from(seed >> 8) / f64::from(1 << 24)));
        child.kill().unwrap();
        child.wait().unwrap();
        let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
        let runs: Value = serde_json::from_str(&listed.stdout).unwrap();
        let Some(run) = runs[0]["run"].as_str() else {
            // Killed before anything was on record: nothing was paid for either.
            assert!(server.requests().len() <= 1, "{:?}", questions(&server));
            orch.run(&args).exits(0);
            assert_eq!(workspace(&orch), expected);
            continue;
        };
        if runs[0]["status"] != "completed" {
            struck += 1;
        }
        let recorded = replies_on_record(&orch, run);
        let before = server.requests().len();
        orch.run(&["pipeline", "resume", run, "--quiet"]).exits(0);
        assert_eq!(workspace(&orch), expected, "run {run}");
        // What was on record is not asked again: only what was in flight may be.
        assert_eq!(
            server.requests().len() - before,
            all.values().sum::<usize>() - recorded,
            "{:?}",
            questions(&server)
        );
        assert!(before - recorded <= 3, "at most what was in flight is lost: {before} asked, {recorded} recorded");
        twice += before - recorded;
    }
    println!("killed in {struck} of {} runs; {twice} replies in flight were asked again", kills());
    // How long a run takes differs on a busy machine, so that some kills come too late.
    assert!(struck > 0, "no kill hit a run");
}
