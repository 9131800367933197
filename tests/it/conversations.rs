//! Long conversations in every dialect: each request repeats the one before and appends to it, the data that a provider
//! wants back returns unchanged, and the cached tokens that the provider reports are counted.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::step_kinds::{project, run};
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// The number of rejected replies before the valid one.
const RE_ASKS: usize = 20;

const STEP: &str = "  - { id: one, agent: a, schema: s.json, prompt: one.md, output: x, re_ask: 20 }\n";

/// A dialect: its name, the list of messages in its requests, and the blocks that must come back.
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    messages: &'static str,
    /// The reply with this text, where `turn` is the number of the request and `cached` of `prompt` tokens came from the
    /// cache.
    pub(crate) reply: fn(text: &str, turn: usize, prompt: usize, cached: usize) -> Value,
    /// Whether a message of a request holds what the provider sent in this turn and wants back.
    returns: fn(message: &Value, turn: usize) -> bool,
}

pub(crate) fn signature(turn: usize) -> String {
    format!("signature-{turn}")
}

pub(crate) const DIALECTS: [Dialect; 5] = [
    Dialect {
        name: "anthropic",
        messages: "messages",
        reply: |text, turn, prompt, cached| {
            json!({
                "type": "message", "id": "m", "model": "test", "stop_reason": "end_turn",
                "content": [
                    { "type": "thinking", "thinking": "Let me see.", "signature": signature(turn) },
                    { "type": "redacted_thinking", "data": signature(turn) },
                    { "type": "text", "text": text },
                ],
                "usage": { "input_tokens": prompt - cached, "cache_read_input_tokens": cached, "output_tokens": 5 },
            })
        },
        returns: |message, turn| {
            message["role"] == "assistant"
                && message["content"][0]
                    == json!({ "type": "thinking", "thinking": "Let me see.", "signature": signature(turn) })
                && message["content"][1] == json!({ "type": "redacted_thinking", "data": signature(turn) })
        },
    },
    Dialect {
        name: "openai",
        messages: "messages",
        reply: |text, _, prompt, cached| {
            json!({
                "id": "c", "object": "chat.completion", "model": "test",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
                "usage": {
                    "prompt_tokens": prompt, "completion_tokens": 5, "prompt_tokens_details": { "cached_tokens": cached },
                },
            })
        },
        // The Chat Completions API of OpenAI has nothing that must come back beside the text.
        returns: |message, _| message["role"] == "assistant" && message["content"].is_string(),
    },
    Dialect {
        name: "responses",
        messages: "input",
        reply: |text, turn, prompt, cached| {
            json!({
                "id": "r", "object": "response", "model": "test", "status": "completed",
                "output": [
                    { "type": "reasoning", "id": "rs", "summary": [], "encrypted_content": signature(turn) },
                    {
                        "type": "message", "id": "m", "role": "assistant", "status": "completed",
                        "content": [{ "type": "output_text", "text": text, "annotations": [] }],
                    },
                ],
                "usage": {
                    "input_tokens": prompt, "output_tokens": 5, "input_tokens_details": { "cached_tokens": cached },
                    "output_tokens_details": { "reasoning_tokens": 2 },
                },
            })
        },
        returns: |message, turn| message["type"] == "reasoning" && message["encrypted_content"] == signature(turn),
    },
    Dialect {
        name: "gemini",
        messages: "contents",
        reply: |text, turn, prompt, cached| {
            json!({
                "responseId": "g", "modelVersion": "test",
                "candidates": [{
                    "finishReason": "STOP",
                    "content": { "role": "model", "parts": [{ "text": text, "thoughtSignature": signature(turn) }] },
                }],
                "usageMetadata": {
                    "promptTokenCount": prompt, "candidatesTokenCount": 5, "cachedContentTokenCount": cached,
                },
            })
        },
        returns: |message, turn| {
            let parts = message["parts"].as_array().into_iter().flatten();
            message["role"] == "model" && parts.into_iter().any(|part| part["thoughtSignature"] == signature(turn))
        },
    },
    Dialect {
        name: "converse",
        messages: "messages",
        reply: |text, turn, prompt, cached| {
            json!({
                "output": { "message": { "role": "assistant", "content": [
                    { "reasoningContent": { "reasoningText": { "text": "hm", "signature": signature(turn) } } },
                    { "text": text },
                ] } },
                "stopReason": "end_turn",
                "usage": {
                    "inputTokens": prompt - cached, "cacheReadInputTokens": cached, "outputTokens": 5,
                    "totalTokens": prompt + 5,
                },
            })
        },
        returns: |message, turn| {
            message["role"] == "assistant"
                && message["content"][0]["reasoningContent"]["reasoningText"]["signature"] == signature(turn)
        },
    },
];

