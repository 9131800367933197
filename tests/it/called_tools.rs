//! Steps that call tools of orch without a model, and mistakes in calls of tools.

use orch::check::check;
use orch::config::load;
use orch::model::BuiltinTool;
use serde_json::{Map, Value, json};

use crate::kill::latest_run;
use crate::support::{Orch, RunOutput};
use crate::tool_loop::facts_of;

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--output", "json"];

/// A project with these steps.
fn project(steps: &Value, outputs: &Value) -> Orch {
    let orch = Orch::empty();
    let inputs = json!({
        "task": { "type": "string", "default": "birds" },
        "count": { "type": "integer", "default": 2 },
        "names": { "type": "array", "items": { "type": "string" }, "default": ["a", "b"] },
    });
    let pipeline = json!({ "name": "test", "inputs": inputs, "steps": steps, "outputs": outputs });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch
}

/// Runs the pipeline; returns the output and the report.
fn run(orch: &Orch) -> (RunOutput, Value) {
    let ran = orch.run(&RUN);
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// The findings about a project with this step, each as its code and its message.
fn findings(step: &Value) -> Vec<String> {
    let mut keys = json!({ "id": "go" });
    keys.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
    let orch = project(&json!([keys]), &json!({}));
    let servers = json!({
        "docs": { "url": "https://docs.example/mcp", "access": "read", "tools": ["find"] },
        "mail": { "url": "https://mail.example/mcp" },
    });
    orch.write("orch.yaml", &json!({ "mcp": servers }).to_string());
    let found = match load(&orch.path().join("pipelines/main.yaml")) {
        Ok(project) => check(&project),
        Err(findings) => findings,
    };
    let relevant = found.into_iter().filter(|finding| finding.code.as_str() != "ORCH0310");
    relevant.map(|finding| format!("{}: {} {:?}", finding.code, finding.message, finding.help)).collect()
}

#[test]
fn steps_call_tools_of_orch_one_after_another() {
    let steps = json!([
        { "id": "save", "call": "write", "args": { "path": "notes/a.txt", "content": "about {{ task }}\nline two\n" } },
        {
            "id": "look", "call": "read", "args": { "path": "notes/a.txt", "from": "{{ count }}" },
            "output": "text", "schema": "text",
        },
        { "id": "change", "call": "edit", "args": { "path": "notes/a.txt", "old": "two", "new": "2" } },
        { "id": "again", "call": "read", "args": { "path": "notes/a.txt", "from": "{{ count }}" }, "output": "later" },
        { "id": "each", "for_each": "names", "call": "search", "args": { "regex": "{{ item }}bout" }, "output": "found" },
        { "id": "all", "call": "list", "output": "listing" },
    ]);
    let outputs = json!({ "text": "text", "later": "later", "found": "found", "listing": "listing" });
    let orch = project(&steps, &outputs);
    let (ran, report) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(orch.read("workspace/notes/a.txt"), "about birds\nline 2\n");
    let result = |name: &str| report["result"][name].as_str().unwrap_or_default().to_owned();
    assert!(result("text").contains("2\tline two") && !result("text").contains("birds"), "{report}");
    assert!(result("later").contains("2\tline 2"), "the second step does not reuse the first: {report}");
    assert!(report["result"]["found"][0].as_str().unwrap().contains("notes/a.txt:1: about birds"), "{report}");
    assert!(result("listing").contains("notes/"), "{report}");
    let diff = orch.run(&["runs", "diff"]).exits(0).stdout;
    assert!(diff.contains("+about birds") && diff.contains("+line 2"), "{diff}");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("look@1#1 (read ") && !shown.contains("model received"), "{shown}");
    let (id, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "revert", &id]).exits(0);
    assert!(!orch.exists("workspace/notes/a.txt"));
}

#[test]
fn an_error_of_a_tool_fails_the_step() {
    let orch = project(
        &json!([{ "id": "look", "call": "read", "args": { "path": "missing.txt" }, "output": "text" }]),
        &json!({}),
    );
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("tool_failed")), "{ran:?}");
    assert!(error["message"].as_str().unwrap().starts_with("`read` failed: "), "{error}");
}

#[test]
fn arguments_that_do_not_fit_fail_the_step_before_the_call() {
    let step = json!({ "id": "look", "call": "read", "args": { "path": "a.txt", "lines": "{{ task }}" } });
    let orch = project(&json!([step]), &json!({}));
    let (ran, report) = run(&orch);
    let error = &report["steps"][0]["error"];
    assert_eq!((ran.code, &error["class"]), (1, &json!("schema_mismatch")), "{ran:?}");
    assert!(error["hint"].as_str().unwrap().contains("`args:`"), "{error}");
    assert_eq!(facts_of(&orch, "call_started").len(), 0);
}

