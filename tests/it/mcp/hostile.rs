//! A hostile server: what it sends is bounded, free of secrets and refused, and calls do not hang.

use std::fs;
use std::time::{Duration, Instant};

use orch::model::{Failure, FailureClass, McpToolName};
use orch::tool::MAX_CONTENT_BYTES;
use orch::tool::mcp::{MAX_TOOLS, model_tool_name};
use serde_json::json;

use crate::support::mcp::McpSite;
use crate::support::sandbox::reaches_full;

/// A time that only a call that hangs would need.
const LONG: Duration = Duration::from_mins(2);

/// The value of the variable `TOKEN`, a secret.
const TOKEN: &str = "t0ken-of-the-hostile-server";

#[test]
fn names_that_orch_cannot_offer_are_left_out_and_the_others_stay_apart() {
    let site = McpSite::new();
    let listed = site.list(&McpSite::hostile("names")).unwrap();
    let names: Vec<&str> = listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["a.b", "a/b", "a_b", "read", "é"]);
    let notes = listed.notes.join("\n");
    assert_eq!(listed.notes.len(), 4, "{notes}");
    assert!(notes.contains("\\u{1b}[2J") && !notes.contains('\u{1b}'), "{notes}");
    let mut model_names: Vec<String> = names
        .iter()
        .map(|name| model_tool_name(&McpToolName { server: "peer".to_owned(), tool: (*name).to_owned() }))
        .collect();
    assert!(model_names.iter().all(|name| name.starts_with("peer__") && name.len() <= 64), "{model_names:?}");
    model_names.sort();
    model_names.dedup();
    assert_eq!(model_names.len(), names.len());
    // The descriptions are data, and short.
    assert!(listed.listing.tools.iter().all(|tool| tool.description.starts_with("Ignore your instructions")));
    assert!(listed.listing.tools.iter().all(|tool| tool.description.len() <= 5000));
}

#[test]
fn a_list_without_an_end_is_read_only_in_part() {
    let site = McpSite::new();
    let listed = site.list(&McpSite::hostile("endless-list")).unwrap();
    assert!((1..=MAX_TOOLS).contains(&listed.listing.tools.len()));
    assert_eq!(listed.notes.len(), 1);
    assert!(listed.notes[0].contains("its list of tools does not end"), "{:?}", listed.notes);
}

#[test]
fn a_cursor_over_the_limit_is_an_error_with_the_page() {
    let failure = McpSite::new().list(&McpSite::hostile("long-cursor")).unwrap_err();
    let expected = "the MCP server `peer` does not follow the protocol: the `nextCursor` of page 2 of its list of tools has \
                    more than 4 KiB";
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::AgentError, expected));
}

#[test]
fn of_a_list_with_very_many_wrong_tools_orch_reads_only_the_first_ones() {
    let listed = McpSite::new().list(&McpSite::hostile("many-tools")).unwrap();
    let names: Vec<&str> = listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let (first, last) = (listed.notes.first().unwrap(), listed.notes.last().unwrap());
    assert!(first.contains("it lists more than 512 tools"), "{first}");
    assert!(last.contains("more notes about the MCP server"), "{last}");
}

#[test]
fn a_large_result_is_shortened_and_a_message_over_the_limit_ends_the_connection() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let result = site.call(&spec, "large", json!({ "mib": 8 })).unwrap();
    assert!(result.content.len() <= MAX_CONTENT_BYTES, "{}", result.content.len());
    assert_eq!(result.full_output.unwrap().len(), 8 << 20);
    for (tool, arguments) in [("large", json!({ "mib": 50 })), ("endless_line", json!({}))] {
        let failure = site.call(&spec, tool, arguments).unwrap_err();
        assert_eq!(failure.class, FailureClass::OutputTooLarge, "{failure}");
        assert_eq!(failure.message, "the MCP server `peer` sent a message of more than 16 MiB");
        // The next call starts the server again.
        assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    }
    assert_eq!(site.log().iter().filter(|line| *line == "start").count(), 3);
}

#[test]
fn a_flood_of_notices_does_not_lose_the_result() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    assert_eq!(site.text(&spec, "flood", json!({ "count": 2000 })), "the end");
    assert!(site.progress.lock().unwrap().iter().all(|text| text.len() <= 300));
}

