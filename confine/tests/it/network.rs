//! Tests of a policy with a list of hosts: what a program can reach through the proxy.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use orch_confine::confine::{Host, Network, Policy};
use serde_json::Value;

use super::support::{Fixture, Run, User, attempts};

/// A web server outside of the sandbox, which counts its requests.
struct Server {
    port: u16,
    request_count: Arc<AtomicUsize>,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, request_count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&request_count);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || respond(stream));
            }
        });
        Self { port, request_count }
    }

    /// The number of requests since the last call.
    fn take_request_count(&self) -> usize {
        self.request_count.swap(0, Ordering::SeqCst)
    }
}

/// Responds with the received head, so that a test sees which head the proxy sent.
fn respond(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
    drop(stream.write_all(response.as_bytes()).and_then(|()| stream.write_all(&head)));
}

fn hosts(list: &[&str]) -> Network {
    Network::Hosts(list.iter().map(|host| host.parse::<Host>().unwrap()).collect())
}

fn curl(fixture: &Fixture, network: Network, arguments: &[&str]) -> Run {
    let policy = Policy { network, ..fixture.policy() };
    fixture.drive("full", &policy, &[&["curl", "-sS", "--max-time", "20"], arguments].concat())
}

/// The record of the only connection: host, outcome, sent and received bytes.
#[track_caller]
fn only_connection(run: &Run) -> (String, Value, u64, u64) {
    let connections = run.result["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 1, "{run:#?}");
    let connection = &connections[0];
    let number = |key: &str| connection[key].as_u64().unwrap();
    (
        format!("{}:{}", connection["host"].as_str().unwrap(), connection["port"]),
        connection["outcome"].clone(),
        number("sent"),
        number("received"),
    )
}

/// A name that this machine resolves to its loopback without a name server. A hostile name server could resolve any
/// name to it.
fn loopback_name() -> Option<String> {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    [own.as_str(), "ip6-localhost", "a.localhost"].into_iter().map(str::to_owned).find(|name| {
        use std::net::ToSocketAddrs as _;
        (name.as_str(), 1).to_socket_addrs().is_ok_and(|mut all| all.any(|address| address.ip().is_loopback()))
    })
}

#[test]
fn a_listed_service_of_this_machine_is_reached_at_its_own_port_only() {
    if !super::support::reaches_full() {
        return;
    }
    let (server, other) = (Server::new(), Server::new());
    for user in User::all() {
        let fixture = Fixture::new(user);
        let listed = || hosts(&[&format!("127.0.0.1:{}", server.port)]);
        for host in ["127.0.0.1", "localhost"] {
            let run = curl(&fixture, listed(), &[&format!("http://{host}:{}/a", server.port)]);
            assert!(run.succeeded().stdout.starts_with("GET /a HTTP/1.1\r\n"), "{run:#?}");
            let (to, outcome, sent, received) = only_connection(&run);
            assert_eq!((to, outcome), (format!("localhost:{}", server.port), Value::from("allowed")));
            assert!(sent > 50 && received > sent, "{sent} {received}");
        }
        let run = curl(&fixture, listed(), &[&format!("http://127.0.0.1:{}/", other.port)]);
        assert_eq!(run.code, Some(7), "{run:#?}");
        // The proxy refuses this port too.
        let run = curl(&fixture, listed(), &["--noproxy", "", &format!("http://127.0.0.1:{}/", other.port)]);
        assert!(run.stdout.contains("does not list `127.0.0.1` at port"), "{run:#?}");
        assert!(only_connection(&run).1["refused"].is_string());
        assert_eq!((server.take_request_count(), other.take_request_count()), (2, 0));
    }
}

#[test]
fn an_address_is_reached_through_the_proxy_and_every_byte_is_recorded() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let fixture = Fixture::new(user);
        let address = format!("127.0.0.2:{}", server.port);
        // The server listens on another address of the loopback, so connecting to this address fails.
        let run = curl(&fixture, hosts(&[&address]), &["-p", &format!("http://{address}/")]);
        assert_ne!(run.code, Some(0));
        let listener = TcpListener::bind("127.0.0.3:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(respond));
        for tunnel in [true, false] {
            let url = format!("http://{address}/b?c");
            let arguments: Vec<&str> =
                if tunnel { vec!["-p", "--noproxy", "", &url] } else { vec!["--noproxy", "", &url] };
            // `--noproxy ""` makes curl use the proxy even for a loopback address.
            let network = Network::Hosts(vec![
                serde_json::from_str(&format!(r#"{{"host": "{address}", "private": true}}"#)).unwrap(),
            ]);
            let run = curl(&fixture, network, &arguments);
            assert!(run.succeeded().stdout.starts_with("GET /b?c HTTP/1.1\r\n"), "{run:#?}");
            assert!(!run.stdout.contains("Proxy-Connection"), "{run:#?}");
            // `--noproxy ""` made curl use the proxy, although the service has its own listener.
            let connections = run.result["connections"].as_array().unwrap();
            let connection = connections.iter().find(|connection| connection["host"] == "127.0.0.3").unwrap();
            let actual = (connection["address"].as_str(), &connection["outcome"]);
            assert_eq!(actual, (Some(address.as_str()), &Value::from("allowed")));
            let count = |key: &str| connection[key].as_u64().unwrap();
            assert!(count("sent") > 50 && count("received") > 50, "{connection}");
        }
    }
}

#[test]
fn a_name_may_resolve_to_a_private_address_only_if_the_policy_allows_it() {
    if !super::support::reaches_full() {
        return;
    }
    let Some(name) = loopback_name() else {
        super::support::skip("only `localhost` resolves to the loopback on this machine");
        return;
    };
    let server = Server::new();
    let fixture = Fixture::new(User::all()[0]);
    let url = format!("http://{name}:{}/", server.port);
    let run = curl(&fixture, hosts(&[&format!("{name}:{}", server.port)]), &[&url]);
    assert!(run.stdout.contains("resolves only to private addresses"), "{run:#?}");
    assert!(only_connection(&run).1["refused"].is_string());
    assert_eq!(server.take_request_count(), 0);
    let host = Host::new(&format!("{name}:{}", server.port), true).unwrap();
    let run = curl(&fixture, Network::Hosts(vec![host]), &[&url]);
    assert!(run.succeeded().stdout.contains(&format!("Host: {name}")), "{run:#?}");
}

#[test]
fn a_connection_to_another_host_is_refused_with_advice_and_recorded() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        let run = curl(&fixture, hosts(&["example.org"]), &["http://other.example/"]);
        assert!(run.stdout.contains("orch's sandbox: the policy does not list `other.example` at port 80"), "{run:#?}");
        let (to, outcome, ..) = only_connection(&run);
        assert_eq!(to, "other.example:80");
        assert!(outcome["refused"].as_str().unwrap().contains("list `other.example:80`"), "{outcome}");
        let run = curl(&fixture, hosts(&["example.org"]), &["https://other.example/"]);
        assert!(run.stderr.contains("403"), "{run:#?}");
        assert_eq!(only_connection(&run).0, "other.example:443");
        let run = curl(&fixture, hosts(&["example.org"]), &["https://example.org:22/"]);
        assert!(only_connection(&run).1["refused"].is_string());
    }
}

#[test]
fn without_the_proxy_nothing_outside_is_reached() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let fixture = Fixture::new(user);
        let program = attempts().display().to_string();
        for network in [Network::None, hosts(&["example.org"])] {
            let policy = Policy { network, ..fixture.policy() };
            for line in [
                format!("tcp 127.0.0.1 {}", server.port),
                "tcp 192.0.2.1 443".to_owned(),
                "udp 192.0.2.1 53".to_owned(),
            ] {
                let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
                assert_eq!(fixture.drive("full", &policy, &argv).code, Some(1), "{line}");
            }
        }
    }
    assert_eq!(server.take_request_count(), 0);
}

#[test]
fn with_network_all_a_program_reaches_services_of_the_machine() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let fixture = Fixture::new(user);
        for level in ["full", "basic"] {
            let policy = Policy { network: Network::All, ..fixture.policy() };
            let run = fixture.drive(level, &policy, &["curl", "-sS", &format!("http://127.0.0.1:{}/", server.port)]);
            assert!(run.succeeded().stdout.starts_with("GET / "), "{run:#?}");
            let program = attempts().display().to_string();
            for line in ["raw", "packet", "vsock", "netlink-uevent", "unix-pair /dev/log"] {
                let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
                assert_eq!(fixture.drive(level, &policy, &argv).code, Some(1), "{level} {line}");
            }
        }
    }
}

#[test]
fn a_program_can_open_many_connections() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    let fixture = Fixture::new(User::all()[0]);
    let urls = format!("http://127.0.0.1:{}/[1-300]", server.port);
    let run = curl(&fixture, hosts(&[&format!("127.0.0.1:{}", server.port)]), &["-Z", "--parallel-max", "100", &urls]);
    assert_eq!(run.succeeded().result["connections"].as_array().unwrap().len(), 300);
    assert_eq!(server.take_request_count(), 300);
}
