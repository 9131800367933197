//! The content of messages and replies in recordings: the texts, tool calls and tool results.
//!
//! Recordings contain neither the ids of calls nor the opaque data of a provider, since both differ in each run.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{Content, ContentBlock};
use crate::secret::Redactor;

/// A tool call of a recorded reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RepliedCall {
    name: String,
    arguments: Value,
}

/// The tool calls of a reply, without secrets.
pub(super) fn replied_calls(content: &Content, redactor: &Redactor) -> Vec<RepliedCall> {
    let calls = content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, arguments, .. } => Some((name, arguments)),
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    let redact = |(name, arguments): (&String, &Value)| {
        let arguments = redactor.redact_value(arguments.clone());
        RepliedCall { name: redactor.redact(name), arguments }
    };
    calls.map(redact).collect()
}

/// The content of a replayed reply: its text, and then its tool calls, with ids of their own.
pub(super) fn replied_content(text: String, calls: &[RepliedCall]) -> Content {
    if calls.is_empty() {
        return Content::from_text(text);
    }
    let mut blocks = Vec::from(Content::from_text(text));
    for (number, RepliedCall { name, arguments }) in (1..).zip(calls) {
        let (id, name, arguments) = (format!("replayed_{number}"), name.clone(), arguments.clone());
        blocks.push(ContentBlock::ToolCall { id, name, arguments });
    }
    Content::from(blocks)
}

/// Content for the key of a request: a text, or the list of its texts, tool calls and tool results.
pub(super) fn key_content(content: &Content) -> Value {
    let has_tools =
        |block: &ContentBlock| matches!(block, ContentBlock::ToolCall { .. } | ContentBlock::ToolResult { .. });
    if !content.blocks().iter().any(has_tools) {
        return json!(content.text());
    }
    // A replayed reply has its text before its calls, whatever their order was.
    let text = content.text();
    let mut blocks: Vec<Value> = if text.is_empty() { Vec::new() } else { vec![json!(text)] };
    blocks.extend(content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, arguments, .. } => Some(json!({ "call": name, "arguments": arguments })),
        ContentBlock::ToolResult { name, content, is_error, .. } => {
            Some(json!({ "result": name, "content": content, "is_error": is_error }))
        }
        ContentBlock::Text { .. } | ContentBlock::Opaque { .. } | ContentBlock::File { .. } => None,
    }));
    Value::Array(blocks)
}

/// Content as a text for users.
pub(super) fn content_text(content: &Content) -> String {
    let mut parts = Vec::new();
    for block in content.blocks() {
        match block {
            ContentBlock::Text { text } => parts.push(text.clone()),
            ContentBlock::ToolCall { name, arguments, .. } => parts.push(format!("[call of {name}] {arguments}")),
            ContentBlock::ToolResult { name, content, is_error, .. } => {
                let label = if *is_error { "error" } else { "result" };
                parts.push(format!("[{label} of {name}]\n{content}"));
            }
            ContentBlock::Opaque { .. } | ContentBlock::File { .. } => {}
        }
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ContentBlock {
        let (name, arguments) = ("read".to_owned(), json!({ "path": "a" }));
        ContentBlock::ToolCall { id: id.to_owned(), name, arguments }
    }

    #[test]
    fn a_replayed_reply_has_the_key_of_the_recorded_one() {
        let opaque = ContentBlock::Opaque { dialect: "anthropic".to_owned(), data: json!({ "signature": "s" }) };
        let reply = Content::from(vec![opaque, ContentBlock::text("I read it."), call("toolu_1"), call("toolu_2")]);
        let calls = replied_calls(&reply, &Redactor::default());
        let replayed = replied_content(reply.text().into_owned(), &calls);
        assert_eq!(key_content(&replayed), key_content(&reply));
        let ids: Vec<&str> = replayed
            .blocks()
            .iter()
            .filter_map(|block| if let ContentBlock::ToolCall { id, .. } = block { Some(id.as_str()) } else { None })
            .collect();
        assert_eq!(ids, ["replayed_1", "replayed_2"]);
        assert_eq!(replied_content("text".to_owned(), &[]), Content::from_text("text"));
        assert_eq!(key_content(&Content::from_text("text")), json!("text"));
    }

    #[test]
    fn tool_calls_and_results_are_part_of_the_text_for_users() {
        let result = ContentBlock::ToolResult {
            id: "1".to_owned(),
            name: "read".to_owned(),
            content: "no such file".to_owned(),
            is_error: true,
        };
        assert_eq!(content_text(&Content::from(vec![call("1")])), r#"[call of read] {"path":"a"}"#);
        assert_eq!(content_text(&Content::from(vec![result])), "[error of read]\nno such file");
        assert_eq!(content_text(&Content::from_text("a\nb")), "a\nb");
    }
}
