//! Ctrl-C and SIGTERM: the first asks a run to stop, the second gives up what is in flight.

use std::time::{Duration, Instant};

use crate::store::StopSwitch;

/// Signals closer together than this are one.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Listens for signals until the runtime ends: from now on none of them ends the process by itself.
pub(super) fn listen(switch: StopSwitch) {
    // Without them a signal ends the process by itself, and the run goes on as after a kill.
    let Some(mut signals) = Signals::new() else { return };
    tokio::spawn(async move {
        let mut pressed = None;
        loop {
            if !signals.came().await {
                return;
            }
            // Some senders signal both the process and its group: that is one wish, not two.
            if pressed.is_some_and(|at: Instant| at.elapsed() < DEBOUNCE) {
                continue;
            }
            pressed = Some(Instant::now());
            let words = if switch.press() {
                "\nstopping: a reply in flight has 10 s to arrive; once more stops at once"
            } else {
                "\nstopping at once"
            };
            // Nobody to tell that nobody listens.
            drop(std::io::Write::write_all(&mut std::io::stderr(), format!("{words}\n").as_bytes()));
        }
    });
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
