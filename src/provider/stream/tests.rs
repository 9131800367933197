//! Reads streams that are complete, split anywhere or cut off anywhere.

mod calls;
mod halves;

use futures_util::stream;

use super::*;
use crate::clock::SystemClock;
use crate::model::chat::{ChatReply, StopReason};
use crate::provider::http::{ReceivedResponse, read_received_response};
use crate::provider::{Dialect, RequestLimits};
use crate::provider::{anthropic, converse, gemini, openai, responses};

const OPENAI: &[&str] = &[
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"Grüße — "},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"日本"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
    "[DONE]",
];
const ANTHROPIC: &[&str] = &[
    r#"{"type":"message_start","message":{"id":"m","model":"m","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße — "}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"日本"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
];
const GEMINI: &[&str] = &[
    r#"{"candidates":[{"content":{"parts":[{"text":"Grüße — "}]}}],"modelVersion":"m"}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"日本"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7}}"#,
];
const RESPONSES: &[&str] = &[
    r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","error":null,"output":[],"usage":null}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[]}}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[],"encrypted_content":"e"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"m","type":"message","content":[]}}"#,
    r#"{"type":"response.output_text.delta","item_id":"m","output_index":1,"content_index":0,"delta":"Grüße — "}"#,
    r#"{"type":"response.output_text.delta","item_id":"m","output_index":1,"content_index":0,"delta":"日本"}"#,
    r#"{"type":"response.output_text.done","item_id":"m","output_index":1,"content_index":0,"text":"Grüße — 日本"}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"m","type":"message","content":[{"type":"output_text","text":"Grüße — 日本"}]}}"#,
    r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[],"usage":{"input_tokens":7,"output_tokens":5}}}"#,
];
/// The dialect has no stream of events, so this is the whole reply.
const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"hm","signature":"s"}}},{"text":"Grüße — 日本"}]}},"stopReason":"end_turn","usage":{"inputTokens":7,"outputTokens":5,"totalTokens":12}}"#;
/// A reply of each dialect from a server that does not stream.
const WHOLE_REPLIES: [(Dialect, &str); 5] = [
    (
        Dialect::Anthropic,
        r#"{"type":"message","id":"m","model":"m","content":[{"type":"text","text":"Grüße — 日本"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":5}}"#,
    ),
    (
        Dialect::OpenAi,
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Grüße — 日本"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
    ),
    (
        Dialect::Responses,
        r#"{"id":"r","status":"completed","output":[{"id":"rs","type":"reasoning","summary":[],"encrypted_content":"e"},{"id":"m","type":"message","content":[{"type":"output_text","text":"Grüße — 日本"}]}],"usage":{"input_tokens":7,"output_tokens":5}}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"candidates":[{"content":{"parts":[{"text":"Grüße — 日本"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7},"modelVersion":"m"}"#,
    ),
    (Dialect::Converse, CONVERSE),
];
const FULL_TEXT: &str = "Grüße — 日本";

fn stream_bytes(events: &[&str], ping: &str) -> Vec<u8> {
    events.iter().map(|event| format!("data: {event}\n\n{ping}")).collect::<String>().into_bytes()
}

/// Reads the reply in a stream that arrives in chunks. After the last chunk, the stream ends properly, or with a
/// connection error if `is_reset` is true.
async fn read_chunks(dialect: Dialect, chunks: Vec<Vec<u8>>, is_reset: bool) -> Result<ChatReply, Failure> {
    let end = is_reset.then(|| Err(std::io::Error::other("reset")));
    let chunks: Vec<_> = chunks.into_iter().map(Ok).chain(end).collect();
    let response = http::Response::new(reqwest::Body::wrap_stream(stream::iter(chunks)));
    let endpoint = Endpoint::new("lab", dialect, "http://lab");
    let limits = RequestLimits::default();
    let first_byte_deadline = Instant::now() + limits.first_byte_timeout;
    let body = ResponseBody::new(response.into(), &endpoint, &limits, first_byte_deadline);
    match dialect {
        Dialect::Anthropic => read_reply(anthropic::AnthropicReply::default(), body).await,
        Dialect::OpenAi => read_reply(openai::OpenAiReply::default(), body).await,
        Dialect::Responses => read_reply(responses::ResponsesReply::default(), body).await,
        Dialect::Gemini => read_reply(gemini::GeminiReply::default(), body).await,
        Dialect::Converse => read_reply(converse::ConverseReply::default(), body).await,
    }
}

async fn read_reply<A: Assembler>(mut assembler: A, mut body: ResponseBody<'_>) -> Result<ChatReply, Failure> {
    let context = RequestContext { endpoint: body.endpoint, model: "m", clock: &SystemClock, retry_after_ms: None };
    let mut progress = ExchangeProgress::default();
    let first_chunk = body.next_chunk().await?.unwrap_or_default();
    let mut reader = StreamReader {
        context: &context,
        assembler: &mut assembler,
        sink: &|_| {},
        progress: &mut progress,
        content: StreamContent::default(),
    };
    reader.read_events(first_chunk, &mut body).await?;
    Ok(assembler.into_reply())
}

/// The events of a stream, and an event that keeps its connection alive.
type StreamCase = (Dialect, &'static [&'static str], &'static str);

/// Asserts that each stream gives the expected reply, however it is split.
async fn assert_read_for_every_split(streams: &[StreamCase], is_expected: fn(&ChatReply) -> bool) {
    for &(dialect, events, ping) in streams {
        for ping in ["", ping] {
            let complete = stream_bytes(events, ping);
            for split in 0..=complete.len() {
                let chunks = vec![complete[..split].to_vec(), complete[split..].to_vec()];
                let reply = read_chunks(dialect, chunks, false).await.unwrap();
                assert!(is_expected(&reply), "{dialect} {split}: {reply:?}");
            }
            let single_bytes = complete.iter().map(|byte| vec![*byte]).collect();
            assert!(is_expected(&read_chunks(dialect, single_bytes, false).await.unwrap()), "{dialect}");
        }
    }
}

