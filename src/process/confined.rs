//! A program that orch confines: its session with `orch __confine`, from the policy to the end of its last process.
//!
//! `orch __confine` takes the place of the program under the guard. It confines itself, reports what is in force, and
//! starts the program only when orch says so. A session lives until no process of the program is left: then it removes
//! what took the place of protected paths.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use orch_confine::confine::CONFINE_COMMAND;
use orch_confine::confine::{
    self, ConfineError, Confinement, Connection, ConnectionOutcome, Ended, InForce, Level, Seal, Session, Start,
};

use crate::model::{SandboxConnection, SandboxUse};

use super::sandbox::{ProgramSandbox, sandbox_level, without_advice};

/// How long `orch __confine` may take to confine itself.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long orch waits for the last report, after the guard has reported the end of the program.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// The exit code of `orch __confine` without a program.
const NOT_CONFINED: u8 = 125;

/// Runs as the process that confines itself and then starts a program; `arguments` follow [`CONFINE_COMMAND`].
pub fn run_confine(arguments: &[OsString]) -> ExitCode {
    match confine::run_confine(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Without orch, which gets errors over the socket, the user sees them here.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(NOT_CONFINED)
        }
    }
}

/// What orch learned about the confined programs of a call. Clones share the record.
#[derive(Clone, Debug, Default)]
pub(super) struct SandboxRecord(Arc<Mutex<Option<SandboxUse>>>);

impl SandboxRecord {
    fn lock(&self) -> MutexGuard<'_, Option<SandboxUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record so far; `None` if no program was confined.
    pub(super) fn get(&self) -> Option<SandboxUse> {
        self.lock().clone()
    }

    /// Adds what is in force for a program. Of several programs, the weakest level counts.
    fn add_in_force(&self, in_force: &InForce) {
        let level = sandbox_level(in_force.level);
        let mut record = self.lock();
        let known = record.get_or_insert_with(|| SandboxUse { level, own_processes: true, ..SandboxUse::default() });
        known.level = known.level.min(level);
        known.landlock = in_force.landlock;
        known.own_processes &= in_force.own_processes;
        known.limits_by.clone_from(&in_force.limits_by);
        for gap in &in_force.gaps {
            if !known.gaps.contains(gap) {
                known.gaps.push(gap.clone());
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut SandboxUse)) {
        if let Some(known) = self.lock().as_mut() {
            change(known);
        }
    }
}

fn recorded_connection(connection: Connection) -> SandboxConnection {
    let Connection { host, port, sent, received, outcome, .. } = connection;
    let (refused, failed) = match outcome {
        ConnectionOutcome::Allowed => (None, None),
        ConnectionOutcome::Refused(why) => (Some(why), None),
        ConnectionOutcome::Failed(why) => (None, Some(why)),
    };
    SandboxConnection { host, port, sent, received, refused, failed }
}

/// A confined program and its session.
#[derive(Debug)]
pub(super) struct ConfinedProgram {
    session: Session,
    sandbox: Arc<ProgramSandbox>,
    record: SandboxRecord,
    /// The state of the protected paths before the program started, where the kernel can't protect them.
    seal: Option<Seal>,
}

impl ConfinedProgram {
    /// Opens the session of a program. Returns what becomes the standard input of `orch __confine`; `input` becomes that
    /// of the program.
    pub(super) fn open(
        sandbox: &Arc<ProgramSandbox>,
        input: Option<OwnedFd>,
        record: SandboxRecord,
    ) -> Result<(Self, OwnedFd), ConfineError> {
        let recorded = record.clone();
        let on_connection = Arc::new(move |connection: Connection| {
            recorded.change(|known| known.connections.push(recorded_connection(connection)));
        });
        let confinement = Confinement { policy: &sandbox.policy, probe: &sandbox.machine.probe, on_connection };
        let (session, confine_input) = Session::open(&confinement, input)?;
        Ok((Self { session, sandbox: Arc::clone(sandbox), record, seal: None }, confine_input))
    }

    /// The command line of the guard's child: orch itself, with the program as its arguments.
    pub(super) fn argv(orch: &Path, argv: &[String]) -> Vec<OsString> {
        confine::confined_argv(orch, argv)
    }

    /// Waits until the kernel enforces the policy, records that, and lets the program start.
    pub(super) async fn let_start(&mut self) -> Result<(), ConfineError> {
        let Ok(confirmed) = tokio::time::timeout(CONFIRM_TIMEOUT, self.session.confirm()).await else {
            return Err(timeout_error());
        };
        let in_force = confirmed?;
        self.record.add_in_force(&in_force);
        if in_force.level == Level::Basic && !self.sandbox.policy.protect.is_empty() {
            let sandbox = Arc::clone(&self.sandbox);
            // This reads folders, which may take long.
            self.seal = tokio::task::spawn_blocking(move || Seal::take(&sandbox.policy)).await.ok();
        }
        // The program's own sandbox can't start inside this one; without this one, it stays on.
        let argv = self.sandbox.confirmed_argv.clone().filter(|_| in_force.level > Level::None);
        self.session.start(&Start { argv, env: Vec::new() }).await
    }

    /// Reads the last report, after the program has ended, and records the limit that it reached. Returns the system's
    /// error number if the program could not be started.
    pub(super) async fn read_end(&mut self) -> Result<Option<i32>, ConfineError> {
        // If `orch __confine` was killed with the program, there may be no report.
        let Ok(ended) = tokio::time::timeout(REPORT_TIMEOUT, self.session.ended()).await else { return Ok(None) };
        let Ended { limit, not_started, .. } = ended?;
        if let Some(limit) = limit {
            self.record.change(|known| known.limit = Some(without_advice(&limit.to_string())));
        }
        Ok(not_started)
    }

    /// Ends the session, after no process of the program is left. From then on, the record is complete.
    pub(super) async fn finish(self) {
        // The folder for temporary files is removed with the last program that has it.
        let Self { session, sandbox: _sandbox, record, seal } = self;
        let omitted = session.finish().await;
        record.change(|known| known.omitted_connections += omitted);
        let Some(seal) = seal else { return };
        let changed = tokio::task::spawn_blocking(move || seal.broken()).await.unwrap_or_default();
        let changed = changed.iter().map(|path| path.display().to_string());
        record.change(|known| known.changed_protected.extend(changed));
    }
}

fn timeout_error() -> ConfineError {
    ConfineError {
        step: confine::Step::Control,
        place: None,
        cause: format!("`orch __confine` did not confine itself within {} s", CONFIRM_TIMEOUT.as_secs()),
        errno: None,
        advice: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SandboxLevel;

    fn in_force(level: Level, gap: &str) -> InForce {
        InForce {
            level,
            landlock: 7,
            own_processes: level == Level::Full,
            limits_by: None,
            cgroup: None,
            gaps: vec![gap.to_owned()],
        }
    }

    #[test]
    fn of_several_programs_of_a_call_the_weakest_level_is_recorded() {
        let record = SandboxRecord::default();
        record.change(|_| panic!("nothing is recorded yet"));
        assert_eq!(record.get(), None);
        record.add_in_force(&in_force(Level::Full, "a"));
        record.add_in_force(&in_force(Level::Basic, "b"));
        record.add_in_force(&in_force(Level::Full, "a"));
        let known = record.get().unwrap();
        assert_eq!((known.level, known.own_processes), (SandboxLevel::Basic, false));
        assert_eq!(known.gaps, ["a", "b"]);
    }

    #[test]
    fn a_refused_connection_keeps_its_reason() {
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
