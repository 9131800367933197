//! Runs a confined program through a session with `orch __confine`.
//!
//! The supervisor starts `orch __confine` in place of the program. `orch __confine` confines itself, reports the level
//! in force, and starts the program only after orch allows it. The session ends after the last process of the program
//! has ended. It then removes the placeholders for protected paths.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use orch_confine::confine::CONFINE_COMMAND;
use orch_confine::confine::{
    self, AppliedSandbox, ConfineError, Connection, ConnectionOutcome, Level, Limits, ProgramEnd, SandboxOptions,
    SandboxSession, Start,
};

use crate::clock::VirtualTimeHold;
use crate::model::{SandboxConnection, SandboxUse};
use crate::offload::run_on_thread;

use super::program_start::{ProgramStart, StartRecorder};
use super::sandbox::{ProgramSandbox, sandbox_level, without_advice};

/// How long `orch __confine` may take to confine itself.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long orch waits for the last report after the supervisor has reported the end of the program.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// What orch records if the last report does not arrive in time.
const NO_REPORT: &str =
    "orch got no report about the end of the program, so it does not know whether the program reached a limit";
/// The exit code of `orch __confine` if it did not start the program.
const NOT_CONFINED_EXIT_CODE: u8 = 125;

/// Runs as `orch __confine`: confines this process and then starts the program. `arguments` follow [`CONFINE_COMMAND`].
pub fn run_confine(arguments: &[OsString]) -> ExitCode {
    match confine::run_confine(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Only a user who runs `orch __confine` by hand sees this. orch receives errors over the socket.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(NOT_CONFINED_EXIT_CODE)
        }
    }
}

/// The record of the sandboxes of a call's programs. All clones share the record.
#[derive(Clone, Debug, Default)]
pub(super) struct SandboxRecord {
    sandbox: Arc<Mutex<Option<SandboxUse>>>,
    /// Stores the state before the first program of the call. The state also shows the damage by later programs.
    start_recorder: Arc<Mutex<Option<StartRecorder>>>,
}

impl SandboxRecord {
    fn lock(&self) -> MutexGuard<'_, Option<SandboxUse>> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recorder of the state before the next program.
    pub(super) fn start_recorder(&self) -> MutexGuard<'_, Option<StartRecorder>> {
        self.start_recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record so far; `None` if orch confined no program.
    pub(super) fn get(&self) -> Option<SandboxUse> {
        self.lock().clone()
    }

    /// Adds the sandbox of a program. Of several programs, the record contains the weakest level.
    fn add_applied(&self, applied: &AppliedSandbox) {
        let level = sandbox_level(applied.level);
        let mut record = self.lock();
        let sandbox =
            record.get_or_insert_with(|| SandboxUse { level, has_pid_namespace: true, ..SandboxUse::default() });
        sandbox.level = sandbox.level.min(level);
        sandbox.landlock = applied.landlock;
        sandbox.has_pid_namespace &= applied.has_pid_namespace;
        sandbox.limits_by.clone_from(&applied.limits_by);
        add_new(&mut sandbox.unenforced, &applied.unenforced);
    }

    /// Changes the record, if there is one.
    fn update(&self, change: impl FnOnce(&mut SandboxUse)) {
        if let Some(sandbox) = self.lock().as_mut() {
            change(sandbox);
        }
    }
}

/// Adds the sentences that a list does not contain yet.
fn add_new(list: &mut Vec<String>, sentences: &[String]) {
    for sentence in sentences {
        if !list.contains(sentence) {
            list.push(sentence.clone());
        }
    }
}

/// Converts a connection to the type that orch records.
fn recorded_connection(connection: Connection) -> SandboxConnection {
    let Connection { host, port, sent, received, outcome, .. } = connection;
    let (refused, failed) = match outcome {
        ConnectionOutcome::Allowed => (None, None),
        ConnectionOutcome::Refused(reason) => (Some(reason), None),
        ConnectionOutcome::Failed(reason) => (None, Some(reason)),
    };
    SandboxConnection { host, port, sent, received, refused, failed }
}

/// A confined program, and the session with its `orch __confine`.
#[derive(Debug)]
pub(super) struct ConfinedProgram {
    session: SandboxSession,
    sandbox: Arc<ProgramSandbox>,
    record: SandboxRecord,
    /// The working directory of the program.
    cwd: PathBuf,
    /// The state before the start of the program, which orch compares with the state after its end.
    start: Option<ProgramStart>,
}

impl ConfinedProgram {
    /// Opens the session of a program with the working directory `cwd` and the standard input `input`. Also returns
    /// the standard input of `orch __confine`.
    pub(super) fn open(
        sandbox: &Arc<ProgramSandbox>,
        cwd: &Path,
        input: Option<OwnedFd>,
        record: SandboxRecord,
    ) -> Result<(Self, OwnedFd), ConfineError> {
        let shared_record = record.clone();
        let on_connection = Arc::new(move |connection: Connection| {
            shared_record.update(|sandbox| sandbox.connections.push(recorded_connection(connection)));
        });
        let confinement = SandboxOptions { policy: &sandbox.policy, probe: &sandbox.machine.probe, on_connection };
        let (session, confine_input) = SandboxSession::open(&confinement, input)?;
        let sandbox = Arc::clone(sandbox);
        Ok((Self { session, sandbox, record, cwd: cwd.to_owned(), start: None }, confine_input))
    }

    /// The command line of `orch __confine`, which the supervisor starts in place of the program.
    pub(super) fn confine_argv(orch: &Path, argv: &[String]) -> Vec<OsString> {
        confine::confined_argv(orch, argv)
    }