/// Asserts that each stream, cut off anywhere, gives the expected reply or a failure.
async fn assert_read_or_failed_if_cut(streams: &[StreamCase], is_expected: fn(&ChatReply) -> bool) {
    for &(dialect, events, ping) in streams {
        for ping in ["", ping] {
            let complete = stream_bytes(events, ping);
            for (end, is_reset) in (0..complete.len()).flat_map(|end| [(end, false), (end, true)]) {
                if let Ok(reply) = read_chunks(dialect, vec![complete[..end].to_vec()], is_reset).await {
                    assert!(is_expected(&reply), "{dialect} {end} {is_reset}: {reply:?}");
                }
            }
        }
    }
}

fn is_full_reply(reply: &ChatReply) -> bool {
    (&*reply.text(), reply.stop) == (FULL_TEXT, StopReason::End) && reply.details.is_empty()
}

/// A stream and a keep-alive event of each dialect. Converse has no stream, but a gateway may send its reply as one
/// event.
const COMPLETE_STREAMS: [StreamCase; 5] = [
    (Dialect::OpenAi, OPENAI, ": ping\n\n"),
    (Dialect::Anthropic, ANTHROPIC, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    (Dialect::Responses, RESPONSES, "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
    (Dialect::Gemini, GEMINI, ": ping\n\n"),
    (Dialect::Converse, &[CONVERSE], ": ping\n\n"),
];

#[tokio::test]
async fn a_complete_stream_gives_the_full_reply_for_every_split_and_with_pings() {
    assert_read_for_every_split(&COMPLETE_STREAMS, is_full_reply).await;
}

#[tokio::test]
async fn a_cut_stream_gives_the_full_reply_or_a_failure() {
    assert_read_or_failed_if_cut(&COMPLETE_STREAMS, is_full_reply).await;
}

/// Reads a reply that is one JSON value and arrives in chunks. After the last chunk, the body ends properly, or with a
/// connection error if `is_reset` is true.
async fn read_whole_reply(dialect: Dialect, chunks: Vec<Vec<u8>>, is_reset: bool) -> Result<ChatReply, Failure> {
    let end = is_reset.then(|| Err(std::io::Error::other("reset")));
    let chunks: Vec<_> = chunks.into_iter().map(Ok).chain(end).collect();
    let mut response = http::Response::new(reqwest::Body::wrap_stream(stream::iter(chunks)));
    let content_type = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    let (endpoint, limits) = (Endpoint::new("lab", dialect, "http://lab"), RequestLimits::default());
    let received = ReceivedResponse { endpoint: &endpoint, response: response.into(), limits: &limits };
    match dialect {
        Dialect::Anthropic => read_received_response(received, anthropic::AnthropicReply::default(), &|_| {}).await,
        Dialect::OpenAi => read_received_response(received, openai::OpenAiReply::default(), &|_| {}).await,
        Dialect::Responses => read_received_response(received, responses::ResponsesReply::default(), &|_| {}).await,
        Dialect::Gemini => read_received_response(received, gemini::GeminiReply::default(), &|_| {}).await,
        Dialect::Converse => read_received_response(received, converse::ConverseReply::default(), &|_| {}).await,
    }
}

#[tokio::test]
async fn a_reply_that_is_not_streamed_is_read_whole_for_every_split() {
    for (dialect, body) in WHOLE_REPLIES {
        let body = body.as_bytes();
        for split in 0..=body.len() {
            for is_reset in [false, true] {
                let chunks = vec![body[..split].to_vec(), body[split..].to_vec()];
                let reply = read_whole_reply(dialect, chunks, is_reset).await.unwrap();
                assert!(is_full_reply(&reply), "{dialect} {split} {is_reset}: {reply:?}");
            }
        }
        let single_bytes = body.iter().map(|byte| vec![*byte]).collect();
        assert!(is_full_reply(&read_whole_reply(dialect, single_bytes, false).await.unwrap()), "{dialect}");
    }
}

#[tokio::test]
async fn a_cut_reply_that_is_not_streamed_is_a_failure() {
    for (dialect, body) in WHOLE_REPLIES {
        for (end, is_reset) in (0..body.len()).flat_map(|end| [(end, false), (end, true)]) {
            let result = read_whole_reply(dialect, vec![body.as_bytes()[..end].to_vec()], is_reset).await;
            assert!(result.is_err(), "{dialect} {end} {is_reset}: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_after_a_reason_in_every_chunk_is_a_failure() {
    let openai = r#"{"choices":[{"delta":{"content":"half "},"finish_reason":"stop"}]}"#;
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"half "}]},"finishReason":"STOP"}]}"#;
    for (dialect, chunk) in [(Dialect::OpenAi, openai), (Dialect::Gemini, gemini)] {
        for events in [vec![chunk], vec![chunk, chunk]] {
            let failure = read_chunks(dialect, vec![stream_bytes(&events, "")], true).await.unwrap_err();
            assert!(failure.message.contains("broke off after"), "{failure:?}");
        }
    }
    // If the stream ends properly, only Chat Completions fails, because its end marker is missing.
    let chunks = |chunk| vec![stream_bytes(&[chunk, chunk], "")];
    assert!(read_chunks(Dialect::OpenAi, chunks(openai), false).await.is_err());
    assert_eq!(read_chunks(Dialect::Gemini, chunks(gemini), false).await.unwrap().text(), "half half ");
}
