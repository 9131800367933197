//! The settings of a sandbox as the files contain them: the key `sandbox` of `orch.yaml`, of an agent and of a command
//! step.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::allowed_host::AllowedHost;
use super::bytes::HumanBytes;
use super::duration::HumanDuration;

/// How much of a sandbox orch enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// Only the limits.
    None,
    /// Landlock and seccomp filters, without namespaces.
    Basic,
    /// On Linux: namespaces, Landlock and seccomp filters. On macOS: Seatbelt.
    #[default]
    Full,
}

impl SandboxLevel {
    /// The name in files and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "basic",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for SandboxLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The files that a program may change and read, the hosts that it may connect to, and its limits. The kernel enforces
/// them for the program and for every process that it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Whether orch confines the program. Default: `true`. An agent may set `false` only if `orch.yaml` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = false)]
    pub enabled: Option<bool>,
    /// The weakest level at which the program may run. Default: `full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"basic")]
    pub min: Option<SandboxLevel>,
    /// The hosts that the program may connect to: `none` (default), `all`, or a list. Claude Code and Codex may always
    /// connect to the API of their provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = json!(["crates.io", "static.crates.io"]))]
    pub network: Option<SandboxNetwork>,
    /// The folders and files that the program may change. A path is relative to the workspace, or starts with `~/` or
    /// `/`. Default: the workspace, if the step has `access: write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(length(min = 1)))]
    #[schemars(example = json!([".", "~/.cache/tool"]))]
    pub write: Option<Vec<String>>,
    /// Folders and files that the program may not read, in addition to the paths at which common programs store keys
    /// and passwords.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)))]
    #[schemars(example = json!(["~/notes"]))]
    pub deny_read: Vec<String>,
    /// Whether the program may create UNIX sockets, which only the level `full` can allow. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = true)]
    pub unix_sockets: Option<bool>,
    /// The limits on the resources of the program and of the processes that it starts.
    #[serde(skip_serializing_if = "SandboxLimits::is_unset")]
    #[schemars(example = json!({"memory": "2GiB", "processes": 200}))]
    pub limits: SandboxLimits,
}

/// The limits on the resources of a program and of the processes that it starts. Without a limit, the program may use
/// any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxLimits {
    /// The maximum memory of all processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"2GiB")]
    pub memory: Option<HumanBytes>,
    /// The maximum number of processes and threads at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), example = 200)]
    pub processes: Option<u64>,
    /// The maximum processor time of all processes together, in whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"10m")]
    pub cpu_time: Option<HumanDuration>,
    /// The maximum size of each file that a process writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"1GiB")]
    pub file_size: Option<HumanBytes>,
    /// The maximum number of open files of each process; at least 20, because a program needs some to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 20, max = 1_000_000), example = 1024)]
    pub open_files: Option<u64>,
}

impl SandboxLimits {
    /// Whether no limit is set.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// Takes each limit that is not set from `defaults`.
    #[must_use]
    pub fn with_defaults(self, defaults: Self) -> Self {
        Self {
            memory: self.memory.or(defaults.memory),
            processes: self.processes.or(defaults.processes),
            cpu_time: self.cpu_time.or(defaults.cpu_time),
            file_size: self.file_size.or(defaults.file_size),
            open_files: self.open_files.or(defaults.open_files),
        }
    }

    /// Each key with the value of its limit, in bytes, in milliseconds or as a count.
    pub(super) fn values(&self) -> [(&'static str, Option<u128>); 5] {
        [
            ("memory", self.memory.map(|bytes| bytes.0.into())),
            ("processes", self.processes.map(Into::into)),
            ("cpu_time", self.cpu_time.map(|time| time.0.as_millis())),
            ("file_size", self.file_size.map(|bytes| bytes.0.into())),
            ("open_files", self.open_files.map(Into::into)),
        ]
    }
}

/// The hosts that a program may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SandboxNetwork {
    /// No host. At the level `full`, the program has a separate loopback interface.
    #[default]
    None,
    /// All hosts, including services on this machine.
    All,
    /// Only these hosts, through a proxy of orch.
    Hosts(Vec<AllowedHost>),
}

/// The pattern of the strings that `network` accepts instead of a list.
pub const NETWORK_PATTERN: &str = "^(none|all)$";

impl fmt::Display for SandboxNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::All => f.write_str("all"),
            Self::Hosts(hosts) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", hosts.join(", "))
            }
        }
    }
}

impl Serialize for SandboxNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::All => serializer.serialize_str("all"),
            Self::Hosts(hosts) => hosts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SandboxNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "none" => Ok(Self::None),
            Value::String(text) if text == "all" => Ok(Self::All),
            list @ Value::Array(_) => serde_json::from_value(list).map(Self::Hosts).map_err(D::Error::custom),
            _ => Err(D::Error::custom("expected `none`, `all` or a list of hosts")),
        }
    }
}

impl JsonSchema for SandboxNetwork {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SandboxNetwork".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let host = generator.subschema_for::<AllowedHost>();
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "`none`, `all`, or a list of hosts.",
            "pattern": NETWORK_PATTERN,
            "minItems": 1,
            "items": host
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_serialized_in_the_form_in_which_it_was_read() {
        let text = json!({
            "min": "basic", "network": ["crates.io", { "host": "registry.internal:8080", "private": true }],
            "write": ["target"], "deny_read": ["~/notes"], "unix_sockets": true,
            "limits": { "memory": "2GiB", "cpu_time": "1m30s" },
        });
        let sandbox: Sandbox = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&sandbox).unwrap(), text);
        assert_eq!(serde_json::to_value(Sandbox::default()).unwrap(), json!({}));
        for network in ["none", "all"] {
            let sandbox: Sandbox = serde_json::from_value(json!({ "network": network })).unwrap();
            assert_eq!(serde_json::to_value(&sandbox).unwrap(), json!({ "network": network }));
        }
        assert!(serde_json::from_value::<Sandbox>(json!({ "network": "crates.io" })).is_err());
        assert!(serde_json::from_value::<Sandbox>(json!({ "net": "none" })).is_err());
    }

    #[test]
    fn a_network_is_shown_in_the_notation_of_the_files() {
        for (value, text) in [
            (json!("none"), "none"),
            (json!("all"), "all"),
            (
                json!(["crates.io", { "host": "registry.internal:8080", "private": true }]),
                "[crates.io, { host: registry.internal:8080, private: true }]",
            ),
        ] {
            let network: SandboxNetwork = serde_json::from_value(value).unwrap();
            assert_eq!(network.to_string(), text);
        }
    }
}
