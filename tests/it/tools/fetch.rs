//! Tests of `fetch`: pages, redirects, private addresses, and names that change their addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use orch::network::Network;
use orch::tool::HostLookup;
use serde_json::json;

use super::ToolSite;
use crate::support::{Reply, Server};

/// A site whose agent may read pages of a server on this machine.
fn site_for(server: &Server) -> ToolSite {
    let mut site = ToolSite::new(&[&format!("fetch(127.0.0.1:{})", server.port())]);
    site.settings = json!({ "network": [format!("127.0.0.1:{}", server.port())] });
    site
}

/// A lookup that returns these addresses one after another, and counts its calls.
pub(super) fn changing_lookup(addresses: Vec<&'static str>) -> (HostLookup, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let calls = count.clone();
    let lookup = move |_: String, port: u16| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let address = addresses[call.min(addresses.len() - 1)].parse().unwrap();
        async move { Ok::<_, std::io::Error>(vec![SocketAddr::new(address, port)]) }.boxed()
    };
    (Arc::new(lookup), count)
}

#[test]
fn a_page_is_returned_as_text_with_its_status_and_type() {
    let server = Server::start(|request| match request.path.as_str() {
        "/page?a=1" => Reply::html("<h1>Title</h1><p>Some <b>text</b> &amp; more<script>x()</script>"),
        "/data" => Reply::status(200, "{\"a\": 1}"),
        "/latin" => Reply::typed("text/plain; charset=iso-8859-1", b"caf\xe9".to_vec()),
        "/image" => Reply::typed("image/png", b"\x89PNG\r\n\x1a\n\0".to_vec()),
        _ => Reply::status(404, "<p>Not here").header("content-type", "text/html"),
    });
    let site = site_for(&server);
    let fetch = |path: &str| site.call("fetch", json!({"url": format!("{}{path}", server.url())}));
    let page = fetch("/page?a=1#part").succeeds();
    let expected = format!(
        "[{}/page?a=1 has status 200, text/html; charset=utf-8]\n\n# Title\n\nSome text & more\n",
        server.url()
    );
    assert_eq!(page.text, expected);
    assert!(fetch("/data").succeeds().text.ends_with("\n\n{\"a\": 1}\n"));
    assert!(fetch("/latin").succeeds().text.ends_with("\n\ncafé\n"));
    fetch("/image").fails_with("[the page is not text: image/png, 9 bytes]");
    let missing = fetch("/missing").fails_with("has status 404");
    assert!(missing.text.ends_with("\n\nNot here\n"), "{}", missing.text);
    let request = server.requests().remove(0);
    assert_eq!((request.method.as_str(), request.header("authorization")), ("GET", None));
    assert!(request.header("user-agent").unwrap().starts_with("orch/"));
}

