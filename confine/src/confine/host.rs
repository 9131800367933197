//! The hosts that a policy lists, and the addresses to which their names may not resolve.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The ports of a host that is listed without one.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// A host that a program may reach: `NAME`, `NAME:PORT`, `ADDRESS:PORT` or, with brackets, an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HostForm", into = "HostForm")]
pub struct Host {
    name: String,
    port: Option<u16>,
    private: bool,
}

/// The forms of a host in a policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum HostForm {
    Text(String),
    #[serde(rename_all = "snake_case")]
    Parts {
        host: String,
        private: bool,
    },
}

/// The error for a text that is not a valid host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid host: {reason}; write `NAME`, `NAME:PORT`, or an address with its port")]
pub struct HostError {
    text: String,
    reason: &'static str,
}

impl Host {
    /// Allows the name of the host to resolve to private addresses, as names inside a company network do.
    #[must_use]
    pub fn with_private_addresses(self) -> Self {
        Self { private: true, ..self }
    }

    /// The port of a service on this machine, if the host is a loopback address or `localhost` with a port.
    pub(super) fn service_port(&self) -> Option<u16> {
        let is_loopback =
            self.name == "localhost" || self.name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if is_loopback { self.port } else { None }
    }

    /// Whether this entry allows connections to a name at a port. `name` is normalized by [`normalize_name`].
    pub fn lists(&self, name: &str, port: u16) -> bool {
        self.name == name && self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |listed| listed == port)
    }

    /// Whether this entry allows the name to resolve to an address.
    pub fn may_resolve_to(&self, address: IpAddr) -> bool {
        let is_service = self.service_port().is_some() && address.is_loopback();
        self.private || is_service || self.name.parse::<IpAddr>().is_ok() || is_public(address)
    }
}

/// Normalizes a name for comparison: converts it to lower case, and removes the root dot and brackets.
pub fn normalize_name(name: &str) -> String {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_string())
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let error = |reason| HostError { text: text.to_owned(), reason };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, _)) if name.contains(':') && !name.ends_with(']') => (text, None),
            Some(_) if text.ends_with(']') => (text, None),
            Some((name, port)) => {
                (name, Some(port.parse().map_err(|_| error("its port is not a number up to 65535"))?))
            }
            None => (text, None),
        };
        let name = normalize_name(name);
        if port == Some(0) {
            return Err(error("port 0 can't be reached"));
        }
        if name.contains('*') {
            return Err(error("patterns are not supported"));
        }
        let is_address = name.parse::<IpAddr>().is_ok();
        let is_name = !name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            });
        // A resolver reads `127.1` and `0x7f000001` as addresses, so reject names that look like an address.
        let looks_like_address =
            name.rsplit('.').next().is_some_and(|label| label.starts_with("0x") || label.parse::<u64>().is_ok());
        if !is_address && (!is_name || looks_like_address) {
            return Err(error("it is neither a name nor an address"));
        }
        Ok(Self { name, port, private: false })
    }
}

impl TryFrom<HostForm> for Host {
    type Error = HostError;

    fn try_from(form: HostForm) -> Result<Self, HostError> {
        match form {
            HostForm::Text(text) => text.parse(),
            HostForm::Parts { host, private } => Ok(Self { private, ..host.parse()? }),
        }
    }
}

impl From<Host> for HostForm {
    fn from(host: Host) -> Self {
        let text = host.to_string();
        if host.private { Self::Parts { host: text, private: true } } else { Self::Text(text) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.name),
            Some(port) if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            Some(port) => write!(f, "{}:{port}", self.name),
        }
    }
}

/// Whether an address belongs to the public internet, and not to this machine or its network.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Gateways translate these ranges to the IPv4 address inside.
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, documentation, and all addresses that are not global unicast: loopback, private, link-local,
        // multicast.
        [0x2001, 0 | 0xdb8, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_without_a_port_has_the_ports_of_http_and_https() {
        assert!(host("Example.ORG.").lists("example.org", 443) && host("example.org").lists("example.org", 80));
        assert!(!host("example.org").lists("example.org", 22) && !host("example.org").lists("a.example.org", 443));
        assert!(host("example.org:22").lists("example.org", 22) && !host("example.org:22").lists("example.org", 443));
    }

    #[test]
    fn a_displayed_host_can_be_parsed_again() {
        for text in ["example.org", "example.org:22", "[::1]:80", "10.0.0.1:8080"] {
            assert_eq!(host(text).to_string(), text);
        }
        let private: Host = serde_json::from_str(r#"{"host": "git.corp", "private": true}"#).unwrap();
        assert!(private.may_resolve_to([10, 0, 0, 1].into()));
        assert_eq!(serde_json::to_string(&private).unwrap(), r#"{"host":"git.corp","private":true}"#);
    }

    #[test]
    fn spellings_that_resolvers_read_as_addresses_are_refused() {
        for text in ["", "*.example.org", "127.1", "0x7f000001", "2130706433", "a..b", "a b", "h:0", "h:70000"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_may_resolve_only_to_public_addresses() {
        let name = host("example.org");
        for address in ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"] {
            assert!(name.may_resolve_to(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.1.1",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "2001::1",
        ] {
            assert!(!name.may_resolve_to(address.parse().unwrap()), "{address}");
            assert!(host(&format!("[{address}]")).may_resolve_to(address.parse().unwrap()) || !address.contains(':'));
        }
    }

    #[test]
    fn loopback_hosts_with_a_port_are_services_of_this_machine() {
        assert_eq!(host("127.0.0.1:8080").service_port(), Some(8080));
        assert_eq!(host("localhost:1").service_port(), Some(1));
        assert_eq!(host("[::1]:9").service_port(), Some(9));
        assert_eq!(host("localhost").service_port(), None);
        assert_eq!(host("example.org:80").service_port(), None);
    }
}
