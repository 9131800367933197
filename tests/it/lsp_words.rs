//! The language server on words: what can be written, what a word is, where it comes from.

use serde_json::{Value, json};

use crate::support::{Editor, Orch, cursor, labels};

const PIPELINE: &str = "pipelines/default.yaml";

/// A pipeline with every place at which something can be written, `{}` being one of them.
fn steps(more: &str) -> String {
    format!(
        "name: p\ninputs:\n  task: {{ type: string, description: What to do. }}\nagents:\n  planner: {{ model: auto }}\n  coder: {{ model: auto }}\nsteps:\n  - id: plan\n    agent: planner\n    prompt: planner.md\n    output: plan\n{more}"
    )
}

fn has(found: &[String], names: &[&str]) {
    for name in names {
        assert!(found.iter().any(|known| known == name), "no {name} in {found:?}");
    }
}

fn lacks(found: &[String], names: &[&str]) {
    for name in names {
        assert!(found.iter().all(|known| known != name), "{name} in {found:?}");
    }
}

#[test]
fn keys_and_values_are_those_of_the_format() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let top = editor.complete("pipelines/a.yaml", "name: x\n@\nsteps:\n  - id: a\n    run: ls\n");
    has(&top, &["agents", "inputs", "success", "budget"]);
    lacks(&top, &["name", "steps", "agent"]);
    let step = editor.complete("pipelines/b.yaml", &steps("  - id: code\n    @\n    agent: coder\n"));
    has(&step, &["prompt", "output", "when", "for_each"]);
    lacks(&step, &["id", "agent", "name"]);
    let agent = editor.complete("pipelines/c.yaml", "name: x\nagents:\n  a: { model: auto, t@ }\n");
    has(&agent, &["temperature", "tools"]);
    lacks(&agent, &["model"]);
    let value = editor.complete("pipelines/d.yaml", &steps("  - id: code\n    on_error: @\n"));
    assert_eq!(value, ["stop", "continue"]);
    let deep = editor.complete(
        "pipelines/e.yaml",
        &steps("  - id: g\n    repeat:\n      @\n      steps:\n        - id: x\n          run: ls\n"),
    );
    has(&deep, &["until", "max"]);
    lacks(&deep, &["steps"]);
    has(&editor.complete("pipelines/g.yaml", "name: x\ninputs:\n  a: { type: string, @ }\n"), &["default", "enum"]);
    let settings = editor.complete("orch.yaml", "@\n");
    has(&settings, &["providers", "models", "defaults"]);
    let provider = editor.complete("orch.yaml", "providers:\n  lab:\n    dialect: @\n");
    has(&provider, &["openai", "anthropic"]);
    let case = editor.complete("pipelines/tests/x.yaml", "@");
    assert_eq!(case.first().map(String::as_str), Some("pipeline"), "what is required comes first");
    // A key says what it is for, and is written with what follows it.
    let (text, place) = cursor(&steps("  - id: code\n    whe@\n"));
    editor.open("pipelines/f.yaml", &text);
    let found = editor.at("completion", "pipelines/f.yaml", place);
    let item = found["items"].as_array().unwrap().iter().find(|item| item["label"] == "when").unwrap().clone();
    assert_eq!(item["textEdit"]["newText"], "when: ");
    assert_eq!(item["textEdit"]["range"]["start"]["character"], 4);
    assert!(item["documentation"]["value"].as_str().unwrap().contains("If it is false, orch skips the step"), "{item}");
}

