//! Ctrl-C and SIGTERM: the first asks a run to stop, the second gives up what is in flight.

use std::time::{Duration, Instant};

use crate::store::StopSwitch;

/// Signals closer together than this are one.
const DEBOUNCE: Duration = Duration::from_millis(150);

/// Listens for signals until the runtime ends.
pub(super) fn listen(switch: StopSwitch) {
    tokio::spawn(async move {
        let mut pressed = None;
        loop {
            if !signalled().await {
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

#[cfg(unix)]
async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return false;
    };
    tokio::select! {
        got = interrupt.recv() => got.is_some(),
        got = terminate.recv() => got.is_some(),
        got = hangup.recv() => got.is_some(),
    }
}

#[cfg(not(unix))]
async fn signalled() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
