//! What orch records about the sandbox of a call: the level in force, the connections, and the limit that was reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, FailureClass};
use super::sandbox::SandboxLevel;

/// How a program was confined, as recorded at the end of its call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxUse {
    /// The level in force.
    pub level: SandboxLevel,
    /// The version of Landlock that the kernel offers; 0 if it offers none.
    #[serde(default)]
    pub landlock: u32,
    /// Whether the program had process ids of its own, so that it saw no other process.
    #[serde(default)]
    pub own_processes: bool,
    /// What held the limits: `cgroup` or `rlimits`. Absent without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_by: Option<String>,
    /// What the level holds elsewhere but did not hold for this program, each as a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// The connections through the proxy, in the order in which they ended; at most ten thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<SandboxConnection>,
    /// How many more connections there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted_connections: u64,
    /// The limit that ended the program, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Protected paths that the program changed at a level that can't protect them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_protected: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A connection of a confined program, or its attempt to make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxConnection {
    /// The host that the program asked for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How many bytes the program sent.
    pub sent: u64,
    /// How many bytes the program received.
    pub received: u64,
    /// Why orch refused the connection, if the sandbox does not allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why there was no connection although the sandbox allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl SandboxUse {
    /// The hosts that orch refused to connect the program with, each once, in order.
    pub fn refused_hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for connection in self.connections.iter().filter(|connection| connection.refused.is_some()) {
            let host = format!("{}:{}", connection.host, connection.port);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// The failure of a program that changed protected paths at a level that can't protect them.
    pub fn changed_paths_failure(&self) -> Option<Failure> {
        let (first, more) = self.changed_protected.split_first()?;
        let others = if more.is_empty() { String::new() } else { format!(" and {} more paths", more.len()) };
        let message = format!(
            "the program changed `{first}`{others}, which git or orch may run or read later, and the level `{}` can't \
             prevent that",
            self.level
        );
        let hint = "look at these paths and undo the change before you run git or orch there; a machine that reaches \
                    the level `full` protects them";
        Some(Failure::new(FailureClass::PathRefused, message).with_hint(hint))
    }

    /// A few words about the sandbox, for one line.
    pub fn summary(&self) -> String {
        let mut text = self.level.to_string();
        let all = u64::try_from(self.connections.len()).unwrap_or(u64::MAX).saturating_add(self.omitted_connections);
        if all > 0 {
            let noun = if all == 1 { "connection" } else { "connections" };
            text.push_str(&format!(", {all} {noun}"));
            let refused = self.connections.iter().filter(|connection| connection.refused.is_some()).count();
            if refused > 0 {
                text.push_str(&format!(" ({refused} refused)"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_connections_and_refusals() {
        let connection = |host: &str, refused: Option<&str>| SandboxConnection {
            host: host.to_owned(),
            port: 443,
            sent: 1,
            received: 2,
            refused: refused.map(str::to_owned),
            failed: None,
        };
        let mut sandbox = SandboxUse::default();
        assert_eq!(sandbox.summary(), "full");
        sandbox.connections = vec![connection("a", None), connection("b", Some("x")), connection("b", Some("x"))];
        sandbox.omitted_connections = 1;
        assert_eq!(sandbox.summary(), "full, 4 connections (2 refused)");
        assert_eq!(sandbox.refused_hosts(), ["b:443"]);
    }
}
