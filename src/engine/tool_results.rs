//! The tool calls of a reply, and the results that the model receives for them.

use serde_json::{Value, json};

use crate::durable::{CallOutcome, CallReply};
use crate::model::call::SentResult;
use crate::model::event::CallOutput;
use crate::model::{
    AgentActivity, ChatReply, ContentBlock, Digest, Failure, FailureClass, McpCallKind, is_unanswered_call,
};

use super::mcp_questions::MAX_INPUT_ROUNDS;
use super::pipeline_tools::PipelineCallResult;
use super::step_execution::{digest, unexpected_record};
use super::tool_target::ToolTarget;

/// The maximum number of changed files that the model receives the names of after an interruption.
const MAX_NAMED_FILES: usize = 50;

/// A tool call in a reply.
#[derive(Clone, Copy)]
pub(super) struct RequestedCall<'r> {
    /// Its position among the calls of the reply, from 1.
    pub(super) position: u32,
    pub(super) id: &'r str,
    pub(super) name: &'r str,
    pub(super) arguments: &'r Value,
}

/// The tool calls of a reply, in order.
pub(super) fn requested_calls(chat: &ChatReply) -> Vec<RequestedCall<'_>> {
    let calls = chat.content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { id, name, arguments } => Some((id, name, arguments)),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    (1..).zip(calls).map(|(position, (id, name, arguments))| RequestedCall { position, id, name, arguments }).collect()
}

/// The result of a tool call, for the model.
pub(super) struct ToolCallResult {
    /// The position of the call in the reply, from 1.
    position: u32,
    id: String,
    pub(super) name: String,
    /// The digest of the tool and the arguments.
    pub(super) call_digest: Digest,
    content: String,
    is_error: bool,
    /// Whether a recorded output has this content.
    is_recorded: bool,
    /// Whether the call changed files.
    pub(super) changes_files: bool,
}

impl ToolCallResult {
    /// A result that no recorded output has.
    pub(super) fn new(call: &RequestedCall<'_>, content: String, is_error: bool) -> Self {
        Self {
            position: call.position,
            id: call.id.to_owned(),
            name: call.name.to_owned(),
            call_digest: digest(&json!([call.name, call.arguments])),
            content,
            is_error,
            is_recorded: false,
            changes_files: false,
        }
    }

    /// The result of a call of a pipeline.
    pub(super) fn from_pipeline(call: &RequestedCall<'_>, result: PipelineCallResult) -> Self {
        let PipelineCallResult { content, is_error, changes_files } = result;
        Self { changes_files, ..Self::new(call, content, is_error) }
    }

    /// The digest of what the call returned.
    pub(super) fn result_digest(&self) -> Digest {
        Digest::compute(format!("{} {}", self.is_error, self.content).as_bytes())
    }

    /// Adds a note of orch to the content.
    pub(super) fn add_note(&mut self, note: &str) {
        self.content.push_str(note);
        self.is_recorded = false;
    }

    /// The result as a request contains it, for the record of the request, unless a recorded output has the same
    /// content. `ordinal` is that of the request whose reply contains the call.
    pub(super) fn unrecorded(&self, ordinal: u32) -> Option<SentResult> {
        (!self.is_recorded).then(|| SentResult {
            ordinal,
            tool_call: self.position,
            name: self.name.clone(),
            content: self.content.clone(),
            is_error: self.is_error,
        })
    }

    /// Whether the content is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// The result for the model of a call that was performed or interrupted.
    ///
    /// # Errors
    /// orch could not perform the call.
    pub(super) fn from_outcome(
        call: &RequestedCall<'_>,
        target: &ToolTarget,
        outcome: CallOutcome,
    ) -> Result<Self, Failure> {
        let activity = outcome.agent_activity.as_deref();
        let changes_files = activity.is_some_and(|activity| !activity.changed.is_empty());
        let recorded = |content, is_error| Self { is_recorded: true, ..Self::new(call, content, is_error) };
        let result = match outcome.result {
            Ok(CallReply::Output(CallOutput::Tool(output))) => recorded(output.result.content, output.result.is_error),
            Ok(CallReply::Output(CallOutput::McpTool(output))) if output.input_required.is_some() => {
                let server = &output.tool.server;
                let text = format!(
                    "the MCP server `{server}` asked for input {MAX_INPUT_ROUNDS} times, so orch ended the call without \
                     a result"
                );
                Self::new(call, text, true)
            }
            Ok(CallReply::Output(CallOutput::McpTool(output))) => {
                recorded(output.result.content, output.result.is_error)
            }
            Ok(_) => return Err(unexpected_record()),
            Err(failure) => match interruption_text(&failure, activity, target.mcp_kind()) {
                Some(text) => Self::new(call, text, true),
                None => return Err(failure),
            },
        };
        Ok(Self { changes_files, ..result })
    }
}

impl From<ToolCallResult> for ContentBlock {
    fn from(result: ToolCallResult) -> Self {
        let ToolCallResult { id, name, content, is_error, .. } = result;
        Self::ToolResult { id, name, content, is_error }
    }
}

