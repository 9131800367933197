//! `orch doctor` reports what is configured, what is missing, and whether it works.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::cli_agents::Agents;
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

/// Answers with a list of these models, and with a completion in each dialect.
fn answer_with_models(models: &'static str) -> impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static {
    move |request| match request.path.as_str() {
        path if path.ends_with("/models") => Reply::status(200, models),
        path if path.contains("/responses") => Reply::response_text("ok"),
        path => Reply::text_for(path, "ok"),
    }
}

fn line<'a>(ran: &'a RunOutput, name: &str) -> &'a str {
    let mut lines = ran.stdout.lines().filter(|line| line.get(5..).is_some_and(|rest| rest.starts_with(name)));
    lines.next().unwrap_or_else(|| panic!("no {name} in {}", ran.stdout))
}

#[test]
fn doctor_asks_a_server_without_a_key_for_its_models() {
    let server = Server::start(answer_with_models(r#"{"data":[{"id":"qwen3-coder"}]}"#));
    let orch = Orch::new().with(&server);
    let ran = orch.run(&["doctor"]).exits(0);
    assert!(
        line(&ran, "lab ").ends_with("answers with qwen3-coder") && line(&ran, "lab ").starts_with("ok"),
        "{ran:?}"
    );
    assert_eq!(line(&ran, "model "), "ok   model       lab/test (`defaults.model`)");
    let _closed = server.close();
    let ran = orch.run(&["doctor"]).exits(0);
    assert!(line(&ran, "lab ").contains("nothing answers at http://127.0.0.1:"), "{ran:?}");
}

#[test]
fn doctor_distinguishes_an_ollama_without_models_from_no_server() {
    let server = Server::start(answer_with_models(r#"{"object":"list","data":[]}"#));
    let orch = Orch::new();
    assert!(line(&orch.run(&["doctor"]), "ollama ").contains("nothing answers"));
    let ran = RunOutput::of(&orch.command(&["doctor"]).env("OLLAMA_HOST", server.url()).output().unwrap());
    assert!(line(&ran, "ollama ").ends_with("answers, but serves no model; get one: `ollama pull qwen3`"), "{ran:?}");
    let other = Server::always(Reply::status(404, "not found"));
    let ran = RunOutput::of(&orch.command(&["doctor"]).env("OLLAMA_HOST", other.url()).output().unwrap());
    assert!(line(&ran, "ollama ").contains("answers, but does not list its models"), "{ran:?}");
}

#[test]
fn a_default_model_without_its_key_is_an_error_and_auto_names_its_choice() {
    let orch = Orch::new();
    orch.write("orch.yaml", "defaults: { model: anthropic/claude-sonnet-4-5 }\n");
    let ran = orch.run(&["doctor"]).exits(2);
    assert!(line(&ran, "model ").contains("needs a key, and ANTHROPIC_API_KEY is not set"), "{ran:?}");
    orch.write("orch.yaml", "");
    let ran =
        RunOutput::of(&orch.command(&["doctor"]).env("OPENAI_API_KEY", "sk-0123456789").output().unwrap()).exits(0);
    assert_eq!(line(&ran, "model "), "ok   model       openai/gpt-6.1-sol (auto: OPENAI_API_KEY is set)");
}

#[test]
fn doctor_lists_versions_of_installed_programs_and_how_to_install_the_others() {
    let Some(agents) = Agents::one("acp: { command: [codex-acp] }", "", |_| Reply::anthropic_text("x")) else { return };
    let here = RunOutput::of(&agents.command(&["doctor", "--timeout", "30m"]).output().unwrap()).exits(0);
    assert!(
        line(&here, "claude ").contains("(Claude Code)") && line(&here, "codex ").contains("codex-cli "),
        "{here:?}"
    );
    assert!(line(&here, "acp ").ends_with("/codex-acp"), "{here:?}");
    let none = RunOutput::of(&agents.command(&["doctor"]).env("PATH", "/usr/bin:/bin").output().unwrap()).exits(2);
    assert!(line(&none, "codex ").contains("not installed; install it: `npm install -g @openai/codex`"), "{none:?}");
    assert!(line(&none, "acp ").contains("`npm install -g @agentclientprotocol/codex-acp`"), "{none:?}");
}

#[test]
fn a_program_that_is_installed_but_fails_is_not_called_missing() {
    let orch = Orch::new();
    orch.write("bin/codex", "#!/bin/sh\necho 'it needs Node 22' >&2\nexit 3\n");
    let program = orch.path().join("bin/codex");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", orch.path().join("bin").display());
    let ran = RunOutput::of(&orch.command(&["doctor"]).env("PATH", path).output().unwrap());
    assert!(line(&ran, "codex ").ends_with("`codex --version` failed: exit code 3: it needs Node 22"), "{ran:?}");
}

#[test]
fn a_pipeline_whose_programs_are_not_checked_is_named() {
    let orch = Orch::new();
    orch.write("pipelines/broken.yaml", "steps: [\n");
    let ran = orch.run(&["doctor"]);
    let named = line(&ran, "pipeline ");
    assert!(named.contains("broken.yaml can't be read, so its CLI agents are not checked"), "{ran:?}");
}

#[test]
fn a_probe_calls_each_model_and_each_program() {
    let answer = answer_with_models(r#"{"data":[{"id":"qwen3-coder"}]}"#);
    let Some(agents) = Agents::one("acp: { command: [codex-acp] }, env: [CODEX_HOME, LAB_KEY]", "", answer) else {
        return;
    };
    crate::acp::write_codex_settings(&agents);
    agents.orch.write(
        "orch.yaml",
        &format!("providers: {{ lab: {{ dialect: openai, base_url: \"{}/v1\" }} }}\n", agents.server.url()),
    );
    agents.orch.disable_sandboxes();
    agents.orch.edit("pipelines/main.yaml", "steps:", "  b: { command: [cat] }\nsteps:");
    let ran = RunOutput::of(&agents.command(&["doctor", "--probe", "--timeout", "30m"]).output().unwrap()).exits(0);
    let probes: Vec<&str> = ran.stdout.lines().filter(|line| line.contains(" probe ")).collect();
    for name in [
        "anthropic/claude-sonnet-5-5",
        "openai/gpt-6.1-sol",
        "lab/qwen3-coder",
        "claude/default",
        "codex/default",
        "acp/codex-acp",
    ] {
        assert!(
            probes.iter().any(|line| line.starts_with("ok") && line.contains(&format!("{name} answered in"))),
            "{name}: {probes:#?}"
        );
    }
    assert!(probes.iter().any(|line| line.contains("command/cat: not probed")), "{probes:#?}");
}

#[test]
fn a_refused_probe_shows_the_reason_and_no_key() {
    let refuse = |_: &ReceivedRequest| Reply::status(401, r#"{"error":{"message":"wrong key sk-of-the-test-01234"}}"#);
    let server = Server::start(refuse);
    let orch = Orch::new();
    let mut command = orch.command(&["doctor", "--probe"]);
    command
        .env("OPENAI_BASE_URL", server.openai_url())
        .env("OPENAI_API_KEY", "sk-of-the-test-01234")
        .env("PATH", "/usr/bin:/bin");
    let ran = RunOutput::of(&command.output().unwrap()).exits(2);
    let probe = line(&ran, "probe ");
    assert!(probe.starts_with("bad") && probe.contains("auth"), "{probe}");
    assert!(!ran.stdout.contains("sk-of-the-test"), "{ran:?}");
}

#[test]
fn a_probe_shows_whether_a_model_calls_tools() {
    let function = json!({"name": "report_ready", "arguments": "{\"ready\": true}"});
    let delta = json!({"tool_calls": [{"id": "c1", "function": function}]});
    let calling = Reply::events(&[json!({"choices": [{"delta": delta, "finish_reason": "stop"}]})]);
    let refusing = Reply::status(400, r#"{"error":{"message":"test does not support tools"}}"#);
    for (reply, label, words) in [
        (calling, "ok   probe", "lab/test calls tools"),
        (Reply::openai_text("ok"), "-    probe", "lab/test did not call a tool when asked to"),
        (
            refusing,
            "-    probe",
            "lab/test can't call tools: lab refuses the request (400): test does not support tools",
        ),
    ] {
        let server = Server::start(move |request| {
            if request.path.ends_with("/models") {
                Reply::status(200, r#"{"data":[{"id":"test"}]}"#)
            } else if request.body["tools"].is_array() {
                reply.clone()
            } else {
                Reply::openai_text("ok")
            }
        });
        let orch = Orch::new().with(&server);
        let ran = RunOutput::of(&orch.command(&["doctor", "--probe"]).env("PATH", "/usr/bin:/bin").output().unwrap());
        let line = ran.stdout.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {ran:?}"));
        assert!(line.starts_with(label), "{line}");
    }
}
