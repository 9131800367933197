//! What orch answers when an agent asks whether it may use a tool.

use std::sync::{Mutex, PoisonError};

use agent_client_protocol::v1::schema::{
    PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome, ToolCallUpdateFields, ToolKind,
};

use crate::agent::mcp_servers::is_server_tool;
use crate::model::McpServerSpec;

use super::AcpTranscript;

/// Decides about a permission request: allows the tools that `tools` lists, preferably for this call only, and rejects
/// others.
pub(super) fn decide_permission(
    transcript: &Mutex<AcpTranscript>,
    (granted_tools, servers): (&[String], &[McpServerSpec]),
    request: &RequestPermissionRequest,
) -> RequestPermissionResponse {
    let fields = &request.tool_call.fields;
    let is_listed = |name: &str| granted_tools.iter().any(|granted| granted.eq_ignore_ascii_case(name));
    let is_server_title = server_title(fields).is_some_and(|title| is_server_tool(servers, title));
    let is_granted =
        is_server_title || tool_names(fields).iter().any(|name| is_listed(name) || is_server_tool(servers, name));
    let option_kinds = if is_granted {
        [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways]
    } else {
        [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways]
    };
    if !is_granted {
        let title = fields.title.clone().unwrap_or_else(|| tool_names(fields).join(" "));
        transcript.lock().unwrap_or_else(PoisonError::into_inner).denied.push(title);
    }
    let option = option_kinds.iter().find_map(|kind| request.options.iter().find(|option| option.kind == *kind));
    RequestPermissionResponse::new(match option {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone())),
        None => RequestPermissionOutcome::Cancelled,
    })
}

/// The title of a call that is neither a command nor a change of files: some agents give the tool of a server no name,
/// and its name as the title. The title of a command is its text, which a model chooses.
fn server_title(fields: &ToolCallUpdateFields) -> Option<&str> {
    let is_other = fields.kind.is_none_or(|kind| kind == ToolKind::Other);
    fields.title.as_deref().filter(|_| is_other && fields.name.is_none())
}

/// The names under which `tools` may list a tool: its own name and its kind.
fn tool_names(fields: &ToolCallUpdateFields) -> Vec<String> {
    let kind = fields.kind.and_then(|kind| serde_json::to_value(kind).ok());
    let kind = kind.and_then(|kind| kind.as_str().map(str::to_owned));
    fields.name.clone().into_iter().chain(kind).collect()
}
