//! The records of the log about MCP servers.

use serde_json::{Value, json};

use super::calls::calling_project;
use super::scripted::{McpServer, Protocol, text};
use crate::logging::{records, span_names, span_start};
use crate::support::RunOutput;

#[test]
fn the_span_of_a_step_ends_before_the_server_that_it_started() {
    let server = McpServer::echo();
    let again = json!({ "id": "again", "call": "docs.find", "args": { "text": "argument-52c8" } });
    let orch = calling_project(&json!({}), &[again], &json!({ "docs": server.settings("write") }));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--log-format", "json"];
    let ran = RunOutput::of(&orch.command(&args).env("ORCH_LOG", "trace").output().unwrap()).exits(0);
    let records = records(&ran.stderr);

    let call = span_start(&records, "call", "call", "again@1#1");
    assert_eq!(span_names(call), ["run", "step"]);
    assert_eq!(call["span"]["kind"], "mcp_tool");
    assert_eq!(call["span"]["server"], "docs");
    let position = |message: &str, step: &str| {
        let is_searched = |record: &Value| {
            record["message"] == message && record["span"]["name"] == "step" && record["span"]["step"] == step
        };
        records.iter().position(is_searched).unwrap_or_else(|| panic!("{message} {step}: {records:#?}"))
    };
    assert!(position("close", "find") < position("new", "again"));
    let event = |message: &str| {
        let found: Vec<&Value> = records.iter().filter(|record| record["message"] == message).collect();
        assert_eq!(found.len(), 1, "{message}: {records:#?}");
        found[0]
    };
    let started = event("orch starts the MCP server");
    let span = started["spans"].as_array().unwrap().last().unwrap();
    assert_eq!((&span["name"], &span["server"]), (&"server_start".into(), &"docs".into()));
    assert_eq!((&span["transport"], &started["restart"]), (&"http".into(), &false.into()));
    event("the MCP server is ready");
    assert_eq!(event("orch ended the MCP server")["server"], "docs");
    assert!(span_names(span_start(&records, "http_request", "client", "mcp")).is_empty());
    for text in ["argument-52c8", "about birds", "found about"] {
        assert!(!records.iter().any(|record| record.to_string().contains(text)), "{text}: {records:#?}");
    }
}

#[test]
fn the_end_of_a_server_that_does_not_list_its_tools_is_logged() {
    let server = McpServer::start(Protocol::Old, || json!(5), |_| text("unused"));
    let orch = calling_project(&json!({}), &[], &json!({ "docs": server.settings("write") }));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--log-format", "json"];
    let ran = RunOutput::of(&orch.command(&args).env("ORCH_LOG", "info").output().unwrap());
    assert_ne!(ran.code, 0, "{ran:?}");
    let records = records(&ran.stderr);
    let is_end = |record: &&Value| record["message"] == "orch ended the MCP server" && record["server"] == "docs";
    let count = |message: &str| records.iter().filter(|record| record["message"] == message).count();
    assert!(count("orch starts the MCP server") > 0, "{records:#?}");
    assert_eq!(records.iter().filter(is_end).count(), count("orch starts the MCP server"), "{records:#?}");
}
