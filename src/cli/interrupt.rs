//! Ctrl-C and SIGTERM: the first signal stops the run in order, the second cancels calls in flight.

use std::io::Write as _;
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use crate::folder::remove_temporary_folders;
use crate::report::lines::stop_message;

use crate::session::{CancelHandle, ExitStatus};

/// Signals within this time count as one.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// The maximum time for which the cancellation waits until its message is printed.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);
/// The time for a run to end in order after the second signal.
const EXIT_GRACE: Duration = Duration::from_millis(1500);

/// Cancels a run when the process receives a signal. From now on no signal ends the process directly.
///
/// A separate thread listens, so that it receives signals while the run's thread computes. If the run does not end in
/// time after the second signal, the process exits: its records are durable, and its locks and child processes end with
/// it.
pub(super) fn listen_for_signals(cancel: CancelHandle) {
    let (ready_sender, ready_receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("signals".to_owned());
    // Without this thread, a signal ends the process directly, as a kill does.
    drop(thread.spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
            runtime.block_on(cancel_on_signals(&cancel, ready_sender));
        }
    }));
    // This fails if the thread can't start or listen, because the sender is dropped then.
    let _ = ready_receiver.recv();
}

/// Resolves when this process receives a signal to stop; never if it can't listen. From now on no signal ends the
/// process directly.
pub(super) async fn wait_for_signal() {
    let Some(mut signals) = Signals::new() else { return std::future::pending().await };
    if !signals.recv().await {
        std::future::pending::<()>().await;
    }
}

async fn cancel_on_signals(cancel: &CancelHandle, ready: mpsc::Sender<()>) {
    let Some(mut signals) = Signals::new() else { return };
    let _ = ready.send(());
    let mut last_signal = None;
    while signals.recv().await {
        // Some senders signal both the process and its group.
        if last_signal.is_some_and(|time: Instant| time.elapsed() < DEBOUNCE) {
            continue;
        }
        let is_second = last_signal.is_some();
        last_signal = Some(Instant::now());
        if is_second {
            exit_after_grace();
        }
        // The process may exit right after the cancellation, so print the message first.
        match cancel.announce_stop(is_second) {
            Some(is_printed) => drop(is_printed.recv_timeout(MESSAGE_TIMEOUT)),
            // The run has already ended and has no observer any more.
            None => print_stop_message(is_second),
        }
        cancel.cancel();
    }
}

/// Prints that the process stops, on a separate thread: a blocked pipe must not delay the next signal.
fn print_stop_message(is_second: bool) {
    let thread = std::thread::Builder::new().name("stop message".to_owned());
    // Writing fails if standard error is closed.
    drop(thread.spawn(move || drop(writeln!(std::io::stderr(), "\n{}", stop_message(is_second)))));
}

/// Exits the process after [`EXIT_GRACE`], unless it has ended before.
#[expect(clippy::disallowed_methods, reason = "on a separate thread")]
fn exit_after_grace() {
    drop(std::thread::Builder::new().name("exit grace".to_owned()).spawn(|| {
        std::thread::sleep(EXIT_GRACE);
        remove_temporary_folders();
        std::process::exit(ExitStatus::Interrupted as i32);
    }));
}

/// From now on, the first signal deletes this process's copies of journals and ends the process. A process that reads a
/// copy runs no pipeline.
pub(super) fn remove_copies_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (ready_sender, ready_receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        // Without this thread, a signal ends the process directly, and the copy stays in the temporary folder.
        drop(thread.spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
                runtime.block_on(exit_on_signal(ready_sender));
            }
        }));
        let _ = ready_receiver.recv();
    });
}

async fn exit_on_signal(ready: mpsc::Sender<()>) {
    let Some(mut signals) = Signals::new() else { return };
    let _ = ready.send(());
    if signals.recv().await {
        remove_temporary_folders();
        std::process::exit(ExitStatus::Interrupted as i32);
    }
}

/// The signals that stop a run.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).ok();
        Some(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// Waits for a signal; returns `false` if no more signals can arrive.
    async fn recv(&mut self) -> bool {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            received = interrupt.recv() => received.is_some(),
            received = terminate.recv() => received.is_some(),
            received = hangup.recv() => received.is_some(),
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

    async fn recv(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
