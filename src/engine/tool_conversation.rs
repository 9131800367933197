//! A conversation with tools as it grows: its requests, and the tool results that it leaves out before it exceeds the
//! context window of the model.
//!
//! A request repeats the previous one and adds to its end, so that providers can cache the beginning. Leaving out
//! results changes the beginning, so the conversation leaves out many at once, and then none for many turns.

use std::sync::Arc;

use crate::model::agent::Compaction;
use crate::model::call::ElidedResult;
use crate::model::name::max_reply_tokens;
use crate::model::{
    ChatReply, ChatRequest, Content, ContentBlock, Failure, FailureClass, Message, OfferedTools, Role, ToolChoice,
    Usage,
};

use super::request_size::text_bytes;

/// The assumed number of bytes of a token for an upper estimate. Most texts have more.
const BYTES_PER_TOKEN: u64 = 3;
/// A conversation leaves out results when it reaches this percentage of the space for requests.
const FULL_PERCENT: u64 = 90;
/// It leaves out results until it needs at most this percentage.
const TARGET_PERCENT: u64 = 60;
/// The number of latest turns whose results stay in the conversation.
const KEPT_TURNS: usize = 2;
/// A result of at most this size stays, since the note in its place would not be much shorter.
const MIN_ELIDED_BYTES: usize = 400;

/// A conversation with tools.
pub(super) struct ToolConversation {
    request: ChatRequest,
    compaction: Compaction,
    /// The results that the conversation contains, in order.
    results: Vec<PlacedResult>,
    /// The size of the request and the reply of the latest turn, as the provider reported it.
    reported: Option<Usage>,
    /// The bytes that the conversation got since that reply.
    bytes_since: usize,
    /// The bytes that it has left out since that reply.
    bytes_elided: usize,
}

/// A tool result in the conversation.
struct PlacedResult {
    ordinal: u32,
    position: u32,
    /// The index of its message.
    message: usize,
    /// The index of its block in the message.
    block: usize,
    is_elided: bool,
}

impl ToolConversation {
    /// Begins a conversation with its first request.
    pub(super) fn new(request: ChatRequest, compaction: Compaction) -> Self {
        Self { request, compaction, results: Vec::new(), reported: None, bytes_since: 0, bytes_elided: 0 }
    }

    /// The next request.
    pub(super) fn request(&self) -> &ChatRequest {
        &self.request
    }

    /// Whether the model may call tools in the next request.
    pub(super) fn offers_tools(&self) -> bool {
        self.request.tools.choice != ToolChoice::None
    }

    /// Whether the model must call a tool in reply to the next request.
    pub(super) fn requires_call(&self) -> bool {
        self.request.tools.choice == ToolChoice::Required
    }

    /// Changes what the next request offers.
    pub(super) fn offer(&mut self, tools: &Arc<OfferedTools>) {
        self.request.tools = Arc::clone(tools);
    }

    /// Adds a turn: the reply with its tool calls, and the results of the calls. `ordinal` is that of the request.
    pub(super) fn add_turn(&mut self, ordinal: u32, reply: &ChatReply, results: Vec<ContentBlock>) {
        let message = self.request.messages.len() + 1;
        for (block, position) in (0..results.len()).zip(1..) {
            self.results.push(PlacedResult { ordinal, position, message, block, is_elided: false });
        }
        self.reported = reply.usage.complete();
        let results = Content::from(results);
        self.bytes_since = results.byte_len();
        self.bytes_elided = 0;
        self.request.messages.push(Message { role: Role::Assistant, content: reply.content.clone() });
        self.request.messages.push(Message { role: Role::User, content: results });
    }

    /// Adds a reply that the provider paused. The next request ends with it, and the provider continues it.
    pub(super) fn add_paused_turn(&mut self, reply: &ChatReply) {
        self.reported = reply.usage.complete();
        (self.bytes_since, self.bytes_elided) = (0, 0);
        self.request.messages.push(Message { role: Role::Assistant, content: reply.content.clone() });
    }

    /// Replaces the next request by one that asks for a correction of the latest reply.
    pub(super) fn correct(&mut self, request: ChatRequest) {
        let (before, after) = (text_bytes(&self.request), text_bytes(&request));
        self.bytes_since += after.saturating_sub(before);
        let tools = Arc::clone(&self.request.tools);
        self.request = ChatRequest { tools, ..request };
    }

