//! `orch trust` lists everything that the pipelines of a project start and reach, with the sandbox of each program.

use serde_json::{Value, json};

use crate::support::Orch;

/// What `orch trust` lists in this project.
fn listed(orch: &Orch) -> Value {
    let trust = orch.run(&["trust", "--print", "--output", "json"]).exits(0);
    serde_json::from_str(&trust.stdout).unwrap()
}

/// A project with these settings and this pipeline.
fn project(settings: &Value, pipeline: &Value) -> Orch {
    let orch = Orch::empty();
    orch.write("orch.yaml", &settings.to_string()).write("pipelines/main.yaml", &pipeline.to_string());
    orch
}

#[test]
fn steps_that_call_a_tool_are_listed_as_what_the_tool_starts_or_reaches() {
    let settings = json!({ "mcp": { "docs": { "url": "https://docs.example/mcp" } } });
    let online = json!({ "network": ["docs.rs"] });
    let steps = json!([
        { "id": "build", "call": "shell", "args": { "command": "make  all\nmake test" }, "output": "built" },
        { "id": "online", "call": "shell", "args": { "command": "make get" }, "sandbox": online, "output": "got" },
        { "id": "page", "call": "fetch", "args": { "url": "https://docs.rs/x" }, "sandbox": online, "output": "page" },
        { "id": "find", "call": "docs.find", "args": { "text": "a" }, "output": "found" },
        { "id": "look", "call": "read", "args": { "path": "a" }, "output": "text" },
    ]);
    let orch = project(&settings, &json!({ "name": "main", "steps": steps }));
    let found = listed(&orch);
    assert_eq!(
        found["programs"],
        json!([
            "make all make test, in a sandbox that lets it change the workspace; at least at the level `full`, with the \
             default settings  (step build of pipelines/main.yaml)",
            "make get, in a sandbox that lets it change the workspace and reach docs.rs; at least at the level `full`, \
             with the settings of the step  (step online of pipelines/main.yaml)",
        ])
    );
    assert_eq!(
        found["tools"],
        json!([
            "fetch https://docs.rs/x, from docs.rs  (step page of pipelines/main.yaml)",
            "docs.find  (step find of pipelines/main.yaml)",
        ])
    );
    orch.run(&["trust", "--print"]).exits(0).says("Its models and steps reach hosts and MCP servers with these tools:");
}

#[test]
fn the_sandbox_of_each_program_and_the_tools_that_reach_something_are_listed() {
    let settings = json!({
        "sandbox": { "deny_read": ["~/notes"], "unix_sockets": true },
        "mcp": { "docs": { "url": "https://docs.example/mcp" } },
    });
    let agents = json!({
        "reader": { "model": "openai/gpt-4.1-mini", "tools": ["read", "fetch(docs.rs)", "docs.find"] },
        "browser": { "model": "openai/gpt-4.1-mini", "tools": ["fetch"], "sandbox": { "network": ["crates.io"] } },
        "coder": { "cli": "claude", "tools": ["Read", "docs.*"], "sandbox": { "network": ["crates.io"] } },
    });
    let run = json!({ "id": "test", "run": "make test", "env": ["CI"], "sandbox": { "network": "all" } });
    let found = listed(&project(&settings, &json!({ "name": "main", "agents": agents, "steps": [run] })));
    assert_eq!(
        found["programs"],
        json!([
            "claude, in a sandbox that lets it change the workspace, reach crates.io and use UNIX sockets; it can't read \
             ~/notes; at least at the level `full`, with the settings of the agent and of orch.yaml; it also reaches the \
             API of its provider  (agent coder of pipelines/main.yaml)",
            "make test, with the variables CI, in a sandbox that lets it change the workspace, reach every host and use \
             UNIX sockets; it can't read ~/notes; at least at the level `full`, with the settings of the step and of \
             orch.yaml  (step test of pipelines/main.yaml)",
        ])
    );
    assert_eq!(
        found["tools"],
        json!([
            "fetch(docs.rs), as its model chooses  (agent reader of pipelines/main.yaml)",
            "docs.find, as its model chooses  (agent reader of pipelines/main.yaml)",
            "fetch, as its model chooses, from crates.io  (agent browser of pipelines/main.yaml)",
            "docs.*, as its model chooses  (agent coder of pipelines/main.yaml)",
        ])
    );
}

#[test]
fn a_pipeline_that_only_others_call_is_listed_once() {
    let orch = Orch::empty();
    let caller = |name: &str| json!({ "name": name, "steps": [{ "id": "go", "pipeline": "build.part" }] }).to_string();
    orch.write("pipelines/a.yaml", &caller("a")).write("pipelines/b.yaml", &caller("b"));
    let build = json!({ "name": "build", "steps": [{ "id": "make", "run": "make all" }] });
    orch.write("pipelines/build.part", &build.to_string());
    let expected = "make all, without a sandbox, with all your rights, because the step has no `sandbox`  (step make of \
                    pipelines/build.part)";
    assert_eq!(listed(&orch)["programs"], json!([expected]));
}

