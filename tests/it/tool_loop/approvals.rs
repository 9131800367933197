//! Tools whose calls the user approves: the run waits with the exact call, and the model receives the decision.

use serde_json::{Value, json};

use super::{RUN, answer, calls, facts_of, last_results, scripted_server, tool_project};
use crate::kill::latest_run;
use crate::support::{Orch, Server};

/// A project whose model reads a file and writes two files in one turn.
fn project() -> (Server, Orch) {
    let turns = vec![
        calls([
            ("read", json!({ "path": "a.txt" })),
            ("write", json!({ "path": "b.txt", "content": "rm -rf \"/\"\n" })),
            ("write", json!({ "path": "c.txt", "content": "c" })),
        ]),
        answer(&json!("fine")),
    ];
    let server = scripted_server(turns);
    let orch = tool_project(&server, &json!({ "tools": ["read", "write"], "approve_tools": ["write"] }), &json!({}));
    orch.write("workspace/a.txt", "one\n");
    (server, orch)
}

/// The question for which the latest run waits.
fn question(orch: &Orch) -> String {
    let shown = orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout;
    let report: Value = serde_json::from_str(&shown).unwrap();
    report["steps"][0]["question"].as_str().unwrap().to_owned()
}

/// Decides about the question of the latest run, and resumes the run. Returns the exit code.
fn decide(orch: &Orch, decision: &[&str]) -> i32 {
    let (run, _) = latest_run(orch).unwrap();
    orch.run(&[&["runs"][..], decision, &[&run, "--resume"]].concat()).code
}

#[test]
fn a_call_waits_for_an_approval_that_shows_it_exactly() {
    let (server, orch) = project();
    orch.run(&RUN).exits(3);
    let expected = json!({ "path": "b.txt", "content": "rm -rf \"/\"\n" });
    assert_eq!(question(&orch), format!("Agent `a` calls the tool `write`:\n\n{expected:#}"));
    assert!(!orch.exists("workspace/b.txt"));
    // Without an answer, a resume waits again.
    orch.run(&["pipeline", "resume"]).exits(3);
    assert_eq!(decide(&orch, &["approve"]), 3, "the second call waits too");
    assert_eq!(orch.read("workspace/b.txt"), "rm -rf \"/\"\n");
    assert!(question(&orch).contains("c.txt") && !orch.exists("workspace/c.txt"));
    assert_eq!(decide(&orch, &["approve"]), 0);
    assert_eq!(orch.read("workspace/c.txt"), "c");
    let results = last_results(&server);
    assert_eq!((server.requests().len(), results.len()), (2, 3));
    let performed = facts_of(&orch, "call_started").into_iter().filter(|call| call["call"]["tool_call"].is_number());
    assert_eq!(performed.count(), 3, "each call ran once");
}

#[test]
fn only_a_call_that_can_run_needs_a_decision() {
    let write = |path: &str| ("write", json!({ "path": path, "content": "x" }));
    let refused = [
        write("docs/a.md"),
        write("src/../docs/a.md"),
        write(".github/workflows/a.yml"),
        write("result.json"),
        ("write", json!({ "path": "src/a.rs" })),
        ("fetch", json!({ "url": "https://example.com/" })),
        ("remove", json!({ "path": "src/a.rs" })),
    ];
    let count = refused.len();
    let turns = vec![calls(refused.into_iter().chain([write("src/a.rs")])), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let tools = ["write(src/**)", "write(.github/**)", "write(result.json)", "fetch(docs.rs)"];
    let orch = tool_project(&server, &json!({ "tools": tools, "approve_tools": ["write", "fetch"] }), &json!({}));
    orch.run(&RUN).exits(3);
    assert!(question(&orch).contains("src/a.rs"), "{}", question(&orch));
    assert_eq!(decide(&orch, &["approve"]), 0, "no other call needs a decision");
    assert_eq!(orch.read("workspace/src/a.rs"), "x");
    let results = last_results(&server);
    assert_eq!(results.len(), count + 1);
    let expected = [
        "`docs/a.md` is not allowed",
        "contains `..`",
        "is protected",
        "is kept for the artifact",
        "do not fit its schema",
        "this agent may read only `docs.rs`",
        "there is no tool `remove`",
    ];
    for (result, words) in results.iter().zip(expected) {
        assert!(result.contains(words), "{words}: {result}");
    }
    assert!(!orch.exists("workspace/docs") && !orch.exists("workspace/.github"));
}

#[test]
fn a_denied_call_is_not_performed_and_the_model_receives_the_note() {
    let (server, orch) = project();
    orch.run(&RUN).exits(3);
    assert_eq!(decide(&orch, &["reject", "--note", "this deletes everything"]), 3);
    assert_eq!(decide(&orch, &["approve"]), 0, "the run continues after a denial");
    assert!(!orch.exists("workspace/b.txt") && orch.exists("workspace/c.txt"));
    let results = last_results(&server);
    assert!(results[1].contains("denied: this deletes everything"), "{results:?}");
    assert!(results[0].contains("one") && !results[2].contains("denied"), "{results:?}");
}
