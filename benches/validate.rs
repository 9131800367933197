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
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: usize = 25;
const RUNS: usize = 5;

fn main() {
    println!("{:<12} {:>6} {:>10} {:>14}", "pipelines", "steps", "median", "a pipeline");
    for pipelines in [10, 50, 100, 200] {
        let project = tempfile::tempdir().unwrap();
        write(project.path(), pipelines, STEPS);
        let took = median(project.path());
        let each = took / u32::try_from(pipelines).unwrap();
        println!("{pipelines:<12} {:>6} {took:>10.2?} {each:>14.2?}", pipelines * STEPS);
    }
    println!("\n{:<12} {:>6} {:>10} {:>14}", "one pipeline", "steps", "median", "a step");
    for steps in [100, 1_000, 5_000] {
        let project = tempfile::tempdir().unwrap();
        write(project.path(), 1, steps);
        let took = median(project.path());
        println!("{:<12} {steps:>6} {took:>10.2?} {:>14.2?}", "", took / u32::try_from(steps).unwrap());
    }
}

fn median(folder: &Path) -> Duration {
    let once = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.args(["pipeline", "validate", "--deny", "warnings"]).current_dir(folder).stderr(Stdio::null());
        let began = Instant::now();
        assert!(command.status().unwrap().success(), "the project has findings");
        began.elapsed()
    };
    let mut times: Vec<Duration> = (0..RUNS).map(|_| once()).collect();
    times.sort();
    times[RUNS / 2]
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
