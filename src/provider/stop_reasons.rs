//! Stop reasons: a table for each dialect, and rules that decide whether a reply with such a reason is complete.
//!
//! With a reason that no table lists, a reply never counts as complete, since the server may have cut it off.

use serde_json::Value;

use crate::model::chat::StopReason;
use crate::model::repeated_keys::values_of;

/// The meaning of a stop reason for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopMeaning {
    /// The model ended its reply: by itself, at a limit, by refusing, or with a tool call.
    Ended(StopReason),
    /// The context window of the model cut the reply off.
    ExceededContextWindow,
    /// The server aborted the reply.
    ServerFailed,
    /// The API defines the reason, but it does not mean that the reply is complete.
    Incomplete,
    /// The provider paused the turn, and continues it if it receives the conversation with the reply.
    Paused,
    /// The model wrote a call that the provider could not read.
    MalformedCall,
}

/// The stop reasons of one dialect, in lower case, with their meanings.
pub(super) type StopTable = &'static [(&'static str, StopMeaning)];

const END: StopMeaning = StopMeaning::Ended(StopReason::End);
const LENGTH: StopMeaning = StopMeaning::Ended(StopReason::Length);
const REFUSAL: StopMeaning = StopMeaning::Ended(StopReason::Refusal);
const TOOL_USE: StopMeaning = StopMeaning::Ended(StopReason::ToolUse);

/// `stop_reason` of Anthropic's Messages API
/// (<https://docs.anthropic.com/en/api/handling-stop-reasons>).
///
/// With `pause_turn`, the API expects that the client sends the conversation again, so the turn has not ended.
pub(super) const ANTHROPIC: StopTable = &[
    ("end_turn", END),
    ("stop_sequence", END),
    ("max_tokens", LENGTH),
    ("model_context_window_exceeded", StopMeaning::ExceededContextWindow),
    ("refusal", REFUSAL),
    ("tool_use", TOOL_USE),
    ("pause_turn", StopMeaning::Paused),
];

/// `finish_reason` of Chat Completions, with the values of servers that speak the dialect:
///
/// - `OpenAI` and Azure (<https://platform.openai.com/docs/api-reference/chat/object>): `stop`,
///   `length`, `content_filter`, `tool_calls`, `function_call`
/// - vLLM (`vllm/v1/engine/__init__.py`) and sglang: `abort`, `error`, `repetition`
/// - `DeepSeek` (<https://api-docs.deepseek.com/api/create-chat-completion>):
///   `insufficient_system_resource`
/// - Mistral (<https://docs.mistral.ai/api/>): `model_length`, `error`
/// - `OpenRouter` (<https://openrouter.ai/docs/api-reference/overview>): `error`
/// - Together: `eos`; Text Generation Inference: `eos_token`, `stop_sequence`
/// - LM Studio (`LLMPredictionStopReason` of its SDK): `eosFound`, `stopStringFound`,
///   `maxPredictedTokensReached`, `contextLengthReached`, `toolCalls`, `userStopped`,
///   `modelUnloaded`, `failed`
/// - Zhipu: `sensitive`, `network_error`
/// - gateways that pass on the reasons of Anthropic, Gemini or the Responses API: `end_turn`, `max_tokens`,
///   `max_output_tokens`, `refusal`, `tool_use`
pub(super) const OPENAI: StopTable = &[
    ("stop", END),
    ("eos", END),
    ("eos_token", END),
    ("eosfound", END),
    ("stop_sequence", END),
    ("stopstringfound", END),
    ("end_turn", END),
    ("length", LENGTH),
    ("max_tokens", LENGTH),
    ("max_output_tokens", LENGTH),
    ("model_length", StopMeaning::ExceededContextWindow),
    ("model_context_window_exceeded", StopMeaning::ExceededContextWindow),
    ("maxpredictedtokensreached", LENGTH),
    ("contextlengthreached", StopMeaning::ExceededContextWindow),
    ("content_filter", REFUSAL),
    ("refusal", REFUSAL),
    ("sensitive", REFUSAL),
    ("tool_calls", TOOL_USE),
    ("toolcalls", TOOL_USE),
    ("function_call", TOOL_USE),
    ("tool_use", TOOL_USE),
    ("error", StopMeaning::ServerFailed),
    ("abort", StopMeaning::ServerFailed),
    ("insufficient_system_resource", StopMeaning::ServerFailed),
    ("network_error", StopMeaning::ServerFailed),
    ("userstopped", StopMeaning::ServerFailed),
    ("modelunloaded", StopMeaning::ServerFailed),
    ("failed", StopMeaning::ServerFailed),
    ("repetition", StopMeaning::Incomplete),
];