#[test]
fn names_are_those_of_the_project() {
    let orch = Orch::new();
    orch.write(
        "orch.yaml",
        "providers:\n  lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" }\nmodels:\n  fast: lab/small\n",
    );
    let mut editor = Editor::new(&orch);
    let mut at = |more: &str| editor.complete("pipelines/a.yaml", &steps(more));
    assert_eq!(at("  - id: code\n    agent: @\n"), ["planner", "coder"]);
    has(&at("  - id: code\n    agent: coder\n    prompt: co@\n"), &["coder.md", "planner.md"]);
    has(&at("  - id: code\n    agent: coder\n    prompt: \"@\"\n"), &["coder.md"]);
    let schemas = at("  - id: code\n    schema: @\n");
    has(&schemas, &["plan", "code", "text", "any"]);
    assert_eq!(at("  - id: code\n    inputs: [@]\n    agent: coder\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    inputs: [pl@\n    agent: coder\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    agent: coder\n    inputs:\n      - @\n"), ["plan"]);
    assert_eq!(at("  - id: code\n    inputs: [plan, @]\n"), [] as [&str; 0], "it is listed already");
    has(&at("  - id: sub\n    pipeline: @\n"), &["default.yaml"]);
    has(&at("  - id: sub\n    pipeline: default.yaml\n    with:\n      @\n"), &["task"]);
    let models = editor.complete("pipelines/b.yaml", "name: x\nagents:\n  a: { model: @ }\n");
    has(&models, &["fast", "auto", "local", "lab/"]);
    has(&editor.complete("orch.yaml", "models: { quick: lab/x }\ndefaults:\n  model: @\n"), &["quick", "auto"]);
    let case = "pipeline: ../default.yaml\n";
    assert_eq!(editor.complete("pipelines/tests/x.yaml", &format!("{case}inputs:\n  @\n")), ["task"]);
    let steps =
        editor.complete("pipelines/tests/x.yaml", &format!("{case}expect:\n  steps:\n    plan: completed\n    @\n"));
    has(&steps, &["code", "review"]);
    lacks(&steps, &["plan"]);
    let typed = editor.complete("pipelines/b.yaml", &self::steps("  - id: code\n    agent:@\n"));
    assert_eq!(typed, ["planner", "coder"], "right behind the colon too");
}

#[test]
fn artifacts_of_groups_and_conditions_are_in_reach_as_the_check_says() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let group = "  - id: maybe\n    when: \"true\"\n    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n  - id: both\n    parallel:\n      - id: left\n        run: ls\n        output: left\n      - id: right\n        run: ls\n        inputs: [@]\n        output: right\n";
    let found = editor.complete("pipelines/a.yaml", &steps(group));
    assert_eq!(found, ["code?", "plan"], "what may be missing is offered with its mark, a sibling not at all");
}

#[test]
fn a_file_that_is_broken_elsewhere_has_completions_too() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let good = steps("  - id: code\n    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n");
    editor.open("pipelines/a.yaml", &good);
    editor.findings("pipelines/a.yaml", Some(1));
    // What is known of the steps comes from the text when it could be read last.
    let (text, place) = cursor(&good.replace("inputs: [plan]", "inputs: [@").replace("name: p\n", "name: [\n"));
    editor.change("pipelines/a.yaml", 2, &text);
    assert_eq!(labels(&editor.at("completion", "pipelines/a.yaml", place)), ["plan"]);
    let (text, place) = cursor(&good.replace("agent: coder", "agent: @").replace("name: p\n", "name: [\n"));
    editor.change("pipelines/a.yaml", 3, &text);
    assert_eq!(labels(&editor.at("completion", "pipelines/a.yaml", place)), ["planner", "coder"]);
    let (text, place) =
        cursor(&good.replace("    output: code\n", "    output: code\n    whe\n    message: '{{ plan.@ }}'\n"));
    editor.change("pipelines/a.yaml", 4, &text);
    has(&labels(&editor.at("completion", "pipelines/a.yaml", place)), &["summary", "steps"]);
}

#[test]
fn a_pipeline_that_was_opened_broken_counts_as_it_is_on_the_disk() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = orch.read(PIPELINE).replace("agents:", "agents: [");
    editor.open(PIPELINE, &text);
    editor.until(PIPELINE, "ORCH0110");
    has(&editor.complete("prompts/coder.md", "{{ plan.@ }}"), &["summary"]);
    assert_eq!(editor.complete(PIPELINE, &text.replace("inputs: [plan]", "inputs: [@]")), ["plan"]);
}

#[test]
fn templates_offer_what_the_schemas_say() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    let mut at = |text: &str| editor.complete("prompts/coder.md", text);
    let names = at("{{ @ }}");
    has(&names, &["plan", "task", "steps", "range"]);
    lacks(&names, &["review", "code"]);
    has(&at("{{ plan.@ }}"), &["summary", "risks", "steps"]);
    has(&at("text {{ plan.steps[0].@"), &["title"]);
    has(&at("{{ plan.steps[0][\"@\"] }}"), &["title"]);
    has(&at("{% for s in plan.steps %}\n- {{ s.ti@ }}\n"), &["title"]);
    has(&at("{% for s in plan.steps if s.@ %}"), &["title"]);
    has(&at("{% set one = plan.steps | first %}{{ one.@ }}{% if %}"), &["title"]);
    has(&at("{{ plan.steps | map(attribute=\"@\") }}"), &["title"]);
    has(&at("{{ steps.@ }}"), &["plan"]);
    assert_eq!(at("{{ steps.plan.@ }}"), ["status", "error"]);
    has(&at("{% for s in plan.steps %}{{ loop.@ }}{% endfor %}"), &["index", "last"]);
    has(&at("{{ plan | to@ }}"), &["tojson", "length"]);
    has(&at("{% if plan is @ %}"), &["defined", "string"]);
    has(&at("{% include \"@\" %}"), &["planner.md"]);
    has(&at("{% @ %}"), &["for", "if", "include"]);
    assert_eq!(at("plain @ text"), [] as [&str; 0]);
    assert_eq!(at("{# {{ plan.@ }} #}"), [] as [&str; 0]);
}

