//! Reads replies with two parallel calls that are complete, split anywhere or cut off anywhere.

use serde_json::json;

use super::*;
use crate::model::content::ContentBlock;

const OPENAI: &[&str] = &[
    r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"read","arguments":""}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\": \"Grü"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ße\"}"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"read","arguments":""}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"path\": \"日本\"}"}}]},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
    "[DONE]",
];
/// The same calls from a server with the index 0 for all of them, a new id in each piece, and another stop reason.
const OPENAI_WITH_MISTAKES: &[&str] = &[
    r#"{"choices":[{"delta":{"content":"","tool_calls":[{"index":0,"id":"a","function":{"name":"read","arguments":""}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"","arguments":"{\"path\": \"Grü"}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"y","function":{"name":null,"arguments":"ße\"}"}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"read","arguments":{"path":"日本"}}}]}}]}"#,
    r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
    "[DONE]",
];
const ANTHROPIC: &[&str] = &[
    r#"{"type":"message_start","message":{"id":"m","model":"m","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"read","input":{}}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"Grü"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"ße\"}"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"read","input":{}}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"日本\"}"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
];
/// The same calls from a server whose blocks are open at the same time.
const ANTHROPIC_INTERLEAVED: &[&str] = &[
    r#"{"type":"message_start","message":{"id":"m","model":"m","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"read","input":{}}}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"read","input":{}}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"Grü"}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \"日"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"ße\"}"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"本\"}"}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}"#,
    r#"{"type":"message_stop"}"#,
];
const GEMINI: &[&str] = &[
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"a","name":"read","args":{"path":"Grüße"}},"thoughtSignature":"s"}]}}],"modelVersion":"m"}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"b","name":"read","args":{"path":"日本"}}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7}}"#,
];
const RESPONSES: &[&str] = &[
    r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","error":null,"output":[],"usage":null}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[]}}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs","type":"reasoning","summary":[],"encrypted_content":"e"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"{\"path\": \"Grü"}"#,
    r#"{"type":"response.output_item.added","output_index":2,"item":{"id":"fc_2","type":"function_call","call_id":"b","name":"read","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_2","output_index":2,"delta":"{\"path\": \"日本\"}"}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":1,"delta":"ße\"}"}"#,
    r#"{"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":1,"arguments":"{\"path\": \"Grüße\"}"}"#,
    r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":"{\"path\": \"Grüße\"}","status":"completed"}}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_2","type":"function_call","call_id":"b","name":"read","arguments":"{\"path\": \"日本\"}","status":"completed"}}"#,
    r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[],"usage":{"input_tokens":7,"output_tokens":5}}}"#,
];
/// The same calls from a server that sends one of them, and the arguments of the other, only at the end.
const RESPONSES_AT_END: &[&str] = &[
    r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","error":null,"output":[],"usage":null}}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":""}}"#,
    r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":"{\"path\": \"Grüße\"}"},{"id":"fc_2","type":"function_call","call_id":"b","name":"read","arguments":"{\"path\": \"日本\"}"}],"usage":{"input_tokens":7,"output_tokens":5}}}"#,
];
const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"a","name":"read","input":{"path":"Grüße"}}},{"toolUse":{"toolUseId":"b","name":"read","input":{"path":"日本"}}}]}},"stopReason":"tool_use","usage":{"inputTokens":7,"outputTokens":5,"totalTokens":12}}"#;

const STREAMS: [StreamCase; 8] = [
    (Dialect::OpenAi, OPENAI, ": ping\n\n"),
    (Dialect::OpenAi, OPENAI_WITH_MISTAKES, ": ping\n\n"),
    (Dialect::Anthropic, ANTHROPIC, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    (Dialect::Anthropic, ANTHROPIC_INTERLEAVED, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    (Dialect::Responses, RESPONSES_AT_END, "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
    (Dialect::Responses, RESPONSES, "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"),
    (Dialect::Gemini, GEMINI, ": ping\n\n"),
    (Dialect::Converse, &[CONVERSE], ": ping\n\n"),
];

/// A reply of each dialect from a server that does not stream.
const WHOLE_REPLIES: [(Dialect, &str); 5] = [
    (
        Dialect::Anthropic,
        r#"{"type":"message","id":"m","model":"m","content":[{"type":"tool_use","id":"a","name":"read","input":{"path":"Grüße"}},{"type":"tool_use","id":"b","name":"read","input":"{\"path\":\"日本\"}"}],"stop_reason":"tool_use","usage":{"input_tokens":7,"output_tokens":5}}"#,
    ),
    (
        Dialect::OpenAi,
        r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"read","arguments":"{\"path\": \"Grüße\"}"}},{"id":"b","type":"function","function":{"name":"read","arguments":{"path":"日本"}}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":5}}"#,
    ),
    (
        Dialect::Responses,
        r#"{"id":"r","status":"completed","output":[{"id":"fc_1","type":"function_call","call_id":"a","name":"read","arguments":"{\"path\": \"Grüße\"}"},{"id":"fc_2","type":"function_call","call_id":"b","name":"read","arguments":{"path":"日本"}}],"usage":{"input_tokens":7,"output_tokens":5}}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"a","name":"read","args":{"path":"Grüße"}}},{"functionCall":{"id":"b","name":"read","args":{"path":"日本"}}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7},"modelVersion":"m"}"#,
    ),
    (Dialect::Converse, CONVERSE),
];

fn has_both_calls(reply: &ChatReply) -> bool {
    let call = |id: &str, path: &str| ContentBlock::ToolCall {
        id: id.to_owned(),
        name: "read".to_owned(),
        arguments: json!({"path": path}),
    };
    let is_call = |block: &&ContentBlock| matches!(block, ContentBlock::ToolCall { .. });
    let calls: Vec<ContentBlock> = reply.content.blocks().iter().filter(is_call).cloned().collect();
    calls == [call("a", "Grüße"), call("b", "日本")] && reply.text().is_empty() && reply.stop == StopReason::ToolUse
}

#[tokio::test]
async fn calls_are_read_for_every_split_and_with_pings() {
    assert_read_for_every_split(&STREAMS, has_both_calls).await;
}

#[tokio::test]
async fn a_cut_stream_gives_both_calls_or_a_failure() {
    assert_read_or_failed_if_cut(&STREAMS, has_both_calls).await;
}

#[tokio::test]
async fn calls_in_a_reply_that_is_not_streamed_are_read_for_every_split() {
    for (dialect, body) in WHOLE_REPLIES {
        let body = body.as_bytes();
        for split in 0..=body.len() {
            for is_reset in [false, true] {
                let chunks = vec![body[..split].to_vec(), body[split..].to_vec()];
                let reply = read_whole_reply(dialect, chunks, is_reset).await.unwrap();
                assert!(has_both_calls(&reply), "{dialect} {split} {is_reset}: {reply:?}");
            }
        }
    }
}
