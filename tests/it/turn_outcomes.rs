//! Outcomes of turns: only an agent program's own end-of-turn event completes its turn, and orch understands the
//! failures that the program reports.
#![cfg(unix)]

use std::process::Command;

use serde_json::{Value, json};

use crate::cli_agents::class;
use crate::support::agents::fake_program;
use crate::support::{Orch, RunOutput};

const RUN: [&str; 7] = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--output", "json"];

/// A project whose one agent is a script in place of `claude` or `codex`, which writes these events.
pub(crate) fn project(kind: &str, events: &[Value], more: &str) -> (Orch, String) {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    orch.write("pipelines/main.yaml", &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ cli: {kind} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, schema: any, re_ask: 0, timeout: 20s, retry: {{ max: 1 }} }}\n"));
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    orch.write("events", &lines);
    let script = format!("cat > /dev/null; cat {}/events\n{more}", orch.path().display());
    let path = fake_program(&orch, kind, &script);
    orch.disable_unsupported_sandboxes();
    (orch, path)
}

fn run_with_report(command: &mut Command) -> (RunOutput, Value) {
    let ran = RunOutput::of(&command.output().unwrap());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

fn claude(result: Value) -> Vec<Value> {
    let mut last = json!({
        "type": "result", "subtype": "success", "is_error": false, "result": "{\"n\": 1}", "session_id": "s-1",
        "usage": { "input_tokens": 70, "output_tokens": 8 }, "total_cost_usd": 0.25
    });
    last.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
    vec![json!({ "type": "system", "subtype": "init", "session_id": "s-1" }), last]
}

fn codex(last: Option<Value>) -> Vec<Value> {
    let said =
        json!({ "type": "item.completed", "item": { "id": "i", "type": "agent_message", "text": "{\"n\": 1}" } });
    let mut events = vec![json!({ "type": "thread.started", "thread_id": "t-1" }), said];
    events.extend(last);
    events
}

fn error(report: &Value, key: &str) -> String {
    report["steps"][0]["error"][key].as_str().unwrap_or_default().to_owned()
}

#[test]
fn codex_gives_no_answer_if_it_exits_before_its_turn_is_complete() {
    for more in ["", "exit 1"] {
        let (orch, path) = project("codex", &codex(None), more);
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!((ran.code, class(&report)), (1, "agent_error"), "{report:#}");
        let message = error(&report, "message");
        assert!(message.contains("`turn.completed`") && message.ends_with("its last text: {\"n\": 1}"), "{message}");
    }
    // After the end of the turn, neither an exit code nor another event invalidates the answer.
    let done = json!({ "type": "turn.completed", "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let more = "echo '{\"type\":\"error\",\"message\":\"late\"}'; exit 1";
    let (orch, path) = project("codex", &codex(Some(done)), more);
    run_with_report(orch.command(&RUN).env("PATH", path)).0.exits(0);
}

#[test]
fn an_unknown_stop_reason_of_claude_is_shown_and_its_reply_is_rejected() {
    for reason in [json!("pause_turn"), json!("Weird"), json!(3)] {
        let (orch, path) = project("claude", &claude(json!({ "stop_reason": reason })), "");
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!((ran.code, class(&report)), (1, "unknown_stop"), "{report:#}");
        let word = reason.as_str().map_or_else(|| reason.to_string(), str::to_lowercase);
        let message = error(&report, "message");
        assert!(message.contains(&format!("`{word}`")) && message.contains("{\"n\": 1}"), "{message}");
        // The reply costs tokens nevertheless.
        assert_eq!(report["usage"]["input"], 70, "{report:#}");
    }
    for (reason, code) in [(json!("END_TURN"), 0), (Value::Null, 0), (json!("max_tokens"), 1)] {
        let (orch, path) = project("claude", &claude(json!({ "stop_reason": reason })), "");
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!(ran.code, code, "{reason}: {report:#}");
    }
}

#[test]
fn the_hint_for_an_account_without_credit_says_so_and_asks_for_no_key() {
    let words = "Credit balance is too low";
    let said = json!({ "type": "assistant", "error": "billing_error", "message": { "content": [] } });
    let result = |more: Value| claude(json!({ "is_error": true, "result": words })).into_iter().chain([more]).collect();
    let quota = "unexpected status 429 Too Many Requests: You exceeded your current quota, please check your plan";
    let cases: [(&str, Vec<Value>); 5] = [
        ("claude", {
            let mut all = claude(json!({ "is_error": true, "result": words }));
            all.insert(1, said.clone());
            all
        }),
        ("claude", result(json!({ "type": "other" }))),
        ("claude", {
            let mut all = claude(json!({ "is_error": true, "result": "API Error", "api_error_status": 402 }));
            all.insert(1, said);
            all
        }),
        ("codex", vec![json!({ "type": "turn.failed", "error": { "message": quota } })]),
        (
            "codex",
            vec![
                json!({ "type": "error", "message": "{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"insufficient_quota\"},\"status\":429}" }),
            ],
        ),
    ];
    for (kind, events) in cases {
        let (orch, path) = project(kind, &events, "exit 1");
        let mut command = orch.command(&RUN);
        let (_, report) = run_with_report(
            command.env("PATH", path).env("ANTHROPIC_API_KEY", "key-of-a-test").env("OPENAI_API_KEY", "key-of-a-test"),
        );
        assert_eq!(class(&report), "bad_request", "{events:?}: {report:#}");
        let hint = error(&report, "hint");
        assert!(hint.contains("no credit left") && !hint.contains("API_KEY"), "{hint}");
    }
}

#[test]
fn the_hint_for_a_failed_login_says_whether_the_key_is_missing_or_refused() {
    for (set, hint) in [
        (None, "set ANTHROPIC_API_KEY or "),
        (Some("key-of-a-test"), "check the key in ANTHROPIC_API_KEY: the provider"),
    ] {
        let said = json!({ "type": "assistant", "error": "authentication_failed", "message": { "content": [] } });
        let mut events = claude(json!({ "is_error": true, "result": "Invalid API key" }));
        events.insert(1, said);
        let (orch, path) = project("claude", &events, "exit 1");
        let mut command = orch.command(&RUN);
        command.env("PATH", path).envs(set.map(|value| ("ANTHROPIC_API_KEY", value)));
        let (_, report) = run_with_report(&mut command);
        assert_eq!(class(&report), "auth", "{report:#}");
        assert!(error(&report, "hint").contains(hint), "{report:#}");
    }
}

#[test]
fn a_program_that_stays_after_its_answer_is_ended_and_its_answer_and_usage_are_kept() {
    let done = json!({ "type": "turn.completed", "usage": { "input_tokens": 70, "output_tokens": 8 } });
    for (kind, events) in [("claude", claude(json!({}))), ("codex", codex(Some(done)))] {
        let stays = "echo $$ > ../pid; trap '' TERM; while :; do sleep 1; done";
        let (orch, path) = project(kind, &events, stays);
        // The script writes a file outside of the workspace.
        orch.disable_sandboxes();
        // orch ends the program because of its answer, although the timeout expires earlier.
        orch.edit("pipelines/main.yaml", "timeout: 20s", "timeout: 6s");
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!(ran.code, 0, "{kind}: {report:#}");
        assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(70), &json!(8)), "{kind}");
        assert_eq!(report["cost_usd"], if kind == "claude" { json!(0.25) } else { Value::Null }, "{kind}");
        let stat = format!("/proc/{}/stat", orch.read("pid").trim());
        assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "{kind} survived");
    }
}

