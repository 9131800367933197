//! Responses over HTTP that orch does not accept: the message says what the server sent, and what the user can do.

use orch::model::{Failure, FailureClass};
use serde_json::{Value, json};

use super::scripted::{CallAnswer, McpServer, Protocol, tool};
use crate::support::Reply;
use crate::support::mcp::McpSite;

/// The value of the variable `TOKEN`, a secret.
const TOKEN: &str = "t0ken-of-the-server";

/// The failure of a call that gets this response.
fn failure(reply: Reply) -> Failure {
    let answer = move |_: &Value| CallAnswer::Reply(reply.clone());
    let server = McpServer::start(Protocol::Old, || json!([tool("find", "Finds.")]), answer);
    let site = McpSite::with_variables(&[("TOKEN", TOKEN)], &["TOKEN"]);
    site.call(&McpSite::spec(server.settings("write")), "find", json!({ "text": "a" })).unwrap_err()
}

#[test]
fn a_redirect_that_is_not_followed_names_its_target_and_the_reason() {
    let long = format!("https://docs.example/{}", "x".repeat(5000));
    for (status, location, target, reason) in [
        (307, "https://docs.example/mcp?key=hidden", "https://docs.example/mcp ", "orch would send the headers"),
        (308, "https://user:hidden@docs.example/mcp", "https://docs.example/mcp ", "the scheme, the host or the port"),
        (307, "https://docs.example/t0ken-of-the-server", "https://docs.example/[secret TOKEN] ", "the host"),
        (307, "file:///etc/hosts", "file:///etc/hosts ", "the scheme"),
        (307, long.as_str(), "https://docs.example/xxx", "the host"),
        (302, "/other", "/other ", "only the statuses 307 and 308 keep the message"),
        (307, "/mcp", "/mcp ", "it has followed 10 redirects already"),
    ] {
        let failure = failure(Reply::status(status, "").header("location", location));
        let (message, hint) = (failure.message.as_str(), failure.hint.unwrap());
        assert!(message.starts_with("the MCP server `peer` redirects the request to "), "{location}: {message}");
        assert!(message.contains(target) && message.contains(reason), "{location}: {message}");
        assert!(message.contains(&format!("(HTTP status {status})")) && message.len() < 700, "{location}: {message}");
        assert!(!message.contains("hidden") && !message.contains(TOKEN), "{location}: {message}");
        assert!(hint.contains("`mcp.peer.url`"), "{location}: {hint}");
        assert_eq!((failure.class, failure.status), (FailureClass::AgentError, Some(status)));
    }
    let nowhere = failure(Reply::status(307, ""));
    let expected = "the MCP server `peer` redirects the request (HTTP status 307), and orch does not follow: it names no \
                    address";
    assert_eq!(nowhere.message, expected);
}

#[test]
fn a_body_that_ends_early_is_no_unreachable_server() {
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
    let failure = failure(Reply::status(200, body).cut_after(20));
    let beginning = "the MCP server `peer` answered with the HTTP status 200, but the body of its answer ended early";
    assert!(failure.message.starts_with(beginning), "{failure}");
    assert_eq!((failure.class, failure.status), (FailureClass::ProviderUnavailable, Some(200)));
}

#[test]
fn a_status_without_a_text_ends_the_message() {
    let failure = failure(Reply::status(418, ""));
    assert!(failure.message.ends_with("HTTP 418 I'm a teapot"), "{failure}");
}
