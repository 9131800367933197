//! The ways in which an agent program fails, for each kind of agent: class, exit code, and the row in docs/agents.md.
#![cfg(unix)]

use serde_json::{Value, json};

use crate::acp::{ADAPTER, write_codex_settings};
use crate::cli_agents::{Agents, class, has_tool_result};
use crate::support::agents::{claude_adapter, fake_program};
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput};

/// A fault of the program, the script that causes it, the class of the failure, and a part of its message.
const FAULTS: [(&str, &str, &str, &str); 6] = [
    ("ends with exit code 1", "echo out of luck >&2; exit 1", "agent_error", "out of luck"),
    ("ends without an answer", "true", "agent_error", "exit code 0"),
    ("is killed", "echo '{}'; kill -9 $$", "agent_error", "exit code 137 (signal 9)"),
    ("writes garbage", "printf '\\377\\000 no event'; exit 0", "agent_error", "exit code 0"),
    ("writes only a line of more than 32 MiB", "head -c 50000000 /dev/zero", "output_too_large", ""),
    ("hangs", "sleep 300 & echo $! > child; wait", "timeout", ""),
];

/// The kinds of agents, each with its settings and the program that the script replaces.
const KINDS: [(&str, &str, &str); 3] = [
    ("claude", "cli: claude", "claude"),
    ("codex", "cli: codex", "codex"),
    ("acp", "acp: { command: [codex-acp] }", "codex-acp"),
];

fn project(agent: &str, timeout: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    orch.write("pipelines/main.yaml", &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ {agent} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, schema: any, timeout: {timeout}, retry: {{ max: 1 }} }}\n"));
    orch.disable_sandboxes();
    orch
}

fn table_row(fault: &str, class: &str) -> String {
    format!("| {fault} | `{class}` |")
}

#[test]
fn each_fault_of_a_program_has_its_class_for_each_kind_of_agent() {
    let document = std::fs::read_to_string("docs/agents.md").unwrap();
    for (fault, script, wanted, words) in FAULTS {
        assert!(document.contains(&table_row(fault, wanted)), "docs/agents.md lacks {}", table_row(fault, wanted));
        // Only the program that hangs must reach its limit; a busy machine is slow to send the long line.
        let timeout = if wanted == "timeout" { "8s" } else { "5m" };
        for (kind, agent, program) in KINDS {
            let orch = project(agent, timeout);
            let path = fake_program(&orch, program, script);
            let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"];
            let ran = RunOutput::of(&orch.command(&args).env("PATH", path).output().unwrap());
            let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
            assert_eq!((ran.code, class(&report)), (1, wanted), "{kind} {fault}: {report:#}");
            let message = report["steps"][0]["error"]["message"].as_str().unwrap();
            assert!(message.contains(words), "{kind} {fault}: {message}");
            if wanted == "timeout" {
                let stat = format!("/proc/{}/stat", orch.read("workspace/child").trim());
                assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "it survived");
            }
        }
    }
}

#[test]
fn the_hint_for_a_missing_program_says_how_to_install_it() {
    let document = std::fs::read_to_string("docs/agents.md").unwrap();
    assert!(document.contains("If it is not installed, the run ends with exit code 2"));
    let hints = ["npm install -g @anthropic-ai/claude-code", "npm install -g @openai/codex", "install `codex-acp`"];
    for ((kind, agent, _), hint) in KINDS.into_iter().zip(hints) {
        let orch = project(agent, "1m");
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"];
        let ran = RunOutput::of(&orch.command(&args).env("PATH", "/usr/bin:/bin").output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{kind}: {ran:?}");
        assert!(ran.stderr.contains("is not installed") && ran.stderr.contains(hint), "{kind}: {}", ran.stderr);
    }
}

/// Runs the real programs, whose model calls a tool that they are not granted.
#[test]
fn a_denied_tool_fails_the_step_and_keeps_the_answer_for_each_kind_of_agent() {
    let document = std::fs::read_to_string("docs/agents.md").unwrap();
    assert!(document.contains(&table_row("is denied a tool", "permission_denied")));
    let answer = |request: &ReceivedRequest| {
        let is_claude = request.path.contains("/messages");
        match (is_claude, has_tool_result(request)) {
            (true, true) => Reply::anthropic_text("{\"n\": 1}"),
            (true, false) => {
                Reply::anthropic_tool("Bash", &json!({ "command": "echo x > /etc/orch-was-here", "description": "x" }))
            }
            (false, true) => Reply::response_text("{\"n\": 1}"),
            (false, false) => {
                let call = json!({ "cmd": "echo yes > made", "login": false, "sandbox_permissions": "require_escalated", "justification": "May I?" });
                Reply::response_call("exec_command", &call)
            }
        }
    };
    let agents = [
        "cli: claude, tools: [Bash(ls:*)]".to_owned(),
        "cli: codex, model: scripted, tools: [shell]".to_owned(),
        format!("{ADAPTER}, tools: [read]"),
        format!("{}, tools: [read]", claude_adapter()),
    ];
    for agent in agents {
        let Some(agents) = Agents::one(&agent, ", access: read", answer) else { return };
        write_codex_settings(&agents);
        let (ran, report) = agents.run(&[]);
        assert_eq!((ran.code, class(&report)), (1, "permission_denied"), "{agent}: {report:#} {:#?}", agents.calls());
        assert!(!agents.orch.exists("workspace/made") && !std::path::Path::new("/etc/orch-was-here").exists());
        // Codex behind ACP ends its turn without a text when a tool is denied.
        let said = &agents.calls()[0]["reply"]["content"];
        assert!(*said == "{\"n\": 1}" || (agent.contains("codex-acp") && said.is_string()), "{agent}: {said}");
    }
}

/// Runs the real programs, whose model never gives a value that fits the schema.
#[test]
fn a_missing_structured_output_is_asked_for_again_and_then_fails_the_step() {
    let document = std::fs::read_to_string("docs/agents.md").unwrap();
    assert!(document.contains(&table_row("answers without the value that the schema wants", "no_json")));
    let answer = |request: &ReceivedRequest| {
        let text = "I would rather not.";
        if request.path.contains("/messages") { Reply::anthropic_text(text) } else { Reply::response_text(text) }
    };
    let agents =
        ["cli: claude".to_owned(), "cli: codex, model: scripted".to_owned(), ADAPTER.to_owned(), claude_adapter()];
    for agent in agents {
        let Some(agents) = Agents::one(&agent, ", re_ask: 1", answer) else { return };
        write_codex_settings(&agents);
        let (ran, report) = agents.run(&[]);
        assert_eq!((ran.code, class(&report)), (1, "no_json"), "{agent}: {report:#}");
        assert_eq!(report["steps"][0]["calls"], 2, "{agent}: {report:#}");
    }
}
