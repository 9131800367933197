//! A reply under construction: the state that every dialect collects in the same way.

use serde_json::Value;

use super::StreamEvent;
use super::assembler::{ReplySink, is_blank};
use super::contradictions::Contradictions;
use super::reply_blocks::{KeptBlocks, ReplyBlocks};
use super::reply_calls::{CallNaming, PartialCall};
use super::stop_reasons::StopReasonTracker;
use super::usage::{UsageFields, UsageMeter};
use crate::model::chat::{ChatReply, ChatRequest, ReplyDetails, StopReason};
use crate::model::counted;
use crate::model::surrogates::{HalfJoiner, without_halves};
use crate::model::usage::ReportedUsage;
use crate::model::visible::escape_line_breaks;

/// The maximum number of tools, and of kinds of content, in the description of a reply without text.
const MAX_LISTED: usize = 5;
/// The maximum length of what a provider says about a call that it could not read, in characters.
const MAX_STOP_MESSAGE_CHARS: usize = 1000;

/// A reply under construction.
#[derive(Default)]
pub(super) struct ReplyBuilder {
    pub(super) blocks: ReplyBlocks,
    /// Joins the halves of surrogate pairs in the text.
    halves: HalfJoiner,
    /// The length of all texts, in bytes.
    text_len: usize,
    /// Whether there is text other than white space.
    has_text: bool,
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
    /// The names of tools that the model called, at most [`MAX_LISTED`].
    tools: Vec<String>,
    /// The length of the reasoning so far, in characters.
    reasoning_chars: usize,
    /// Whether the server reported reasoning without showing it.
    hidden_reasoning: bool,
    /// The kinds of content other than text that arrived.
    other_kinds: Vec<String>,
    /// What arrived in the place of pieces of the text, such as a number.
    text_gaps: Vec<&'static str>,
    /// What arrived in the place of pieces of a call's arguments.
    argument_gaps: Vec<&'static str>,
    /// What is wrong with the reply, apart from these gaps.
    pub(super) contradictions: Contradictions,
}

