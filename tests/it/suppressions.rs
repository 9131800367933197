//! Comments that suppress warnings: `# orch: allow CODE because REASON`.

#[cfg(unix)]
use serde_json::Value;

use crate::support::Orch;

/// A pipeline whose step reads the artifact `plan`, in this form.
fn pipeline(name: &str, input: &str) -> String {
    let text = r#"name: NAME
inputs: { task: { type: string } }
agents: { a: { model: auto } }
steps:
  - { id: plan, agent: a, prompt: plan.md, output: plan }
  - { id: write, agent: a, prompt: write.md, message: "Task: {{ task }}", inputs: [INPUT], output: draft, schema: text }
"#;
    text.replace("NAME", name).replace("INPUT", input)
}

const SUPPRESSED: &str = "{# orch: allow ORCH0602 because the plan always exists #}\n{{ plan }}\n";

/// A project with two pipelines that share a prompt. The prompt may lack a value only in the first one.
fn project() -> Orch {
    let orch = Orch::empty();
    orch.write("pipelines/first.yaml", &pipeline("first", "\"plan?\""));
    orch.write("pipelines/second.yaml", &pipeline("second", "plan"));
    orch.write("prompts/plan.md", "Plan it.\n").write("prompts/write.md", SUPPRESSED);
    orch.write("schemas/plan.schema.json", "{ \"type\": \"string\" }\n");
    orch
}

fn validate(orch: &Orch, more: &[&str]) -> crate::support::RunOutput {
    orch.run(&[&["pipeline", "validate", "--deny", "warnings"], more].concat())
}

#[test]
fn a_suppressed_warning_appears_in_no_format() {
    let orch = project();
    validate(&orch, &[]).exits(0);
    for format in ["json", "sarif", "github", "junit"] {
        let ran = validate(&orch, &["--format", format]).exits(0);
        let without_rules = ran.stdout.split("\"results\"").last().unwrap();
        assert!(!without_rules.contains("ORCH0602"), "{format}: {}", ran.stdout);
    }
    orch.write("prompts/write.md", "{{ plan }}\n");
    validate(&orch, &[]).exits(2).says("ORCH0602");
    let shown = orch.run(&["pipeline", "plan", "pipelines/first.yaml", "--task", "x"]);
    assert!(shown.stderr.contains("ORCH0602"), "{shown:?}");
    orch.write("prompts/write.md", SUPPRESSED);
    let shown = orch.run(&["pipeline", "plan", "pipelines/first.yaml", "--task", "x"]);
    assert!(!shown.stderr.contains("ORCH0602"), "{shown:?}");
}

#[test]
fn a_comment_in_a_shared_prompt_is_unused_only_if_no_pipeline_needs_it() {
    let orch = project();
    validate(&orch, &["pipelines/second.yaml"]).exits(0);
    orch.edit("pipelines/first.yaml", "[\"plan?\"]", "[plan]");
    validate(&orch, &["pipelines/first.yaml", "pipelines/second.yaml"]).exits(0);
    let ran = validate(&orch, &[]).exits(2).says("ORCH0802").says("nothing here has the code `ORCH0602`");
    assert!(ran.stderr.contains("prompts/write.md:1:1"), "{}", ran.stderr);
    // An error may hide the warning that the comment suppresses.
    orch.edit("pipelines/second.yaml", "agent: a, prompt: plan.md", "agent: b, prompt: plan.md");
    let ran = validate(&orch, &[]).exits(2);
    assert!(!ran.stderr.contains("ORCH0802"), "{}", ran.stderr);
}

