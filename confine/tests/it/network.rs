//! A list of hosts: what a program reaches through the proxy, and what it can't.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use orch_confine::confine::{Host, Network, Policy};
use serde_json::Value;

use super::support::{Lab, Run, User, attempts};

/// A web server outside; counts its requests.
struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || answer(stream));
            }
        });
        Self { port, requests }
    }

    fn requests(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

/// Answers with the head that arrived, so that a test sees what the proxy made of it.
fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
    drop(stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&head)));
}

fn hosts(list: &[&str]) -> Network {
    Network::Hosts(list.iter().map(|host| host.parse::<Host>().unwrap()).collect())
}

fn curl(lab: &Lab, network: Network, arguments: &[&str]) -> Run {
    let policy = Policy { network, ..lab.policy() };
    lab.drive("full", &policy, &[&["curl", "-sS", "--max-time", "20"], arguments].concat())
}

/// The record of the only connection: host, outcome, sent and received bytes.
#[track_caller]
fn only(run: &Run) -> (String, Value, u64, u64) {
    let connections = run.result["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 1, "{run:#?}");
    let one = &connections[0];
    let number = |key: &str| one[key].as_u64().unwrap();
    (
        format!("{}:{}", one["host"].as_str().unwrap(), one["port"]),
        one["outcome"].clone(),
        number("sent"),
        number("received"),
    )
}

/// A name that this machine resolves to its loopback without a server, as a hostile name server could do for any name.
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
        let lab = Lab::new(user);
        let listed = || hosts(&[&format!("127.0.0.1:{}", server.port)]);
        for host in ["127.0.0.1", "localhost"] {
            let run = curl(&lab, listed(), &[&format!("http://{host}:{}/a", server.port)]);
            assert!(run.succeeded().stdout.starts_with("GET /a HTTP/1.1\r\n"), "{run:#?}");
            let (to, outcome, sent, received) = only(&run);
            assert_eq!((to, outcome), (format!("localhost:{}", server.port), Value::from("allowed")));
            assert!(sent > 50 && received > sent, "{sent} {received}");
        }
        let run = curl(&lab, listed(), &[&format!("http://127.0.0.1:{}/", other.port)]);
        assert_eq!(run.code, Some(7), "{run:#?}");
        // The proxy does not lead there either.
        let run = curl(&lab, listed(), &["--noproxy", "", &format!("http://127.0.0.1:{}/", other.port)]);
        assert!(run.stdout.contains("does not list `127.0.0.1` at port"), "{run:#?}");
        assert!(only(&run).1["refused"].is_string());
        assert_eq!((server.requests(), other.requests()), (2, 0));
    }
}

