//! orch's side of a confined program.
//!
//! ```text
//! Session::open ─► the program's guard starts `orch __confine` with the returned socket as its input
//! Session::confirm ◄─ the level in force, before the program starts
//! Session::start ─► the program starts
//! Session::ended ◄─ the limit that it reached, if any
//! Session::finish, after the guard has ended every process
//! ```
//!
//! Meanwhile the session serves the program's network, as long as its runtime runs.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;

use super::CONFINE_COMMAND;
use super::error::{ConfineError, InStep as _, Step};
use super::limits::LimitReached;
use super::masks::Masks;
use super::policy::{Level, Policy};
use super::probe::Probe;
use super::proxy::{OnConnection, Shared, serve};
use super::wire::{InForce, Listener, Report, Request, Start, decode, encode, receive_header, send};

/// How a confined program ended, as `orch __confine` saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The exit code; for a signal, 128 plus its number. `None` if `orch __confine` was ended with the program.
    pub code: Option<i32>,
    /// The limit that the program certainly reached. For those that it may have reached, see
    /// [`limit_in_output`](super::limit_in_output).
    pub limit: Option<LimitReached>,
    /// The system's error number if the program can't be started.
    pub not_started: Option<i32>,
}

/// How many connections of a program orch records: a program could fill the journal with refused ones.
const MAX_RECORDED: u64 = 10_000;

/// How long orch waits for connections to close after the program has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// A confined program. It must live until no process of the program is left: then [`Session::finish`], or dropping it,
/// removes what takes the place of protected paths.
pub struct Session {
    socket: UnixStream,
    services: JoinSet<()>,
    shared: Arc<Shared>,
    in_force: Option<InForce>,
    connections: Arc<AtomicU64>,
    // The last field: everything that uses the workspace is gone before.
    _masks: Masks,
}

/// What a program is confined with: the policy, what this machine can do, and who wants to know of its connections.
pub struct Confinement<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What this machine can do.
    pub probe: &'a Probe,
    /// Receives each connection through the proxy when it ends.
    pub on_connection: OnConnection,
}

/// The command line of a confined program: orch itself, and the program as its arguments.
pub fn confined_argv(orch: &Path, argv: &[String]) -> Vec<OsString> {
    let own = [orch.as_os_str().to_owned(), CONFINE_COMMAND.into(), "--".into()];
    own.into_iter().chain(argv.iter().map(OsString::from)).collect()
}

impl Session {
    /// Opens the socket for a program and sends the policy. Call it in a runtime of `tokio`. Returns the other end, which becomes the standard input of
    /// `orch __confine`; `input` becomes the program's.
    ///
    /// # Errors
    /// The policy can't be enforced here, or what takes the place of protected paths can't be created.
    pub fn open(confinement: &Confinement<'_>, input: Option<OwnedFd>) -> Result<(Self, OwnedFd), ConfineError> {
        let Confinement { policy, probe, on_connection } = confinement;
        let level = probe.level();
        probe.require(policy.min)?;
        policy.check(level)?;
        // Seatbelt knows paths that do not exist, and the other levels can't protect paths.
        let needs_masks = level == Level::Full && cfg!(target_os = "linux");
        let masks = if needs_masks { Masks::create(policy)? } else { Masks::default() };
        let (here, there) = Socket::pair().in_step(Step::Control)?;
        let request = Request {
            policy: masks.protected_in(policy),
            level,
            own_processes: level == Level::Full && probe.own_processes,
            has_input: input.is_some(),
        };
        // The kernel buffers the policy until `orch __confine` runs; a longer one than that is refused, not waited for.
        here.set_nonblocking(true).in_step(Step::Control)?;
        let files: Vec<BorrowedFd<'_>> = input.iter().map(std::os::fd::AsFd::as_fd).collect();
        send(&here, &request, &files).in_step(Step::Control)?;
        let hosts = policy.hosts().unwrap_or_default().to_vec();
        let connections = Arc::new(AtomicU64::new(0));
        let report = limited(Arc::clone(on_connection), Arc::clone(&connections));
        let session = Self {
            socket: UnixStream::from_std(here).in_step(Step::Control)?,
            services: JoinSet::new(),
            shared: Arc::new(Shared::new(hosts, report)),
            in_force: None,
            connections,
            _masks: masks,
        };
        Ok((session, there.into()))
    }