#[test]
fn a_prompt_of_several_steps_offers_what_any_of_them_has() {
    let orch = Orch::new();
    orch.write("prompts/shared.md", "{% include \"inner.md\" %}").write("prompts/inner.md", "x");
    let text = steps(
        "  - id: one\n    agent: coder\n    prompt: shared.md\n    inputs: [plan]\n    output: a\n    schema: code\n  - id: two\n    agent: coder\n    prompt: shared.md\n    inputs: [a]\n    output: b\n    schema: text\n",
    );
    orch.write("pipelines/shared.yaml", &text);
    let mut editor = Editor::new(&orch);
    let found = editor.complete("prompts/inner.md", "{{ @ }}");
    has(&found, &["plan", "a", "task"]);
    has(&editor.complete("prompts/inner.md", "{{ plan.@ }}"), &["summary"]);
    has(&editor.complete("prompts/inner.md", "{{ a.@ }}"), &["files", "notes"]);
}

#[test]
fn expressions_and_inline_templates_see_what_their_step_sees() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let mut at = |more: &str| editor.complete("pipelines/a.yaml", &steps(more));
    let code = "    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n";
    let names = at(&format!("  - id: code\n    when: @\n{code}"));
    has(&names, &["plan", "task"]);
    lacks(&names, &["code"]);
    has(&at(&format!("  - id: code\n    when: task and plan.@\n{code}")), &["summary"]);
    has(
        &at(&format!("  - id: code\n    for_each: plan.steps\n    message: |\n      é🦀 {{{{ item.@ }}}}\n{code}")),
        &["title"],
    );
    has(&at("  - id: x\n    inputs: [plan]\n    run: [echo, \"{{ plan.@ }}\"]\n"), &["summary"]);
    has(&at("  - id: x\n    inputs: [plan]\n    approve: \"{{ plan.@\"\n"), &["summary"]);
    let review = "  - id: r\n    repeat:\n      until: review.@\n      max: 2\n      steps:\n        - id: review\n          agent: coder\n          prompt: reviewer.md\n          inputs: [plan]\n          output: review\n";
    has(&at(review), &["approved", "issues"]);
    has(&at("success: plan.@\n"), &["summary"]);
    let rounds = "  - id: r\n    repeat:\n      max: 2\n      steps:\n        - id: x\n          run: ls\n          when: loop.@\n";
    has(&at(rounds), &["first", "max"]);
}

#[test]
fn hovering_tells_what_a_word_is() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    let step = "  - id: code\n    agent: coder\n    prompt: coder.md\n    inputs: [plan]\n    output: code\n    on_error: stop\n";
    let mut at = |from: &str, to: &str| {
        let text = steps(step);
        assert_eq!(text.matches(from).count(), 1, "{from}");
        editor.hover("pipelines/a.yaml", &text.replace(from, to))
    };
    assert!(at("on_error:", "on_@error:").contains("What the run does after this step failed"));
    assert!(at("on_error: stop", "on_error: s@top").contains("`stop`:"));
    assert!(at("agent: coder", "agent: co@der").contains("agent `coder`\n\n- `model`: `auto`"));
    let plan = at("inputs: [plan]", "inputs: [pl@an]");
    assert!(plan.starts_with("`plan`: object (artifact)\n\n"), "{plan}");
    assert!(at("prompt: coder.md", "prompt: co@der.md").contains("prompt `prompts/coder.md`"));
    assert!(at("output: code", "output: co@de").contains("schema `code.schema.json`"));
    let other = steps("  - id: x\n    agent: coder\n    output: no@tes\n    schema: review\n");
    assert!(editor.hover("pipelines/a.yaml", &other).contains("schema `review.schema.json`"), "what the step names");
    let path = editor.hover("prompts/coder.md", "é🦀 {{ plan.ste@ps[0].title }}");
    assert!(path.starts_with("`plan.steps`: list of object (property)\n\n"), "{path}");
    let about =
        orch.json("schemas/plan.schema.json")["properties"]["steps"]["description"].as_str().unwrap().to_owned();
    assert!(path.contains(&about), "{path}");
    assert!(editor.hover("prompts/coder.md", "{{ ta@sk }}").starts_with("`task`: string (input of the run)"));
    assert_eq!(editor.hover("prompts/coder.md", "pl@ain"), "");
}

