//! Requests whose messages contain more than text: tool calls and results, files, and data that a provider wants back.

use std::sync::Arc;

use bytes::Bytes;
use orch::model::chat::{ChatRequest, Message, Role};
use orch::model::failure::{Failure, FailureClass};
use orch::model::{Content, ContentBlock, Digest};
use orch::provider::{Dialect, FileSource, RequestLimits};
use serde_json::{Value, json};

use super::{DIALECTS, ask, endpoint_of, request, short_limits};
use crate::support::server::{ReceivedRequest, Server};

/// Files whose content is the digest of their name.
#[derive(Debug)]
struct TestFiles;

impl FileSource for TestFiles {
    fn read(&self, digest: &Digest) -> Result<Bytes, Failure> {
        let files = ["cat", "paper"].map(|name| (Digest::compute(name.as_bytes()), name));
        let file = files.iter().find(|(known, _)| known == digest);
        file.map(|(_, name)| Bytes::from_static(name.as_bytes()))
            .ok_or_else(|| Failure::new(FailureClass::Storage, "the file is gone"))
    }
}

pub(crate) fn limits() -> RequestLimits {
    RequestLimits { files: Arc::new(TestFiles), ..short_limits() }
}

fn file(media_type: &str, name: &str) -> ContentBlock {
    ContentBlock::File { media_type: media_type.into(), digest: Digest::compute(name.as_bytes()) }
}

fn opaque(dialect: &str, data: Value) -> ContentBlock {
    ContentBlock::Opaque { dialect: dialect.into(), data }
}

fn call(id: &str, path: &str) -> ContentBlock {
    ContentBlock::ToolCall { id: id.into(), name: "read".into(), arguments: json!({"path": path}) }
}

fn result(id: &str, content: &str, is_error: bool) -> ContentBlock {
    ContentBlock::ToolResult { id: id.into(), name: "read".into(), content: content.into(), is_error }
}

fn message(role: Role, blocks: Vec<ContentBlock>) -> Message {
    Message { role, content: Content::from(blocks) }
}

/// A reasoning item of the Responses API.
fn reasoning() -> Value {
    json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e1"})
}

/// A reasoning block of the Converse API.
fn reasoning_content() -> Value {
    json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s1"}}})
}

/// A conversation with every kind of block.
pub(crate) fn conversation() -> ChatRequest {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s1"});
    let messages = vec![
        message(
            Role::User,
            vec![ContentBlock::text("Compare."), file("image/png", "cat"), file("application/pdf", "paper")],
        ),
        message(
            Role::Assistant,
            vec![
                opaque("anthropic", thought),
                opaque("responses", reasoning()),
                opaque("converse", reasoning_content()),
                ContentBlock::text("I read both."),
                opaque("gemini", json!({"thoughtSignature": "g0"})),
                call("c1", "a"),
                opaque("gemini", json!({"thoughtSignature": "g1"})),
                call("c2", "b"),
                opaque("gemini", json!({"text": "", "thoughtSignature": "g2"})),
            ],
        ),
        // The results come first in the request, wherever the message contains them.
        message(
            Role::User,
            vec![ContentBlock::text("Go on."), result("c1", "A", false), result("c2", "no such file", true)],
        ),
    ];
    ChatRequest { messages, temperature: None, ..request() }
}

async fn sent(dialect: Dialect, request: &ChatRequest) -> ReceivedRequest {
    let server = Server::saying("ok");
    ask(endpoint_of(dialect, &server), request, &limits()).await.unwrap();
    server.requests().remove(0)
}

const CAT: &str = "Y2F0";
const PAPER: &str = "cGFwZXI=";

fn paper_name() -> String {
    format!("file-{}.pdf", Digest::compute(b"paper").short())
}

#[tokio::test]
async fn anthropic_receives_each_block_in_its_format() {
    let body = sent(Dialect::Anthropic, &conversation()).await.body;
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [
                {"type": "text", "text": "Compare."},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": CAT}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PAPER}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "text", "text": "I read both."},
                {"type": "tool_use", "id": "c1", "name": "read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "c2", "name": "read", "input": {"path": "b"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "A"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no such file", "is_error": true},
                {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}},
            ]},
        ])
    );
}

