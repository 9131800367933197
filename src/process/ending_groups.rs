//! Waits until process groups have ended. The supervisor of a program (`supervisor.rs`) ends its group, and exits when
//! no process of the group is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::clock::{Clock, SystemClock, VirtualTimeHold};
use crate::model::SandboxUse;
use crate::offload::run_detached;

use super::confined::{ConfinedProgram, SandboxRecord};
use super::program_start::StartRecorder;

/// How long orch waits for a group to end. A supervisor ends a group within half a second, unless a process of the
/// group waits for a device. The supervisor then continues without orch, and a resume waits for the lock on the file
/// that the supervisor keeps open (`store/programs_lock.rs`).
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The process groups that supervisors are ending in the background, and the record of the sandboxes of their programs.
/// orch waits for these groups before it reads what their programs changed.
#[derive(Clone, Debug)]
pub struct EndingGroups {
    /// For each group, a channel whose value becomes true when the group has ended.
    receivers: Arc<Mutex<Vec<watch::Receiver<bool>>>>,
    /// The confined programs, whose sessions orch ends after their processes have ended.
    confined: Arc<Mutex<Vec<ConfinedProgram>>>,
    record: SandboxRecord,
    clock: Arc<dyn Clock>,
}

impl Default for EndingGroups {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl EndingGroups {
    /// Creates an empty list. While a group is ending, the virtual time of `clock` (in tests) does not jump.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { receivers: Arc::default(), confined: Arc::default(), record: SandboxRecord::default(), clock }
    }

    /// Creates an empty list with the same clock, for a program that ends at another time than these.
    #[must_use]
    pub fn with_same_clock(&self) -> Self {
        Self::new(self.clock.clone())
    }

    /// The record of the sandboxes of these programs; `None` if orch confined none of them. It is complete after
    /// [`EndingGroups::wait_all_ended`].
    pub fn sandbox_use(&self) -> Option<SandboxUse> {
        self.record.get()
    }

    /// Stores the state before the next confined program with this recorder. It also shows the damage by the programs
    /// that follow.
    pub fn record_start_with(&self, recorder: StartRecorder) {
        *self.record.start_recorder() = Some(recorder);
    }

    /// The shared record, for the confined programs that add to it.
    pub(super) fn sandbox_record(&self) -> SandboxRecord {
        self.record.clone()
    }

    /// Stops the virtual time of tests until the caller drops the returned value, for work on another thread.
    pub fn hold_virtual_time(&self) -> VirtualTimeHold {
        self.clock.hold_virtual_time()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<watch::Receiver<bool>>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a group, and its program if orch confines the program.
    pub(super) fn add(&self, group: EndingGroup, confined: Option<ConfinedProgram>) {
        let receiver = group.wait_on_thread(self.hold_virtual_time());
        self.lock().push(receiver);
        self.lock_confined().extend(confined);
    }

    fn lock_confined(&self) -> MutexGuard<'_, Vec<ConfinedProgram>> {
        self.confined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all of these groups have ended, and then ends the sessions of their confined programs. The future
    /// may be dropped and the method called again.
    pub async fn wait_all_ended(&self) {
        let receivers = self.lock().clone();
        for mut receiver in receivers {
            // An error means that the waiting thread ended without sending a value, so there is nothing to wait for.
            drop(receiver.wait_for(|has_ended| *has_ended).await);
        }
        self.lock().retain(|receiver| !*receiver.borrow() && receiver.has_changed().is_ok());
        loop {
            let Some(program) = self.lock_confined().pop() else { return };
            program.finish(self.hold_virtual_time()).await;
        }
    }
}

/// A group that its supervisor is ending.
#[derive(Debug)]
pub(super) struct EndingGroup {
    /// orch's end of the supervisor's socket, already closed for writing.
    pub(super) control: Socket,
    pub(super) supervisor: Child,
    /// The read ends of the program's outputs. Without a reader, SIGPIPE would kill a program that writes while it
    /// handles SIGTERM, before it could clean up.
    pub(super) outputs: Vec<OwnedFd>,
    /// Whether this type also reads the outputs, because the caller no longer does.
    pub(super) drains_outputs: bool,
}

impl EndingGroup {
    /// Waits for the group on a separate thread, since the supervisor runs in real time, not in virtual time. The value
    /// of the channel becomes true when no process of the group is left, or after [`END_TIMEOUT`].
    fn wait_on_thread(self, time_hold: VirtualTimeHold) -> watch::Receiver<bool> {
        let (has_ended, receiver) = watch::channel(false);
        run_detached("ending", move || {
            self.wait();
            has_ended.send_replace(true);
            drop(time_hold);
        });
        receiver
    }

    #[expect(clippy::disallowed_methods, reason = "runs on a separate thread, unless the system can't start one")]
    fn wait(mut self) {
        let deadline = Instant::now() + END_TIMEOUT;
        while let Some(remaining) = deadline.checked_duration_since(Instant::now()) {
            match self.poll_and_read(remaining) {
                Ok(false) => {}
                // Only the supervisor has the other end of the socket open, so the supervisor has exited.
                Ok(true) => return drop(self.supervisor.wait()),
                Err(_) => return,
            }
        }
    }

    /// Waits until the socket or an output is readable, and reads it. Returns whether the supervisor has exited.
    fn poll_and_read(&mut self, timeout: Duration) -> io::Result<bool> {
        let mut files = vec![PollFd::new(&self.control, PollFlags::IN)];
        if self.drains_outputs {
            files.extend(self.outputs.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        }
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = files.into_iter().map(|file| !file.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let has_ended = ready.next() == Some(true) && !has_more(&self.control);
        // Removes an output at its end, which would stay readable forever.
        self.outputs.retain(|output| ready.next() != Some(true) || has_more(output));
        Ok(has_ended)
    }
}

/// Reads the available bytes. Returns whether more may follow.
fn has_more(file: impl AsFd) -> bool {
    let mut buffer = [0; 16 * 1024];
    match rustix::io::read(file, &mut buffer) {
        Ok(count) => count > 0,
        Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
    }
}
