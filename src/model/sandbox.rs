//! The settings of a sandbox as the files contain them: the key `sandbox` of `orch.yaml`, of an agent and of a command
//! step.

use std::fmt;
use std::net::IpAddr;

use orch_confine::confine::{Host, is_public, normalize_name};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

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

/// A host that a program may connect to: `NAME`, `NAME:PORT`, or an address with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// The host, as in the file. Without a port, the program may connect to the ports 443 and 80.
    pub host: String,
    /// Whether the name may resolve to a private address.
    pub private: bool,
}

/// A parsed list of hosts, for orch's own connections. The rules are those of the proxy of a sandbox.
#[derive(Clone, Debug, Default)]
pub struct HostList(Vec<Host>);

impl HostList {
    /// Parses the hosts.
    ///
    /// # Errors
    /// A text is not a valid host. The error is the reason.
    pub fn parse<'a>(hosts: impl IntoIterator<Item = &'a AllowedHost>) -> Result<Self, String> {
        hosts.into_iter().map(AllowedHost::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the list contains a name or an address at a port.
    pub fn contains(&self, name: &str, port: u16) -> bool {
        let name = normalize_name(name);
        self.0.iter().any(|host| host.lists(&name, port))
    }

    /// Whether a connection to a listed name may go to an address to which the name resolves.
    pub fn allows_address(&self, name: &str, port: u16, address: IpAddr) -> bool {
        let name = normalize_name(name);
        self.0.iter().any(|host| host.lists(&name, port) && host.may_resolve_to(address))
    }
}

/// Whether an address belongs to the public internet, and not to this machine or its network.
pub fn is_public_address(address: IpAddr) -> bool {
    is_public(address)
}

/// The mapping form of [`AllowedHost`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AllowedHostMapping {
    /// The host: `NAME`, `NAME:PORT`, or an address with its port.
    #[schemars(example = &"registry.internal:8080", length(min = 1))]
    host: String,
    /// Whether the name may resolve to an address of a private network. Default: `false`.
    #[serde(default)]
    #[schemars(example = true)]
    private: bool,
}

impl AllowedHost {
    /// Parses the host for the proxy that enforces the list.
    ///
    /// # Errors
    /// The text is not a valid host. The error is the reason.
    pub fn parse(&self) -> Result<Host, String> {
        Host::new(&self.host, self.private).map_err(|error| error.to_string())
    }

    /// Whether the host may be this machine or in a private network. A text that is not a valid host is neither.
    pub fn may_be_private(&self) -> bool {
        self.parse().is_ok_and(|host| host.may_be_private())
    }
}

impl fmt::Display for AllowedHost {
    /// Writes the host in the notation of the files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.private { write!(f, "{{ host: {}, private: true }}", self.host) } else { f.write_str(&self.host) }
    }
}

impl Serialize for AllowedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.private {
            json!({ "host": self.host, "private": true }).serialize(serializer)
        } else {
            serializer.serialize_str(&self.host)
        }
    }
}

impl<'de> Deserialize<'de> for AllowedHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(host) => Ok(Self { host, private: false }),
            value => {
                let AllowedHostMapping { host, private } = serde_json::from_value(value).map_err(D::Error::custom)?;
                Ok(Self { host, private })
            }
        }
    }
}

impl JsonSchema for AllowedHost {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AllowedHost".into()
    }

    /// A string or a mapping. The schema needs no `anyOf`, because `properties` apply only to a mapping, and the length
    /// only to a string.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AllowedHostMapping::json_schema(generator);
        schema.insert("type".to_owned(), json!(["string", "object"]));
        schema.insert("minLength".to_owned(), json!(1));
        let description = "A host as `NAME` or `NAME:PORT`, or a mapping that allows private addresses.";
        schema.insert("description".to_owned(), json!(description));
        schema
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

    #[test]
    fn a_host_list_decides_about_names_ports_and_addresses() {
        let host = |host: &str, private| AllowedHost { host: host.to_owned(), private };
        let hosts = [host("Docs.rs", false), host("git.internal", true), host("127.0.0.1:8080", false)];
        let list = HostList::parse(&hosts).unwrap();
        assert!(list.contains("docs.rs.", 443) && !list.contains("docs.rs", 8443) && !list.contains("a.docs.rs", 443));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(list.allows_address("docs.rs", 443, address("93.184.215.14")));
        assert!(!list.allows_address("docs.rs", 443, address("169.254.169.254")));
        assert!(list.allows_address("git.internal", 443, address("10.0.0.7")));
        assert!(list.allows_address("127.0.0.1", 8080, address("127.0.0.1")));
        assert!(!list.contains("127.0.0.1", 8081) && is_public_address(address("1.1.1.1")));
        assert!(HostList::parse(&[host("*.docs.rs", false)]).unwrap_err().contains("patterns are not supported"));
    }

    #[test]
    fn only_hosts_that_the_proxy_accepts_are_valid() {
        let host = |text: &str| AllowedHost { host: text.to_owned(), private: false }.parse();
        for text in ["crates.io", "crates.io:8443", "10.1.2.3:80", "[::1]:9", "localhost:5432"] {
            assert!(host(text).is_ok(), "{text}");
        }
        for text in ["*.crates.io", "https://crates.io", "crates.io:0", "127.1", "a b", "169.254.169.254", "::1"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert!(AllowedHost { host: "169.254.169.254".to_owned(), private: true }.parse().is_ok());
    }
}