#[test]
fn events_after_the_end_of_a_turn_are_ignored() {
    let text =
        |text: &str| json!({ "type": "item.completed", "item": { "id": "j", "type": "agent_message", "text": text } });
    let used = json!({ "input_tokens": 70, "output_tokens": 8 });
    let completed = codex(Some(json!({ "type": "turn.completed", "usage": used })));
    let failed = json!({ "type": "turn.failed", "error": { "message": "late" } });
    let more = claude(json!({ "result": "{\"n\": 2}", "usage": { "input_tokens": 1, "output_tokens": 1 } })).remove(1);
    let late = claude(json!({ "is_error": true, "result": "late" })).remove(1);
    for (kind, mut events, after) in [
        ("codex", completed.clone(), text("{\"n\": 2}")),
        ("codex", completed.clone(), failed),
        ("codex", completed, json!({ "type": "turn.completed", "usage": null })),
        ("claude", claude(json!({})), more),
        ("claude", claude(json!({})), late),
    ] {
        events.push(after.clone());
        let (orch, path) = project(kind, &events, "");
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!((ran.code, &report["result"]), (0, &json!({ "n": 1 })), "{after}: {report:#}");
        assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(70), &json!(8)), "{after}");
    }
}

#[test]
fn a_failed_turn_of_codex_stays_failed_and_orch_does_not_wait_for_the_program() {
    let mut events = codex(Some(json!({ "type": "turn.failed", "error": { "message": "no such model" } })));
    events.push(json!({ "type": "turn.completed", "usage": { "input_tokens": 1, "output_tokens": 1 } }));
    let (orch, path) = project("codex", &events, "exec sleep 300");
    let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
    assert_eq!((ran.code, class(&report)), (1, "agent_error"), "{report:#}");
    assert!(error(&report, "message").contains("no such model"), "{report:#}");
    // A failure without a message is a failure, too.
    let (orch, path) = project("codex", &codex(Some(json!({ "type": "turn.failed" }))), "");
    let (_, report) = self::run_with_report(orch.command(&RUN).env("PATH", path));
    assert!(error(&report, "message").contains("`turn.failed`"), "{report:#}");
}

