//! Programs that are being ended: what waits for their guards.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a group is waited for that is being ended. A guard takes half a second, unless a process of the group waits
/// for a device; the guard then continues on its own, and a resume waits for the file that it holds.
const LONGEST: Duration = Duration::from_secs(10);

/// Groups that are being ended and whose callers are gone: whoever looks at what they did waits for them first.
#[derive(Clone, Debug, Default)]
pub struct Endings(Arc<Mutex<Vec<Ending>>>);

impl Endings {
    pub(super) fn add(&self, ending: Ending) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ending);
    }

    /// Waits until they have ended.
    pub async fn settled(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(all.into_iter().map(Ending::settled)).await;
    }
}

/// A group that is being ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// Our side of the guard's socket, which nothing is written to any more.
    pub(super) control: Socket,
    pub(super) guard: Child,
    /// The reading ends of its outputs. Without a reader, the first word that a program writes when it is asked to end
    /// would end it before it could clean up.
    pub(super) outputs: Vec<OwnedFd>,
    /// Whether nothing else reads the outputs.
    pub(super) drains: bool,
}

impl Ending {
    /// Waits until nothing of it is left. On a thread of its own, since the time that the guard takes is the system's,
    /// not that of the runtime.
    pub(super) async fn settled(self) {
        let (done, waits) = tokio::sync::oneshot::channel();
        let shared = Arc::new(Mutex::new(Some(self)));
        let take = |shared: &Mutex<Option<Self>>| shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        let its = shared.clone();
        // Not a thread of the runtime, which panics where the system has none left.
        let thread = thread::Builder::new().name("ending".to_owned()).spawn(move || {
            take(&its).into_iter().for_each(Self::wait);
            // A runtime that is being shut down waits for nothing.
            let _ = done.send(());
        });
        match thread {
            // An error means that the thread has ended without a word: there is nothing left to wait for.
            Ok(_) => drop(waits.await),
            Err(_) => take(&shared).into_iter().for_each(Self::wait),
        }
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
