//! Claude Code, Codex and an agent behind ACP: the real programs, against scripted models.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agents::programs;
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
        Some(Self { orch, server: Server::start(answer), bin })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.orch.command(args);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.bin.display()));
        command.env("ANTHROPIC_BASE_URL", self.server.url()).env("ANTHROPIC_API_KEY", "key-of-the-test");
        command.env("OPENAI_BASE_URL", format!("{}/v1", self.server.url())).env("OPENAI_API_KEY", "key-of-the-test");
        command.env("CODEX_HOME", self.orch.path().join("codex-home")).env("LAB_KEY", "key-of-the-test");
        // Its own choice has another model judge what is asked.
        command.env("INITIAL_AGENT_MODE", "workspace-write");
        command
    }

    pub(crate) fn run(&self, more: &[&str]) -> (Ran, Value) {
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--output", "json"];
        let ran = Ran::of(&self.command(&[&args, more].concat()).output().unwrap());
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        (ran, report)
    }

    /// The run's calls, with their replies.
    fn calls(&self) -> Vec<Value> {
        let ran = Ran::of(&self.command(&["runs", "show", "--replies", "--output", "json"]).output().unwrap());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        report["calls"].as_array().unwrap().clone()
    }

    /// The requests for a model's words.
    fn asked(&self) -> Vec<Recorded> {
        let words = |path: &str| path.contains("/messages") || path.contains("/responses");
        self.server.requests().into_iter().filter(|request| words(&request.path)).collect()
    }
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
    assert_eq!(agents.calls()[0]["reply"]["text"], "I could not write it.");
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
    assert_eq!((ran.code, class(&report)), (1, "exhausted"), "{report:#}");

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
    let reply = &agents.calls()[0]["reply"];
    assert_eq!((&reply["work"]["changed"], &reply["usage"]["output"]), (&json!(["made.txt"]), &json!(6)), "{reply:#}");
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

#[test]
fn a_program_that_is_not_installed_says_how_to_get_it() {
    let Some(agents) = Agents::one("cli: claude", "", |_| Reply::anthropic_text("x")) else { return };
    let mut command = agents.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"]);
    let ran = Ran::of(&command.env("PATH", "/usr/bin:/bin").output().unwrap());
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, class(&report)), (1, "not_installed"), "{report:#}");
    assert!(ran.stderr.contains("npm install -g @anthropic-ai/claude-code"), "{}", ran.stderr);
}

#[test]
fn doctor_lists_the_programs_that_are_here_and_how_to_get_the_others() {
    let Some(agents) = Agents::one("cli: claude", "", |_| Reply::anthropic_text("x")) else { return };
    let here = Ran::of(&agents.command(&["doctor"]).output().unwrap());
    assert!(here.stdout.contains("(Claude Code)") && here.stdout.contains("codex-cli "), "{here:?}");
    let none = Ran::of(&agents.command(&["doctor"]).env("PATH", "/usr/bin:/bin").output().unwrap());
    assert!(none.stdout.contains("not installed; install it: `npm install -g @openai/codex`"), "{none:?}");
}

/// A program of this name, a script, that comes before the real one.
#[cfg(unix)]
fn impostor(orch: &Orch, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    orch.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    let path = orch.path().join("bin");
    std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", path.display(), std::env::var("PATH").unwrap())
}

#[cfg(unix)]
#[test]
fn each_way_in_which_a_command_line_agent_breaks_off_has_its_class() {
    let faults = [
        ("echo out of luck >&2; exit 1", "agent_error", "out of luck"),
        ("echo no event at all", "agent_error", "exit code 0"),
        ("echo '{\"type\":\"system\"}'; kill -9 $$", "agent_error", "exit code 137 (signal 9)"),
        ("head -c 50000000 /dev/zero", "output_too_large", ""),
        ("sleep 300 & echo $! > child; wait", "timeout", ""),
    ];
    for name in ["claude", "codex"] {
        for (script, wanted, words) in faults {
            let orch = Orch::empty();
            orch.write("prompts/ask.md", "You answer.\n");
            orch.write("pipelines/main.yaml", &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ cli: {name} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, schema: any, timeout: 3s, retry: {{ max: 1 }} }}\n"));
            let path = impostor(&orch, name, script);
            let mut command =
                orch.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"]);
            let ran = Ran::of(&command.env("PATH", path).output().unwrap());
            let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
            assert_eq!((ran.code, class(&report)), (1, wanted), "{name}: {script}: {report:#}");
            assert!(report["steps"][0]["error"]["message"].as_str().unwrap().contains(words), "{report:#}");
            if wanted == "timeout" {
                let stat = format!("/proc/{}/stat", orch.read("workspace/child").trim());
                assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "it survived");
            }
        }
    }
}

/// Processes that run with this folder in their command line or environment, but for the asking one.
#[cfg(target_os = "linux")]
fn running_below(folder: &std::path::Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let has = |path: &PathBuf| {
        let text = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
        let all = [text("cmdline"), text("environ")].concat();
        String::from_utf8_lossy(&all).contains(&folder)
    };
    all.filter(has).map(|path| path.display().to_string()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_orch_leaves_no_agent_behind_and_resume_goes_on() {
    for cli in ["claude", "codex, model: scripted"] {
        let slow = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let first = slow.clone();
        let agents = Agents::one(&format!("cli: {cli}"), ", schema: any", move |request| {
            let text = "{\"n\": 1}";
            let reply = if request.path.contains("/messages") {
                Reply::anthropic_text(text)
            } else {
                Reply::response_text(text)
            };
            let wait = first.load(std::sync::atomic::Ordering::SeqCst);
            reply.delay(Duration::from_secs(if wait { 30 } else { 0 }))
        });
        let Some(agents) = agents else { return };
        let mut command = agents.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t"]);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let began = std::time::Instant::now();
        let wait = |what: &str, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(began.elapsed() < Duration::from_secs(25), "waited in vain: {what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        wait("a request", &|| !agents.asked().is_empty());
        assert!(running_below(agents.orch.path()).len() > 1, "the agent runs");
        child.kill().unwrap();
        child.wait().unwrap();
        wait("the end of the agent", &|| running_below(agents.orch.path()).is_empty());
        slow.store(false, std::sync::atomic::Ordering::SeqCst);
        Ran::of(&agents.command(&["pipeline", "resume"]).output().unwrap()).exits(0);
        assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 1 }));
    }
}
