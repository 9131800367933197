//! Decides which hosts and addresses `fetch` may connect to.

use std::net::IpAddr;

use crate::model::{
    AllowedHost, BuiltinTool, HostList, SandboxNetwork, ToolGrant, allows_agent_host, is_public_address,
};

/// Endings of names that exist only inside a private network, such as those of RFC 6761, RFC 6762 and of clusters.
const PRIVATE_SUFFIXES: &[&str] = &[
    "local",
    "localdomain",
    "localdomain6",
    "internal",
    "lan",
    "home.arpa",
    "corp",
    "home",
    "intranet",
    "private",
    "test",
    "svc",
];

/// Parts of names that mean this machine, wherever they stand: resolvers and their search lists add endings.
const LOCAL_LABELS: &[&str] = &["localhost", "localhost6"];

/// The hosts that the grants for `fetch`, the sandbox of an agent and `orch.yaml` allow.
#[derive(Debug)]
pub(super) struct FetchPolicy {
    listed: HostList,
    /// The listed hosts as texts, for messages.
    texts: Vec<String>,
    /// The hosts that the pipeline lists and `orch.yaml` does not allow.
    excluded: HostList,
    /// Whether every public host is allowed.
    allows_any_host: bool,
}

impl FetchPolicy {
    /// The hosts that the patterns of the grants name. Without a pattern, a grant allows the hosts in the `network` of
    /// the sandbox. Neither allows more than `project_network`, the `network` of `orch.yaml`. A host of a pattern may
    /// have a private address if one of the two networks lists it with `private: true`.
    ///
    /// # Errors
    /// A host is not valid. The error is the reason.
    pub(super) fn new(
        grants: &[ToolGrant],
        network: Option<&SandboxNetwork>,
        project_network: Option<&SandboxNetwork>,
    ) -> Result<Self, String> {
        let is_allowed = |host: &AllowedHost| allows_agent_host(project_network, host);
        let network_hosts = listed_hosts(network);
        let mut hosts: Vec<AllowedHost> = Vec::new();
        let mut allows_any_host = false;
        for grant in grants.iter().filter(|grant| grant.tool == BuiltinTool::Fetch) {
            if let Some(pattern) = &grant.pattern {
                let host = AllowedHost { host: pattern.clone(), private: false };
                let known_hosts = network_hosts.iter().filter(|known| is_allowed(known));
                let mut private_hosts = known_hosts.chain(listed_hosts(project_network)).filter(|known| known.private);
                let private = private_hosts.any(|known| known.covers(&host));
                hosts.push(AllowedHost { private, ..host });
            } else {
                hosts.extend(network_hosts.iter().cloned());
                let all = Some(&SandboxNetwork::All);
                allows_any_host |= network == all && project_network == all;
            }
        }
        let (listed, excluded): (Vec<AllowedHost>, Vec<AllowedHost>) = hosts.into_iter().partition(is_allowed);
        let texts = listed.iter().map(|host| format!("`{}`", host.host)).collect();
        Ok(Self { listed: HostList::parse(&listed)?, texts, excluded: HostList::parse(&excluded)?, allows_any_host })
    }