/// The name of a value's JSON type, for messages.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "`null`",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl ReplyBuilder {
    /// An empty reply to a request; `constrained` is true if the request asked the API to constrain the reply.
    pub(super) fn for_request(request: &ChatRequest, constrained: bool) -> Self {
        Self { constrained, naming: CallNaming::of_request(request), ..Self::default() }
    }

    /// Whether nothing has arrived yet: no text, no reasoning, no tool call and no other content.
    pub(super) fn is_empty(&self) -> bool {
        let has_reasoning = self.reasoning_chars > 0 || self.hidden_reasoning;
        let has_other_content = !self.other_kinds.is_empty() || !self.text_gaps.is_empty();
        !self.has_text && !has_reasoning && self.tools.is_empty() && !has_other_content
    }

    /// Whether the reply has too many blocks, so that it is incomplete.
    pub(super) fn has_too_many_blocks(&self) -> bool {
        self.blocks.has_too_many()
    }

    /// The text so far.
    pub(super) fn text(&self) -> String {
        self.blocks.texts().collect()
    }

    /// The length of the text so far, in bytes.
    pub(super) fn text_len(&self) -> usize {
        self.text_len
    }

    /// Appends a piece of text and passes it to the sink.
    pub(super) fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        let text = self.halves.push(text);
        if !text.is_empty() {
            self.usage.mark_out_of_date();
            self.text_len += text.len();
            self.has_text |= !text.trim().is_empty();
            self.blocks.push_text(&text);
            sink(StreamEvent::Text(text.into_owned()));
        }
    }

    /// Appends a piece of text as a separate block, for opaque data that belongs to exactly this text.
    pub(super) fn push_separate_text(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.blocks.start_text();
            self.push_text(text, sink);
        }
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
        if self.tools.len() < MAX_LISTED && !self.tools.iter().any(|listed| listed == name) {
            self.tools.push(name.to_owned());
        }
    }

    /// Starts a tool call; later pieces of its arguments have the same key.
    pub(super) fn start_call(&mut self, key: &str, id: Option<&str>, name: &str) {
        self.record_tool_call(name);
        self.blocks.push_call(PartialCall::new(key, id, name));
    }

    /// Appends a piece of the arguments to the latest call with this key.
    pub(super) fn push_arguments(&mut self, key: &str, piece: &str) {
        self.usage.mark_out_of_date();
        if let Some(call) = self.blocks.call_mut(key) {
            call.push_arguments(piece);
        }
    }

    /// Sets the complete arguments of the latest call with this key.
    pub(super) fn set_arguments(&mut self, key: &str, value: &Value) {
        if let Some(call) = self.blocks.call_mut(key) {
            call.set_arguments(value);
        }
    }

    /// The latest call with this key.
    pub(super) fn call(&self, key: &str) -> Option<&PartialCall> {
        self.blocks.calls().rfind(|call| call.key == key)
    }

    /// Whether these are the arguments so far of the latest call with this key.
    pub(super) fn has_arguments(&self, key: &str, value: &Value) -> bool {
        self.call(key).is_some_and(|call| call.has_arguments(value))
    }

    /// Whether there is a call.
    pub(super) fn has_calls(&self) -> bool {
        self.blocks.calls().next().is_some()
    }

    /// Whether another reply has the same calls with the same arguments.
    pub(super) fn has_same_calls(&self, other: &Self) -> bool {
        let (mut own, mut others) = (self.blocks.calls(), other.blocks.calls());
        loop {
            match (own.next(), others.next()) {
                (Some(call), Some(other)) if call.is_same_call(other) => {}
                (None, None) => return true,
                _ => return false,
            }
        }
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

    /// Checks a field that must contain a piece of the text. Any value but a string is a gap in the text.
    pub(super) fn check_text_type(&mut self, text: Option<&Value>) {
        if let Some(value) = text.filter(|value| !value.is_string()) {
            self.record_text_gap(value);
        }
    }

    /// Checks a part of the content, which must be an object. Any other value is a gap in the text.
    pub(super) fn check_part_type(&mut self, part: &Value) {
        if !part.is_object() {
            self.record_text_gap(part);
        }
    }

    /// Records a value in the place of a piece of the text, unless the value is empty.
    pub(super) fn record_text_gap(&mut self, value: &Value) {
        if !is_blank(value) {
            self.record_named_text_gap(json_type(value));
        }
    }

    /// Records something in the place of a piece of the text, by its name for messages.
    pub(super) fn record_named_text_gap(&mut self, name: &'static str) {
        self.usage.mark_out_of_date();
        if !self.text_gaps.contains(&name) {
            self.text_gaps.push(name);
        }
    }

    /// Whether a piece of the text is missing.
    pub(super) fn has_text_gap(&self) -> bool {
        !self.text_gaps.is_empty()
    }

    /// Checks a field that must contain arguments: a string or an object. Any other value is a gap in the arguments,
    /// unless the field is missing. Some servers write no arguments as an empty list.
    pub(super) fn check_arguments_type(&mut self, arguments: Option<&Value>) {
        let is_empty_list = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        self.check_arguments_piece(arguments.filter(|value| !value.is_object() && !is_empty_list(value)));
    }

    /// Checks a field that must contain a piece of arguments. Any value but a string is a gap in the arguments, unless
    /// the field is missing.
    pub(super) fn check_arguments_piece(&mut self, piece: Option<&Value>) {
        if let Some(name) = piece.filter(|value| !value.is_null() && !value.is_string()).map(json_type)
            && !self.argument_gaps.contains(&name)
        {
            self.argument_gaps.push(name);
        }
    }

    /// What shows that the text or the calls of the reply are not as the model wrote them; follows the provider's name
    /// in a message. A reply without text has [`ReplyDetails::instead`] for this.
    pub(super) fn inconsistency(&self) -> Option<String> {
        if let Some(problem) = self.contradictions.problem() {
            return Some(problem.to_owned());
        }
        if self.stop.has_content_after_reason() {
            return Some("sent more content after the stop reason, which may belong to another reply".to_owned());
        }
        let may_run_calls = self.naming.offers_tools() && !self.has_refusal && self.stop.completes_calls();
        if may_run_calls && self.contradictions.has_nameless_call() {
            return Some("sent a tool call without the name of its tool, so the calls are incomplete".to_owned());
        }
        let runs_calls = self.call_fate() == CallFate::Run;
        if self.has_text_gap() && (self.has_text || runs_calls) {
            let gaps = self.text_gaps.join(" and ");
            return Some(format!("sent {gaps} in the place of a piece of the text, so the reply is incomplete"));
        }
        if !runs_calls {
            return None;
        }
        if !self.argument_gaps.is_empty() {
            let gaps = self.argument_gaps.join(" and ");
            return Some(format!("sent {gaps} in the place of arguments of a tool call, so the call is incomplete"));
        }
        let call = self.blocks.calls().find(|call| call.is_contradictory())?;
        Some(format!("sent two versions of the arguments of a call of `{}`", call.tool_name(&self.naming)))
    }

    /// Finishes the reply; `fields` are the usage fields of the dialect.
    pub(super) fn into_reply(mut self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.complete_usage(fields);
        // Whatever a model generates, such as reasoning alone, has tokens.
        let output = usage.output.filter(|count| *count > 0 || self.is_empty());
        let usage = ReportedUsage { output, ..usage };
        let fate = self.call_fate();
        let details = self.details(fate, usage.reasoning);
        let stop = match (fate, self.stop.reason()) {
            (CallFate::Run, _) => StopReason::ToolUse,
            (CallFate::Missing, _) => StopReason::Unknown,
            // Some servers report `stop` for a tool call, instead of the stop reason for tools.
            (CallFate::NotOffered, StopReason::End) if !self.has_text && !self.tools.is_empty() => StopReason::ToolUse,
            (CallFate::NotOffered | CallFate::None | CallFate::Omit, stop) => stop,
        };
        let kept = KeptBlocks { calls: fate != CallFate::Omit, server_tools: details.paused };
        ChatReply {
            content: self.blocks.finish(&mut self.naming, kept),
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
        } else if !self.has_calls() {
            let is_missing = self.stop.reason() == StopReason::ToolUse;
            if is_missing { CallFate::Missing } else { CallFate::None }
        } else if !self.has_refusal && self.stop.completes_calls() {
            CallFate::Run
        } else {
            CallFate::Omit
        }
    }

    fn details(&self, fate: CallFate, reasoning_tokens: u64) -> ReplyDetails {
        let describes_content = !self.has_text && fate != CallFate::Run;
        let unknown_stop =
            if fate == CallFate::Missing { self.stop.decisive_text() } else { self.stop.unknown_reason() };
        let has_malformed_call = self.naming.offers_tools() && self.stop.has_malformed_call();
        let stop_message = self.stop_message.as_deref().or(self.stop.decisive_text());
        let mut omitted_calls = Vec::new();
        let omitted = self.blocks.calls().filter(|_| fate == CallFate::Omit);
        for name in omitted.map(|call| call.tool_name(&self.naming)) {
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
            paused: self.stop.is_paused() && !self.has_calls(),
            half_surrogate: self.halves.has_lone_half(),
        }
    }

    /// Describes the content that arrived instead of text; `reasoning_tokens` is the reported number.
    fn describe_content(&self, reasoning_tokens: u64) -> Option<String> {
        let names: Vec<String> = self.tools.iter().map(|name| format!("`{}`", escape_line_breaks(name))).collect();
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
        let text_gaps = self.text_gaps.join(" and ");
        let text_gap = (!text_gaps.is_empty()).then(|| format!("{text_gaps} in the place of the text"));
        let parts: Vec<String> = [reasoning, calls, other_content, text_gap].into_iter().flatten().collect();
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

#[cfg(test)]
mod tests;