    /// Waits until the policy is in force. The program has not started yet.
    ///
    /// # Errors
    /// A step failed, so the program will not start.
    pub async fn confirm(&mut self) -> Result<InForce, ConfineError> {
        loop {
            let (report, files) = self.receive().await.map_err(|error| {
                ConfineError::system(Step::Control, error)
                    .advise("`orch __confine` ended before it had confined itself")
            })?;
            match report {
                Report::Listening(kinds) => self.serve(&kinds, files).in_step(Step::Listen)?,
                Report::Confined(in_force) => {
                    self.in_force = Some(in_force.clone());
                    return Ok(in_force);
                }
                Report::Failed(error) => return Err(error),
                Report::NotStarted(_) | Report::Ended { .. } => {
                    return Err(ConfineError::new(Step::Control, "`orch __confine` started the program".to_owned()));
                }
            }
        }
    }

    /// Lets the program start.
    ///
    /// # Errors
    /// `orch __confine` has ended.
    pub async fn start(&mut self, start: &Start) -> Result<(), ConfineError> {
        let body = encode(start).in_step(Step::Control)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other).in_step(Step::Control)?;
        let message = [&length.to_le_bytes()[..], &body].concat();
        self.socket.write_all(&message).await.in_step(Step::Control)
    }

    /// Waits for the end of the program. It is not an error if `orch __confine` is ended with it.
    ///
    /// # Errors
    /// The program was not started.
    pub async fn ended(&mut self) -> Result<Ended, ConfineError> {
        loop {
            match self.receive().await {
                Ok((Report::Ended { code, limit }, _)) => {
                    return Ok(Ended { code: Some(code), limit, not_started: None });
                }
                Ok((Report::NotStarted(errno), _)) => {
                    return Ok(Ended { not_started: Some(errno), ..Ended::default() });
                }
                Ok((Report::Failed(error), _)) => return Err(error),
                Ok((Report::Listening(_) | Report::Confined(_), _)) => {}
                Err(_) => return Ok(Ended::default()),
            }
        }
    }

    /// Ends the session, after no process of the program is left: stops serving its network, records the connections
    /// that are still open, and removes what takes the place of protected paths. Returns how many connections orch did
    /// not record, because there were too many.
    pub async fn finish(mut self) -> u64 {
        // The program's ends are closed, so connections end by themselves, unless a server keeps its end open.
        self.shared.wait_all_closed(CLOSE_TIMEOUT).await;
        self.services.shutdown().await;
        self.shared.wait_all_closed(CLOSE_TIMEOUT).await;
        self.connections.load(Ordering::Relaxed).saturating_sub(MAX_RECORDED)
    }

    fn serve(&mut self, kinds: &[Listener], files: Vec<OwnedFd>) -> io::Result<()> {
        for (kind, file) in kinds.iter().zip(files) {
            let listener = std::net::TcpListener::from(file);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            self.services.spawn(serve(listener, *kind, Arc::clone(&self.shared)));
        }
        Ok(())
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(T, Vec<OwnedFd>)> {
        let socket = &self.socket;
        let (length, files) = socket.async_io(Interest::READABLE, || receive_header(socket.as_fd())).await?;
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await?;
        Ok((decode(&body)?, files))
    }
}

/// Passes the first connections on, and counts all.
fn limited(report: OnConnection, count: Arc<AtomicU64>) -> OnConnection {
    Arc::new(move |connection| {
        if count.fetch_add(1, Ordering::Relaxed) < MAX_RECORDED {
            report(connection);
        }
    })
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(folder) = self.in_force.as_mut().and_then(|in_force| in_force.cgroup.take()) {
            remove_group(&folder);
        }
    }
}

/// Removes the folder of a control group, which fails harmlessly while a process is left in it.
fn remove_group(folder: &PathBuf) {
    drop(std::fs::remove_dir(folder));
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level: Option<Level> = self.in_force.as_ref().map(|in_force| in_force.level);
        f.debug_struct("Session").field("level", &level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::proxy::{Connection, ConnectionOutcome};
    use super::*;

    #[test]
    fn a_program_cannot_fill_the_record_with_connections() {
        let (recorded, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&recorded);
        let on_connection = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let report = limited(Arc::new(on_connection), Arc::clone(&count));
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

    #[test]
    fn the_command_line_is_orch_and_then_the_program() {
        let argv = confined_argv(Path::new("/bin/orch"), &["ls".to_owned(), "-l".to_owned()]);
        assert_eq!(argv, ["/bin/orch", "__confine", "--", "ls", "-l"]);
    }
}
