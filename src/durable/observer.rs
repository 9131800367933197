//! The interface for code that follows a run: it receives recorded events, and progress that is not recorded.

use crate::model::{CallKey, Event, Failure, StepKey};

/// Progress of a call in flight. orch does not record progress, and may omit updates.
#[derive(Clone, Debug)]
pub enum CallProgress {
    /// The call was sent.
    Sent(CallKey),
    /// The model is processing the prompt. Contains the number of tokens processed so far, and the total.
    ReadingPrompt(CallKey, u32, u32),
    /// The model generated this text.
    Text(CallKey, String),
    /// The model generated reasoning of this length in bytes.
    Reasoning(CallKey, usize),
    /// A command wrote a line, or a CLI agent used a tool.
    Output(CallKey, String),
    /// orch prompts for an approval at the terminal. Until the user decides, no other code may write there.
    AwaitingApproval(StepKey),
    /// A question ended without an event: the user decided about one that orch does not record, or orch withdrew it.
    ApprovalEnded(StepKey),
    /// An MCP server gave no list of its tools, so the step will ask again.
    ListingFailed(StepKey, Box<Failure>),
    /// orch waits this many milliseconds before it retries the step.
    Backoff(StepKey, u64),
    /// A call waits for room in a budget, until calls in flight release what they reserved.
    AwaitingBudget(StepKey),
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
