//! Performs the tool calls of models, and records the files that they change.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::agent::{CallContext, TurnStart, write_turn_start};
use crate::durable::CallProgress;
use crate::files::{ChangeSet, WorkspaceBaseline};
use crate::model::event::CallOutput;
use crate::model::{
    AgentActivity, BuiltinTool, Failure, FailureClass, McpCallOutput, ToolCallOutput, ToolInvocation, ToolOutput,
};
use crate::network::Network;
use crate::secret::StreamRedactor;
use crate::tool::{self, OutputObserver, PerformedTool, RecordStart, ToolContext, system_lookup};

use super::perform::Performer;

/// The result of a tool call.
pub(super) struct ToolResult {
    /// The output, or why orch could not perform the call.
    pub(super) output: Result<CallOutput, Failure>,
    /// The files that the call changed.
    pub(super) activity: AgentActivity,
}

impl From<Failure> for ToolResult {
    fn from(failure: Failure) -> Self {
        Self { output: Err(failure), activity: AgentActivity::default() }
    }
}

impl ToolResult {
    fn new(invocation: &ToolInvocation, output: ToolOutput, activity: AgentActivity) -> Self {
        let output = ToolCallOutput { tool: invocation.tool, arguments: invocation.summary(), result: output };
        Self { output: Ok(CallOutput::Tool(output)), activity }
    }

    /// What a built-in tool returned, if orch could perform the call.
    pub(super) fn tool_output(&self) -> Option<&ToolOutput> {
        match &self.output {
            Ok(CallOutput::Tool(output)) => Some(&output.result),
            Ok(
                CallOutput::Command(_)
                | CallOutput::Snapshot(_)
                | CallOutput::Applied(_)
                | CallOutput::McpTool(_)
                | CallOutput::Pipeline(_),
            )
            | Err(_) => None,
        }
    }

    /// What a call of an MCP tool returned, or why it has no result.
    pub(super) fn mcp_output(&self) -> Option<Result<&McpCallOutput, &Failure>> {
        match &self.output {
            Ok(CallOutput::McpTool(output)) => Some(Ok(output)),
            Ok(
                CallOutput::Command(_)
                | CallOutput::Snapshot(_)
                | CallOutput::Applied(_)
                | CallOutput::Tool(_)
                | CallOutput::Pipeline(_),
            ) => None,
            Err(failure) => Some(Err(failure)),
        }
    }
}

/// Performs a tool call until it ends, or until `interruption` resolves with the failure to report.
pub(super) async fn perform_tool(
    performer: &Performer,
    context: &CallContext,
    invocation: &ToolInvocation,
    interruption: impl Future<Output = Failure>,
) -> ToolResult {
    performer.observer.on_progress(&CallProgress::Sent(context.call_key.clone()));
    let tool_context = tool_context(performer, context);
    let performed = tool::perform(invocation, &tool_context, interruption).await;
    let PerformedTool { result, full_output, activity } = performed;
    // For a program, the search for reverted files records its changes.
    if invocation.tool != BuiltinTool::Shell {
        record_changes(performer, activity.files.as_ref());
    }
    match result {
        Ok(output) => {
            let full_output = full_output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            ToolResult::new(invocation, ToolOutput { full_output, ..output }, activity)
        }
        Err(failure) => ToolResult { output: Err(failure), activity },
    }
}

/// The result of a recorded tool call whose changes were repeated.
pub(super) fn replayed_tool(
    performer: &Performer,
    invocation: &ToolInvocation,
    output: ToolOutput,
    activity: AgentActivity,
) -> ToolResult {
    if invocation.tool != BuiltinTool::Shell {
        record_changes(performer, activity.files.as_ref());
    }
    ToolResult::new(invocation, output, activity)
}

/// Adds the changes of a tool to the files that the run wrote.
fn record_changes(performer: &Performer, files: Option<&Value>) {
    // orch serialized this record a moment ago, so parsing it does not fail.
    if let Some(change_set) = files.and_then(|files| serde_json::from_value::<ChangeSet>(files.clone()).ok()) {
        performer.files.record(&change_set);
    }
}

fn tool_context(performer: &Performer, context: &CallContext) -> ToolContext {
    let variables = performer.env_vars.clone();
    ToolContext {
        sandbox: performer.sandbox.clone(),
        network: Arc::new(Network::from_variables(|name| variables(name))),
        variables: performer.env_vars.clone(),
        supervisor: performer.supervisor.clone(),
        ending_process_groups: performer.endings.get_or_create(&context.call_key, &performer.clock),
        lookup: system_lookup(),
        redactor: performer.redactor.clone(),
        record_start: start_recorder(performer, context),
        on_output: output_observer(performer, context),
    }
}

/// Writes the workspace before a call to disk, so that a resume finds the changes if orch is killed.
pub(super) fn start_recorder(performer: &Performer, context: &CallContext) -> RecordStart {
    let (agents_folder, context) = (performer.agents_folder.clone(), context.clone());
    Arc::new(move |before: WorkspaceBaseline<'_>| {
        let start = TurnStart {
            call: &context.call_key,
            request_digest: &context.request_digest,
            model: None,
            start_time: context.start_time,
            before,
        };
        write_turn_start(&agents_folder, &start).map_err(|error| {
            let folder = agents_folder.path().display();
            let message = format!("the files before a tool call can't be saved in `{folder}`: {error}");
            Failure::new(FailureClass::Storage, message)
        })
    })
}

/// Passes the last line of each piece of a command's output to the observer, without secrets.
fn output_observer(performer: &Performer, context: &CallContext) -> OutputObserver {
    let (performer, key) = (performer.clone(), context.call_key.clone());
    // A piece of output may end in the middle of a secret.
    let pending = Mutex::new(String::new());
    Arc::new(move |bytes: &[u8]| {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut redactor = StreamRedactor::resume(&performer.redactor, std::mem::take(&mut *pending));
        let text = redactor.push(&String::from_utf8_lossy(bytes));
        *pending = redactor.into_pending();
        if let Some(line) = text.trim_end().lines().last() {
            performer.observer.on_progress(&CallProgress::Output(key.clone(), line.to_owned()));
        }
    })
}