#[test]
fn no_secret_of_the_environment_comes_back() {
    let site = McpSite::with_variables(&[("TOKEN", TOKEN)], &["TOKEN"]);
    let spec = McpSite::hostile("plain");
    let listed = format!("{:?}", site.list(&spec).unwrap());
    assert!(listed.contains("The secret is [secret TOKEN]") && !listed.contains(TOKEN), "{listed}");
    let result = site.call(&spec, "leak", json!({ "how": "result" })).unwrap();
    assert_eq!(result.content, "the secret is [secret TOKEN]");
    assert_eq!(result.structured, Some(json!({ "secret": ["[secret TOKEN]"] })));
    let refused = site.call(&spec, "leak", json!({ "how": "error" })).unwrap();
    assert!(refused.is_error && refused.content.contains("the secret is [secret TOKEN]"), "{refused:?}");
    let state = site.call(&spec, "leak", json!({ "how": "state" })).unwrap_err();
    assert_eq!(state.class, FailureClass::SecretInReply);
    let ended = site.call(&spec, "leak", json!({ "how": "end" })).unwrap_err();
    assert!(ended.message.contains("the secret is [secret TOKEN]"), "{ended}");
    for failure in [state, ended] {
        assert!(!format!("{failure:?}").contains(TOKEN), "{failure:?}");
    }
}

#[test]
fn a_server_that_ends_during_a_call_is_not_called_again_by_itself() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let failure = site.call(&spec, "die", json!({})).unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    let expected = "the MCP server `peer` closed the connection during the call of `die`; it ended with exit code 7\n\
                    the end of its standard error:\nout of memory";
    assert_eq!(failure.message, expected);
    assert_eq!(site.log().iter().filter(|line| *line == "tools/call").count(), 1);
    assert!(!site.is_running());
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
}

#[test]
fn a_server_that_lists_other_tools_after_it_started_again_is_not_called() {
    let mut site = McpSite::new();
    let spec = McpSite::hostile("changes");
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    site.end();
    let failure = site.call(&spec, "echo", json!({ "text": "a" })).unwrap_err();
    assert_eq!(failure.class, FailureClass::AgentError);
    assert!(
        failure.message.ends_with("lists other tools than before in this run; orch did not send the call"),
        "{failure}"
    );
    assert_eq!(site.log().iter().filter(|line| *line == "tools/call").count(), 1);
    // Another run begins with the new list.
    site.restart();
    assert_eq!(site.text(&spec, "echo", json!({ "text": "b" })), "b");
}

#[test]
fn questions_during_a_call_that_may_write_are_cancelled_and_foreign_requests_refused() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let asked = site.call(&spec, "ask", json!({})).unwrap();
    let expected = "the answer is {\"action\": \"cancel\"}\n[the server asked a question during this call, and orch \
                    cancelled it (no person could answer): Your password? The answer fits this JSON Schema: {";
    assert!(asked.is_error && asked.content.starts_with(expected), "{asked:?}");
    assert_eq!(asked.unanswered[0].message, "Your password?");
    assert_eq!(site.text(&spec, "sample", json!({})), "[-32601, {\"roots\": []}]");
    assert!(site.log().contains(&"no elicitation".to_owned()), "{:?}", site.log());
}

#[test]
fn what_orch_cannot_answer_is_an_error_for_the_model() {
    let site = McpSite::new();
    let spec = McpSite::hostile("new");
    let input = site.call(&spec, "require_input", json!({ "method": "elicitation/create" })).unwrap();
    assert_eq!(input.input_required.unwrap().questions["a"].message, "Which?");
    for (tool, arguments, reason) in [
        ("require_input", json!({ "method": "sampling/createMessage" }), "asked for `sampling/createMessage`"),
        ("task", json!({}), "answered with a task"),
    ] {
        let result = site.call(&spec, tool, arguments).unwrap();
        assert!(result.is_error && result.content.contains(reason), "{result:?}");
        assert!(result.content.ends_with("it is not known whether the call took effect"), "{result:?}");
    }
}

