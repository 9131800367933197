//! Creates the namespaces of a program: user, mount and IPC, and optionally network and process id.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::super::error::{ConfineError, InStep as _, Step};

/// The namespaces that depend on the policy and the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalNamespaces {
    /// A network namespace that has only a loopback interface.
    pub(super) network: bool,
    /// A PID namespace for the future children of this process.
    pub(super) processes: bool,
}

/// Moves this process into new namespaces. The process must have only one thread. Its user and group ids stay the same.
pub(super) fn enter(optional: OptionalNamespaces) -> Result<(), ConfineError> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    flags.set(CloneFlags::CLONE_NEWNET, optional.network);
    flags.set(CloneFlags::CLONE_NEWPID, optional.processes);
    unshare(flags).in_step(Step::Namespaces)?;
    // The kernel requires this before an unprivileged process may map its group: otherwise a user could leave a group
    // whose members have fewer rights.
    let groups = "/proc/self/setgroups";
    fs::write(groups, "deny").in_step_at(Step::UserMap, groups)?;
    for (path, id) in [("/proc/self/uid_map", user), ("/proc/self/gid_map", group)] {
        fs::write(path, format!("{id} {id} 1")).in_step_at(Step::UserMap, path)?;
    }
    if optional.network { bring_loopback_up().in_step(Step::Loopback) } else { Ok(()) }
}

// The constants of `rtnetlink(7)` for the message that brings an interface up.
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const IFF_UP: u32 = 1;
const LOOPBACK_INDEX: i32 = 1;

/// Brings up the loopback interface of this network namespace. Uses a netlink message, because an ioctl needs unsafe
/// code.
fn bring_loopback_up() -> io::Result<()> {
    // `None` means protocol 0, which is `NETLINK_ROUTE` in this family.
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // The kernel ignores the family and the type of the interface here.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    send(&socket, &message, SendFlags::empty())?;
    let mut response = [0_u8; 64];
    let (count, _) = recv(&socket, &mut response, RecvFlags::empty())?;
    let message_type = field(&response, 4).map(u16::from_ne_bytes);
    match field(&response, 16).map(i32::from_ne_bytes) {
        Some(0) if message_type == Some(NLMSG_ERROR) && count >= 20 => Ok(()),
        Some(error) if message_type == Some(NLMSG_ERROR) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The bytes of a field of a netlink message.
fn field<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}
