//! An address at which nothing listens.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port of the loopback that refuses every connection until this value is dropped.
///
/// The port of a listener that was closed could be given to the server of another test at any time. This one belongs to
/// a socket that is bound and never listens.
pub(crate) struct ClosedPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl ClosedPort {
    pub(crate) fn reserve() -> Self {
        Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Binds a socket to the address of a server that has stopped.
    pub(super) fn bind(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Connections that the server closed may still wait for their end.
        socket.set_reuseaddr(address.port() != 0).unwrap();
        socket.bind(address).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
