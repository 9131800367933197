//! The interface for code that follows a run: it receives recorded events, and unrecorded progress between them.

use crate::model::{CallKey, Event, StepKey};

/// Progress of a call in flight. Not recorded, and not every update is delivered.
#[derive(Clone, Debug)]
pub enum CallProgress {
    /// The call was sent.
    Sent(CallKey),
    /// The model is processing the prompt: tokens done, and tokens in total.
    Reading(CallKey, u32, u32),
    /// The model generated this text.
    Text(CallKey, String),
    /// The model generated reasoning of this length in bytes.
    Reasoning(CallKey, usize),
    /// A command wrote a line, or a CLI agent used a tool.
    Output(CallKey, String),
    /// orch asks the user at the terminal for an approval; until the answer, nothing else may write there.
    Asking(StepKey),
    /// orch waits this many milliseconds before it retries the step.
    Backoff(StepKey, u64),
    /// The user asked the run to stop.
    Stopping {
        /// Whether the process ends at once, without waiting for calls in flight.
        at_once: bool,
    },
}

/// Follows a run: receives each event once it is durable, and progress in between.
pub trait Observer: Send + Sync {
    /// Called with each event that was recorded.
    fn event(&self, event: &Event);
    /// Called with progress that is not recorded.
    fn signal(&self, signal: &CallProgress);
}
