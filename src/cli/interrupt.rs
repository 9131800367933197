//! Handles Ctrl-C, SIGTERM and SIGHUP. The first signal stops the run and gives its calls in flight a grace period. The
//! second signal cancels these calls.

use std::io::Write as _;
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use crate::cli::output::wrapped_stop_message;
use crate::folder::remove_temporary_folders;
use crate::runner::{CancelHandle, ExitStatus};

/// Signals within this time count as one signal.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// The maximum time to wait for the stop message before the cancellation.
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(100);
/// The time from the second signal until the process exits, if the run has not ended before.
const EXIT_GRACE: Duration = Duration::from_millis(1500);

/// Cancels a run when the process receives a signal. After this call, the signals no longer end the process directly.
///
/// A separate thread listens, so that it receives signals while the run's thread computes. If the run does not end
/// within [`EXIT_GRACE`] after the second signal, the process exits. No record is lost, because the journal is durable.
/// The operating system releases the locks, and the supervisors end the child processes.
pub(super) fn listen_for_signals(cancel: CancelHandle) {
    let (ready_sender, ready_receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().name("signals".to_owned());
    // If the thread can't start, a signal ends the process directly.
    drop(thread.spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
            runtime.block_on(cancel_on_signals(&cancel, ready_sender));
        }
    }));
    // Ignore the error: the thread could not start or listen, so it dropped the sender.
    let _ = ready_receiver.recv();
}

/// Waits until this process receives a signal. Never returns if orch can't listen for signals. After this call, the
/// signals no longer end the process directly.
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
        // Ignore duplicates: some senders signal both the process and its process group.
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
            Some(message_printed) => drop(message_printed.recv_timeout(MESSAGE_TIMEOUT)),
            // The run has ended, so it has no observer that prints the message.
            None => print_stop_message(is_second),
        }
        cancel.cancel();
    }
}

/// Prints the stop message on a separate thread, because a blocked pipe must not delay the next signal.
fn print_stop_message(immediately: bool) {
    let thread = std::thread::Builder::new().name("stop message".to_owned());
    // Ignore the error: standard error may be closed.
    drop(thread.spawn(move || drop(writeln!(std::io::stderr(), "\n{}", wrapped_stop_message(immediately)))));
}

/// Exits the process after [`EXIT_GRACE`], unless the process has ended before.
#[expect(clippy::disallowed_methods, reason = "on a separate thread")]
fn exit_after_grace() {
    drop(std::thread::Builder::new().name("exit grace".to_owned()).spawn(|| {
        std::thread::sleep(EXIT_GRACE);
        remove_temporary_folders();
        std::process::exit(ExitStatus::Interrupted as i32);
    }));
}

/// Makes the first signal delete this process's temporary copies of journals and end the process. A process that reads
/// a copy of a journal runs no pipeline.
pub(super) fn remove_copies_on_signal() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (ready_sender, ready_receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        // If the thread can't start, a signal ends the process directly, and the copy stays in the temporary folder.
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

/// Listens for the signals that stop a run.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).ok();
        Some(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    /// Waits for a signal. Returns `false` if no more signals can arrive.
    async fn recv(&mut self) -> bool {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            received = interrupt.recv() => received.is_some(),
            received = terminate.recv() => received.is_some(),
            received = hangup.recv() => received.is_some(),
        }
    }
}

/// Listens for Ctrl-C, the only signal that stops a run on this system.
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
