//! Branches as data: plans that are made again from bundles, and runs whose branches run as in other processes.

use std::fs;
use std::path::{Path, PathBuf};

use orch::config::{self, Project};
use orch::engine::{Plan, PlannedModel, StepDefaults};
use orch::model::{Digest, ModelRef};
use orch::runner::{PlanBundle, plan_project};
use serde_json::{Map, Value, json};

use crate::step_kinds::statuses;
use crate::support::{Orch, RunOutput};

fn load(path: &Path) -> Project {
    config::load(path).unwrap_or_else(|findings| panic!("{}: {findings:?}", path.display()))
}

/// The settings of the steps of a project, as a run has them.
fn defaults(project: &Project) -> StepDefaults {
    let settings = &project.settings;
    let servers = settings.mcp.iter();
    let servers = servers.filter_map(|(name, server)| Some((name.clone(), server.spec(name, &settings.sandbox)?)));
    StepDefaults {
        timeout: settings.defaults.timeout.map(|duration| duration.0),
        re_ask: settings.defaults.re_ask,
        max_output_tokens: settings.defaults.max_output_tokens,
        budget: settings.budget.clone(),
        project_root: "/project".into(),
        sandbox: settings.sandbox.clone(),
        mcp: servers.collect(),
        ..StepDefaults::default()
    }
}

/// The plan of a project, and the bundle from which another process makes it.
fn plan_and_bundle(project: &Project) -> (Plan, PlanBundle) {
    plan_with_inputs(project, Map::new())
}

fn plan_with_inputs(project: &Project, inputs: Map<String, Value>) -> (Plan, PlanBundle) {
    let planned = |name: &str| {
        let model = PlannedModel::new(ModelRef::new("test", name), "openai");
        Ok(PlannedModel { context_window: Some(1000), ..model })
    };
    let defaults = defaults(project);
    let plan = plan_project(project, inputs, &defaults, &planned).unwrap();
    (plan, PlanBundle::from_project(project, &defaults, &planned).unwrap())
}

fn digest(plan: &Plan) -> Digest {
    plan.digest().unwrap().clone()
}

/// The pipelines of a project, except for test cases.
fn pipelines(folder: &Path) -> Vec<PathBuf> {
    config::list_pipelines(folder).into_iter().map(|name| folder.join(name)).collect()
}

#[test]
fn a_plan_from_a_bundle_has_the_same_digest() {
    let mut files = pipelines(Path::new("."));
    assert!(files.len() >= 5, "the pipelines of the repository: {files:?}");
    for entry in fs::read_dir("tests/it/mutations/projects").unwrap() {
        files.extend(pipelines(&entry.unwrap().path()));
    }
    let mut calls = 0;
    for file in &files {
        let project = load(file);
        calls += project.called_projects.len();
        let (plan, bundle) = plan_and_bundle(&project);
        let again = bundle.plan_again(&[]).unwrap_or_else(|failure| panic!("{}: {failure}", file.display()));
        assert_eq!(digest(&plan), digest(&again), "{}", file.display());
        let reserved = ["orch.yaml".to_owned()];
        let again = bundle.plan_again(&reserved).unwrap();
        assert_ne!(digest(&plan), digest(&again), "the files that no step may write count");
        assert_eq!(digest(&plan.with_project_files(reserved.to_vec())), digest(&again));
    }
    assert!(calls > 2, "some pipelines call others");
}

const MAIN: &str = r#"name: main
agents: { a: { model: lab/m, pipelines: [sub/asked.yaml] } }
steps:
  - { id: draft, agent: a, prompt: draft.md, output: plan }
  - { id: call, pipeline: sub/called.yaml, with: { topic: "'x'" }, output: called }
"#;
const CALLED: &str = r"name: called
inputs: { topic: { type: string } }
steps:
  - { id: again, pipeline: deeper/inner.yaml, output: inner }
outputs: { inner: inner }
";
const INNER: &str =
    "name: inner\nsteps: [{ id: list, run: [ls], access: none, output: listed }]\noutputs: { listed: listed }\n";
const ASKED: &str = "name: asked\nsteps: [{ id: note, run: [echo, note], access: none }]\n";

