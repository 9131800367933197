//! The tool calls of a reply, and the results that the model receives for them.

use serde_json::{Value, json};

use crate::durable::{CallOutcome, CallReply};
use crate::model::call::SentResult;
use crate::model::event::CallOutput;
use crate::model::{ChatReply, ContentBlock, Digest, Failure};

use super::agent_tools::AgentTools;
use super::interrupted_call::interruption_text;
use super::mcp_questions::too_many_rounds;
use super::pipeline_tools::PipelineCallResult;
use super::step_execution::{digest, unexpected_record};
use super::tool_target::ToolTarget;

/// A tool call in a reply.
#[derive(Clone, Copy)]
pub(super) struct RequestedCall<'r> {
    /// Its position among the calls of the reply, from 1.
    pub(super) position: u32,
    pub(super) id: &'r str,
    pub(super) name: &'r str,
    pub(super) arguments: &'r Value,
}

impl RequestedCall<'_> {
    /// The digest of the tool and the arguments.
    pub(super) fn digest(&self) -> Digest {
        digest(&json!([self.name, self.arguments]))
    }
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
    /// The name of the tool in the requests to the model.
    name: String,
    /// The name of the tool for people: that of the pipeline file, or the one that the model invented.
    pub(super) shown_name: String,
    /// A short form of the arguments, for people; empty if they do not fit the tool.
    arguments: String,
    /// The digest of the tool and the arguments.
    pub(super) call_digest: Digest,
    content: String,
    is_error: bool,
    /// Whether a recorded output has this content.
    is_recorded: bool,
    /// Whether the call changed files, or may have changed files without orch's knowledge.
    pub(super) changes_files: bool,
}

impl ToolCallResult {
    /// A result that no recorded output has.
    pub(super) fn new(call: &RequestedCall<'_>, content: String, is_error: bool) -> Self {
        Self {
            position: call.position,
            id: call.id.to_owned(),
            name: call.name.to_owned(),
            shown_name: call.name.to_owned(),
            arguments: String::new(),
            call_digest: call.digest(),
            content,
            is_error,
            is_recorded: false,
            changes_files: false,
        }
    }

    /// The result of a call of this tool whose arguments fit it.
    pub(super) fn with_arguments(self, call: &RequestedCall<'_>, target: &ToolTarget) -> Self {
        Self { arguments: target.summarize(call.arguments), ..self }
    }

    /// Sets the name of the tool for people.
    pub(super) fn set_shown_name(&mut self, tools: &AgentTools) {
        if let Some(target) = tools.find(&self.name) {
            self.shown_name = target.name();
        }
    }

    /// The result of a call of a pipeline.
    pub(super) fn from_pipeline(call: &RequestedCall<'_>, result: PipelineCallResult) -> Self {
        let PipelineCallResult { content, is_error, changes_files, is_recorded } = result;
        Self { is_recorded, changes_files, ..Self::new(call, content, is_error) }
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
            name: self.shown_name.clone(),
            arguments: self.arguments.clone(),
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
        let kind = target.call_kind();
        let changes_files = match activity {
            Some(activity) => activity.may_have_changed_files(),
            // A call that ended and recorded no changes made none. Of one without a result, nothing is known.
            None => outcome.result.is_err() && kind.is_some_and(|kind| kind.properties().keeps_turn_start),
        };
        let recorded = |content, is_error| Self { is_recorded: true, ..Self::new(call, content, is_error) };
        let result = match outcome.result {
            Ok(CallReply::Output(CallOutput::Tool(output))) => recorded(output.result.content, output.result.is_error),
            Ok(CallReply::Output(CallOutput::McpTool(output))) if output.input_required.is_some() => {
                let text = format!("{}, so orch ended the call without a result", too_many_rounds(&output.tool.server));
                Self::new(call, text, true).with_arguments(call, target)
            }
            Ok(CallReply::Output(CallOutput::McpTool(output))) => {
                recorded(output.result.content, output.result.is_error)
            }
            Ok(_) => return Err(unexpected_record()),
            Err(failure) => match kind.and_then(|kind| interruption_text(kind, &failure, activity)) {
                Some(text) => Self::new(call, text, true).with_arguments(call, target),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AgentActivity, BuiltinTool, FailureClass};

    #[test]
    fn a_call_about_whose_changes_nothing_is_known_counts_as_one_that_changes_files() {
        let arguments = json!({});
        let call = RequestedCall { position: 1, id: "1", name: "shell", arguments: &arguments };
        let changes_files = |tool: BuiltinTool, agent_activity: Option<AgentActivity>| {
            let (time, failure) = (jiff::Timestamp::UNIX_EPOCH, Failure::new(FailureClass::Crashed, "orch was killed"));
            let outcome = CallOutcome {
                agent_activity: agent_activity.map(Box::new),
                ..CallOutcome::new(time, time, Err(failure))
            };
            ToolCallResult::from_outcome(&call, &ToolTarget::Builtin(tool), outcome).unwrap().changes_files
        };
        let unknown = AgentActivity::with_unknown_changes("it is missing");
        assert!(changes_files(BuiltinTool::Shell, None) && changes_files(BuiltinTool::Shell, Some(unknown)));
        assert!(!changes_files(BuiltinTool::Shell, Some(AgentActivity::default())));
        assert!(!changes_files(BuiltinTool::Fetch, None), "it can't change files");
    }
}
