//! The work for a pipeline grows at most in proportion to its number of steps.
//!
//! Times depend on the machine, so these tests count what the thread of a run allocates, for a number of steps and for
//! twice as many. A copy or a search of all steps for each step would multiply the allocations by up to four. What takes
//! quadratic time without an allocation shows only in the instructions: `benches/instructions` counts them.
//!
//! The allocator counts for divan, which prints its counts. So each case runs in a child process, whose output the test
//! reads.

#![allow(clippy::disallowed_methods, reason = "a test is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that can't go on fails")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use divan::{AllocProfiler, Bencher, Divan};
use orch::agent::{EnvLookup, ModelRegistry};
use orch::config::{self, Project};
use orch::engine::forecast::{LimitForecast, forecast};
use orch::engine::{PlannedModel, StepDefaults};
use orch::graph::{Graph, render_dot, render_mermaid, render_svg, render_text};
use orch::model::{ModelRef, RunStatus};
use orch::runner::{Environment, ResumeRequest, RunRequest, Runner, RunnerError, plan_project};
use serde_json::{Map, Value};

#[path = "../benches/server/mod.rs"]
mod server;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// By how much the work may grow if the number of steps doubles. The maps of a run grow with the logarithm.
const MAX_GROWTH: f64 = 2.2;
/// The variable that tells a child process its case: an operation, a workload and a number of steps.
const CASE_VARIABLE: &str = "ORCH_LINEAR_CASE";
/// The stack of the thread that measures, since debug builds have large futures.
const STACK_BYTES: usize = 64 << 20;

#[test]
fn checking_takes_linear_work() {
    assert_linear("check", "agents", 300);
    assert_linear("check", "groups", 300);
    assert_linear("check", "writes", 150);
}

#[test]
fn drawing_takes_linear_work() {
    assert_linear("graph", "agents", 500);
    assert_linear("graph", "groups", 500);
}

#[test]
fn a_forecast_takes_linear_work() {
    assert_linear("plan", "agents", 300);
    assert_linear("plan", "groups", 500);
}

#[test]
fn a_run_takes_linear_work() {
    assert_linear("run", "agents", 200);
    assert_linear("run", "items", 200);
    assert_linear("run", "groups", 500);
    assert_linear("run", "writes", 150);
}

#[test]
fn a_resume_takes_linear_work() {
    assert_linear("resume", "agents", 200);
    assert_linear("resume", "items", 200);
    assert_linear("resume", "groups", 500);
}

/// Measures a case in a child process.
fn assert_linear(operation: &str, workload: &str, steps: usize) {
    let case = format!("{operation} {workload} {steps}");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "measure", "--ignored", "--nocapture"])
        .env(CASE_VARIABLE, &case)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {printed}\n{errors}");
    let tallies: Result<[Tally; 2], _> = read_tallies(&printed).try_into();
    let [one, two] = tallies.unwrap_or_else(|_| panic!("{case}: {printed}\n{errors}"));
    for (what, one, two) in [("allocations", one.count, two.count), ("allocated bytes", one.bytes, two.bytes)] {
        let growth = two / one;
        println!("{case}: {one} {what}, with twice the steps {two}, {growth:.3} times as many");
        assert!(growth <= MAX_GROWTH, "{case}: {growth:.3} times the {what} with twice the steps");
    }
}

/// What a thread allocated.
struct Tally {
    count: f64,
    bytes: f64,
}

/// Reads the allocations from a table of divan: below `alloc:`, a row with their number and one with their bytes.
fn read_tallies(table: &str) -> Vec<Tally> {
    let first_column = |line: &str| {
        let line = line.trim_start_matches([' ', '│', '├', '╰', '─']).to_owned();
        line.split('│').next().unwrap_or_default().trim().to_owned()
    };
    let cells: Vec<String> = table.lines().map(first_column).collect();
    let tallies = cells.windows(3).filter(|cells| cells[0] == "alloc:");
    tallies.map(|cells| Tally { count: cells[1].parse().unwrap(), bytes: parse_bytes(&cells[2]) }).collect()
}

/// Parses a size such as `1.234 MB`.
fn parse_bytes(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap();
    let scale = match unit {
        "B" => 1.0,
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("unknown unit {other}"),
    };
    number.parse::<f64>().unwrap() * scale
}

#[test]
#[ignore = "the other tests start it in child processes"]
fn measure() {
    if env::var_os(CASE_VARIABLE).is_none() {
        return;
    }
    // divan measures on the thread that calls it.
    let run = || Divan::default().sample_count(1).sample_size(1).run_benches();
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

#[divan::bench(args = [1, 2])]
fn work(bencher: Bencher<'_, '_>, factor: usize) {
    let case = env::var(CASE_VARIABLE).unwrap();
    let [operation, workload, steps]: [&str; 3] = case.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let steps = steps.parse::<usize>().unwrap() * factor;
    let address = server::serve(Duration::ZERO, |_| r#"{"files":[{"path":"out/a.txt","content":"x"}]}"#);
    // What orch does once in a process must not count.
    perform(operation, &prepare(operation, workload, 2, &address));
    let project = prepare(operation, workload, steps, &address);
    bencher.bench_local(|| perform(operation, &project));
}

/// A project, with a run if the operation resumes it.
struct Prepared {
    folder: tempfile::TempDir,
    run: Option<String>,
}

fn prepare(operation: &str, workload: &str, steps: usize, address: &str) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), workload, steps, address);
    let run = (operation == "resume").then(|| run_pipeline(folder.path()));
    Prepared { folder, run }
}

