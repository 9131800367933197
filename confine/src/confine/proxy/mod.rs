//! The network of a program whose policy lists hosts: a proxy that orch serves from outside on a socket inside.
//!
//! The program's network namespace is empty, so the proxy is its only way out. orch resolves a name itself, once, and
//! connects to exactly the address that it has checked.

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

use super::host::{Host, normal_name};
use super::wire::Listener;
use head::{Target, parse, read_head};
use record::OpenConnection;
pub use record::{Connection, ConnectionOutcome, OnConnection};

/// How many connections a program may have at the same time.
const MAX_CONNECTIONS: u32 = 256;
/// How long a program may take to say where it wants to connect to.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long resolving a name and connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after an error of the listening socket, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a program share.
pub(super) struct Shared {
    hosts: Vec<Host>,
    report: OnConnection,
    /// One for each connection that may be open.
    permits: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(hosts: Vec<Host>, report: OnConnection) -> Self {
        Self { hosts, report, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)) }
    }

    /// Waits until no connection is open, so that each is on record, or until the time is over.
    pub(super) async fn wait_all_closed(&self, limit: Duration) {
        // It does not matter which of the two happened.
        drop(timeout(limit, self.permits.acquire_many(MAX_CONNECTIONS)).await);
    }
}

/// Serves a socket until the returned future is dropped.
pub(super) async fn serve(listener: TcpListener, kind: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&shared.permits).acquire_owned().await else { return };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            match kind {
                Listener::Proxy => serve_request(client, &shared).await,
                Listener::Service(port) => serve_service(client, port, &shared).await,
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Why there is no connection.
struct Rejection {
    status: &'static str,
    outcome: ConnectionOutcome,
}

impl Rejection {
    fn refused(why: String) -> Self {
        Self { status: "403 Forbidden", outcome: ConnectionOutcome::Refused(why) }
    }

    fn failed(why: String) -> Self {
        Self { status: "502 Bad Gateway", outcome: ConnectionOutcome::Failed(why) }
    }

    /// The answer of the proxy, which programs show in their messages.
    fn response(&self) -> String {
        let (ConnectionOutcome::Refused(why) | ConnectionOutcome::Failed(why)) = &self.outcome else {
            return String::new();
        };
        let body = format!("orch's sandbox: {why}\n");
        let (status, length) = (self.status, body.len());
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }
}

/// Serves one request to the proxy.
async fn serve_request(mut client: TcpStream, shared: &Shared) {
    let Ok(Ok((head, rest))) = timeout(HEAD_TIMEOUT, read_head(&mut client)).await else { return };
    let Some(target) = parse(&head) else {
        let why = "this is a proxy for `http://` requests and for `CONNECT`".to_owned();
        let rejection = Rejection { status: "400 Bad Request", ..Rejection::refused(why) };
        // The client may have gone.
        let _ = client.write_all(rejection.response().as_bytes()).await;
        return;
    };
    let mut open = OpenConnection::new(&target.host, target.port, &shared.report);
    match connect(&target, &shared.hosts).await {
        Ok((server, address)) => {
            open.connected(address);
            // An error ends the connection, which is all that a program can see of it.
            let _ = forward(client, server, (&target, &rest), &open).await;
        }
        Err(rejection) => {
            let response = rejection.response();
            open.ended(rejection.outcome);
            drop(open);
            let _ = client.write_all(response.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    }
}

/// Connects to an allowed host.
async fn connect(target: &Target, hosts: &[Host]) -> Result<(TcpStream, SocketAddr), Rejection> {
    let name = normal_name(&target.host);
    let port = target.port;
    let listed: Vec<&Host> = hosts.iter().filter(|host| host.lists(&name, port)).collect();
    if listed.is_empty() {
        let advice = format!("list `{name}:{port}` under the sandbox's `network` to allow it");
        return Err(Rejection::refused(format!("the policy does not list `{name}` at port {port}; {advice}")));
    }
    let addresses: Vec<SocketAddr> = match name.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => match timeout(CONNECT_TIMEOUT, lookup_host((name.as_str(), port))).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(Rejection::failed(format!("`{name}` can't be resolved: {error}"))),
            Err(_) => return Err(Rejection::failed(format!("`{name}` can't be resolved in time"))),
        },
    };
    let allowed = |address: &SocketAddr| listed.iter().any(|host| host.may_lead_to(address.ip()));
    let allowed: Vec<SocketAddr> = addresses.into_iter().filter(allowed).collect();
    if allowed.is_empty() {
        let why = format!(
            "`{name}` leads to a private address only; write `{{host: {name}:{port}, private: true}}` to allow that"
        );
        return Err(Rejection::refused(why));
    }
    connect_to_any(&allowed)
        .await
        .map_err(|error| Rejection::failed(format!("`{name}:{port}` can't be reached: {error}")))
}

/// Connects to the first address that answers.
async fn connect_to_any(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(server)) => return Ok((server, *address)),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Passes bytes on in both directions, after those that came first.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    (target, rest): (&Target, &[u8]),
    open: &OpenConnection,
) -> io::Result<()> {
    match &target.forwarded {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => {
            server.write_all(head).await?;
            open.sent.fetch_add(head.len() as u64, Ordering::Relaxed);
        }
    }
    server.write_all(rest).await?;
    open.sent.fetch_add(rest.len() as u64, Ordering::Relaxed);
    pass_on(client, server, open).await
}

/// Passes bytes on in both directions until both have ended.
async fn pass_on(mut client: TcpStream, mut server: TcpStream, open: &OpenConnection) -> io::Result<()> {
    // Small pieces, such as keys that a user types, go on at once. Without this they are only slower.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let (client_reader, client_writer) = client.split();
    let (server_reader, server_writer) = server.split();
    tokio::try_join!(
        copy(client_reader, server_writer, &open.sent),
        copy(server_reader, client_writer, &open.received)
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

/// Carries a connection to a service of this machine.
async fn serve_service(client: TcpStream, port: u16, shared: &Shared) {
    let mut open = OpenConnection::new("localhost", port, &shared.report);
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    match connect_to_any(&addresses).await {
        Ok((server, address)) => {
            open.connected(address);
            // An error ends the connection, which is all that a program can see of it.
            let _ = pass_on(client, server, &open).await;
        }
        Err(error) => open.ended(ConnectionOutcome::Failed(format!("`localhost:{port}` can't be reached: {error}"))),
    }
}