#[test]
fn an_address_is_reached_through_the_proxy_and_every_byte_is_on_record() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let lab = Lab::new(user);
        let address = format!("127.0.0.2:{}", server.port);
        // The server listens on another address of the loopback, so this one fails, which is on record too.
        let run = curl(&lab, hosts(&[&address]), &["-p", &format!("http://{address}/")]);
        assert_ne!(run.code, Some(0));
        let listener = TcpListener::bind("127.0.0.3:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(answer));
        for tunnel in [true, false] {
            let url = format!("http://{address}/b?c");
            let arguments: Vec<&str> =
                if tunnel { vec!["-p", "--noproxy", "", &url] } else { vec!["--noproxy", "", &url] };
            // `--noproxy ""` makes curl use the proxy for an address of the loopback.
            let network = Network::Hosts(vec![
                serde_json::from_str(&format!(r#"{{"host": "{address}", "private": true}}"#)).unwrap(),
            ]);
            let run = curl(&lab, network, &arguments);
            assert!(run.succeeded().stdout.starts_with("GET /b?c HTTP/1.1\r\n"), "{run:#?}");
            assert!(!run.stdout.contains("Proxy-Connection"), "{run:#?}");
            // Loopback addresses are services, so they have a listener of their own; here the proxy carried the bytes.
            let connections = run.result["connections"].as_array().unwrap();
            let one = connections.iter().find(|one| one["host"] == "127.0.0.3").unwrap();
            assert_eq!((one["address"].as_str(), &one["outcome"]), (Some(address.as_str()), &Value::from("allowed")));
            assert!(one["sent"].as_u64().unwrap() > 50 && one["received"].as_u64().unwrap() > 50, "{one}");
        }
    }
}

#[test]
fn a_name_leads_to_a_private_address_only_if_the_policy_says_so() {
    if !super::support::reaches_full() {
        return;
    }
    let Some(name) = loopback_name() else {
        println!("SKIPPED: no name but `localhost` leads to the loopback here");
        return;
    };
    let server = Server::new();
    let lab = Lab::new(User::all()[0]);
    let url = format!("http://{name}:{}/", server.port);
    let run = curl(&lab, hosts(&[&format!("{name}:{}", server.port)]), &[&url]);
    assert!(run.stdout.contains("leads to a private address only"), "{run:#?}");
    assert!(only(&run).1["refused"].is_string());
    assert_eq!(server.requests(), 0);
    let host: Host = format!("{name}:{}", server.port).parse().unwrap();
    let run = curl(&lab, Network::Hosts(vec![host.with_private_addresses()]), &[&url]);
    assert!(run.succeeded().stdout.contains(&format!("Host: {name}")), "{run:#?}");
}

#[test]
fn what_is_not_listed_is_refused_with_what_to_do_and_recorded() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        let run = curl(&lab, hosts(&["example.org"]), &["http://other.example/"]);
        assert!(run.stdout.contains("orch's sandbox: the policy does not list `other.example` at port 80"), "{run:#?}");
        let (to, outcome, ..) = only(&run);
        assert_eq!(to, "other.example:80");
        assert!(outcome["refused"].as_str().unwrap().contains("list `other.example:80`"), "{outcome}");
        let run = curl(&lab, hosts(&["example.org"]), &["https://other.example/"]);
        assert!(run.stderr.contains("403"), "{run:#?}");
        assert_eq!(only(&run).0, "other.example:443");
        let run = curl(&lab, hosts(&["example.org"]), &["https://example.org:22/"]);
        assert!(only(&run).1["refused"].is_string());
    }
}

#[test]
fn without_the_proxy_nothing_outside_is_reached() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let lab = Lab::new(user);
        let program = attempts().display().to_string();
        for network in [Network::None, hosts(&["example.org"])] {
            let policy = Policy { network, ..lab.policy() };
            for line in [
                format!("tcp 127.0.0.1 {}", server.port),
                "tcp 192.0.2.1 443".to_owned(),
                "udp 192.0.2.1 53".to_owned(),
            ] {
                let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
                assert_eq!(lab.drive("full", &policy, &argv).code, Some(1), "{line}");
            }
        }
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn all_of_the_network_is_that_of_the_machine() {
    if !super::support::reaches_full() {
        return;
    }
    let server = Server::new();
    for user in User::all() {
        let lab = Lab::new(user);
        for level in ["full", "basic"] {
            let policy = Policy { network: Network::All, ..lab.policy() };
            let run = lab.drive(level, &policy, &["curl", "-sS", &format!("http://127.0.0.1:{}/", server.port)]);
            assert!(run.succeeded().stdout.starts_with("GET / "), "{run:#?}");
            let program = attempts().display().to_string();
            for line in ["raw", "packet", "vsock", "netlink-uevent", "unix-pair /dev/log"] {
                let argv: Vec<&str> = std::iter::once(program.as_str()).chain(line.split(' ')).collect();
                assert_eq!(lab.drive(level, &policy, &argv).code, Some(1), "{level} {line}");
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
    let lab = Lab::new(User::all()[0]);
    let urls = format!("http://127.0.0.1:{}/[1-300]", server.port);
    let run = curl(&lab, hosts(&[&format!("127.0.0.1:{}", server.port)]), &["-Z", "--parallel-max", "100", &urls]);
    assert_eq!(run.succeeded().result["connections"].as_array().unwrap().len(), 300);
    assert_eq!(server.requests(), 300);
}
