//! Agents behind the Agent Client Protocol: a real adapter, and a scripted one that fails in every way.

use serde_json::{Value, json};

use crate::cli_agents::{Agents, class, has_tool_result};
use crate::step_kinds::run;
use crate::support::{Orch, ReceivedRequest, Reply};

/// Writes the settings of the adapter's own Codex, which calls the scripted server.
pub(crate) fn write_codex_settings(agents: &Agents) {
    let text = format!(
        "model = \"scripted\"\nmodel_provider = \"lab\"\n[model_providers.lab]\nname = \"lab\"\nbase_url = \"{}/v1\"\nenv_key = \"LAB_KEY\"\nwire_api = \"responses\"\n",
        agents.server.url()
    );
    agents.orch.write("codex-home/config.toml", &text);
}

pub(crate) const ADAPTER: &str = "acp: { command: [codex-acp] }, env: [CODEX_HOME, LAB_KEY, INITIAL_AGENT_MODE]";

#[test]
fn claude_plans_codex_codes_and_an_acp_agent_reviews() {
    let agents = format!(
        "  planner: {{ cli: claude }}\n  coder: {{ cli: codex, model: scripted, tools: [shell] }}\n  reviewer: {{ {ADAPTER} }}\n"
    );
    let steps = "  - { id: plan, agent: planner, prompt: plan.md, output: plan, schema: any }\n  - { id: code, agent: coder, prompt: code.md, inputs: [plan], output: code, schema: answer }\n  - { id: review, agent: reviewer, prompt: review.md, inputs: [plan, code], output: review, schema: any }\n";
    let answer = |request: &ReceivedRequest| {
        let text = request.body.to_string();
        if request.path.contains("/messages") {
            Reply::anthropic_text("{\"file\": \"user.txt\"}")
        } else if text.contains("You review.") {
            Reply::response_text("It is fine: {\"approved\": true}")
        } else if has_tool_result(request) {
            Reply::response_text("{\"n\": 1}")
        } else {
            assert!(text.contains("user.txt"), "the plan reaches the coder: {text}");
            Reply::response_call("exec_command", &json!({ "cmd": "echo class User > user.txt", "login": false }))
        }
    };
    let Some(agents) = Agents::new(&agents, steps, answer) else { return };
    write_codex_settings(&agents);
    for name in ["plan", "code", "review"] {
        agents.orch.write(&format!("prompts/{name}.md"), &format!("You {name}.\n"));
    }
    let (ran, report) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report["result"], json!({ "approved": true }), "{report:#}");
    assert_eq!(agents.orch.read("workspace/user.txt"), "class User\n");
    let models: Vec<&str> = report["steps"].as_array().unwrap().iter().filter_map(|s| s["model"].as_str()).collect();
    assert_eq!(models, ["claude/default", "codex/scripted", "acp/codex-acp"]);
}

#[test]
fn a_permission_request_of_an_acp_agent_is_answered_by_its_grant() {
    let answer = |request: &ReceivedRequest| {
        if has_tool_result(request) {
            Reply::response_text("{\"n\": 2}")
        } else {
            let call = json!({ "cmd": "echo yes > made", "login": false, "sandbox_permissions": "require_escalated", "justification": "May I?" });
            Reply::response_call("exec_command", &call)
        }
    };
    for (tools, code) in [("[execute]", 0), ("none", 1)] {
        let Some(agents) = Agents::one(&format!("{ADAPTER}, tools: {tools}"), "", answer) else { return };
        write_codex_settings(&agents);
        let (ran, report) = agents.run(&[]);
        assert_eq!(ran.code, code, "{tools}: {ran:?}");
        assert_eq!(agents.orch.exists("workspace/made"), code == 0);
        assert_eq!(class(&report), if code == 0 { "none" } else { "permission_denied" }, "{report:#}");
    }
}

/// A project whose agent is the script `acp_agent.py` in this mode.
fn scripted_project(mode: &str, step: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    orch.write(
        "schemas/answer.schema.json",
        r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}"#,
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/acp_agent.py");
    orch.write(
        "pipelines/main.yaml",
        &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ acp: {{ command: [python3, {script}, {mode}] }} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, re_ask: 0{step} }}\n"),
    );
    orch.disable_sandboxes();
    orch
}

#[test]
fn each_failure_of_an_acp_agent_has_its_class() {
    let cases = [
        ("exit", "agent_error", "exit code 1"),
        ("killed", "agent_error", "exit code 137"),
        ("garbage", "no_json", ""),
        ("flood", "output_too_large", ""),
        ("login", "auth", "Authentication required"),
        ("refuse", "refusal", ""),
        ("cut", "max_tokens_reached", ""),
        ("turns", "max_turns_reached", ""),
        ("aborts", "unknown_stop", "the stop reason `aborted`, which orch does not know; its last text: {\"n\": 5}"),
        ("broke", "bad_request", "Credit balance is too low"),
        ("silent", "empty_reply", ""),
    ];
    for (mode, wanted, words) in cases {
        let orch = scripted_project(mode, "");
        let (ran, report) = run(&orch, &[]);
        assert_eq!((ran.code, class(&report)), (1, wanted), "{mode}: {report:#}");
        let message = report["steps"][0]["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{mode}: {message}");
    }
    let orch = scripted_project("exit", "");
    orch.edit("pipelines/main.yaml", "[python3,", "[no-such-agent,");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "t"])
        .exits(2)
        .says("the CLI agent `no-such-agent` is not installed");
}

#[test]
fn a_hanging_acp_agent_is_asked_to_stop_and_then_killed() {
    let orch = scripted_project("hang", ", timeout: 8s, retry: { max: 1 }");
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, class(&report)), (1, "timeout"), "{report:#}");
    assert!(orch.exists("workspace/cancelled"));
    let stat = format!("/proc/{}/stat", orch.read("workspace/hangs"));
    assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "it survived");
}

#[test]
fn an_acp_agent_that_stays_after_its_answer_is_ended_and_its_answer_and_usage_are_kept() {
    let orch = scripted_project("stays", ", timeout: 30s");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((orch.json("workspace/answer.json"), &report["usage"]["input"]), (json!({ "n": 5 }), &json!(70)));
}

#[test]
fn an_impossible_usage_or_cost_of_an_acp_agent_counts_as_unknown() {
    let orch = scripted_project("counts", "");
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["cost_usd"]), (0, &Value::Null), "{report:#}");
    let used = &report["usage"];
    assert_eq!(
        (&used["input"], &used["output"], &used["calls_with_unknown_usage"]),
        (&json!(0), &json!(8), &json!(1)),
        "{used}"
    );
}

#[test]
fn an_acp_agent_is_re_asked_in_the_session_that_it_can_load() {
    let orch = scripted_project("reask", "");
    orch.edit("pipelines/main.yaml", "re_ask: 0", "re_ask: 1");
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer: Value = orch.json("workspace/answer.json");
    assert_eq!(answer, json!({ "n": 9 }));
    let said = orch.read("workspace/said");
    assert_eq!(said.matches("You answer.").count(), 1, "{said}");
}
