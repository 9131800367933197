//! Mistakes in the settings of MCP servers and in the names of their tools, which `validate` reports without starting a
//! server.

use serde_json::{Value, json};

use crate::support::{Orch, RunOutput};

/// A project with this `orch.yaml`, whose only agent has these keys.
fn project(settings: &Value, agent: &Value) -> Orch {
    let orch = Orch::empty();
    let step = json!({ "id": "look", "agent": "reader", "prompt": "look.md", "output": "notes", "schema": "text" });
    let pipeline = json!({ "name": "look", "agents": { "reader": agent }, "steps": [step] });
    orch.write("pipelines/main.yaml", &pipeline.to_string());
    orch.write("prompts/look.md", "Look.\n").write("orch.yaml", &settings.to_string());
    orch
}

fn validate(settings: &Value, agent: &Value) -> RunOutput {
    project(settings, agent).run(&["pipeline", "validate", "pipelines/main.yaml"])
}

#[track_caller]
fn assert_finding(settings: &Value, agent: &Value, expected: [&str; 2]) {
    let ran = validate(settings, agent);
    for part in expected {
        assert!(ran.stderr.contains(part), "{settings} {agent}: no {part:?} in\n{}", ran.stderr);
    }
}

fn model(tools: &Value) -> Value {
    json!({ "model": "openai/gpt-4.1-mini", "tools": tools })
}

#[test]
fn a_server_has_one_transport_and_only_keys_that_apply_to_it() {
    let command = json!(["server"]);
    for (server, expected) in [
        (json!({}), ["ORCH0209", "neither `command` nor `url`"]),
        (json!({ "command": command, "url": "https://a.example" }), ["ORCH0209", "both `command` and `url`"]),
        (json!({ "command": command, "headers": { "x": "y" } }), ["ORCH0206", "`headers` does not apply"]),
        (json!({ "command": command, "insecure": true }), ["ORCH0206", "remove `insecure`, which is about `headers`"]),
        (json!({ "url": "https://a.example", "env": ["A"] }), ["ORCH0206", "`env` does not apply"]),
        (json!({ "url": "a.example" }), ["ORCH0704", "is not the address of an MCP server"]),
        (json!({ "url": "https://a.example", "headers": { "a b": "c" } }), ["ORCH0705", "not a valid header name"]),
        (json!({ "url": "https://a.example", "headers": { "Mcp-Name": "c" } }), ["ORCH0705", "the protocol uses it"]),
        (json!({ "command": command, "tools": ["a", "a"] }), ["ORCH0302", "the tool `a` is listed twice"]),
        (json!({ "command": command, "sandbox": { "write": ["/"] } }), ["ORCH0204", "can't be writable"]),
        (json!({ "command": [] }), ["ORCH0204", "command"]),
    ] {
        assert_finding(&json!({ "mcp": { "files": server } }), &model(&json!(["read"])), expected);
    }
    assert_finding(
        &json!({ "mcp": { "My.Files": { "command": ["x"] } } }),
        &model(&json!(["read"])),
        ["ORCH0301", "`My.Files` is not a valid name"],
    );
}

#[test]
fn every_command_refuses_a_server_that_the_check_refuses_with_the_same_message() {
    let command = json!(["touch", "started"]);
    for (server, message) in [
        (json!({}), "the MCP server `files` has neither `command` nor `url`"),
        (
            json!({ "command": command, "url": "https://a.example" }),
            "the MCP server `files` has both `command` and `url`",
        ),
        (
            json!({ "command": command, "headers": { "x": "y" } }),
            "remove `headers`; a program gets secrets as variables: `env: [NAME]`",
        ),
        (
            json!({ "url": "https://a.example", "env": ["A"] }),
            "remove `env`; send a secret in a header: `headers: { NAME: { env: VARIABLE } }`",
        ),
        (json!({ "url": "https://a.example", "sandbox": {} }), "`sandbox` does not apply to an MCP server with `url`"),
        (json!({ "command": command, "sandbox": { "write": ["/"] } }), "`/` of `write` can't be writable"),
        (json!({ "url": "a.example" }), "`a.example` is not the address of an MCP server"),
    ] {
        let orch = project(&json!({ "mcp": { "files": server } }), &model(&json!(["files.*"])));
        for args in [
            &["pipeline", "validate"][..],
            &["pipeline", "validate", "--probe"],
            &["trust"],
            &["trust", "--print"],
            &["doctor"],
            &["tools", "list"],
            &["tools", "show", "files.a"],
            &["tools", "call", "files.a"],
        ] {
            orch.run(args).exits(2).says(message);
        }
        assert!(!orch.exists("started") && !orch.configuration().join("orch").exists(), "{server}");
    }
}

#[test]
fn an_agent_has_only_tools_of_known_servers_that_the_project_allows() {
    let settings = json!({ "mcp": { "files": { "command": ["server"], "tools": ["read_file"] } } });
    for (agent, expected) in [
        (model(&json!(["file.read_file"])), ["ORCH0317", "did you mean `files`?"]),
        (model(&json!(["github.list"])), ["ORCH0317", "define the server in `orch.yaml`"]),
        (model(&json!(["files.read_fil"])), ["ORCH0318", "did you mean `read_file`?"]),
        (model(&json!(["files.delete"])), ["ORCH0318", "allows only these tools of it: read_file"]),
        (model(&json!(["files.read_file(a)"])), ["ORCH0208", "tools of MCP servers have none"]),
        (model(&json!(["files."])), ["ORCH0208", "names no tool"]),
        (model(&json!(["files.*", "files.*"])), ["ORCH0302", "the tool `files.*` is listed twice"]),
        (model(&json!(["files.read_file", "files.*"])), ["ORCH0206", "the agent has `files.*`"]),
        (
            json!({ "model": "openai/gpt-4.1-mini", "tools": ["read"], "approve_tools": ["files.read_file"] }),
            ["ORCH0208", "does not have the tool `files.read_file`"],
        ),
        (json!({ "command": ["x"], "tools": ["files.read_file"] }), ["ORCH0208", "can't use MCP servers"]),
        (json!({ "cli": "claude", "tools": ["Read", "files.delete"] }), ["ORCH0318", "does not list `delete`"]),
    ] {
        assert_finding(&settings, &agent, expected);
    }
    for agent in [
        model(&json!(["read", "files.read_file"])),
        model(&json!(["files.*"])),
        json!({ "cli": "claude", "tools": ["Read", "files.read_file", "other.name"] }),
        json!({ "model": "openai/gpt-4.1-mini", "tools": ["files.*"], "approve_tools": ["files.read_file"] }),
    ] {
        let ran = validate(&settings, &agent);
        assert_eq!(ran.code, 0, "{agent}: {}", ran.stderr);
    }
}