#[tokio::test]
async fn chat_completions_receive_each_block_in_their_format() {
    let body = sent(Dialect::OpenAi, &conversation()).await.body;
    let call = |id: &str, path: &str| json!({"id": id, "type": "function", "function": {"name": "read", "arguments": format!("{{\"path\":\"{path}\"}}")}});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": [
                {"type": "text", "text": "Compare."},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{CAT}")}},
                {"type": "file", "file": {
                    "filename": paper_name(), "file_data": format!("data:application/pdf;base64,{PAPER}")}},
            ]},
            {"role": "assistant", "content": "I read both.", "tool_calls": [call("c1", "a"), call("c2", "b")]},
            {"role": "tool", "tool_call_id": "c1", "content": "A"},
            {"role": "tool", "tool_call_id": "c2", "content": "Error:\nno such file"},
            {"role": "user", "content": "Go on."},
        ])
    );
}

#[tokio::test]
async fn responses_receive_each_block_as_an_item() {
    let body = sent(Dialect::Responses, &conversation()).await.body;
    let call = |id: &str, path: &str| json!({"type": "function_call", "call_id": id, "name": "read", "arguments": format!("{{\"path\":\"{path}\"}}")});
    assert_eq!(
        body["input"],
        json!([
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Compare."},
                {"type": "input_image", "image_url": format!("data:image/png;base64,{CAT}"), "detail": "auto"},
                {"type": "input_file", "filename": paper_name(),
                    "file_data": format!("data:application/pdf;base64,{PAPER}")},
            ]},
            reasoning(),
            {"type": "message", "role": "assistant", "content": "I read both."},
            call("c1", "a"),
            call("c2", "b"),
            {"type": "function_call_output", "call_id": "c1", "output": "A"},
            {"type": "function_call_output", "call_id": "c2", "output": "Error:\nno such file"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on."}]},
        ])
    );
}

#[tokio::test]
async fn responses_receive_the_phase_of_each_message() {
    let phase = |phase: &str| opaque("responses", json!({"type": "message", "phase": phase}));
    let blocks =
        vec![phase("commentary"), ContentBlock::text("First."), phase("final_answer"), ContentBlock::text("Done.")];
    let messages = vec![Message::user("a"), message(Role::Assistant, blocks), Message::user("b")];
    let body = sent(Dialect::Responses, &ChatRequest { messages, ..request() }).await.body;
    let item =
        |phase: &str, text: &str| json!({"type": "message", "role": "assistant", "phase": phase, "content": text});
    assert_eq!(body["input"][1], item("commentary", "First."));
    assert_eq!(body["input"][2], item("final_answer", "Done."));
}

#[tokio::test]
async fn converse_receives_each_block_in_its_format() {
    let body = sent(Dialect::Converse, &conversation()).await.body;
    let name = format!("file-{}", Digest::compute(b"paper").short());
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [
                {"text": "Compare."},
                {"image": {"format": "png", "source": {"bytes": CAT}}},
                {"document": {"format": "pdf", "name": name, "source": {"bytes": PAPER}}},
            ]},
            {"role": "assistant", "content": [
                reasoning_content(),
                {"text": "I read both."},
                {"toolUse": {"toolUseId": "c1", "name": "read", "input": {"path": "a"}}},
                {"toolUse": {"toolUseId": "c2", "name": "read", "input": {"path": "b"}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "A"}], "status": "success"}},
                {"toolResult": {"toolUseId": "c2", "content": [{"text": "no such file"}], "status": "error"}},
                {"text": "Go on."},
            ]},
        ])
    );
}

#[tokio::test]
async fn gemini_receives_each_block_in_its_format_and_each_signature_on_its_part() {
    let body = sent(Dialect::Gemini, &conversation()).await.body;
    assert_eq!(
        body["contents"],
        json!([
            {"role": "user", "parts": [
                {"text": "Compare."},
                {"inlineData": {"mimeType": "image/png", "data": CAT}},
                {"inlineData": {"mimeType": "application/pdf", "data": PAPER}},
            ]},
            {"role": "model", "parts": [
                {"text": "I read both.", "thoughtSignature": "g0"},
                {"functionCall": {"id": "c1", "name": "read", "args": {"path": "a"}}, "thoughtSignature": "g1"},
                {"functionCall": {"id": "c2", "name": "read", "args": {"path": "b"}}},
                {"text": "", "thoughtSignature": "g2"},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "c1", "name": "read", "response": {"output": "A"}}},
                {"functionResponse": {"id": "c2", "name": "read", "response": {"error": "no such file"}}},
                {"text": "Go on."},
            ]},
        ])
    );
}

