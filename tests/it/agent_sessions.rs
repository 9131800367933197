//! Agent programs that are interrupted during a turn: no process stays behind, and a resume continues in the program's
//! own session.
#![cfg(target_os = "linux")]

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acp::{ADAPTER, write_codex_settings};
use crate::cli_agents::{Agents, class, has_tool_result};
use crate::support::agents::claude_adapter;
use crate::support::{ReceivedRequest, Reply, RunOutput};

const SLOW: Duration = Duration::from_mins(1);

/// The agents that the tests interrupt, each with the tool that it uses before.
fn programs() -> [(String, &'static str); 4] {
    [
        ("cli: claude, tools: [Write]".to_owned(), "Write"),
        ("cli: codex, model: scripted, tools: [shell]".to_owned(), "exec_command"),
        (format!("{ADAPTER}, tools: [execute]"), "exec_command"),
        (format!("{}, tools: [execute]", claude_adapter()), "Bash"),
    ]
}

/// A model that uses a tool once, and then delays its replies while `slow` is set.
fn slow_model(tool: &'static str, slow: &Arc<AtomicBool>) -> impl Fn(&ReceivedRequest) -> Reply + use<> {
    let slow = slow.clone();
    move |request| {
        let is_claude = request.path.contains("/messages");
        if !has_tool_result(request) {
            return match tool {
                "Write" => Reply::anthropic_tool("Write", &json!({ "file_path": "made.txt", "content": "1" })),
                "Bash" => Reply::anthropic_tool("Bash", &json!({ "command": "echo 1 > made.txt", "description": "x" })),
                _ => Reply::response_call("exec_command", &json!({ "cmd": "echo 1 > made.txt", "login": false })),
            };
        }
        let text = "{\"n\": 1}";
        let reply = if is_claude { Reply::anthropic_text(text) } else { Reply::response_text(text) };
        reply.delay(if slow.load(Ordering::SeqCst) { SLOW } else { Duration::ZERO })
    }
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(2), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Processes with this folder in their command line or environment, without the process `but`.
fn running_below(folder: &std::path::Path, but: u32) -> Vec<String> {
    let folder = folder.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let pids = all.filter(|path| {
        let text = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
        // A supervisor ends by itself when its program has ended.
        let is_supervisor = String::from_utf8_lossy(&text("cmdline")).contains("__supervise");
        !is_supervisor && String::from_utf8_lossy(&[text("cmdline"), text("environ")].concat()).contains(&folder)
    });
    let pids = pids.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    pids.filter(|pid| pid.parse() != Ok(but)).collect()
}

/// Starts a run and waits until its program has used its tool and waits for its model.
fn start_until_tool_use(agents: &Agents) -> Child {
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"];
    let mut command = agents.command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the second request", || agents.model_requests().iter().any(has_tool_result));
    // Programs save their session to files a moment after they sent the request.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!running_below(agents.orch.path(), child.id()).is_empty(), "the program runs");
    child
}

/// Kills orch while its program waits for its model, and waits until the program has ended, too.
fn kill_during_tool_use(agents: &Agents) {
    let mut child = start_until_tool_use(agents);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the program", || running_below(agents.orch.path(), 0).is_empty());
}

/// Resumes the run, which completes with the answer of the model.
#[track_caller]
fn resume_to_the_answer(agents: &Agents, agent: &str) {
    RunOutput::of(&agents.command(&["pipeline", "resume"]).output().unwrap()).exits(0);
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 1 }), "{agent}");
}

/// Whether the request contains what the program did before it was interrupted.
fn remembers(request: &ReceivedRequest) -> bool {
    let text = request.body.to_string();
    text.contains("You were cut off") && text.contains("made.txt") && has_tool_result(request)
}

#[test]
fn a_killed_orch_leaves_no_program_behind_and_a_resume_continues_its_session() {
    for (agent, tool) in programs() {
        let slow = Arc::new(AtomicBool::new(true));
        let Some(agents) = Agents::one(&agent, ", schema: any", slow_model(tool, &slow)) else { return };
        write_codex_settings(&agents);
        kill_during_tool_use(&agents);
        slow.store(false, Ordering::SeqCst);
        let before = agents.model_requests().len();
        resume_to_the_answer(&agents, &agent);
        let after: Vec<ReceivedRequest> = agents.model_requests().split_off(before);
        assert!(after.iter().any(remembers), "{agent}: {:#?}", after.iter().map(|r| &r.body).collect::<Vec<_>>());
    }
}

#[test]
fn a_turn_whose_session_is_missing_begins_anew() {
    for (agent, tool) in programs() {
        let slow = Arc::new(AtomicBool::new(true));
        let Some(agents) = Agents::one(&agent, ", schema: any", slow_model(tool, &slow)) else { return };
        write_codex_settings(&agents);
        kill_during_tool_use(&agents);
        slow.store(false, Ordering::SeqCst);
        let homes = agents.orch.path().join(".orch/agents");
        let run = std::fs::read_dir(&homes).unwrap().next().unwrap().unwrap().path();
        for home in ["claude", "codex"].map(|name| run.join(name)) {
            drop(std::fs::remove_dir_all(home));
        }
        for home in ["acp-home", "codex-home/sessions"].map(|name| agents.orch.path().join(name)) {
            drop(std::fs::remove_dir_all(home));
        }
        crate::support::agents::create_adapter_folder(&agents.orch.path().join("acp-home"));
        resume_to_the_answer(&agents, &agent);
    }
}

#[test]
fn a_killed_program_fails_its_step_and_a_resume_asks_it_again() {
    for (agent, tool) in programs() {
        let slow = Arc::new(AtomicBool::new(true));
        let Some(agents) = Agents::one(&agent, ", schema: any", slow_model(tool, &slow)) else { return };
        write_codex_settings(&agents);
        let child = start_until_tool_use(&agents);
        let pids = running_below(agents.orch.path(), child.id());
        // A process of the list may have ended by itself since.
        let kill = |pid: &String| std::process::Command::new("kill").args(["-s", "KILL", pid]).status().unwrap();
        let killed = pids.iter().filter(|pid| kill(pid).success()).count();
        assert!(killed > 0, "{agent}: no process to kill");
        let ran = RunOutput::of(&child.wait_with_output().unwrap());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        assert_eq!((ran.code, class(&report)), (1, "agent_error"), "{agent}: {report:#}");
        let message = report["steps"][0]["error"]["message"].as_str().unwrap();
        assert!(message.contains("(signal 9)"), "{agent}: {message}");
        let work = &agents.calls()[0]["agent_activity"];
        assert!(work["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{agent}: {work:#}");
        assert_eq!(work["changed"], json!(["made.txt"]), "{agent}: what it had done is on record");
        wait_until("the end of the program", || running_below(agents.orch.path(), 0).is_empty());
        slow.store(false, Ordering::SeqCst);
        resume_to_the_answer(&agents, &agent);
    }
}

#[test]
fn a_hanging_program_is_ended_with_every_process_that_it_started() {
    for (agent, tool) in programs() {
        let slow = Arc::new(AtomicBool::new(true));
        let step = ", schema: any, timeout: 10s, retry: { max: 1 }";
        let Some(agents) = Agents::one(&agent, step, slow_model(tool, &slow)) else { return };
        write_codex_settings(&agents);
        let (ran, report) = agents.run(&[]);
        assert_eq!((ran.code, class(&report)), (1, "timeout"), "{agent}: {report:#}");
        wait_until("the end of the program", || running_below(agents.orch.path(), 0).is_empty());
    }
}
