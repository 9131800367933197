//! Claude Code and Codex: the real programs, against scripted models.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::{create_adapter_folder, programs};
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

const ANSWER: &str =
    r#"{"type":"object","required":["n"],"additionalProperties":false,"properties":{"n":{"type":"integer"}}}"#;

/// A project whose steps CLI agents execute.
pub(crate) struct Agents {
    pub(crate) orch: Orch,
    pub(crate) server: Server,
    bin: PathBuf,
}

impl Agents {
    /// A project with one agent `a` and one step `ask`; `None` where npm can't install the programs or
    /// orch can't confine them.
    pub(crate) fn one(
        agent: &str,
        step: &str,
        answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Option<Self> {
        let steps = format!("  - {{ id: ask, agent: a, prompt: ask.md, output: answer{step} }}\n");
        Self::new(&format!("  a: {{ {agent} }}\n"), &steps, answer)
    }

    pub(crate) fn new(
        agents: &str,
        steps: &str,
        answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Option<Self> {
        let bin = programs()?;
        let orch = Orch::empty();
        orch.write("prompts/ask.md", "You answer in kind.\n").write("schemas/answer.schema.json", ANSWER);
        orch.write(
            "pipelines/main.yaml",
            &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n{agents}steps:\n{steps}"),
        );
        if agents.contains("claude-agent-acp") {
            create_adapter_folder(&orch.path().join("workspace"));
        }
        // The adapters write to their homes, which are outside of the workspace. In addition, one adapter changes its
        // user, and the commands of the other start a sandbox.
        if agents.contains("acp:") {
            orch.disable_sandboxes();
        } else if !reaches_full() {
            // Without the sandbox of orch, Codex would need its own, which can't start here either.
            return None;
        }
        Some(Self::with_project(orch, bin, answer))
    }

    /// Uses an existing project.
    pub(crate) fn with_project(
        orch: Orch,
        bin: PathBuf,
        answer: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        create_adapter_folder(&orch.path().join("acp-home"));
        Self { orch, server: Server::start(answer), bin }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.orch.command(args);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.bin.display()));
        command.env("ANTHROPIC_BASE_URL", self.server.url()).env("ANTHROPIC_API_KEY", "key-of-the-test");
        command.env("OPENAI_BASE_URL", format!("{}/v1", self.server.url())).env("OPENAI_API_KEY", "key-of-the-test");
        command.env("CODEX_HOME", self.orch.path().join("codex-home")).env("LAB_KEY", "key-of-the-test");
        // Its default mode has another model judge each permission request.
        command.env("INITIAL_AGENT_MODE", "workspace-write");
        command.env("ACP_HOME", self.orch.path().join("acp-home")).env("CLAUDE_CODE_MAX_RETRIES", "1");
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> (RunOutput, Value) {
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--output", "json"];
        let ran = RunOutput::of(&self.command(&[&args, more].concat()).output().unwrap());
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        (ran, report)
    }

    /// The run's calls, with their replies.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let ran = RunOutput::of(&self.command(&["runs", "show", "--replies", "--output", "json"]).output().unwrap());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        report["calls"].as_array().unwrap().clone()
    }

    /// The requests for a completion.
    pub(crate) fn model_requests(&self) -> Vec<ReceivedRequest> {
        let words = |path: &str| path.contains("/messages") || path.contains("/responses");
        self.server.requests().into_iter().filter(|request| words(&request.path)).collect()
    }
}

/// Asserts that the cost of each turn is its own and not that of the session: the scripted model reports the same usage
/// for both turns.
#[track_caller]
pub(crate) fn assert_costs_of_turns(calls: &[Value]) {
    let costs: Vec<f64> = calls.iter().map(|call| call["cost_usd"].as_f64().unwrap()).collect();
    let [first, second] = costs[..] else { panic!("{calls:#?}") };
    assert!(first > 0.0 && second > 0.0 && second < 1.6 * first, "{costs:?}");
}

pub(crate) fn class(report: &Value) -> &str {
    report["steps"][0]["error"]["class"].as_str().unwrap_or("none")
}

/// Whether the request contains the result of a tool.
pub(crate) fn has_tool_result(request: &ReceivedRequest) -> bool {
    let text = request.body.to_string();
    text.contains("\"tool_result\"") || text.contains("function_call_output")
}

fn offers(request: &ReceivedRequest, tool: &str) -> bool {
    request.body["tools"].as_array().is_some_and(|tools| tools.iter().any(|offered| offered["name"] == tool))
}

#[test]
fn claude_answers_with_its_own_structured_output() {
    let agents = Agents::one("cli: claude, model: claude-sonnet-4-5", "", |request| {
        if has_tool_result(request) {
            Reply::anthropic_text("done")
        } else {
            Reply::anthropic_tool("StructuredOutput", &json!({ "n": 3 }))
        }
    });
    let Some(agents) = agents else { return };
    agents.orch.write("workspace/CLAUDE.md", "Project words that are not ours.\n");
    let (ran, report) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 3 }));
    assert_eq!(report["steps"][0]["model"], "claude/claude-sonnet-4-5");
    let calls = agents.calls();
    assert_eq!(
        (&calls[0]["reply"]["constrained"], calls[0]["cost_usd"].is_number()),
        (&json!(true), true),
        "{calls:#?}"
    );
    let first = &agents.model_requests()[0];
    let tools: Vec<&Value> = first.body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(tools, [&json!("StructuredOutput")], "without a grant it has no tool but its answer");
    assert!(first.system().contains("You answer in kind."), "{}", first.system());
    assert!(!first.body.to_string().contains("Project words"), "no settings of the project leak in");
    assert!(!first.system().contains("persistent file-based memory"), "steps leave each other no notes");
}

