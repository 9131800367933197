//! Reads the content blocks of a message. The events of a stream name the block by its `index`; some servers leave the
//! index out, and then complete each block before the next one.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::model::surrogates::{with_escapes, without_halves};
use crate::provider::Dialect;
use crate::provider::assembler::{ReplySink, index_in, text_in};
use crate::provider::reply_builder::ReplyBuilder;
use crate::provider::stop_reasons;
use crate::provider::stream::EventKind;

/// The result for a piece of a block that has not started or has ended.
const NOT_OPEN: EventKind = EventKind::Inconsistent("sent a piece of a content block that is not open");
/// The result for the start of a block that has started and not ended.
const ALREADY_OPEN: EventKind = EventKind::Inconsistent("started a content block again before it had ended");
/// The result for text of a block after text of a later one.
const OUT_OF_ORDER: EventKind = EventKind::Inconsistent("sent text of a content block after text of a later block");
/// The result for arguments in a block that is no call.
const NO_CALL: EventKind = EventKind::Inconsistent("sent arguments in a content block that is no tool call");

/// The content blocks so far.
#[derive(Default)]
pub(super) struct ContentBlocks {
    /// The blocks that have not ended, by their index. At most one has none.
    open: HashMap<Option<u64>, OpenBlock>,
    /// The index of the block that started last.
    latest: Option<u64>,
    /// The number of all blocks so far.
    started: usize,
    /// The index of the block with the latest text.
    text_index: Option<u64>,
}

/// A block that has not ended.
struct OpenBlock {
    /// The key of the block in the reply.
    key: String,
    content: OpenContent,
}

/// The content of a block that has not ended.
enum OpenContent {
    Text,
    Thinking {
        text: String,
        signature: String,
    },
    /// A call of a tool that the client runs.
    Call,
    /// A block of a tool that the provider itself runs, and the text of its input so far.
    ServerTool {
        block: Value,
        input: String,
    },
    /// Content of another kind.
    Other,
}

/// Whether a block of this kind belongs to a tool that the provider itself runs: its call or its result.
fn is_server_tool(kind: &str) -> bool {
    matches!(kind, "server_tool_use" | "mcp_tool_use") || kind.ends_with("_tool_result")
}

/// The index of the block that an event is about.
fn block_index(event: &Value) -> Option<u64> {
    index_in(event, "index")
}

impl ContentBlocks {
    /// Whether no block has started.
    pub(super) fn is_empty(&self) -> bool {
        self.started == 0
    }

    /// Reads the start of a block; `event` names its index.
    pub(super) fn start(
        &mut self,
        event: &Value,
        block: &Value,
        builder: &mut ReplyBuilder,
        sink: ReplySink<'_>,
    ) -> EventKind {
        let index = block_index(event);
        if index.is_some() && self.open.contains_key(&index) {
            return ALREADY_OPEN;
        }
        if let Some(earlier) = self.open.remove(&index) {
            earlier.finish(builder);
        }
        builder.check_part_type(block);
        let key = self.started.to_string();
        self.started += 1;
        let kind = text_in(block, "type").unwrap_or_default();
        let content = match (kind, text_in(block, "name")) {
            ("tool_use", Some(name)) => {
                builder.start_call(&key, text_in(block, "id"), name);
                set_input(block, &key, builder);
                OpenContent::Call
            }
            ("tool_use", None) => {
                builder.contradictions.record_nameless_call("");
                OpenContent::Other
            }
            ("thinking", _) => {
                builder.blocks.reserve(&key);
                OpenContent::Thinking { text: String::new(), signature: String::new() }
            }
            ("redacted_thinking", _) => {
                builder.record_hidden_reasoning();
                if block.get("data").is_some_and(Value::is_string) {
                    builder.blocks.push_opaque(Dialect::Anthropic, block.clone());
                }
                OpenContent::Other
            }
            (kind, name) if is_server_tool(kind) => {
                builder.blocks.reserve(&key);
                match name.filter(|_| kind.ends_with("tool_use")) {
                    Some(name) => builder.record_tool_call(name),
                    None => builder.record_other_content(kind),
                }
                OpenContent::ServerTool { block: block.clone(), input: String::new() }
            }
            ("" | "text", _) => OpenContent::Text,
            (kind, _) => {
                if !kind.ends_with("tool_use") {
                    builder.record_other_content(kind);
                }
                OpenContent::Other
            }
        };
        let is_whole_part = matches!(content, OpenContent::Call | OpenContent::ServerTool { .. } | OpenContent::Other);
        self.open.insert(index, OpenBlock { key, content });
        self.latest = index;
        builder.stop.record_chunk(stop_reasons::ANTHROPIC, None, is_whole_part);
        self.read_piece(index, block, builder, sink)
    }

