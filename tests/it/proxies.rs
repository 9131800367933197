//! Proxies on the way to a server: they are used, excepted and named.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use orch::model::failure::FailureClass;
use orch::network::Network;
use orch::provider::{Dialect, Endpoint};

use crate::provider::{ask, endpoint, request, short};
use crate::support::{Orch, Reply, Server};

/// An endpoint that is reached as these variables say.
fn through(variables: &[(&'static str, String)], base_url: &str) -> Endpoint {
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    Endpoint { network: Arc::new(Network::from_variables(lookup)), ..endpoint(Dialect::OpenAi, base_url.to_owned()) }
}

#[tokio::test]
async fn proxies_are_for_other_hosts_only() {
    let proxy = Server::saying("by way of the proxy");
    let variables = [("HTTP_PROXY", proxy.url())];
    let server = Server::saying("directly");
    for host in ["127.0.0.1", "localhost"] {
        let base = server.openai_url().replace("127.0.0.1", host);
        assert_eq!(ask(through(&variables, &base), &request(), &short()).await.unwrap().text(), "directly");
    }
    assert!(proxy.requests().is_empty());
    let reply = ask(through(&variables, "http://model.invalid/v1"), &request(), &short()).await.unwrap();
    assert_eq!(reply.text(), "by way of the proxy");
    let paths: Vec<String> = proxy.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["http://model.invalid/v1/chat/completions"]);
}

#[tokio::test]
async fn a_proxy_gets_its_user_and_password_and_no_message_shows_them() {
    let proxy = Server::start(|request| match request.header("proxy-authorization") {
        Some("Basic dTpwQHNz") => Reply::openai_text("let in"),
        _ => Reply::status(407, "who are you?"),
    });
    let with = |user: &str| [("all_proxy", proxy.url().replace("http://", &format!("http://{user}@")))];
    let reply = ask(through(&with("u:p%40ss"), "http://model.invalid/v1"), &request(), &short()).await.unwrap();
    assert_eq!(reply.text(), "let in");
    let failure = ask(through(&with("u:wrong"), "http://model.invalid/v1"), &request(), &short()).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::BadRequest, Some(407)));
    assert_eq!(
        failure.message,
        format!("the proxy {} (from all_proxy) asks for a user and password (407): who are you?", proxy.url())
    );
    assert!(!format!("{failure:?}").contains("wrong"), "{failure:?}");
}

#[tokio::test]
async fn a_proxy_that_can_not_be_reached_is_named_with_its_variable() {
    let gone = Server::saying("x").url();
    for (variable, base) in [("HTTP_PROXY", "http://model.invalid/v1"), ("https_proxy", "https://model.invalid/v1")] {
        let failure = ask(through(&[(variable, gone.clone())], base), &request(), &short()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        let message = format!("can't reach {base} through the proxy {gone} (from {variable}): connection refused");
        assert_eq!(failure.message, message);
        let hint = format!("check the proxy in {variable}, or name the host in NO_PROXY");
        assert_eq!(failure.hint.as_deref(), Some(hint.as_str()));
    }
    let wrong = through(&[("ALL_PROXY", "ftp://p:1".into())], "http://model.invalid");
    let failure = ask(wrong, &request(), &short()).await.unwrap_err();
    assert_eq!(failure.message, "the proxy `ftp://p:1`, from ALL_PROXY, is not an address");
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_says_why_and_what_to_do() {
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
        let tunnel = through(&[("HTTPS_PROXY", proxy.url())], "https://model.invalid/v1");
        let failure = ask(tunnel, &request(), &short()).await.unwrap_err();
        assert_eq!(failure.class, class, "{status}: {failure:?}");
        assert!(failure.message.contains(words) && failure.message.contains(&proxy.url()), "{status}: {failure:?}");
        assert!(failure.hint.unwrap().contains(hint), "{status}");
    }
}

/// A SOCKS5 proxy (RFC 1928) that leads every connection to `server`; the hosts that it was asked for.
fn socks(server: &Server) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, target) = (Arc::new(Mutex::new(Vec::new())), server.port());
    let hosts = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let hosts = hosts.clone();
            thread::spawn(move || lead(stream.unwrap(), target, &hosts));
        }
    });
    (address, asked)
}

fn take(client: &mut TcpStream, count: u8) -> Vec<u8> {
    let mut bytes = vec![0; count.into()];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

fn lead(mut client: TcpStream, target: u16, hosts: &Mutex<Vec<String>>) {
    let methods = take(&mut client, 2)[1];
    take(&mut client, methods);
    client.write_all(&[5, 0]).unwrap();
    let is_name = take(&mut client, 4)[3] == 3;
    let host = if is_name {
        let length = take(&mut client, 1)[0];
        String::from_utf8(take(&mut client, length)).unwrap()
    } else {
        take(&mut client, 4).iter().map(u8::to_string).collect::<Vec<_>>().join(".")
    };
    take(&mut client, 2);
    hosts.lock().unwrap().push(host);
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).unwrap();
    let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
    let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut up, &mut down));
    let _ = std::io::copy(&mut &server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[tokio::test]
async fn a_socks_proxy_looks_the_host_up_if_it_is_told_to() {
    let server = Server::saying("by way of SOCKS");
    let (address, hosts) = socks(&server);
    let variables = [("ALL_PROXY", format!("socks5h://{address}"))];
    let reply = ask(through(&variables, "http://model.invalid/v1"), &request(), &short()).await.unwrap();
    assert_eq!(reply.text(), "by way of SOCKS");
    assert_eq!(*hosts.lock().unwrap(), ["model.invalid"]);
    // With `socks5` this machine looks it up, and the message says whose doing that is.
    let variables = [("ALL_PROXY", format!("socks5://{address}"))];
    let failure = ask(through(&variables, "http://model.invalid/v1"), &request(), &short()).await.unwrap_err();
    assert!(failure.message.contains(&format!("through the proxy socks5://{address} (from ALL_PROXY)")), "{failure:?}");
    assert!(failure.hint.unwrap().contains("socks5h://"));
}

#[test]
fn a_run_names_the_proxy_of_its_environment() {
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
