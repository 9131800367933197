//! A reply under construction: the state that every dialect collects in the same way.

use serde_json::Value;

use super::assembler::ReplySink;
use super::stop_reasons::StopReasonTracker;
use super::usage::{UsageFields, UsageMeter};
use super::{Dialect, StreamEvent};
use crate::model::chat::{ChatReply, ReplyDetails, StopReason};
use crate::model::content::{Content, ContentBlock};

/// The maximum number of tools, and of kinds of content, in the description of a reply without text.
const MAX_LISTED: usize = 5;

/// A reply under construction.
#[derive(Default)]
pub(super) struct ReplyBuilder {
    blocks: Vec<PartialBlock>,
    pub(super) stop: StopReasonTracker,
    pub(super) usage: UsageMeter,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    /// Whether the request asked the API to constrain the reply to the schema.
    pub(super) constrained: bool,
    /// The names of the tools that the model called.
    tools: Vec<String>,
    /// The length of the reasoning so far, in characters.
    reasoning_chars: usize,
    /// Whether the server reported reasoning without showing it.
    hidden_reasoning: bool,
    /// The kinds of content other than text that arrived.
    other_kinds: Vec<String>,
    /// The JSON types other than a string that a text had.
    wrong_types: Vec<&'static str>,
}

/// A block of the reply so far.
enum PartialBlock {
    Text(String),
    Opaque(Dialect, Value),
    /// The position of opaque data that may still arrive, with the key of its item.
    Reserved(String),
    Call(PartialCall),
}

/// A tool call, whose arguments may be incomplete.
struct PartialCall {
    /// The key with which the stream refers to the call, such as its index.
    key: String,
    id: Option<String>,
    name: String,
    arguments: Arguments,
}

/// The arguments of a tool call, as a server sends them.
enum Arguments {
    /// Text that is JSON once it is complete.
    Text(String),
    /// A value.
    Value(Value),
}

impl Arguments {
    /// The arguments as a value: an object if there are none, and the text itself if it is not JSON.
    fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Text(text) if text.trim().is_empty() => Value::Object(serde_json::Map::new()),
            Self::Text(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }
}

impl ReplyBuilder {
    /// An empty reply; `constrained` is true if the request asked the API to constrain the reply.
    pub(super) fn new(constrained: bool) -> Self {
        Self { constrained, ..Self::default() }
    }

    /// Whether nothing has arrived yet: no text, no reasoning, no tool call and no other content.
    pub(super) fn is_empty(&self) -> bool {
        let has_reasoning = self.reasoning_chars > 0 || self.hidden_reasoning;
        let has_other_content = !self.other_kinds.is_empty() || !self.wrong_types.is_empty();
        !self.has_text() && !has_reasoning && self.tools.is_empty() && !has_other_content
    }

    /// Whether there is text other than white space.
    fn has_text(&self) -> bool {
        self.texts().any(|text| !text.trim().is_empty())
    }

    /// The length of the text so far, in bytes.
    pub(super) fn text_len(&self) -> usize {
        self.texts().map(str::len).sum()
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().filter_map(|block| match block {
            PartialBlock::Text(text) => Some(text.as_str()),
            PartialBlock::Opaque(..) | PartialBlock::Reserved(_) | PartialBlock::Call(_) => None,
        })
    }