#[test]
fn claude_is_re_asked_in_its_session_if_it_gives_no_structured_output() {
    let agents = Agents::one("cli: claude", "", |request| {
        let again = request.body.to_string().contains("held no JSON");
        Reply::anthropic_text(if again { "Well: {\"n\": 5}" } else { "I would rather not." })
    });
    let Some(agents) = agents else { return };
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 5 }));
    let calls = agents.calls();
    assert_eq!(calls[0]["reply"]["id"], calls[1]["reply"]["id"], "one session: {calls:#?}");
    assert_costs_of_turns(&calls);
    let last = agents.model_requests().pop().unwrap();
    assert!(last.body["messages"].to_string().contains("I would rather not."), "the session remembers: {}", last.body);
}

#[test]
fn a_refused_key_of_claude_is_an_auth_failure_without_a_retry() {
    let refuse = |_: &ReceivedRequest| {
        Reply::status(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#)
    };
    let Some(agents) = Agents::one("cli: claude", "", refuse) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "auth"), "{report:#}");
    assert_eq!(report["steps"][0]["attempts"], 1, "{report:#}");
}

#[test]
fn a_denied_tool_is_reported_and_the_reply_is_kept() {
    let agents = Agents::one("cli: claude, tools: [Write]", ", schema: text", |request| {
        if has_tool_result(request) {
            Reply::anthropic_text("I could not write it.")
        } else {
            Reply::anthropic_tool("Write", &json!({ "file_path": "/etc/orch-was-here", "content": "x" }))
        }
    });
    let Some(agents) = agents else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "permission_denied"), "{report:#}");
    assert!(ran.stderr.contains("Write /etc/orch-was-here"), "{}", ran.stderr);
    assert!(!std::path::Path::new("/etc/orch-was-here").exists());
    assert_eq!(agents.calls()[0]["reply"]["content"], "I could not write it.");
}

#[test]
fn claude_stops_at_its_maximum_of_turns_and_at_the_timeout() {
    let again = |request: &ReceivedRequest| {
        let file = format!("f{}", request.body["messages"].as_array().map_or(0, Vec::len));
        Reply::anthropic_tool("Write", &json!({ "file_path": file, "content": "x" }))
    };
    let Some(agents) = Agents::one("cli: claude, tools: [Write], max_turns: 2", ", schema: text", again) else {
        return;
    };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "max_turns_reached"), "{report:#}");

    let slow = |_: &ReceivedRequest| Reply::anthropic_text("late").delay(Duration::from_mins(1));
    let step = ", schema: text, timeout: 4s, retry: { max: 1 }";
    let Some(agents) = Agents::one("cli: claude", step, slow) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "timeout"), "{report:#}");
}

#[test]
fn files_that_codex_changes_with_its_shell_are_recorded() {
    let agents = Agents::one("cli: codex, model: scripted, tools: [shell]", "", |request| {
        if has_tool_result(request) {
            Reply::response_text("{\"n\": 6}")
        } else {
            Reply::response_call("exec_command", &json!({ "cmd": "printf hello > made.txt", "login": false }))
        }
    });
    let Some(agents) = agents else { return };
    agents.orch.write("workspace/AGENTS.md", "Project words that are not ours.\n");
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.read("workspace/made.txt"), "hello");
    let call = &agents.calls()[0];
    assert_eq!(
        (&call["agent_activity"]["changed"], &call["reply"]["usage"]["output"]),
        (&json!(["made.txt"]), &json!(6)),
        "{call:#}"
    );
    let first = &agents.model_requests()[0];
    assert_eq!(
        first.body["text"]["format"]["schema"]["required"],
        json!(["n"]),
        "the schema is sent: {}",
        first.body["text"]
    );
    assert!(!first.body.to_string().contains("Project words"), "no settings of the project leak in");
    assert_eq!(first.header("authorization"), Some("Bearer key-of-the-test"));
}

#[test]
fn codex_without_tools_has_no_shell_and_is_re_asked_in_its_session() {
    let agents = Agents::one("cli: codex, model: scripted", ", schema: answer", |request| {
        let again = request.body.to_string().contains("does not fit");
        Reply::response_text(if again { "{\"n\": 7}" } else { "{\"n\": \"seven\"}" })
    });
    let Some(agents) = agents else { return };
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 7 }));
    let asked = agents.model_requests();
    assert!(!offers(&asked[0], "exec_command"), "{}", asked[0].body["tools"]);
    let last = asked.last().unwrap().body.to_string();
    assert!(last.contains("seven") && last.matches("You answer in kind.").count() == 1, "{last}");
    let calls = agents.calls();
    assert_eq!(calls[0]["reply"]["id"], calls[1]["reply"]["id"], "{calls:#?}");
}

#[test]
fn a_refused_key_and_an_unreachable_model_of_codex_have_their_classes() {
    let refuse = |_: &ReceivedRequest| Reply::status(401, r#"{"error":{"message":"wrong key"}}"#);
    let Some(agents) = Agents::one("cli: codex, model: scripted", "", refuse) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "auth"), "{report:#}");

    let step = ", timeout: 20s, retry: { max: 1 }";
    let Some(agents) = Agents::one("cli: codex, model: scripted", step, |_| Reply::response_text("x")) else { return };
    let mut command = agents.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"]);
    let ran = RunOutput::of(&command.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1").output().unwrap());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    // In its sandbox, Codex gets an answer of the proxy at once; without one it tries again until the timeout expires.
    match class(&report) {
        "provider_unavailable" => assert!(ran.stderr.contains("could not connect to localhost:9"), "{}", ran.stderr),
        "timeout" => assert!(ran.stderr.contains("OPENAI_BASE_URL"), "{}", ran.stderr),
        class => panic!("{class}: {report:#}"),
    }
    assert_eq!(ran.code, 1);
}
