//! A reply under construction: what every dialect collects alike.

use super::StreamEvent;
use super::http::ReplySink;
use super::stop::StopTrack;
use super::usage::{UsageFields, UsageMeter};
use crate::model::chat::{ChatReply, ReplyRemarks, StopReason};

/// How many names of tools a remark shows.
const SHOWN_TOOLS: usize = 5;

/// A reply under construction.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) stop: StopTrack,
    pub(super) usage: UsageMeter,
    pub(super) model: Option<String>,
    pub(super) id: Option<String>,
    /// Whether the request had the API constrain the reply.
    pub(super) constrained: bool,
    /// The tools that the model called, though none was offered.
    tools: Vec<String>,
    /// The length of the reasoning, in characters.
    reasoning: usize,
    /// Whether reasoning came that the server does not show.
    hidden_reasoning: bool,
    /// The kinds of content that came and are no text.
    others: Vec<String>,
}

impl Draft {
    /// An empty draft; `constrained` is whether the request had the API constrain the reply.
    pub(super) fn new(constrained: bool) -> Self {
        Self { constrained, ..Self::default() }
    }

    /// Whether nothing came yet: no text, no reasoning, no call of a tool and no other content.
    pub(super) fn is_empty(&self) -> bool {
        let reasoned = self.reasoning > 0 || self.hidden_reasoning;
        self.text.trim().is_empty() && !reasoned && self.tools.is_empty() && self.others.is_empty()
    }

    /// Adds a piece of the text.
    pub(super) fn say(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.generated();
            self.text.push_str(text);
            sink(StreamEvent::Text(text.to_owned()));
        }
    }

    /// Takes note of a piece of reasoning, which is no part of the text.
    pub(super) fn reason(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.generated();
            self.reasoning = self.reasoning.saturating_add(text.chars().count());
            sink(StreamEvent::Reasoning(text.to_owned()));
        }
    }

    /// Takes note of a tool that the model called.
    pub(super) fn call_tool(&mut self, name: &str) {
        self.usage.generated();
        if !self.tools.iter().any(|known| known == name) {
            self.tools.push(name.to_owned());
        }
    }

    /// Takes note of reasoning that the server does not show.
    pub(super) fn reason_hidden(&mut self) {
        self.usage.generated();
        self.hidden_reasoning = true;
    }

    /// Takes note of content of a kind that is no text.
    pub(super) fn other(&mut self, kind: &str) {
        self.usage.generated();
        if self.others.len() < SHOWN_TOOLS && !self.others.iter().any(|known| known == kind) {
            self.others.push(kind.to_owned());
        }
    }

    /// The reply, with what the provider reported under these fields.
    pub(super) fn reply(self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.of_reply(fields);
        let instead = if self.text.trim().is_empty() { self.instead(usage.reasoning) } else { None };
        let remarks =
            Box::new(ReplyRemarks { unknown_stop: self.stop.unknown().map(str::to_owned), instead, beside: None });
        let stop = match self.stop.reason() {
            // A call without the stop reason that belongs to it: some servers say `stop`.
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

    /// What came instead of text, in words; `thoughts` is how many tokens of reasoning were reported.
    fn instead(&self, thoughts: u64) -> Option<String> {
        let names: Vec<String> = self.tools.iter().take(SHOWN_TOOLS).map(|name| format!("`{name}`")).collect();
        let calls = match names.as_slice() {
            [] => None,
            [name] => Some(format!("a call of the tool {name}")),
            names => Some(format!("calls of the tools {}", names.join(", "))),
        };
        let reasoning = match (self.reasoning, thoughts) {
            (0, 0) => self.hidden_reasoning.then(|| "reasoning (not shown)".to_owned()),
            (0, tokens) => Some(format!("reasoning ({tokens} tokens, not shown)")),
            (characters, _) => Some(format!("reasoning ({characters} characters)")),
        };
        let kinds: Vec<String> = self.others.iter().map(|kind| format!("`{kind}`")).collect();
        let others = (!kinds.is_empty()).then(|| format!("content of the kind {}", kinds.join(", ")));
        let parts: Vec<String> = [reasoning, calls, others].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }
}
