//! A confined program, as orch manages it.
//!
//! ```text
//! SandboxSession::open ─► the supervisor of the program starts `orch __confine` with the socket as standard input
//! SandboxSession::confirm ◄─ the level in force, before the program starts
//! SandboxSession::start ─► the program starts
//! SandboxSession::ended ◄─ the exit code, and the limit that the program reached, if any
//! SandboxSession::finish, after the supervisor has ended all processes
//! ```
//!
//! In the meantime, the session serves the network of the program on the runtime.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use super::CONFINE_COMMAND;
use super::error::{ConfineError, InStep as _, Step};
use super::limits::{CounterFindings, LimitReached};
use super::masks::Masks;
use super::policy::{Level, Limits, Policy};
use super::probe::Probe;
use super::proxy::{OnConnection, ProxyState, serve};
use super::wire::{AppliedSandbox, Listener, Report, Request, Start, decode, encode, receive_header, send};

/// The end of a confined program, as `orch __confine` reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramEnd {
    /// The exit code; after a signal, 128 plus its number. `None` if `orch __confine` ended together with the program.
    pub code: Option<i32>,
    /// The limit that the program certainly reached. To find a limit that it probably reached, use
    /// [`limit_in_output`](super::limit_in_output).
    pub limit: Option<LimitReached>,
    /// What orch could not find out about the limits that the program reached, each as a sentence.
    pub unknown: Vec<String>,
    /// The error number of the operating system if the program could not start.
    pub not_started: Option<i32>,
}

/// The maximum number of recorded connections. Without it, a program could fill the journal with refused connections.
const MAX_RECORDED: u64 = 10_000;

/// The maximum time that orch waits for connections to close after the program has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// A confined program. Keep this value until all processes of the program have ended. [`SandboxSession::finish`], or
/// dropping the value, removes the placeholders for protected paths.
pub struct SandboxSession {
    socket: UnixStream,
    /// The tasks that serve the listening sockets.
    services: JoinSet<()>,
    proxy_state: Arc<ProxyState>,
    limits: Limits,
    applied: Option<AppliedSandbox>,
    /// The number of connections so far.
    connection_count: Arc<AtomicU64>,
    // The last field, so that it is dropped last: everything that uses the workspace has ended by then.
    _masks: Masks,
}

/// The parameters of a session.
pub struct SandboxOptions<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The capabilities of this machine.
    pub probe: &'a Probe,
    /// Receives each connection through the proxy when the connection ends.
    pub on_connection: OnConnection,
}

/// The command line for a confined program: orch itself, with the program and its arguments after `--`.
pub fn confined_argv(orch: &Path, argv: &[String]) -> Vec<OsString> {
    let own = [orch.as_os_str().to_owned(), CONFINE_COMMAND.into(), "--".into()];
    own.into_iter().chain(argv.iter().map(OsString::from)).collect()
}

impl SandboxSession {
    /// Opens the socket for a program and sends the policy. Returns the other end of the socket, which must become the
    /// standard input of `orch __confine`. `input` becomes the standard input of the program. Must be called in a
    /// `tokio` runtime.
    ///
    /// # Errors
    /// When this machine can't enforce the policy, or orch can't create a placeholder for a protected path.
    pub fn open(confinement: &SandboxOptions<'_>, input: Option<OwnedFd>) -> Result<(Self, OwnedFd), ConfineError> {
        let SandboxOptions { policy, probe, on_connection } = confinement;
        let level = probe.level();
        probe.require(policy.min)?;
        policy.check(level)?;
        // Seatbelt protects paths that do not exist without placeholders, and the other levels can't protect paths.
        let needs_masks = level == Level::Full && cfg!(target_os = "linux");
        let masks = if needs_masks { Masks::create(policy)? } else { Masks::default() };
        let (own_socket, program_socket) = Socket::pair().in_step(Step::Control)?;
        let request = Request {
            policy: masks.protected_in(policy),
            level,
            has_pid_namespace: level == Level::Full && probe.has_pid_namespace,
            has_input: input.is_some(),
        };
        // The kernel buffers the policy until `orch __confine` runs. Sending a policy that exceeds the buffer fails
        // instead of blocking.
        own_socket.set_nonblocking(true).in_step(Step::Control)?;
        let fds: Vec<BorrowedFd<'_>> = input.iter().map(std::os::fd::AsFd::as_fd).collect();
        send(&own_socket, &request, &fds).in_step(Step::Control)?;
        let hosts = policy.hosts().unwrap_or_default().to_vec();
        let connection_count = Arc::new(AtomicU64::new(0));
        let report = with_record_limit(Arc::clone(on_connection), Arc::clone(&connection_count));
        let session = Self {
            socket: UnixStream::from_std(own_socket).in_step(Step::Control)?,
            services: JoinSet::new(),
            proxy_state: Arc::new(ProxyState::new(hosts, report)),
            limits: policy.limits,
            applied: None,
            connection_count,
            _masks: masks,
        };
        Ok((session, program_socket.into()))
    }