    /// Waits until the policy is in force, records the level, and allows the program to start. `hold` stops virtual
    /// time during work on another thread.
    pub(super) async fn confirm_and_start(&mut self, hold: VirtualTimeHold) -> Result<(), ConfineError> {
        let Ok(confirmed) = tokio::time::timeout(CONFIRM_TIMEOUT, self.session.confirm()).await else {
            let seconds = CONFIRM_TIMEOUT.as_secs();
            return Err(control_error(format!("`orch __confine` did not confine itself within {seconds} s")));
        };
        let applied = confirmed?;
        self.record.add_applied(&applied);
        let (sandbox, cwd, level) = (Arc::clone(&self.sandbox), self.cwd.clone(), applied.level);
        let (recorded, recorder) = (self.record.get().unwrap_or_default(), self.record.start_recorder().clone());
        // Runs on another thread, because reading the folders may take long.
        let start = run_on_thread(hold, move || -> io::Result<ProgramStart> {
            let start = ProgramStart::take(&sandbox.policy, &cwd, level, recorded);
            recorder.map_or(Ok(()), |recorder| recorder.record(&start))?;
            Ok(start)
        });
        self.start = Some(start.await.map_err(|error| not_stored(&error))?);
        *self.record.start_recorder() = None;
        // Inside the sandbox of orch, this command line turns off the program's own sandbox, which can't start there.
        let argv = self.sandbox.argv_in_sandbox.clone().filter(|_| applied.level > Level::None);
        self.session.start(&Start { argv, env: Vec::new() }).await
    }

    /// Reads the last report after the program has ended, and records the limit that the program reached. Returns the
    /// error number of the operating system if the program could not start.
    pub(super) async fn read_last_report(&mut self) -> Result<Option<i32>, ConfineError> {
        let ended = tokio::time::timeout(REPORT_TIMEOUT, self.session.ended()).await.unwrap_or_else(|_| {
            let has_limits = self.sandbox.policy.limits != Limits::default();
            let unknown = has_limits.then(|| NO_REPORT.to_owned()).into_iter().collect();
            Ok(ProgramEnd { unknown, ..ProgramEnd::default() })
        });
        let ProgramEnd { limit, unknown, not_started, .. } = ended?;
        self.record.update(|sandbox| {
            if let Some(limit) = limit {
                sandbox.limit = Some(without_advice(&limit.to_string()));
            }
            add_new(&mut sandbox.unknown, &unknown);
        });
        Ok(not_started)
    }

    /// Ends the session after all processes of the program have ended. The record is then complete. `hold` stops
    /// virtual time during work on another thread.
    pub(super) async fn finish(self, hold: VirtualTimeHold) {
        // Dropping the sandbox removes the folder for temporary files, so it must live until the end of the session.
        let Self { session, sandbox: _sandbox, record, start, .. } = self;
        let omitted_count = session.finish().await;
        record.update(|sandbox| sandbox.omitted_connections += omitted_count);
        let Some(start) = start else { return };
        let (changed_paths, damage) = run_on_thread(hold, move || start.damage()).await;
        let changed_paths = changed_paths.iter().map(|path| path.display().to_string());
        record.update(|sandbox| {
            sandbox.changed_protected.extend(changed_paths);
            sandbox.damage.extend(damage);
        });
    }
}

/// The error of a program whose state before the start can't be stored. After a kill, its damage would be unknown.
fn not_stored(error: &io::Error) -> ConfineError {
    let cause = format!("the state of the git repositories before the program can't be stored: {error}");
    let advice = "check the disk, and that orch may write to its state folder".to_owned();
    let errno = error.raw_os_error();
    ConfineError { step: confine::Step::Start, errno, advice: Some(advice), ..control_error(cause) }
}

fn control_error(cause: String) -> ConfineError {
    ConfineError { step: confine::Step::Control, place: None, cause, errno: None, advice: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SandboxLevel;

    fn applied(level: Level, unenforced: &str) -> AppliedSandbox {
        AppliedSandbox {
            level,
            landlock: 7,
            has_pid_namespace: level == Level::Full,
            limits_by: None,
            cgroup: None,
            unenforced: vec![unenforced.to_owned()],
        }
    }

    #[test]
    fn the_weakest_level_of_several_programs_is_recorded() {
        let record = SandboxRecord::default();
        record.update(|_| panic!("nothing is recorded yet"));
        assert_eq!(record.get(), None);
        record.add_applied(&applied(Level::Full, "a"));
        record.add_applied(&applied(Level::Basic, "b"));
        record.add_applied(&applied(Level::Full, "a"));
        let sandbox = record.get().unwrap();
        assert_eq!((sandbox.level, sandbox.has_pid_namespace), (SandboxLevel::Basic, false));
        assert_eq!(sandbox.unenforced, ["a", "b"]);
    }

    #[test]
    fn a_sentence_of_several_programs_is_recorded_once() {
        let mut list = vec!["a".to_owned()];
        add_new(&mut list, &["b", "a", "b"].map(str::to_owned));
        assert_eq!(list, ["a", "b"]);
    }

    #[test]
    fn the_record_of_a_refused_connection_has_the_reason() {
        let connection = Connection {
            host: "h".to_owned(),
            port: 443,
            address: None,
            sent: 1,
            received: 2,
            outcome: ConnectionOutcome::Refused("not listed".to_owned()),
        };
        let recorded = recorded_connection(connection);
        assert_eq!((recorded.refused.as_deref(), recorded.failed), (Some("not listed"), None));
    }
}