#[test]
fn definitions_lead_from_use_to_source() {
    let orch = Orch::new();
    orch.write("prompts/rules.md", "Be brief.");
    let mut editor = Editor::new(&orch);
    let whole = orch.read(PIPELINE);
    let mut at = |from: &str, to: &str| editor.definition(PIPELINE, &whole.replacen(from, to, 1));
    let one = |name: &str, line: &str| vec![(name.to_owned(), line.to_owned())];
    let first = |name: &str| one(name, orch.read(name).lines().next().unwrap().trim());
    assert_eq!(
        at("agent: coder", "agent: co@der"),
        one(PIPELINE, "coder:    { model: auto, max_output_tokens: 16384, temperature: 0.2 }")
    );
    assert_eq!(at("inputs: [plan]", "inputs: [pl@an]")[0].1.split('#').next().unwrap().trim(), "output: plan");
    assert_eq!(at("prompt: coder.md", "prompt: co@der.md"), first("prompts/coder.md"));
    assert_eq!(at("output: review", "output: rev@iew"), first("schemas/review.schema.json"));
    let prompt = |editor: &mut Editor<'_>, text: &str| editor.definition("prompts/coder.md", text);
    assert_eq!(prompt(&mut editor, "{{ pl@an.summary }}")[0].1.split('#').next().unwrap().trim(), "output: plan");
    assert_eq!(prompt(&mut editor, "{{ ta@sk }}")[0].1.split(':').next(), Some("task"));
    assert_eq!(prompt(&mut editor, "{{ plan.sum@mary }}"), one("schemas/plan.schema.json", "\"summary\": {"));
    assert_eq!(prompt(&mut editor, "{% include \"ru@les.md\" %}"), first("prompts/rules.md"));
    // A variable that the template sets, in the text that is open.
    let (text, place) = cursor("{% for s in plan.steps %}\n{{ s@.title }}{% endfor %}");
    editor.open("prompts/coder.md", &text);
    let found = editor.at("definition", "prompts/coder.md", place);
    assert_eq!(found[0]["range"]["start"], json!({ "line": 0, "character": 7 }));
    // A reference in a schema, in its own file and in another.
    orch.write("schemas/part.schema.json", "{\n  \"type\": \"string\",\n  \"description\": \"A part.\"\n}\n");
    let schema = "{\n  \"$defs\": {\n    \"one\": { \"type\": \"string\" }\n  },\n  \"properties\": { \"a\": { \"$ref\": \"#/$defs/one\" }, \"b\": { \"$ref\": \"part.schema.json\" } }\n}\n";
    orch.write("schemas/whole.schema.json", schema);
    let found = editor.definition("schemas/whole.schema.json", &schema.replace("#/$defs", "#/@$defs"));
    assert_eq!(found, one("schemas/whole.schema.json", "\"one\": { \"type\": \"string\" }"));
    let found = editor.definition("schemas/whole.schema.json", &schema.replace("part.", "pa@rt."));
    assert_eq!(found, one("schemas/part.schema.json", "{"));
    assert!(editor.hover("schemas/whole.schema.json", &schema.replace("part.", "pa@rt.")).contains("A part."));
    let found = editor.complete("schemas/whole.schema.json", &schema.replace("#/$defs/one", "@"));
    has(&found, &["#/$defs/one", "part.schema.json", "plan.schema.json"]);
}