    /// Waits until the policy is in force. The program has not started yet.
    ///
    /// # Errors
    /// When a step failed, so that the program will not start.
    pub async fn confirm(&mut self) -> Result<AppliedSandbox, ConfineError> {
        loop {
            let (report, fds) = self.receive().await.map_err(|error| {
                ConfineError::system(Step::Control, error)
                    .advise("`orch __confine` ended before it had confined itself")
            })?;
            match report {
                Report::Listening(kinds) => self.serve(&kinds, fds).in_step(Step::Listen)?,
                Report::Confined(applied) => {
                    self.applied = Some(applied.clone());
                    return Ok(applied);
                }
                Report::Failed(error) => return Err(error),
                Report::NotStarted(_) | Report::Ended { .. } => {
                    let cause = "`orch __confine` started the program before orch allowed it".to_owned();
                    return Err(ConfineError::new(Step::Control, cause));
                }
            }
        }
    }

    /// Allows the program to start.
    ///
    /// # Errors
    /// When `orch __confine` has ended.
    pub async fn start(&mut self, start: &Start) -> Result<(), ConfineError> {
        let body = encode(start).in_step(Step::Control)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other).in_step(Step::Control)?;
        let message = [&length.to_le_bytes()[..], &body].concat();
        self.socket.write_all(&message).await.in_step(Step::Control)
    }

    /// Waits for the end of the program. Returns an empty report if `orch __confine` ends without reporting.
    ///
    /// # Errors
    /// When the program did not start.
    pub async fn ended(&mut self) -> Result<ProgramEnd, ConfineError> {
        let mut ended = loop {
            match self.receive().await {
                Ok((Report::Ended { code, limit, unknown }, _)) => {
                    break ProgramEnd { code: Some(code), limit, unknown, not_started: None };
                }
                Ok((Report::NotStarted(errno), _)) => {
                    break ProgramEnd { not_started: Some(errno), ..ProgramEnd::default() };
                }
                Ok((Report::Failed(error), _)) => return Err(error),
                Ok((Report::Listening(_) | Report::Confined(_), _)) => {}
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    break ProgramEnd::default();
                }
                Err(error) => {
                    let sentence = format!("orch could not read the report about the end of the program: {error}");
                    break ProgramEnd { unknown: vec![sentence], ..ProgramEnd::default() };
                }
            }
        };
        if ended.limit.is_none() {
            let CounterFindings { limit, unknown } = self.limit_of_cgroup(ended.code != Some(0));
            ended.limit = limit;
            ended.unknown.extend(unknown);
        }
        Ok(ended)
    }

    /// The limit because of which the kernel ended a process of the program, if a control group enforces the limits.
    #[cfg(target_os = "linux")]
    fn limit_of_cgroup(&self, has_failed: bool) -> CounterFindings {
        let Some(folder) = self.applied.as_ref().and_then(|applied| applied.cgroup.as_ref()) else {
            return CounterFindings::default();
        };
        super::linux::limit_of_cgroup(folder, &self.limits, has_failed)
    }

    #[cfg(not(target_os = "linux"))]
    fn limit_of_cgroup(&self, _has_failed: bool) -> CounterFindings {
        CounterFindings::default()
    }

    /// Ends the session after all processes of the program have ended: stops serving the network, records the
    /// connections that are still open, and removes the placeholders for protected paths. Returns the number of
    /// connections beyond the maximum number of recorded connections.
    pub async fn finish(mut self) -> u64 {
        // The program has closed its connections, so they end without help unless a server keeps its side open.
        self.proxy_state.wait_all_closed(CLOSE_TIMEOUT).await;
        self.services.shutdown().await;
        self.proxy_state.wait_all_closed(CLOSE_TIMEOUT).await;
        self.connection_count.load(Ordering::Relaxed).saturating_sub(MAX_RECORDED)
    }

    fn serve(&mut self, kinds: &[Listener], fds: Vec<OwnedFd>) -> io::Result<()> {
        for (kind, fd) in kinds.iter().zip(fds) {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            self.services.spawn(serve(listener, *kind, Arc::clone(&self.proxy_state)));
        }
        Ok(())
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        let socket = &self.socket;
        let (length, fds) = socket.async_io(Interest::READABLE, || receive_header(socket.as_fd())).await?;
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await?;
        Ok((decode(&body)?, fds))
    }
}

