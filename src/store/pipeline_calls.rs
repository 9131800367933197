//! Calls of pipelines by models: takes their recorded results, and records their starts and ends.

use crate::durable::{CallReply, ExecutionId, Interrupt, PipelineCall, PipelineCallEnded, PipelineCallStart};
use crate::model::event::{CallEnded, CallKind, CallOutput, CallStarted, Fact};

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
        self.enqueue(Fact::CallStarted(CallStarted {
            call: call.key.clone(),
            kind: CallKind::Pipeline,
            model: None,
            max_usage: None,
            arguments: Some(call.summary.clone()),
            request_digest: Some(call.request_digest.clone()),
            elided_results: Vec::new(),
            tool_results: Vec::new(),
            labels_errors: false,
        }));
        Ok(PipelineCallStart::Started(self.clock.now()))
    }

    /// Records what a called pipeline returned, and waits until the record is durable.
    pub(super) async fn end_called_pipeline(&self, ended: PipelineCallEnded) -> Result<ExecutionId, Interrupt> {
        let PipelineCallEnded { call, started, output } = ended;
        let fact = Fact::CallEnded(CallEnded {
            call: call.key,
            request_digest: call.request_digest,
            model: None,
            started,
            ended: self.clock.now(),
            reply: None,
            output: Some(CallOutput::Pipeline(output)),
            failure: None,
            agent_activity: None,
            cost: None,
            estimated: None,
            estimated_cost: None,
            reverted_files: Vec::new(),
            sandbox: None,
        });
        self.append_outcome(fact, CallKind::Pipeline).await
    }
}
