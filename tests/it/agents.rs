//! Claude Code and Codex: the real programs, against scripted models.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::{folder_of_the_adapter, programs};
use crate::support::{Orch, Ran, Recorded, Reply, Server};

const ANSWER: &str =
    r#"{"type":"object","required":["n"],"additionalProperties":false,"properties":{"n":{"type":"integer"}}}"#;

/// A project whose steps are done by programs.
pub(crate) struct Agents {
    pub(crate) orch: Orch,
    pub(crate) server: Server,
    bin: PathBuf,
}

impl Agents {
    /// One agent `a`, one step `ask`; `None` where the programs can't be installed.
    pub(crate) fn one(
        agent: &str,
        step: &str,
        answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static,
    ) -> Option<Self> {
        let steps = format!("  - {{ id: ask, agent: a, prompt: ask.md, output: answer{step} }}\n");
        Self::new(&format!("  a: {{ {agent} }}\n"), &steps, answer)
    }

    pub(crate) fn new(
        agents: &str,
        steps: &str,
        answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static,
    ) -> Option<Self> {
        let bin = programs()?;
        let orch = Orch::empty();
        orch.write("prompts/ask.md", "You answer in kind.\n").write("schemas/answer.schema.json", ANSWER);
        orch.write(
            "pipelines/main.yaml",
            &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n{agents}steps:\n{steps}"),
        );
        if agents.contains("claude-agent-acp") {
            folder_of_the_adapter(&orch.path().join("workspace"));
        }
        Some(Self::over(orch, bin, answer))
    }

    /// The same for a project that is there already.
    pub(crate) fn over(orch: Orch, bin: PathBuf, answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        folder_of_the_adapter(&orch.path().join("acp-home"));
        Self { orch, server: Server::start(answer), bin }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.orch.command(args);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.bin.display()));
        command.env("ANTHROPIC_BASE_URL", self.server.url()).env("ANTHROPIC_API_KEY", "key-of-the-test");
        command.env("OPENAI_BASE_URL", format!("{}/v1", self.server.url())).env("OPENAI_API_KEY", "key-of-the-test");
        command.env("CODEX_HOME", self.orch.path().join("codex-home")).env("LAB_KEY", "key-of-the-test");
        // Its own choice has another model judge what is asked.
        command.env("INITIAL_AGENT_MODE", "workspace-write");
        command.env("ACP_HOME", self.orch.path().join("acp-home")).env("CLAUDE_CODE_MAX_RETRIES", "1");
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> (Ran, Value) {
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--output", "json"];
        let ran = Ran::of(&self.command(&[&args, more].concat()).output().unwrap());
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        (ran, report)
    }

    /// The run's calls, with their replies.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let ran = Ran::of(&self.command(&["runs", "show", "--replies", "--output", "json"]).output().unwrap());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        report["calls"].as_array().unwrap().clone()
    }

    /// The requests for a model's words.
    pub(crate) fn asked(&self) -> Vec<Recorded> {
        let words = |path: &str| path.contains("/messages") || path.contains("/responses");
        self.server.requests().into_iter().filter(|request| words(&request.path)).collect()
    }
}

/// Each turn has a cost of its own, not that of its whole session: the scripted model counts alike for both.
#[track_caller]
pub(crate) fn assert_costs_of_turns(calls: &[Value]) {
    let costs: Vec<f64> = calls.iter().map(|call| call["cost_usd"].as_f64().unwrap()).collect();
    let [first, second] = costs[..] else { panic!("{calls:#?}") };
    assert!(first > 0.0 && second > 0.0 && second < 1.6 * first, "{costs:?}");
}

pub(crate) fn class(report: &Value) -> &str {
    report["steps"][0]["error"]["class"].as_str().unwrap_or("none")
}

/// Whether a tool was used already.
pub(crate) fn has_result(request: &Recorded) -> bool {
    let text = request.body.to_string();
    text.contains("\"tool_result\"") || text.contains("function_call_output")
}

fn offers(request: &Recorded, tool: &str) -> bool {
    request.body["tools"].as_array().is_some_and(|tools| tools.iter().any(|offered| offered["name"] == tool))
}

