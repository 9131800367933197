//! The hosts that a policy lists, and the addresses to which their names may not resolve.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::{is_link_local, is_metadata_service, is_public};

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
#[error("`{text}` is not a valid host: {reason}; {advice}")]
pub struct HostError {
    text: String,
    reason: &'static str,
    advice: String,
}

impl Host {
    /// Parses a host. With `private`, its name may resolve to private addresses, as names inside a company network do.
    ///
    /// # Errors
    /// The text is not a valid host, or it may be the metadata service of a cloud and is not `private`.
    pub fn new(text: &str, private: bool) -> Result<Self, HostError> {
        let (name, port) = split_host(text)?;
        let host = Self { name, port, private };
        if let Some(address) = host.address().filter(|address| is_metadata_service(*address) && !private) {
            let reason = if is_link_local(address) {
                "it is a link-local address, such as that of the metadata service of a cloud"
            } else {
                "it is the address of the metadata service of a cloud"
            };
            return Err(HostError::new(text, reason, format!("write `{{ host: \"{host}\", private: true }}`")));
        }
        Ok(host)
    }

    /// Whether the host may be this machine or in a private network.
    pub fn may_be_private(&self) -> bool {
        let is_local_name = self.name == "localhost" || self.name.ends_with(".localhost");
        self.private || is_local_name || self.address().is_some_and(|address| !is_public(address))
    }

    /// The address, if the host is not a name.
    fn address(&self) -> Option<IpAddr> {
        self.name.parse().ok()
    }

    /// The port of a service on this machine, if the host is a loopback address or `localhost` with a port.
    pub(super) fn service_port(&self) -> Option<u16> {
        let is_loopback = self.name == "localhost" || self.address().is_some_and(|address| address.is_loopback());
        if is_loopback { self.port } else { None }
    }

    /// Whether this entry allows connections to a name at a port. `name` is normalized by [`normalize_name`].
    pub fn lists(&self, name: &str, port: u16) -> bool {
        self.name == name && self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |listed| listed == port)
    }

    /// Whether this entry allows every connection that another entry allows.
    pub fn covers(&self, other: &Self) -> bool {
        // Without `private`, only an entry with a port lets `localhost` resolve to a loopback address.
        let covers_service = other.service_port().is_none() || self.service_port().is_some() || self.private;
        let ports = other.port.map_or_else(|| DEFAULT_PORTS.to_vec(), |port| vec![port]);
        covers_service && (self.private || !other.private) && ports.iter().all(|port| self.lists(&other.name, *port))
    }

    /// Whether this entry allows the name to resolve to an address.
    pub fn may_resolve_to(&self, address: IpAddr) -> bool {
        if is_metadata_service(address) {
            // A name server must not be able to lead a program to the metadata service of a cloud.
            return self.private && self.address() == Some(address);
        }
        let is_service = self.service_port().is_some() && address.is_loopback();
        self.private || is_service || self.address().is_some() || is_public(address)
    }
}

impl HostError {
    fn new(text: &str, reason: &'static str, advice: String) -> Self {
        Self { text: text.to_owned(), reason, advice }
    }
}

/// Normalizes a name for comparison: converts it to lower case, and removes the root dot and brackets.
pub fn normalize_name(name: &str) -> String {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_string())
}

/// The notation of a host with a port: an IPv6 address has brackets.
pub(super) fn host_and_port(name: &str, port: u16) -> String {
    if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

/// Splits a host into its normalized name and its port.
fn split_host(text: &str) -> Result<(String, Option<u16>), HostError> {
    let error = |reason, advice: &str| HostError::new(text, reason, advice.to_owned());
    if text.contains('/') {
        return Err(error("it is a URL", "write only its host: `NAME` or `NAME:PORT`"));
    }
    if text.contains('*') {
        return Err(error("patterns are not supported", "list each name"));
    }
    if text.contains('%') {
        return Err(error("addresses with a zone are not supported", "write a name, or an address without a zone"));
    }
    let is_of_v6 = |character: char| character.is_ascii_hexdigit() || ":.".contains(character);
    let is_bare_v6 = text.matches(':').count() > 1 && text.chars().all(is_of_v6);
    if is_bare_v6 {
        let advice = "write `[ADDRESS]` or `[ADDRESS]:PORT`, in quotes";
        return Err(error("an IPv6 address needs brackets", advice));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !text.ends_with(']') => (name, Some(port)),
        Some(_) | None => (text, None),
    };
    let port = port.map(str::parse::<u16>).transpose();
    let Ok(port) = port else {
        return Err(error("its port is not a number up to 65535", "write `NAME:PORT`, such as `example.org:8443`"));
    };
    if port == Some(0) {
        return Err(error("port 0 can't be reached", "write the port of the service"));
    }
    let name = normalize_name(name);
    let is_address = name.parse::<IpAddr>().is_ok();
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    if !is_address && !is_name {
        let advice = "write `NAME`, `NAME:PORT`, or an address such as `10.1.2.3:80` or `[fd00::1]:80`";
        return Err(error("it is neither a name nor an address", advice));
    }
    // A resolver reads `127.1` and `0x7f000001` as addresses, so reject names that look like an address.
    let looks_like_address =
        name.rsplit('.').next().is_some_and(|label| label.starts_with("0x") || label.parse::<u64>().is_ok());
    if !is_address && looks_like_address {
        return Err(error("it looks like an address, but is not complete", "write all four numbers, as in `10.0.0.1`"));
    }
    Ok((name, port))
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::new(text, false)
    }
}

