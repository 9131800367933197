//! The hosts that a sandbox or a tool may connect to, in the notation of the files.

use std::fmt;
use std::net::IpAddr;

use orch_confine::confine::{Host, is_public, normalize_name};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

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

    /// Whether the list allows a name at a port that may be this machine or in a private network.
    pub fn may_be_private(&self, name: &str, port: u16) -> bool {
        let name = normalize_name(name);
        self.0.iter().any(|host| host.lists(&name, port) && host.may_be_private())
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

    /// Whether this entry allows every connection that another entry allows. A text that is not a valid host allows
    /// none.
    pub fn covers(&self, other: &Self) -> bool {
        self.parse().is_ok_and(|host| other.parse().is_ok_and(|other| host.covers(&other)))
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
    fn a_host_list_decides_about_names_ports_and_addresses() {
        let host = |host: &str, private| AllowedHost { host: host.to_owned(), private };
        let hosts = [host("Docs.rs", false), host("git.internal", true), host("127.0.0.1:8080", false)];
        let list = HostList::parse(&hosts).unwrap();
        assert!(list.contains("docs.rs.", 443) && !list.contains("docs.rs", 8443) && !list.contains("a.docs.rs", 443));
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(list.may_be_private("127.0.0.1", 8080) && list.may_be_private("GIT.internal.", 443));
        assert!(!list.may_be_private("docs.rs", 443) && !list.may_be_private("git.internal", 22));
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
