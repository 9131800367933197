//! Kills the process at random instants: a resume repeats no recorded request, and the run has the same result as
//! without the kill.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::step_kinds::{project, prompt_name};
use crate::store::assert_journal_whole;
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// The number of kills; `ORCH_TEST_KILLS` sets another one.
pub(crate) fn kills() -> u32 {
    std::env::var("ORCH_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// The maximum number of requests and agent programs that run at once in [`project_with_every_kind`].
pub(crate) const MAX_IN_FLIGHT: usize = 3;

/// Every kind of step, with 13 requests and a turn of an agent program.
const STEPS: &str = "  - { id: plan, agent: a, schema: any, prompt: plan.md, output: plan }
  - id: sides
    parallel:
      - { id: one, agent: a, schema: any, prompt: one.md, output: x }
      - { id: two, agent: a, schema: any, prompt: two.md, output: y }
  - id: fix
    repeat:
      until: review.approved
      max: 3
      steps:
        - { id: code, agent: a, schema: any, prompt: code.md, message: \"round {{ loop.index }}{% if loop.previous.review and loop.previous.review.approved %}!{% endif %}\", output: code }
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
  - { id: other, pipeline: called.yaml, with: { topic: task }, output: called }
  - { id: edit, agent: program, schema: any, prompt: one.md, output: edited }
  - { id: ask, inputs: [edited], approve: \"{{ edited.by }}: go on?\", output: verdict }
  - { id: last, agent: a, schema: any, prompt: two.md, inputs: [verdict], message: \"{{ verdict.note }}\", output: last }
finally:
  - { id: tidy, run: \"echo done > tidied\" }
";

const CALLED: &str = "name: called
inputs: { topic: { type: string } }
agents: { a: { model: auto } }
steps:
  - { id: inner, agent: a, schema: any, prompt: three.md, output: inner }
outputs: { inner: inner }
";

/// An agent program that changes a file of the workspace before it answers.
const PROGRAM: &str = "cat > /dev/null\nmkdir -p src\necho edited > src/edited.txt\necho '{\"by\": \"program\"}'\n";

/// A project with one pipeline that has every kind of step.
pub(crate) fn project_with_every_kind(server: &Server) -> Orch {
    let orch = project(server, STEPS);
    let program = orch.path().join("program.sh").display().to_string();
    let agents = format!("  a: {{ model: auto }}\n  program: {{ command: [sh, \"{program}\"], tools: [edit] }}");
    orch.edit("pipelines/main.yaml", "  a: { model: auto }", &agents);
    orch.write("pipelines/called.yaml", CALLED).write("program.sh", PROGRAM);
    orch.disable_unsupported_sandboxes();
    orch
}

pub(crate) fn answer(request: &ReceivedRequest) -> Reply {
    let said = request.last();
    let value = match prompt_name(request).as_str() {
        "plan" => json!([1, 2, 3, 4]),
        "code" => json!({ "files": [{ "path": "src/round.txt", "content": format!("{said}\n") }] }),
        "review" => json!({ "approved": said.contains("round 2") }),
        step => json!({ "step": step, "said": said }),
    };
    Reply::openai_text(&value.to_string()).delay(Duration::from_millis(3))
}

/// Every file of the workspace with its content.
pub(crate) fn workspace_files(orch: &Orch) -> BTreeMap<String, String> {
    let files = orch.files().into_iter().filter(|name| name.starts_with("workspace/") && !name.ends_with(".lock"));
    files.map(|name| (name.clone(), orch.read(&name))).collect()
}

/// The number of requests, once no more arrive: the server may read a request after its sender died.
pub(crate) fn settled_request_count(server: &Server) -> usize {
    loop {
        let count = server.requests().len();
        std::thread::sleep(Duration::from_millis(60));
        if server.requests().len() == count {
            return count;
        }
    }
}

/// How often the server answered each request completely, by prompt and message.
fn questions(server: &Server) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for request in server.requests() {
        *found.entry(format!("{} {}", prompt_name(&request), request.last())).or_default() += 1;
    }
    found
}

/// The latest run with its status; `None` when there is none.
pub(crate) fn latest_run(orch: &Orch) -> Option<(String, String)> {
    let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
    let runs: Value = serde_json::from_str(&listed.stdout).unwrap();
    Some((runs[0]["run"].as_str()?.to_owned(), runs[0]["status"].as_str().unwrap().to_owned()))
}

/// The number of recorded replies of models, without those of programs.
pub(crate) fn recorded_reply_count(orch: &Orch, run: &str) -> usize {
    let ran = orch.run(&["runs", "show", run, "--replies", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let replied = |call: &&Value| !call["reply"].is_null() && !call["call"].as_str().unwrap().starts_with("edit@");
    report["calls"].as_array().unwrap().iter().filter(replied).count()
}

/// Resumes a run until it ends, and approves its question if it waits.
pub(crate) fn resume_to_end(orch: &Orch, run: &str) {
    let resumed = orch.run(&["pipeline", "resume", run, "--quiet"]);
    if resumed.code == 3 {
        orch.run(&["runs", "approve", run, "--note", "fine", "--resume"]).exits(0);
        return;
    }
    resumed.exits(0);
}

/// Asserts that no step completed twice, and that the journal is whole.
pub(crate) fn assert_completed_once(orch: &Orch, run: &str) {
    let events = orch.run(&["runs", "events", run, "--output", "json"]).exits(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut steps: Vec<String> =
        events.filter_map(|event| Some(event["fact"]["step_completed"]["step"].as_str()?.to_owned())).collect();
    // `finally` runs in each session.
    steps.retain(|step| step != "tidy");
    steps.sort();
    let all = steps.len();
    steps.dedup();
    assert_eq!(steps.len(), all, "a step completed twice: {steps:?}");
    assert_journal_whole(orch);
}

const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--quiet"];

/// Starts a run and answers its question if it waits; kills the process that is running after `instant`.
pub(crate) fn kill_at(orch: &Orch, args: &[&str], instant: Duration) {
    let began = Instant::now();
    let over = |child: &mut std::process::Child| {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if began.elapsed() >= instant {
                child.kill().unwrap();
                child.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    let start = |args: &[&str]| orch.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if over(&mut start(args)) == Some(3) {
        let (run, _) = latest_run(orch).unwrap();
        over(&mut start(&["runs", "approve", &run, "--note", "fine", "--resume"]));
    }
}

/// Runs `make`'s project without a kill, and then many times with a kill at a random instant; returns a summary.
fn kill_at_random_instants(
    make: impl Fn(&Server) -> Orch,
    reply: fn(&ReceivedRequest) -> Reply,
    args: &[&str],
    at_once: usize,
) -> String {
    let server = Server::start(reply);
    let whole = make(&server);
    let began = Instant::now();
    kill_at(&whole, args, Duration::from_mins(1));
    let (took, expected, all) = (began.elapsed(), workspace_files(&whole), server.requests().len());
    assert_eq!(latest_run(&whole).unwrap().1, "completed");
    let mut seed = 7_u32;
    let (mut hit, mut twice) = (0, 0);
    for _ in 0..kills() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let server = Server::start(reply);
        let orch = make(&server);
        kill_at(&orch, args, took.mul_f64(f64::from(seed >> 8) / f64::from(1 << 24)));
        let Some((run, status)) = latest_run(&orch) else {
            // The kill came before anything was recorded, so at most one request was sent.
            assert!(server.requests().len() <= 1, "{:?}", questions(&server));
            kill_at(&orch, args, Duration::from_mins(1));
            assert_eq!(workspace_files(&orch), expected);
            continue;
        };
        hit += u32::from(status != "completed");
        let (recorded, before) = (recorded_reply_count(&orch, &run), settled_request_count(&server));
        resume_to_end(&orch, &run);
        assert_eq!(workspace_files(&orch), expected, "run {run}");
        assert_completed_once(&orch, &run);
        // The resume repeats only requests that were in flight.
        assert_eq!(server.requests().len() - before, all - recorded, "{:?}", questions(&server));
        let lost = before - recorded;
        assert!(lost <= at_once, "at most what was in flight is lost: {before} asked, {recorded} recorded");
        twice += lost;
    }
    // The duration of a run varies on a busy machine, so that some kills come too late.
    assert!(hit > 0, "no kill hit a run");
    format!("{hit} of {} kills hit a run; {twice} replies in flight were asked again", kills())
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn a_run_with_every_kind_of_step_survives_a_kill_at_any_instant() {
    println!("every kind: {}", kill_at_random_instants(project_with_every_kind, answer, &RUN, MAX_IN_FLIGHT));
}

/// The answers of the agents of the default pipeline.
fn default_answer(request: &ReceivedRequest) -> Reply {
    crate::default_pipeline::good_reply(request).delay(Duration::from_millis(3))
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn the_default_pipeline_survives_a_kill_at_any_instant() {
    let args = ["pipeline", "run", "pipelines/default.yaml", "--task", "do it", "--quiet"];
    println!("default: {}", kill_at_random_instants(|server| Orch::new().with(server), default_answer, &args, 1));
}

/// Kills the deletion of runs that share large payloads at random instants.
#[test]
fn a_deletion_that_is_killed_at_any_instant_damages_no_other_run() {
    let server = Server::start(answer);
    let orch = project(
        &server,
        "  - { id: large, run: \"head -c 100000 /dev/zero | tr '\\\\0' x\", output: large, schema: text }\n  - { id: own, run: \"head -c 100000 /dev/urandom | base64\", access: none, output: own, schema: text }\n",
    );
    for _ in 0..3 {
        orch.run(&RUN).exits(0);
    }
    let mut seed = 11_u32;
    for round in 0..kills().min(60) {
        orch.run(&RUN).exits(0);
        let doomed = latest_run(&orch).unwrap().0;
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let args: &[&str] = if round % 2 == 0 { &["runs", "delete", &doomed] } else { &["runs", "gc", "--keep", "3"] };
        kill_at(&orch, args, Duration::from_micros(u64::from(seed >> 8) % 12_000));
        assert_journal_whole(&orch);
        let listed = orch.run(&["runs", "list", "--output", "json"]).exits(0);
        let runs: Value = serde_json::from_str(&listed.stdout).unwrap();
        for run in runs.as_array().unwrap() {
            let run = run["run"].as_str().unwrap();
            let large = orch.run(&["runs", "artifact", run, "large"]).exits(0).stdout;
            assert_eq!(large.trim_end().len(), 100_000);
            orch.run(&["runs", "artifact", run, "own"]).exits(0);
        }
        assert!(runs.as_array().unwrap().len() >= 3);
        orch.run(&["runs", "gc", "--keep", "3"]).exits(0);
    }
    let left = orch.run(&["runs", "gc", "--keep", "3", "--dry-run", "--output", "json"]).exits(0);
    let left: Value = serde_json::from_str(&left.stdout).unwrap();
    assert_eq!((&left["runs"], &left["blobs"]), (&json!([]), &json!(0)), "gc removes what a killed process left");
}
