//! Confines programs: the kernel holds them to a policy, whatever they do.
//!
//! orch starts itself again as `orch __confine`, which confines itself and then starts the program; everything that
//! the program starts inherits the confinement. `__confine` takes the place of the program under a guard
//! (`process/guard.rs`), so the guard ends it and everything below as before. orch and `__confine` talk over a socket
//! ([`Session`]): the policy goes in, the sockets of the network come out, then the level that is in force, and at the
//! end the limit that the program reached. If a step fails, the program does not start.

mod environment;
mod error;
mod host;
mod limits;
#[cfg(target_os = "linux")]
mod linux;
mod listen;
mod masks;
mod policy;
mod probe;
mod protect;
mod proxy;
mod seatbelt;
mod session;
mod wire;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub use error::{ConfineError, Step};
pub use host::{Host, HostError};
pub use limits::{Limit, LimitReached, limit_in_output};
pub use policy::{Level, Limits, Mask, Network, Policy, Protected};
pub use probe::{Obstacle, Probe, probe};
pub use protect::{Seal, usually_protected};
pub use proxy::{Connection, ConnectionOutcome, OnConnection};
pub use session::{Confinement, Ended, Session, confined_argv};
pub use wire::{InForce, Start};

use error::InStep as _;
use wire::{Report, Request, receive, send};

/// The first argument of an orch process that confines itself and then starts a program.
pub const CONFINE_COMMAND: &str = "__confine";
/// The exit code when the program was not started, because it could not be confined.
const NOT_CONFINED: i32 = 125;

/// What an `orch __confine` process is to do.
struct Job {
    request: Request,
    /// The program and its arguments.
    argv: Vec<OsString>,
    input: Option<OwnedFd>,
    control: Option<UnixStream>,
    is_probe: bool,
}

/// Runs as `orch __confine`; returns the exit code. `arguments` follow [`CONFINE_COMMAND`]: `-- PROGRAM …` with orch's
/// socket as standard input, `--policy FILE --level LEVEL -- PROGRAM …` without orch, or `--probe LEVEL`.
///
/// # Errors
/// Without orch, the reason why the program was not started. orch itself gets it over the socket.
pub fn run_confine(arguments: &[OsString]) -> Result<u8, ConfineError> {
    // This comes before anything is opened.
    #[cfg(target_os = "linux")]
    linux::close_inherited_files();
    let mut arguments = arguments.iter().map(OsString::as_os_str);
    let code = match arguments.next().and_then(|argument| argument.to_str()) {
        Some("--") => run_with_orch(arguments.map(OsString::from).collect()),
        #[cfg(target_os = "linux")]
        Some(linux::INNER) => {
            // The first stage reports the error.
            linux::run_as_inner(arguments.skip(1).map(OsString::from).collect()).unwrap_or(NOT_CONFINED)
        }
        Some("--probe") => {
            let (level, own_processes) = (arguments.next(), arguments.next().is_none());
            let request = request(Policy::default(), parse_level(level)?);
            let request = Request { own_processes: request.own_processes && own_processes, ..request };
            let job = Job { request, argv: Vec::new(), input: None, control: None, is_probe: true };
            if let Err(error) = confine(job) {
                write_output(&Err(error));
            }
            0
        }
        Some("--policy") => {
            let path = Path::new(arguments.next().unwrap_or_default());
            let text = fs::read(path).in_step_at(Step::Policy, path)?;
            let policy: Policy = wire::decode(&text).in_step_at(Step::Policy, path)?;
            let level = match arguments.next() {
                Some(argument) if argument == "--level" => parse_level(arguments.next())?,
                _ => Level::Full,
            };
            policy.check(level)?;
            let input = std::io::stdin().as_fd().try_clone_to_owned().in_step(Step::Control)?;
            let argv = arguments.skip_while(|argument| *argument == "--").map(OsString::from).collect();
            let masks = masks::Masks::create(&policy)?;
            let request = request(masks.protected_in(&policy), level);
            confine(Job { request, argv, input: Some(input), control: None, is_probe: false })?
        }
        _ => return Err(ConfineError::new(Step::Control, "the arguments of `__confine` are invalid".to_owned())),
    };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn request(policy: Policy, level: Level) -> Request {
    Request { policy, level, own_processes: level == Level::Full, has_input: false }
}

fn parse_level(text: Option<&std::ffi::OsStr>) -> Result<Level, ConfineError> {
    match text.and_then(|text| text.to_str()) {
        Some("full") => Ok(Level::Full),
        Some("basic") => Ok(Level::Basic),
        Some("none") => Ok(Level::None),
        _ => Err(ConfineError::new(Step::Policy, "the level is none of `full`, `basic` and `none`".to_owned())),
    }
}

/// Receives the request from orch, confines this process, and runs the program.
fn run_with_orch(argv: Vec<OsString>) -> i32 {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return NOT_CONFINED };
    let control = UnixStream::from(socket);
    let result = receive_job(&control, argv).and_then(confine);
    result.unwrap_or_else(|error| {
        // If orch has died, nobody needs the report.
        let _ = send(&control, &Report::Failed(error), &[]);
        NOT_CONFINED
    })
}

fn receive_job(control: &UnixStream, argv: Vec<OsString>) -> Result<Job, ConfineError> {
    let (request, files): (Request, _) = receive(control).in_step(Step::Control)?;
    let input = if request.has_input { files.into_iter().next() } else { None };
    let control = Some(control.try_clone().in_step(Step::Control)?);
    Ok(Job { request, argv, input, control, is_probe: false })
}

#[cfg(target_os = "linux")]
fn confine(job: Job) -> Result<i32, ConfineError> {
    linux::run(job)
}

#[cfg(not(target_os = "linux"))]
fn confine(job: Job) -> Result<i32, ConfineError> {
    seatbelt::run(job)
}

/// Writes the answer to a probe.
fn write_output(answer: &Result<InForce, ConfineError>) {
    // Whoever asked reads an empty answer if this fails.
    let _ = serde_json::to_vec(answer).map(|bytes| std::io::stdout().write_all(&bytes));
}
