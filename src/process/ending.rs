//! Process groups that are being ended: waits until their guards have exited.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::clock::{Clock, Hold, SystemClock};
use crate::offload::run_detached;

/// How long orch waits for a group that is being ended. A guard takes half a second, unless a process of the group is
/// blocked on a device. The guard then continues alone, and a resume waits for the locked file that the guard holds.
const LONGEST: Duration = Duration::from_secs(10);

/// Groups that are being ended in the background. Before orch reads what their programs did, it waits for them here.
#[derive(Clone, Debug)]
pub struct EndingGroups {
    waits: Arc<Mutex<Vec<watch::Receiver<bool>>>>,
    clock: Arc<dyn Clock>,
}

impl Default for EndingGroups {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl EndingGroups {
    /// An empty list. While a group is ending, `clock` must not skip time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { waits: Arc::default(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<watch::Receiver<bool>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, ending: EndingGroup) {
        let ended = ending.watched(self.clock.hold());
        self.lock().push(ended);
    }

    /// Waits until all of these groups have ended. The future may be dropped and the method called again.
    pub async fn settled(&self) {
        let all = self.lock().clone();
        for mut ended in all {
            // An error means that the waiting thread ended without sending; then there is nothing left to wait for.
            drop(ended.wait_for(|ended| *ended).await);
        }
        self.lock().retain(|ended| !*ended.borrow() && ended.has_changed().is_ok());
    }
}

/// A group that is being ended.
#[derive(Debug)]
pub(super) struct EndingGroup {
    /// orch's end of the guard's socket, already closed for writing.
    pub(super) control: Socket,
    pub(super) guard: Child,
    /// The read ends of the program's outputs. Without a reader, a program that writes while it handles the signal to
    /// end would be killed by SIGPIPE before it could clean up.
    pub(super) outputs: Vec<OwnedFd>,
    /// Whether this type has to read the outputs, since nothing else does.
    pub(super) drains: bool,
}

impl EndingGroup {
    /// Waits for the group on a separate thread, since the guard takes real time, not the runtime's time. The value
    /// becomes true when no process of the group is left.
    fn watched(self, hold: Hold) -> watch::Receiver<bool> {
        let (ended, watched) = watch::channel(false);
        run_detached("ending", move || {
            self.wait();
            ended.send_replace(true);
            drop(hold);
        });
        watched
    }

    #[expect(clippy::disallowed_methods, reason = "on a thread of its own, or where there is none to be had")]
    fn wait(mut self) {
        let deadline = Instant::now() + LONGEST;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match self.read(left) {
                Ok(false) => {}
                // The guard has exited: it was the only other process with this socket.
                Ok(true) => return drop(self.guard.wait()),
                Err(_) => return,
            }
        }
    }

    /// Waits until a file is readable and reads it. Returns whether the guard has exited.
    fn read(&mut self, left: Duration) -> io::Result<bool> {
        let mut files = vec![PollFd::new(&self.control, PollFlags::IN)];
        if self.drains {
            files.extend(self.outputs.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        }
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = files.into_iter().map(|file| !file.revents().is_empty()).collect::<Vec<bool>>().into_iter();
        let has_ended = ready.next() == Some(true) && !has_more(&self.control);
        // An output at its end would stay readable forever, so it is removed.
        self.outputs.retain(|output| ready.next() != Some(true) || has_more(output));
        Ok(has_ended)
    }
}

/// Reads what is available. Returns whether more may follow.
fn has_more(file: impl AsFd) -> bool {
    let mut buffer = [0; 16 * 1024];
    match rustix::io::read(file, &mut buffer) {
        Ok(count) => count > 0,
        Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
    }
}
