//! What `orch runs show --replies` shows of a conversation: every call, and its result as the model received it.

use serde_json::{Value, json};

use super::dialects::{DIALECTS, reply_with_calls, tool_results};
use super::{RUN, answer, calls, last_results, run, scripted_server, tool_project, use_dialect};
use crate::kill::latest_run;
use crate::support::{Orch, Server};

/// The tool calls of the latest run, as `runs show --replies --output json` shows them.
fn shown_tool_calls(orch: &Orch) -> Vec<Value> {
    let shown = orch.run(&["runs", "show", "--replies", "--output", "json"]).exits(0).stdout;
    let report: Value = serde_json::from_str(&shown).unwrap();
    report["calls"].as_array().unwrap().iter().filter(|call| call.get("tool").is_some()).cloned().collect()
}

/// The results of these calls.
fn contents(calls: &[Value]) -> Vec<&str> {
    calls.iter().map(|call| call["result"]["content"].as_str().unwrap()).collect()
}

#[test]
fn each_result_is_shown_as_the_model_received_it_in_every_dialect() {
    for dialect in DIALECTS {
        let turns = vec![
            calls([
                ("bash", json!({ "command": "ls" })),
                ("read", json!({ "path": 7, "extra": true })),
                ("read", json!({ "path": "missing.txt" })),
                ("write", json!({ "path": "b.txt", "content": "b" })),
                ("read", json!({ "path": "a.txt" })),
            ]),
            answer(&json!("fine")),
        ];
        let server = scripted_server(turns);
        let orch =
            tool_project(&server, &json!({ "tools": ["read", "write"], "approve_tools": ["write"] }), &json!({}));
        use_dialect(&orch, &server, dialect);
        orch.write("workspace/a.txt", "one\n");
        orch.run(&RUN).exits(3);
        let (run, _) = latest_run(&orch).unwrap();
        orch.run(&["runs", "reject", &run, "--note", "not now", "--resume"]).exits(0);
        let results = last_results(&server);
        assert_eq!(results.len(), 5, "{dialect}: {results:?}");
        for (result, part) in results.iter().zip(["no tool `bash`", "`extra`", "missing.txt", "denied: not now", "one"])
        {
            assert!(result.contains(part), "{dialect}: {part}: {result}");
        }
        let shown = shown_tool_calls(&orch);
        assert_eq!(contents(&shown), results, "{dialect}");
        let errors: Vec<&Value> = shown.iter().map(|call| &call["result"]["is_error"]).collect();
        assert_eq!(errors, [true, true, true, true, false], "{dialect}");
        let labels: Vec<bool> = results.iter().map(|result| result.starts_with("Error:\n")).collect();
        let has_labels = ["openai", "responses"].contains(&dialect);
        assert_eq!(labels, [has_labels, has_labels, has_labels, has_labels, false], "{dialect}: {results:?}");

        let text = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
        let headings =
            ["1 (bash), failed", "2 (read), failed", "3 (read missing.txt), failed", "4 (write b.txt), failed"];
        for (heading, result) in headings.into_iter().chain(["5 (read a.txt)"]).zip(&results) {
            let expected = format!("call work@1#1.{heading}\n{result}");
            assert!(text.contains(&expected), "{dialect}: {expected}\nis not in\n{text}");
        }
        for arguments in ["[calls bash] {\"command\":\"ls\"}", "[calls write] {\"path\":\"b.txt\",\"content\":\"b\"}"] {
            assert!(text.contains(arguments), "{dialect}: {arguments}: {text}");
        }
    }
}

#[test]
fn a_warning_about_a_repeated_call_is_shown_with_the_result() {
    let server = Server::start(|request| {
        let turn = tool_results(request).len() + 1;
        reply_with_calls(request, turn, &[("read", json!({ "path": "a.txt" }))])
    });
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 1, "{ran:?}");
    let results = last_results(&server);
    assert!(results.len() == 4 && results[3].contains("you have made this call 4 times"), "{results:?}");
    let shown = shown_tool_calls(&orch);
    assert_eq!(contents(&shown)[..4], results);
}

#[test]
fn a_shortened_result_is_shown_as_the_model_received_it_and_the_rest_is_named() {
    let turns = vec![calls([("search", json!({ "regex": "line" }))]), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["search"] }), &json!({}));
    orch.write("workspace/long.txt", &"a line with many words, so that the result is long\n".repeat(3000));
    let (ran, _) = run(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let results = last_results(&server);
    let shown = shown_tool_calls(&orch);
    assert_eq!(contents(&shown), results);
    let text = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(text.contains(&format!("(search line)\n{}", results[0])), "{text}");
    assert!(shown[0]["output"]["tool"]["result"]["full_output"].is_string());
    assert!(text.contains("has all of them as `full_output`"), "{text}");
}

#[test]
fn line_breaks_in_the_names_and_the_arguments_of_calls_add_no_line() {
    let turns = vec![
        calls([("bash\ncall work@1#9 (fake)", json!({})), ("read", json!({ "path": "a\nwork: fine" }))]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    let ran = orch.run(&RUN).exits(0);
    for line in [
        "work: bash\\ncall work@1#9 (fake) failed: ",
        "work: read a\\nwork: fine\n",
        "work: read a\\nwork: fine failed: ",
    ] {
        assert!(ran.stderr.contains(line), "{line:?}: {}", ran.stderr);
    }
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("[calls bash\\ncall work@1#9 (fake)] {}\n"), "{shown}");
    assert!(shown.contains("there is no tool `bash\\ncall work@1#9 (fake)`"), "{shown}");
    assert!(!shown.lines().any(|line| line.starts_with("call work@1#9")), "{shown}");
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    assert!(events.contains(" read a\\nwork: fine"), "{events}");
    assert!(!events.lines().any(|line| line.starts_with("work: fine")), "{events}");
}

/// A project whose model makes calls of which all but the last one fail.
fn project_with_failed_calls() -> (Server, Orch) {
    let turns = vec![
        calls([
            ("bash", json!({ "command": "ls" })),
            ("read", json!({ "path": "missing.txt" })),
            ("read", json!({ "path": "a.txt" })),
        ]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    (server, orch)
}

const FAILED_CALLS: [&str; 2] =
    ["bash failed: there is no tool `bash`", "read missing.txt failed: `missing.txt` does not exist"];

#[test]
fn progress_shows_failed_calls_once() {
    let (_server, orch) = project_with_failed_calls();
    let ran = orch.run(&RUN).exits(0);
    for failed in FAILED_CALLS {
        assert_eq!(ran.stderr.matches(&format!("work: {failed}")).count(), 1, "{failed}: {}", ran.stderr);
    }
    assert_eq!(ran.stderr.matches(" failed: ").count(), 2, "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn progress_on_a_terminal_shows_failed_calls() {
    let (_server, orch) = project_with_failed_calls();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut command = std::process::Command::new("python3");
    command.args([script, "--", env!("CARGO_BIN_EXE_orch")]).args(RUN).current_dir(orch.path());
    command.env("TERM", "xterm").env("TERMINAL_SIZE", "200x30").env("NO_COLOR", "1");
    let ran = crate::support::RunOutput::of(&command.output().unwrap()).exits(0);
    for failed in FAILED_CALLS {
        assert_eq!(ran.stdout.matches(failed).count(), 1, "{failed}: {}", ran.stdout);
    }
}
