//! Recordings: requests, replies, tool calls and results of commands in files that users can read and tests can replay.
//!
//! The key of a recording is its request without the model. Users can therefore record a pipeline with a large model
//! and replay it without a model. A replay compares requests after it has replaced their parts that change from run to
//! run: paths, durations, times, and what the normalizers of the project and of the test case match.

mod answers;
mod blocks;
mod changes;
mod difference;
mod exchange;
mod index;
mod mcp_calls;
mod mcp_listings;
mod normalize;
mod omissions;
mod paths;
mod recorder;
mod recording_files;
mod replay;
mod tool_calls;

use serde_json::Value;

use crate::secret::Redactor;

pub use paths::RunPaths;
pub use recorder::{RecordedExchange, Recorder};
pub use replay::{
    Replay, ReplayOptions, ReplayedChanges, ReplayedCommand, ReplayedMcpCall, ReplayedReply, ReplayedToolCall,
};

/// The provider name for replayed replies.
pub const REPLAY_PROVIDER: &str = "replay";

/// The parts of a run on which its recordings must not depend: its secrets and its folders.
#[derive(Clone, Copy)]
pub struct RecordingContext<'a> {
    /// Removes the secrets.
    pub redactor: &'a Redactor,
    /// Replaces the folders by placeholders.
    pub paths: &'a RunPaths,
}

impl RecordingContext<'_> {
    /// A text as recordings contain it.
    fn portable_text(&self, text: &str) -> String {
        self.paths.to_placeholders(&self.redactor.redact(text))
    }

    /// The arguments of a tool call as recordings contain them.
    fn portable_value(&self, value: &Value) -> Value {
        map_texts(&self.redactor.redact_value(value.clone()), &|text| self.paths.to_placeholders(text))
    }
}

/// A JSON value with each of its texts changed; the names of properties stay.
fn map_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => Value::Array(items.iter().map(|item| map_texts(item, change)).collect()),
        Value::Object(properties) => {
            let properties = properties.iter().map(|(name, item)| (name.clone(), map_texts(item, change)));
            Value::Object(properties.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
