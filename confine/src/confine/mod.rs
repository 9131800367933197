//! Confines programs: the kernel enforces a policy for a program and all its descendants.
//!
//! orch starts its own executable as `orch __confine`. This process confines itself and then starts the program, so the
//! program and its descendants inherit the confinement. `orch __confine` runs under the supervisor of the program
//! (`process/supervisor.rs`), so the supervisor also ends it. orch and `orch __confine` communicate over a socket
//! ([`SandboxSession`]): orch sends the policy; `orch __confine` sends the listening sockets of the network, then the
//! level in force, and at the end the limit that the program reached. If a step fails, the program does not start.

mod address;
mod command_words;
mod damage;
mod environment;
mod error;
mod git_config;
mod git_index;
mod git_protection;
mod host;
mod index_state;
mod limits;
mod links;
#[cfg(target_os = "linux")]
mod linux;
mod listen;
mod masks;
mod policy;
mod probe;
mod protect;
mod proxy;
mod repository;
mod repository_state;
mod seatbelt;
mod session;
mod stored_path;
mod wire;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub use address::is_public;
pub use damage::DamageCheck;
pub use error::{ConfineError, Step};
pub use git_protection::protected_repositories;
pub use host::{Host, HostError, normalize_name};
pub use limits::{Limit, LimitReached, limit_in_output};
pub use links::{ResolvedPath, resolve_links};
pub use masks::remove_leftover_masks;
pub use policy::{Level, Limits, Mask, Network, PRIVATE_FOLDERS, Policy, Protected};
pub use probe::{Obstacle, Probe, probe};
pub use protect::{Seal, is_lock_file, usually_protected};
pub use proxy::{Connection, ConnectionOutcome, OnConnection};
pub use session::{ProgramEnd, SandboxOptions, SandboxSession, confined_argv};
pub use wire::{AppliedSandbox, Start};

use error::InStep as _;
use wire::{Report, Request, receive, send};

/// The first argument of an orch process that confines itself and then starts a program.
pub const CONFINE_COMMAND: &str = "__confine";
/// The exit code of `orch __confine` if it could not confine itself, so that it did not start the program.
const NOT_CONFINED: i32 = 125;

/// The task of an `orch __confine` process.
struct Job {
    request: Request,
    /// The program and its arguments.
    argv: Vec<OsString>,
    /// The standard input of the program.
    input: Option<OwnedFd>,
    /// The socket to orch.
    control: Option<UnixStream>,
    /// Whether to test only whether confinement works, without a program.
    is_probe: bool,
}

/// Runs as `orch __confine`; returns the exit code. `arguments` follow [`CONFINE_COMMAND`]: `-- PROGRAM …` with orch's
/// socket as standard input, `--policy FILE --level LEVEL -- PROGRAM …` without orch, or `--probe LEVEL`.
///
/// # Errors
/// Without orch, returns the reason why the program did not start. orch itself receives the reason over the socket.
pub fn run_confine(arguments: &[OsString]) -> Result<u8, ConfineError> {
    // Before this process opens any file itself.
    #[cfg(target_os = "linux")]
    linux::close_inherited_files();
    let mut arguments = arguments.iter().map(OsString::as_os_str);
    let code = match arguments.next().and_then(|argument| argument.to_str()) {
        Some("--") => run_with_orch(arguments.map(OsString::from).collect()),
        #[cfg(target_os = "linux")]
        Some(linux::SECOND_STAGE) => {
            // The first stage reports the error, so this stage only returns the exit code.
            linux::run_as_second_stage(arguments.skip(1).map(OsString::from).collect()).unwrap_or(NOT_CONFINED)
        }
        Some("--probe") => {
            let (level, has_pid_namespace) = (arguments.next(), arguments.next().is_none());
            let request = request(Policy::default(), parse_level(level)?);
            let request = Request { has_pid_namespace: request.has_pid_namespace && has_pid_namespace, ..request };
            let job = Job { request, argv: Vec::new(), input: None, control: None, is_probe: true };
            if let Err(error) = confine(job) {
                write_probe_result(&Err(error));
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
    Request { policy, level, has_pid_namespace: level == Level::Full, has_input: false }
}

fn parse_level(text: Option<&std::ffi::OsStr>) -> Result<Level, ConfineError> {
    match text.and_then(|text| text.to_str()) {
        Some("full") => Ok(Level::Full),
        Some("basic") => Ok(Level::Basic),
        Some("none") => Ok(Level::None),
        _ => Err(ConfineError::new(Step::Policy, "the level must be `full`, `basic` or `none`".to_owned())),
    }
}

/// Receives the request from orch, confines this process, and runs the program.
fn run_with_orch(argv: Vec<OsString>) -> i32 {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else { return NOT_CONFINED };
    let control = UnixStream::from(socket);
    let result = receive_job(&control, argv).and_then(confine);
    result.unwrap_or_else(|error| {
        // Sending fails only if orch has died, and then no process needs the report.
        let _ = send(&control, &Report::Failed(error), &[]);
        NOT_CONFINED
    })
}

fn receive_job(control: &UnixStream, argv: Vec<OsString>) -> Result<Job, ConfineError> {
    let (request, fds): (Request, _) = receive(control).in_step(Step::Control)?;
    let input = if request.has_input { fds.into_iter().next() } else { None };
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

/// Writes the result of a probe to standard output.
fn write_probe_result(result: &Result<AppliedSandbox, ConfineError>) {
    // If this fails, orch reads an empty output and reports that the probe ended early.
    let _ = serde_json::to_vec(result).map(|bytes| std::io::stdout().write_all(&bytes));
}
