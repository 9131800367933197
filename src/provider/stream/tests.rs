//! Streams read event by event: complete, split anywhere, and cut off anywhere.

use futures_util::stream;

use super::*;
use crate::clock::SystemClock;
use crate::model::chat::{ChatReply, StopReason};
use crate::provider::{Dialect, RequestLimits};
use crate::provider::{anthropic, gemini, openai};

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
const WHOLE: &str = "Grüße — 日本";

fn bytes(events: &[&str], ping: &str) -> Vec<u8> {
    events.iter().map(|event| format!("data: {event}\n\n{ping}")).collect::<String>().into_bytes()
}

/// The result of reading these chunks, after which the body ends properly, or with a connection error if it `breaks`.
async fn read(dialect: Dialect, chunks: Vec<Vec<u8>>, breaks: bool) -> Result<ChatReply, Failure> {
    let end = breaks.then(|| Err(std::io::Error::other("reset")));
    let chunks: Vec<_> = chunks.into_iter().map(Ok).chain(end).collect();
    let response = http::Response::new(reqwest::Body::wrap_stream(stream::iter(chunks)));
    let endpoint = Endpoint {
        name: "lab".into(),
        dialect,
        base_url: "http://lab".into(),
        api_key: None,
        key_variable: None,
        headers: Vec::new(),
        structured: true,
        key_header: None,
        query: Vec::new(),
        network: std::sync::Arc::default(),
    };
    let limits = RequestLimits::default();
    let first_byte = Instant::now() + limits.first_byte;
    let (endpoint, limits) = (&endpoint, &limits);
    let body = ResponseBody { response: response.into(), endpoint, limits, first_byte, received: 0, silent: false };
    match dialect {
        Dialect::Anthropic => hear(anthropic::AnthropicReply::default(), body).await,
        Dialect::OpenAi => hear(openai::OpenAiReply::default(), body).await,
        Dialect::Gemini => hear(gemini::GeminiReply::default(), body).await,
    }
}

async fn hear<A: Assembler>(mut assembler: A, mut body: ResponseBody<'_>) -> Result<ChatReply, Failure> {
    let context = RequestContext { endpoint: body.endpoint, model: "m", clock: &SystemClock, header_wait: None };
    let mut progress = ExchangeProgress::default();
    let first = body.chunk().await?.unwrap_or_default();
    let (assembler_, progress) = (&mut assembler, &mut progress);
    let mut hearing =
        Hearing { context: &context, assembler: assembler_, sink: &|_| {}, progress, seen: StreamContent::default() };
    hearing.events(first, &mut body).await?;
    Ok(assembler.reply())
}

fn is_whole(reply: &ChatReply) -> bool {
    (reply.text.as_str(), reply.stop) == (WHOLE, StopReason::End) && reply.remarks.is_empty()
}

const GOOD: [(Dialect, &[&str], &str); 3] = [
    (Dialect::OpenAi, OPENAI, ": ping\n\n"),
    (Dialect::Anthropic, ANTHROPIC, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    (Dialect::Gemini, GEMINI, ": ping\n\n"),
];

#[tokio::test]
async fn a_good_stream_is_whole_wherever_it_is_split_and_whatever_pings_come_between() {
    for (dialect, events, ping) in GOOD {
        for ping in ["", ping] {
            let good = bytes(events, ping);
            for at in 0..=good.len() {
                let chunks = vec![good[..at].to_vec(), good[at..].to_vec()];
                let reply = read(dialect, chunks, false).await.unwrap();
                assert!(is_whole(&reply), "{dialect} {at}: {reply:?}");
            }
            let single = good.iter().map(|byte| vec![*byte]).collect();
            assert!(is_whole(&read(dialect, single, false).await.unwrap()), "{dialect}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_gives_the_whole_reply_or_none() {
    for (dialect, events, ping) in GOOD {
        for ping in ["", ping] {
            let good = bytes(events, ping);
            for (at, breaks) in (0..good.len()).flat_map(|at| [(at, false), (at, true)]) {
                if let Ok(reply) = read(dialect, vec![good[..at].to_vec()], breaks).await {
                    assert!(is_whole(&reply), "{dialect} {at} {breaks}: {reply:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_reason_in_every_chunk_and_then_a_reset_is_not_whole() {
    let openai = r#"{"choices":[{"delta":{"content":"half "},"finish_reason":"stop"}]}"#;
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"half "}]},"finishReason":"STOP"}]}"#;
    for (dialect, chunk) in [(Dialect::OpenAi, openai), (Dialect::Gemini, gemini)] {
        for events in [vec![chunk], vec![chunk, chunk]] {
            let failure = read(dialect, vec![bytes(&events, "")], true).await.unwrap_err();
            assert!(failure.message.contains("broke off after"), "{failure:?}");
        }
    }
    // Without a connection error the dialects differ: only Chat Completions has an end mark, which is missing here.
    let chunks = |chunk| vec![bytes(&[chunk, chunk], "")];
    assert!(read(Dialect::OpenAi, chunks(openai), false).await.is_err());
    assert_eq!(read(Dialect::Gemini, chunks(gemini), false).await.unwrap().text, "half half ");
}
