//! Creates the listening sockets in the network namespace of the program. orch serves them from outside.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::error::{ConfineError, InStep as _, Step};
use super::policy::Policy;
use super::wire::{Listener, MAX_FDS, Report, send};

/// Listens for the proxy and for the services of this machine that a policy lists, and sends the sockets to orch.
/// Returns the port of the proxy; `None` if the policy lists no hosts.
pub(super) fn listen(policy: &Policy, control: Option<&UnixStream>) -> Result<Option<u16>, ConfineError> {
    let Some(hosts) = policy.hosts() else { return Ok(None) };
    let Some(control) = control else {
        return Err(ConfineError::new(Step::Listen, "a list of hosts needs orch to serve it".to_owned())
            .advise("write `network: none` or `network: all` for a program that orch does not start"));
    };
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).in_step(Step::Listen)?;
    let port = proxy.local_addr().in_step(Step::Listen)?.port();
    let mut listeners = vec![(Listener::Proxy, proxy)];
    let mut services: Vec<u16> = hosts.iter().filter_map(super::host::Host::service_port).collect();
    services.sort_unstable();
    services.dedup();
    // On macOS the program shares the loopback of the machine, so it can reach the services directly.
    let services = if cfg!(target_os = "linux") { services } else { Vec::new() };
    for port in services {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).in_step_at(Step::Listen, Path::new(&address.to_string()))?;
        listeners.push((Listener::Service(port), listener));
        // A program may try the IPv6 address of `localhost` first. Binding it fails on a kernel without IPv6.
        if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            listeners.push((Listener::Service(port), listener));
        }
    }
    if listeners.len() > MAX_FDS {
        return Err(ConfineError::new(Step::Listen, "the policy lists too many services of this machine".to_owned())
            .advise("list fewer than 100 services"));
    }
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(|(_, listener)| listener.as_fd()).collect();
    let kinds = listeners.iter().map(|(kind, _)| *kind).collect();
    send(control, &Report::Listening(kinds), &fds).in_step(Step::Listen)?;
    Ok(Some(port))
}
