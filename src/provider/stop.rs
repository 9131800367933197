//! Why a reply ended: the table of stop reasons of each dialect, and whether a reply with such a reason is complete.
//!
//! A reason that no table lists never counts as an end: the reply may have been cut off.

use serde_json::Value;

use crate::model::chat::StopReason;

/// What a stop reason means for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The model ended its reply: by itself, at a limit, by refusing, or with a tool call.
    Ended(StopReason),
    /// The server aborted the reply.
    ServerFailed,
    /// The API defines the reason, but it does not mean that the reply is complete.
    NotWhole,
}

/// The stop reasons of one dialect, in lower case, with their meanings.
pub(super) type StopTable = &'static [(&'static str, Meaning)];

const END: Meaning = Meaning::Ended(StopReason::End);
const LENGTH: Meaning = Meaning::Ended(StopReason::Length);
const REFUSAL: Meaning = Meaning::Ended(StopReason::Refusal);
const TOOL: Meaning = Meaning::Ended(StopReason::ToolUse);

/// `stop_reason` of Anthropic's Messages API
/// (<https://docs.anthropic.com/en/api/handling-stop-reasons>).
///
/// `pause_turn` asks the client to send the conversation again, so the turn has not ended.
pub(super) const ANTHROPIC: StopTable = &[
    ("end_turn", END),
    ("stop_sequence", END),
    ("max_tokens", LENGTH),
    ("model_context_window_exceeded", LENGTH),
    ("refusal", REFUSAL),
    ("tool_use", TOOL),
    ("pause_turn", Meaning::NotWhole),
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
    ("model_length", LENGTH),
    ("model_context_window_exceeded", LENGTH),
    ("maxpredictedtokensreached", LENGTH),
    ("contextlengthreached", LENGTH),
    ("content_filter", REFUSAL),
    ("refusal", REFUSAL),
    ("sensitive", REFUSAL),
    ("tool_calls", TOOL),
    ("toolcalls", TOOL),
    ("function_call", TOOL),
    ("tool_use", TOOL),
    ("error", Meaning::ServerFailed),
    ("abort", Meaning::ServerFailed),
    ("insufficient_system_resource", Meaning::ServerFailed),
    ("network_error", Meaning::ServerFailed),
    ("userstopped", Meaning::ServerFailed),
    ("modelunloaded", Meaning::ServerFailed),
    ("failed", Meaning::ServerFailed),
    ("repetition", Meaning::NotWhole),
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
    ("other", Meaning::NotWhole),
    ("image_other", Meaning::NotWhole),
    ("no_image", Meaning::NotWhole),
    ("malformed_function_call", Meaning::NotWhole),
    ("unexpected_tool_call", Meaning::NotWhole),
    ("too_many_tool_calls", Meaning::NotWhole),
    ("missing_thought_signature", Meaning::NotWhole),
    ("malformed_response", Meaning::NotWhole),
];

/// The reason in a field; `None` if the value means that there is none yet. A value that is not text becomes a reason
/// that no table lists.
fn given(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let none = ["", "null", "none", "finish_reason_unspecified"];
    (!none.iter().any(|none| text.eq_ignore_ascii_case(none))).then_some(text)
}

/// Tracks what the chunks of a reply say about its end.
#[derive(Debug, Default)]
pub(super) struct StopTrack {
    /// The reason that counts, with the server's own text: the first one that is not [`END`], else the last one.
    counted: Option<(String, Option<Meaning>)>,
    /// How many chunks carried a reason.
    bearers: u32,
    /// Whether content came in a chunk after the first one with a reason.
    content_after_first: bool,
    /// Whether content came in a chunk after the last one with a reason.
    content_after_last: bool,
}

