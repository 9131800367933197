//! The HTTP proxy for a program whose policy lists hosts. Its socket listens in the network namespace of the program,
//! and orch serves the socket from outside.
//!
//! The network namespace is otherwise empty, so the program can reach other hosts only through the proxy. orch resolves
//! a name itself, only once, and connects to exactly the address that it has checked.

mod head;
mod record;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::is_metadata_service;
use super::host::{Host, host_and_port, normalize_name};
use super::wire::Listener;
use head::{Target, parse, read_head};
use record::OpenConnection;
pub use record::{Connection, ConnectionOutcome, OnConnection};

/// The maximum number of connections that a program may have at the same time.
const MAX_CONNECTIONS: u32 = 256;
/// The time limit for receiving the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit for resolving a name, and for connecting to an address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after the listening socket failed, for example because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The state that all connections of a program share.
pub(super) struct ProxyState {
    hosts: Vec<Host>,
    report: OnConnection,
    /// One permit for each connection that may be open.
    permits: Arc<Semaphore>,
}

impl ProxyState {
    pub(super) fn new(hosts: Vec<Host>, report: OnConnection) -> Self {
        Self { hosts, report, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)) }
    }

    /// Waits until all connections have ended, so that each is recorded, or until the time limit.
    pub(super) async fn wait_all_closed(&self, time_limit: Duration) {
        // The caller continues in both cases.
        drop(timeout(time_limit, self.permits.acquire_many(MAX_CONNECTIONS)).await);
    }
}

/// Serves a listening socket until the caller drops the returned future.
pub(super) async fn serve(listener: TcpListener, kind: Listener, state: Arc<ProxyState>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&state.permits).acquire_owned().await else { return };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            match kind {
                Listener::Proxy => serve_request(client, &state).await,
                Listener::Service(port) => serve_service(client, port, &state).await,
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The reason why the proxy did not connect, and the HTTP status for it.
struct Rejection {
    status: &'static str,
    outcome: ConnectionOutcome,
}

impl Rejection {
    fn refused(reason: String) -> Self {
        Self { status: "403 Forbidden", outcome: ConnectionOutcome::Refused(reason) }
    }

    fn failed(reason: String) -> Self {
        Self { status: "502 Bad Gateway", outcome: ConnectionOutcome::Failed(reason) }
    }

    /// The HTTP response. Many programs show its body in their error messages.
    fn response(&self) -> String {
        let (ConnectionOutcome::Refused(reason) | ConnectionOutcome::Failed(reason)) = &self.outcome else {
            return String::new();
        };
        let body = format!("orch's sandbox: {reason}\n");
        let (status, length) = (self.status, body.len());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }
}

/// Serves one request to the proxy.
async fn serve_request(mut client: TcpStream, state: &ProxyState) {
    let Ok(Ok((head, rest))) = timeout(HEAD_TIMEOUT, read_head(&mut client)).await else { return };
    let Some(target) = parse(&head) else {
        let reason = "this is a proxy for `http://` requests and for `CONNECT`".to_owned();
        let rejection = Rejection { status: "400 Bad Request", ..Rejection::refused(reason) };
        // This fails if the client has closed the connection.
        let _ = client.write_all(rejection.response().as_bytes()).await;
        return;
    };
    let mut connection = OpenConnection::new(&target.host, target.port, &state.report);
    match connect(&target, &state.hosts).await {
        Ok((server, address)) => {
            connection.set_connected(address);
            // After an error, the connection closes. The program needs no other report.
            let _ = forward(client, server, (&target, &rest), &connection).await;
        }
        Err(rejection) => {
            let response = rejection.response();
            connection.set_outcome(rejection.outcome);
            drop(connection);
            let _ = client.write_all(response.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    }
}

/// Connects to an allowed host.
async fn connect(target: &Target, hosts: &[Host]) -> Result<(TcpStream, SocketAddr), Rejection> {
    let name = normalize_name(&target.host);
    let port = target.port;
    let entry = host_and_port(&name, port);
    let listed: Vec<&Host> = hosts.iter().filter(|host| host.lists(&name, port)).collect();
    if listed.is_empty() {
        let advice = format!("list `{entry}` under the sandbox's `network` to allow it");
        return Err(Rejection::refused(format!("the policy does not list `{name}` at port {port}; {advice}")));
    }
    let addresses: Vec<SocketAddr> = match name.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => match timeout(CONNECT_TIMEOUT, lookup_host((name.as_str(), port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(Rejection::failed(format!("`{name}` can't be resolved: {error}"))),
            Err(_) => return Err(Rejection::failed(format!("`{name}` can't be resolved within 30 s"))),
        },
    };
    let is_allowed = |address: &SocketAddr| listed.iter().any(|host| host.may_resolve_to(address.ip()));
    let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.into_iter().partition(is_allowed);
    if allowed.is_empty() {
        return Err(Rejection::refused(refused_addresses(&entry, &name, &refused)));
    }
    connect_to_any(&allowed).await.map_err(|error| Rejection::failed(format!("`{entry}` can't be reached: {error}")))
}

/// The reason to refuse a listed name that resolves only to these addresses.
fn refused_addresses(entry: &str, name: &str, addresses: &[SocketAddr]) -> String {
    if !addresses.is_empty() && addresses.iter().all(|address| is_metadata_service(address.ip())) {
        return format!(
            "`{name}` resolves only to addresses that may be the metadata service of a cloud; a policy can allow such an \
             address only itself, with `private: true`"
        );
    }
    format!("`{name}` resolves only to private addresses; write `{{host: \"{entry}\", private: true}}` to allow this")
}

/// Connects to the first address that accepts a connection.
async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last_error = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(server)) => return Ok((server, *address)),
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last_error)
}

/// Sends the head of a request and the bytes received after it, and then forwards bytes in both directions.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    (target, rest): (&Target, &[u8]),
    connection: &OpenConnection,
) -> io::Result<()> {
    match &target.forwarded {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => {
            server.write_all(head).await?;
            connection.sent.fetch_add(head.len() as u64, Ordering::Relaxed);
        }
    }
    server.write_all(rest).await?;
    connection.sent.fetch_add(rest.len() as u64, Ordering::Relaxed);
    forward_both_ways(client, server, connection).await
}

/// Forwards bytes in both directions until both directions have ended.
async fn forward_both_ways(
    mut client: TcpStream,
    mut server: TcpStream,
    connection: &OpenConnection,
) -> io::Result<()> {
    // This sends small writes, such as typed keys, immediately. If it fails, they are only slower.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.split();
    tokio::try_join!(
        copy(client_reader, server_writer, &connection.sent),
        copy(server_reader, client_writer, &connection.received)
    )?;
    Ok(())
}

async fn copy(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = reader.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return writer.shutdown().await };
        writer.write_all(bytes).await?;
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// Forwards a connection to a service on this machine.
async fn serve_service(client: TcpStream, port: u16, state: &ProxyState) {
    let mut connection = OpenConnection::new("localhost", port, &state.report);
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    match connect_to_any(&addresses).await {
        Ok((server, address)) => {
            connection.set_connected(address);
            // After an error, the connection closes. The program needs no other report.
            let _ = forward_both_ways(client, server, &connection).await;
        }
        Err(error) => {
            connection.set_outcome(ConnectionOutcome::Failed(format!("`localhost:{port}` can't be reached: {error}")));
        }
    }
}