#[test]
fn the_access_of_a_step_follows_from_what_a_server_can_change() {
    let step = |access: &str| json!({ "id": "look", "agent": "reader", "prompt": "look.md", "access": access, "output": "n", "schema": "text" });
    let server = |sandbox: Value| json!({ "mcp": { "files": { "command": ["server"], "sandbox": sandbox } } });
    for (sandbox, access, is_valid) in [
        (json!({ "write": ["."] }), "read", false),
        (json!({ "write": ["."] }), "write", true),
        (json!({}), "none", false),
        (json!({}), "read", true),
    ] {
        let orch = project(&server(sandbox.clone()), &model(&json!(["files.*"])));
        let agents = json!({ "reader": model(&json!(["files.*"])) });
        let pipeline = json!({ "name": "look", "agents": agents, "steps": [step(access)] });
        orch.write("pipelines/main.yaml", &pipeline.to_string());
        let ran = orch.run(&["pipeline", "validate", "pipelines/main.yaml"]);
        assert_eq!(ran.code == 0, is_valid, "{sandbox} {access}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("ORCH0316"), !is_valid, "{sandbox} {access}: {}", ran.stderr);
    }
}

#[test]
fn a_server_needs_an_agreement_that_a_change_invalidates() {
    let settings = |argument: &str| json!({ "mcp": { "files": { "command": ["server", argument] } } });
    let orch = project(&settings("a"), &model(&json!(["files.*"])));
    orch.run(&["trust", "--print"]).exits(0).says("starts the MCP server");
    let digest = |orch: &Orch| orch.run(&["trust", "--print"]).stdout;
    let before = digest(&orch);
    orch.write("orch.yaml", &settings("b").to_string());
    assert_ne!(digest(&orch), before);
}

#[test]
fn validate_names_in_one_line_what_each_server_is_trusted_with() {
    let servers = json!({
        "files": { "command": ["server"], "env": ["TOKEN"], "sandbox": { "write": ["."] }, "tools": ["read_file"] },
        "docs": { "url": "https://docs.example/mcp", "headers": { "Authorization": { "env": "DOCS_AUTH" } } },
    });
    let orch = project(&json!({ "mcp": servers }), &model(&json!(["docs.*"])));
    let expected = [
        "`mcp.docs` sends the secret in DOCS_AUTH and the arguments of tool calls to the MCP server \
         https://docs.example/mcp; with the header Authorization from DOCS_AUTH; pipelines may call all its tools",
        "`mcp.files` starts the MCP server [\"server\"] with the variables TOKEN, in a sandbox that lets it change the \
         workspace; pipelines may call only read_file",
    ];
    let notes = |advice: &str| {
        let ran = orch.run(&["pipeline", "validate"]).exits(0);
        let mut notes: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("`mcp.")).collect();
        notes.sort_unstable();
        let expected = expected.map(|text| format!("note: {text}{advice}"));
        assert_eq!(notes, expected, "{ran:?}");
    };
    notes("; a run needs `orch trust` first");
    orch.run(&["trust"]).exits(0);
    notes("");
}

#[test]
fn a_server_that_may_do_more_than_the_user_agreed_to_needs_another_agreement() {
    let settings = |server: &Value| json!({ "mcp": { "files": server } }).to_string();
    let orch = project(&json!({}), &model(&json!(["files.*"])));
    let agreed = json!({
        "command": ["server"], "tools": ["read_file"], "sandbox": { "deny_read": ["~/notes"] },
    });
    let loosened = [
        ("/sandbox/write", json!(["."]), "lets it change the workspace"),
        ("/sandbox/network", json!(["a.example"]), "lets it reach a.example"),
        ("/sandbox/unix_sockets", json!(true), "lets it use UNIX sockets"),
        ("/sandbox/min", json!("basic"), "run at the level `basic`"),
        ("/sandbox/deny_read", json!([]), "lets it change no file and reach no host; pipelines"),
        ("/sandbox", json!({ "enabled": false }), "without a sandbox, with all your rights"),
        ("/env", json!(["GITHUB_TOKEN"]), "with the variables GITHUB_TOKEN"),
        ("/tools", json!(["read_file", "delete"]), "pipelines may call only read_file, delete"),
        ("/access", json!("read"), "its calls change nothing, so orch may repeat them"),
    ];
    for (pointer, value, shown) in loosened {
        orch.write("orch.yaml", &settings(&agreed));
        orch.run(&["trust"]).exits(0).says("it can't read ~/notes; pipelines may call only read_file");
        let mut changed = agreed.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        orch.write("orch.yaml", &settings(&changed));
        let ran = orch.run(&["tools", "list"]).exits(2).says("this project changed since you trusted it");
        ran.says(shown);
    }
}