    /// Adds an instruction to the end of the conversation.
    pub(super) fn instruct(&mut self, instruction: &str) {
        match self.request.messages.last_mut() {
            Some(last) if last.role == Role::User => last.content.append_text_block(instruction),
            Some(_) | None => self.request.messages.push(Message::user(instruction)),
        }
        self.bytes_since += instruction.len();
    }

    /// The estimated size of the next request in tokens.
    fn estimated_tokens(&self) -> u64 {
        let to_tokens = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN);
        match self.reported {
            Some(usage) => {
                let grown = usage.total().saturating_add(to_tokens(self.bytes_since));
                grown.saturating_sub(to_tokens(self.bytes_elided))
            }
            None => to_tokens(text_bytes(&self.request)),
        }
    }

    /// Leaves out old results if the next request and its reply may exceed the context window, and returns them.
    ///
    /// What it leaves out depends only on the recorded turns and on the window.
    ///
    /// # Errors
    /// The agent has `compaction: fail`.
    pub(super) fn compact(&mut self, context_window: Option<u64>) -> Result<Vec<ElidedResult>, Failure> {
        let reply_tokens = u64::from(max_reply_tokens(&self.request.model, self.request.max_output_tokens));
        let Some(space) = context_window.and_then(|window| window.checked_sub(reply_tokens)) else {
            return Ok(Vec::new());
        };
        let part = |percent: u64| space.saturating_mul(percent) / 100;
        let estimated = self.estimated_tokens();
        if estimated <= part(FULL_PERCENT) {
            return Ok(Vec::new());
        }
        if self.compaction == Compaction::Fail {
            return Err(full_window_failure(&self.request, estimated, space));
        }
        let mut elided = Vec::new();
        for index in 0..self.results.len() {
            if self.estimated_tokens() <= part(TARGET_PERCENT) {
                break;
            }
            elided.extend(self.elide(index));
        }
        Ok(elided)
    }

    /// Leaves out a result, unless it is small, belongs to one of the latest turns, or is left out already.
    fn elide(&mut self, index: usize) -> Option<ElidedResult> {
        let first_kept = self.first_kept_ordinal();
        let placed = self.results.get_mut(index)?;
        if placed.is_elided || placed.ordinal >= first_kept {
            return None;
        }
        let (ordinal, tool_call) = (placed.ordinal, placed.position);
        let message = self.request.messages.get_mut(placed.message)?;
        let mut blocks = Vec::from(std::mem::take(&mut message.content));
        let mut saved_bytes = 0;
        if let Some(ContentBlock::ToolResult { content, .. }) = blocks.get_mut(placed.block)
            && content.len() >= MIN_ELIDED_BYTES
        {
            let note = format!(
                "[orch left out this result of {} bytes to save space; call the tool again if you need it]",
                content.len()
            );
            saved_bytes = content.len().saturating_sub(note.len());
            *content = note;
        }
        message.content = Content::from(blocks);
        placed.is_elided = saved_bytes > 0;
        self.bytes_elided += saved_bytes;
        placed.is_elided.then_some(ElidedResult { ordinal, tool_call })
    }

    /// The ordinal of the first turn whose results stay.
    fn first_kept_ordinal(&self) -> u32 {
        let mut ordinals: Vec<u32> = self.results.iter().map(|result| result.ordinal).collect();
        ordinals.dedup();
        ordinals.iter().rev().nth(KEPT_TURNS - 1).copied().unwrap_or(0)
    }
}