/// `status` and `incomplete_details.reason` of the Responses API
/// (<https://platform.openai.com/docs/api-reference/responses/object>).
pub(super) const RESPONSES: StopTable = &[
    ("completed", END),
    ("max_output_tokens", LENGTH),
    ("content_filter", REFUSAL),
    ("failed", StopMeaning::ServerFailed),
    ("cancelled", StopMeaning::ServerFailed),
    ("incomplete", StopMeaning::Incomplete),
];

/// `stopReason` of Bedrock's Converse API
/// (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>).
pub(super) const CONVERSE: StopTable = &[
    ("end_turn", END),
    ("stop_sequence", END),
    ("max_tokens", LENGTH),
    ("model_context_window_exceeded", StopMeaning::ExceededContextWindow),
    ("guardrail_intervened", REFUSAL),
    ("content_filtered", REFUSAL),
    ("tool_use", TOOL_USE),
    ("malformed_model_output", StopMeaning::Incomplete),
    ("malformed_tool_use", StopMeaning::MalformedCall),
];

/// `FinishReason` of the Gemini API (<https://ai.google.dev/api/generate-content#FinishReason>), and `MODEL_ARMOR` of
/// Vertex AI. `FINISH_REASON_UNSPECIFIED` is the field's default value, not a reason.
pub(super) const GEMINI: StopTable = &[
    ("stop", END),
    ("max_tokens", LENGTH),
    ("safety", REFUSAL),
    ("recitation", REFUSAL),
    ("language", REFUSAL),
    ("blocklist", REFUSAL),
    ("prohibited_content", REFUSAL),
    ("spii", REFUSAL),
    ("image_safety", REFUSAL),
    ("image_prohibited_content", REFUSAL),
    ("image_recitation", REFUSAL),
    ("model_armor", REFUSAL),
    ("other", StopMeaning::Incomplete),
    ("image_other", StopMeaning::Incomplete),
    ("no_image", StopMeaning::Incomplete),
    ("malformed_function_call", StopMeaning::MalformedCall),
    ("unexpected_tool_call", StopMeaning::MalformedCall),
    ("too_many_tool_calls", StopMeaning::Incomplete),
    ("missing_thought_signature", StopMeaning::Incomplete),
    ("malformed_response", StopMeaning::Incomplete),
];

/// The reason in a field; `None` if the value means that there is no reason yet. `None` is how a server in Python writes
/// a missing reason as text. A value that is not text becomes a reason that no table lists.
fn reason_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let empty_values = ["", "null", "none", "finish_reason_unspecified"];
    (!empty_values.iter().any(|empty| text.eq_ignore_ascii_case(empty))).then_some(text)
}

/// Tracks the stop reasons in the chunks of a reply.
#[derive(Debug, Default)]
pub(super) struct StopReasonTracker {
    /// The decisive reason, with the server's own text: the first one that is not [`END`], else the last one.
    decisive: Option<(String, Option<StopMeaning>)>,
    /// The number of chunks with a reason.
    reason_count: u32,
    /// Whether content came in a chunk after the first one with a reason.
    content_after_first: bool,
    /// Whether content came in a chunk after the last one with a reason.
    content_after_last: bool,
}

