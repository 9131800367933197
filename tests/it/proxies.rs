//! Proxies: orch uses them, respects exceptions, and names them in failures.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use orch::model::failure::FailureClass;
use orch::network::Network;
use orch::provider::{Dialect, Endpoint};

use crate::provider::{ask, endpoint, request, short_limits};
use crate::support::{ClosedPort, Orch, Reply, Server};

/// An endpoint that is reached with these environment variables.
fn endpoint_with_variables(variables: &[(&'static str, String)], base_url: &str) -> Endpoint {
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    Endpoint { network: Arc::new(Network::from_variables(lookup)), ..endpoint(Dialect::OpenAi, base_url.to_owned()) }
}

#[tokio::test]
async fn proxies_are_used_for_other_hosts_only() {
    let proxy = Server::saying("by way of the proxy");
    let variables = [("HTTP_PROXY", proxy.url())];
    let server = Server::saying("directly");
    for host in ["127.0.0.1", "localhost"] {
        let base = server.openai_url().replace("127.0.0.1", host);
        assert_eq!(
            ask(endpoint_with_variables(&variables, &base), &request(), &short_limits()).await.unwrap().text(),
            "directly"
        );
    }
    assert!(proxy.requests().is_empty());
    let reply =
        ask(endpoint_with_variables(&variables, "http://model.invalid/v1"), &request(), &short_limits()).await.unwrap();
    assert_eq!(reply.text(), "by way of the proxy");
    let paths: Vec<String> = proxy.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["http://model.invalid/v1/chat/completions"]);
}

#[tokio::test]
async fn a_proxy_receives_its_user_and_password_and_no_message_shows_them() {
    let proxy = Server::start(|request| match request.header("proxy-authorization") {
        Some("Basic dTpwQHNz") => Reply::openai_text("let in"),
        _ => Reply::status(407, "who are you?"),
    });
    let with = |user: &str| [("all_proxy", proxy.url().replace("http://", &format!("http://{user}@")))];
    let reply = ask(endpoint_with_variables(&with("u:p%40ss"), "http://model.invalid/v1"), &request(), &short_limits())
        .await
        .unwrap();
    assert_eq!(reply.text(), "let in");
    let failure =
        ask(endpoint_with_variables(&with("u:wrong"), "http://model.invalid/v1"), &request(), &short_limits())
            .await
            .unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::BadRequest, Some(407)));
    assert_eq!(
        failure.message,
        format!("the proxy {} (from all_proxy) asks for a user and password (407): who are you?", proxy.url())
    );
    assert!(!format!("{failure:?}").contains("wrong"), "{failure:?}");
}

#[tokio::test]
async fn an_unreachable_proxy_is_named_with_its_variable() {
    let closed = ClosedPort::reserve();
    let gone = closed.url();
    for (variable, base) in [("HTTP_PROXY", "http://model.invalid/v1"), ("https_proxy", "https://model.invalid/v1")] {
        let failure = ask(endpoint_with_variables(&[(variable, gone.clone())], base), &request(), &short_limits())
            .await
            .unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        let message = format!("can't reach {base} through the proxy {gone} (from {variable}): connection refused");
        assert_eq!(failure.message, message);
        let hint = format!("check the proxy in {variable}, or name the host in NO_PROXY");
        assert_eq!(failure.hint.as_deref(), Some(hint.as_str()));
    }
    let wrong = endpoint_with_variables(&[("ALL_PROXY", "ftp://p:1".into())], "http://model.invalid");
    let failure = ask(wrong, &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.message, "the proxy `ftp://p:1`, from ALL_PROXY, is not an address");
}