fn write_project(folder: &Path, workload: &str, steps: usize, address: &str) {
    let mut text = "name: main\n".to_owned();
    text.push_str(match workload {
        "groups" => "inputs: { go: { type: boolean, default: false } }\nsteps:\n",
        _ => "agents: { a: { model: lab/m } }\nsteps:\n",
    });
    match workload {
        "agents" => {
            for step in 0..steps {
                let inputs = step.checked_sub(1).map_or_else(String::new, |previous| format!("o{previous}"));
                let _ = writeln!(
                    text,
                    "  - {{ id: s{step}, agent: a, prompt: p.md, message: go, schema: any, inputs: [{inputs}], output: o{step} }}"
                );
            }
        }
        "writes" => {
            for step in 0..steps {
                let _ = writeln!(
                    text,
                    "  - {{ id: s{step}, agent: a, prompt: p.md, message: go, schema: any, output: o{step} }}"
                );
                let _ = writeln!(text, "  - {{ id: w{step}, write: o{step}, inputs: [o{step}] }}");
                let file = format!("{{'path': 'out/{step}.txt', 'content': 'x'}}");
                let _ = writeln!(text, "  - {{ id: c{step}, write: \"[{file}]\" }}");
            }
        }
        "items" => {
            let items = (0..steps).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                text,
                "  - {{ id: each, agent: a, prompt: p.md, schema: any, output: all, for_each: \"[{items}]\", message: \"{{{{ item }}}}\" }}"
            );
        }
        "groups" => {
            for step in 0..steps {
                let _ = writeln!(
                    text,
                    "  - {{ id: g{step}, steps: [{{ id: s{step}, run: [\"true\"], access: none, when: go }}] }}"
                );
            }
        }
        other => panic!("unknown workload {other}"),
    }
    for name in ["pipelines", "prompts"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let settings = format!("providers:\n  lab: {{ dialect: openai, base_url: \"http://{address}/v1\" }}\n");
    fs::write(folder.join("orch.yaml"), settings).unwrap();
    fs::write(folder.join("prompts/p.md"), "Say yes.\n").unwrap();
    fs::write(folder.join("pipelines/main.yaml"), text).unwrap();
}

fn perform(operation: &str, prepared: &Prepared) {
    let folder = prepared.folder.path();
    match operation {
        "check" => drop(load(folder)),
        "graph" => {
            let graph = Graph::from_project(&load(folder));
            for render in [render_text, render_dot, render_mermaid, render_svg] {
                assert!(!render(&graph).is_empty());
            }
        }
        "plan" => forecast_run(folder),
        "run" => drop(run_pipeline(folder)),
        "resume" => resume_run(folder, prepared.run.as_deref().unwrap()),
        other => panic!("unknown operation {other}"),
    }
}

fn load(folder: &Path) -> Project {
    let project = config::load(&folder.join("pipelines/main.yaml"));
    let project = project.unwrap_or_else(|findings| panic!("{:?}", findings.first()));
    let findings = orch::check::check(&project);
    assert!(!findings.iter().any(orch::diagnostic::Diagnostic::is_error), "{:?}", findings.first());
    project
}

fn forecast_run(folder: &Path) {
    let project = load(folder);
    let variables: EnvLookup = Arc::new(|_| None);
    let models = ModelRegistry::new(&project.settings, &variables, folder.join("cache"));
    let planned_model = |name: &str| {
        let reference = ModelRef::parse(name).ok_or_else(|| RunnerError::internal("no model"))?;
        let provider = models.provider(&reference.provider)?;
        Ok(PlannedModel::new(reference, provider.dialect()))
    };
    let inputs = Map::from_iter([("go".to_owned(), Value::from(false))]);
    let plan = plan_project(&project, inputs, &StepDefaults::default(), &planned_model).unwrap();
    let steps = forecast(&plan, &[], &models, &mut |_| None);
    assert!(!steps.is_empty() && LimitForecast::compare(&plan, &steps).is_empty());
}

fn runner(folder: &Path) -> Runner {
    let environment = Environment::from_process().unwrap().with_current_dir(folder);
    Runner::new(environment.with_config_dir(folder.join("config")))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs the pipeline, and returns the id of the run.
fn run_pipeline(folder: &Path) -> String {
    let request = RunRequest::new(folder.join("pipelines/main.yaml"), Map::new());
    let result = block_on(runner(folder).start(&request)).unwrap();
    assert_eq!(result.state.status, RunStatus::Completed, "{:?}", result.state.failure);
    result.state.run.to_string()
}

fn resume_run(folder: &Path, run: &str) {
    let request = ResumeRequest { run: Some(run.to_owned()), ..ResumeRequest::default() };
    let result = block_on(runner(folder).resume(&request)).unwrap();
    assert_eq!(result.state.status, RunStatus::Completed, "{:?}", result.state.failure);
}