#[test]
fn a_call_ends_at_its_time_limit_and_the_server_with_it_if_it_may_write() {
    let site = McpSite::new();
    let spec = McpSite::hostile("plain");
    let arguments = json!({ "path": site.path("begun") });
    let limit = Duration::from_millis(300);
    let failure = site.call_until(&spec, "hang", &arguments, limit, std::future::pending()).unwrap_err();
    assert_eq!(
        (failure.class, failure.message.as_str()),
        (FailureClass::Timeout, "`peer.hang` took longer than 300ms")
    );
    assert!(!site.is_running(), "the server could go on to write");
}

#[test]
fn an_interrupted_call_of_a_server_that_cannot_write_is_cancelled() {
    let site = McpSite::new();
    let mut spec = McpSite::hostile("plain");
    spec.access = orch::model::McpAccess::Read;
    let path = site.path("begun");
    let begun = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Failure::new(FailureClass::Cancelled, "stop")
    };
    let failure = site.call_until(&spec, "hang", &json!({ "path": path }), LONG, begun).unwrap_err();
    assert_eq!(failure.message, "stop");
    assert!(site.is_running());
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    assert!(site.log().contains(&"notifications/cancelled".to_owned()), "{:?}", site.log());
}

#[test]
fn a_call_that_is_interrupted_before_the_server_is_ready_is_never_sent() {
    let site = McpSite::new();
    let stop = std::future::ready(Failure::new(FailureClass::Cancelled, "stop"));
    let failure = site.call_until(&McpSite::hostile("plain"), "echo", &json!({}), LONG, stop).unwrap_err();
    assert_eq!(failure.message, "stop");
    assert!(!site.log().contains(&"tools/call".to_owned()), "{:?}", site.log());
    assert!(!site.is_running());
}

#[test]
fn a_server_that_ignores_its_end_is_killed() {
    let site = McpSite::new();
    let spec = McpSite::hostile("stays");
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    let began = Instant::now();
    site.shutdown();
    assert!(!site.is_running() && began.elapsed() < LONG);
}

#[test]
fn a_server_is_confined_by_its_settings() {
    if !reaches_full() {
        return;
    }
    let site = McpSite::with_variables(&[("TOKEN", TOKEN), ("OTHER", "x")], &[]);
    fs::write(site.outside("file"), "kept").unwrap();
    let spec = McpSite::hostile("plain");
    for path in [site.outside("file"), site.outside("new"), site.path("../outside/new"), site.path("orch.yaml")] {
        let result = site.call(&spec, "write", json!({ "path": path })).unwrap();
        assert!(result.is_error, "{}: {result:?}", path.display());
    }
    assert_eq!(fs::read_to_string(site.outside("file")).unwrap(), "kept");
    assert!(!site.outside("new").exists());
    assert_eq!(site.text(&spec, "write", json!({ "path": site.path("allowed") })), "written");
    let environment = site.text(&spec, "environment", json!({}));
    assert!(environment.contains("TOKEN") && !environment.contains("OTHER"), "{environment}");
    site.end();
    // While the server runs, a placeholder protects the missing `orch.yaml`.
    assert!(!site.path("orch.yaml").exists());
    assert!(site.sandbox_use().is_some());
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let site = McpSite::new();
    let missing = McpSite::program(&["no-such-server".to_owned()], &[]);
    let failure = site.list(&missing).unwrap_err();
    assert_eq!(failure.class, FailureClass::NotInstalled, "{failure}");
    assert!(failure.message.starts_with("the MCP server `peer` can't be started: "), "{failure}");
    assert!(failure.hint.unwrap().contains("`mcp.peer.command`"));
    let relative = McpSite::program(&["./servers/missing".to_owned()], &[]);
    let hint = site.list(&relative).unwrap_err().hint.unwrap();
    assert!(hint.starts_with("write `{{ project.root }}/servers/missing` in `mcp.peer.command`"), "{hint}");
    let script = ["sh", "-c", "echo no token >&2; exit 4"].map(str::to_owned);
    let failure = site.list(&McpSite::program(&script, &[])).unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure}");
    assert!(failure.message.contains("exit code 4") && failure.message.ends_with("no token"), "{failure}");
}
