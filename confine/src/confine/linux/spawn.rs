//! Starts the program.
//!
//! The standard library starts a program with the signal mask of the calling thread. The thread would therefore have to
//! unblock the signals of `signals.rs` first, and a signal would then end `orch __confine`. `posix_spawnp` gives the
//! program a mask of its own.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::Pid;

use super::signals;

/// The file descriptor of standard input.
const STANDARD_INPUT: i32 = 0;

/// Starts a program with these variables in addition to those of this process, and with this standard input. Looks up a
/// program without `/` in the `PATH` of this process.
///
/// # Errors
/// `ENOENT` if there is no such program or its interpreter is missing, `EINVAL` if an argument or a variable contains a
/// NUL character, and otherwise the error of the operating system.
pub(super) fn spawn(
    argv: &[OsString],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    input: BorrowedFd<'_>,
) -> Result<Pid, Errno> {
    let arguments = argv.iter().cloned().map(c_string).collect::<Result<Vec<CString>, Errno>>()?;
    let program = arguments.first().ok_or(Errno::EINVAL)?;
    let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    environment.extend(variables);
    let environment = environment.into_iter().map(|(mut entry, value)| {
        entry.push("=");
        entry.push(value);
        c_string(entry)
    });
    let environment = environment.collect::<Result<Vec<CString>, Errno>>()?;
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_dup2(input.as_raw_fd(), STANDARD_INPUT)?;
    let mut mask = SigSet::thread_get_mask()?;
    for signal in &signals::blocked() {
        mask.remove(signal);
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&mask)?;
    // Every Rust program ignores SIGPIPE, and a program would inherit this. All other signals have the handling that
    // `orch __confine` inherited, so that `nohup` works.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    let pid = posix_spawnp(program, &actions, &attributes, &arguments, &environment)?;
    Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)
}

fn c_string(text: OsString) -> Result<CString, Errno> {
    CString::new(text.into_vec()).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use nix::sys::signal::raise;
    use rustix::process::{WaitOptions, WaitStatus, waitpid};

    use super::super::signals::BlockedSignals;
    use super::*;

    fn start(argv: &[&str], variables: &[(&str, &str)], input: &File) -> Result<Pid, Errno> {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        spawn(&argv, variables, input.as_fd())
    }

    fn wait_for(pid: Pid) -> WaitStatus {
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
    }

    #[test]
    fn a_pending_signal_is_taken_once_or_sent_to_the_program() {
        signals::block().unwrap();
        let pending = BlockedSignals::open().unwrap();
        assert_eq!(pending.take(), Ok(None));
        raise(Signal::SIGHUP).unwrap();
        assert_eq!((pending.take(), pending.take()), (Ok(Some(Signal::SIGHUP)), Ok(None)));
        raise(Signal::SIGTERM).unwrap();
        let null = File::open("/dev/null").unwrap();
        // The program does not inherit the blocked signals, so the signal ends it.
        let program = start(&["sleep", "600"], &[], &null).unwrap();
        pending.pass_on(program).unwrap();
        assert_eq!(wait_for(program).terminating_signal(), Some(Signal::SIGTERM as i32));
        assert_eq!(pending.take(), Ok(None));
        signals::blocked().thread_unblock().unwrap();
    }

    #[test]
    fn a_program_gets_its_arguments_variables_and_input() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("input"), "line\n").unwrap();
        let input = File::open(folder.path().join("input")).unwrap();
        let script = "read -r line && test \"$1 $A $line\" = 'one two line' && test -n \"$PATH\"";
        let program = start(&["sh", "-c", script, "sh", "one"], &[("A", "two")], &input).unwrap();
        assert_eq!(wait_for(program).exit_status(), Some(0));
    }

    #[test]
    fn the_error_says_why_a_program_cannot_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let file = folder.path().join("file").display().to_string();
        let null = File::open("/dev/null").unwrap();
        let error = |argv: &[&str], variables: &[(&str, &str)]| start(argv, variables, &null).unwrap_err();
        assert_eq!(error(&["no-such-program"], &[]), Errno::ENOENT);
        assert_eq!(error(&[&file], &[]), Errno::EACCES);
        assert_eq!(error(&["true", "a\0b"], &[]), Errno::EINVAL);
        assert_eq!(error(&["true"], &[("A", "a\0b")]), Errno::EINVAL);
        assert_eq!(error(&[], &[]), Errno::EINVAL);
    }
}
