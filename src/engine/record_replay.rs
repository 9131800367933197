//! Records exchanges with models and tool calls, or replays recorded ones in place of performing them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{CallContext, Recorder, Replay, TurnResult};
use crate::durable::ModelRequest;
use crate::model::{AgentActivity, AgentTurn, CallKey, ChatReply, Failure, ToolInvocation};

use super::message::with_schema_instruction;
use super::model_call::{run_agent_turn, send_request};
use super::perform::Performer;
use super::tool_effect::{ToolResult, perform_tool, replay_tool};

/// Whether exchanges with models and tool calls are recorded or replayed.
#[derive(Clone, Debug, Default)]
pub struct RecordReplay {
    /// Records each exchange and each tool call, if set.
    pub recorder: Option<Arc<Recorder>>,
    /// Replies instead of the models and the tools, if set.
    pub replay: Option<Arc<Replay>>,
}

impl Performer {
    /// Returns the model's reply, or the recorded reply in a replay. Records the reply if there is a recorder.
    pub(super) async fn exchange_reply(
        &self,
        key: &CallKey,
        model_request: &ModelRequest,
        now: Timestamp,
        cancellation: &CancellationToken,
    ) -> Result<ChatReply, Failure> {
        if let Some(replay) = &self.record_replay.replay {
            return replay.reply(&key.step, &model_request.request);
        }
        let reply = send_request(self, key, model_request, now, cancellation).await?;
        if let Some(recorder) = &self.record_replay.recorder {
            recorder.record(&key.step, &model_request.request, &reply, &self.redactor);
        }
        Ok(reply)
    }

    /// Runs a turn of a CLI agent. In a replay, returns the recorded reply without repeating changes to the workspace.
    pub(super) async fn run_turn(
        &self,
        key: &CallKey,
        turn: &AgentTurn,
        context: &CallContext,
        interruption: impl Future<Output = Failure>,
    ) -> TurnResult {
        if let Some(replay) = &self.record_replay.replay {
            return match replay.reply(&key.step, &turn.request) {
                // A replayed turn costs nothing.
                Ok(reply) => TurnResult { reply: Ok(reply), cost: Some(0.0), activity: AgentActivity::default() },
                Err(failure) => failure.into(),
            };
        }
        let turn_with_schema = AgentTurn { request: with_schema_instruction(turn.request.clone()), ..turn.clone() };
        let result = run_agent_turn(self, key, &turn_with_schema, context, interruption).await;
        if let (Some(recorder), Ok(reply)) = (&self.record_replay.recorder, &result.reply) {
            recorder.record(&key.step, &turn.request, reply, &self.redactor);
        }
        result
    }

    /// Performs a tool call. In a replay, returns the recorded result and repeats the recorded changes of files.
    pub(super) async fn run_tool(
        &self,
        context: &CallContext,
        invocation: &ToolInvocation,
        interruption: impl Future<Output = Failure>,
    ) -> ToolResult {
        let step = &context.call_key.step;
        if let Some(replay) = &self.record_replay.replay {
            return match replay.tool_call(step, invocation.tool, &invocation.arguments) {
                Ok((output, activity)) => replay_tool(self, invocation, output, activity).await,
                Err(failure) => failure.into(),
            };
        }
        let result = perform_tool(self, context, invocation, interruption).await;
        if let (Some(recorder), Some(output)) = (&self.record_replay.recorder, result.tool_output()) {
            recorder.record_tool_call(step, invocation, output, &result.activity, &self.redactor);
        }
        result
    }
}