/// The messages of a request, without the marks that say where the cache ends.
fn messages(request: &ReceivedRequest, dialect: &Dialect) -> Vec<Value> {
    fn strip_marks(value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(strip_marks),
            Value::Object(map) => {
                map.remove("cache_control");
                map.values_mut().for_each(strip_marks);
            }
            _ => {}
        }
    }
    let mut list = request.body[dialect.messages].as_array().unwrap().clone();
    list.iter_mut().for_each(strip_marks);
    // A marked text is a list with one block, and without a mark it may be a string.
    for message in &mut list {
        let text = message["content"].as_array().filter(|parts| parts.len() == 1).map(|parts| parts[0]["text"].clone());
        if let Some(text @ Value::String(_)) = text {
            message["content"] = text;
        }
    }
    list
}

fn byte_len(messages: &[Value]) -> usize {
    messages.iter().map(|message| message.to_string().len()).sum()
}

/// A project with these steps whose provider `lab` speaks the dialect. Replies fit the schema `s.json` if they have an
/// integer `n`.
pub(crate) fn project_for(dialect: &Dialect, server: &Server, steps: &str) -> Orch {
    let orch = project(server, steps);
    let address = if dialect.name == "openai" || dialect.name == "responses" { "/v1" } else { "" };
    let settings = format!(
        "providers:\n  lab: {{ dialect: {}, base_url: \"{}{address}\" }}\ndefaults: {{ model: lab/test }}\n",
        dialect.name,
        server.url()
    );
    orch.write("orch.yaml", &settings);
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    orch.write("schemas/s.json", &schema.to_string());
    orch
}

#[test]
fn each_of_twenty_re_asks_appends_to_the_request_before_it() {
    for dialect in &DIALECTS {
        let previous: Mutex<Vec<Value>> = Mutex::new(Vec::new());
        let cached_counts: Mutex<Vec<usize>> = Mutex::new(Vec::new());
        let counts = std::sync::Arc::new(cached_counts);
        let seen = counts.clone();
        let server = Server::start(move |request| {
            let mut previous = previous.lock().unwrap();
            let list = messages(request, dialect);
            assert!(list.starts_with(&previous), "{}: {list:#?} does not begin with {previous:#?}", dialect.name);
            let turn = seen.lock().unwrap().len();
            let (prompt, cached) = (byte_len(&list), byte_len(&previous));
            seen.lock().unwrap().push(cached);
            *previous = list;
            let text = if turn < RE_ASKS { format!("{{\"m\": {turn}}}") } else { "{\"n\": 1}".to_owned() };
            Reply::typed("application/json", (dialect.reply)(&text, turn, prompt, cached).to_string())
        });
        let orch = project_for(dialect, &server, STEP);
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 0, "{}: {ran:?}", dialect.name);
        let requests = server.requests();
        assert_eq!(requests.len(), RE_ASKS + 1, "{}", dialect.name);
        let cached = counts.lock().unwrap().clone();
        assert!(cached.windows(2).all(|pair| pair[0] < pair[1]), "{}: {cached:?}", dialect.name);
        assert_eq!(report["usage"]["cache_read"], json!(cached.iter().sum::<usize>()), "{}", dialect.name);
        let last = messages(requests.last().unwrap(), dialect);
        for turn in 0..RE_ASKS {
            let is_returned = last.iter().any(|message| (dialect.returns)(message, turn));
            assert!(is_returned, "{}: what turn {turn} sent did not come back: {last:#?}", dialect.name);
        }
    }
}

/// The texts of a request's messages, block by block, each with the role of its message.
fn texts(request: &ReceivedRequest, dialect: &Dialect) -> Vec<String> {
    let mut texts = Vec::new();
    for message in request.body[dialect.messages].as_array().unwrap() {
        let content = if message["parts"].is_null() { &message["content"] } else { &message["parts"] };
        let blocks: Vec<&Value> = match content {
            Value::Array(blocks) => blocks.iter().map(|block| &block["text"]).collect(),
            text => vec![text],
        };
        let role = message["role"].as_str().unwrap_or_default();
        texts.extend(blocks.iter().map(|text| format!("{role}: {}", text.as_str().unwrap_or_default())));
    }
    texts
}

