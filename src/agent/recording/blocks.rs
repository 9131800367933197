//! The content of messages and replies in recordings: the texts, tool calls and tool results.
//!
//! Recordings contain neither the ids of calls nor the opaque data of a provider, since both differ in each run.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paths::RunPaths;
use super::{RecordingContext, map_texts};
use crate::model::{Content, ContentBlock};

/// A tool call of a recorded reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RepliedCall {
    name: String,
    arguments: Value,
}

/// The tool calls of a reply as recordings contain them.
pub(super) fn replied_calls(content: &Content, context: &RecordingContext<'_>) -> Vec<RepliedCall> {
    let calls = content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, arguments, .. } => {
            Some(RepliedCall { name: context.redactor.redact(name), arguments: context.portable_value(arguments) })
        }
        ContentBlock::Text { .. }
        | ContentBlock::ToolResult { .. }
        | ContentBlock::Opaque { .. }
        | ContentBlock::File { .. } => None,
    });
    calls.collect()
}

/// The content of a replayed reply: its text, and then its tool calls, with ids of their own.
pub(super) fn replied_content(text: String, calls: &[RepliedCall], paths: &RunPaths) -> Content {
    if calls.is_empty() {
        return Content::from_text(text);
    }
    let mut blocks = Vec::from(Content::from_text(text));
    for (number, RepliedCall { name, arguments }) in (1..).zip(calls) {
        let arguments = map_texts(arguments, &|text| paths.fill_placeholders(text));
        blocks.push(ContentBlock::ToolCall { id: format!("replayed_{number}"), name: name.clone(), arguments });
    }
    Content::from(blocks)
}

/// Content for the key of a request: a text, or the list of its texts, tool calls and tool results. `change` changes
/// each text.
pub(super) fn key_content(content: &Content, change: &dyn Fn(&str) -> String) -> Value {
    let text = change(&content.text());
    if !has_tool_blocks(content) {
        return json!(text);
    }
    // A replayed reply has its text before its calls, whatever their order was.
    let mut blocks: Vec<Value> = if text.is_empty() { Vec::new() } else { vec![json!(text)] };
    blocks.extend(content.blocks().iter().filter_map(|block| match block {
        ContentBlock::ToolCall { name, arguments, .. } => {
            Some(json!({ "call": name, "arguments": map_texts(arguments, change) }))
        }
        ContentBlock::ToolResult { name, content, is_error, .. } => {
            Some(json!({ "result": name, "content": change(content), "is_error": is_error }))
        }
        ContentBlock::Text { .. } | ContentBlock::Opaque { .. } | ContentBlock::File { .. } => None,
    }));
    Value::Array(blocks)
}

/// Content as a text, for users and for the comparison of requests.
pub(super) fn content_text(content: &Content) -> String {
    let text = content.text();
    if !has_tool_blocks(content) {
        return text.into_owned();
    }
    // A replayed reply has its text before its calls, whatever their order was.
    let mut parts = if text.is_empty() { Vec::new() } else { vec![text.into_owned()] };
    for block in content.blocks() {
        match block {
            ContentBlock::ToolCall { name, arguments, .. } => parts.push(format!("[call of {name}] {arguments}")),
            ContentBlock::ToolResult { name, content, is_error, .. } => {
                let label = if *is_error { "error" } else { "result" };
                parts.push(format!("[{label} of {name}]\n{content}"));
            }
            ContentBlock::Text { .. } | ContentBlock::Opaque { .. } | ContentBlock::File { .. } => {}
        }
    }
    parts.join("\n")
}

fn has_tool_blocks(content: &Content) -> bool {
    let is_tool_block =
        |block: &ContentBlock| matches!(block, ContentBlock::ToolCall { .. } | ContentBlock::ToolResult { .. });
    content.blocks().iter().any(is_tool_block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Redactor;

    fn call(id: &str) -> ContentBlock {
        let (name, arguments) = ("read".to_owned(), json!({ "path": "a" }));
        ContentBlock::ToolCall { id: id.to_owned(), name, arguments }
    }

    #[test]
    fn a_replayed_reply_has_the_key_of_the_recorded_one() {
        let opaque = ContentBlock::Opaque { dialect: "anthropic".to_owned(), data: json!({ "signature": "s" }) };
        let reply = Content::from(vec![opaque, ContentBlock::text("I read it."), call("toolu_1"), call("toolu_2")]);
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        let calls = replied_calls(&reply, &RecordingContext { redactor: &redactor, paths: &paths });
        let replayed = replied_content(reply.text().into_owned(), &calls, &paths);
        assert_eq!(key_content(&replayed, &str::to_owned), key_content(&reply, &str::to_owned));
        assert_eq!(content_text(&replayed), content_text(&reply));
        let ids: Vec<&str> = replayed
            .blocks()
            .iter()
            .filter_map(|block| if let ContentBlock::ToolCall { id, .. } = block { Some(id.as_str()) } else { None })
            .collect();
        assert_eq!(ids, ["replayed_1", "replayed_2"]);
        assert_eq!(replied_content("text".to_owned(), &[], &paths), Content::from_text("text"));
        assert_eq!(key_content(&Content::from_text("text"), &str::to_owned), json!("text"));
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