#[test]
fn a_completed_call_is_reused_until_its_arguments_change() {
    let steps = json!([
        { "id": "look", "call": "read", "args": { "path": "a.txt" }, "output": "text", "schema": "text" },
        { "id": "ask", "approve": "Go on?" },
    ]);
    let orch = project(&steps, &json!({ "text": "text" }));
    orch.write("workspace/a.txt", "one\n").write("workspace/b.txt", "two\n");
    orch.run(&RUN).exits(3);
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!((facts_of(&orch, "step_reused").len(), facts_of(&orch, "call_started").len()), (1, 1));
    orch.edit("pipelines/main.yaml", "a.txt", "b.txt");
    orch.run(&["pipeline", "resume"]).exits(3);
    let starts = facts_of(&orch, "step_started");
    let reasons: Vec<&Value> =
        starts.iter().filter(|start| start["step"] == "look").map(|start| &start["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &json!("parameters changed")]);
    assert!(orch.read("workspace/text.md").contains("two"));
}

#[test]
fn a_changed_schema_is_applied_to_the_recorded_result() {
    let step = json!({
        "id": "save", "call": "write", "args": { "path": "a.txt", "content": "{{ task }}" }, "output": "saved",
        "schema": "any",
    });
    let orch = project(&json!([step]), &json!({}));
    let (ran, report) = run(&orch);
    assert_eq!((ran.code, &report["steps"][0]["error"]["class"]), (1, &json!("no_json")), "{ran:?}");
    orch.write("workspace/a.txt", "changed by the user\n");
    orch.run(&["pipeline", "resume"]).exits(1);
    orch.edit("pipelines/main.yaml", r#""schema":"any""#, r#""schema":"text""#);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/a.txt"), "changed by the user\n", "the file is written once");
}

#[test]
fn mistakes_in_calls_are_findings() {
    for (step, expected) in [
        (json!({ "call": "raed", "args": { "path": "a" } }), ["ORCH0208", "did you mean `read`?"]),
        (json!({ "call": "Bash" }), ["ORCH0208", "orch's tool for this is `shell`"]),
        (json!({ "call": "edit(src/**)" }), ["ORCH0208", "write `call: edit`"]),
        (json!({ "call": "docs.*" }), ["ORCH0208", "write `call: docs.TOOL`"]),
        (json!({ "call": "doc.find" }), ["ORCH0317", "did you mean `docs`?"]),
        (json!({ "call": "docs.search" }), ["ORCH0318", "does not list `search`"]),
        (json!({ "call": "docs.find", "sandbox": { "network": ["a.example"] } }), ["ORCH0206", "`mcp.docs`"]),
        (json!({ "call": "docs.find", "prompt": "a.md" }), ["ORCH0206", "prompt"]),
        (json!({ "run": "true", "args": { "a": 1 } }), ["ORCH0206", "args"]),
        (json!({ "call": "read", "run": "true" }), ["ORCH0205", "call"]),
        (json!({ "call": "list", "args": { "paht": "a" } }), ["ORCH0323", "did you mean `path`?"]),
        (json!({ "call": "read" }), ["ORCH0322", "without the argument `path`"]),
        (json!({ "call": "read", "args": { "path": "a", "lines": [1] } }), ["ORCH0609", "a list, not a number"]),
        (json!({ "call": "read", "args": { "path": "a", "lines": "{{ names }}" } }), ["ORCH0609", "`names` is a list"]),
        (
            json!({ "call": "read", "args": { "path": "a", "lines": "{{ count }} lines" } }),
            ["ORCH0609", "is never a number"],
        ),
        (
            json!({ "call": "read", "args": { "path": "a", "lines": "{{ task }}" } }),
            ["ORCH0609", "may not represent a number"],
        ),
        (json!({ "call": "read", "args": { "path": "a", "lines": 0 } }), ["ORCH0609", "`lines` of the tool `read`"]),
        (json!({ "call": "read", "args": { "path": "a", "from": "0" } }), ["ORCH0609", "`from` of the tool `read`"]),
        (json!({ "call": "read", "args": { "path": "" } }), ["ORCH0609", "`path` of the tool `read`"]),
        (
            json!({ "call": "read", "args": { "path": "a", "lines": "{{ names | length }}" } }),
            ["ORCH0609", "the argument `lines` accepts integers at least 1"],
        ),
        (json!({ "call": "read", "args": { "path": "a", "lines": "{{ 0 - 3 }}" } }), ["ORCH0609", "`lines`"]),
        (json!({ "call": "search", "args": { "regex": "(a" } }), ["ORCH0609", "can't be used: unclosed group"]),
        (json!({ "call": "docs.find", "args": { "a": [{ "b": "{{ tsk }}" }] } }), ["ORCH0406", "tsk"]),
        (json!({ "call": "docs.find", "args": { "a": "{{ task.title }}" } }), ["ORCH06", "task"]),
        (json!({ "call": "docs.find", "args": { "a": "{{ task" } }), ["ORCH0401", ""]),
        (json!({ "call": "mail.send", "retry": { "max": 2 } }), ["ORCH0319", "`access: read` under `mcp.mail`"]),
        (
            json!({ "call": "write", "args": { "path": "a", "content": "b" }, "retry": { "max": 2 } }),
            ["ORCH0319", "remove `retry`"],
        ),
        (json!({ "call": "write", "args": { "path": "../a", "content": "b" } }), ["ORCH0625", "the tool `write`"]),
        (json!({ "call": "fetch", "args": { "url": "https://a.example" } }), ["ORCH0315", "list the hosts"]),
        (
            json!({ "call": "shell", "args": { "command": "ls" }, "sandbox": { "enabled": false } }),
            ["ORCH0315", "the sandbox of the step is disabled"],
        ),
        (
            json!({ "parallel": [
            { "id": "x", "call": "write", "args": { "path": "a", "content": "b" } },
            { "id": "y", "call": "write", "args": { "path": "c", "content": "d" } },
        ] }),
            ["ORCH0308", ""],
        ),
    ] {
        let found = findings(&step);
        let is_found = found.iter().any(|finding| expected.iter().all(|part| finding.contains(part)));
        assert!(is_found, "{step}: no {expected:?} in {found:#?}");
    }
    for step in [
        json!({ "call": "list" }),
        json!({ "call": "read", "args": { "path": "{{ task }}", "lines": "{{ count }}", "from": "3" }, "retry": { "max": 2 } }),
        json!({ "call": "docs.find", "args": { "a": 1, "b": [true, null, "{{ names }}"] }, "retry": { "max": 2 } }),
        json!({ "call": "mail.send", "args": { "to": "{{ names }}" }, "timeout": "5s", "retry": { "max": 1 } }),
        json!({ "call": "shell", "args": { "command": "ls {{ task }}", "timeout": 5 }, "output": "o", "schema": "text" }),
        json!({ "call": "read", "args": { "path": "a", "lines": "{{ count }}{{ count }}", "from": "{{ task | int(default=1) }}" } }),
        json!({ "call": "search", "args": { "regex": "{{ task }}(" } }),
        json!({ "call": "edit", "args": { "path": "a", "old": "b", "new": "", "all": true } }),
    ] {
        assert_eq!(findings(&step), Vec::<String>::new(), "{step}");
    }
}

/// A value of an argument with this schema.
fn value_of(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ => json!("a"),
    }
}

#[test]
fn the_check_knows_the_arguments_that_models_give() {
    for tool in BuiltinTool::ALL {
        let parameters = orch::tool::definition(tool, &[]).parameters;
        let properties = parameters["properties"].as_object().unwrap();
        let all: Map<String, Value> =
            properties.iter().map(|(name, schema)| (name.clone(), value_of(schema))).collect();
        let about_arguments = |args: &Map<String, Value>| -> Vec<String> {
            let found = findings(&json!({ "call": tool, "args": args }));
            let codes = ["ORCH0322", "ORCH0323", "ORCH0609"];
            found.into_iter().filter(|finding| codes.iter().any(|code| finding.starts_with(code))).collect()
        };
        assert_eq!(about_arguments(&all), Vec::<String>::new(), "{tool}");
        for (name, schema) in properties {
            let is_required = parameters["required"].as_array().unwrap().contains(&json!(name));
            let mut without = all.clone();
            without.remove(name);
            assert_eq!(about_arguments(&without).len(), usize::from(is_required), "{tool} without {name}");
            let other_type = if schema["type"] == "string" { json!(1) } else { json!("text") };
            let mut wrong = all.clone();
            wrong.insert(name.clone(), other_type);
            assert_eq!(about_arguments(&wrong).len(), 1, "{tool} with another type of {name}");
        }
    }
}

#[test]
fn listings_and_graphs_show_the_call() {
    let orch = project(&json!([{ "id": "look", "call": "read", "args": { "path": "{{ task }}" } }]), &json!({}));
    let shown = orch.run(&["pipeline", "show", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(shown.contains("calls the tool `read`"), "{shown}");
    let planned = orch.run(&["pipeline", "plan", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(planned.contains("calls a tool"), "{planned}");
    let graph = orch.run(&["pipeline", "graph", "pipelines/main.yaml"]).exits(0).stdout;
    assert!(graph.contains("tool read"), "{graph}");
}