#[test]
fn a_re_ask_that_does_not_quote_the_reply_appends_too() {
    const EMPTY: &str = "";
    const WRONG: &str = "{\"m\": 1}";
    for dialect in &DIALECTS {
        for replies in [[EMPTY, EMPTY, WRONG], [WRONG, EMPTY, EMPTY], [EMPTY, WRONG, EMPTY]] {
            let turn = std::sync::atomic::AtomicUsize::new(0);
            let server = Server::start(move |_| {
                let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let text = replies.get(turn).copied().unwrap_or("{\"n\": 1}");
                Reply::typed("application/json", (dialect.reply)(text, turn, 9, 0).to_string())
            });
            let orch = project_for(dialect, &server, STEP);
            let (ran, _) = run(&orch, &[]);
            assert_eq!(ran.code, 0, "{}: {ran:?}", dialect.name);
            let requests: Vec<Vec<String>> = server.requests().iter().map(|request| texts(request, dialect)).collect();
            assert_eq!(requests.len(), replies.len() + 1, "{}: {requests:#?}", dialect.name);
            for pair in requests.windows(2) {
                // A message of Chat Completions is one text, which orch extends.
                let appends = match dialect.name {
                    "openai" => pair[1].join("\n").starts_with(&pair[0].join("\n")),
                    _ => pair[1].starts_with(&pair[0]),
                };
                assert!(appends && pair[0] != pair[1], "{} {replies:?}: {pair:#?}", dialect.name);
            }
        }
    }
}

#[test]
fn signed_reasoning_of_chat_completions_comes_back() {
    let detail = |field: &str, value: &str| json!({ "type": "reasoning.text", "index": 0, field: value });
    let chunk = |delta: Value| json!({ "choices": [{ "index": 0, "delta": delta }] });
    let reply = move |text: &str, is_signed: bool| {
        let mut events = vec![
            chunk(json!({ "content": "", "reasoning_details": [detail("text", "Let me ")] })),
            chunk(json!({ "content": "", "reasoning_details": [detail("text", "see.")] })),
            chunk(json!({ "content": text })),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
        ];
        if is_signed {
            events.insert(2, chunk(json!({ "reasoning_details": [detail("signature", "signature-0")] })));
        }
        Reply::events(&events)
    };
    for is_signed in [true, false] {
        let server = Server::start(move |request| {
            let is_re_ask = request.last().contains("Your answer");
            reply(if is_re_ask { "{\"n\": 1}" } else { "{\"m\": 1}" }, is_signed)
        });
        let orch = project_for(&DIALECTS[1], &server, STEP);
        let (ran, _) = run(&orch, &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let requests = server.requests();
        let list = requests[1].body["messages"].as_array().unwrap();
        let answer = list.iter().find(|message| message["role"] == "assistant").unwrap();
        assert_eq!(answer["content"], "{\"m\": 1}");
        let returned =
            json!([{ "type": "reasoning.text", "index": 0, "text": "Let me see.", "signature": "signature-0" }]);
        assert_eq!(answer.get("reasoning_details"), is_signed.then_some(&returned));
    }
}

#[test]
fn a_fallback_to_another_model_does_not_receive_the_data_of_the_first() {
    for dialect in &DIALECTS {
        let server = Server::start(move |request| {
            let turn = usize::from(request.body["model"] == "other" || request.path.contains("other"));
            let text = if turn == 1 { "{\"n\": 1}" } else { "{\"m\": 1}" };
            Reply::typed("application/json", (dialect.reply)(text, turn, 9, 0).to_string())
        });
        let orch = project_for(dialect, &server, STEP);
        orch.edit("pipelines/main.yaml", "re_ask: 20", "re_ask: 1, retry: { max: 1 }, fallback: [lab/other]");
        let (ran, _) = run(&orch, &[]);
        assert_eq!(ran.code, 0, "{}: {ran:?}", dialect.name);
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{}: {ran:?}", dialect.name);
        let text = String::from_utf8_lossy(&requests[2].bytes).into_owned();
        assert!(!text.contains("signature"), "{}: {text}", dialect.name);
    }
}
