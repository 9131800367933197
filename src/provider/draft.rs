//! A reply under construction: the state that every dialect collects in the same way.

use super::StreamEvent;
use super::http::ReplySink;
use super::stop::StopTrack;
use super::usage::{UsageFields, UsageMeter};
use crate::model::chat::{ChatReply, ReplyRemarks, StopReason};

/// How many tools and kinds of content a remark lists.
const SHOWN_TOOLS: usize = 5;

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
    reasoning: usize,
    /// Whether the server reported reasoning without showing it.
    hidden_reasoning: bool,
    /// The kinds of content other than text that arrived.
    others: Vec<String>,
}

impl Draft {
    /// An empty draft; `constrained` says whether the request asked the API to constrain the reply.
    pub(super) fn new(constrained: bool) -> Self {
        Self { constrained, ..Self::default() }
    }

    /// Whether nothing has arrived yet: no text, no reasoning, no tool call and no other content.
    pub(super) fn is_empty(&self) -> bool {
        let reasoned = self.reasoning > 0 || self.hidden_reasoning;
        self.text.trim().is_empty() && !reasoned && self.tools.is_empty() && self.others.is_empty()
    }

    /// Appends a piece of text and passes it to the sink.
    pub(super) fn say(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.generated();
            self.text.push_str(text);
            sink(StreamEvent::Text(text.to_owned()));
        }
    }

    /// Counts a piece of reasoning, which is not part of the text, and passes it to the sink.
    pub(super) fn reason(&mut self, text: &str, sink: ReplySink<'_>) {
        if !text.is_empty() {
            self.usage.generated();
            self.reasoning = self.reasoning.saturating_add(text.chars().count());
            sink(StreamEvent::Reasoning(text.to_owned()));
        }
    }

    /// Records that the model called a tool.
    pub(super) fn call_tool(&mut self, name: &str) {
        self.usage.generated();
        if !self.tools.iter().any(|known| known == name) {
            self.tools.push(name.to_owned());
        }
    }

    /// Records that the model reasoned, but the server does not show it.
    pub(super) fn reason_hidden(&mut self) {
        self.usage.generated();
        self.hidden_reasoning = true;
    }

    /// Records content of a kind other than text.
    pub(super) fn other(&mut self, kind: &str) {
        self.usage.generated();
        if self.others.len() < SHOWN_TOOLS && !self.others.iter().any(|known| known == kind) {
            self.others.push(kind.to_owned());
        }
    }

    /// Finishes the reply; reads the usage from these fields of the provider's reports.
    pub(super) fn reply(self, fields: &UsageFields) -> ChatReply {
        let usage = self.usage.of_reply(fields);
        let instead = if self.text.trim().is_empty() { self.instead(usage.reasoning) } else { None };
        let remarks =
            Box::new(ReplyRemarks { unknown_stop: self.stop.unknown().map(str::to_owned), instead, beside: None });
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

    /// Describes what came instead of text; `thoughts` is the reported number of reasoning tokens.
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
