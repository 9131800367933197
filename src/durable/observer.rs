//! The interface for code that follows a run: it receives recorded events, and progress that is not recorded.

use crate::model::{CallKey, Event, StepKey};

/// Progress of a call in flight. Not recorded, and not every update is delivered.
#[derive(Clone, Debug)]
pub enum CallProgress {
    /// The call was sent.
    Sent(CallKey),
    /// The model is processing the prompt: the tokens processed so far, and the tokens in total.
    ReadingPrompt(CallKey, u32, u32),
    /// The model generated this text.
    Text(CallKey, String),
    /// The model generated reasoning of this length in bytes.
    Reasoning(CallKey, usize),
    /// A command wrote a line, or a CLI agent used a tool.
    Output(CallKey, String),
    /// orch asks for an approval at the terminal; until the user decides, no other code may write there.
    AwaitingApproval(StepKey),
    /// orch waits this many milliseconds before it retries the step.
    Backoff(StepKey, u64),
    /// The user asked the run to stop.
    Stopping {
        /// Whether the process ends immediately, without waiting for calls in flight.
        immediately: bool,
    },
}

/// Follows a run: receives each event once it is durable, and progress between events.
pub trait Observer: Send + Sync {
    /// Receives an event that was recorded.
    fn on_event(&self, event: &Event);
    /// Receives progress that is not recorded.
    fn on_progress(&self, progress: &CallProgress);
}