#[tokio::test]
async fn the_signature_of_a_replaced_part_is_a_part_of_its_own() {
    let blocks = vec![opaque("gemini", json!({"thoughtSignature": "g0"})), ContentBlock::text("yes")];
    let messages = vec![Message::user("a"), message(Role::Assistant, blocks), Message::user("b")];
    let body = sent(Dialect::Gemini, &ChatRequest { messages, ..request() }).await.body;
    assert_eq!(body["contents"][1]["parts"], json!([{"text": "", "thoughtSignature": "g0"}, {"text": "yes"}]));
}

#[tokio::test]
async fn a_message_with_only_a_call_or_only_results_has_no_other_content() {
    let messages = vec![
        Message::user("a"),
        message(Role::Assistant, vec![call("c1", "a")]),
        message(Role::User, vec![result("c1", "A", false)]),
    ];
    let body = sent(Dialect::OpenAi, &ChatRequest { messages, ..request() }).await.body;
    let sent = body["messages"].as_array().unwrap();
    assert_eq!((sent.len(), &sent[2]["content"]), (4, &Value::Null));
    assert_eq!(sent[3], json!({"role": "tool", "tool_call_id": "c1", "content": "A"}));
}

#[tokio::test]
async fn arguments_that_are_not_an_object_become_the_value_of_one() {
    let broken = ContentBlock::ToolCall { id: "c1".into(), name: "read".into(), arguments: json!("{\"path\": ") };
    let messages = vec![Message::user("a"), message(Role::Assistant, vec![broken]), Message::user("b")];
    let request = ChatRequest { messages, ..request() };
    let body = sent(Dialect::Anthropic, &request).await.body;
    assert_eq!(body["messages"][1]["content"][0]["input"], json!({"arguments": "{\"path\": "}));
    let body = sent(Dialect::OpenAi, &request).await.body;
    let arguments = body["messages"][2]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({"arguments": "{\"path\": "}));
}

#[tokio::test]
async fn a_message_with_nothing_for_the_dialect_is_left_out_where_the_api_refuses_it() {
    let blocks = vec![opaque("other", json!({"x": 1}))];
    let messages = vec![Message::user("a"), message(Role::Assistant, blocks), Message::user("b")];
    let request = ChatRequest { messages, ..request() };
    assert_eq!(sent(Dialect::Anthropic, &request).await.body["messages"].as_array().unwrap().len(), 2);
    assert_eq!(sent(Dialect::Gemini, &request).await.body["contents"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn files_that_a_request_can_not_contain_fail_before_it_is_sent() {
    for (block, limits, class, words) in [
        (file("text/csv", "cat"), limits(), FailureClass::BadRequest, "models can't read files of the type `text/csv`"),
        (file("image/png", "dog"), limits(), FailureClass::Storage, "the file is gone"),
        (file("image/png", "cat"), short_limits(), FailureClass::Storage, "which orch has not stored"),
    ] {
        for dialect in DIALECTS {
            let server = Server::saying("ok");
            let request = ChatRequest { messages: vec![message(Role::User, vec![block.clone()])], ..request() };
            let failure = ask(endpoint_of(dialect, &server), &request, &limits).await.unwrap_err();
            assert_eq!(failure.class, class, "{failure:?}");
            assert!(failure.message.contains(words), "{failure:?}");
            assert!(server.requests().is_empty());
        }
    }
}

/// The messages of a request as bytes, without marks for the cache, which move from turn to turn.
fn sent_messages(body: &Value) -> Vec<String> {
    let list = ["messages", "contents", "input"].iter().find_map(|field| body[*field].as_array()).unwrap();
    let mut list = list.clone();
    for message in &mut list {
        for block in message["content"].as_array_mut().into_iter().flatten() {
            block.as_object_mut().unwrap().shift_remove("cache_control");
        }
    }
    list.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_requests_of_a_conversation_grow_by_appending() {
    for dialect in DIALECTS {
        let mut request = conversation();
        let mut before = sent_messages(&sent(dialect, &request).await.body);
        for turn in 0..20 {
            let id = format!("t{turn}");
            let name = dialect.as_str();
            request.messages.extend([
                message(
                    Role::Assistant,
                    vec![
                        opaque(name, json!({"type": "reasoning", "text": "", "thoughtSignature": id})),
                        ContentBlock::text(format!("Turn {turn}.")),
                        call(&id, "a"),
                    ],
                ),
                message(Role::User, vec![result(&id, "A", false), ContentBlock::text("Try again.")]),
            ]);
            let after = sent_messages(&sent(dialect, &request).await.body);
            assert!(after.len() > before.len() && after.starts_with(&before), "{dialect} {turn}");
            before = after;
        }
    }
}
