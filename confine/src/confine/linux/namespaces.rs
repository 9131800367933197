//! Namespaces of its own for a program: user, mounts, IPC, and if asked for, network and process ids.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::super::error::{ConfineError, InStep as _, Step};

/// Which namespaces differ from case to case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// An empty network, with only a loopback.
    pub(super) network: bool,
    /// Process ids of its own, for the processes that this process starts from now on.
    pub(super) processes: bool,
}

/// Moves this process, which must have one thread, into new namespaces. The user stays the same inside.
pub(super) fn enter(wanted: Wanted) -> Result<(), ConfineError> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
    flags.set(CloneFlags::CLONE_NEWNET, wanted.network);
    flags.set(CloneFlags::CLONE_NEWPID, wanted.processes);
    unshare(flags).in_step(Step::Namespaces)?;
    // Without this, a user could leave a group that denies it something.
    let groups = "/proc/self/setgroups";
    fs::write(groups, "deny").in_step_at(Step::UserMap, groups)?;
    for (path, id) in [("/proc/self/uid_map", user), ("/proc/self/gid_map", group)] {
        fs::write(path, format!("{id} {id} 1")).in_step_at(Step::UserMap, path)?;
    }
    if wanted.network { bring_loopback_up().in_step(Step::Loopback) } else { Ok(()) }
}

/// The parts of the one message that is needed of the protocol of `rtnetlink(7)`.
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const IFF_UP: u32 = 1;
const LOOPBACK_INDEX: i32 = 1;

/// Brings the loopback of this network namespace up. A message does this, since an ioctl would need unsafe code.
fn bring_loopback_up() -> io::Result<()> {
    // The protocol 0 of this family is `NETLINK_ROUTE`.
    let socket: OwnedFd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // The family and the type of the interface do not matter.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 64];
    let (count, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = field(&answer, 4).map(u16::from_ne_bytes);
    match field(&answer, 16).map(i32::from_ne_bytes) {
        Some(0) if kind == Some(NLMSG_ERROR) && count >= 20 => Ok(()),
        Some(error) if kind == Some(NLMSG_ERROR) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn field<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start + N)?.try_into().ok()
}
