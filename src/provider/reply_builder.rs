//! A reply under construction: the state that every dialect collects in the same way.

use serde_json::Value;

use super::assembler::ReplySink;
use super::reply_calls::{CallNaming, PartialCall};
use super::stop_reasons::StopReasonTracker;
use super::surrogates::{HalfJoiner, without_halves};
use super::usage::{UsageFields, UsageMeter};
use super::{Dialect, StreamEvent};
use crate::model::chat::{ChatReply, ChatRequest, ReplyDetails, StopReason};
use crate::model::content::{Content, ContentBlock};
use crate::model::counted;

/// The maximum number of tools, and of kinds of content, in the description of a reply without text.
const MAX_LISTED: usize = 5;
/// The maximum length of what a provider says about a call that it could not read, in characters.
const MAX_STOP_MESSAGE_CHARS: usize = 1000;

/// A reply under construction.
#[derive(Default)]
pub(super) struct ReplyBuilder {
    blocks: Vec<PartialBlock>,
    /// Joins the halves of surrogate pairs in the text.
    halves: HalfJoiner,
    pub(super) stop: StopReasonTracker,
    pub(super) usage: UsageMeter,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    /// Whether the request asked the API to constrain the reply to the schema.
    pub(super) constrained: bool,
    /// What the server says about the end of the reply.
    pub(super) stop_message: Option<String>,
    /// Whether the model refused in content of its own kind.
    pub(super) has_refusal: bool,
    /// What the request determines about calls.
    naming: CallNaming,
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
    /// A block of a tool that the provider itself runs. The provider needs it only to continue a turn that it paused.
    ServerTool(Dialect, Value),
    Call(PartialCall),
}

