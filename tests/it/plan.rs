//! `orch pipeline plan` describes a run without starting it, and the run matches the description.

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, run};
use crate::support::{Orch, Server};

const AGENT: &str = "agent: a, schema: any";

/// A project with a prompt for each name that the tests use.
fn project(server: &Server, steps: &str) -> Orch {
    let orch = crate::step_kinds::project(server, steps);
    for name in ["a", "b", "c", "d", "e", "f", "part"] {
        orch.write(&format!("prompts/{name}.md"), &format!("step:{name}\n"));
    }
    orch
}

fn plan_report(orch: &Orch, more: &[&str]) -> Value {
    let args = [&["pipeline", "plan", "pipelines/main.yaml", "--output", "json"], more].concat();
    serde_json::from_str(&orch.run(&args).exits(0).stdout).unwrap()
}

fn step<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no step {name}: {plan:#}"))
}

/// One line for each step: what the plan says that it will do.
fn prospects(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().unwrap().iter();
    let times = |step: &Value| match (&step["executions"]["min"], &step["executions"]["max"]) {
        (least, most) if least == most => least.to_string(),
        (least, Value::Null) => format!("{least}-"),
        (least, most) => format!("{least}-{most}"),
    };
    steps
        .map(|step| format!("{} {} {}", step["step"].as_str().unwrap(), step["status"].as_str().unwrap(), times(step)))
        .collect()
}

fn texts(step: &Value) -> Vec<&str> {
    step["prompts"].as_array().unwrap().iter().filter_map(|text| text["text"].as_str()).collect()
}

#[test]
fn known_texts_are_shown_in_full_and_nothing_is_requested_or_written() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, message: \"Now {{{{ task }}}}.\", output: plan }}\n  - {{ id: code, {AGENT}, prompt: code.md, inputs: [plan], output: code }}\n"
    );
    let orch = project(&server, &steps);
    let plan = plan_report(&orch, &["--task", "do it"]);
    assert_eq!(prospects(&plan), ["plan runs 1", "code runs 1"]);
    assert_eq!((server.requests().len(), orch.exists(".orch"), orch.exists("workspace")), (0, false, false));
    let first = step(&plan, "plan");
    assert_eq!(first["prompts"][1], json!({ "label": "message", "exact": true, "text": "Now do it." }));
    let second = step(&plan, "code");
    assert!(texts(second)[1].contains("‹plan: any›") && second["prompts"][1]["exact"] == false, "{second:#}");

    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked = &server.requests()[0];
    assert_eq!([asked.system(), asked.last()], [texts(first)[0], texts(first)[1]]);
    assert_eq!(report["success"], true);
    for (name, request) in [("plan", 0), ("code", 1)] {
        let (asks, asked) = (&step(&plan, name)["requests"], &server.requests()[request]);
        let bytes = (asked.system().len() + asked.last().len()) as u64;
        let (least, most) = (asks["tokens_in"]["min"].as_u64().unwrap(), asks["tokens_in"]["max"].as_u64().unwrap());
        assert!(least <= bytes / 4 && bytes / 2 <= most, "{bytes} {asks}");
        assert_eq!(asks["models"], json!(["lab/test"]));
    }
}

#[test]
fn the_largest_input_of_a_step_covers_the_schema_in_its_request() {
    let server = answering_server(|_, _| json!({ "n": 1 }));
    let orch = project(&server, "  - { id: plan, agent: a, prompt: plan.md, output: plan, re_ask: 0 }\n");
    let description = "a text that needs more tokens than the prompt and the task together".repeat(20);
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer", "description": description } } });
    orch.write("schemas/plan.schema.json", &schema.to_string());
    let plan = plan_report(&orch, &["--task", "do it"]);
    let (_, report) = run(&orch, &[]);
    let asked = &server.requests()[0];
    assert!(asked.last().contains("It must fit this JSON Schema"), "{asked:?}");
    let sent_schema = asked.body["response_format"]["json_schema"]["schema"].to_string();
    let bytes = (asked.system().len() + asked.last().len() + sent_schema.len()) as u64;
    let planned = step(&plan, "plan")["requests"]["tokens_in"]["max"].as_u64().unwrap();
    assert!(planned >= bytes / 2, "{bytes} {planned}");
    let events = orch.run(&["runs", "events", report["run"].as_str().unwrap(), "--output", "json"]).exits(0).stdout;
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started = events.iter().find_map(|event| event["fact"].get("call_started")).unwrap();
    let reserved = started["max_usage"]["input"].as_u64().unwrap();
    assert!(reserved >= bytes / 2, "{bytes} {reserved}");
}

