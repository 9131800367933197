//! What the index of calls needs to know about their replies.

use crate::durable::CallReply;
use crate::model::ContentBlock;
use crate::model::event::CallOutput;

/// Whether the reply to a call of a step itself may contain the value of the step. It can't if it contains tool calls,
/// after which the conversation continued, or if it is the output of a file operation.
pub(super) fn is_final_reply(reply: &CallReply) -> bool {
    let is_tool_call = |block: &ContentBlock| matches!(block, ContentBlock::ToolCall { .. });
    match (reply.chat(), reply) {
        (Some(chat), _) => !chat.content.blocks().iter().any(is_tool_call),
        (None, CallReply::Output(CallOutput::Command(_) | CallOutput::Tool(_) | CallOutput::McpTool(_))) => true,
        (None, _) => false,
    }
}

/// Whether this is the result of a tool that succeeded, or that may have taken effect although a question of its server
/// got no answer.
pub(super) fn may_have_succeeded(reply: &CallReply) -> bool {
    match reply {
        CallReply::Output(CallOutput::Tool(output)) => !output.result.is_error,
        CallReply::Output(CallOutput::McpTool(output)) => {
            let has_succeeded = !output.result.is_error && output.input_required.is_none();
            has_succeeded || !output.unanswered.is_empty()
        }
        CallReply::Output(CallOutput::Command(_) | CallOutput::Snapshot(_) | CallOutput::Applied(_))
        | CallReply::Chat(_)
        | CallReply::Turn(_) => false,
    }
}

/// The result of a tool that a model called, as the interpreter needs it. The whole output is only for the user.
pub(super) fn without_full_output(reply: CallReply) -> CallReply {
    match reply {
        CallReply::Output(CallOutput::Tool(mut output)) => {
            output.result.full_output = None;
            CallReply::Output(CallOutput::Tool(output))
        }
        CallReply::Output(CallOutput::McpTool(mut output)) => {
            output.result.full_output = None;
            CallReply::Output(CallOutput::McpTool(output))
        }
        reply => reply,
    }
}
