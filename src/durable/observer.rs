//! What follows a run: facts, and signs of life between them.

use crate::model::{CallKey, Event, StepKey};

/// A lossy sign of life of a call in flight.
#[derive(Clone, Debug)]
pub enum CallProgress {
    /// The call was sent.
    Sent(CallKey),
    /// The model is reading the prompt: tokens done and in all.
    Reading(CallKey, u32, u32),
    /// The model wrote some text.
    Text(CallKey, String),
    /// The model wrote some reasoning, with its length in bytes.
    Reasoning(CallKey, usize),
    /// A command wrote a line, or a program used a tool.
    Output(CallKey, String),
    /// The person in front of the terminal is asked: until the answer, nothing else may write there.
    Asking(StepKey),
    /// The call waits this many milliseconds before its step is tried again.
    Backoff(StepKey, u64),
    /// The user stops the run.
    Stopping {
        /// Whether its process ends now, whatever is under way.
        at_once: bool,
    },
}

/// Follows a run: every durable event after it is durable, and signals in between.
pub trait Observer: Send + Sync {
    /// A fact was recorded.
    fn event(&self, event: &Event);
    /// Something happened that is not recorded.
    fn signal(&self, signal: &CallProgress);
}