#[test]
fn an_end_of_turn_event_without_a_line_end_counts_when_the_program_stays() {
    let done = json!({ "type": "turn.completed", "usage": { "input_tokens": 70, "output_tokens": 8 } });
    for (kind, mut events) in [("claude", claude(json!({}))), ("codex", codex(Some(done)))] {
        let last = events.pop().unwrap();
        let (orch, path) = project(kind, &events, "printf %s \"$(cat ../last)\"; exec sleep 300");
        orch.write("last", &last.to_string());
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        assert_eq!(ran.code, 0, "{kind}: {report:#}");
        assert_eq!((&report["usage"]["input"], &report["usage"]["output"]), (&json!(70), &json!(8)), "{kind}");
    }
}

#[test]
fn the_message_of_a_timeout_quotes_the_last_text_of_the_agent() {
    let said =
        json!({ "type": "assistant", "message": { "content": [{ "type": "text", "text": "I look for the cause." }] } });
    let start = json!({ "type": "system", "subtype": "init", "session_id": "s-1" });
    let (orch, path) = project("claude", &[start, said], "exec sleep 300");
    orch.edit("pipelines/main.yaml", "timeout: 20s", "timeout: 6s");
    let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
    assert_eq!((ran.code, class(&report)), (1, "timeout"), "{report:#}");
    let message = error(&report, "message");
    assert!(message.ends_with("; its last text: I look for the cause.") && !message.contains("init"), "{message}");
}

#[test]
fn a_call_of_claude_to_a_tool_without_a_grant_fails_the_step() {
    let told = |content: Value| json!({ "type": "user", "message": { "content": [{ "type": "tool_result", "tool_use_id": "t", "is_error": true, "content": content }] } });
    let words = "Error: No such tool available: Bash";
    for (content, denied) in [
        (json!(format!("<tool_use_error>{words}</tool_use_error>")), true),
        (json!([{ "type": "text", "text": words }]), true),
        (json!("No such tool available: Bash. Others are: Read"), true),
        // The output of a failed command may quote the error.
        (json!(format!("Exit code 1\n12:00 <tool_use_error>{words}</tool_use_error>")), false),
        (json!(format!("<tool_use_error>The file has `{words}` twice</tool_use_error>")), false),
    ] {
        let mut events = claude(json!({}));
        events.insert(1, told(content.clone()));
        let (orch, path) = project("claude", &events, "");
        let (ran, report) = run_with_report(orch.command(&RUN).env("PATH", path));
        let expected = if denied { (1, "permission_denied") } else { (0, "none") };
        assert_eq!((ran.code, class(&report)), expected, "{content}: {report:#}");
        let message = error(&report, "message");
        assert!(!denied || message.contains("Bash (it was not granted)"), "{message}");
    }
}

