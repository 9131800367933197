//! The time that a sandbox adds to a command: pipelines of `run: ["true"]` steps, with and without `sandbox: {}`.
//!
//! A run with one step includes the start of orch and, with a sandbox, the probe of the machine, which happens once in
//! a process. The time of a step is the difference between a run with many steps and a run with one. Run it with
//! `cargo bench --profile dist --bench sandbox --no-default-features`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ORCH: &str = env!("CARGO_BIN_EXE_orch");
const RUNS: usize = 31;
/// The number of steps of the longer pipelines.
const STEPS: u32 = 21;

/// A pipeline whose runs are measured.
struct MeasuredPipeline {
    name: &'static str,
    file: String,
    times: Vec<Duration>,
}

fn main() {
    // Not in `/tmp`, which a confined program sees as an empty folder of its own.
    let folder = tempfile::Builder::new().prefix("orch-bench-").tempdir_in("/var/tmp").unwrap();
    let mut pipelines = [
        prepare(folder.path(), "one bare step", 1, ""),
        prepare(folder.path(), "many bare steps", STEPS, ""),
        prepare(folder.path(), "one confined step", 1, ", sandbox: {}"),
        prepare(folder.path(), "many confined steps", STEPS, ", sandbox: {}"),
    ];
    println!("the sandbox: {}", level(folder.path()));
    // The pipelines take turns, so that a change of the machine's speed affects all of them.
    for _ in 0..RUNS {
        for pipeline in &mut pipelines {
            let time = run(folder.path(), &pipeline.file);
            pipeline.times.push(time);
        }
    }
    let [bare_one, bare_many, confined_one, confined_many] = pipelines.map(median);
    let step = |one: Duration, many: Duration| many.saturating_sub(one) / (STEPS - 1);
    let (bare, confined) = (step(bare_one, bare_many), step(confined_one, confined_many));
    let added = confined.saturating_sub(bare);
    let ratio = confined.as_secs_f64() / bare.as_secs_f64();
    println!("a bare step: {bare:.2?}, a confined step: {confined:.2?}, {ratio:.1} times as long; added: {added:.2?}");
    let once = confined_one.saturating_sub(bare_one).saturating_sub(added);
    println!("added once in a process, for the probe of the machine: {once:.2?}");
}

/// Writes a pipeline with steps of `true` that have further keys.
fn prepare(folder: &Path, name: &'static str, count: u32, keys: &str) -> MeasuredPipeline {
    let steps: String = (0..count).map(|number| format!("  - {{ id: s{number}, run: [\"true\"]{keys} }}\n")).collect();
    let file = format!("pipelines/{}.yaml", name.replace(' ', "_"));
    std::fs::create_dir_all(folder.join("pipelines")).unwrap();
    std::fs::write(folder.join(&file), format!("name: bench\nsteps:\n{steps}")).unwrap();
    MeasuredPipeline { name, file, times: Vec::new() }
}

fn run(folder: &Path, file: &str) -> Duration {
    let mut command = Command::new(ORCH);
    command.args(["pipeline", "run", file, "-q"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    assert!(status.success(), "{file}: {status}");
    start.elapsed()
}

/// The line of `orch doctor` about the sandbox.
fn level(folder: &Path) -> String {
    let output = Command::new(ORCH).arg("doctor").current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find(|line| line.contains("sandbox")).unwrap_or("unknown").trim().to_owned()
}

fn median(mut pipeline: MeasuredPipeline) -> Duration {
    pipeline.times.sort_unstable();
    let at = |tenths: usize| pipeline.times[pipeline.times.len() * tenths / 10];
    println!("a run with {:<20} median {:>8.2?}   p10 {:>8.2?}   p90 {:>8.2?}", pipeline.name, at(5), at(1), at(9));
    at(5)
}
