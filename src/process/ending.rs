//! Programs that are being ended: what waits for their guards.

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

/// How long a group is waited for that is being ended. A guard takes half a second, unless a process of the group waits
/// for a device; the guard then continues on its own, and a resume waits for the file that it holds.
const LONGEST: Duration = Duration::from_secs(10);

/// Groups that are being ended and that no call waits for: whoever looks at what they did waits for them first.
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
    /// None yet; while there are any, the time of `clock` does not leap.
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

    /// Waits until they have ended. May be dropped and called again.
    pub async fn settled(&self) {
        let all = self.lock().clone();
        for mut ended in all {
            // An error means that the thread that waits has ended without a word: there is nothing left to wait for.
            drop(ended.wait_for(|ended| *ended).await);
        }
        self.lock().retain(|ended| !*ended.borrow() && ended.has_changed().is_ok());
    }
}

/// A group that is being ended.
#[derive(Debug)]
pub(super) struct EndingGroup {
    /// Our side of the guard's socket, which nothing is written to any more.
    pub(super) control: Socket,
    pub(super) guard: Child,
    /// The reading ends of its outputs. Without a reader, the first word that a program writes when it is asked to end
    /// would end it before it could clean up.
    pub(super) outputs: Vec<OwnedFd>,
    /// Whether nothing else reads the outputs.
    pub(super) drains: bool,
}

impl EndingGroup {
    /// Waits for it on a thread of its own, since the time that the guard takes is the system's, not that of the
    /// runtime; becomes true when nothing of it is left.
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
                // The guard has ended: no other process has the other end of its socket.
                Ok(true) => return drop(self.guard.wait()),
                Err(_) => return,
            }
        }
    }

    /// Waits for something to read, and reads it; whether the guard has ended.
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
        // An output that is over would be ready for ever.
        self.outputs.retain(|output| ready.next() != Some(true) || has_more(output));
        Ok(has_ended)
    }
}

/// Reads what is there; whether more may come.
fn has_more(file: impl AsFd) -> bool {
    let mut buffer = [0; 16 * 1024];
    match rustix::io::read(file, &mut buffer) {
        Ok(count) => count > 0,
        Err(error) => matches!(error, Errno::AGAIN | Errno::INTR),
    }
}