/// Wraps a callback so that it receives only the first [`MAX_RECORDED`] connections. Counts all connections.
fn with_record_limit(report: OnConnection, count: Arc<AtomicU64>) -> OnConnection {
    Arc::new(move |connection| {
        if count.fetch_add(1, Ordering::Relaxed) < MAX_RECORDED {
            report(connection);
        }
    })
}

impl Drop for SandboxSession {
    fn drop(&mut self) {
        if let Some(folder) = self.applied.as_mut().and_then(|applied| applied.cgroup.take()) {
            // This fails if a process of the group is still running, which is harmless.
            drop(std::fs::remove_dir(folder));
        }
    }
}

impl std::fmt::Debug for SandboxSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level: Option<Level> = self.applied.as_ref().map(|applied| applied.level);
        f.debug_struct("SandboxSession").field("level", &level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use super::super::limits::Limit;
    use super::super::proxy::{Connection, ConnectionOutcome};
    use super::*;

    #[test]
    fn the_number_of_recorded_connections_is_limited() {
        let (recorded, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let recorded_in_callback = Arc::clone(&recorded);
        let on_connection = move |_| {
            recorded_in_callback.fetch_add(1, Ordering::Relaxed);
        };
        let report = with_record_limit(Arc::new(on_connection), Arc::clone(&count));
        for _ in 0..MAX_RECORDED + 5 {
            report(Connection {
                host: "h".to_owned(),
                port: 1,
                address: None,
                sent: 0,
                received: 0,
                outcome: ConnectionOutcome::Allowed,
            });
        }
        assert_eq!((recorded.load(Ordering::Relaxed), count.load(Ordering::Relaxed)), (MAX_RECORDED, MAX_RECORDED + 5));
    }

    /// The end of a program according to the last message of `orch __confine`, which is ended otherwise. A control group
    /// whose counters can't be read enforces the memory limit.
    #[cfg(target_os = "linux")]
    async fn end_after(message: &impl serde::Serialize) -> ProgramEnd {
        let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
        let policy = Policy { min: Level::None, limits, ..Policy::default() };
        let applied = AppliedSandbox {
            level: Level::None,
            landlock: 0,
            has_pid_namespace: false,
            limits_by: Some("cgroup".to_owned()),
            cgroup: Some("/missing/group".into()),
            unenforced: Vec::new(),
        };
        let probe = Probe { best: applied.clone(), has_pid_namespace: false, obstacles: Vec::new() };
        let on_connection: OnConnection = Arc::new(|_: Connection| {});
        let confinement = SandboxOptions { policy: &policy, probe: &probe, on_connection };
        let (mut session, socket) = SandboxSession::open(&confinement, None).unwrap();
        let confine = Socket::from(socket);
        let _: (Request, Vec<OwnedFd>) = super::super::wire::receive(&confine).unwrap();
        send(&confine, &Report::Confined(applied), &[]).unwrap();
        session.confirm().await.unwrap();
        send(&confine, message, &[]).unwrap();
        drop(confine);
        session.ended().await.unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_unreadable_counter_of_a_control_group_is_unknown() {
        let ended = end_after(&Report::Ended { code: 137, limit: None, unknown: vec!["a".to_owned()] }).await;
        assert_eq!((ended.code, ended.limit, ended.unknown.len()), (Some(137), None, 2));
        assert!(ended.unknown[0] == "a" && ended.unknown[1].contains("/missing/group/memory.events"), "{ended:?}");
        let limit = Limit::CpuTime.reached(&Limits { cpu_time: Some(1), ..Limits::default() }, true);
        let ended = end_after(&Report::Ended { code: 137, limit, unknown: Vec::new() }).await;
        assert_eq!((ended.limit, ended.unknown), (limit, Vec::new()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_report_that_orch_cannot_read_is_unknown() {
        let ended = end_after(&"no report").await;
        let sentence = "orch could not read the report about the end of the program: ";
        assert!(ended.code.is_none() && ended.unknown[0].starts_with(sentence), "{ended:?}");
    }

    #[test]
    fn the_command_line_contains_orch_and_the_program() {
        let argv = confined_argv(Path::new("/bin/orch"), &["ls".to_owned(), "-l".to_owned()]);
        assert_eq!(argv, ["/bin/orch", "__confine", "--", "ls", "-l"]);
    }
}
