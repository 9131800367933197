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

/// Of the replies of an attempt, latest first, those that may contain the value of the step. With `requires_call`, none
/// of the replies before the first one with tool calls does.
pub(super) fn final_replies<'r>(
    replies: impl Iterator<Item = &'r CallReply>,
    requires_call: bool,
) -> impl Iterator<Item = &'r CallReply> {
    let replies: Vec<&CallReply> = replies.collect();
    let first_with_calls = || replies.iter().rposition(|reply| !is_final_reply(reply)).unwrap_or(0);
    let count = if requires_call { first_with_calls() } else { replies.len() };
    replies.into_iter().take(count).filter(|reply| is_final_reply(reply))
}

/// Whether this is no result of a call, but what its server wants to know before it performs it.
pub(super) fn waits_for_input(reply: &CallReply) -> bool {
    matches!(reply, CallReply::Output(CallOutput::McpTool(output)) if output.input_required.is_some())
}

/// Whether this is the result of a call during which its server asked a question that got no answer.
pub(super) fn is_without_answer(reply: &CallReply) -> bool {
    matches!(reply, CallReply::Output(CallOutput::McpTool(output)) if !output.unanswered.is_empty())
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
        CallReply::Output(
            CallOutput::Command(_) | CallOutput::Snapshot(_) | CallOutput::Applied(_) | CallOutput::Pipeline(_),
        )
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Content;

    fn reply(blocks: Vec<ContentBlock>) -> CallReply {
        let reply = json!({ "content": Content::from(blocks), "stop": "end", "usage": {}, "constrained": false });
        CallReply::Chat(serde_json::from_value(reply).unwrap())
    }

    fn answer(text: &str) -> CallReply {
        reply(vec![ContentBlock::text(text)])
    }

    fn call() -> CallReply {
        let call = ContentBlock::ToolCall { id: "1".to_owned(), name: "read".to_owned(), arguments: json!({}) };
        reply(vec![ContentBlock::text("I read it."), call])
    }

    #[test]
    fn a_reply_with_tool_calls_is_not_final() {
        assert!(is_final_reply(&answer("done")));
        assert!(!is_final_reply(&call()));
    }

    #[test]
    fn an_answer_before_a_required_call_is_not_final() {
        let replies = [answer("third"), call(), answer("second"), call(), answer("first")];
        let finals = |replies: &[CallReply], requires_call| -> Vec<CallReply> {
            final_replies(replies.iter(), requires_call).cloned().collect()
        };
        assert_eq!(finals(&replies, false), [answer("third"), answer("second"), answer("first")]);
        assert_eq!(finals(&replies, true), [answer("third"), answer("second")]);
        assert_eq!(finals(&[answer("only")], true), []);
    }
}
