//! Calls that a server did not perform for certain, and calls of which this is not known.

use serde_json::json;

use super::calls::calling_project;
use super::scripted::{CallAnswer, McpServer, Protocol, project, tool};
use crate::tool_loop::{RUN, answer, calls, last_results};

#[test]
fn only_a_refusal_of_the_credentials_lets_a_resume_make_the_call_again() {
    for (status, class, count) in [(401, "auth", 2), (403, "auth", 2), (429, "rate_limited", 1), (409, "", 1)] {
        let server =
            McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), move |_| CallAnswer::Status(status));
        let orch = calling_project(&json!({}), &[], &json!({ "docs": server.settings("write") }));
        let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml"]).exits(1).says(class);
        let is_unknown = ran.stderr.contains("it is not known whether the call took effect");
        assert_eq!(is_unknown, count == 1, "{status}: {ran:?}");
        orch.run(&["pipeline", "resume"]).exits(1);
        assert_eq!(server.calls().len(), count, "{status}");
    }
}

#[test]
fn a_model_learns_that_a_call_was_not_sent_because_the_server_has_other_tools() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/changing.py");
    let server = json!({ "command": ["python3", script], "sandbox": { "enabled": false } });
    let find = || calls([("docs__find", json!({ "text": "a" }))]);
    let turns = vec![find(), find(), answer(&json!("fine"))];
    let agent = json!({ "tools": ["docs.find"] });
    let (model, orch) = project(turns, &agent, &json!({ "access": "write" }), &json!({ "docs": server }));
    orch.run(&RUN).exits(0);
    let results = last_results(&model);
    assert!(results[0].contains("it is not known"), "{results:?}");
    assert!(
        results[1].ends_with("lists other tools than before in this run; orch did not send the call"),
        "{results:?}"
    );
}
