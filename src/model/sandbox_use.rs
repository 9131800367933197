//! The record of the sandbox of a call: the level in force, the connections, and the limit that the program reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::count::counted;
use super::failure::{Failure, FailureClass};
use super::sandbox::SandboxLevel;

/// The sandbox of a program, as orch records it at the end of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxUse {
    /// How much of the policy the kernel enforced.
    pub level: SandboxLevel,
    /// The Landlock ABI version that the kernel offers; 0 if it offers none.
    #[serde(default)]
    pub landlock: u32,
    /// Whether the program had its own PID namespace, so that it saw no other process.
    #[serde(default)]
    pub has_pid_namespace: bool,
    /// The mechanism that enforced the limits: `cgroup` or `rlimits`. Absent without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_by: Option<String>,
    /// The protections of the level that this machine did not enforce for the program, each as a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unenforced: Vec<String>,
    /// The connections through the proxy, in the order in which they ended; at most ten thousand for each program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<SandboxConnection>,
    /// The number of connections that `connections` omits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted_connections: u64,
    /// The limit that the program reached, as a sentence. Absent if orch knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// What orch could not find out about the limits that the program reached, each as a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// Protected paths that the program changed. Only possible at the level `basic`, which can't protect them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_protected: Vec<String>,
    /// The damage by the program that no level prevents, each as a sentence: a git folder that git no longer uses, or a
    /// new one with settings of the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A connection that a confined program opened or attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxConnection {
    /// The host that the program requested.
    pub host: String,
    /// The port that the program requested.
    pub port: u16,
    /// The number of bytes that the program sent.
    pub sent: u64,
    /// The number of bytes that the program received.
    pub received: u64,
    /// Why orch refused the connection. Absent if the sandbox allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why an allowed connection failed. Absent if orch connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl SandboxUse {
    /// The hosts of the refused connections, without duplicates, in the order of the connections.
    pub fn refused_hosts(&self) -> Vec<String> {
        self.hosts_of(|connection| connection.refused.is_some())
    }

    /// The hosts that orch could not connect to, without duplicates, in the order of the connections. Hosts to which
    /// another connection succeeded are left out.
    pub fn unreachable_hosts(&self) -> Vec<String> {
        let connected = self.hosts_of(|connection| connection.refused.is_none() && connection.failed.is_none());
        let mut hosts = self.hosts_of(|connection| connection.failed.is_some());
        hosts.retain(|host| !connected.contains(host));
        hosts
    }

    fn hosts_of(&self, is_included: impl Fn(&SandboxConnection) -> bool) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for connection in self.connections.iter().filter(|connection| is_included(connection)) {
            // An IPv6 address has brackets, as in the settings.
            let is_bare_v6 = connection.host.contains(':') && !connection.host.starts_with('[');
            let name = if is_bare_v6 { format!("[{}]", connection.host) } else { connection.host.clone() };
            let host = format!("{name}:{}", connection.port);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// The failure of a program that changed protected paths or caused other damage; `None` if it did neither.
    pub fn damage_failure(&self) -> Option<Failure> {
        let changed_paths = self.changed_protected.split_first().map(|(first, others)| {
            let others =
                if others.is_empty() { String::new() } else { format!(" and {}", counted(others.len(), "more path")) };
            format!(
                "the program changed `{first}`{others}, which git or orch may read or run later; the level `{}` can't \
                 protect these paths",
                self.level
            )
        });
        let sentences: Vec<&str> = changed_paths.iter().chain(&self.damage).map(String::as_str).collect();
        let hint = match (changed_paths.is_some(), sentences.is_empty()) {
            (_, true) => return None,
            (true, false) => {
                "check these paths and undo the change before you run git or orch there; a machine that reaches the \
                 level `full` protects them"
            }
            (false, false) => "check these paths and undo the change before you run git there",
        };
        Some(Failure::new(FailureClass::PathRefused, sentences.join("; ")).with_hint(hint))
    }

    /// The level and the number of connections, in one line. Of the omitted connections, it is unknown how many orch
    /// refused.
    pub fn summary(&self) -> String {
        let mut text = self.level.to_string();
        let connection_count = self.connections.len();
        if connection_count > 0 || self.omitted_connections > 0 {
            let noun = if connection_count == 1 { "connection" } else { "connections" };
            text.push_str(&format!(", {connection_count} {noun}"));
            let refused_count = self.connections.iter().filter(|connection| connection.refused.is_some()).count();
            if refused_count > 0 {
                text.push_str(&format!(" ({refused_count} refused)"));
            }
        }
        if self.omitted_connections > 0 {
            text.push_str(&format!(" and {} more", self.omitted_connections));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_recorded_refused_and_omitted_connections() {
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
        assert_eq!(sandbox.summary(), "full, 3 connections (2 refused)");
        sandbox.omitted_connections = 7;
        assert_eq!(sandbox.summary(), "full, 3 connections (2 refused) and 7 more");
        assert_eq!(sandbox.refused_hosts(), ["b:443"]);
        assert_eq!(sandbox.unreachable_hosts(), Vec::<String>::new());
    }

    #[test]
    fn a_host_is_unreachable_if_no_connection_to_its_port_succeeded() {
        let connection = |host: &str, port: u16, failed: bool| SandboxConnection {
            host: host.to_owned(),
            port,
            sent: 0,
            received: 0,
            refused: None,
            failed: failed.then(|| "connection refused".to_owned()),
        };
        let refused = SandboxConnection { refused: Some("x".to_owned()), ..connection("c", 443, false) };
        let connections = vec![
            connection("a", 443, true),
            connection("b", 443, true),
            connection("a", 443, true),
            connection("b", 443, false),
            connection("b", 8443, true),
            refused,
        ];
        let sandbox = SandboxUse { connections, ..SandboxUse::default() };
        assert_eq!(sandbox.unreachable_hosts(), ["a:443", "b:8443"]);
        assert_eq!(sandbox.refused_hosts(), ["c:443"]);
    }

    #[test]
    fn damage_fails_the_call_and_is_named_at_every_level() {
        assert!(SandboxUse::default().damage_failure().is_none());
        let damage = vec!["the program removed or damaged `/w/.git/HEAD`".to_owned()];
        let mut sandbox = SandboxUse { damage, ..SandboxUse::default() };
        let failure = sandbox.damage_failure().unwrap();
        assert_eq!((failure.class, failure.message.as_str()), (FailureClass::PathRefused, sandbox.damage[0].as_str()));
        assert!(!failure.hint.unwrap().contains("full"), "no level protects this file");
        sandbox.level = SandboxLevel::Basic;
        sandbox.changed_protected = ["/w/.github/x", "/w/orch.yaml"].map(str::to_owned).into();
        let failure = sandbox.damage_failure().unwrap();
        for text in ["changed `/w/.github/x` and 1 more path,", "the level `basic`", "`/w/.git/HEAD`"] {
            assert!(failure.message.contains(text), "{}", failure.message);
        }
    }

    #[test]
    fn an_address_in_a_hint_is_written_as_in_the_settings() {
        let connection = SandboxConnection {
            host: "fd00::1".to_owned(),
            port: 80,
            sent: 0,
            received: 0,
            refused: Some("x".to_owned()),
            failed: None,
        };
        let sandbox = SandboxUse { connections: vec![connection], ..SandboxUse::default() };
        assert_eq!(sandbox.refused_hosts(), ["[fd00::1]:80"]);
    }
}
