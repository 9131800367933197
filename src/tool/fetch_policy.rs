//! Decides which hosts and addresses `fetch` may connect to.

use std::net::IpAddr;

use crate::model::{AllowedHost, BuiltinTool, HostList, SandboxNetwork, ToolGrant, is_public_address};

/// Endings of names that exist only inside a private network.
const PRIVATE_SUFFIXES: &[&str] =
    &["localhost", "local", "internal", "lan", "home.arpa", "corp", "home", "intranet", "private"];

/// The hosts that the grants for `fetch` and the sandbox of an agent allow.
#[derive(Debug)]
pub(super) struct FetchPolicy {
    listed: HostList,
    /// The listed hosts as texts, for messages.
    texts: Vec<String>,
    /// Whether every public host is allowed.
    allows_any_host: bool,
}

impl FetchPolicy {
    /// The hosts that the patterns of the grants name. Without a pattern, a grant allows the hosts in the `network` of
    /// the sandbox. An entry of `network` with `private: true` also applies to the pattern with the same host.
    ///
    /// # Errors
    /// A host is not valid. The error is the reason.
    pub(super) fn new(grants: &[ToolGrant], network: Option<&SandboxNetwork>) -> Result<Self, String> {
        let network_hosts: &[AllowedHost] = match network {
            Some(SandboxNetwork::Hosts(hosts)) => hosts,
            Some(SandboxNetwork::None | SandboxNetwork::All) | None => &[],
        };
        let mut hosts: Vec<AllowedHost> = Vec::new();
        let mut allows_any_host = false;
        for grant in grants.iter().filter(|grant| grant.tool == BuiltinTool::Fetch) {
            if let Some(pattern) = &grant.pattern {
                let private = network_hosts.iter().any(|host| host.private && host.host == *pattern);
                hosts.push(AllowedHost { host: pattern.clone(), private });
            } else {
                hosts.extend(network_hosts.iter().cloned());
                allows_any_host |= network == Some(&SandboxNetwork::All);
            }
        }
        let texts = hosts.iter().map(|host| format!("`{}`", host.host)).collect();
        Ok(Self { listed: HostList::parse(&hosts)?, texts, allows_any_host })
    }

    /// Checks that a host is allowed at a port, before its name is resolved.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn check_host(&self, name: &str, port: u16) -> Result<(), String> {
        if self.allows_any_host || self.listed.contains(name, port) {
            return Ok(());
        }
        if self.texts.is_empty() {
            return Err(format!("`{name}:{port}` was not read: this agent may read no host; work without pages"));
        }
        let hosts = self.texts.join(", ");
        Err(format!("`{name}:{port}` was not read: this agent may read only {hosts}; read a page there"))
    }

    /// Whether a connection to an allowed host may go to an address to which its name resolves.
    pub(super) fn allows_address(&self, name: &str, port: u16, address: IpAddr) -> bool {
        self.listed.allows_address(name, port, address) || (self.allows_any_host && is_public_address(address))
    }

    /// Checks a host that a proxy resolves, so that orch can't check its addresses. A name that is not listed must not
    /// look like one of a private network.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn check_host_behind_proxy(&self, name: &str, port: u16) -> Result<(), String> {
        if self.listed.contains(name, port) {
            return Ok(());
        }
        let bare_name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let is_below = |suffix: &&str| bare_name.strip_suffix(*suffix).is_some_and(|rest| rest.ends_with('.'));
        let is_private = if let Ok(address) = bare_name.parse::<IpAddr>() {
            !is_public_address(address)
        } else {
            !bare_name.contains('.') || PRIVATE_SUFFIXES.iter().any(is_below)
        };
        if is_private { Err(private_host_message(name, port)) } else { Ok(()) }
    }
}

/// The message about a host with only private addresses.
pub(super) fn private_host_message(name: &str, port: u16) -> String {
    format!(
        "`{name}:{port}` was not read: it is an address of this machine or of a private network, which this agent may \
         not read; read a page of a public host"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(grants: &[&str], network: Option<&SandboxNetwork>) -> FetchPolicy {
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        FetchPolicy::new(&grants, network).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_allows_one_host_at_public_addresses() {
        let policy = policy(&["fetch(docs.rs)", "fetch(127.0.0.1:8080)"], Some(&SandboxNetwork::None));
        assert!(policy.check_host("docs.rs", 443).is_ok() && policy.check_host("DOCS.rs.", 80).is_ok());
        for (name, port) in [("docs.rs", 8080), ("a.docs.rs", 443), ("docs.rs.evil.example", 443), ("127.0.0.1", 80)] {
            let error = policy.check_host(name, port).unwrap_err();
            assert!(error.ends_with("may read only `docs.rs`, `127.0.0.1:8080`; read a page there"), "{error}");
        }
        assert!(policy.allows_address("docs.rs", 443, address("1.1.1.1")));
        assert!(!policy.allows_address("docs.rs", 443, address("169.254.169.254")));
        assert!(policy.allows_address("127.0.0.1", 8080, address("127.0.0.1")));
    }

    #[test]
    fn without_a_pattern_the_network_of_the_sandbox_decides() {
        let hosts = SandboxNetwork::Hosts(vec![AllowedHost { host: "git.internal".to_owned(), private: true }]);
        let listed = policy(&["fetch"], Some(&hosts));
        assert!(listed.check_host("git.internal", 443).is_ok() && listed.check_host("docs.rs", 443).is_err());
        assert!(listed.allows_address("git.internal", 443, address("10.0.0.1")));
        let narrowed = policy(&["fetch(git.internal)"], Some(&hosts));
        assert!(narrowed.allows_address("git.internal", 443, address("10.0.0.1")));
        let any = policy(&["fetch"], Some(&SandboxNetwork::All));
        assert!(any.check_host("docs.rs", 8443).is_ok() && any.allows_address("docs.rs", 8443, address("1.1.1.1")));
        assert!(!any.allows_address("docs.rs", 443, address("192.168.0.1")));
        for network in [None, Some(&SandboxNetwork::None)] {
            let error = policy(&["fetch"], network).check_host("docs.rs", 443).unwrap_err();
            assert!(error.ends_with("may read no host; work without pages"), "{error}");
        }
    }

    #[test]
    fn a_proxy_may_resolve_only_names_that_do_not_look_private() {
        let any = policy(&["fetch"], Some(&SandboxNetwork::All));
        for name in ["docs.rs", "1.1.1.1", "internal.example"] {
            assert!(any.check_host_behind_proxy(name, 80).is_ok(), "{name}");
        }
        for name in ["a.google.internal", "router", "nas.local.", "X.LAN", "10.0.0.1", "[::1]", "169.254.169.254"] {
            assert!(any.check_host_behind_proxy(name, 80).is_err(), "{name}");
        }
        assert!(policy(&["fetch(nas.local)"], None).check_host_behind_proxy("nas.local", 80).is_ok());
    }
}
