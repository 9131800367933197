//! Performs the calls of MCP tools and lists the tools of servers. For a call that may change the workspace, also finds
//! out which files it changed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use crate::agent::CallContext;
use crate::durable::{CallProgress, Effect};
use crate::files::{ChangeSet, FileSnapshot, WorkspaceBaseline};
use crate::model::event::CallOutput;
use crate::model::{
    AgentActivity, CallKey, Failure, McpCallKind, McpCallOutput, McpInvocation, McpServerSpec, SandboxUse, ToolOutput,
    ToolsListed,
};
use crate::offload::run_on_thread;
use crate::tool::mcp::{ListedServer, McpCall, McpResult};

use super::effects;
use super::mcp_answerer::answerer;
use super::perform::Performer;
use super::tool_effect::{ToolResult, start_recorder};

/// Performs a call of an MCP tool until it ends, or until `interruption` resolves with the failure to report.
pub(super) async fn perform_mcp(
    performer: &Performer,
    context: &CallContext,
    invocation: &McpInvocation,
    interruption: impl Future<Output = Failure>,
) -> ToolResult {
    performer.observer.on_progress(&CallProgress::Sent(context.call_key.clone()));
    let before = match record_workspace(performer, context, invocation).await {
        Ok(before) => before,
        Err(failure) => return failure.into(),
    };
    let mut interruption = pin!(interruption);
    if let Some(failure) = interruption.as_mut().now_or_never() {
        // The server never received the call.
        return Failure { unperformed: true, ..failure }.into();
    }
    let on_progress = |text: &str| {
        let line = performer.redactor.redact(text);
        performer.observer.on_progress(&CallProgress::Output(context.call_key.clone(), line));
    };
    let answerer = answerer(performer, context, invocation);
    let call = McpCall {
        server: &invocation.server,
        tool: &invocation.tool,
        arguments: &invocation.arguments,
        answers: invocation.answers.as_deref(),
        answerer: answerer.as_ref(),
        timeout: Duration::from_millis(invocation.timeout_ms),
        on_progress: &on_progress,
    };
    let result = performer.mcp.call(call, interruption).await;
    let activity = match before {
        Some(before) => before.difference(&take_snapshot(performer, invocation).await),
        None => AgentActivity::default(),
    };
    match result {
        Ok(result) => ToolResult { output: Ok(CallOutput::McpTool(output(invocation, result, &activity))), activity },
        Err(failure) => ToolResult { output: Err(failure), activity },
    }
}

/// Takes a snapshot of the workspace before a call that may change it, and records it for a resume after a kill.
async fn record_workspace(
    performer: &Performer,
    context: &CallContext,
    invocation: &McpInvocation,
) -> Result<Option<FileSnapshot>, Failure> {
    if invocation.server.call_kind() != McpCallKind::WorkspaceWrite {
        return Ok(None);
    }
    let snapshot = take_snapshot(performer, invocation).await;
    let record_start = start_recorder(performer, context);
    let record = move || record_start(WorkspaceBaseline::Snapshot(&snapshot)).map(|()| snapshot);
    run_on_thread(performer.clock.hold_virtual_time(), record).await.map(Some)
}

async fn take_snapshot(performer: &Performer, invocation: &McpInvocation) -> FileSnapshot {
    let (folder, reserved) = (performer.workspace.clone(), invocation.reserved.clone());
    run_on_thread(performer.clock.hold_virtual_time(), move || FileSnapshot::from_folder(&folder, &reserved)).await
}

/// The output of a call for the record.
fn output(invocation: &McpInvocation, result: McpResult, activity: &AgentActivity) -> McpCallOutput {
    let McpResult { content, is_error, structured, full_output, input_required, unanswered } = result;
    let full_output = full_output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // orch serialized this record a moment ago, so parsing it does not fail.
    let change_set = activity.files.clone().and_then(|files| serde_json::from_value::<ChangeSet>(files).ok());
    let changed_files = change_set.map(|change_set| change_set.changed_files()).unwrap_or_default();
    McpCallOutput {
        tool: invocation.tool_name(),
        kind: invocation.server.call_kind(),
        arguments: invocation.summary(),
        result: ToolOutput { content, is_error, full_output, changed_files },
        structured,
        input_required: input_required.map(Box::new),
        unanswered,
    }
}

/// Lists the tools of a server. A replay returns the recorded list.
pub(super) async fn list_tools(performer: &Performer, server: &McpServerSpec) -> Result<ToolsListed, Failure> {
    if let Some(listing) = performer.replayed_listing(server) {
        return listing.map(|listing| ToolsListed { listing: Arc::new(listing), notes: Vec::new() });
    }
    let ListedServer { listing, notes } = performer.mcp.list(server).await?;
    performer.record_listing(&listing);
    Ok(ToolsListed { listing, notes })
}

/// The server of a call of an MCP tool; `None` for any other call.
pub(super) fn called_server(effect: &Effect) -> Option<&McpServerSpec> {
    match effect {
        Effect::McpTool(invocation) => Some(&invocation.server),
        Effect::ModelRequest(_)
        | Effect::Turn(_)
        | Effect::Command(_)
        | Effect::Snapshot(_)
        | Effect::Write(_)
        | Effect::Tool(_) => None,
    }
}

/// The record of the sandbox of a call's programs, without secrets; `None` if orch confined none of them. The program of
/// a server also runs between its calls, so its record has the connections since its start.
pub(super) fn call_sandbox(
    performer: &Performer,
    key: &CallKey,
    server: Option<&McpServerSpec>,
    runs_program: bool,
) -> Option<Box<SandboxUse>> {
    match server {
        Some(server) => {
            let sandbox = performer.mcp.sandbox_use(&server.name)?;
            Some(Box::new(performer.redactor.redact_sandbox(sandbox)))
        }
        None if runs_program => effects::sandbox_use(performer, key),
        None => None,
    }
}

/// Ends the server of a call that was dropped, if it could go on to change files of the workspace.
pub(super) async fn end_dropped_call(performer: &Performer, server: Option<&McpServerSpec>) {
    if let Some(server) = server.filter(|server| server.call_kind() == McpCallKind::WorkspaceWrite) {
        performer.mcp.end(&server.name).await;
    }
}