impl StopReasonTracker {
    /// Records one chunk: its stop reason, and whether it has any content.
    pub(super) fn record_chunk(&mut self, table: StopTable, reason: Option<&Value>, has_content: bool) {
        if has_content && self.reason_count > 0 {
            self.content_after_first = true;
            self.content_after_last = true;
        }
        if let Some(text) = reason.and_then(reason_text) {
            let meaning = table.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, meaning)| *meaning);
            self.record_reason(text, meaning);
        }
    }

    /// Like [`record_chunk`](Self::record_chunk), with all reasons that an object has under a name.
    pub(super) fn record_reasons(&mut self, table: StopTable, object: &Value, name: &str, has_content: bool) {
        self.record_chunk(table, None, has_content);
        for reason in values_of(object, name) {
            self.record_chunk(table, Some(reason), false);
        }
    }

    /// Records a reason. A later one does not complete a reply that an earlier one declared incomplete.
    fn record_reason(&mut self, text: String, meaning: Option<StopMeaning>) {
        if self.decisive.as_ref().is_none_or(|(_, earlier)| *earlier == Some(END)) {
            self.decisive = Some((text, meaning));
        }
        self.reason_count += 1;
        self.content_after_last = false;
    }

    /// Records a refusal that the server reports in a field other than the stop reason.
    pub(super) fn record_refusal(&mut self, reason: &str) {
        self.record_reason(reason.to_owned(), Some(REFUSAL));
    }

    /// Whether the server has sent a reason.
    pub(super) fn has_reason(&self) -> bool {
        self.decisive.is_some()
    }

    /// The reason why the model stopped; `Unknown` unless the reason means that the model ended its reply.
    pub(super) fn reason(&self) -> StopReason {
        match self.decisive {
            Some((_, Some(StopMeaning::Ended(reason)))) => reason,
            Some((_, Some(StopMeaning::ExceededContextWindow))) => StopReason::Length,
            _ => StopReason::Unknown,
        }
    }

    /// Whether the context window of the model cut the reply off.
    pub(super) fn exceeds_context_window(&self) -> bool {
        matches!(self.decisive, Some((_, Some(StopMeaning::ExceededContextWindow))))
    }

    /// The server's text for a reason that means a refusal.
    pub(super) fn refusal_reason(&self) -> Option<&str> {
        match &self.decisive {
            Some((text, Some(REFUSAL))) => Some(text),
            _ => None,
        }
    }

    /// The server's text for a reason that is unknown or does not mean that the reply is complete.
    pub(super) fn unknown_reason(&self) -> Option<&str> {
        match &self.decisive {
            Some((text, None | Some(StopMeaning::Incomplete | StopMeaning::Paused | StopMeaning::MalformedCall))) => {
                Some(text)
            }
            _ => None,
        }
    }

    /// The server's text for the reason.
    pub(super) fn decisive_text(&self) -> Option<&str> {
        self.decisive.as_ref().map(|(text, _)| text.as_str())
    }

    /// Whether the calls of the reply are complete: the model ended its reply by itself or with calls, or the server
    /// gave no reason. The calls decide whether the model called tools, because many servers report `stop` for calls.
    pub(super) fn completes_calls(&self) -> bool {
        matches!(self.decisive, None | Some((_, Some(END | TOOL_USE))))
    }

    /// Whether the provider paused the turn.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.decisive, Some((_, Some(StopMeaning::Paused))))
    }

    /// Whether the model wrote a call that the provider could not read.
    pub(super) fn has_malformed_call(&self) -> bool {
        matches!(self.decisive, Some((_, Some(StopMeaning::MalformedCall))))
    }

    /// The server's text for a reason that means that the server aborted the reply.
    pub(super) fn server_failure(&self) -> Option<&str> {
        match &self.decisive {
            Some((text, Some(StopMeaning::ServerFailed))) => Some(text),
            _ => None,
        }
    }

    /// Whether no content came after the last reason. If the body also ended properly, the reply is complete.
    pub(super) fn last_reason_ends_content(&self) -> bool {
        self.has_reason() && !self.content_after_last
    }

    /// Whether content came after the last reason. It may belong to another reply.
    pub(super) fn has_content_after_reason(&self) -> bool {
        self.content_after_last
    }

    /// Whether no content came after the first reason. This is false for a server that sends a reason in every chunk,
    /// whose reasons do not mark the end.
    pub(super) fn first_reason_ends_content(&self) -> bool {
        self.has_reason() && !self.content_after_first
    }

    /// Whether exactly one chunk has a reason and no content came after it. Then the reply is complete, even if the
    /// server left the connection open.
    pub(super) fn single_reason_ends_content(&self) -> bool {
        self.reason_count == 1 && !self.content_after_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(chunks: &[(Option<&str>, bool)]) -> StopReasonTracker {
        let mut track = StopReasonTracker::default();
        for (reason, content) in chunks {
            track.record_chunk(OPENAI, reason.map(Value::from).as_ref(), *content);
        }
        track
    }

    #[test]
    fn names_in_a_table_are_unique_and_lower_case() {
        for table in [ANTHROPIC, OPENAI, RESPONSES, CONVERSE, GEMINI] {
            for (index, (name, _)) in table.iter().enumerate() {
                assert_eq!(*name, name.to_ascii_lowercase());
                assert!(!table[..index].iter().any(|(other, _)| other == name), "{name}");
            }
        }
    }

    #[test]
    fn case_is_ignored_and_empty_values_are_not_reasons() {
        assert_eq!(track(&[(Some("STOP"), true)]).reason(), StopReason::End);
        assert_eq!(track(&[(Some("MAX_TOKENS"), true)]).reason(), StopReason::Length);
        for empty in [None, Some(""), Some("null"), Some(" NULL "), Some("none"), Some("FINISH_REASON_UNSPECIFIED")] {
            let track = track(&[(empty, true)]);
            assert!(
                !track.last_reason_ends_content()
                    && !track.single_reason_ends_content()
                    && track.unknown_reason().is_none(),
                "{empty:?}"
            );
        }
    }

    #[test]
    fn the_context_window_and_refusals_are_distinguished() {
        for reason in ["model_context_window_exceeded", "model_length", "contextLengthReached"] {
            let track = track(&[(Some(reason), true)]);
            assert!(track.reason() == StopReason::Length && track.exceeds_context_window(), "{reason}");
        }
        assert!(!track(&[(Some("length"), true)]).exceeds_context_window());
        assert_eq!(track(&[(Some("content_filter"), true)]).refusal_reason(), Some("content_filter"));
        assert_eq!(track(&[(Some("stop"), true)]).refusal_reason(), None);
    }

    #[test]
    fn an_unknown_reason_is_recorded_with_its_text() {
        let track = track(&[(None, true), (Some("Sleepy"), false)]);
        assert_eq!((track.reason(), track.unknown_reason()), (StopReason::Unknown, Some("Sleepy")));
    }

    #[test]
    fn a_value_other_than_text_is_an_unknown_reason() {
        for value in [Value::from(5), Value::from(false), serde_json::json!({}), serde_json::json!(["stop"])] {
            let mut track = StopReasonTracker::default();
            track.record_chunk(OPENAI, Some(&value), true);
            assert_eq!(track.unknown_reason(), Some(value.to_string().as_str()));
        }
    }

    #[test]
    fn a_later_end_does_not_erase_an_earlier_reason() {
        let track_both = |first, second| track(&[(Some(first), true), (Some(second), false)]);
        for (first, reason) in [("length", StopReason::Length), ("content_filter", StopReason::Refusal)] {
            assert_eq!(track_both(first, "stop").reason(), reason);
            assert_eq!(track_both("stop", first).reason(), reason);
        }
        assert_eq!(track_both("sleepy", "stop").unknown_reason(), Some("sleepy"));
        assert_eq!(track_both("error", "stop").server_failure(), Some("error"));
        assert_eq!(track_both("stop", "error").server_failure(), Some("error"));
    }

    #[test]
    fn a_reason_in_every_chunk_does_not_mark_the_end() {
        let in_every_chunk = track(&[(Some("stop"), true), (Some("stop"), true)]);
        assert!(
            in_every_chunk.last_reason_ends_content()
                && !in_every_chunk.first_reason_ends_content()
                && !in_every_chunk.single_reason_ends_content()
        );
        let single = track(&[(None, true), (Some("stop"), true), (None, false)]);
        assert!(
            single.last_reason_ends_content()
                && single.first_reason_ends_content()
                && single.single_reason_ends_content()
        );
        let repeated = track(&[(None, true), (Some("stop"), false), (Some("stop"), false)]);
        assert!(repeated.first_reason_ends_content() && !repeated.single_reason_ends_content());
        let content_after = track(&[(Some("stop"), true), (None, true)]);
        assert!(
            !content_after.last_reason_ends_content()
                && !content_after.first_reason_ends_content()
                && !content_after.single_reason_ends_content()
        );
    }
}
