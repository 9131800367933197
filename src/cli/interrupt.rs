//! Ctrl-C and SIGTERM: the first asks a run to stop, the second gives up what is in flight.

use crate::store::StopSwitch;

/// Listens for signals until the runtime ends.
pub(super) fn listen(switch: StopSwitch) {
    tokio::spawn(async move {
        loop {
            if !signalled().await {
                return;
            }
            let words = if switch.press() {
                "\nstopping: a reply in flight has 10 s to arrive; once more stops at once"
            } else {
                "\nstopping at once"
            };
            // Nobody to tell that nobody listens.
            drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("{words}\n").as_bytes(),
            ));
        }
    });
}

#[cfg(unix)]
async fn signalled() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
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
