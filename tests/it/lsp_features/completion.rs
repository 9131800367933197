//! Completion at a position.

use super::{PIPELINE, assert_has, steps};
use crate::support::{Editor, Orch, completion_labels, split_cursor};

fn assert_lacks(found: &[String], names: &[&str]) {
    for name in names {
        assert!(found.iter().all(|known| known != name), "{name} in {found:?}");
    }
}

#[test]
fn completion_offers_the_keys_and_values_of_the_format() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let top = editor.complete("pipelines/a.yaml", "name: x\n@\nsteps:\n  - id: a\n    run: ls\n");
    assert_has(&top, &["agents", "inputs", "success", "budget"]);
    assert_lacks(&top, &["name", "steps", "agent"]);
    let step = editor.complete("pipelines/b.yaml", &steps("  - id: code\n    @\n    agent: coder\n"));
    assert_has(&step, &["prompt", "output", "when", "for_each"]);
    assert_lacks(&step, &["id", "agent", "name"]);
    let agent = editor.complete("pipelines/c.yaml", "name: x\nagents:\n  a: { model: auto, t@ }\n");
    assert_has(&agent, &["temperature", "tools"]);
    assert_lacks(&agent, &["model"]);
    let value = editor.complete("pipelines/d.yaml", &steps("  - id: code\n    on_error: @\n"));
    assert_eq!(value, ["stop", "continue"]);
    let deep = editor.complete(
        "pipelines/e.yaml",
        &steps("  - id: g\n    repeat:\n      @\n      steps:\n        - id: x\n          run: ls\n"),
    );
    assert_has(&deep, &["until", "max"]);
    assert_lacks(&deep, &["steps"]);
    assert_has(
        &editor.complete("pipelines/g.yaml", "name: x\ninputs:\n  a: { type: string, @ }\n"),
        &["default", "enum"],
    );
    let settings = editor.complete("orch.yaml", "@\n");
    assert_has(&settings, &["providers", "models", "defaults"]);
    let provider = editor.complete("orch.yaml", "providers:\n  lab:\n    dialect: @\n");
    assert_has(&provider, &["openai", "anthropic"]);
    let case = editor.complete("pipelines/tests/x.yaml", "@");
    assert_eq!(case.first().map(String::as_str), Some("pipeline"), "what is required comes first");
    // The completion of a key has documentation, and inserts the syntax that follows the key.
    let (text, place) = split_cursor(&steps("  - id: code\n    whe@\n"));
    editor.open("pipelines/f.yaml", &text);
    let found = editor.request_at("completion", "pipelines/f.yaml", place);
    let item = found["items"].as_array().unwrap().iter().find(|item| item["label"] == "when").unwrap().clone();
    assert_eq!(item["textEdit"]["newText"], "when: ");
    assert_eq!(item["textEdit"]["range"]["start"]["character"], 4);
    assert!(item["documentation"]["value"].as_str().unwrap().contains("If it is false, orch skips the step"), "{item}");
}

#[test]
fn completion_offers_the_names_of_the_project() {
    let orch = Orch::new();
    orch.write(
        "orch.yaml",
        "providers:\n  lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" }\nmodels:\n  fast: lab/small\n",
    );
    let mut editor = Editor::new(&orch);
    let mut at = |more: &str| editor.complete("pipelines/a.yaml", &steps(more));
    assert_eq!(at("  - id: code\n    agent: @\n"), ["planner", "coder"]);
    assert_has(&at("  - id: code\n    agent: coder\n    prompt: co@\n"), &["coder.md", "planner.md"]);
    assert_has(&at("  - id: code\n    agent: coder\n    prompt: \"@\"\n"), &["coder.md"]);
    let schemas = at("  - id: code\n    schema: @\n");
    assert_has(&schemas, &["plan", "code", "text", "any"]);
    assert_eq!(at("  - id: code\n    inputs: [@]\n    agent: coder\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    inputs: [pl@\n    agent: coder\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    agent: coder\n    inputs:\n      - @\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    inputs: [plan, @]\n"), [] as [&str; 0], "it is listed already");
    assert_has(&at("  - id: sub\n    pipeline: @\n"), &["default.yaml"]);
    assert_has(&at("  - id: sub\n    pipeline: default.yaml\n    with:\n      @\n"), &["task"]);
    let models = editor.complete("pipelines/b.yaml", "name: x\nagents:\n  a: { model: @ }\n");
    assert_has(&models, &["fast", "auto", "local", "lab/"]);
    assert_has(&editor.complete("orch.yaml", "models: { quick: lab/x }\ndefaults:\n  model: @\n"), &["quick", "auto"]);
    let case = "pipeline: ../default.yaml\n";
    assert_eq!(editor.complete("pipelines/tests/x.yaml", &format!("{case}inputs:\n  @\n")), ["task"]);
    let steps =
        editor.complete("pipelines/tests/x.yaml", &format!("{case}expect:\n  steps:\n    plan: completed\n    @\n"));
    assert_has(&steps, &["code", "review"]);
    assert_lacks(&steps, &["plan"]);
    let typed = editor.complete("pipelines/b.yaml", &self::steps("  - id: code\n    agent:@\n"));
    assert_eq!(typed, ["planner", "coder"], "right behind the colon too");
}