#[test]
fn a_schema_stands_for_an_unknown_value_and_limits_its_size() {
    let server = answering_server(|_, _| json!({}));
    let steps = format!(
        "  - {{ id: plan, agent: a, prompt: plan.md, output: plan }}\n  - {{ id: part, {AGENT}, prompt: part.md, inputs: [plan], for_each: plan.parts, message: \"{{{{ item.title }}}} of {{{{ plan.parts | length }}}}\", output: parts }}\n"
    );
    let orch = project(&server, &steps);
    orch.write(
        "schemas/plan.schema.json",
        r#"{ "type": "object", "required": ["parts"], "properties": { "parts": { "type": "array", "minItems": 2, "maxItems": 5,
            "items": { "type": "object", "required": ["title"], "properties": { "title": { "type": "string", "maxLength": 40 } } } } } }"#,
    );
    let plan = plan_report(&orch, &[]);
    assert_eq!(prospects(&plan), ["plan runs 1", "part runs 2-5"]);
    let part = step(&plan, "part");
    assert_eq!(texts(part)[1], "‹plan.parts[].title: string› of 1");
    assert_eq!(
        (&part["requests"]["calls"], &part["repetition"]),
        (&json!({ "min": 2, "max": 15 }), &json!("for each of `plan.parts`, 4 at once"))
    );
    assert!(part["requests"]["tokens_in"]["max"].is_u64(), "the schema bounds it: {part:#}");
    assert_eq!(plan["missing_inputs"], json!(["task"]));
    assert!(texts(step(&plan, "plan"))[1].contains("‹task: string›"));
}

#[test]
fn members_about_which_no_schema_says_anything_have_placeholders_and_the_known_part_is_estimated() {
    let server = answering_server(|_, _| json!({ "count": 12, "place": { "name": "here" } }));
    let message = "A long text that every request has: {{ have.count }} in {{ have.place.name }}";
    let steps = format!(
        "  - {{ id: have, {AGENT}, prompt: a.md, output: have }}\n  - {{ id: buy, {AGENT}, prompt: b.md, inputs: [have], message: \"{message}\", output: bought }}\n  - {{ id: show, run: [echo, \"{{{{ have.count }}}}\"], inputs: [have] }}\n  - {{ id: ask, approve: \"{{{{ have.count }}}}?\", inputs: [have] }}\n"
    );
    let orch = project(&server, &steps);
    let plan = plan_report(&orch, &["--task", "do it"]);
    let buy = step(&plan, "buy");
    let expected = "A long text that every request has: ‹have.count: any› in ‹have.place.name: any›";
    assert_eq!(texts(buy)[1], expected);
    assert!(buy["requests"]["tokens_in"]["min"].as_u64().unwrap() > 5, "{buy:#}");
    assert_eq!(
        (texts(step(&plan, "show"))[0], texts(step(&plan, "ask"))[0]),
        ("echo '‹have.count: any›'", "‹have.count: any›?")
    );
    let shown = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--prompts"]).exits(0).stdout;
    assert!(!shown.contains("undefined"), "{shown}");
    // Values that no placeholder can stand for leave the text unknown, and the replies still have an estimate.
    orch.edit("pipelines/main.yaml", message, "{{ have.count / 2 }}");
    let shown = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--prompts"]).exits(0).stdout;
    assert!(shown.contains("it depends on values that only the run knows: "), "{shown}");
    assert!(shown.contains("tokens at least 0 in, 1-"), "{shown}");
}

