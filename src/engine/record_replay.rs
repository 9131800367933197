//! Records the exchanges, commands and tool calls of a run, or replays recorded ones in their place.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::{
    CallContext, RecordedExchange, Recorder, RecordingContext, Replay, ReplayedChanges, RunPaths, TurnResult,
};
use crate::durable::{Call, CommandSpec, Effect, ModelRequest};
use crate::files::{ChangeSet, FileSnapshot, Tree};
use crate::model::event::{ApprovalDecision, CallOutput};
use crate::model::{
    AgentActivity, AgentTurn, CallKey, ChatReply, Failure, McpInvocation, McpListing, McpServerSpec, StepKey,
    ToolInvocation,
};
use crate::offload::run_on_thread;

use super::effects;
use super::mcp_effect::perform_mcp;
use super::message::with_schema_instruction;
use super::model_call::{run_agent_turn, send_request};
use super::perform::Performer;
use super::tool_effect::{ToolResult, perform_tool, replayed_tool};

/// Whether exchanges with models, commands and tool calls are recorded or replayed.
#[derive(Clone, Debug, Default)]
pub struct RecordReplay {
    /// Records each exchange, command and tool call, if set.
    pub recorder: Option<Arc<Recorder>>,
    /// Replies instead of the models, and returns the recorded results of commands and tool calls, if set.
    pub replay: Option<Arc<Replay>>,
    /// The folders of the run, on which recordings do not depend.
    pub paths: RunPaths,
}

impl RecordReplay {
    /// The same, for a run in these folders. `temporary` is the folder that the environment names for temporary files.
    #[must_use]
    pub fn with_folders(self, workspace: &Path, project: &Path, temporary: Option<String>) -> Self {
        if self.recorder.is_none() && self.replay.is_none() {
            return self;
        }
        Self { paths: RunPaths::new(workspace, project, temporary.map(Into::into)), ..self }
    }

    /// A sentence for each recording that the run has written or used so far, and that lacks, or may lack, changes of
    /// files.
    pub fn omissions(&self) -> Vec<String> {
        let written = self.recorder.iter().flat_map(|recorder| recorder.omissions());
        written.chain(self.replay.iter().flat_map(|replay| replay.omissions())).collect()
    }
}