#[test]
fn references_and_symbols_cover_a_pipeline_and_its_prompts() {
    let orch = Orch::new();
    orch.write("prompts/coder.md", "{{ plan.summary }}\n{{ other.plan }}\n");
    let mut editor = Editor::new(&orch);
    let (text, place) = cursor(&orch.read(PIPELINE).replacen("inputs: [plan]", "inputs: [pl@an]", 1));
    editor.open(PIPELINE, &text);
    let found = editor.at("references", PIPELINE, place);
    let found = editor.lines(&found);
    let in_pipeline = found.iter().filter(|(name, _)| name == PIPELINE).count();
    assert_eq!(in_pipeline, 3, "its output and two inputs, each once: {found:?}");
    assert_eq!(found.iter().filter(|(name, _)| name == "prompts/coder.md").count(), 1, "{found:?}");
    let uri = editor.uri(PIPELINE);
    let symbols = editor.ask("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } }));
    let names: Vec<&str> = symbols.as_array().unwrap().iter().map(|symbol| symbol["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan", "code", "files", "review"]);
    assert_eq!(symbols[1]["detail"], "agent coder");
    let inside = |outer: &Value, inner: &Value| outer["start"]["line"].as_u64() <= inner["start"]["line"].as_u64();
    assert!(inside(&symbols[1]["range"], &symbols[1]["selectionRange"]));
}

#[test]
fn words_are_right_in_files_with_windows_line_ends() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = steps(
        "  - id: code\n    agent: co@\n    prompt: coder.md\n    inputs: [plan]\n    message: |\n      ü\n      {{ plan.x }}\n    output: code\n",
    );
    let text = text.replace('\n', "\r\n");
    assert_eq!(editor.complete("pipelines/a.yaml", &text), ["planner", "coder"]);
    let moved = text.replace("co@", "coder").replace("plan.x", "plan.@x");
    has(&editor.complete("pipelines/a.yaml", &moved), &["summary"]);
    let found = editor.definition(
        "pipelines/default.yaml",
        &orch.read(PIPELINE).replace("agent: coder", "agent: co@der").replace('\n', "\r\n"),
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn an_output_leads_to_the_schema_that_its_step_has_and_to_no_other() {
    let orch = Orch::new();
    orch.write("schemas/notes.schema.json", "{ \"type\": \"string\" }\n");
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    let files = |found: Vec<(String, String)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    for (step, schema) in [
        ("agent: coder", Some("schemas/notes.schema.json")),
        ("agent: coder\n    schema: plan", Some("schemas/plan.schema.json")),
        ("agent: coder\n    schema: text", None),
        ("run: ls\n    schema: notes", Some("schemas/notes.schema.json")),
        ("run: ls", None),
        ("write: plan", None),
        ("approve: Fine?", None),
        ("repeat: { max: 2, steps: [] }", None),
    ] {
        let text = steps(&format!("  - id: x\n    {step}\n    output: no@tes\n"));
        let found = files(editor.definition("pipelines/a.yaml", &text));
        assert_eq!(found, schema.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{step}");
        let shown = editor.hover("pipelines/a.yaml", &text);
        assert_eq!(shown.contains("schema `"), schema.is_some(), "{step}: {shown}");
    }
}

#[test]
fn a_schema_is_used_by_outputs_that_it_decides_also_in_pipelines_that_are_only_open() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    // Not on the disk.
    let other = steps(
        "  - { id: a, agent: coder, output: review }\n  - { id: b, run: ls, output: review }\n  - { id: c, agent: coder, output: review, schema: plan }\n",
    );
    editor.open("pipelines/only_open.yaml", &other);
    editor.findings("pipelines/only_open.yaml", Some(1));
    let (text, place) = cursor(&steps("  - id: x\n    agent: coder\n    output: x\n    schema: rev@iew\n"));
    editor.open("pipelines/a.yaml", &text);
    editor.findings("pipelines/a.yaml", Some(1));
    let found = editor.at("references", "pipelines/a.yaml", place);
    let lines = |editor: &Editor<'_>, name: &str, text: &str| {
        let here = found.as_array().unwrap().iter().filter(|place| place["uri"] == editor.uri(name).as_str());
        let line =
            |place: &serde_json::Value| usize::try_from(place["range"]["start"]["line"].as_u64().unwrap()).unwrap();
        here.map(|place| text.lines().nth(line(place)).unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let open = lines(&editor, "pipelines/only_open.yaml", &other);
    assert_eq!(open, ["- { id: a, agent: coder, output: review }"], "{found:?}");
    assert_eq!(lines(&editor, "pipelines/a.yaml", &text), ["schema: review"]);
    assert_eq!(lines(&editor, PIPELINE, &orch.read(PIPELINE)), ["output: review"]);
}

#[test]
fn settings_that_are_only_open_mark_a_root_too() {
    let orch = Orch::empty();
    let mut editor = Editor::new(&orch);
    editor.open(
        "sub/orch.yaml",
        "models: { fast: lab/x }\nproviders: { lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" } }\n",
    );
    editor.findings("sub/orch.yaml", Some(1));
    orch.write("sub/prompts/ask.md", "Ask.");
    editor.open(
        "sub/flow.yaml",
        "name: flow\nagents:\n  a: { model: fast }\nsteps:\n  - { id: x, agent: a, prompt: ask.md, output: x, schema: text }\n",
    );
    assert_eq!(editor.findings("sub/flow.yaml", Some(1)), [] as [serde_json::Value; 0], "the alias is known");
}
