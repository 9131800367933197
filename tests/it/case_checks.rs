//! `validate` checks the inputs and the assertions of a test case against the schemas of its pipeline.

use serde_json::Value;

use crate::support::Orch;

const PIPELINE: &str = "name: test
inputs:
  level: { type: integer, minimum: 1, maximum: 5 }
agents: { judge: { model: auto } }
steps:
  - id: rounds
    repeat:
      max: 2
      steps:
        - { id: judge, agent: judge, prompt: judge.md, message: \"{{ level }}\", output: verdict }
  - id: parts
    inputs: [verdict]
    for_each: verdict.issues
    output: parts
    steps:
      - { id: one, run: [echo, \"{{ item }}\"], access: none, output: local }
  - { id: check, inputs: [verdict], run: [\"true\"], access: none, output: checked }
";

const SCHEMA: &str = r#"{
  "type": "object", "additionalProperties": false, "required": ["score", "issues"],
  "properties": {
    "score": { "type": "integer", "minimum": 0, "maximum": 10 }, "note": { "type": "string" },
    "issues": { "type": "array", "items": { "type": "string" } }
  }
}"#;

fn project(case: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("prompts/judge.md", "Judge it.\n").write("schemas/verdict.schema.json", SCHEMA);
    orch.write("pipelines/main.yaml", PIPELINE).write("pipelines/tests/main.yaml", case);
    orch
}

/// The findings of a test case, each as its position, its code, its message and its help.
fn findings(orch: &Orch) -> Vec<String> {
    let ran = orch.run(&["pipeline", "validate", "pipelines/tests/main.yaml", "--format", "json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let found = report["findings"].as_array().unwrap().iter().map(|finding| {
        let (line, column) = (&finding["location"]["line"], &finding["location"]["column"]);
        let (code, message) = (finding["code"].as_str().unwrap(), finding["message"].as_str().unwrap());
        format!("{line}:{column} {code} {message} {}", finding["help"])
    });
    found.collect()
}

fn with_assertion(expression: &str) -> String {
    format!("pipeline: ../main.yaml\ninputs: {{ level: 3 }}\nexpect:\n  assert: [ \"{expression}\" ]\n")
}

#[test]
fn an_input_that_does_not_fit_its_schema_is_found() {
    for (level, expected) in [
        ("high", "2:18 ORCH0609 the input `level` does not fit its schema: expected integer, got string (\"high\")"),
        ("9", "2:18 ORCH0609 the input `level` does not fit its schema: expected at most 5, got 9"),
    ] {
        let found = findings(&project(&format!("pipeline: ../main.yaml\ninputs: {{ level: {level} }}\n")));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{level}: {found:#?}");
    }
    assert_eq!(findings(&project("pipeline: ../main.yaml\ninputs: { level: 5 }\n")), [""; 0]);
}

#[test]
fn assertions_are_checked_against_the_types_of_the_artifacts() {
    for (expression, code, words) in [
        ("verdict.scor >= 3", "4:22 ORCH0601", "`verdict` has no `scor` [\"did you mean `score`?\"]"),
        ("verdict.score > 10", "4:14 ORCH0620", "is never true"),
        ("verdict.score == 'high'", "4:14 ORCH0604", "can never equal"),
        ("verdict.score", "4:14 ORCH0605", "is a number, not `true` or `false`"),
        ("verdikt.score > 1", "4:14 ORCH0406", "did you mean `verdict`?"),
        ("level > 5", "4:14 ORCH0620", "is never true"),
        ("parts[0].output == 'x'", "4:23 ORCH0601", "has no `output`"),
        ("local.exit_code == 0", "4:14 ORCH0406", "assertions can use only artifacts with a file"),
        ("steps.check.status == 'completed'", "4:14 ORCH0406", "under `steps:`, beside `assert:`"),
        ("checked.exit_code === 0", "4:32 ORCH0401", "write `==` in place of `===`"),
    ] {
        let found = findings(&project(&with_assertion(expression)));
        let is_expected = |finding: &String| finding.starts_with(code) && finding.contains(words);
        assert!(found.len() == 1 && found.iter().all(is_expected), "{expression}: {found:#?}");
    }
}

/// The recordings decide whether a value is missing.
#[test]
fn a_value_that_may_be_missing_is_no_finding_in_an_assertion() {
    for expression in [
        "verdict.note == 'fine'",
        "verdict.issues[0] | length > 0",
        "verdict.score >= 3 and level < 5",
        "parts | length == verdict.issues | length",
        "parts[0].local.exit_code == 0",
        "checked.exit_code == 0",
    ] {
        assert_eq!(findings(&project(&with_assertion(expression))), [""; 0], "{expression}");
    }
}

#[test]
fn a_misspelt_name_in_an_assertion_is_fixed_at_its_place() {
    let orch = project(&with_assertion("verdict.scor >= 3"));
    orch.run(&["pipeline", "validate", "--fix", "pipelines/tests/main.yaml"]).exits(0);
    assert_eq!(orch.read("pipelines/tests/main.yaml"), with_assertion("verdict.score >= 3"));
}
