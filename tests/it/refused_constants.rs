//! Constants and models that a run would refuse are found before: paths, folders, variables, inputs of called
//! pipelines, names of models, and models without a price.

use crate::signatures::{SCHEMA, findings};
use crate::support::Orch;

/// Writes a pipeline and returns its findings.
fn pipeline_findings(orch: &Orch, pipeline: &str) -> Vec<String> {
    orch.write("prompts/plan.md", "Plan it.\n").write("schemas/plan.schema.json", SCHEMA);
    orch.write("pipelines/main.yaml", pipeline);
    findings(orch, &[]).into_values().flatten().collect()
}

const PIPELINE_START: &str = "name: test
inputs: { task: { type: string } }
agents: { writer: { model: auto } }
steps:
  - { id: plan, agent: writer, prompt: plan.md, output: plan }
";

#[test]
fn constant_paths_that_a_run_refuses_are_found() {
    let orch = Orch::empty();
    for (step, expected) in [
        ("write: \"[{'path': '/etc/x', 'content': task}]\"", "ORCH0625 `/etc/x` is absolute"),
        ("write: \"[{'path': '../x', 'content': task}]\"", "ORCH0625 `../x` has the part `..`"),
        ("write: \"[{'path': '../' ~ task, 'content': task}]\"", "ORCH0625 `../*` has the part `..`"),
        ("write: \"[{'path': 'plan.json', 'content': task}]\"", "ORCH0625 `plan.json` is kept for the artifact"),
        ("write: \"[{'path': '.git/config', 'content': task}]\"", "ORCH0625 `.git/config` lies in git's own folder"),
        ("run: \"make {{ task }}\", cwd: ../out", "ORCH0105 `cwd: ../out` leads out of the workspace"),
        ("run: \"make {{ task }}\", cwd: \"/srv/{{ task }}\"", "ORCH0105 `cwd: /srv/{{ task }}` leads out"),
        ("run: \"make {{ task }}\", env: [\"CI=secret\"]", "ORCH0301 `CI=…` is not the name of an environment"),
        ("repeat: { until: plan.score > 10, max: 2, steps: [{ id: a, run: make }] }", "ORCH0620 `plan.score > 10`"),
    ] {
        let found = pipeline_findings(&orch, &format!("{PIPELINE_START}  - {{ id: two, inputs: [plan], {step} }}\n"));
        assert!(found.iter().any(|finding| finding.starts_with(expected)), "{step}: {found:#?}");
    }
    for step in [
        "write: \"[{'path': 'src/x.py', 'content': task}, {'path': task ~ '/x', 'content': task}]\"",
        "write: \"[{'path': './plan/' ~ task, 'content': plan.title}]\"",
        "run: [make, \"{{ task }}\"], cwd: \"src/{{ task }}\", env: [CI, \"ProgramFiles(x86)\"]",
        "repeat: { until: plan.score >= 10, max: 2, steps: [{ id: a, run: [echo, \"{{ task }}\"] }] }",
    ] {
        let found = pipeline_findings(&orch, &format!("{PIPELINE_START}  - {{ id: two, inputs: [plan], {step} }}\n"));
        // A warning about the missing sandbox has nothing to do with the paths.
        let found: Vec<&String> = found.iter().filter(|finding| !finding.starts_with("ORCH03")).collect();
        assert!(found.is_empty(), "{step}: {found:#?}");
    }
}