fn full_window_failure(request: &ChatRequest, estimated: u64, space: u64) -> Failure {
    let message = format!(
        "the next request to {} has about {estimated} tokens, and its context window has space for {space}",
        request.model
    );
    let hint = "remove `compaction: fail` from the agent, so that orch leaves out old tool results; or use a model \
                with a larger context window, or divide the task";
    Failure::new(FailureClass::MaxTokensReached, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ModelRef, StopReason};

    fn conversation(compaction: Compaction) -> ToolConversation {
        let request = ChatRequest::new(ModelRef::new("lab", "m"), vec![Message::user("the task")], 100);
        ToolConversation::new(ChatRequest { system: "system".to_owned(), ..request }, compaction)
    }

    fn reply(id: &str, usage: Option<u64>) -> ChatReply {
        let call = ContentBlock::ToolCall { id: id.to_owned(), name: "read".to_owned(), arguments: json!({}) };
        let usage = usage.map(|input| Usage { input, output: 10, ..Usage::default() }.into()).unwrap_or_default();
        ChatReply {
            content: Content::from(vec![call]),
            stop: StopReason::ToolUse,
            usage,
            model: None,
            id: None,
            constrained: false,
            details: Box::default(),
        }
    }

    fn add_turn(conversation: &mut ToolConversation, ordinal: u32, bytes: usize, usage: Option<u64>) {
        let id = ordinal.to_string();
        let content = "x".repeat(bytes);
        let result = ContentBlock::ToolResult { id: id.clone(), name: "read".to_owned(), content, is_error: false };
        conversation.add_turn(ordinal, &reply(&id, usage), vec![result]);
    }

    fn ordinals(elided: &[ElidedResult]) -> Vec<u32> {
        elided.iter().map(|result| result.ordinal).collect()
    }

    #[test]
    fn old_results_are_left_out_before_the_window_is_full_and_the_latest_stay() {
        let mut conversation = conversation(Compaction::Elide);
        // 10,100 tokens: 10,000 for a request, of which 9,000 are full and 6,000 are the target.
        let window = Some(10_100);
        for ordinal in 1..=8 {
            add_turn(&mut conversation, ordinal, 3000, None);
            assert_eq!(conversation.compact(window).unwrap(), [], "turn {ordinal}");
        }
        let before = conversation.request().clone();
        add_turn(&mut conversation, 9, 3000, None);
        let elided = conversation.compact(window).unwrap();
        assert_eq!(ordinals(&elided), [1, 2, 3, 4], "the oldest results");
        assert_eq!(conversation.compact(window).unwrap(), [], "nothing more until it is full again");
        let request = conversation.request();
        assert_eq!((&request.system, &request.messages[0]), (&before.system, &before.messages[0]));
        assert_eq!(request.messages.len(), before.messages.len() + 2, "calls and results stay paired");
        let texts: Vec<usize> = request.messages.iter().map(|message| message.content.byte_len()).collect();
        assert!(texts[2] < 400 && texts[8] < 400 && texts[10] > 3000 && texts[18] > 3000, "{texts:?}");
    }

    #[test]
    fn the_usage_that_the_provider_reported_is_better_than_an_estimate() {
        let mut conversation = conversation(Compaction::Elide);
        for ordinal in 1..=3 {
            add_turn(&mut conversation, ordinal, 3000, Some(100));
            assert_eq!(conversation.compact(Some(2000)).unwrap(), [], "110 tokens and 3000 bytes");
        }
        add_turn(&mut conversation, 4, 3000, Some(1500));
        assert_eq!(ordinals(&conversation.compact(Some(2000)).unwrap()), [1, 2], "the last two turns stay");
    }

    #[test]
    fn without_a_known_window_everything_stays_and_with_fail_the_step_fails() {
        let mut conversation = conversation(Compaction::Fail);
        for ordinal in 1..=9 {
            add_turn(&mut conversation, ordinal, 3000, None);
        }
        assert_eq!(conversation.compact(None).unwrap(), []);
        assert_eq!(conversation.compact(Some(50)).unwrap(), [], "a window smaller than a reply is not plausible");
        let failure = conversation.compact(Some(10_000)).unwrap_err();
        assert_eq!(failure.class, FailureClass::MaxTokensReached);
        assert!(failure.message.contains("space for 9900"), "{failure}");
    }

    #[test]
    fn the_provider_receives_a_paused_reply_back_without_a_further_message() {
        let mut conversation = conversation(Compaction::Elide);
        add_turn(&mut conversation, 1, 10, None);
        conversation.add_paused_turn(&reply("2", Some(50)));
        let last = |conversation: &ToolConversation| conversation.request().messages.last().cloned().unwrap();
        let paused = Message { role: Role::Assistant, content: reply("2", None).content };
        assert_eq!(last(&conversation), paused);
        conversation.instruct("Go on.");
        assert_eq!(last(&conversation), Message::user("Go on."));
        conversation.instruct("Now.");
        assert_eq!(last(&conversation).content.text(), "Go on.\n\nNow.");
    }

    #[test]
    fn small_results_stay() {
        let mut conversation = conversation(Compaction::Elide);
        for ordinal in 1..=100 {
            add_turn(&mut conversation, ordinal, 100, None);
        }
        assert_eq!(conversation.compact(Some(1000)).unwrap(), []);
    }
}