impl StopTrack {
    /// Records one chunk: its stop reason, and whether it has any content.
    pub(super) fn chunk(&mut self, table: StopTable, reason: Option<&Value>, content: bool) {
        if content && self.bearers > 0 {
            self.content_after_first = true;
            self.content_after_last = true;
        }
        if let Some(text) = reason.and_then(given) {
            let meaning = table.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, meaning)| *meaning);
            self.bear(text, meaning);
        }
    }

    /// Records a reason. A later one does not complete a reply that an earlier one declared incomplete.
    fn bear(&mut self, text: String, meaning: Option<Meaning>) {
        if self.counted.as_ref().is_none_or(|(_, earlier)| *earlier == Some(END)) {
            self.counted = Some((text, meaning));
        }
        self.bearers += 1;
        self.content_after_last = false;
    }

    /// Records a refusal that the server reports without a stop reason.
    pub(super) fn refused(&mut self) {
        self.bear("refusal".to_owned(), Some(REFUSAL));
    }

    /// Whether the server has given a reason.
    pub(super) fn came(&self) -> bool {
        self.counted.is_some()
    }

    /// Why the model stopped; `Unknown` unless the reason says that the model ended its reply.
    pub(super) fn reason(&self) -> StopReason {
        match self.counted {
            Some((_, Some(Meaning::Ended(reason)))) => reason,
            _ => StopReason::Unknown,
        }
    }

    /// The server's text for a reason that is unknown, or that does not mean that the reply is complete.
    pub(super) fn unknown(&self) -> Option<&str> {
        match &self.counted {
            Some((text, None | Some(Meaning::NotWhole))) => Some(text),
            _ => None,
        }
    }

    /// The server's text for a reason that says that it aborted the reply.
    pub(super) fn server_failed(&self) -> Option<&str> {
        match &self.counted {
            Some((text, Some(Meaning::ServerFailed))) => Some(text),
            _ => None,
        }
    }

    /// Whether a reason came, and no content after the last one: enough if the body ended properly.
    pub(super) fn came_last(&self) -> bool {
        self.came() && !self.content_after_last
    }

    /// Whether a reason came, and no content after the first one. A server that sends a reason in every chunk marks no
    /// end with it.
    pub(super) fn ended_once(&self) -> bool {
        self.came() && !self.content_after_first
    }

    /// Whether exactly one chunk carried a reason and no content came after it: then the reply is complete, even if the
    /// server left the connection open.
    pub(super) fn ended_on_open_line(&self) -> bool {
        self.bearers == 1 && !self.content_after_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(chunks: &[(Option<&str>, bool)]) -> StopTrack {
        let mut track = StopTrack::default();
        for (reason, content) in chunks {
            track.chunk(OPENAI, reason.map(Value::from).as_ref(), *content);
        }
        track
    }

    #[test]
    fn names_of_a_table_are_unique_and_in_lower_case() {
        for table in [ANTHROPIC, OPENAI, GEMINI] {
            for (at, (name, _)) in table.iter().enumerate() {
                assert_eq!(*name, name.to_ascii_lowercase());
                assert!(!table[..at].iter().any(|(other, _)| other == name), "{name}");
            }
        }
    }

    #[test]
    fn case_does_not_count_and_empty_values_are_no_reason() {
        assert_eq!(track(&[(Some("STOP"), true)]).reason(), StopReason::End);
        assert_eq!(track(&[(Some("MAX_TOKENS"), true)]).reason(), StopReason::Length);
        for none in [None, Some(""), Some("null"), Some(" NULL "), Some("FINISH_REASON_UNSPECIFIED")] {
            let track = track(&[(none, true)]);
            assert!(!track.came_last() && !track.ended_on_open_line() && track.unknown().is_none(), "{none:?}");
        }
    }

    #[test]
    fn a_reason_that_is_not_known_is_kept_with_its_text() {
        let track = track(&[(None, true), (Some("Sleepy"), false)]);
        assert_eq!((track.reason(), track.unknown()), (StopReason::Unknown, Some("Sleepy")));
    }

    #[test]
    fn a_value_that_is_no_text_is_a_reason_that_is_not_known() {
        for value in [Value::from(5), Value::from(false), serde_json::json!({}), serde_json::json!(["stop"])] {
            let mut track = StopTrack::default();
            track.chunk(OPENAI, Some(&value), true);
            assert_eq!(track.unknown(), Some(value.to_string().as_str()));
        }
    }

    #[test]
    fn a_later_end_does_not_erase_an_earlier_reason() {
        let two = |first, second| track(&[(Some(first), true), (Some(second), false)]);
        for (first, reason) in [("length", StopReason::Length), ("content_filter", StopReason::Refusal)] {
            assert_eq!(two(first, "stop").reason(), reason);
            assert_eq!(two("stop", first).reason(), reason);
        }
        assert_eq!(two("sleepy", "stop").unknown(), Some("sleepy"));
        assert_eq!(two("error", "stop").server_failed(), Some("error"));
        assert_eq!(two("stop", "error").server_failed(), Some("error"));
    }

    #[test]
    fn a_reason_in_every_chunk_is_no_single_end() {
        let every = track(&[(Some("stop"), true), (Some("stop"), true)]);
        assert!(every.came_last() && !every.ended_once() && !every.ended_on_open_line());
        let once = track(&[(None, true), (Some("stop"), true), (None, false)]);
        assert!(once.came_last() && once.ended_once() && once.ended_on_open_line());
        let repeated = track(&[(None, true), (Some("stop"), false), (Some("stop"), false)]);
        assert!(repeated.ended_once() && !repeated.ended_on_open_line());
        let more = track(&[(Some("stop"), true), (None, true)]);
        assert!(!more.came_last() && !more.ended_once() && !more.ended_on_open_line());
    }
}
