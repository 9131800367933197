//! Logs the calls of a run: keys, kinds, names from the project's files and classes of failures. Never logs what a call
//! sends or returns, since that may contain secrets.

use tracing::{Span, debug, debug_span};

use crate::durable::{Call, CallOutcome, Effect};

/// The span of a call, from the look-up of its recorded outcome to the record of its outcome.
pub(super) fn call_span(call: &Call) -> Span {
    debug_span!(
        "call",
        call = %call.key,
        step = %call.key.step,
        attempt = call.key.attempt,
        kind = call.effect.properties().name,
        model = call.effect.model().map(display),
        tool = built_in_tool(&call.effect),
        server = mcp_server(&call.effect),
    )
}

/// Logs how a call ended.
pub(super) fn log_outcome(outcome: &CallOutcome) {
    match &outcome.result {
        Ok(_) => debug!("the call succeeded"),
        Err(failure) => debug!(class = failure.class.as_str(), status = failure.status, "the call failed"),
    }
}

fn built_in_tool(effect: &Effect) -> Option<&'static str> {
    match effect {
        Effect::Tool(invocation) => Some(invocation.tool.as_str()),
        Effect::ModelRequest(_)
        | Effect::Turn(_)
        | Effect::Command(_)
        | Effect::Snapshot(_)
        | Effect::Write(_)
        | Effect::McpTool(_) => None,
    }
}

/// The name of the MCP server in `orch.yaml`. The name of the tool comes from the server, so the log does not contain
/// it.
fn mcp_server(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::McpTool(invocation) => Some(&invocation.server.name),
        Effect::ModelRequest(_)
        | Effect::Turn(_)
        | Effect::Command(_)
        | Effect::Snapshot(_)
        | Effect::Write(_)
        | Effect::Tool(_) => None,
    }
}