    /// Checks that a host is allowed at a port, before its name is resolved.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn check_host(&self, name: &str, port: u16) -> Result<(), String> {
        // With a further dot, a resolver could take a name for an address that is written in another way.
        if name.strip_suffix('.').unwrap_or(name).split('.').any(str::is_empty) {
            return Err(format!("`{name}:{port}` was not read: the name has an empty part"));
        }
        if self.allows_any_host || self.listed.contains(name, port) {
            return Ok(());
        }
        if self.excluded.contains(name, port) {
            return Err(format!(
                "`{name}:{port}` was not read: the `sandbox.network` of `orch.yaml` does not allow this host"
            ));
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

    /// Whether a host is listed as one of this machine or of a private network.
    pub(super) fn may_be_private(&self, name: &str, port: u16) -> bool {
        self.listed.may_be_private(name, port)
    }
}

/// Checks a host whose name a proxy resolves, so that orch can't check its addresses. An address must be public, and a
/// name must not look like one of a private network: the proxy would resolve it in its own network.
///
/// # Errors
/// A sentence for the model.
pub(super) fn check_host_behind_proxy(name: &str, port: u16) -> Result<(), String> {
    let bare_name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let is_below = |suffix: &&str| bare_name.strip_suffix(*suffix).is_some_and(|rest| rest.ends_with('.'));
    let is_private = if let Ok(address) = bare_name.parse::<IpAddr>() {
        !is_public_address(address)
    } else {
        let has_local_label = bare_name.split('.').any(|label| LOCAL_LABELS.contains(&label));
        !bare_name.contains('.') || has_local_label || PRIVATE_SUFFIXES.iter().any(is_below)
    };
    if is_private { Err(private_host_message(name, port)) } else { Ok(()) }
}

/// The hosts that a network lists.
fn listed_hosts(network: Option<&SandboxNetwork>) -> &[AllowedHost] {
    match network {
        Some(SandboxNetwork::Hosts(hosts)) => hosts,
        Some(SandboxNetwork::None | SandboxNetwork::All) | None => &[],
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

    fn policy(
        grants: &[&str],
        network: Option<&SandboxNetwork>,
        project_network: Option<&SandboxNetwork>,
    ) -> FetchPolicy {
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        FetchPolicy::new(&grants, network, project_network).unwrap()
    }

    fn hosts(hosts: &[(&str, bool)]) -> SandboxNetwork {
        let hosts = hosts.iter().map(|(host, private)| AllowedHost { host: (*host).to_owned(), private: *private });
        SandboxNetwork::Hosts(hosts.collect())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_allows_one_host_at_public_addresses() {
        let policy = policy(&["fetch(docs.rs)", "fetch(1.1.1.1:8080)"], Some(&SandboxNetwork::None), None);
        assert!(policy.check_host("docs.rs", 443).is_ok() && policy.check_host("DOCS.rs.", 80).is_ok());
        for (name, port) in [("docs.rs", 8080), ("a.docs.rs", 443), ("docs.rs.evil.example", 443), ("1.1.1.1", 80)] {
            let error = policy.check_host(name, port).unwrap_err();
            assert!(error.ends_with("may read only `docs.rs`, `1.1.1.1:8080`; read a page there"), "{error}");
        }
        assert!(policy.allows_address("docs.rs", 443, address("1.1.1.1")));
        assert!(!policy.allows_address("docs.rs", 443, address("169.254.169.254")));
        assert!(policy.allows_address("1.1.1.1", 8080, address("1.1.1.1")));
    }

    #[test]
    fn a_pattern_allows_a_host_of_this_machine_or_a_private_network_only_if_the_project_does() {
        let grants = ["fetch(127.0.0.1:8080)", "fetch(localhost:8080)", "fetch(10.0.0.7:80)", "fetch(docs.rs)"];
        let (own, other) = (hosts(&[("127.0.0.1:8080", false)]), hosts(&[("git.internal", true)]));
        for (network, project_network) in [(None, None), (Some(&own), None), (Some(&own), Some(&other))] {
            let policy = policy(&grants, network, project_network);
            for (name, port) in [("127.0.0.1", 8080), ("localhost", 8080), ("10.0.0.7", 80)] {
                let error = policy.check_host(name, port).unwrap_err();
                assert!(error.ends_with("the `sandbox.network` of `orch.yaml` does not allow this host"), "{error}");
                assert!(!policy.allows_address(name, port, address("127.0.0.1")), "{name}");
            }
            assert_eq!(policy.check_host("docs.rs", 443).is_ok(), project_network.is_none());
        }
        let allowed = policy(&grants, None, Some(&own));
        assert!(allowed.check_host("127.0.0.1", 8080).is_ok() && allowed.check_host("localhost", 8080).is_err());
        assert!(allowed.allows_address("127.0.0.1", 8080, address("127.0.0.1")));
        assert!(policy(&grants, None, Some(&SandboxNetwork::All)).check_host("10.0.0.7", 80).is_ok());
    }

    #[test]
    fn a_pattern_allows_no_public_host_that_the_project_excludes() {
        let listed = hosts(&[("docs.rs", false)]);
        for project_network in [SandboxNetwork::None, hosts(&[("crates.io", false)])] {
            let policy = policy(&["fetch(docs.rs)", "fetch"], Some(&listed), Some(&project_network));
            assert!(policy.check_host("docs.rs", 443).unwrap_err().contains("`sandbox.network` of `orch.yaml`"));
        }
        assert!(policy(&["fetch(docs.rs:443)"], None, Some(&listed)).check_host("docs.rs", 443).is_ok());
        let any = policy(&["fetch"], Some(&SandboxNetwork::All), Some(&listed));
        assert!(any.check_host("crates.io", 443).unwrap_err().ends_with("may read no host; work without pages"));
    }

    #[test]
    fn a_name_in_a_pattern_has_a_private_address_only_if_the_project_says_so() {
        let may_be_private = |network: Option<&SandboxNetwork>, project_network: Option<&SandboxNetwork>| {
            let policy = policy(&["fetch(git.internal:443)"], network, project_network);
            policy.allows_address("git.internal", 443, address("10.0.0.1"))
        };
        let (private, public) = (hosts(&[("git.internal", true)]), hosts(&[("git.internal", false)]));
        assert!(may_be_private(None, Some(&private)) && may_be_private(Some(&SandboxNetwork::None), Some(&private)));
        assert!(may_be_private(Some(&private), Some(&SandboxNetwork::All)));
        assert!(!may_be_private(None, Some(&SandboxNetwork::All)) && !may_be_private(None, Some(&public)));
        assert!(!may_be_private(Some(&private), None) && !may_be_private(Some(&private), Some(&public)));
    }

    #[test]
    fn without_a_pattern_the_network_of_the_sandbox_decides() {
        let private = hosts(&[("git.internal", true)]);
        let listed = policy(&["fetch"], Some(&private), Some(&private));
        assert!(listed.check_host("git.internal", 443).is_ok() && listed.check_host("docs.rs", 443).is_err());
        assert!(listed.allows_address("git.internal", 443, address("10.0.0.1")));
        let all = Some(&SandboxNetwork::All);
        let any = policy(&["fetch"], all, all);
        assert!(any.check_host("docs.rs", 8443).is_ok() && any.allows_address("docs.rs", 8443, address("1.1.1.1")));
        for private in ["192.168.0.1", "168.63.129.16", "::ffff:168.63.129.16", "192.88.99.1"] {
            assert!(!any.allows_address("docs.rs", 443, address(private)), "{private}");
        }
        for network in [None, Some(&SandboxNetwork::None)] {
            let error = policy(&["fetch"], network, None).check_host("docs.rs", 443).unwrap_err();
            assert!(error.ends_with("may read no host; work without pages"), "{error}");
        }
    }

    #[test]
    fn a_proxy_may_resolve_only_names_that_do_not_look_private() {
        for name in ["docs.rs", "1.1.1.1", "[2606:4700::1111]", "internal.example", "mylocalhost.example", "test.dev"] {
            assert!(check_host_behind_proxy(name, 80).is_ok(), "{name}");
        }
        for name in [
            "a.google.internal",
            "router",
            "router.",
            "nas.local.",
            "X.LAN",
            "localhost",
            "localhost.",
            "localhost.example",
            "a.localhost",
            "localhost.localdomain",
            "kubernetes.default.svc",
            "page.test",
            "10.0.0.1",
            "10.0.0.1.",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[fd00::1]",
            "169.254.169.254",
            "168.63.129.16",
        ] {
            assert!(check_host_behind_proxy(name, 80).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_with_an_empty_part_is_not_allowed() {
        let all = Some(&SandboxNetwork::All);
        let any = policy(&["fetch"], all, all);
        for name in ["docs.rs..", "0x7f.1..", "a..b.example", "..", ".docs.rs"] {
            assert!(any.check_host(name, 80).unwrap_err().ends_with("the name has an empty part"), "{name}");
        }
        assert!(any.check_host("docs.rs.", 80).is_ok());
    }

    #[test]
    fn a_host_is_private_only_if_it_is_listed_so() {
        let listed = hosts(&[("git.corp", true), ("nas.local", false), ("127.0.0.1:8080", false)]);
        let policy = policy(&["fetch"], Some(&listed), Some(&listed));
        assert!(policy.may_be_private("git.corp", 443) && policy.may_be_private("127.0.0.1", 8080));
        assert!(!policy.may_be_private("nas.local", 443) && !policy.may_be_private("git.corp", 8443));
    }
}
