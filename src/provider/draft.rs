//! A reply under construction: the state that every dialect collects in the same way.

use super::StreamEvent;
use super::http::ReplySink;
use super::stop_reasons::StopTrack;
use super::usage::{UsageFields, UsageMeter};
use crate::model::chat::{ChatReply, ReplyDetails, StopReason};

/// The largest number of tools and of kinds of content that a remark lists.
const MAX_LISTED: usize = 5;

/// A reply under construction.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) stop: StopTrack,
    pub(super) usage: UsageMeter,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    /// Whether the request asked the API to constrain the reply to the schema.
    pub(super) constrained: bool,
    /// The tools that the model called, although the request offered none.
    tools: Vec<String>,
    /// The length of the reasoning so far, in characters.
    reasoning_chars: usize,
    /// Whether the server reported reasoning without showing it.
    hidden_reasoning: bool,
    /// The kinds of content other than text that arrived.
    other_kinds: Vec<String>,
}

impl Draft {
    /// An empty draft; `constrained` says whether the request asked the API to constrain the reply.
    pub(super) fn new(constrained: bool) -> Self {
        Self { constrained, ..Self::default() }
    }

    /// Whether nothing has arrived yet: no text, no reasoning, no tool call and no other content.
    pub(super) fn is_empty(&self) -> bool {
        let has_reasoning = self.reasoning_chars > 0 || self.hidden_reasoning;
        self.text.trim().is_empty() && !has_reasoning && self.tools.is_empty() && self.other_kinds.is_empty()
    }

    /// Appends a piece of text and passes it to the sink.
    pub(super) fn push_text(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.mark_out_of_date();
            self.text.push_str(text);
            sink(StreamEvent::Text(text.to_owned()));
        }
    }

    /// Counts a piece of reasoning, which is not part of the text, and passes it to the sink.
    pub(super) fn push_reasoning(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.mark_out_of_date();
            self.reasoning_chars = self.reasoning_chars.saturating_add(text.chars().count());
            sink(StreamEvent::Reasoning(text.to_owned()));
        }
    }

    /// Records that the model called a tool.
    pub(super) fn record_tool_call(&mut self, name: &str) {
        self.usage.mark_out_of_date();
        if !self.tools.iter().any(|listed| listed == name) {
            self.tools.push(name.to_owned());
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

    /// Finishes the reply, with the usage from these fields of the provider's reports.
    pub(super) fn into_reply(self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.complete_usage(fields);
        let instead = if self.text.trim().is_empty() { self.describe_content(usage.reasoning) } else { None };
        let remarks = Box::new(ReplyDetails {
            unknown_stop: self.stop.unknown_reason().map(str::to_owned),
            instead,
            beside: None,
        });
        let stop = match self.stop.reason() {
            // Some servers report `stop` for a tool call, instead of the stop reason for tools.
            StopReason::End if self.text.trim().is_empty() && !self.tools.is_empty() => StopReason::ToolUse,
            stop => stop,
        };
        ChatReply {
            text: self.text,
            stop,
            usage,
            model: self.model,
            id: self.id,
            constrained: self.constrained,
            agent_activity: None,
            remarks,
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
        let parts: Vec<String> = [reasoning, calls, other_content].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}
