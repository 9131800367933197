//! The messages between orch and `orch __confine`, the helper process that puts the sandbox of a program in force and
//! then starts the program. A message is a length prefix and a JSON body. File descriptors travel with the length
//! (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ConfineError;
use super::limits::LimitReached;
use super::policy::{Level, Policy};

/// The maximum length of a message, in bytes. A policy with thousands of paths is much shorter.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// The maximum number of file descriptors with one message; the kernel allows 253.
pub(super) const MAX_FDS: usize = 200;
/// The size of the length field, in bytes.
const HEADER_BYTES: usize = 4;

/// The request of orch to `orch __confine`. If the program has an input, it is the first file descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) policy: Policy,
    /// How much of the policy the kernel must enforce.
    pub(super) level: Level,
    /// Whether the program gets a separate PID namespace. orch has probed that this works.
    pub(super) has_pid_namespace: bool,
    /// Whether orch sends the standard input of the program with this message.
    pub(super) has_input: bool,
}

/// Allows the program to start. orch sends this after it has recorded the level in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Start {
    /// The program and its arguments, if they differ from those on the command line.
    pub argv: Option<Vec<String>>,
    /// Additional environment variables for the program. The program itself is looked up in the `PATH` of
    /// `orch __confine`.
    pub env: Vec<(String, String)>,
}

/// A report of `orch __confine` to orch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// These sockets listen in the network namespace of the program. `orch __confine` sends them with this message.
    Listening(Vec<Listener>),
    /// The policy is in force; the program waits for [`Start`].
    Confined(AppliedSandbox),
    /// Setting up the sandbox failed, so the program did not start.
    Failed(ConfineError),
    /// The program could not start; the error number of the operating system.
    NotStarted(i32),
    /// The program has ended.
    Ended {
        /// The exit code; after a signal, 128 plus its number.
        code: i32,
        /// The limit because of which the program ended.
        limit: Option<LimitReached>,
        /// What is not known about the limits that the program reached, each as a sentence.
        unknown: Vec<String>,
    },
}

/// A socket that listens in the network namespace of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Listener {
    /// The HTTP proxy.
    Proxy,
    /// A service of this machine at this port.
    Service(u16),
}

/// The sandbox that is in force for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedSandbox {
    /// How much of the policy the kernel enforces.
    pub level: Level,
    /// The Landlock ABI version of the kernel; 0 without Landlock.
    pub landlock: u32,
    /// Whether the program has a separate PID namespace, so that it sees no other process.
    pub has_pid_namespace: bool,
    /// The mechanism that enforces the limits: `cgroup` or `rlimits`; `None` without limits.
    pub limits_by: Option<String>,
    /// The folder of the control group, which orch removes at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// The restrictions of the policy that are not in force, and limits that may stay undetected, each as a sentence.
    pub unenforced: Vec<String>,
}

/// Sends a message and file descriptors.
pub(super) fn send(socket: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = encode(message)?;
    send_header(socket, body.len(), fds)?;
    (&*socket).write_all(&body)
}

/// Encodes a message.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(io::Error::other)
}

/// Sends the length of a message with its file descriptors.
fn send_header(socket: impl AsFd, length: usize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS || length > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("the message is too long"));
    }
    let header = u32::try_from(length).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&header)], &mut ancillary, NO_SIGNAL)?;
    if sent == header.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives the length of a message with its file descriptors. On a non-blocking socket, returns
/// [`io::ErrorKind::WouldBlock`] until the length has arrived.
pub(super) fn receive_header(socket: impl AsFd) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut header = [0; HEADER_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = if cfg!(target_os = "linux") { CLOSE_ON_EXEC } else { RecvFlags::empty() };
    let message = recvmsg(&socket, &mut [IoSliceMut::new(&mut header)], &mut ancillary, flags)?;
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        })
        .collect();
    #[cfg(not(target_os = "linux"))]
    for fd in &fds {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    // The kernel delivers the four bytes of a length together.
    let length = usize::try_from(u32::from_le_bytes(header)).map_err(io::Error::other)?;
    match message.bytes {
        HEADER_BYTES if length <= MAX_MESSAGE_BYTES => Ok((length, fds)),
        HEADER_BYTES => Err(io::Error::other("the message is too long")),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The flag without which sending to a closed socket ends this process. Apple's systems have an option of the socket
/// instead, which the standard library sets.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

#[cfg(target_os = "linux")]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// Decodes a message.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::other)
}

/// Waits for a message and its file descriptors.
pub(super) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let (length, fds) = receive_header(socket)?;
    let mut body = vec![0; length];
    let mut reader = socket;
    Read::read_exact(&mut reader, &mut body)?;
    Ok((decode(&body)?, fds))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Seek as _;

    use super::*;

    #[test]
    fn a_message_arrives_with_its_file_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        let start = Start { argv: Some(vec!["x".repeat(1 << 16)]), env: Vec::new() };
        send(&here, &start, &[file.as_fd()]).unwrap();
        send(&here, &Report::NotStarted(2), &[]).unwrap();
        let (received, fds): (Start, _) = receive(&there).unwrap();
        assert_eq!(received.argv, start.argv);
        let mut text = String::new();
        File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        let (report, fds): (Report, _) = receive(&there).unwrap();
        assert!(matches!(report, Report::NotStarted(2)) && fds.is_empty());
        drop(here);
        assert!(receive::<Report>(&there).is_err());
    }
}
