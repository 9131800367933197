//! Which of the two protocols orch speaks with a server: the new one, in which a server answers `server/discover`, or
//! the old one, which begins with `initialize`.

use std::fs;
use std::time::{Duration, Instant};

use orch::model::FailureClass;
use orch::tool::mcp::StartLimits;
use serde_json::json;

use crate::support::mcp::{HOSTILE, McpSite, PATIENT_START};

/// The versions of the old and of the new protocol.
const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";
/// For servers that do not say whether they speak the new protocol.
const SHORT_DISCOVERY: StartLimits = StartLimits { program_discovery: Duration::from_secs(1), ..PATIENT_START };

/// The messages that the server received, without `start` and the lines about capabilities.
fn messages(site: &McpSite) -> Vec<String> {
    site.log().into_iter().filter(|line| !line.ends_with("elicitation") && line != "start").collect()
}

fn starts(site: &McpSite) -> usize {
    site.log().iter().filter(|line| *line == "start").count()
}

#[test]
fn a_server_of_the_new_protocol_needs_no_handshake() {
    let site = McpSite::new();
    let spec = McpSite::hostile("new");
    assert_eq!(site.listed(&spec).1, NEW);
    assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    assert_eq!((messages(&site), starts(&site)), (owned(&["server/discover", "tools/list", "tools/call"]), 1));
}

#[test]
fn a_server_that_answers_with_an_error_goes_on_with_the_old_protocol_in_the_same_start() {
    for mode in ["plain", "noise"] {
        let site = McpSite::new();
        let spec = McpSite::hostile(mode);
        assert_eq!(site.listed(&spec).1, OLD, "{mode}");
        assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
        let log = messages(&site);
        assert!(log.contains(&"notifications/initialized".to_owned()) && starts(&site) == 1, "{mode}: {log:?}");
    }
}

#[test]
fn an_older_version_is_spoken_and_an_unknown_one_refused() {
    for version in [OLD, "2025-06-18", "2025-03-26", "2024-11-05"] {
        let site = McpSite::new();
        let spec = McpSite::hostile(&format!("version {version}"));
        assert_eq!(site.listed(&spec).1, version);
        assert_eq!(site.text(&spec, "echo", json!({ "text": "a" })), "a");
    }
    for (version, named) in [
        ("2099-01-01".to_owned(), "2099-01-01".to_owned()),
        ("2025-11-2".to_owned(), "2025-11-2".to_owned()),
        (format!("\u{1b}[2J{}", "9".repeat(10_000)), format!("\\u{{1b}}[2J{}…", "9".repeat(54))),
    ] {
        let site = McpSite::new();
        let failure = site.list(&McpSite::hostile(&format!("version {version}"))).unwrap_err();
        assert_eq!(failure.class, FailureClass::AgentError, "{failure}");
        let expected = format!("the MCP server `peer` speaks no version of the protocol that orch speaks, but {named}");
        assert_eq!(failure.message, expected);
        assert!(failure.hint.unwrap().contains("2024-11-05"));
        assert_eq!(starts(&site), 1, "another start would not help");
    }
}

#[test]
fn a_silent_server_costs_time_once_and_is_remembered() {
    let mut site = McpSite::new().with_start_limits(SHORT_DISCOVERY);
    let spec = McpSite::hostile("mute");
    assert_eq!(site.listed(&spec).1, OLD);
    assert_eq!(messages(&site)[..2], owned(&["server/discover", "initialize"]), "{:?}", site.log());
    assert_eq!(starts(&site), 1, "the same start goes on");
    site.restart();
    fs::remove_file(site.path("mcp.log")).unwrap();
    assert_eq!(site.listed(&spec).1, OLD);
    assert_eq!(messages(&site)[0], "initialize", "{:?}", site.log());
}

#[test]
fn one_time_limit_covers_all_starts_of_a_server_that_never_answers() {
    let limit = Duration::from_secs(8);
    let site = McpSite::new().with_start_limits(StartLimits { total: limit, ..SHORT_DISCOVERY });
    let spec = McpSite::hostile("dead");
    let began = Instant::now();
    let [first, second] = site.list_both(&spec);
    let failure = first.unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout);
    assert!(failure.message.starts_with("the MCP server `peer` was not ready within 8s"), "{failure}");
    assert!(failure.hint.is_some() && began.elapsed() >= limit, "{failure:?}");
    // Python may take longer than the limit to start, but orch starts it only once.
    assert!(starts(&site) <= 1, "{:?}", site.log());
    assert_eq!(second.unwrap_err(), failure, "who waited for the start does not wait for another one");
}

#[test]
fn a_server_that_ends_or_answers_oddly_starts_again_with_the_old_protocol() {
    for mode in ["ends", "odd"] {
        let mut site = McpSite::new();
        let spec = McpSite::hostile(mode);
        assert_eq!(site.listed(&spec).1, OLD, "{mode}");
        assert_eq!(starts(&site), 2, "{mode}");
        site.restart();
        assert_eq!(site.listed(&spec).1, OLD, "{mode}");
        assert_eq!(starts(&site), 3, "{mode}: the third start needs no question");
    }
}

#[test]
fn a_server_that_answers_too_late_is_asked_again() {
    let site = McpSite::new().with_start_limits(SHORT_DISCOVERY);
    let spec = McpSite::hostile("late");
    assert_eq!(site.listed(&spec).1, NEW);
    assert_eq!(starts(&site), 2);
    // It is not remembered as a server of the old protocol.
    let site = site.with_start_limits(PATIENT_START);
    assert_eq!((site.listed(&spec).1.as_str(), starts(&site)), (NEW, 3));
}

#[test]
fn a_remembered_server_that_speaks_only_the_new_protocol_by_now_is_asked_again() {
    let mut site = McpSite::new();
    fs::write(site.path("server.sh"), "exec python3 -c \"$1\" ends mcp.log\n").unwrap();
    let script = ["sh", "server.sh", HOSTILE];
    let spec = McpSite::program(&script.map(str::to_owned), &[]);
    assert_eq!(site.listed(&spec).1, OLD);
    site.restart();
    fs::write(site.path("server.sh"), "exec python3 -c \"$1\" new mcp.log\n").unwrap();
    assert_eq!(site.listed(&spec).1, NEW);
    site.restart();
    fs::remove_file(site.path("mcp.log")).unwrap();
    assert_eq!((site.listed(&spec).1.as_str(), messages(&site)[0].as_str()), (NEW, "server/discover"));
}

#[test]
fn an_unusable_file_of_remembered_servers_is_noted_and_does_no_harm() {
    let site = McpSite::new();
    fs::remove_dir(site.base().join("state")).unwrap();
    let listed = site.list(&McpSite::hostile("ends")).unwrap();
    assert_eq!(listed.listing.protocol_version, OLD);
    assert!(
        listed.notes[0].starts_with("orch could not save which protocol the MCP server `peer` speaks"),
        "{:?}",
        listed.notes
    );
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}