#[test]
fn values_that_the_input_of_a_called_pipeline_refuses_are_found() {
    let orch = Orch::empty();
    orch.write(
        "pipelines/check.yaml",
        "name: check
inputs:
  mode: { enum: [new, old, both], default: both }
  rounds: { type: integer, minimum: 1, default: 1 }
  name: { type: string, default: x }
steps:
  - { id: test, run: [echo, \"{{ mode }}{{ rounds }}{{ name }}\"] }
",
    );
    let called = |with: &str| {
        let step = format!("  - {{ id: two, inputs: [plan], pipeline: check.yaml, with: {{ {with} }} }}\n");
        let found = pipeline_findings(&orch, &format!("{PIPELINE_START}{step}"));
        found.into_iter().filter(|finding| !finding.starts_with("ORCH0310")).collect::<Vec<String>>()
    };
    for (with, words) in [
        ("mode: \"'fast'\"", "does not fit the input `mode`"),
        ("mode: plan.level", "is never one of `new`, `old`, `both`"),
        ("rounds: 0", "does not fit the input `rounds`"),
        ("rounds: plan.score", "`plan.score` may be any number from 0 to 10"),
        ("rounds: plan.rate", "`plan.rate` may be a fraction"),
        ("name: plan.score", "`plan.score` is a number"),
    ] {
        let found = called(with);
        assert!(found.iter().any(|finding| finding.starts_with("ORCH0609") && finding.contains(words)), "{found:#?}");
    }
    for with in ["mode: plan.kind", "mode: \"'old'\"", "rounds: plan.size, name: plan.title", "rounds: 3", "mode: task"]
    {
        assert!(called(with).is_empty(), "{with}: {:#?}", called(with));
    }
}

#[test]
fn models_that_are_misspelt_or_have_no_price_are_found() {
    let orch = Orch::empty();
    let with_model = |model: &str, budget: &str| {
        let pipeline = PIPELINE_START.replace("model: auto", &format!("model: {model}"));
        let found = pipeline_findings(&orch, &pipeline.replace("steps:\n", &format!("{budget}steps:\n")));
        found.into_iter().filter(|finding| !finding.starts_with("ORCH0310")).collect::<Vec<String>>()
    };
    for (model, suggestion) in [
        ("anthropic/claude-sonet-4-5", "did you mean `anthropic/claude-sonnet-4-5`?"),
        ("openai/gtp-5-mini", "did you mean `openai/gpt-5-mini`?"),
    ] {
        let found = with_model(model, "");
        assert!(found.len() == 1 && found[0].starts_with("ORCH0715") && found[0].contains(suggestion), "{found:#?}");
    }
    for model in ["anthropic/claude-opus-9-1", "openai/gpt-9-20280101", "openrouter/some/model", "ollama/lama3"] {
        assert!(with_model(model, "").is_empty(), "{model}: {:#?}", with_model(model, ""));
    }
    let found = with_model("openrouter/some/model", "budget: { usd: 1 }\n");
    let expected = "ORCH0710 openrouter/some/model has no known price, and there is a budget in dollars";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}");
    orch.run(&["pipeline", "validate"]).exits(2);
    assert_eq!(with_model("openrouter/some/model, budget: { usd: 1 }", ""), found, "the budget of an agent");
    assert!(with_model("openrouter/some/model", "budget: { usd: 1, unpriced: allow }\n").is_empty());
}

#[test]
fn a_budget_needs_both_prices_of_a_model() {
    let orch = Orch::empty();
    let pipeline =
        PIPELINE_START.replace("model: auto", "model: small").replace("steps:\n", "budget: { usd: 1 }\nsteps:\n");
    for (prices, is_known) in
        [("input_price: 1", false), ("output_price: 1", false), ("input_price: 1, output_price: 1", true)]
    {
        orch.write("orch.yaml", &format!("models: {{ small: {{ model: openrouter/some/model, {prices} }} }}\n"));
        let found = pipeline_findings(&orch, &pipeline);
        let reported =
            found.iter().any(|finding| finding.starts_with("ORCH0710 openrouter/some/model has no known price"));
        assert_eq!(reported, !is_known, "{prices}: {found:#?}");
    }
}

#[test]
fn a_budget_also_covers_the_models_of_called_pipelines() {
    let orch = Orch::empty();
    let called = PIPELINE_START.replace("model: auto", "model: openrouter/some/model");
    let called = called.replace("{ task: { type: string } }", "{}");
    orch.write("pipelines/called.yaml", &called);
    let main = |budget: &str| {
        let pipeline = format!("{PIPELINE_START}  - {{ id: two, pipeline: called.yaml, budget: {{ {budget} }} }}\n");
        pipeline_findings(&orch, &pipeline).into_iter().filter(|finding| finding.starts_with("ORCH07")).count()
    };
    assert_eq!(main("usd: 1"), 1);
    assert_eq!(main("usd: 1, unpriced: allow") + main("tokens: 1000"), 0);
}

#[test]
fn a_budget_covers_a_pipeline_that_several_pipelines_call() {
    let orch = Orch::empty();
    let called = PIPELINE_START.replace("model: auto", "model: openrouter/some/model");
    orch.write("pipelines/called.yaml", &called.replace("{ task: { type: string } }", "{}"));
    let caller_of = |file: &str| format!("name: caller\nsteps:\n  - {{ id: call, pipeline: {file} }}\n");
    orch.write("pipelines/inner.yaml", &caller_of("called.yaml"));
    orch.write("pipelines/outer.yaml", &caller_of("inner.yaml"));
    // `inner.yaml` is called directly, without a budget, and by `outer.yaml`, with one.
    let main = |budget: &str| {
        let outer = format!("{{ id: three, pipeline: outer.yaml, budget: {{ {budget} }} }}");
        let calls = format!("  - {{ id: two, pipeline: inner.yaml }}\n  - {outer}\n");
        let found = pipeline_findings(&orch, &format!("{PIPELINE_START}{calls}"));
        found.into_iter().filter(|finding| finding.starts_with("ORCH0710")).count()
    };
    assert_eq!(main("usd: 1"), 1);
    assert_eq!(main("usd: 1, unpriced: allow"), 0);
}
