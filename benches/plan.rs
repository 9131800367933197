//! `orch pipeline plan` on pipelines that grow: 500 to 8 000 steps, one after another, side by side, and in groups.
//!
//! The whole process, as a user runs it. Every step reads the artifacts of two steps before it, and has a budget. Run it
//! with `cargo bench --profile dist --bench plan --no-default-features`. The time of a step must not grow with the number
//! of steps.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 5;

/// The structure of a pipeline.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Sequence,
    Parallel,
    Groups,
}

fn main() {
    println!("{:<10} {:>6} {:>10} {:>10}", "layout", "steps", "median", "a step");
    for layout in [Layout::Sequence, Layout::Parallel, Layout::Groups] {
        for steps in [500, 1_000, 2_000, 4_000, 8_000] {
            let project = tempfile::tempdir().unwrap();
            write(project.path(), layout, steps);
            let took = median(project.path());
            let each = took / u32::try_from(steps).unwrap();
            println!("{:<10} {steps:>6} {took:>10.2?} {each:>10.2?}", format!("{layout:?}"));
        }
    }
}

fn median(folder: &Path) -> Duration {
    let once = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.args(["pipeline", "plan", "pipelines/main.yaml", "--task", "Build it"]).current_dir(folder);
        let began = Instant::now();
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        began.elapsed()
    };
    let mut times: Vec<Duration> = (0..RUNS).map(|_| once()).collect();
    times.sort();
    times[RUNS / 2]
}

/// A pipeline of so many agent steps.
fn write(folder: &Path, layout: Layout, steps: usize) {
    for name in ["pipelines", "prompts", "schemas"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("schemas/part.schema.json"), PART).unwrap();
    fs::write(folder.join("prompts/part.md"), "You write a part of {{ task }}.\n").unwrap();
    let mut text = "name: main\ninputs: { task: { type: string } }\nbudget: { tokens: 900000000 }\n".to_owned();
    text.push_str("agents: { writer: { model: openai/gpt-4.1-mini, budget: { tokens: 900000000 } } }\nsteps:\n");
    if matches!(layout, Layout::Parallel) {
        text.push_str("  - id: all\n    parallel:\n");
    }
    for step in 0..steps {
        let (indent, reads) = match layout {
            Layout::Sequence => ("  ", step.saturating_sub(2)..step),
            Layout::Parallel => ("      ", 0..0),
            Layout::Groups => {
                let _ = write!(text, "  - id: g{step}\n    steps:\n");
                ("      ", step.saturating_sub(2)..step)
            }
        };
        let reads: Vec<String> = reads.map(|read| format!("a{read}")).collect();
        let _ = writeln!(
            text,
            "{indent}- {{ id: s{step}, agent: writer, prompt: part.md, inputs: [{}], output: a{step}, schema: part, budget: {{ tokens: 900000 }} }}",
            reads.join(", ")
        );
    }
    fs::write(folder.join("pipelines/main.yaml"), text).unwrap();
}

const PART: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["title", "kind"],
  "properties": {
    "title": { "type": "string", "minLength": 1, "maxLength": 80 },
    "kind": { "enum": ["new", "edit"] }
  }
}
"#;
