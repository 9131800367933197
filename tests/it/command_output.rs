//! The output of a command: complete, or its beginning and its end with a mark between them, and hints that lead to it.

use serde_json::{Value, json};

use crate::support::Orch;

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--output", "json"];

/// A step whose command writes a first line, much text and a last line to each of its outputs.
fn project(megabytes: usize, exit: i32, keys: &str) -> Orch {
    let orch = Orch::empty();
    let script = format!(
        "import sys\nfor out in (sys.stdout, sys.stderr):\n    out.write('FIRST\\n' + 'noise\\n' * ({megabytes} * 180000) + 'FATAL: the cause\\n')\nsys.exit({exit})\n"
    );
    orch.write("noise.py", &script);
    let path = orch.path().join("noise.py").display().to_string();
    let step = format!("{{ id: c, run: [python3, {path}], output: c{keys} }}");
    orch.write("pipelines/main.yaml", &format!("name: noise\nsteps: [{step}]\n"));
    orch
}

fn report(orch: &Orch) -> Value {
    serde_json::from_str(&orch.run(&RUN).stdout).unwrap()
}

#[test]
fn the_message_has_the_end_of_a_long_output_and_the_hint_leads_to_all_of_it() {
    let orch = project(7, 1, "");
    let error = report(&orch)["steps"][0]["error"].clone();
    assert!(error["message"].as_str().unwrap().ends_with("FATAL: the cause"), "{error:#}");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.starts_with("see its full output with `orch runs show --replies`"), "{hint}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert_eq!(
        (shown.matches("FIRST").count(), shown.matches("FATAL: the cause").count()),
        (2, 3),
        "the last one is that of the message"
    );
    assert!(shown.matches("noise").count() >= 2 * 7 * 180_000 && !shown.contains("are left out here"));
}

#[test]
fn the_beginning_and_the_end_of_an_output_that_is_too_long_are_kept() {
    let orch = project(20, 1, "");
    let error = report(&orch)["steps"][0]["error"].clone();
    assert!(error["message"].as_str().unwrap().ends_with("FATAL: the cause"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().starts_with("see the beginning and the end of its output with"));
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert_eq!((shown.matches("FIRST").count(), shown.matches("bytes are left out here").count()), (2, 2));
    assert!(shown.contains("FATAL: the cause"));
}

#[test]
fn an_artifact_marks_an_incomplete_output() {
    let orch = project(7, 0, "");
    assert_eq!(report(&orch)["success"], true);
    let artifact = orch.json("workspace/c.json");
    assert_eq!(artifact["truncated"], true);
    let stdout = artifact["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("FIRST\n") && stdout.ends_with("FATAL: the cause\n") && stdout.len() < 5 << 20);
    assert!(stdout.contains("bytes are left out here"));
    let orch = project(1, 0, "");
    assert_eq!(report(&orch)["success"], true);
    assert_eq!(orch.json("workspace/c.json").get("truncated"), None);
}

#[test]
fn an_output_that_is_the_artifact_is_complete_or_the_step_fails() {
    let orch = project(7, 0, ", schema: text");
    let error = report(&orch)["steps"][0]["error"].clone();
    assert_eq!(error["class"], "output_too_large", "{error:#}");
    // The size of the other output does not count.
    let orch = project(0, 0, ", schema: text");
    orch.edit("noise.py", "sys.exit(0)", "sys.stderr.write('x' * (9 << 20))");
    assert_eq!(report(&orch)["success"], true);
    assert_eq!(orch.read("workspace/c.md"), "FIRST\nFATAL: the cause\n");
}

#[test]
fn the_message_of_a_timeout_has_the_end_of_the_output() {
    let orch = Orch::empty();
    let run = "echo compiling; echo linking; echo 'warning: slow' >&2; exec sleep 300";
    let step = json!({ "id": "c", "run": run, "timeout": "1500ms" });
    orch.write("pipelines/main.yaml", &format!("name: slow\nsteps: [{step}]\n"));
    let error = report(&orch)["steps"][0]["error"].clone();
    let message = error["message"].as_str().unwrap();
    for part in ["the end of standard output:\ncompiling\nlinking", "the end of standard error:\nwarning: slow"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_schema_with_the_name_of_the_output_applies_to_the_output_of_a_command() {
    let orch = Orch::empty();
    let text = r#"name: counted
steps:
  - { id: count, run: [echo, '{"files": NUMBER}'], output: counted }
  - { id: say, run: [echo, "{{ counted.files }}"], inputs: [counted], output: said, schema: text }
success: true
"#;
    let pipeline = |number: &str| text.replace("NUMBER", number);
    orch.write("pipelines/main.yaml", &pipeline("3"));
    orch.run(&["pipeline", "validate"]).exits(2).says("write `schemas/counted.schema.json`, or set `schema:`");
    let schema = json!({ "type": "object", "required": ["files"], "properties": { "files": { "type": "integer" } } });
    orch.write("schemas/counted.schema.json", &schema.to_string());
    orch.run(&["pipeline", "validate", "--deny", "warnings"]).exits(0);
    let shown = orch.run(&["pipeline", "show", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(shown.contains("produces counted (schemas/counted.schema.json)"), "{shown}");
    let found = report(&orch);
    assert_eq!(orch.json("workspace/counted.json"), json!({ "files": 3 }), "{found:#}");
    assert_eq!(orch.read("workspace/said.md"), "3\n");

    orch.write("pipelines/main.yaml", &pipeline("true"));
    let error = report(&orch)["steps"][0]["error"].clone();
    assert_eq!(error["class"], "schema_mismatch", "{error:#}");
    orch.write("pipelines/main.yaml", "name: counted\nsteps: [{ id: count, run: echo 3 files, output: counted }]\n");
    let error = report(&orch)["steps"][0]["error"].clone();
    assert_eq!(error["class"], "no_json", "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("because `schemas/counted.schema.json` exists"), "{error:#}");
}