impl ReplyBuilder {
    /// An empty reply to a request; `constrained` is true if the request asked the API to constrain the reply.
    pub(super) fn for_request(request: &ChatRequest, constrained: bool) -> Self {
        Self { constrained, naming: CallNaming::of_request(request), ..Self::default() }
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
            PartialBlock::Opaque(..)
            | PartialBlock::Reserved(_)
            | PartialBlock::ServerTool(..)
            | PartialBlock::Call(_) => None,
        })
    }

    /// Appends a piece of text and passes it to the sink.
    pub(super) fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        let text = self.halves.push(text);
        if text.is_empty() {
            return;
        }
        self.usage.mark_out_of_date();
        match self.blocks.last_mut() {
            Some(PartialBlock::Text(last)) => last.push_str(&text),
            _ => self.blocks.push(PartialBlock::Text(text.clone().into_owned())),
        }
        sink(StreamEvent::Text(text.into_owned()));
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

    /// Appends a block of a tool that the provider itself runs.
    pub(super) fn push_server_tool(&mut self, dialect: Dialect, data: Value) {
        self.blocks.push(PartialBlock::ServerTool(dialect, data));
    }

    /// Counts a piece of reasoning, which is not part of the text, and passes it to the sink.
    pub(super) fn push_reasoning(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.mark_out_of_date();
            self.reasoning_chars = self.reasoning_chars.saturating_add(text.chars().count());
            sink(StreamEvent::Reasoning(without_halves(text).into_owned()));
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
        self.blocks.push(PartialBlock::Call(PartialCall::new(key, id, name)));
    }

    /// Appends a piece of the arguments to the latest call with this key.
    pub(super) fn push_arguments(&mut self, key: &str, piece: &str) {
        self.usage.mark_out_of_date();
        if let Some(call) = self.call_mut(key) {
            call.push_arguments(piece);
        }
    }

    /// Sets the complete arguments of the latest call with this key.
    pub(super) fn set_arguments(&mut self, key: &str, value: &Value) {
        if let Some(call) = self.call_mut(key) {
            call.set_arguments(value);
        }
    }

    /// Whether these are the arguments so far of the latest call with this key.
    pub(super) fn has_arguments(&self, key: &str, value: &Value) -> bool {
        self.calls().rfind(|call| call.key == key).is_some_and(|call| call.has_arguments(value))
    }

    fn calls(&self) -> impl DoubleEndedIterator<Item = &PartialCall> {
        self.blocks.iter().filter_map(|block| match block {
            PartialBlock::Call(call) => Some(call),
            PartialBlock::Text(_)
            | PartialBlock::Opaque(..)
            | PartialBlock::Reserved(_)
            | PartialBlock::ServerTool(..) => None,
        })
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
    pub(super) fn into_reply(mut self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.complete_usage(fields);
        let fate = self.call_fate();
        let details = self.details(fate, usage.reasoning);
        let stop = match (fate, self.stop.reason()) {
            (CallFate::Run, _) => StopReason::ToolUse,
            (CallFate::Missing, _) => StopReason::Unknown,
            // Some servers report `stop` for a tool call, instead of the stop reason for tools.
            (CallFate::NotOffered, StopReason::End) if !self.has_text() && !self.tools.is_empty() => {
                StopReason::ToolUse
            }
            (CallFate::NotOffered | CallFate::None | CallFate::Omit, stop) => stop,
        };
        let is_paused = details.paused;
        ChatReply {
            content: finish_blocks(std::mem::take(&mut self.blocks), &mut self.naming, fate, is_paused),
            stop,
            usage,
            model: self.model,
            id: self.id,
            constrained: self.constrained,
            details: Box::new(details),
        }
    }

    /// What becomes of the calls of the reply.
    fn call_fate(&self) -> CallFate {
        if !self.naming.offers_tools() {
            CallFate::NotOffered
        } else if self.calls().next().is_none() {
            let is_missing = self.stop.reason() == StopReason::ToolUse;
            if is_missing { CallFate::Missing } else { CallFate::None }
        } else if !self.has_refusal && self.stop.completes_calls() {
            CallFate::Run
        } else {
            CallFate::Omit
        }
    }

    fn details(&self, fate: CallFate, reasoning_tokens: u64) -> ReplyDetails {
        let describes_content = !self.has_text() && fate != CallFate::Run;
        let unknown_stop =
            if fate == CallFate::Missing { self.stop.decisive_text() } else { self.stop.unknown_reason() };
        let has_malformed_call = self.naming.offers_tools() && self.stop.has_malformed_call();
        let stop_message = self.stop_message.as_deref().or(self.stop.decisive_text());
        let mut omitted_calls = Vec::new();
        for name in self.calls().filter(|_| fate == CallFate::Omit).map(|call| call.tool_name(&self.naming)) {
            if !omitted_calls.contains(&name) {
                omitted_calls.push(name);
            }
        }
        ReplyDetails {
            unknown_stop: unknown_stop.map(str::to_owned),
            instead: if describes_content { self.describe_content(reasoning_tokens) } else { None },
            beside: None,
            refusal: self.stop.refusal_reason().map(str::to_owned),
            exceeded_context_window: self.stop.exceeds_context_window(),
            omitted_calls,
            malformed_call: stop_message
                .filter(|_| has_malformed_call)
                .map(|message| message.chars().take(MAX_STOP_MESSAGE_CHARS).collect()),
            // The provider can't continue a turn whose calls have no results.
            paused: self.stop.is_paused() && self.calls().next().is_none(),
            half_surrogate: self.halves.has_lone_half(),
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
            (0, tokens) => Some(format!("reasoning ({}, not shown)", counted(tokens, "token"))),
            (characters, _) => Some(format!("reasoning ({})", counted(characters, "character"))),
        };
        let kinds: Vec<String> = self.other_kinds.iter().map(|kind| format!("`{kind}`")).collect();
        let other_content = (!kinds.is_empty()).then(|| format!("content of the kind {}", kinds.join(", ")));
        let wrong_types = self.wrong_types.join(" and ");
        let wrong_type = (!wrong_types.is_empty()).then(|| format!("{wrong_types} in the place of the text"));
        let parts: Vec<String> = [reasoning, calls, other_content, wrong_type].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}

/// What becomes of the calls of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallFate {
    /// The request offers no tools, so calls are a mistake of the model.
    NotOffered,
    /// The reply has no calls.
    None,
    /// The calls are complete.
    Run,
    /// The reply is incomplete, so orch removes its calls: the last one may be cut off, and the model may have intended
    /// more of them.
    Omit,
    /// The server reports calls, and the reply has none.
    Missing,
}

/// The blocks of a finished reply.
fn finish_blocks(blocks: Vec<PartialBlock>, naming: &mut CallNaming, fate: CallFate, is_paused: bool) -> Content {
    let opaque_block = |dialect: Dialect, data| ContentBlock::Opaque { dialect: dialect.as_str().to_owned(), data };
    // Signatures and reasoning belong to the calls, and a provider refuses them without the calls.
    let keeps_opaque = fate != CallFate::Omit;
    let finished: Vec<ContentBlock> = blocks
        .into_iter()
        .filter_map(|block| match block {
            PartialBlock::Text(text) => (!text.is_empty()).then_some(ContentBlock::Text { text }),
            PartialBlock::Opaque(dialect, data) => keeps_opaque.then(|| opaque_block(dialect, data)),
            PartialBlock::Reserved(_) => None,
            PartialBlock::ServerTool(dialect, data) => is_paused.then(|| opaque_block(dialect, data)),
            PartialBlock::Call(call) => (fate != CallFate::Omit).then(|| call.into_block(naming)),
        })
        .collect();
    Content::from(finished)
}
