//! Decides whether a call may still change files: a call that orch no longer waits for must change nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The call may change files.
const OPEN: u8 = 0;
/// The call changes files.
const ENTERED: u8 = 1;
/// The call may no longer change files.
const CLOSED: u8 = 2;

/// The gate before the changes of a call. The thread of the call enters it, and the thread that waits closes it; the
/// first of them wins.
#[derive(Debug, Default)]
pub(super) struct ChangeGate(AtomicU8);

impl ChangeGate {
    /// Whether the call may change files now. From then on, the gate can't be closed.
    pub(super) fn enter(&self) -> bool {
        self.move_to(ENTERED)
    }

    /// Whether the gate is closed, so that the call changes nothing. The call has not entered it.
    pub(super) fn close(&self) -> bool {
        self.move_to(CLOSED)
    }

    fn move_to(&self, state: u8) -> bool {
        let moved = self.0.compare_exchange(OPEN, state, Ordering::SeqCst, Ordering::SeqCst);
        moved.is_ok() || moved == Err(state)
    }
}

/// Closes a gate when it is dropped, for a call that orch drops.
pub(super) struct CloseOnDrop(pub(super) Arc<ChangeGate>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        // If the call has entered the gate, it changes files to its end.
        let _ = self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_decides() {
        let gate = ChangeGate::default();
        assert!(gate.enter() && gate.enter() && !gate.close());
        let gate = ChangeGate::default();
        assert!(gate.close() && gate.close() && !gate.enter());
        let gate = Arc::new(ChangeGate::default());
        drop(CloseOnDrop(gate.clone()));
        assert!(!gate.enter());
    }
}