    /// Reads a piece of a block; `event` names the index of the block.
    pub(super) fn read_delta(
        &mut self,
        event: &Value,
        delta: &Value,
        builder: &mut ReplyBuilder,
        sink: ReplySink<'_>,
    ) -> EventKind {
        let index = block_index(event);
        if index.is_some() && !self.open.contains_key(&index) {
            return NOT_OPEN;
        }
        builder.check_part_type(delta);
        self.read_piece(index.or(self.latest), delta, builder, sink)
    }

    /// Reads the texts in the start of the block with an index, or in a piece of it. If the block is not open, reads only
    /// text.
    fn read_piece(
        &mut self,
        index: Option<u64>,
        piece: &Value,
        builder: &mut ReplyBuilder,
        sink: ReplySink<'_>,
    ) -> EventKind {
        let mut open = self.open.get_mut(&index);
        builder.check_text_type(piece.get("text"));
        builder.check_arguments_piece(piece.get("partial_json"));
        let text = text_in(piece, "text");
        if text.is_some() && index.is_some() && open.is_some() {
            if index < self.text_index {
                return OUT_OF_ORDER;
            }
            self.text_index = index;
        }
        let (thought, signature) = (text_in(piece, "thinking"), text_in(piece, "signature"));
        let open_content = open.as_mut().map(|open| &mut open.content);
        if let Some(OpenContent::Thinking { text: whole_text, signature: whole_signature }) = open_content {
            whole_text.push_str(thought.unwrap_or_default());
            whole_signature.push_str(signature.unwrap_or_default());
        }
        builder.push_reasoning(thought.unwrap_or_default(), sink);
        builder.push_text(text.unwrap_or_default(), sink);
        let arguments = text_in(piece, "partial_json");
        let has_content = [text, thought, arguments].iter().any(Option::is_some);
        builder.stop.record_chunk(stop_reasons::ANTHROPIC, None, has_content);
        let Some(arguments) = arguments else { return EventKind::Part };
        match open.map(|open| (&mut open.content, &open.key)) {
            Some((OpenContent::Call, key)) => builder.push_arguments(key, arguments),
            Some((OpenContent::ServerTool { input, .. }, _)) => input.push_str(&with_escapes(arguments)),
            Some((OpenContent::Other, _)) => {}
            Some((OpenContent::Text | OpenContent::Thinking { .. }, _)) | None => return NO_CALL,
        }
        EventKind::Part
    }

    /// Ends the block that an event names, or the latest one.
    pub(super) fn finish(&mut self, event: &Value, builder: &mut ReplyBuilder) {
        if let Some(block) = self.open.remove(&block_index(event).or(self.latest)) {
            block.finish(builder);
        }
    }

    /// Ends all blocks.
    pub(super) fn finish_all(&mut self, builder: &mut ReplyBuilder) {
        self.open.drain().for_each(|(_, block)| block.finish(builder));
    }
}

/// Sets the arguments of a call from the start of its block. In a stream, they are empty there. Some servers send them
/// as a text.
fn set_input(block: &Value, key: &str, builder: &mut ReplyBuilder) {
    let input = block.get("input");
    builder.check_arguments_type(input);
    let is_filled = |input: &&Value| {
        input.as_object().is_some_and(|input| !input.is_empty())
            || input.as_str().is_some_and(|input| !input.is_empty())
    };
    if let Some(input) = input.filter(is_filled) {
        builder.set_arguments(key, input);
    }
}

impl OpenBlock {
    /// Ends the block. orch sends reasoning back to the API only if it has a signature.
    fn finish(self, builder: &mut ReplyBuilder) {
        match self.content {
            OpenContent::Thinking { text, signature } if !signature.is_empty() => {
                let text = without_halves(&text);
                let block = json!({"type": "thinking", "thinking": text, "signature": signature});
                builder.blocks.fill_opaque(&self.key, Dialect::Anthropic, block);
            }
            OpenContent::ServerTool { mut block, input } => {
                if let (Some(block), Ok(input)) = (block.as_object_mut(), serde_json::from_str(&input)) {
                    block.insert("input".to_owned(), input);
                }
                builder.blocks.fill_server_tool(&self.key, Dialect::Anthropic, block);
            }
            OpenContent::Text | OpenContent::Thinking { .. } | OpenContent::Call | OpenContent::Other => {}
        }
    }
}