#[test]
fn a_step_without_a_sandbox_of_its_own_is_listed_with_what_applies_to_it_and_why() {
    let steps = json!([
        { "id": "build", "run": ["make", "all"] },
        { "id": "test", "run": "make test", "sandbox": {} },
        { "id": "free", "run": "make free", "sandbox": { "enabled": false } },
        { "id": "check", "call": "shell", "args": { "command": "make check" }, "output": "checked" },
    ]);
    let pipeline = json!({ "name": "main", "steps": steps });
    let expected = |settings: Value, texts: [&str; 4]| {
        let found = listed(&project(&json!({ "sandbox": settings }), &pipeline));
        let names = [("make all", "build"), ("make test", "test"), ("make free", "free"), ("make check", "check")];
        let lines = names.iter().zip(texts);
        let lines = lines.map(|((command, id), text)| format!("{command}, {text}  (step {id} of pipelines/main.yaml)"));
        assert_eq!(found["programs"], json!(lines.collect::<Vec<_>>()));
    };
    let free = "without a sandbox, with all your rights, because the step has `enabled: false`";
    let default =
        "in a sandbox that lets it change the workspace; at least at the level `full`, with the default settings";
    let unconfined = "without a sandbox, with all your rights, because the step has no `sandbox`";
    expected(json!({}), [unconfined, default, free, default]);
    let unconfined =
        format!("{unconfined}, and that of orch.yaml applies only to commands with a `sandbox` of their own");
    let basic = "in a sandbox that lets it change the workspace and run at the level `basic`; at least at the level \
                 `basic`, with the settings of orch.yaml";
    expected(json!({ "min": "basic" }), [unconfined.as_str(), basic, free, basic]);
    let disabled = "without a sandbox, with all your rights, because orch.yaml has `enabled: false`";
    let refused = "which orch refuses without a sandbox; it has none, because orch.yaml has `enabled: false`";
    expected(json!({ "enabled": false }), [unconfined.as_str(), disabled, free, refused]);
}

#[test]
fn risky_lines_have_a_mark_whose_meaning_comes_first() {
    let lab = json!({ "dialect": "openai", "base_url": "https://lab.example/v1", "api_key": { "env": "LAB_KEY" } });
    let settings = json!({
        "providers": { "lab": lab, "local": { "dialect": "openai", "base_url": "http://127.0.0.1:9/v1" } },
        "mcp": {
            "files": { "command": ["files-server"], "sandbox": { "enabled": false } },
            "docs": { "command": ["docs-server"] },
        },
    });
    let (all, known) = (json!({ "network": "all" }), json!({ "network": ["docs.rs"] }));
    let steps = json!([
        { "id": "free", "run": "make free" },
        { "id": "confined", "run": "make confined", "sandbox": {} },
        { "id": "online", "run": "make online", "sandbox": all },
        { "id": "weak", "run": "make weak", "sandbox": { "min": "basic" } },
        { "id": "keys", "run": "make keys", "sandbox": {}, "env": ["LAB_KEY"] },
        { "id": "page", "call": "fetch", "args": { "url": "https://a.example/" }, "sandbox": all, "output": "page" },
        { "id": "book", "call": "fetch", "args": { "url": "https://docs.rs/x" }, "sandbox": known, "output": "book" },
    ]);
    let shown =
        project(&settings, &json!({ "name": "main", "steps": steps })).run(&["trust", "--print"]).exits(0).stderr;
    assert!(shown.starts_with("risk marks what needs your agreement"), "{shown}");
    let is_marked = |text: &str| {
        let line = shown.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {shown}"));
        line.starts_with("  risk  ")
    };
    for risky in [
        "`providers.lab`",
        "`mcp.files`",
        "passes LAB_KEY",
        "files-server, without",
        "make free,",
        "make online,",
        "make weak,",
        "make keys,",
        "fetch https://a.example",
    ] {
        assert!(is_marked(risky), "{risky}: {shown}");
    }
    for harmless in ["`providers.local`", "docs-server, in", "make confined,", "fetch https://docs.rs"] {
        assert!(!is_marked(harmless), "{harmless}: {shown}");
    }
    let steps = json!([{ "id": "confined", "run": "make confined", "sandbox": {} }]);
    let harmless = project(&json!({}), &json!({ "name": "main", "steps": steps }));
    let shown = harmless.run(&["trust"]).exits(0).says("make confined").stderr;
    assert!(!shown.contains("risk"), "{shown}");
}