#[tokio::test]
async fn the_failure_of_a_tunnel_has_the_reason_and_a_hint() {
    for (status, class, words, hint) in [
        (407, FailureClass::BadRequest, "asks for a user and password (407)", "write them into HTTPS_PROXY"),
        (
            403,
            FailureClass::ProviderUnavailable,
            "it refuses to connect to that server",
            "have the proxy in HTTPS_PROXY allow",
        ),
        (502, FailureClass::ProviderUnavailable, "it refuses to connect to that server", "name the host in NO_PROXY"),
    ] {
        let proxy = Server::always(Reply::status(status, "no"));
        let tunnel = endpoint_with_variables(&[("HTTPS_PROXY", proxy.url())], "https://model.invalid/v1");
        let failure = ask(tunnel, &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, class, "{status}: {failure:?}");
        assert!(failure.message.contains(words) && failure.message.contains(&proxy.url()), "{status}: {failure:?}");
        assert!(failure.hint.unwrap().contains(hint), "{status}");
    }
}

/// A SOCKS5 proxy (RFC 1928) that connects every client to `server`; also returns the hosts that were requested.
pub(crate) fn start_socks_proxy(server: &Server) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, target) = (Arc::new(Mutex::new(Vec::new())), server.port());
    let hosts = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let hosts = hosts.clone();
            thread::spawn(move || forward(stream.unwrap(), target, &hosts));
        }
    });
    (address, asked)
}

fn read_bytes(client: &mut TcpStream, count: u8) -> Vec<u8> {
    let mut bytes = vec![0; count.into()];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

fn forward(mut client: TcpStream, target: u16, hosts: &Mutex<Vec<String>>) {
    let methods = read_bytes(&mut client, 2)[1];
    read_bytes(&mut client, methods);
    client.write_all(&[5, 0]).unwrap();
    let is_name = read_bytes(&mut client, 4)[3] == 3;
    let host = if is_name {
        let length = read_bytes(&mut client, 1)[0];
        String::from_utf8(read_bytes(&mut client, length)).unwrap()
    } else {
        read_bytes(&mut client, 4).iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    };
    read_bytes(&mut client, 2);
    hosts.lock().unwrap().push(host);
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).unwrap();
    let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
    let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut up, &mut down));
    let _ = std::io::copy(&mut &server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[tokio::test]
async fn a_socks5h_proxy_resolves_the_host_name() {
    let server = Server::saying("by way of SOCKS");
    let (address, hosts) = start_socks_proxy(&server);
    let variables = [("ALL_PROXY", format!("socks5h://{address}"))];
    let reply =
        ask(endpoint_with_variables(&variables, "http://model.invalid/v1"), &request(), &short_limits()).await.unwrap();
    assert_eq!(reply.text(), "by way of SOCKS");
    assert_eq!(*hosts.lock().unwrap(), ["model.invalid"]);
    // With `socks5`, this machine resolves the name, and the message says so.
    let variables = [("ALL_PROXY", format!("socks5://{address}"))];
    let failure = ask(endpoint_with_variables(&variables, "http://model.invalid/v1"), &request(), &short_limits())
        .await
        .unwrap_err();
    assert!(failure.message.contains(&format!("through the proxy socks5://{address} (from ALL_PROXY)")), "{failure:?}");
    assert!(failure.hint.unwrap().contains("socks5h://"));
}

#[test]
fn a_failure_of_a_run_names_the_proxy_of_the_environment() {
    let orch = Orch::empty();
    orch.write("orch.yaml", "providers:\n  lab: { dialect: openai, base_url: \"http://llm.invalid/v1\" }\n");
    orch.write("prompts/p.md", "p");
    orch.write(
        "pipelines/main.yaml",
        "name: one\nagents: { a: { model: lab/m } }\nsteps:\n  - { id: say, agent: a, prompt: p.md, schema: text, output: said, retry: { max: 1 } }\n",
    );
    for proxy in ["http://127.0.0.1:9", "socks5h://127.0.0.1:9"] {
        let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--yes"]);
        let ran = command.env("ALL_PROXY", proxy).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains(&format!("through the proxy {proxy} (from ALL_PROXY)")), "{said}");
    }
}
