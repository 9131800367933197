//! Calls of pipelines by models. The steps of a called pipeline are steps of the run, so orch performs no effect for the
//! call itself, and records only its start and its result.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{CallKey, Digest, PipelineCallOutput};

/// A call of a pipeline by a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PipelineCall {
    /// The key of the tool call.
    pub key: CallKey,
    /// The digest of the call and its place in the conversation. A recorded result is only for the same digest.
    pub request_digest: Digest,
    /// The name of the tool and a short form of the arguments.
    pub summary: String,
}

/// The result of [`Durable::begin_pipeline_call`](super::Durable::begin_pipeline_call).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PipelineCallStart {
    /// The call has ended before, with this result. No step of the pipeline runs again.
    Ended(Box<PipelineCallOutput>),
    /// The steps of the pipeline run now. Contains the time of the start.
    Started(Timestamp),
}

/// The end of a call of a pipeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PipelineCallEnded {
    /// The call.
    pub call: PipelineCall,
    /// The time of the start.
    pub started: Timestamp,
    /// What the model receives.
    pub output: PipelineCallOutput,
}
