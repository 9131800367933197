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
use std::process::Command;

mod measure;

use measure::{Samples, bytes, exponent, print_head, print_row, run_as_helper, time};

const RUNS: usize = 5;

/// The structure of a pipeline.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Sequence,
    Parallel,
    Groups,
}

fn main() {
    if run_as_helper() {
        return;
    }
    print_head(&["layout", "steps", "median", "a step", "exponent", "CPU", "memory"]);
    for layout in [Layout::Sequence, Layout::Parallel, Layout::Groups] {
        let mut smaller = None;
        for steps in [500, 1_000, 2_000, 4_000, 8_000] {
            let samples = sample(layout, steps);
            let median = samples.wall(5);
            let growth = smaller.map_or(String::new(), |(count, time)| exponent([count, steps], [time, median]));
            print_row(&[
                format!("{layout:?}"),
                steps.to_string(),
                time(median),
                time(median / u32::try_from(steps).unwrap()),
                growth,
                time(samples.median(|usage| usage.cpu)),
                bytes(samples.median(|usage| usage.memory)),
            ]);
            smaller = Some((steps, median));
        }
    }
}

fn sample(layout: Layout, steps: usize) -> Samples {
    let project = tempfile::tempdir().unwrap();
    write(project.path(), layout, steps);
    let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
    command.args(["pipeline", "plan", "pipelines/main.yaml", "--task", "Build it"]).current_dir(project.path());
    Samples::of(&command, RUNS)
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
