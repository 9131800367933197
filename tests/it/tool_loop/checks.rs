//! Mistakes in the tools of agents, which `validate` reports before orch calls a model.

use serde_json::{Value, json};

use super::{RUN, scripted_server, tool_project};
use crate::sandbox::without_namespaces;
use crate::support::{Orch, RunOutput};

/// Validates a project whose agent and step have these keys. No server runs.
fn validate(agent: &Value, step: &Value) -> (Orch, RunOutput) {
    let orch = tool_project(&scripted_server(Vec::new()), agent, step);
    let ran = orch.run(&["pipeline", "validate", "pipelines/main.yaml"]);
    (orch, ran)
}

#[track_caller]
fn assert_finding(agent: &Value, step: &Value, expected: [&str; 2]) {
    let (_, ran) = validate(agent, step);
    assert_eq!(ran.code, 2, "{agent} {step}: {ran:?}");
    for part in expected {
        assert!(ran.stderr.contains(part), "{agent} {step}: no {part:?} in\n{}", ran.stderr);
    }
}

#[test]
fn mistakes_in_tools_are_errors() {
    let narrowed_writer = json!({ "tools": ["read", "edit(src/**)"] });
    for (agent, step, expected) in [
        (json!({ "tools": ["raed"] }), json!({}), ["ORCH0208", "did you mean `read`?"]),
        (json!({ "tools": ["Bash"] }), json!({}), ["ORCH0208", "orch's tool for this is `shell`"]),
        (json!({ "tools": ["hammer"] }), json!({}), ["ORCH0208", "the tools are `read`, `list`, `search`"]),
        (json!({ "tools": ["shell(cargo; rm:*)"] }), json!({}), ["ORCH0208", "shell"]),
        (json!({ "tools": ["edit(../**)"] }), json!({}), ["ORCH0208", "edit"]),
        (json!({ "tools": ["fetch(*.rs)"] }), json!({}), ["ORCH0208", "fetch"]),
        (json!({ "tools": ["read", "read"] }), json!({}), ["ORCH0302", "the tool `read` is listed twice"]),
        (json!({ "tools": ["fetch"] }), json!({}), ["ORCH0315", "`fetch` may read no host"]),
        (
            json!({ "tools": ["fetch(10.0.0.1:80)"] }),
            json!({}),
            ["ORCH0314", "`sandbox: { network: [\"10.0.0.1:80\"] }`"],
        ),
        (json!({ "tools": ["fetch", "fetch(localhost:1)"] }), json!({}), ["ORCH0314", "which allows public hosts"]),
        (
            json!({ "tools": ["shell"], "sandbox": { "enabled": false } }),
            json!({}),
            ["ORCH0315", "`shell` runs only in a sandbox"],
        ),
        (
            json!({ "tools": ["read"], "approve_tools": ["shell"] }),
            json!({}),
            ["ORCH0208", "agent `a` does not have the tool `shell`"],
        ),
        (json!({ "tools": ["read"], "max_turns": 0 }), json!({}), ["max_turns", "pipelines/main.yaml"]),
        (json!({ "max_turns": 5 }), json!({}), ["`max_turns` has no effect without `tools`", "give the agent tools"]),
        (json!({ "approve_tools": ["read"] }), json!({}), ["`approve_tools` has no effect without `tools`", "remove"]),
        (json!({ "tool_choice": "required" }), json!({}), ["`tool_choice` has no effect without `tools`", "remove"]),
        (
            json!({ "tools": ["read"], "tool_choice": "required", "max_turns": 1 }),
            json!({}),
            ["`max_turns: 1` leaves no reply for the answer", "raise `max_turns` to 2 at least"],
        ),
        (
            json!({ "tools": ["read"], "tool_choice": "requried" }),
            json!({}),
            ["`tool_choice` must be `auto` or `required`, not `requried`", "did you mean `required`?"],
        ),
        (
            json!({ "cli": "claude", "tools": ["Read"], "tool_choice": "required" }),
            json!({}),
            ["ORCH0206", "`tool_choice` is not supported by CLI agents"],
        ),
        (json!({ "compaction": "fail" }), json!({}), ["`compaction` has no effect without `tools`", "remove"]),
        (
            json!({ "tools": ["read"], "env": ["HOME"] }),
            json!({}),
            ["`env` has no effect without the tool `shell`", "add `shell`"],
        ),
        (json!({ "tools": ["read"], "model": "openai/o1-mini" }), json!({}), ["ORCH0716", "can't call tools"]),
        (
            narrowed_writer.clone(),
            json!({ "access": "read" }),
            ["ORCH0316", "the tool `edit` of agent `a` needs `access: write`"],
        ),
        (json!({ "tools": ["read"] }), json!({ "access": "none" }), ["ORCH0316", "needs `access: read`"]),
        (
            narrowed_writer,
            json!({ "for_each": "[1, 2]", "message": "{{ task }} {{ item }}" }),
            ["could write to the workspace at the same time", "max_parallel: 1"],
        ),
    ] {
        assert_finding(&agent, &step, expected);
    }
}