/// A project in which every kind of file names others.
fn project_with_calls() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let settings = "providers:\n  lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" }\n";
    for (name, text) in [
        ("orch.yaml", settings),
        ("pipelines/main.yaml", MAIN),
        ("pipelines/sub/called.yaml", CALLED),
        ("pipelines/sub/deeper/inner.yaml", INNER),
        ("pipelines/sub/asked.yaml", ASKED),
        ("prompts/draft.md", "Draft it. {% include 'rules.md' %}\n"),
        ("prompts/rules.md", "Be brief.\n"),
        ("prompts/unused.md", "Nobody reads this.\n"),
        (
            "schemas/plan.schema.json",
            r#"{ "type": "object", "properties": { "n": { "$ref": "https://example.com/n" } } }"#,
        ),
        ("schemas/number.schema.json", r#"{ "$id": "https://example.com/n", "type": "integer" }"#),
        ("schemas/listed.schema.json", r#"{ "type": "array" }"#),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn a_bundle_contains_the_files_that_a_pipeline_names_and_needs_no_disk() {
    let folder = project_with_calls();
    let (plan, bundle) = plan_and_bundle(&load(&folder.path().join("pipelines/main.yaml")));
    drop(folder);
    let names: Vec<&str> = bundle.project.files.keys().map(String::as_str).collect();
    let expected = [
        "orch.yaml",
        "pipelines/main.yaml",
        "pipelines/sub/asked.yaml",
        "pipelines/sub/called.yaml",
        "pipelines/sub/deeper/inner.yaml",
        "prompts/draft.md",
        "prompts/rules.md",
        "schemas/listed.schema.json",
        "schemas/number.schema.json",
        "schemas/plan.schema.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(bundle.project.pipeline, "pipelines/main.yaml");
    assert_eq!(digest(&bundle.plan_again(&[]).unwrap()), digest(&plan));
}

#[test]
fn the_digest_changes_with_everything_that_a_step_depends_on() {
    let folder = project_with_calls();
    let main = folder.path().join("pipelines/main.yaml");
    let (plan, bundle) = plan_and_bundle(&load(&main));
    for (name, from, to) in [
        ("pipelines/main.yaml", "'x'", "'y'"),
        ("pipelines/sub/deeper/inner.yaml", "[ls]", "[ls, -a]"),
        ("pipelines/sub/asked.yaml", "[echo, note]", "[echo, other]"),
        ("prompts/rules.md", "brief", "verbose"),
        ("schemas/number.schema.json", "integer", "number"),
        ("schemas/listed.schema.json", "array", "object"),
    ] {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let (changed, changed_bundle) = plan_and_bundle(&load(&main));
        assert_ne!(digest(&changed), digest(&plan), "{name}");
        assert_ne!(changed_bundle.digest(), bundle.digest(), "{name}");
        fs::write(&path, text).unwrap();
    }
    let inputs = Map::from_iter([("task".to_owned(), json!("other"))]);
    let (same, _) = plan_with_inputs(&load(&main), inputs);
    assert_eq!(digest(&same), digest(&plan), "the inputs of the run are no part of the plan");
}

#[test]
fn a_damaged_bundle_and_one_of_another_version_make_no_plan() {
    let folder = project_with_calls();
    let (_, bundle) = plan_and_bundle(&load(&folder.path().join("pipelines/main.yaml")));
    let rules = bundle.project.files["prompts/rules.md"].clone();

    let mut changed = bundle.clone();
    changed.project.texts.insert(rules.clone(), "Be verbose.\n".to_owned());
    let mut incomplete = bundle.clone();
    incomplete.project.texts.remove(&rules);
    for damaged in [changed, incomplete] {
        let error = damaged.plan(Map::new()).err().unwrap().to_string();
        assert!(error.contains("the bundle does not contain the text of `prompts/rules.md`"), "{error}");
    }

    let mut other = bundle;
    other.catalog = Digest::compute(b"another table");
    let error = other.plan(Map::new()).err().unwrap();
    assert!(error.message().contains("of the catalogue of models, and this orch has "), "{error}");
    assert_eq!(error.hints(), ["use the same version of orch in all processes"]);
}

/// Groups inside of groups: lists, parallel steps, loops, a called pipeline, conditions and `finally`.
const NESTED: &str = r#"name: main
steps:
  - { id: plan, run: [printf, "%s", plan], access: none, schema: text, output: plan }
  - id: each
    for_each: "['a', 'b', 'c']"
    max_parallel: 2
    output: all
    steps:
      - id: numbers
        for_each: "[1, 2]"
        inputs: [plan]
        run: [printf, "%s", "{{ plan }} {{ item }} {{ index }}"]
        access: none
        schema: text
        output: numbers
      - id: rounds
        repeat:
          max: 2
          steps:
            - id: both
              parallel:
                - id: left
                  run: [printf, "%s", "{{ item }} {{ loop.index }} {{ loop.previous.left | default('none') }}"]
                  access: none
                  schema: text
                  output: left
                - id: right
                  when: item == 'a'
                  run: [printf, "%s", only]
                  access: none
                  schema: text
                  output: right
      - { id: call, pipeline: called.yaml, with: { name: item } }
  - id: last
    inputs: [all, plan]
    run: [printf, "%s", "{{ all | length }} {{ plan }}"]
    access: none
    schema: text
    output: last
finally:
  - { id: clean, for_each: "[1, 2]", run: [printf, "%s", "clean {{ item }}"], access: none }
outputs: { last: last }
"#;
const NESTED_CALLED: &str = r#"name: called
inputs: { name: { type: string } }
steps:
  - id: pair
    parallel:
      - { id: one, run: [printf, "%s", "one {{ name }}"], access: none, schema: text, output: one }
      - { id: two, run: [test, "{{ name }}", "!=", b], access: none }
finally:
  - { id: tidy, run: [printf, "%s", "tidy {{ name }}"], access: none }
outputs: { one: one }
"#;

/// Runs the program with the branches in this mode.
fn run_in_mode(orch: &Orch, mode: &str, args: &[&str]) -> RunOutput {
    let mut command = orch.command(args);
    match mode {
        "shared" => command.env_remove("ORCH_BRANCHES"),
        mode => command.env("ORCH_BRANCHES", mode),
    };
    RunOutput::of(&command.output().unwrap())
}

fn report(ran: &RunOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The name, status and failure of each step of a report, sorted.
fn ends(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap().iter();
    let mut ends: Vec<String> =
        steps.map(|step| format!("{} {} {}", step["name"], step["status"], step["error"])).collect();
    ends.sort();
    ends
}

/// Runs the pipeline to its failure, and resumes it after the called pipeline was corrected.
fn fail_and_resume(mode: &str) -> (Orch, Value) {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", NESTED).write("pipelines/called.yaml", NESTED_CALLED);
    let run = ["pipeline", "run", "pipelines/main.yaml", "--output", "json"];
    let failed = report(&run_in_mode(&orch, mode, &run).exits(1));
    let statuses_of_failure = statuses(&failed);
    for status in
        ["each failed", "each[1]/call failed", "each[1]/call/pair/two failed", "last skipped", "clean completed"]
    {
        assert!(statuses_of_failure.contains(&status.to_owned()), "{mode}: no {status}: {statuses_of_failure:?}");
    }
    orch.edit("pipelines/called.yaml", "\"!=\", b]", "\"!=\", x]");
    run_in_mode(&orch, mode, &["pipeline", "resume", "--dry-run"]).exits(0);
    let resumed = run_in_mode(&orch, mode, &["pipeline", "resume", "--output", "json"]).exits(0);
    let resumed = report(&resumed);
    (orch, resumed)
}

#[test]
fn branches_in_other_processes_give_the_same_results_and_a_resume_continues_them() {
    let item = |name: &str| {
        let mut item = json!({
            "numbers": ["plan 1 0", "plan 2 1"],
            "left": format!("{name} 2 {name} 1 none"),
            "one": format!("one {name}"),
        });
        if name == "a" {
            item["right"] = json!("only");
        }
        item
    };
    let mut results = Vec::new();
    for mode in ["shared", "serialized"] {
        let (orch, resumed) = fail_and_resume(mode);
        assert_eq!(orch.json("workspace/all.json"), json!([item("a"), item("b"), item("c")]), "{mode}");
        assert_eq!(orch.read("workspace/last.md").trim(), "3 plan", "{mode}");
        let plan = resumed["steps"].as_array().unwrap().iter().find(|step| step["name"] == "plan").unwrap();
        assert_eq!(plan["reused"], true, "{mode}");
        results.push(ends(&resumed));
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn a_failure_in_a_branch_has_the_same_hints_in_another_process() {
    let steps = r#"name: main
steps:
  - { id: plan, run: [echo, "{}"], access: none, schema: any, output: plan }
  - { id: other, run: [echo, "[]"], access: none, schema: any, output: other }
  - id: each
    for_each: "[1]"
    inputs: [plan, other]
    run: [echo, "{{ other | length }} {{ plan.title.text }}"]
    access: none
"#;
    let mut results = Vec::new();
    for mode in ["shared", "serialized"] {
        let orch = Orch::empty();
        orch.write("pipelines/main.yaml", steps);
        let run = ["pipeline", "run", "pipelines/main.yaml", "--output", "json"];
        let ends = ends(&report(&run_in_mode(&orch, mode, &run).exits(1)));
        for step in ["\"each\"", "\"each[0]\""] {
            let end = ends.iter().find(|end| end.starts_with(step)).unwrap_or_else(|| panic!("{step}: {ends:?}"));
            assert!(end.contains("--from plan") && !end.contains("--from other"), "{mode}: {end}");
        }
        results.push(ends);
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn an_unknown_mode_of_branches_is_an_error() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: main\nsteps: [{ id: a, run: [echo, a], access: none }]\n");
    run_in_mode(&orch, "other", &["pipeline", "run", "pipelines/main.yaml"])
        .exits(2)
        .says("ORCH_BRANCHES has the unknown value `other`")
        .says("unset ORCH_BRANCHES, or set it to `serialized`");
}