/// Whoever follows the advice about a misspelt comment suppresses the warning.
#[test]
fn a_misspelt_comment_is_reported_with_the_right_spelling() {
    let orch = project();
    for content in
        ["orch: allow 0602 because it exists", "Orch: allow ORCH0602 because it exists", "orch ignore orch0602"]
    {
        orch.write("prompts/write.md", &format!("{{# {content} #}}\n{{{{ plan }}}}\n"));
        let ran = validate(&orch, &[]).exits(2).says("ORCH0801");
        let advice = ran.stderr.split("write `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
        orch.write("prompts/write.md", &format!("{}\n{{{{ plan }}}}\n", advice.replace("REASON", "it exists")));
        validate(&orch, &[]).exits(0);
    }
    orch.write("prompts/write.md", "{# orch: allow 602 because it exists #}\n{{ plan }}\n");
    validate(&orch, &["--fix"]).exits(0);
    assert_eq!(orch.read("prompts/write.md"), "{# orch: allow ORCH0602 because it exists #}\n{{ plan }}\n");
}

#[test]
fn a_comment_in_the_settings_suppresses_a_warning_there() {
    let orch = project();
    let settings = "models:\n  big: { gguf: big.gguf } # orch: allow ORCH0706 because CI downloads the file\n";
    orch.write("orch.yaml", settings.split(" #").next().unwrap());
    validate(&orch, &[]).exits(2).says("ORCH0706");
    orch.write("orch.yaml", settings);
    validate(&orch, &[]).exits(0);
    orch.write("orch.yaml", "# orch: allow ORCH0706 because CI downloads the file\nlimits: { max_concurrency: 2 }\n");
    validate(&orch, &["pipelines/first.yaml"]).exits(0);
    validate(&orch, &[]).exits(2).says("ORCH0802");
}

#[test]
fn a_comment_in_a_test_case_that_suppresses_nothing_is_reported() {
    let orch = project();
    let case = "pipeline: ../first.yaml\n# orch: allow ORCH0602 because of the prompt\ninputs: { task: x }\n";
    orch.write("pipelines/tests/first.yaml", case);
    let ran = validate(&orch, &["pipelines/tests/first.yaml"]).exits(2).says("ORCH0802");
    assert!(ran.stderr.contains("pipelines/tests/first.yaml:2:1"), "{}", ran.stderr);
}

/// A pipeline that a caller may run after a model has written files.
const CALLED: &str = "name: check
steps:
  # orch: allow ORCH0313 because the checker runs no files of the workspace
  - { id: check, run: [./check] }
";

/// Its caller. A model writes files before the call.
const CALLER: &str = r#"name: caller
agents: { a: { model: auto } }
steps:
  - { id: plan, agent: a, prompt: plan.md, output: plan }
  - { id: put, write: "[{'path': 'a.txt', 'content': plan}]", inputs: [plan] }
  - { id: call, pipeline: check.yaml }
"#;

#[test]
fn a_comment_about_a_command_of_a_called_pipeline_is_used_by_its_callers() {
    let orch = project();
    orch.write("pipelines/check.yaml", CALLED).write("pipelines/caller.yaml", CALLER);
    validate(&orch, &[]).exits(0);
    validate(&orch, &["pipelines/check.yaml"]).exits(0);
    orch.edit("pipelines/caller.yaml", "call, pipeline: check.yaml", "call, run: [echo, done]");
    let ran = validate(&orch, &[]).exits(2).says("ORCH0802");
    assert!(ran.stderr.contains("pipelines/check.yaml:3:3"), "{}", ran.stderr);
    orch.write("pipelines/caller.yaml", CALLER);
    orch.edit("pipelines/check.yaml", "ORCH0313", "ORCH0311");
    validate(&orch, &[]).exits(2).says("ORCH0313").says("ORCH0802");
}

/// A prompt that uses a value about which the schema says nothing.
const UNCHECKED: &str = "{# orch: allow ORCH0630 because the planner gives a number #}\n{{ plan.anything + 1 }}\n";

/// A project in which only `--strict` reports something, and comments suppress it.
fn project_with_strict_warnings() -> Orch {
    let orch = project();
    orch.write("prompts/write.md", UNCHECKED);
    let schema = r#"{ "type": "object", "required": ["anything"], "properties": { "anything": {} } }"#;
    orch.write("schemas/plan.schema.json", schema);
    let comment = "steps:\n  # orch: allow ORCH0115 because only orch reads this file\n";
    for name in ["first", "second"] {
        let text = pipeline(name, "plan");
        let (head, steps) = text.split_once("steps:\n").unwrap();
        let approval = "  - { id: sign_off, approve: Publish it? }\n";
        orch.write(&format!("pipelines/{name}.yaml"), &format!("{head}{comment}{approval}{steps}"));
    }
    orch
}

#[test]
fn comments_suppress_what_only_a_strict_check_reports() {
    let orch = project_with_strict_warnings();
    validate(&orch, &["--strict"]).exits(0);
    validate(&orch, &["--strict", "pipelines/first.yaml"]).exits(0);
    // A check that does not look for these warnings does not know whether the comments are unused.
    validate(&orch, &[]).exits(0);
    validate(&orch, &["pipelines/first.yaml"]).exits(0);
    orch.write("prompts/write.md", "{{ plan.anything + 1 }}\n");
    validate(&orch, &["--strict"]).exits(2).says("ORCH0630");
    validate(&orch, &[]).exits(0);
    orch.write("prompts/write.md", UNCHECKED.replace("plan.anything + 1", "task").as_str());
    validate(&orch, &["--strict"]).exits(2).says("ORCH0802").says("nothing here has the code `ORCH0630`");
    validate(&orch, &[]).exits(0);
    orch.edit("pipelines/first.yaml", "Publish it?", "Publish it.");
    validate(&orch, &["--strict"]).exits(2).says("nothing here has the code `ORCH0115`");
    validate(&orch, &["--fix"]).exits(0);
}

#[test]
fn a_fix_respects_the_comments_and_reports_nothing_that_only_a_strict_check_reports() {
    let orch = project_with_strict_warnings();
    let suppressed = orch.read("pipelines/first.yaml");
    orch.write("prompts/write.md", "{{ plan.anything + 1 }}\n");
    let ran = validate(&orch, &["--fix"]).exits(0);
    assert!(!ran.stderr.contains("ORCH0630") && !ran.stderr.contains("ORCH0115"), "{}", ran.stderr);
    assert_eq!(orch.read("pipelines/first.yaml"), suppressed);
    let comment = "  # orch: allow ORCH0115 because only orch reads this file\n";
    orch.write("pipelines/first.yaml", &suppressed.replace(comment, ""));
    let ran = validate(&orch, &["--fix"]).exits(0).says("(ORCH0115)");
    assert!(!ran.stderr.contains("ORCH0630"), "{}", ran.stderr);
    assert!(orch.read("pipelines/first.yaml").contains("approve: \"Publish it?\""));
}

#[cfg(unix)]
#[test]
fn the_language_server_respects_the_comments() {
    let orch = project();
    let mut editor = crate::support::Editor::new(&orch);
    editor.open_file("prompts/write.md");
    assert_eq!(editor.wait_for_finding("prompts/write.md", ""), [] as [Value; 0]);
    editor.change("prompts/write.md", 2, "{{ plan }}\n");
    editor.wait_for_finding("prompts/write.md", "ORCH0602");
    editor.change("prompts/write.md", 3, SUPPRESSED);
    editor.wait_for_finding("prompts/write.md", "");
}