#[test]
fn an_agent_program_sends_no_key_over_plain_http_to_another_machine() {
    let done = json!({ "type": "turn.completed", "usage": { "input_tokens": 1, "output_tokens": 1 } });
    for (kind, provider, events, key, address) in [
        ("claude", "anthropic", claude(json!({})), "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"),
        ("codex", "openai", codex(Some(done)), "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ] {
        let (orch, path) = project(kind, &events, "touch ../started");
        // The script writes a file outside of the workspace.
        orch.disable_sandboxes();
        let run = |url: &str, key_set: bool| {
            drop(std::fs::remove_file(orch.path().join("started")));
            let mut command = orch.command(&RUN);
            command.env("PATH", &path).env(address, url).envs(key_set.then_some((key, "key-of-a-test")));
            let (ran, report) = run_with_report(&mut command);
            (ran.code, orch.exists("started"), report)
        };
        let (code, started, report) = run("http://box.example/v1", true);
        assert_eq!((code, started, class(&report)), (1, false, "bad_request"), "{report:#}");
        assert!(error(&report, "message").contains(&format!("others could read the key in {key}")), "{report:#}");
        let hint = error(&report, "hint");
        assert!(hint.contains(address) && hint.contains(&format!("`providers.{provider}`")), "{hint}");
        for (url, key_set) in
            [("http://box.example/v1", false), ("http://127.0.0.1:9/v1", true), ("https://box.example/v1", true)]
        {
            let (code, started, report) = run(url, key_set);
            assert_eq!((code, started), (0, true), "{url}: {report:#}");
        }
    }
}

/// The event with which Codex reports a command that it ran.
fn command_event(code: Value, output: &str) -> Value {
    let status = if code == 0 { "completed" } else { "failed" };
    json!({ "type": "item.completed", "item": { "id": "c", "type": "command_execution", "command": "sh", "exit_code": code, "status": status, "aggregated_output": format!("{output}\n") } })
}

/// Runs a turn of Codex with this command event.
fn run_with_command_event(command: Value) -> (RunOutput, Value) {
    let done = json!({ "type": "turn.completed", "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let mut events = codex(Some(done));
    events.insert(1, command);
    let (orch, path) = project("codex", &events, "");
    run_with_report(orch.command(&RUN).env("PATH", path))
}

#[test]
fn a_write_that_the_sandbox_of_codex_refuses_fails_the_step() {
    let plain = "sh: 1: /etc/x: Read-only file system";
    for (code, output) in [
        (json!(0), plain),
        (json!(1), plain),
        (json!(1), "Error: Read-only file system (os error 30)"),
        (json!(2), "open /etc/x: read-only file system"),
        (json!(1), "java.io.FileNotFoundException: /etc/x (Read-only file system)"),
        (json!(30), "Can't write: Read-only file system at -e line 1."),
        // Without an exit code, it is unknown whether the command succeeded.
        (Value::Null, "Error: Read-only file system (os error 30)"),
    ] {
        let (ran, report) = run_with_command_event(command_event(code, output));
        assert_eq!((ran.code, class(&report)), (1, "permission_denied"), "{output}: {report:#}");
        assert!(error(&report, "message").contains(output), "{report:#}");
        let hint = error(&report, "hint");
        assert!(hint.contains("only in the workspace") && hint.contains("only comes from a log"), "{hint}");
    }
}

#[test]
fn a_log_that_a_successful_command_prints_does_not_fail_the_step() {
    for output in [
        "12:00 worker: Error: Read-only file system (os error 30)",
        "FAILED open /etc/x: read-only file system (3 tries)",
        "fix: Read-only file system at boot, see line 12",
    ] {
        let (ran, report) = run_with_command_event(command_event(json!(0), output));
        assert_eq!(ran.code, 0, "{output}: {report:#}");
    }
}
