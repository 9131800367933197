//! Tests of `fetch` behind a proxy, which connects to servers that orch can't check.

use orch::network::Network;
use serde_json::json;

use super::ToolSite;
use super::fetch::changing_lookup;
use crate::proxies::start_socks_proxy;
use crate::support::{Reply, Server};

/// A site whose agent may read every public host, with these variables in the environment.
fn site_behind(variables: &[(&str, &str)]) -> ToolSite {
    let mut site = ToolSite::new(&["fetch"]);
    site.settings = json!({ "network": "all" });
    site.network = network(variables);
    site
}

fn network(variables: &[(&str, &str)]) -> Network {
    Network::from_variables(|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

/// Names and addresses of this machine and of private networks, in every spelling.
const PRIVATE_HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "0x7f.1.",
    "127%2e0.0.1",
    "%31%32%37.0.0.1",
    "①②⑦.0.0.1",
    "１２７.0.0.1",
    "0",
    "10.0.0.1",
    "10.1",
    "167772161",
    "0x0a.0.0.1.",
    "192.168.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a00:1::]",
    "[fd00::1]",
    "[fe80::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.example",
    "a.localhost",
    "localhost.localdomain",
    "router",
    "router.",
    "nas.local.",
    "metadata.google.internal",
];

#[test]
fn no_spelling_of_a_private_host_reaches_a_proxy() {
    let proxy = Server::always(Reply::html("by way of the proxy"));
    let mut site = site_behind(&[("HTTP_PROXY", &proxy.url())]);
    // orch connects to the loopback without the proxy.
    site.lookup = changing_lookup(vec!["127.0.0.1"]).0;
    for host in PRIVATE_HOSTS {
        for port in ["", ":8080"] {
            let call = site.call("fetch", json!({"url": format!("http://{host}{port}/")}));
            call.fails_with("of this machine or of a private network");
        }
    }
    // Some resolvers ignore further dots.
    for host in ["127.0.0.1..", "0x7f.1..", "nas.local..", "a..b"] {
        let call = site.call("fetch", json!({"url": format!("http://{host}/")}));
        assert!(call.is_error, "{host}: {call:?}");
    }
    assert!(proxy.requests().is_empty());
}

#[test]
fn a_redirect_behind_a_proxy_leads_to_no_private_host() {
    let proxy = Server::start(|request| {
        let host = request.path.rsplit_once("?to=").map(|(_, host)| host.to_owned());
        host.map_or_else(
            || Reply::html("by way of the proxy"),
            |host| Reply::status(302, "").header("location", &format!("http://{host}/")),
        )
    });
    let mut site = site_behind(&[("HTTP_PROXY", &proxy.url())]);
    site.lookup = changing_lookup(vec!["127.0.0.1"]).0;
    let hosts = ["10.0.0.1", "0x7f.1", "[::ffff:a9fe:a9fe]", "[64:ff9b::a00:1]", "nas.local.", "localhost.example"];
    for host in hosts {
        let call = site.call("fetch", json!({"url": format!("http://page.example/?to={host}")}));
        call.fails_with("of this machine or of a private network");
    }
    assert_eq!(proxy.requests().len(), hosts.len(), "the proxy receives only the first requests");
    let page = site.call("fetch", json!({"url": "http://page.example/?to=other.example"})).succeeds();
    assert!(page.text.ends_with("by way of the proxy\n"), "{}", page.text);
}

#[test]
fn a_host_in_no_proxy_is_checked_also_with_a_dot_at_its_end() {
    let proxy = Server::always(Reply::html("by way of the proxy"));
    let mut site = site_behind(&[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", "corp.example,10.0.0.0/8")]);
    site.lookup = changing_lookup(vec!["10.0.0.7"]).0;
    for host in ["wiki.corp.example", "wiki.corp.example.", "WIKI.corp.example.", "corp.example.", "10.0.0.7"] {
        let call = site.call("fetch", json!({"url": format!("http://{host}/")}));
        call.fails_with("of this machine or of a private network");
    }
    assert!(proxy.requests().is_empty());
}

#[test]
fn a_host_that_is_listed_as_private_is_reached_without_the_proxy() {
    let proxy = Server::always(Reply::html("by way of the proxy"));
    let server = Server::always(Reply::html("directly"));
    let port = server.port();
    let mut site = ToolSite::new(&["fetch"]);
    site.settings = json!({
        "network": [
            { "host": format!("git.corp:{port}"), "private": true },
            format!("localhost:{port}"),
            "nas.local",
            "page.example",
        ],
    });
    site.network = network(&[("HTTP_PROXY", &proxy.url())]);
    site.lookup = changing_lookup(vec!["127.0.0.1"]).0;
    for host in ["git.corp", "git.corp.", "GIT.corp", "localhost", "localhost."] {
        let page = site.call("fetch", json!({"url": format!("http://{host}:{port}/")})).succeeds();
        assert!(page.text.ends_with("directly\n") && !page.text.contains("proxy"), "{host}: {}", page.text);
    }
    assert_eq!((server.requests().len(), proxy.requests().len()), (5, 0));
    // A listed name that is not private must not lead the proxy to a private network.
    site.call("fetch", json!({"url": "http://nas.local/"})).fails_with("of this machine or of a private network");
    assert!(proxy.requests().is_empty());
    let page = site.call("fetch", json!({"url": "http://page.example/"})).succeeds();
    assert!(page.text.ends_with("by way of the proxy\n"), "{}", page.text);
}

#[test]
fn with_a_proxy_for_which_this_machine_resolves_names_the_addresses_are_checked() {
    let server = Server::always(Reply::html("by way of SOCKS"));
    let (address, requested_hosts) = start_socks_proxy(&server);
    let proxy = format!("socks5://{address}");
    let mut site = site_behind(&[("ALL_PROXY", &proxy)]);
    for private in ["10.0.0.7", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.7", "64:ff9b::a00:7"] {
        site.lookup = changing_lookup(vec![private]).0;
        let call = site.call("fetch", json!({"url": "http://page.example/"}));
        call.fails_with("of this machine or of a private network");
    }
    assert!(requested_hosts.lock().unwrap().is_empty());
    // The proxy receives the address that orch has checked, and not the name.
    let (lookup, count) = changing_lookup(vec!["1.1.1.1", "10.0.0.7"]);
    site.lookup = lookup;
    let page = site.call("fetch", json!({"url": "http://page.example/"})).succeeds();
    assert!(page.text.contains(&format!("through the proxy {proxy} (from ALL_PROXY)]")), "{}", page.text);
    assert_eq!(*requested_hosts.lock().unwrap(), ["1.1.1.1"]);
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);

    let proxy = format!("socks5h://{address}");
    site.network = network(&[("ALL_PROXY", &proxy)]);
    let page = site.call("fetch", json!({"url": "http://page.example/"})).succeeds();
    let via = format!("through the proxy {proxy} (from ALL_PROXY), which resolved the name]");
    assert!(page.text.contains(&via), "{}", page.text);
    assert_eq!(*requested_hosts.lock().unwrap(), ["1.1.1.1", "page.example"]);
}