#[test]
fn the_number_and_the_length_of_tools_are_limited() {
    let many: Vec<String> = (0..257).map(|number| format!("edit(a{number}/**)")).collect();
    for (tools, expected) in [
        (json!(many), "must have at most 256 items, not 257"),
        (json!([format!("edit({})", "*".repeat(100_000))]), "must have at most 4096 characters, not 100006"),
        (json!([format!("edit({})", "é".repeat(4000))]), "the pattern has 8000 bytes, and at most 4096 are allowed"),
        (json!([format!("edit({}x{})", "{a,b".repeat(100), "}".repeat(100))]), "the pattern is too complex"),
    ] {
        let (_, ran) = validate(&json!({ "tools": tools }), &json!({}));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(expected), "no {expected:?} in\n{}", ran.stderr);
    }
    let entries: Vec<String> = (0..255).map(|number| format!("edit(a{number}/**)")).collect();
    let repeated = [&entries[..], &entries[..1]].concat();
    assert_finding(&json!({ "tools": repeated }), &json!({}), ["ORCH0302", "the tool `edit(a0/**)` is listed twice"]);
}

#[test]
fn valid_tools_have_no_finding() {
    for (agent, step) in [
        (json!({ "tools": ["read", "edit(src/**)", "edit(*.md)", "shell(cargo:*)", "fetch(docs.rs)"] }), json!({})),
        (json!({ "tools": ["fetch", "fetch(crates.io)"], "sandbox": { "network": ["docs.rs"] } }), json!({})),
        (json!({ "tools": ["read", "search"], "max_turns": 3 }), json!({ "access": "write" })),
        (json!({ "tools": ["read"], "tool_choice": "required", "max_turns": 2 }), json!({})),
        (json!({ "tools": ["read"], "tool_choice": "auto", "max_turns": 1 }), json!({})),
        // Agents that only read may run in parallel.
        (json!({ "tools": ["read"] }), json!({ "for_each": "[1, 2]", "message": "{{ task }} {{ item }}" })),
        (
            json!({ "tools": ["shell"], "approve_tools": ["shell"], "env": ["LANG"], "compaction": "elide" }),
            json!({ "access": "write" }),
        ),
    ] {
        let (_, ran) = validate(&agent, &step);
        assert_eq!(ran.code, 0, "{agent} {step}: {ran:?}");
        assert!(!ran.stderr.contains("ORCH0"), "{agent} {step}: {}", ran.stderr);
    }
}

#[test]
fn the_project_bounds_the_hosts_of_fetch_and_needs_an_agreement() {
    let server = scripted_server(Vec::new());
    let orch = tool_project(&server, &json!({ "tools": ["fetch(localhost:8080)"] }), &json!({}));
    let settings = orch.read("orch.yaml");
    orch.run(&RUN).exits(2).says("ORCH0314").says("pipelines/main.yaml:1:");
    for (network, is_valid) in [("[\"localhost:8080\"]", true), ("all", true), ("none", false), ("[docs.rs]", false)] {
        orch.write("orch.yaml", &format!("{settings}sandbox: {{ network: {network} }}\n"));
        orch.run(&["pipeline", "validate"]).exits(if is_valid { 0 } else { 2 });
        if is_valid {
            orch.run(&RUN).exits(2).says("not trusted yet").says("the tool `fetch`");
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_name_of_another_program_is_fixed() {
    let (orch, ran) = validate(&json!({ "tools": ["Grep"] }), &json!({}));
    assert!(ran.stderr.contains("orch's tool for this is `search`"), "{ran:?}");
    orch.run(&["pipeline", "validate", "--fix"]).exits(0);
    let fixed = orch.read("pipelines/main.yaml");
    assert!(fixed.contains("\"tools\":[\"search\"]"), "{fixed}");
}

#[test]
fn a_level_that_the_machine_does_not_reach_stops_the_run_before_a_request() {
    let server = scripted_server(Vec::new());
    let orch = tool_project(&server, &json!({ "tools": ["shell"] }), &json!({}));
    let Some(mut command) = without_namespaces(&orch.command(&RUN)) else { return };
    let ran = RunOutput::of(&command.output().unwrap()).exits(2);
    ran.says("the sandbox needs the level `full`").says("creating namespaces failed");
    assert!(server.requests().is_empty());
}
