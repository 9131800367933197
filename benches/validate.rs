//! `orch pipeline validate` on projects that grow: up to 200 pipelines with 5 000 steps, and one pipeline with as many.
//!
//! The whole process, as CI runs it. Every step has a prompt of its own pipeline that reads two
//! artifacts, and the schemas of a project are shared. Run it with
//! `cargo bench --profile dist --bench validate --no-default-features`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

mod measure;

use measure::{Samples, bytes, exponent, print_head, print_row, run_as_helper, time};

const STEPS: usize = 25;
const RUNS: usize = 5;

fn main() {
    if run_as_helper() {
        return;
    }
    print_head(&["pipelines", "steps", "median", "a pipeline", "exponent", "on one core", "CPU", "memory"]);
    let mut smaller = None;
    for pipelines in [10, 50, 100, 200] {
        let project = tempfile::tempdir().unwrap();
        write(project.path(), pipelines, STEPS);
        print(project.path(), pipelines, pipelines * STEPS, &mut smaller);
    }
    print_head(&["pipelines", "steps", "median", "a step", "exponent", "on one core", "CPU", "memory"]);
    let mut smaller = None;
    for steps in [100, 1_000, 5_000] {
        let project = tempfile::tempdir().unwrap();
        write(project.path(), 1, steps);
        print(project.path(), steps, steps, &mut smaller);
    }
}

/// A measurement, by which the next one grows.
struct Smaller {
    count: usize,
    median: Duration,
}

/// Prints the row of a project with so many pipelines, or steps of one pipeline.
fn print(folder: &Path, count: usize, steps: usize, smaller: &mut Option<Smaller>) {
    let samples = sample(folder, &[]);
    let median = samples.wall(5);
    let growth = |smaller: &Smaller| exponent([smaller.count, count], [smaller.median, median]);
    let one_core =
        if cfg!(target_os = "linux") { time(sample(folder, &["taskset", "-c", "0"]).wall(5)) } else { "–".into() };
    print_row(&[
        if count == steps { "1".to_owned() } else { count.to_string() },
        steps.to_string(),
        time(median),
        time(median / u32::try_from(count).unwrap()),
        smaller.as_ref().map_or(String::new(), growth),
        one_core,
        time(samples.median(|usage| usage.cpu)),
        bytes(samples.median(|usage| usage.memory)),
    ]);
    *smaller = Some(Smaller { count, median });
}

/// Validates a project several times, started by another program if `prefix` names one.
fn sample(folder: &Path, prefix: &[&str]) -> Samples {
    let validate = [env!("CARGO_BIN_EXE_orch"), "pipeline", "validate", "--deny", "warnings"];
    let words = [prefix, &validate].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(folder);
    Samples::of(&command, RUNS)
}

/// A project without a mistake: pipelines of so many steps, a prompt a step, 25 schemas for all.
fn write(folder: &Path, pipelines: usize, steps: usize) {
    for name in ["pipelines", "prompts", "schemas"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    fs::write(folder.join("schemas/step.schema.json"), STEP).unwrap();
    for step in 0..STEPS {
        fs::write(folder.join(format!("schemas/a{step}.schema.json")), ARTIFACT).unwrap();
    }
    fs::write(folder.join("prompts/rules.md"), "Be brief about {{ task }}.\n".repeat(20)).unwrap();
    for pipeline in 0..pipelines {
        let mut text =
            format!("name: p{pipeline}\ninputs:\n  task: {{ type: string }}\nagents:\n  writer: {{}}\nsteps:\n");
        for step in 0..steps {
            let inputs: Vec<String> = (step.saturating_sub(2)..step).map(|read| format!("a{read}")).collect();
            let _ = write!(
                text,
                "  - id: s{step}\n    agent: writer\n    prompt: p{pipeline}_{step}.md\n    inputs: [{}]\n    output: a{step}\n    schema: a{}.schema.json\n",
                inputs.join(", "),
                step % STEPS
            );
            if let Some(read) = inputs.last() {
                let _ = writeln!(text, "    when: {read}.steps | length > 0 and {read}.kind != \"none\"");
            }
            let mut prompt = "{% include \"rules.md\" %}\n".to_owned();
            for read in &inputs {
                prompt.push_str(&PROMPT.replace("NAME", read));
            }
            fs::write(folder.join(format!("prompts/p{pipeline}_{step}.md")), prompt).unwrap();
        }
        fs::write(folder.join(format!("pipelines/p{pipeline}.yaml")), text).unwrap();
    }
}

const PROMPT: &str = "# NAME: {{ NAME.title }}
{% for step in NAME.steps %}{{ loop.index }}. {{ step.title | upper }}{% if step.detail %}: {{ step.detail }}{% endif %}
{% for file in step.files %}- {{ file }}
{% endfor %}{% endfor %}
{% if NAME.note is defined %}{{ NAME.note }}{% endif %} {{ NAME.owner or \"nobody\" }}
{{ NAME.steps | selectattr(\"kind\", \"eq\", \"new\") | map(attribute=\"title\") | join(\", \") }}
{{ NAME | tojson }}
";

const ARTIFACT: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["title", "kind", "owner", "steps"],
  "properties": {
    "title": { "type": "string", "minLength": 1 },
    "kind": { "enum": ["none", "some"] },
    "owner": { "type": ["string", "null"] },
    "note": { "type": "string" },
    "steps": { "type": "array", "items": { "$ref": "step.schema.json" } }
  }
}
"#;

const STEP: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["title", "kind", "files"],
  "properties": {
    "title": { "type": "string" },
    "detail": { "type": "string" },
    "kind": { "enum": ["new", "edit"] },
    "files": { "type": "array", "items": { "type": "string" } }
  }
}
"#;
