//! The record of every connection that a confined program made or tried.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A connection of a confined program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The name or address that the program asked for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address that orch connected to.
    pub address: Option<SocketAddr>,
    /// How many bytes the program sent.
    pub sent: u64,
    /// How many bytes the program received.
    pub received: u64,
    /// What became of it.
    pub outcome: ConnectionOutcome,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOutcome {
    /// orch connected the program with the host.
    Allowed,
    /// The policy does not allow it, for this reason.
    Refused(String),
    /// The host could not be reached, for this reason.
    Failed(String),
}

/// Receives each connection when it ends.
pub type OnConnection = Arc<dyn Fn(Connection) + Send + Sync>;

/// A connection that is open. Dropping it reports it, even if its task is stopped.
pub(super) struct OpenConnection {
    connection: Connection,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    report: OnConnection,
}

impl OpenConnection {
    pub(super) fn new(host: &str, port: u16, report: &OnConnection) -> Self {
        let outcome = ConnectionOutcome::Failed("the program ended first".to_owned());
        let connection = Connection { host: host.to_owned(), port, address: None, sent: 0, received: 0, outcome };
        Self { connection, sent: AtomicU64::new(0), received: AtomicU64::new(0), report: Arc::clone(report) }
    }

    /// The connection with the host at this address is there.
    pub(super) fn connected(&mut self, address: SocketAddr) {
        self.connection.address = Some(address);
        self.connection.outcome = ConnectionOutcome::Allowed;
    }

    /// There will be no connection.
    pub(super) fn ended(&mut self, outcome: ConnectionOutcome) {
        self.connection.outcome = outcome;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut connection = self.connection.clone();
        connection.sent = self.sent.load(Ordering::Relaxed);
        connection.received = self.received.load(Ordering::Relaxed);
        (self.report)(connection);
    }
}