#[test]
fn completion_offers_the_artifacts_that_the_check_accepts() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let group = "  - id: maybe\n    when: task == 'x'\n    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n  - id: both\n    parallel:\n      - id: left\n        run: ls\n        output: left\n      - id: right\n        run: ls\n        inputs: [@]\n        output: right\n";
    let found = editor.complete("pipelines/a.yaml", &steps(group));
    assert_eq!(found, ["code?", "plan"], "what may be missing is offered with its mark, a sibling not at all");
    let inserted = |editor: &mut Editor<'_>, file: &str, text: &str| {
        let (text, place) = split_cursor(text);
        editor.open(file, &text);
        editor.request_at("completion", file, place)["items"][0]["textEdit"]["newText"].clone()
    };
    let text = steps(group);
    assert_eq!(inserted(&mut editor, "pipelines/b.yaml", &text), "\"code?\"", "other YAML tools need the quotes");
    assert_eq!(inserted(&mut editor, "pipelines/c.yaml", &text.replace("[@]", "[\"@\"]")), "code?");
}

#[test]
fn completion_works_in_a_file_with_a_syntax_error_elsewhere() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let good = steps("  - id: code\n    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n");
    editor.open("pipelines/a.yaml", &good);
    editor.findings("pipelines/a.yaml", Some(1));
    // The server knows the steps from the last valid version of the text.
    let (text, place) = split_cursor(&good.replace("inputs: [plan]", "inputs: [@").replace("name: p\n", "name: [\n"));
    editor.change("pipelines/a.yaml", 2, &text);
    assert_eq!(completion_labels(&editor.request_at("completion", "pipelines/a.yaml", place)), ["plan"]);
    let (text, place) = split_cursor(&good.replace("agent: coder", "agent: @").replace("name: p\n", "name: [\n"));
    editor.change("pipelines/a.yaml", 3, &text);
    assert_eq!(completion_labels(&editor.request_at("completion", "pipelines/a.yaml", place)), ["planner", "coder"]);
    let (text, place) =
        split_cursor(&good.replace("    output: code\n", "    output: code\n    whe\n    message: '{{ plan.@ }}'\n"));
    editor.change("pipelines/a.yaml", 4, &text);
    assert_has(&completion_labels(&editor.request_at("completion", "pipelines/a.yaml", place)), &["summary", "steps"]);
}

#[test]
fn a_pipeline_that_is_opened_with_a_syntax_error_is_read_from_the_disk() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = orch.read(PIPELINE).replace("agents:", "agents: [");
    editor.open(PIPELINE, &text);
    editor.wait_for_finding(PIPELINE, "ORCH0110");
    assert_has(&editor.complete("prompts/coder.md", "{{ plan.@ }}"), &["summary"]);
    assert_eq!(editor.complete(PIPELINE, &text.replace("inputs: [plan]", "inputs: [@]")), ["plan"]);
}