/// The text in place of the result of a call that ended without one: it was interrupted, or an MCP server did not answer
/// it. `None` if orch could not perform the call. `kind` is what a call of an MCP tool may change.
pub(super) fn interruption_text(
    failure: &Failure,
    activity: Option<&AgentActivity>,
    kind: Option<McpCallKind>,
) -> Option<String> {
    let reason = match failure.class {
        FailureClass::Crashed => "orch was killed",
        FailureClass::Cancelled => "the user stopped orch",
        FailureClass::BudgetExceeded => "the time budget was used up",
        class => {
            let kind = kind.filter(|_| is_unanswered_call(class))?;
            let message = &failure.message;
            return Some(if kind.only_reads() {
                message.clone()
            } else {
                let effect = effect_text(class, activity, Some(kind));
                format!("{message}; orch did not repeat the call; {effect}")
            });
        }
    };
    let effect = effect_text(failure.class, activity, kind);
    Some(format!(
        "interrupted: {reason} during this call, so its output is lost, and orch did not repeat the call; {effect}"
    ))
}

/// What is known about the effect of a call that ended without a result.
fn effect_text(class: FailureClass, activity: Option<&AgentActivity>, kind: Option<McpCallKind>) -> String {
    let changed = activity.map(|activity| activity.changed.as_slice()).unwrap_or_default();
    let listed = changed.iter().take(MAX_NAMED_FILES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let is_incomplete = changed.len() > MAX_NAMED_FILES || activity.is_some_and(|activity| activity.partial);
    let listed = format!("these files changed: {listed}{}", if is_incomplete { " and others" } else { "" });
    match (kind, changed.is_empty()) {
        (None, false) => listed,
        (None, true) => {
            // A killed process could not compare the files, so without a record nothing is known.
            let is_unknown = activity.map_or(class == FailureClass::Crashed, |activity| activity.partial);
            let text = if is_unknown { "it is not known whether files changed" } else { "no file changed" };
            text.to_owned()
        }
        // Only the files of the workspace are compared, and a server can also change other things.
        (Some(_), false) => format!("{listed}; it is not known what else the call changed"),
        (Some(_), true) => "it is not known whether the call took effect".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_learns_what_an_interrupted_call_changed() {
        let changed = vec!["a.txt".to_owned(), "b.txt".to_owned()];
        let changed = AgentActivity { changed, ..AgentActivity::default() };
        let nothing = AgentActivity::default();
        let unknown = AgentActivity { partial: true, ..AgentActivity::default() };
        for (class, activity, expected) in [
            (FailureClass::Crashed, Some(&changed), "these files changed: a.txt, b.txt"),
            (FailureClass::Crashed, Some(&nothing), "no file changed"),
            (FailureClass::Crashed, None, "it is not known whether files changed"),
            (FailureClass::Crashed, Some(&unknown), "it is not known whether files changed"),
            (FailureClass::Cancelled, Some(&unknown), "it is not known whether files changed"),
            (FailureClass::Cancelled, None, "no file changed"),
            (FailureClass::BudgetExceeded, Some(&changed), "these files changed: a.txt, b.txt"),
        ] {
            let text = interruption_text(&Failure::new(class, "it ended"), activity, None).unwrap();
            assert!(text.starts_with("interrupted: ") && text.ends_with(expected), "{text}");
        }
        assert_eq!(interruption_text(&Failure::new(FailureClass::NotConfined, "no"), None, None), None);
        assert_eq!(interruption_text(&Failure::new(FailureClass::Timeout, "no"), None, None), None);
    }

    #[test]
    fn the_effect_of_an_mcp_call_without_an_answer_is_not_known() {
        let changed = AgentActivity { changed: vec!["a.txt".to_owned()], ..AgentActivity::default() };
        let nothing = AgentActivity::default();
        let text = |class, activity, kind| interruption_text(&Failure::new(class, "no answer"), activity, Some(kind));
        for kind in [McpCallKind::RemoteWrite, McpCallKind::LocalWrite, McpCallKind::WorkspaceWrite] {
            for class in [FailureClass::Crashed, FailureClass::Cancelled, FailureClass::BudgetExceeded] {
                let text = text(class, Some(&nothing), kind).unwrap();
                let expected = "orch did not repeat the call; it is not known whether the call took effect";
                assert!(text.starts_with("interrupted: ") && text.ends_with(expected), "{text}");
            }
            let text = text(FailureClass::Timeout, None, kind).unwrap();
            let expected = "no answer; orch did not repeat the call; it is not known whether the call took effect";
            assert_eq!(text, expected);
        }
        let text_of_changes = text(FailureClass::Crashed, Some(&changed), McpCallKind::WorkspaceWrite).unwrap();
        let expected = "these files changed: a.txt; it is not known what else the call changed";
        assert!(text_of_changes.ends_with(expected), "{text_of_changes}");
        for class in [FailureClass::Timeout, FailureClass::ProviderUnavailable, FailureClass::AgentError] {
            assert_eq!(text(class, None, McpCallKind::RemoteRead).as_deref(), Some("no answer"));
        }
        assert_eq!(text(FailureClass::Auth, None, McpCallKind::RemoteWrite), None, "the call was not performed");
    }
}