#[test]
fn known_conditions_and_lists_decide_and_unknown_ones_leave_it_open() {
    let server = answering_server(|step, message| json!({ "step": step, "heard": message }));
    let steps = format!(
        "  - {{ id: no, {AGENT}, prompt: a.md, when: \"task == 'other'\", output: no }}\n  - {{ id: after, {AGENT}, prompt: b.md, inputs: [no], output: after }}\n  - {{ id: three, {AGENT}, prompt: c.md, for_each: \"[1, 2, 3]\", message: \"{{{{ item }}}} of {{{{ task }}}}\", output: three }}\n  - {{ id: maybe, {AGENT}, prompt: d.md, inputs: [three], when: \"three[0].ok is defined\", output: maybe }}\n  - {{ id: last, {AGENT}, prompt: e.md, inputs: ['maybe?', 'no?'], output: last }}\n  - {{ id: needs, {AGENT}, prompt: f.md, inputs: [maybe], output: needs }}\n"
    );
    let orch = project(&server, &steps);
    let plan = plan_report(&orch, &["--task", "do it"]);
    let expected =
        ["no skipped 0", "after skipped 0", "three runs 3", "maybe may_run 0-1", "last runs 1", "needs may_run 0-1"];
    assert_eq!(prospects(&plan), expected);
    assert_eq!(step(&plan, "three")["requests"]["calls"], json!({ "min": 3, "max": 9 }));
    assert!(step(&plan, "three")["prompts"][1]["exact"] == true, "the first item is known");
    let (_, report) = run(&orch, &[]);
    for (place, name) in [(0, "no"), (1, "after")] {
        assert_eq!(report["steps"][place]["reason"]["message"], step(&plan, name)["reason"], "{report:#}");
    }
}

#[test]
fn every_kind_of_step_is_described_also_inside_groups() {
    let server = answering_server(|_, _| json!({}));
    let steps = r#"  - id: both
    parallel:
      - { id: left, agent: a, schema: any, prompt: a.md, output: left }
      - { id: right, run: "echo {{ task }} 'and more'", output: right }
  - id: rounds
    inputs: [left]
    repeat:
      max: 3
      until: ok.approved
      steps:
        - { id: draft, agent: a, schema: any, prompt: b.md, inputs: [left], message: "{% if loop.previous.ok %}{{ loop.previous.ok.note }}{% endif %}{{ left | tojson }}", output: draft }
        - { id: put, write: "[{'path': 'a/' ~ task, 'content': 'x'}]" }
        - { id: ask, approve: "Is {{ draft }} fine?", inputs: [draft], output: ok }
  - { id: call, pipeline: other.yaml, with: { topic: task }, output: called }
"#;
    let orch = project(&server, steps);
    orch.write(
        "pipelines/other.yaml",
        "name: other\ninputs: { topic: { type: string } }\nagents: { b: { command: [cat] } }\nsteps:\n  - { id: inner, agent: b, schema: text, prompt: a.md, message: \"About {{ topic }}\", output: text }\noutputs: { answer: text }\n",
    );
    orch.write(
        "pipelines/main.yaml",
        &format!("{}finally:\n  - {{ id: tidy, run: [\"true\"] }}\n", orch.read("pipelines/main.yaml")),
    );
    let plan = plan_report(&orch, &["--task", "do it"]);
    let expected = [
        "both runs 1",
        "both/left runs 1",
        "both/right runs 1",
        "rounds runs 1",
        "rounds/draft runs 1-3",
        "rounds/put runs 1-3",
        "rounds/ask runs 1-3",
        "call runs 1",
        "call/inner runs 1",
        "tidy runs 1",
    ];
    assert_eq!(prospects(&plan), expected);
    assert_eq!(texts(step(&plan, "both/right")), ["echo \"${ORCH_VALUE_1}\" 'and more'\nORCH_VALUE_1='do it'"]);
    assert_eq!(texts(step(&plan, "rounds/put")), ["a/do it"]);
    assert_eq!(texts(step(&plan, "rounds/ask")), ["Is ‹draft: any› fine?"]);
    assert_eq!(
        step(&plan, "call/inner")["prompts"][1],
        json!({ "label": "message", "exact": true, "text": "About do it" })
    );
    assert_eq!(step(&plan, "call/inner")["requests"]["is_cli_agent"], true);
    assert_eq!(step(&plan, "rounds/draft")["prompts"][0]["exact"], true, "a prompt without variables");
}

#[test]
fn reusable_results_are_found_and_later_steps_use_their_values() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: parts, {AGENT}, prompt: part.md, for_each: \"[1, 2]\", output: parts }}\n  - {{ id: code, {AGENT}, prompt: code.md, inputs: [plan, parts], output: code }}\n"
    );
    let orch = project(&server, &steps);
    assert_eq!(
        prospects(&plan_report(&orch, &["--task", "do it", "--reuse"])),
        ["plan runs 1", "parts runs 2", "code runs 1"]
    );
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let all = ["plan reused 1", "parts reused 2", "code reused 1"];
    assert_eq!(prospects(&plan_report(&orch, &["--task", "do it", "--reuse"])), all);
    orch.edit("prompts/code.md", "step:code", "step:code\nBe brief.");
    let plan = plan_report(&orch, &["--task", "do it", "--reuse"]);
    assert_eq!(prospects(&plan), ["plan reused 1", "parts reused 2", "code runs 1"]);
    assert_eq!(step(&plan, "code")["prompts"][1]["exact"], true, "what it reads is kept, so it is known");
    let before = server.requests().len();
    let (ran, _) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, server.requests().len()), (0, before + 1), "as foreseen");
}

