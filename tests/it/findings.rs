//! How `orch pipeline validate` reports findings: paths, formats, exit codes.

use serde_json::Value;

use crate::support::Orch;

/// The default project with an error and a warning, and a valid pipeline beside it.
fn project_with_findings() -> Orch {
    let orch = Orch::new();
    let text = orch.read("pipelines/default.yaml");
    orch.write("pipelines/more/clean.yaml", &text);
    orch.edit("pipelines/default.yaml", "agent: coder", "agent: codr");
    orch.edit("pipelines/default.yaml", "agents:", "agents:\n  spare: { model: auto }");
    orch
}

fn validate(orch: &Orch, more: &[&str]) -> crate::support::RunOutput {
    orch.run(&[&["pipeline", "validate"], more].concat())
}

#[test]
fn only_the_format_for_people_leaves_standard_output_empty() {
    let orch = project_with_findings();
    let ran = validate(&orch, &[]).exits(2).says("unknown agent `codr`");
    assert_eq!(ran.stdout, "");
    for format in ["json", "sarif", "github", "junit"] {
        let ran = validate(&orch, &["--format", format]).exits(2);
        assert_eq!(ran.stderr, "", "{format}");
        assert!(ran.stdout.contains("ORCH0304") && ran.stdout.contains("unknown agent `codr`"), "{}", ran.stdout);
    }
}

#[test]
fn the_json_format_has_the_files_the_counts_and_the_findings() {
    let ran = validate(&project_with_findings(), &["--format", "json"]).exits(2);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checked: Vec<&str> = report["checked"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        checked.contains(&"pipelines/default.yaml") && checked.contains(&"pipelines/more/clean.yaml"),
        "{checked:?}"
    );
    assert_eq!(report["errors"], 1);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(Some(findings.len() as u64), report["warnings"].as_u64().map(|count| count + 1));
    let first = findings.iter().find(|f| f["code"] == "ORCH0304").unwrap();
    assert_eq!(first["location"]["path"], "pipelines/default.yaml");
}

#[test]
fn the_sarif_log_fits_the_official_schema() {
    // This is the published schema without a stray bracket in the pattern of languages, which no regex engine accepts.
    let text = std::fs::read_to_string("tests/data/sarif-schema-2.1.0.json").unwrap();
    let schema: Value = serde_json::from_str(&text.replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}$")).unwrap();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for folder in std::fs::read_dir("tests/pipelines/invalid").unwrap() {
        let path = folder.unwrap().path().join("pipelines/main.yaml");
        let path = path.to_str().unwrap().to_owned();
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_orch"))
            .args(["pipeline", "validate", "--format", "sarif", &path])
            .output()
            .unwrap();
        let log: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{path}: {wrong:#?}");
        assert!(!log["runs"][0]["results"].as_array().unwrap().is_empty(), "{path}");
    }
}

#[test]
fn the_github_format_has_a_command_for_each_finding() {
    let ran = validate(&project_with_findings(), &["--format", "github"]).exits(2);
    let line = ran.stdout.lines().find(|line| line.contains("ORCH0304")).unwrap();
    assert!(
        line.starts_with("::error file=pipelines/default.yaml,line=") && line.contains(",title=ORCH0304::"),
        "{line}"
    );
    assert!(ran.stdout.lines().all(|line| line.starts_with("::")), "{}", ran.stdout);
}

#[test]
fn the_junit_format_has_a_suite_for_each_file() {
    let ran = validate(&project_with_findings(), &["--format", "junit"]).exits(2);
    assert!(ran.stdout.starts_with("<?xml"), "{}", ran.stdout);
    for text in ["failures=\"1\"", "testsuite name=\"pipelines/more/clean.yaml\"", "type=\"ORCH0304\""] {
        assert!(ran.stdout.contains(text), "no {text} in {}", ran.stdout);
    }
}

#[test]
fn warnings_are_errors_when_denied() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "agents:", "agents:\n  spare: { model: auto }");
    validate(&orch, &[]).exits(0).says("warning[ORCH0311]").says("ok: 5 pipelines checked");
    validate(&orch, &["--deny", "warnings"]).exits(2).says("error[ORCH0311]");
}

#[test]
fn a_folder_argument_checks_all_pipelines_in_it() {
    let orch = project_with_findings();
    validate(&orch, &["pipelines/more"]).exits(0).says("ok: 1 pipeline checked");
    validate(&orch, &["."]).exits(2).says(" pipelines/default.yaml:");
    validate(&orch, &["pipelines/more", "pipelines/more/clean.yaml"]).exits(0).says("ok: 1 pipeline checked");
    validate(&orch, &["prompts"]).exits(2).says("there is no pipeline in `prompts`");
}