#[test]
fn only_allowed_hosts_and_ports_are_read() {
    let (server, other) = (Server::always(Reply::html("in")), Server::always(Reply::html("out")));
    let site = site_for(&server);
    let fetch = |url: String| site.call("fetch", json!({"url": url}));
    fetch(server.url()).succeeds();
    let allowed = format!("this agent may read only `127.0.0.1:{}`", server.port());
    fetch(other.url()).fails_with(&allowed);
    fetch(server.url().replace("127.0.0.1", "localhost")).fails_with(&allowed);
    fetch(server.url().replace("127.0.0.1", "0.0.0.0")).fails_with(&allowed);
    fetch("http://169.254.169.254/latest/meta-data/".to_owned()).fails_with(&allowed);
    fetch("https://docs.rs/".to_owned()).fails_with(&allowed);
    fetch("file:///etc/passwd".to_owned()).fails_with("does not begin with `http://` or `https://`");
    fetch(server.url().replace("http://", "http://user:pass@")).fails_with("contains a user or a password");
    // Another spelling of the same address is the same address.
    fetch(server.url().replace("127.0.0.1", "0x7f.1")).succeeds();
    assert!(other.requests().is_empty());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_redirect_is_followed_only_to_an_allowed_host() {
    let other = Server::always(Reply::html("secret"));
    let other_url = other.url();
    let server = Server::start(move |request| {
        let redirect = |status: u16, target: &str| Reply::status(status, "").header("location", target);
        match request.path.as_str() {
            "/relative" => redirect(302, "/page"),
            "/metadata" => redirect(301, "http://169.254.169.254/latest/meta-data/"),
            "/other" => redirect(307, &other_url),
            "/decimal" => redirect(302, "http://2130706433/"),
            "/file" => redirect(302, "file:///etc/passwd"),
            "/user" => redirect(302, "http://user:pass@127.0.0.1/"),
            "/loop" => redirect(308, "/loop"),
            _ => Reply::html("the page"),
        }
    });
    let site = site_for(&server);
    let fetch = |path: &str| site.call("fetch", json!({"url": format!("{}{path}", server.url())}));
    let page = fetch("/relative").succeeds();
    assert!(page.text.contains("/page has status 200") && page.text.ends_with("the page\n"), "{}", page.text);
    fetch("/metadata").fails_with("`169.254.169.254:80` was not read: this agent may read only");
    fetch("/other").fails_with("this agent may read only");
    fetch("/decimal").fails_with("`127.0.0.1:80` was not read");
    fetch("/file").fails_with("does not begin with `http://` or `https://`");
    fetch("/user").fails_with("contains a user or a password");
    fetch("/loop").fails_with("there were more than 10 redirects");
    assert!(other.requests().is_empty());
}

#[test]
fn a_name_with_a_private_address_is_not_read_and_is_resolved_only_once() {
    let server = Server::always(Reply::html("private"));
    let url = format!("http://page.test:{}/", server.port());
    let mut site = ToolSite::new(&[&format!("fetch(page.test:{})", server.port())]);
    for address in
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "224.0.0.1", "::ffff:127.0.0.1", "168.63.129.16"]
    {
        site.lookup = changing_lookup(vec![address]).0;
        site.call("fetch", json!({"url": url})).fails_with("of this machine or of a private network");
    }
    assert!(server.requests().is_empty());
    // `orch.yaml` allows the name to have a private address. orch connects to the address that it has checked.
    let host = format!("page.test:{}", server.port());
    site.settings = json!({ "network": [{ "host": host, "private": true }] });
    let (lookup, count) = changing_lookup(vec!["127.0.0.1", "203.0.113.9"]);
    site.lookup = lookup;
    assert!(site.call("fetch", json!({"url": url})).succeeds().text.ends_with("private\n"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests()[0].header("host"), Some(host.as_str()));
}

#[test]
fn a_pattern_allows_a_server_on_this_machine_only_if_the_project_lists_it() {
    let server = Server::always(Reply::html("page"));
    let host = format!("127.0.0.1:{}", server.port());
    let mut site = ToolSite::new(&[&format!("fetch({host})"), &format!("fetch(localhost:{})", server.port())]);
    let names = [server.url(), server.url().replace("127.0.0.1", "localhost")];
    let not_allowed = "the `sandbox.network` of `orch.yaml` does not allow this host";
    for settings in [json!({}), json!({ "network": "none" }), json!({ "network": ["docs.rs"] })] {
        site.settings = settings;
        // What the agent itself lists has no effect.
        for sandbox in [Some(json!({})), Some(json!({ "network": [host] })), None] {
            site.sandbox = sandbox;
            for url in &names {
                site.call("fetch", json!({"url": url})).fails_with(not_allowed);
            }
        }
    }
    assert!(server.requests().is_empty());
    site.settings = json!({ "network": [host] });
    site.call("fetch", json!({"url": names[0]})).succeeds();
    site.call("fetch", json!({"url": names[1]})).fails_with(not_allowed);
    // With another sandbox of its own, the agent may still read the page.
    site.sandbox = Some(json!({ "network": "none" }));
    site.call("fetch", json!({"url": names[0]})).succeeds();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_pattern_allows_no_public_host_that_the_project_excludes() {
    let mut site = ToolSite::new(&["fetch(docs.rs)"]);
    let (lookup, count) = changing_lookup(vec!["127.0.0.1"]);
    site.lookup = lookup;
    for settings in [json!({ "network": "none" }), json!({ "network": ["crates.io"] })] {
        site.settings = settings;
        site.call("fetch", json!({"url": "https://docs.rs/"})).fails_with("`orch.yaml` does not allow this host");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "the name is not even resolved");
    site.settings = json!({ "network": ["docs.rs"] });
    site.call("fetch", json!({"url": "https://docs.rs/"})).fails_with("of this machine or of a private network");
}

#[test]
fn without_a_pattern_the_network_of_the_sandbox_decides() {
    let server = Server::always(Reply::html("page"));
    let mut site = ToolSite::new(&["fetch"]);
    let url = server.url();
    site.call("fetch", json!({"url": url})).fails_with("this agent may read no host");
    site.settings = json!({ "network": "all" });
    site.call("fetch", json!({"url": url})).fails_with("of this machine or of a private network");
    site.call("fetch", json!({"url": url.replace("127.0.0.1", "localhost")})).fails_with("of this machine");
    site.settings = json!({ "network": [format!("127.0.0.1:{}", server.port())] });
    site.call("fetch", json!({"url": url})).succeeds();
    site.sandbox = None;
    site.call("fetch", json!({"url": url})).fails_with("this agent may read no host");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_proxy_is_used_and_named_and_resolves_no_private_name() {
    let proxy = Server::always(Reply::html("by way of the proxy"));
    let mut site = ToolSite::new(&["fetch"]);
    site.settings = json!({ "network": "all" });
    let proxy_url = proxy.url();
    site.network = Network::from_variables(|name| (name == "HTTP_PROXY").then(|| proxy_url.clone()));
    let page = site.call("fetch", json!({"url": "http://page.example/a"})).succeeds();
    let via = format!("through the proxy {proxy_url} (from HTTP_PROXY), which resolved the name]");
    assert!(page.text.contains(&via) && page.text.ends_with("by way of the proxy\n"), "{}", page.text);
    for url in ["http://router/", "http://nas.local/", "http://10.0.0.1/", "http://169.254.169.254/"] {
        site.call("fetch", json!({"url": url})).fails_with("of this machine or of a private network");
    }
    let paths: Vec<String> = proxy.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["http://page.example/a"]);
}

#[test]
fn large_slow_and_broken_responses_are_limited() {
    let server = Server::start(|request| match request.path.as_str() {
        "/large" => Reply::typed("text/plain", "0123456789\n".repeat(1 << 20)),
        "/slow" => Reply::typed("text/plain", "beginning").stall_after(3),
        _ => Reply::typed("text/plain", "beginning").cut_after(3),
    });
    let mut site = site_for(&server);
    let url = server.url();
    let large = site.call("fetch", json!({"url": format!("{url}/large")})).succeeds();
    let end = "[the page is longer than 8388608 bytes, and its end is left out; `fetch` can't show this part; look for a \
               page that contains only what you need]\n";
    assert!(large.text.ends_with(end), "{}", &large.text[large.text.len() - 300..]);
    assert!(large.text.contains("bytes are left out here; `fetch` can't show this part"));
    assert!(large.full_output.unwrap().len() > 8 << 20);
    site.call("fetch", json!({"url": format!("{url}/broken")})).fails_with("was not read: ");
    site.timeout_ms = 300;
    let limit = Duration::from_millis(300);
    site.call("fetch", json!({"url": format!("{url}/slow")})).fails_with(&format!("was not read within {limit:?}"));
    let _closed = server.close();
    site.timeout_ms = 60_000;
    site.call("fetch", json!({"url": url})).fails_with("was not read: ");
}