#[test]
fn the_forecast_of_a_budget_matches_the_run() {
    let server = answering_server(|_, _| json!({}));
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
    );
    let orch = project(&server, &steps);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    for (limit, outlook, at, code) in [
        ("tokens=50", "runs_out", json!("one"), 4),
        ("tokens=150", "may_run_out", json!("one"), 0),
        ("tokens=100000", "enough", Value::Null, 0),
    ] {
        let plan = plan_report(&orch, &["--task", "do it", "--budget", limit]);
        let budget = &plan["budgets"][0];
        assert_eq!((&budget["budget_status"], &budget["at"]), (&json!(outlook), &at), "{limit}: {plan:#}");
        assert_eq!(run(&orch, &["--budget", limit, "--workspace", limit]).0.code, code, "{limit}");
    }
    let ran = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--budget", "tokens=50"]).exits(0);
    assert!(ran.stdout.contains("budget of the run, 50 tokens: not enough for step `one`"), "{}", ran.stdout);
}

#[test]
fn costs_are_estimated_by_prices_and_a_missing_key_is_noted() {
    let server = answering_server(|_, _| json!({}));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    let args = ["pipeline", "plan", "pipelines/main.yaml", "--model", "anthropic/claude-opus-4-5"];
    let ran = orch.run(&args).exits(0);
    assert!(ran.stdout.contains("; $0-$0.3"), "{}", ran.stdout);
    assert!(ran.stdout.contains("note: ANTHROPIC_API_KEY is not set"), "{}", ran.stdout);
    assert!(ran.stdout.contains("unknown inputs: task"), "{}", ran.stdout);
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ran.stdout);
    let ran = orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--model", "local", "--step", "one"]).exits(0);
    assert!(ran.stdout.contains("no charge") && ran.stdout.contains("---- prompt of one, exact"), "{}", ran.stdout);
    orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--step", "oen"]).exits(2).says("did you mean `one`?");
}

#[test]
fn the_replies_of_an_embedded_model_have_bounds_of_their_own() {
    let server = answering_server(|_, _| json!({}));
    let steps = "  - { id: plan, agent: a, prompt: plan.md, output: plan, re_ask: 2 }\n  - { id: code, agent: a, prompt: code.md, output: code, schema: text, re_ask: 0 }\n";
    let orch = project(&server, steps);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 16384");
    let schema = json!({
        "type": "object", "required": ["ok"],
        "properties": { "ok": { "type": "boolean" }, "kind": { "enum": ["new", "edit"] } },
    });
    orch.write("schemas/plan.schema.json", &schema.to_string());
    let max_outputs = |more: &[&str]| {
        let plan = plan_report(&orch, &[&["--task", "do it"], more].concat());
        ["plan", "code"].map(|name| step(&plan, name)["requests"]["tokens_out"]["max"].as_u64().unwrap())
    };
    assert_eq!(max_outputs(&[]), [3 * 16384, 16384]);
    // The bound counts a comma after the last member, and a token for the end of the reply.
    let longest = r#"{"ok":false,"kind":"edit"}"#.len() as u64 + 2;
    assert_eq!(max_outputs(&["--model", "local"]), [3 * longest, 2048]);
}

#[test]
fn every_valid_project_and_every_shipped_pipeline_can_be_planned() {
    let orch = Orch::new();
    let mut planned = 0;
    let folders = std::fs::read_dir("tests/pipelines/valid").unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.chain([orch.path().to_owned()]) {
        let files = std::fs::read_dir(folder.join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
            let path = std::path::absolute(&file).unwrap();
            let ran = orch.run(&["pipeline", "plan", path.to_str().unwrap(), "--model", "local", "--prompts"]);
            assert_eq!(ran.code, 0, "{}: {ran:?}", file.display());
            assert!(!ran.stdout.contains("fails:"), "{}: {}", file.display(), ran.stdout);
            planned += 1;
        }
    }
    assert!(planned > 60, "{planned}");
}