impl TryFrom<HostForm> for Host {
    type Error = HostError;

    fn try_from(form: HostForm) -> Result<Self, HostError> {
        match form {
            HostForm::Text(text) => text.parse(),
            HostForm::Parts { host, private } => Self::new(&host, private),
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
            None if self.name.contains(':') => write!(f, "[{}]", self.name),
            None => f.write_str(&self.name),
            Some(port) => f.write_str(&host_and_port(&self.name, port)),
        }
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
    fn an_entry_covers_one_with_the_same_name_and_not_more_ports_and_addresses() {
        let private = |text: &str| Host::new(text, true).unwrap();
        assert!(
            host("Example.org").covers(&host("example.org.")) && host("example.org").covers(&host("example.org:80"))
        );
        assert!(!host("example.org").covers(&host("example.org:22")));
        assert!(!host("example.org:443").covers(&host("example.org")) && !host("example.org").covers(&host("a.org")));
        assert!(private("git.corp").covers(&host("git.corp:443")) && private("git.corp").covers(&private("git.corp")));
        assert!(!host("git.corp").covers(&private("git.corp")));
        assert!(
            host("localhost:443").covers(&host("localhost:443")) && private("localhost").covers(&host("localhost:443"))
        );
        assert!(!host("localhost").covers(&host("localhost:443")), "only the port allows a loopback address");
    }

    #[test]
    fn a_displayed_host_can_be_parsed_again() {
        for text in ["example.org", "example.org:22", "[::1]:80", "[fd00::1]", "10.0.0.1:8080"] {
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
            "2001:2::1",
            "3fff::1",
            "192.88.99.1",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "192.0.0.192",
            "100.100.100.200",
            "fd00:ec2::254",
        ] {
            assert!(!name.may_resolve_to(address.parse().unwrap()), "{address}");
            // An entry with the address itself allows it.
            let text = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            assert!(Host::new(&text, true).unwrap().may_resolve_to(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_link_local_address_is_listed_only_as_a_private_address() {
        for text in
            ["169.254.169.254", "169.254.1.1:80", "[fe80::1]:80", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"]
        {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains("link-local") && error.contains("private: true"), "{error}");
            let allowed = Host::new(text, true).unwrap();
            assert!(allowed.may_resolve_to(allowed.address().unwrap()), "{text}");
        }
        let name = Host::new("metadata.example", true).unwrap();
        assert!(name.may_resolve_to([10, 0, 0, 1].into()) && !name.may_resolve_to([169, 254, 169, 254].into()));
        let other = Host::new("169.254.1.1", true).unwrap();
        assert!(!other.may_resolve_to([169, 254, 169, 254].into()));
    }

    #[test]
    fn the_metadata_services_of_clouds_are_listed_only_as_private_addresses() {
        for text in
            ["168.63.129.16", "168.63.129.16:32526", "[::ffff:168.63.129.16]", "100.100.100.200", "[fd00:ec2::254]:80"]
        {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains("the metadata service of a cloud; write `{ host: "), "{error}");
            let allowed = Host::new(text, true).unwrap();
            assert!(allowed.may_be_private() && allowed.may_resolve_to(allowed.address().unwrap()), "{text}");
        }
        let name = Host::new("git.corp", true).unwrap();
        assert!(!name.may_resolve_to([168, 63, 129, 16].into()) && name.may_resolve_to([100, 100, 1, 1].into()));
    }

    #[test]
    fn hosts_of_this_machine_and_of_private_networks_are_not_public() {
        for text in ["localhost:5432", "a.localhost", "127.0.0.1:1", "10.1.1.1:80", "[::1]:80", "[fd00::1]:80"] {
            assert!(host(text).may_be_private(), "{text}");
        }
        assert!(Host::new("git.corp", true).unwrap().may_be_private());
        for text in ["example.org", "93.184.215.14:443", "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:443"] {
            assert!(!host(text).may_be_private(), "{text}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_host_says_what_to_write() {
        for (text, reason, advice) in [
            ("https://example.org/a", "it is a URL", "write only its host"),
            ("*.example.org", "patterns are not supported", "list each name"),
            ("::1:8080", "an IPv6 address needs brackets", "`[ADDRESS]:PORT`"),
            ("2001:db8::1", "an IPv6 address needs brackets", "`[ADDRESS]`"),
            ("[fe80::1%eth0]:80", "addresses with a zone", "without a zone"),
            ("example.org:http", "its port is not a number", "`NAME:PORT`"),
            ("127.1", "is not complete", "all four numbers"),
            ("host:80:90", "neither a name nor an address", "`NAME:PORT`"),
            ("a b", "neither a name nor an address", "`[fd00::1]:80`"),
        ] {
            let error = text.parse::<Host>().unwrap_err().to_string();
            let (problem, help) = error.split_once("; ").unwrap();
            assert!(problem.contains(reason) && help.contains(advice), "{error}");
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