#[test]
fn completion_in_templates_follows_the_schemas() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    let mut at = |text: &str| editor.complete("prompts/coder.md", text);
    let names = at("{{ @ }}");
    assert_has(&names, &["plan", "task", "steps", "range"]);
    assert_lacks(&names, &["review", "code"]);
    assert_has(&at("{{ plan.@ }}"), &["summary", "risks", "steps"]);
    assert_has(&at("text {{ plan.steps[0].@"), &["title"]);
    assert_has(&at("{{ plan.steps[0][\"@\"] }}"), &["title"]);
    assert_has(&at("{% for s in plan.steps %}\n- {{ s.ti@ }}\n"), &["title"]);
    assert_has(&at("{% for s in plan.steps if s.@ %}"), &["title"]);
    assert_has(&at("{% set one = plan.steps | first %}{{ one.@ }}{% if %}"), &["title"]);
    assert_has(&at("{{ plan.steps | map(attribute=\"@\") }}"), &["title"]);
    assert_has(&at("{{ steps.@ }}"), &["plan"]);
    assert_eq!(at("{{ steps.plan.@ }}"), ["status", "error"]);
    assert_has(&at("{% for s in plan.steps %}{{ loop.@ }}{% endfor %}"), &["index", "last"]);
    assert_has(&at("{{ plan | to@ }}"), &["tojson", "length"]);
    assert_has(&at("{% if plan is @ %}"), &["defined", "string"]);
    assert_has(&at("{% include \"@\" %}"), &["planner.md"]);
    assert_has(&at("{% @ %}"), &["for", "if", "include"]);
    assert_eq!(at("plain @ text"), [] as [&str; 0]);
    assert_eq!(at("{# {{ plan.@ }} #}"), [] as [&str; 0]);
}

#[test]
fn completion_in_a_shared_prompt_offers_the_inputs_of_any_of_its_steps() {
    let orch = Orch::new();
    orch.write("prompts/shared.md", "{% include \"inner.md\" %}").write("prompts/inner.md", "x");
    let text = steps(
        "  - id: one\n    agent: coder\n    prompt: shared.md\n    inputs: [plan]\n    output: a\n    schema: code\n  - id: two\n    agent: coder\n    prompt: shared.md\n    inputs: [a]\n    output: b\n    schema: text\n",
    );
    orch.write("pipelines/shared.yaml", &text);
    let mut editor = Editor::new(&orch);
    let found = editor.complete("prompts/inner.md", "{{ @ }}");
    assert_has(&found, &["plan", "a", "task"]);
    assert_has(&editor.complete("prompts/inner.md", "{{ plan.@ }}"), &["summary"]);
    assert_has(&editor.complete("prompts/inner.md", "{{ a.@ }}"), &["files", "notes"]);
}

#[test]
fn completion_in_expressions_offers_the_inputs_of_their_step() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let mut at = |more: &str| editor.complete("pipelines/a.yaml", &steps(more));
    let code = "    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n";
    let names = at(&format!("  - id: code\n    when: @\n{code}"));
    assert_has(&names, &["plan", "task"]);
    assert_lacks(&names, &["code"]);
    assert_has(&at(&format!("  - id: code\n    when: task and plan.@\n{code}")), &["summary"]);
    assert_has(
        &at(&format!("  - id: code\n    for_each: plan.steps\n    message: |\n      é🦀 {{{{ item.@ }}}}\n{code}")),
        &["title"],
    );
    assert_has(&at("  - id: x\n    inputs: [plan]\n    run: [echo, \"{{ plan.@ }}\"]\n"), &["summary"]);
    assert_has(&at("  - id: x\n    inputs: [plan]\n    approve: \"{{ plan.@\"\n"), &["summary"]);
    let review = "  - id: r\n    repeat:\n      until: review.@\n      max: 2\n      steps:\n        - id: review\n          agent: coder\n          prompt: reviewer.md\n          inputs: [plan]\n          output: review\n";
    assert_has(&at(review), &["approved", "issues"]);
    assert_has(&at("success: plan.@\n"), &["summary"]);
    let rounds = "  - id: r\n    repeat:\n      max: 2\n      steps:\n        - id: x\n          run: ls\n          when: loop.@\n";
    assert_has(&at(rounds), &["first", "max", "previous"]);
    let own_item = "  - id: x\n    inputs: [plan]\n    for_each: plan.steps\n    when: @\n    run: ls\n";
    assert_has(&at(own_item), &["plan", "task"]);
    assert_lacks(&at(own_item), &["item", "index"]);
}

#[test]
fn completion_offers_the_tools_of_orch_and_those_that_the_settings_list() {
    let orch = Orch::new();
    orch.write(
        "orch.yaml",
        "mcp:\n  docs:\n    command: [x]\n    tools: [find, get.page]\n  files: { command: [y] }\n",
    );
    let mut editor = Editor::new(&orch);
    let agent = editor.complete("pipelines/a.yaml", "name: x\nagents:\n  a:\n    model: auto\n    tools: [@]\n");
    assert_has(&agent, &["read", "docs.*", "docs.find", "docs.get.page", "files.*"]);
    let call = editor.complete("pipelines/b.yaml", &steps("  - id: find\n    call: @\n"));
    assert_has(&call, &["read", "docs.find"]);
    assert_lacks(&call, &["docs.*"]);
}
