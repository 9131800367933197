//! Features of the language server at a position: hover, definitions, references, symbols, and completion.

mod completion;

use serde_json::{Value, json};

use crate::support::{Editor, Orch, split_cursor};

const PIPELINE: &str = "pipelines/default.yaml";

/// A pipeline with every place at which something can be completed; `more` is at one of them.
fn steps(more: &str) -> String {
    format!(
        "name: p\ninputs:\n  task: {{ type: string, description: What to do. }}\nagents:\n  planner: {{ model: auto }}\n  coder: {{ model: auto }}\nsteps:\n  - id: plan\n    agent: planner\n    prompt: planner.md\n    output: plan\n{more}"
    )
}

fn assert_has(found: &[String], names: &[&str]) {
    for name in names {
        assert!(found.iter().any(|known| known == name), "no {name} in {found:?}");
    }
}

#[test]
fn hovering_describes_keys_names_and_variables() {
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
fn go_to_definition_leads_from_a_use_to_its_source() {
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
    // This variable is set by the template in the open text.
    let (text, place) = split_cursor("{% for s in plan.steps %}\n{{ s@.title }}{% endfor %}");
    editor.open("prompts/coder.md", &text);
    let found = editor.request_at("definition", "prompts/coder.md", place);
    assert_eq!(found[0]["range"]["start"], json!({ "line": 0, "character": 7 }));
    // A reference in a schema leads into its own file or into another one.
    orch.write("schemas/part.schema.json", "{\n  \"type\": \"string\",\n  \"description\": \"A part.\"\n}\n");
    let schema = "{\n  \"$defs\": {\n    \"one\": { \"type\": \"string\" }\n  },\n  \"properties\": { \"a\": { \"$ref\": \"#/$defs/one\" }, \"b\": { \"$ref\": \"part.schema.json\" } }\n}\n";
    orch.write("schemas/whole.schema.json", schema);
    let found = editor.definition("schemas/whole.schema.json", &schema.replace("#/$defs", "#/@$defs"));
    assert_eq!(found, one("schemas/whole.schema.json", "\"one\": { \"type\": \"string\" }"));
    let found = editor.definition("schemas/whole.schema.json", &schema.replace("part.", "pa@rt."));
    assert_eq!(found, one("schemas/part.schema.json", "{"));
    assert!(editor.hover("schemas/whole.schema.json", &schema.replace("part.", "pa@rt.")).contains("A part."));
    let found = editor.complete("schemas/whole.schema.json", &schema.replace("#/$defs/one", "@"));
    assert_has(&found, &["#/$defs/one", "part.schema.json", "plan.schema.json"]);
}

#[test]
fn references_and_symbols_cover_a_pipeline_and_its_prompts() {
    let orch = Orch::new();
    orch.write("prompts/coder.md", "{{ plan.summary }}\n{{ other.plan }}\n");
    let mut editor = Editor::new(&orch);
    let (text, place) = split_cursor(&orch.read(PIPELINE).replacen("inputs: [plan]", "inputs: [pl@an]", 1));
    editor.open(PIPELINE, &text);
    let found = editor.request_at("references", PIPELINE, place);
    let found = editor.location_lines(&found);
    let in_pipeline = found.iter().filter(|(name, _)| name == PIPELINE).count();
    assert_eq!(in_pipeline, 3, "its output and two inputs, each once: {found:?}");
    assert_eq!(found.iter().filter(|(name, _)| name == "prompts/coder.md").count(), 1, "{found:?}");
    let uri = editor.uri(PIPELINE);
    let symbols = editor.request_result("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } }));
    let names: Vec<&str> = symbols.as_array().unwrap().iter().map(|symbol| symbol["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan", "code", "files", "review"]);
    assert_eq!(symbols[1]["detail"], "agent coder");
    let inside = |outer: &Value, inner: &Value| outer["start"]["line"].as_u64() <= inner["start"]["line"].as_u64();
    assert!(inside(&symbols[1]["range"], &symbols[1]["selectionRange"]));
}

#[test]
fn positions_are_right_in_files_with_windows_line_ends() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = steps(
        "  - id: code\n    agent: co@\n    prompt: coder.md\n    inputs: [plan]\n    message: |\n      ü\n      {{ plan.x }}\n    output: code\n",
    );
    let text = text.replace('\n', "\r\n");
    assert_eq!(editor.complete("pipelines/a.yaml", &text), ["planner", "coder"]);
    let moved = text.replace("co@", "coder").replace("plan.x", "plan.@x");
    assert_has(&editor.complete("pipelines/a.yaml", &moved), &["summary"]);
    let found = editor.definition(
        "pipelines/default.yaml",
        &orch.read(PIPELINE).replace("agent: coder", "agent: co@der").replace('\n', "\r\n"),
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn an_output_leads_only_to_the_schema_of_its_step() {
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
        ("run: ls", Some("schemas/notes.schema.json")),
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
fn references_of_a_schema_include_outputs_in_open_pipelines() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    // This pipeline is not on the disk.
    let other = steps(
        "  - { id: a, agent: coder, output: review }\n  - { id: b, run: ls, output: review }\n  - { id: c, agent: coder, output: review, schema: plan }\n",
    );
    editor.open("pipelines/only_open.yaml", &other);
    editor.findings("pipelines/only_open.yaml", Some(1));
    let (text, place) = split_cursor(&steps("  - id: x\n    agent: coder\n    output: x\n    schema: rev@iew\n"));
    editor.open("pipelines/a.yaml", &text);
    editor.findings("pipelines/a.yaml", Some(1));
    let found = editor.request_at("references", "pipelines/a.yaml", place);
    let lines = |editor: &Editor<'_>, name: &str, text: &str| {
        let here = found.as_array().unwrap().iter().filter(|place| place["uri"] == editor.uri(name).as_str());
        let line = |place: &Value| usize::try_from(place["range"]["start"]["line"].as_u64().unwrap()).unwrap();
        here.map(|place| text.lines().nth(line(place)).unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let open = lines(&editor, "pipelines/only_open.yaml", &other);
    let both = ["- { id: a, agent: coder, output: review }", "- { id: b, run: ls, output: review }"];
    assert_eq!(open, both, "{found:?}");
    assert_eq!(lines(&editor, "pipelines/a.yaml", &text), ["schema: review"]);
    assert_eq!(lines(&editor, PIPELINE, &orch.read(PIPELINE)), ["output: review"]);
}

#[test]
fn open_settings_that_are_not_on_disk_mark_a_project_root() {
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
    assert_eq!(editor.findings("sub/flow.yaml", Some(1)), [] as [Value; 0], "the alias is known");
}