impl Performer {
    fn recording_context(&self) -> RecordingContext<'_> {
        RecordingContext { redactor: &self.redactor, paths: &self.record_replay.paths }
    }

    /// Counts a call whose outcome an earlier session of the run recorded. So the next equal call of the step gets the
    /// next recording in a replay, and does not replace the recording of this one.
    pub(super) fn skip_recording(&self, call: &Call) {
        let RecordReplay { recorder, replay, .. } = &self.record_replay;
        let (step, context) = (&call.key.step, self.recording_context());
        if let Some(replay) = replay {
            match &call.effect {
                Effect::ModelRequest(request) => replay.skip_reply(step, &request.request, &context),
                Effect::Turn(turn) => replay.skip_reply(step, &turn.request, &context),
                Effect::Command(command) if replay.replays_command(step) => {
                    replay.skip_command(step, command, &context);
                }
                Effect::Tool(invocation) => replay.skip_tool_call(step, invocation, &context),
                Effect::McpTool(invocation) => replay.skip_mcp_call(step, invocation, &context),
                Effect::Command(_) | Effect::Snapshot(_) | Effect::Write(_) => {}
            }
        }
        if let Some(recorder) = recorder {
            match &call.effect {
                Effect::ModelRequest(request) => recorder.skip_reply(step, &request.request, &context),
                Effect::Turn(turn) => recorder.skip_reply(step, &turn.request, &context),
                Effect::Command(command) => recorder.skip_command(step, command, &context),
                Effect::Tool(invocation) => recorder.skip_tool_call(step, invocation, &context),
                Effect::McpTool(invocation) => recorder.skip_mcp_call(step, invocation, &context),
                Effect::Snapshot(_) | Effect::Write(_) => {}
            }
        }
    }

    /// Records the answer to a question of an approval. In a replay, returns the recorded name of the person who answered.
    pub(super) fn exchange_answer(
        &self,
        step: &StepKey,
        question: &str,
        decision: &ApprovalDecision,
    ) -> Option<String> {
        let (RecordReplay { recorder, replay, .. }, context) = (&self.record_replay, self.recording_context());
        if let Some(recorder) = recorder {
            recorder.record_answer(step, question, decision, &context);
        }
        replay.as_ref()?.answerer(step, question, &context)
    }

    /// Returns the model's reply, or the recorded reply in a replay. Records the reply if there is a recorder.
    pub(super) async fn exchange_reply(
        &self,
        key: &CallKey,
        model_request: &ModelRequest,
        now: Timestamp,
        cancellation: &CancellationToken,
    ) -> Result<ChatReply, Failure> {
        let request = &model_request.request;
        if let Some(replay) = &self.record_replay.replay {
            return replay.reply(&key.step, request, &self.recording_context()).map(|replayed| replayed.reply);
        }
        let reply = send_request(self, key, model_request, now, cancellation).await?;
        if let Some(recorder) = &self.record_replay.recorder {
            let exchange = RecordedExchange::Reply { request, reply: &reply, activity: None };
            recorder.record(key, exchange, &self.recording_context());
        }
        Ok(reply)
    }

    /// Runs a turn of a CLI agent. In a replay, returns the recorded reply and repeats the recorded changes.
    pub(super) async fn run_turn(
        &self,
        key: &CallKey,
        turn: &AgentTurn,
        context: &CallContext,
        interruption: impl Future<Output = Failure>,
    ) -> TurnResult {
        if let Some(replay) = &self.record_replay.replay {
            return self.replay_turn(replay, key, turn).await.unwrap_or_else(TurnResult::from);
        }
        let turn_with_schema = AgentTurn { request: with_schema_instruction(turn.request.clone()), ..turn.clone() };
        let result = run_agent_turn(self, key, &turn_with_schema, context, interruption).await;
        if let (Some(recorder), Ok(reply)) = (&self.record_replay.recorder, &result.reply) {
            let exchange = RecordedExchange::Reply { request: &turn.request, reply, activity: Some(&result.activity) };
            recorder.record(key, exchange, &self.recording_context());
        }
        result
    }

    async fn replay_turn(&self, replay: &Arc<Replay>, key: &CallKey, turn: &AgentTurn) -> Result<TurnResult, Failure> {
        let replayed = replay.reply(&key.step, &turn.request, &self.recording_context())?;
        let activity = self.repeat_activity(replay, key, replayed.changes).await?;
        // A replayed turn costs nothing.
        Ok(TurnResult { reply: Ok(replayed.reply), cost: Some(0.0), activity })
    }

    /// Runs a command, or returns its recorded result and repeats its recorded changes in a replay. Records the command
    /// if there is a recorder.
    pub(super) async fn run_command(
        &self,
        key: &CallKey,
        command: &CommandSpec,
        interruption: impl Future<Output = Failure>,
    ) -> Result<CallOutput, Failure> {
        let RecordReplay { recorder, replay, .. } = &self.record_replay;
        if let Some(replay) = replay.as_ref().filter(|replay| replay.replays_command(&key.step)) {
            let replayed = replay.command(&key.step, command, &self.recording_context())?;
            if let Some(change_set) = replayed.changes.change_set {
                self.repeat_changes(replay, key, change_set).await?;
            }
            return replayed.result.map(CallOutput::Command);
        }
        let Some(recorder) = recorder.as_ref().filter(|recorder| recorder.records_command(&key.step)) else {
            return effects::run_command(self, key, command, interruption).await;
        };
        let before = self.snapshot_before_recording(command).await;
        let result = effects::run_command(self, key, command, interruption).await;
        self.record_command(recorder, key, command, before, &result).await;
        result
    }

    /// Takes a snapshot of the workspace before a command that may change files.
    async fn snapshot_before_recording(&self, command: &CommandSpec) -> Option<FileSnapshot> {
        if !command.may_write {
            return None;
        }
        let performer = self.clone();
        Some(self.run_on_thread(move || performer.snapshot()).await)
    }

    fn snapshot(&self) -> FileSnapshot {
        FileSnapshot::from_folder(&self.workspace, self.artifact_files.paths())
    }

    async fn record_command(
        &self,
        recorder: &Arc<Recorder>,
        key: &CallKey,
        command: &CommandSpec,
        before: Option<FileSnapshot>,
        result: &Result<CallOutput, Failure>,
    ) {
        let result = match result {
            Ok(CallOutput::Command(output)) => Ok(output.clone()),
            // A command has no other output.
            Ok(
                CallOutput::Snapshot(_)
                | CallOutput::Applied(_)
                | CallOutput::Tool(_)
                | CallOutput::McpTool(_)
                | CallOutput::Pipeline(_),
            ) => return,
            Err(failure) => Err(failure.clone()),
        };
        let (performer, recorder) = (self.clone(), Arc::clone(recorder));
        let (key, command) = (key.clone(), command.clone());
        let record = move || {
            let activity = before.map(|before| before.difference(&performer.snapshot())).unwrap_or_default();
            let exchange =
                RecordedExchange::Command { command: &command, result: result.as_ref(), activity: &activity };
            recorder.record(&key, exchange, &performer.recording_context());
        };
        // The recorder stores its own failures.
        self.run_on_thread(record).await;
    }

    /// Performs a tool call. In a replay, returns the recorded result and repeats the recorded changes of files. Records
    /// the call if there is a recorder.
    pub(super) async fn run_tool(
        &self,
        context: &CallContext,
        invocation: &ToolInvocation,
        interruption: impl Future<Output = Failure>,
    ) -> ToolResult {
        let key = &context.call_key;
        if let Some(replay) = &self.record_replay.replay {
            return self.replay_tool(replay, key, invocation).await.unwrap_or_else(ToolResult::from);
        }
        let result = perform_tool(self, context, invocation, interruption).await;
        if let (Some(recorder), Some(output)) = (&self.record_replay.recorder, result.tool_output()) {
            let exchange = RecordedExchange::ToolCall { invocation, output, activity: &result.activity };
            recorder.record(key, exchange, &self.recording_context());
        }
        result
    }

    async fn replay_tool(
        &self,
        replay: &Arc<Replay>,
        key: &CallKey,
        invocation: &ToolInvocation,
    ) -> Result<ToolResult, Failure> {
        let replayed = replay.tool_call(&key.step, invocation, &self.recording_context())?;
        let activity = self.repeat_activity(replay, key, replayed.changes).await?;
        Ok(replayed_tool(self, invocation, replayed.output, activity))
    }

    /// Performs a call of an MCP tool. In a replay, returns the recorded result and repeats the recorded changes of
    /// files, without the server. Records the call if there is a recorder.
    pub(super) async fn run_mcp_tool(
        &self,
        context: &CallContext,
        invocation: &McpInvocation,
        interruption: impl Future<Output = Failure>,
    ) -> ToolResult {
        let key = &context.call_key;
        if let Some(replay) = &self.record_replay.replay {
            return self.replay_mcp_call(replay, key, invocation).await.unwrap_or_else(ToolResult::from);
        }
        let result = perform_mcp(self, context, invocation, interruption).await;
        if let (Some(recorder), Some(output)) = (&self.record_replay.recorder, result.mcp_output()) {
            let exchange = RecordedExchange::McpCall { invocation, result: output, activity: &result.activity };
            recorder.record(key, exchange, &self.recording_context());
        }
        result
    }

    async fn replay_mcp_call(
        &self,
        replay: &Arc<Replay>,
        key: &CallKey,
        invocation: &McpInvocation,
    ) -> Result<ToolResult, Failure> {
        let replayed = replay.mcp_call(&key.step, invocation, &self.recording_context())?;
        let activity = self.repeat_activity(replay, key, replayed.changes).await?;
        Ok(ToolResult { output: replayed.result.map(CallOutput::McpTool), activity })
    }

    /// The recorded tools of a server in a replay; `None` if this is no replay.
    pub(super) fn replayed_listing(&self, server: &McpServerSpec) -> Option<Result<McpListing, Failure>> {
        let replay = self.record_replay.replay.as_ref()?;
        Some(replay.listing(&server.name, &self.recording_context()))
    }

    /// Records the tools of a server if there is a recorder.
    pub(super) fn record_listing(&self, listing: &McpListing) {
        if let Some(recorder) = &self.record_replay.recorder {
            recorder.record_listing(listing, &self.recording_context());
        }
    }

    /// Repeats the recorded changes of a turn or a tool call in the workspace. Returns the changes of this workspace, and
    /// what the recording may lack.
    async fn repeat_activity(
        &self,
        replay: &Arc<Replay>,
        key: &CallKey,
        changes: ReplayedChanges,
    ) -> Result<AgentActivity, Failure> {
        let mut activity = match changes.change_set {
            Some(change_set) => self.repeat_changes(replay, key, change_set).await?.to_activity(),
            None => AgentActivity::default(),
        };
        if changes.omission.is_some() {
            activity.add_partial_reason("the recording of this call may lack changes");
        }
        Ok(activity)
    }

    /// Repeats recorded changes in the workspace. Returns the changes of this workspace.
    async fn repeat_changes(
        &self,
        replay: &Arc<Replay>,
        key: &CallKey,
        changes: ChangeSet,
    ) -> Result<ChangeSet, Failure> {
        let (performer, replay, step) = (self.clone(), Arc::clone(replay), key.step.clone());
        self.run_on_thread(move || -> Result<ChangeSet, Failure> {
            let paths = &performer.record_replay.paths;
            let is_same_text = |recorded: &str, text: &str| replay.is_same_text(recorded, text, paths);
            let tree = Tree::open(&performer.workspace)?;
            tree.repeat(&changes, &is_same_text).map_err(|failure| replay.changes_refused(&step, &failure))
        })
        .await
    }

    /// Runs work on files on another thread, because there may be many files.
    async fn run_on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        run_on_thread(self.clock.hold_virtual_time(), work).await
    }
}
