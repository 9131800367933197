//! Reads replies whose server splits a character into the two halves of its surrogate pair.

use super::*;

const OPENAI: &[&str] = &[
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Grüße \ud83d"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"\ude00!"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
    "[DONE]",
];
const ANTHROPIC: &[&str] = &[
    r#"{"type":"message_start","message":{"id":"m","model":"m","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße \uD83D"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\uDE00!"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
];
const GEMINI: &[&str] = &[
    r#"{"candidates":[{"content":{"parts":[{"text":"Grüße \ud83d"}]}}],"modelVersion":"m"}"#,
    r#"{"candidates":[{"content":{"parts":[{"text":"\ude00!"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7}}"#,
];
const RESPONSES: &[&str] = &[
    r#"{"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"Grüße \ud83d"}"#,
    r#"{"type":"response.output_text.delta","item_id":"m","output_index":0,"delta":"\ude00!"}"#,
    r#"{"type":"response.output_text.done","item_id":"m","output_index":0,"text":"Grüße \ud83d\ude00!"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"m","type":"message","content":[{"type":"output_text","text":"Grüße 😀!"}]}}"#,
    r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[],"usage":{"input_tokens":7,"output_tokens":5}}}"#,
];

const STREAMS: [(Dialect, &[&str]); 4] = [
    (Dialect::OpenAi, OPENAI),
    (Dialect::Anthropic, ANTHROPIC),
    (Dialect::Gemini, GEMINI),
    (Dialect::Responses, RESPONSES),
];

fn is_joined(reply: &ChatReply) -> bool {
    (&*reply.text(), reply.stop) == ("Grüße 😀!", StopReason::End) && reply.details.is_empty()
}

#[tokio::test]
async fn the_halves_of_a_character_are_joined_for_every_split() {
    for (dialect, events) in STREAMS {
        let complete = stream_bytes(events, "");
        for split in 0..=complete.len() {
            let chunks = vec![complete[..split].to_vec(), complete[split..].to_vec()];
            let reply = read_chunks(dialect, chunks, false).await.unwrap();
            assert!(is_joined(&reply), "{dialect} {split}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_stream_with_halves_gives_the_joined_text_or_a_failure() {
    for (dialect, events) in STREAMS {
        let complete = stream_bytes(events, "");
        for (end, is_reset) in (0..complete.len()).flat_map(|end| [(end, false), (end, true)]) {
            if let Ok(reply) = read_chunks(dialect, vec![complete[..end].to_vec()], is_reset).await {
                assert!(is_joined(&reply), "{dialect} {end} {is_reset}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_lone_half_is_an_escape_in_the_text_and_named_in_the_details() {
    for (dialect, body) in WHOLE_REPLIES {
        let body = body.replace("日本", "\\ud83dx");
        for end in ["", "\n"] {
            let reply = read_whole_reply(dialect, vec![format!("{body}{end}").into_bytes()], false).await.unwrap();
            assert_eq!(reply.text(), "Grüße — \\ud83dx", "{dialect}");
            assert!(reply.details.half_surrogate, "{dialect}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_reply_with_a_half_is_complete_although_the_connection_breaks() {
    for (dialect, body) in WHOLE_REPLIES {
        let body = body.replace("日本", "\\ude00");
        let reply = read_whole_reply(dialect, vec![body.into_bytes()], true).await.unwrap();
        assert!(reply.details.half_surrogate, "{dialect}: {reply:?}");
    }
}
