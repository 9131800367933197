//! Calls of pipelines by models: takes their recorded results, and records their starts.

use crate::durable::{CallReply, Interrupt, PipelineCall, PipelineCallStart};
use crate::history::pipeline_call_started;
use crate::model::event::CallOutput;

use super::LocalRun;

impl LocalRun {
    /// Begins a call of a pipeline, unless it has a recorded result.
    pub(super) fn begin_called_pipeline(&self, call: &PipelineCall) -> Result<PipelineCallStart, Interrupt> {
        let recorded = self.lock().index.take_outcome(&call.key, &call.request_digest);
        if let Some(Ok(CallReply::Output(CallOutput::Pipeline(output)))) = recorded.map(|outcome| outcome.result) {
            return Ok(PipelineCallStart::Ended(Box::new(output)));
        }
        if let Some(interrupt) = self.pending_interrupt(&call.key.step) {
            return Err(interrupt);
        }
        self.enqueue(pipeline_call_started(call));
        Ok(PipelineCallStart::Started(self.clock.now()))
    }
}
