//! The record of every connection that a confined program opened or attempted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A connection of a confined program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The name or address that the program requested.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address that orch connected to.
    pub address: Option<SocketAddr>,
    /// The number of bytes that the program sent.
    pub sent: u64,
    /// The number of bytes that the program received.
    pub received: u64,
    /// The outcome.
    pub outcome: ConnectionOutcome,
}

/// The outcome of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOutcome {
    /// orch connected the program to the host.
    Allowed,
    /// The policy does not allow the connection; the reason.
    Refused(String),
    /// orch could not connect to the host; the reason.
    Failed(String),
}

/// A callback that receives each connection when it ends.
pub type OnConnection = Arc<dyn Fn(Connection) + Send + Sync>;

/// An open connection. Reports the connection when it is dropped, so also if its task is cancelled.
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

    /// Records that orch connected to the host at this address.
    pub(super) fn set_connected(&mut self, address: SocketAddr) {
        self.connection.address = Some(address);
        self.connection.outcome = ConnectionOutcome::Allowed;
    }

    /// Records why there is no connection.
    pub(super) fn set_outcome(&mut self, outcome: ConnectionOutcome) {
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
