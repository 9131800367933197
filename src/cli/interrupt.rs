//! Ctrl-C and SIGTERM: the first asks a run to stop, the second gives up what is in flight.

use std::io::Write as _;
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use crate::folder::remove_temporary_folders;
use crate::report::lines::stopping;

use crate::session::{CancelHandle, ExitStatus};

/// Signals closer together than this are one.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// How long the stop waits until the user was told of it.
const LONGEST_WORDS: Duration = Duration::from_millis(100);
/// How long a run has to end in order after the second signal.
const LAST_GRACE: Duration = Duration::from_millis(1500);

/// Stops a run at a signal, until the process ends: from now on no signal ends the process by itself.
///
/// Listening has a thread of its own, so that a signal is heard while the run's thread computes. A run that does not
/// end in time after the second signal ends with the process: what is recorded is durable, and locks and child
/// processes end with it.
pub(super) fn listen(cancel: CancelHandle) {
    let (ready, listens) = mpsc::channel();
    let thread = std::thread::Builder::new().name("signals".to_owned());
    // Without it a signal ends the process by itself, and the run is resumed as after a kill.
    drop(thread.spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
            runtime.block_on(hear(&cancel, ready));
        }
    }));
    // Fails when the thread can't be started or can't listen: the sender is dropped then.
    let _ = listens.recv();
}

/// Resolves when a signal asks this process to stop; never where none can be heard. From now on none of them ends the
/// process by itself.
pub(super) async fn pressed() {
    let Some(mut signals) = Signals::new() else { return std::future::pending().await };
    if !signals.came().await {
        std::future::pending::<()>().await;
    }
}

async fn hear(cancel: &CancelHandle, ready: mpsc::Sender<()>) {
    let Some(mut signals) = Signals::new() else { return };
    let _ = ready.send(());
    let mut pressed = None;
    while signals.came().await {
        // Some senders signal both the process and its group: that is one wish, not two.
        if pressed.is_some_and(|at: Instant| at.elapsed() < DEBOUNCE) {
            continue;
        }
        let at_once = pressed.is_some();
        pressed = Some(Instant::now());
        if at_once {
            end_soon();
        }
        // The run may end the process right after the switch is pressed, so its user is told first.
        match cancel.announce(at_once) {
            Some(is_done) => drop(is_done.recv_timeout(LONGEST_WORDS)),
            // The run is over, and what comes after it is stopped.
            None => print(at_once),
        }
        cancel.cancel();
    }
}

/// Prints that the process stops, on a thread of its own: a pipe without a reader must not keep the next signal from
/// being heard.
fn print(at_once: bool) {
    let thread = std::thread::Builder::new().name("words of a stop".to_owned());
    // Standard error is closed if this fails.
    drop(thread.spawn(move || drop(writeln!(std::io::stderr(), "\n{}", stopping(at_once)))));
}

/// Ends the process when it has not ended by itself by then.
#[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
fn end_soon() {
    drop(std::thread::Builder::new().name("last grace".to_owned()).spawn(|| {
        std::thread::sleep(LAST_GRACE);
        remove_temporary_folders();
        std::process::exit(ExitStatus::Interrupted as i32);
    }));
}

/// Ends the process at the first signal from now on, without the copies of journals that it reads. A process that reads
/// a copy runs no pipeline.
pub(super) fn end_without_copies() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (ready, listens) = mpsc::channel();
        let thread = std::thread::Builder::new().name("signals of a reader".to_owned());
        // Without it a signal ends the process by itself and leaves the copy to whoever empties the temporary folder.
        drop(thread.spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
                runtime.block_on(end_at_a_signal(ready));
            }
        }));
        let _ = listens.recv();
    });
}

async fn end_at_a_signal(ready: mpsc::Sender<()>) {
    let Some(mut signals) = Signals::new() else { return };
    let _ = ready.send(());
    if signals.came().await {
        remove_temporary_folders();
        std::process::exit(ExitStatus::Interrupted as i32);
    }
}

/// The signals that ask a run to stop.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let of = |kind| signal(kind).ok();
        Some(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    /// Resolves when one came; false when none can come any more.
    async fn came(&mut self) -> bool {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            got = interrupt.recv() => got.is_some(),
            got = terminate.recv() => got.is_some(),
            got = hangup.recv() => got.is_some(),
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Option<Self> {
        Some(Self)
    }

    async fn came(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