#[test]
fn claude_answers_with_the_structured_output_of_its_own() {
    let agents = Agents::one("cli: claude, model: claude-sonnet-4-5", "", |request| {
        if has_result(request) {
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
    let first = &agents.asked()[0];
    let tools: Vec<&Value> = first.body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(tools, [&json!("StructuredOutput")], "without a grant it has no tool but its answer");
    assert!(first.system().contains("You answer in kind."), "{}", first.system());
    assert!(!first.body.to_string().contains("Project words"), "no settings of the project leak in");
    assert!(!first.system().contains("persistent file-based memory"), "steps leave each other no notes");
}

#[test]
fn a_claude_that_never_gives_its_structured_output_is_asked_again_in_its_session() {
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
    let last = agents.asked().pop().unwrap();
    assert!(last.body["messages"].to_string().contains("I would rather not."), "the session remembers: {}", last.body);
}

#[test]
fn a_claude_without_its_key_is_an_auth_failure_at_once() {
    let refuse = |_: &Recorded| {
        Reply::status(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#)
    };
    let Some(agents) = Agents::one("cli: claude", "", refuse) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "auth"), "{report:#}");
    assert_eq!(report["steps"][0]["attempts"], 1, "{report:#}");
}

#[test]
fn a_denied_tool_is_told_and_the_reply_is_kept() {
    let agents = Agents::one("cli: claude, tools: [Write]", ", schema: text", |request| {
        if has_result(request) {
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
fn claude_stops_at_its_turns_and_at_the_time() {
    let again = |request: &Recorded| {
        let file = format!("f{}", request.body["messages"].as_array().map_or(0, Vec::len));
        Reply::anthropic_tool("Write", &json!({ "file_path": file, "content": "x" }))
    };
    let Some(agents) = Agents::one("cli: claude, tools: [Write], max_turns: 2", ", schema: text", again) else {
        return;
    };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "max_turns_reached"), "{report:#}");

    let slow = |_: &Recorded| Reply::anthropic_text("late").delay(Duration::from_mins(1));
    let step = ", schema: text, timeout: 4s, retry: { max: 1 }";
    let Some(agents) = Agents::one("cli: claude", step, slow) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "timeout"), "{report:#}");
}

#[test]
fn codex_writes_with_its_shell_and_what_changed_is_on_record() {
    let agents = Agents::one("cli: codex, model: scripted, tools: [shell]", "", |request| {
        if has_result(request) {
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
    let first = &agents.asked()[0];
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
fn a_codex_without_tools_has_no_shell_and_is_asked_again_in_its_session() {
    let agents = Agents::one("cli: codex, model: scripted", ", schema: answer", |request| {
        let again = request.body.to_string().contains("does not fit");
        Reply::response_text(if again { "{\"n\": 7}" } else { "{\"n\": \"seven\"}" })
    });
    let Some(agents) = agents else { return };
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 7 }));
    let asked = agents.asked();
    assert!(!offers(&asked[0], "exec_command"), "{}", asked[0].body["tools"]);
    let last = asked.last().unwrap().body.to_string();
    assert!(last.contains("seven") && last.matches("You answer in kind.").count() == 1, "{last}");
    let calls = agents.calls();
    assert_eq!(calls[0]["reply"]["id"], calls[1]["reply"]["id"], "{calls:#?}");
}

#[test]
fn a_codex_whose_model_refuses_or_is_away_says_so() {
    let refuse = |_: &Recorded| Reply::status(401, r#"{"error":{"message":"wrong key"}}"#);
    let Some(agents) = Agents::one("cli: codex, model: scripted", "", refuse) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, class(&report)), (1, "auth"), "{report:#}");

    let step = ", timeout: 4s, retry: { max: 1 }";
    let Some(agents) = Agents::one("cli: codex, model: scripted", step, |_| Reply::response_text("x")) else { return };
    let mut command = agents.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"]);
    let ran = Ran::of(&command.env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1").output().unwrap());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, class(&report)), (1, "timeout"), "{report:#}");
    assert!(ran.stderr.contains("OPENAI_BASE_URL"), "{}", ran.stderr);
}