    /// Appends a piece of text and passes it to the sink.
    pub(super) fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        if text.is_empty() {
            return;
        }
        self.usage.mark_out_of_date();
        match self.blocks.last_mut() {
            Some(PartialBlock::Text(last)) => last.push_str(text),
            _ => self.blocks.push(PartialBlock::Text(text.to_owned())),
        }
        sink(StreamEvent::Text(text.to_owned()));
    }

    /// Appends a piece of text as a separate block, for opaque data that belongs to exactly this text.
    pub(super) fn push_separate_text(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.blocks.push(PartialBlock::Text(String::new()));
            self.push_text(text, sink);
        }
    }

    /// Appends data that orch must send back to the provider unchanged.
    pub(super) fn push_opaque(&mut self, dialect: Dialect, data: Value) {
        self.blocks.push(PartialBlock::Opaque(dialect, data));
    }

    /// Inserts data that orch must send back to the provider unchanged before all other blocks.
    pub(super) fn prepend_opaque(&mut self, dialect: Dialect, data: Value) {
        self.blocks.insert(0, PartialBlock::Opaque(dialect, data));
    }

    /// Reserves the current position for opaque data that arrives later, under a key.
    pub(super) fn reserve_opaque(&mut self, key: &str) {
        self.blocks.push(PartialBlock::Reserved(key.to_owned()));
    }

    /// Puts opaque data at the position that is reserved under a key; returns false if there is none.
    pub(super) fn fill_reserved(&mut self, key: &str, dialect: Dialect, data: Value) -> bool {
        let has_key = |block: &&mut PartialBlock| matches!(block, PartialBlock::Reserved(reserved) if reserved == key);
        let reserved_block = self.blocks.iter_mut().find(has_key);
        let is_found = reserved_block.is_some();
        if let Some(block) = reserved_block {
            *block = PartialBlock::Opaque(dialect, data);
        }
        is_found
    }

    /// Counts a piece of reasoning, which is not part of the text, and passes it to the sink.
    pub(super) fn push_reasoning(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.mark_out_of_date();
            self.reasoning_chars = self.reasoning_chars.saturating_add(text.chars().count());
            sink(StreamEvent::Reasoning(text.to_owned()));
        }
    }

    /// Records that the model called a tool that the provider itself runs.
    pub(super) fn record_tool_call(&mut self, name: &str) {
        self.usage.mark_out_of_date();
        if !self.tools.iter().any(|listed| listed == name) {
            self.tools.push(name.to_owned());
        }
    }

    /// Starts a tool call; later pieces of its arguments have the same key.
    pub(super) fn start_call(&mut self, key: &str, id: Option<&str>, name: &str) {
        self.record_tool_call(name);
        self.blocks.push(PartialBlock::Call(PartialCall {
            key: key.to_owned(),
            id: id.filter(|id| !id.is_empty()).map(str::to_owned),
            name: name.to_owned(),
            arguments: Arguments::Text(String::new()),
        }));
    }

    /// Appends a piece of the arguments to the latest call with this key.
    pub(super) fn push_arguments(&mut self, key: &str, piece: &str) {
        self.usage.mark_out_of_date();
        if let Some(PartialCall { arguments: Arguments::Text(text), .. }) = self.call_mut(key) {
            text.push_str(piece);
        }
    }

    /// Sets the complete arguments of the latest call with this key.
    pub(super) fn set_arguments(&mut self, key: &str, value: &Value) {
        if let Some(call) = self.call_mut(key) {
            call.arguments = match value {
                Value::String(text) => Arguments::Text(text.clone()),
                value => Arguments::Value(value.clone()),
            };
        }
    }

    fn call_mut(&mut self, key: &str) -> Option<&mut PartialCall> {
        self.blocks.iter_mut().rev().find_map(|block| match block {
            PartialBlock::Call(call) if call.key == key => Some(call),
            _ => None,
        })
    }

    /// Records reasoning that the server does not show.
    pub(super) fn record_hidden_reasoning(&mut self) {
        self.usage.mark_out_of_date();
        self.hidden_reasoning = true;
    }

    /// Records content of a kind other than text.
    pub(super) fn record_other_content(&mut self, kind: &str) {
        self.usage.mark_out_of_date();
        if self.other_kinds.len() < MAX_LISTED && !self.other_kinds.iter().any(|listed| listed == kind) {
            self.other_kinds.push(kind.to_owned());
        }
    }

    /// Records the type of a field that must contain a text, unless it is a string or is missing.
    pub(super) fn check_text_type(&mut self, text: Option<&Value>) {
        let json_type = match text {
            None | Some(Value::Null | Value::String(_)) => return,
            Some(Value::Bool(_)) => "a boolean",
            Some(Value::Number(_)) => "a number",
            Some(Value::Array(_)) => "a list",
            Some(Value::Object(_)) => "an object",
        };
        self.usage.mark_out_of_date();
        if !self.wrong_types.contains(&json_type) {
            self.wrong_types.push(json_type);
        }
    }

    /// Finishes the reply; `fields` are the usage fields of the dialect.
    pub(super) fn into_reply(self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.complete_usage(fields);
        let has_text = self.has_text();
        let instead = if has_text { None } else { self.describe_content(usage.reasoning) };
        let details = Box::new(ReplyDetails {
            unknown_stop: self.stop.unknown_reason().map(str::to_owned),
            instead,
            beside: None,
            refusal: self.stop.refusal_reason().map(str::to_owned),
            exceeded_context_window: self.stop.exceeds_context_window(),
        });
        let stop = match self.stop.reason() {
            // Some servers report `stop` for a tool call, instead of the stop reason for tools.
            StopReason::End if !has_text && !self.tools.is_empty() => StopReason::ToolUse,
            stop => stop,
        };
        ChatReply {
            content: finish_blocks(self.blocks),
            stop,
            usage,
            model: self.model,
            id: self.id,
            constrained: self.constrained,
            details,
        }
    }

    /// Describes the content that arrived instead of text; `reasoning_tokens` is the reported number.
    fn describe_content(&self, reasoning_tokens: u64) -> Option<String> {
        let names: Vec<String> = self.tools.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
        let calls = match names.as_slice() {
            [] => None,
            [name] => Some(format!("a call of the tool {name}")),
            names => Some(format!("calls of the tools {}", names.join(", "))),
        };
        let reasoning = match (self.reasoning_chars, reasoning_tokens) {
            (0, 0) => self.hidden_reasoning.then(|| "reasoning (not shown)".to_owned()),
            (0, tokens) => Some(format!("reasoning ({tokens} tokens, not shown)")),
            (characters, _) => Some(format!("reasoning ({characters} characters)")),
        };
        let kinds: Vec<String> = self.other_kinds.iter().map(|kind| format!("`{kind}`")).collect();
        let other_content = (!kinds.is_empty()).then(|| format!("content of the kind {}", kinds.join(", ")));
        let wrong_types = self.wrong_types.join(" and ");
        let wrong_type = (!wrong_types.is_empty()).then(|| format!("{wrong_types} in the place of the text"));
        let parts: Vec<String> = [reasoning, calls, other_content, wrong_type].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}

/// The blocks of a complete reply. A call to which the server gave no id receives one that is derived from its
/// position.
fn finish_blocks(blocks: Vec<PartialBlock>) -> Content {
    let mut call_count = 0_usize;
    let finished: Vec<ContentBlock> = blocks
        .into_iter()
        .filter_map(|block| match block {
            PartialBlock::Text(text) => Some(ContentBlock::Text { text }),
            PartialBlock::Opaque(dialect, data) => {
                Some(ContentBlock::Opaque { dialect: dialect.as_str().to_owned(), data })
            }
            PartialBlock::Reserved(_) => None,
            PartialBlock::Call(call) => {
                call_count += 1;
                let id = call.id.unwrap_or_else(|| format!("call_{call_count}"));
                Some(ContentBlock::ToolCall { id, name: call.name, arguments: call.arguments.into_value() })
            }
        })
        .collect();
    Content::from(finished)
}
