//! The dialects `openai` and `responses` against an independent server: llama.cpp's own.
//!
//! Needs `ORCH_TEST_LLAMACPP_PYTHON`, a Python with the package `xllamacpp`, and
//! `ORCH_TEST_LLAMACPP_MODEL`, a small instruct model as a GGUF file.
#![allow(clippy::print_stdout, reason = "a test may say what it saw")]

use std::env;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orch::model::chat::{ChatRequest, Message, Role, StopReason};
use orch::model::failure::FailureClass;
use orch::model::{Content, ContentBlock, ModelRef, OfferedTools, ToolChoice, ToolDefinition};
use orch::provider::{Dialect, Endpoint, RequestLimits, StreamEvent, create_provider, served_models};
use serde_json::{Value, json};

use crate::support::llamacpp_process::LlamaProcess;
use crate::support::print_skipped;
use crate::support::server::{Reply, Server};

/// The server.
struct LlamaServer {
    process: LlamaProcess,
    /// Only one server runs at a time: each computes on both cores, and several would slow one another down.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl LlamaServer {
    /// Starts the server on the small instruct model; `None`, with a printed reason, where there is none.
    fn start() -> Option<Self> {
        let model = env::var_os("ORCH_TEST_LLAMACPP_MODEL");
        let asked = env::var_os("ORCH_TEST_LLAMACPP_PYTHON").is_some();
        assert!(model.is_some() || !asked, "ORCH_TEST_LLAMACPP_MODEL is not set");
        Self::serving(Path::new(&model.unwrap_or_default()))
    }

    /// Starts the server on a file; `None`, with a printed reason, where there is no such server.
    fn serving(model: &Path) -> Option<Self> {
        let Some(python) = env::var_os("ORCH_TEST_LLAMACPP_PYTHON") else {
            print_skipped("orch is not compared with llama.cpp", "ORCH_TEST_LLAMACPP_PYTHON is not set");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self { process: LlamaProcess::start(&python, model), _turn: turn })
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new("llamacpp", Dialect::OpenAi, self.process.api_url())
    }
}

/// Limits that hold on a machine whose processors are busy with something else.
fn patient_limits() -> RequestLimits {
    let patience = Duration::from_mins(15);
    RequestLimits {
        first_byte_timeout: patience,
        idle_timeout: patience,
        total_timeout: patience,
        ..RequestLimits::default()
    }
}

fn request() -> ChatRequest {
    let messages = vec![Message::user("Is the sky blue? Answer with a verdict and a short reason.")];
    ChatRequest {
        system: "You answer in JSON.".into(),
        temperature: Some(0.0),
        schema: Some(json!({
            "type": "object",
            "properties": {
                "verdict": {"enum": ["yes", "no"]},
                "reason": {"type": "string", "maxLength": 60},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 2}
            },
            "required": ["verdict", "reason", "tags"],
            "additionalProperties": false
        }).into()),
        schema_name: Some("verdict".into()),
        ..ChatRequest::new(ModelRef::new("llamacpp", "default"), messages, 200)
    }
}

#[tokio::test]
async fn llama_cpp_answers_within_the_schema_and_reports_usage() {
    let Some(peer) = LlamaServer::start() else { return };
    let models = served_models(&peer.endpoint(), Duration::from_secs(10)).await.unwrap();
    assert_eq!(models.len(), 1, "{models:?}");

    let provider = create_provider(peer.endpoint());
    let reply = provider.chat(&request(), &patient_limits(), &|_| {}).await.unwrap();
    let value: Value = serde_json::from_str(&reply.text()).unwrap();
    assert!(matches!(value["verdict"].as_str(), Some("yes" | "no")), "{value}");
    assert!(value["reason"].is_string() && value["tags"].is_array(), "{value}");
    assert_eq!(reply.stop, StopReason::End);
    assert!(reply.constrained && reply.id.is_some() && reply.model.is_some(), "{reply:?}");
    assert!(reply.usage.input > Some(10) && reply.usage.output > Some(5), "{:?}", reply.usage);

    let tiny = ChatRequest { max_output_tokens: 3, ..request() };
    let reply = provider.chat(&tiny, &patient_limits(), &|_| {}).await.unwrap();
    assert_eq!((reply.stop, reply.usage.output), (StopReason::Length, Some(3)), "{reply:?}");

    // This is longer than the server's context of 2048 tokens.
    let long = ChatRequest { messages: vec![Message::user("word ".repeat(6000))], ..request() };
    let failure = provider.chat(&long, &patient_limits(), &|_| {}).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::BadRequest, Some(400)), "{failure:?}");
    println!("the peer's words: {failure}");
}

/// A request without a schema, which the Responses API of llama.cpp ignores, with an earlier reply and a short answer.
fn conversation() -> ChatRequest {
    ChatRequest {
        system: "You are terse.".into(),
        messages: vec![Message::user("Say hi."), Message::assistant("hi"), Message::user("Say ho.")],
        max_output_tokens: 12,
        schema: None,
        schema_name: None,
        ..request()
    }
}

#[tokio::test]
async fn the_responses_api_of_llama_cpp_gives_the_reply_of_its_chat_completions() {
    let Some(peer) = LlamaServer::start() else { return };
    let limits = patient_limits();
    let responses = create_provider(Endpoint { dialect: Dialect::Responses, ..peer.endpoint() });
    let streamed = Mutex::new(String::new());
    let sink = |event: StreamEvent| {
        if let StreamEvent::Text(text) = event {
            streamed.lock().unwrap().push_str(&text);
        }
    };
    let reply = responses.chat(&conversation(), &limits, &sink).await.unwrap();
    assert!(!reply.text().trim().is_empty() && reply.id.is_some() && reply.model.is_some(), "{reply:?}");
    assert_eq!(streamed.into_inner().unwrap(), reply.text());
    assert_eq!(reply.stop, StopReason::End);
    // The same tokens of the prompt: the server has read the system prompt and every message.
    let same = create_provider(peer.endpoint()).chat(&conversation(), &limits, &|_| {}).await.unwrap();
    assert_eq!((reply.text(), reply.usage.input), (same.text(), same.usage.input), "{reply:?} {same:?}");

    let question = ChatRequest { max_output_tokens: 3, messages: request().messages, ..conversation() };
    let reply = responses.chat(&question, &limits, &|_| {}).await.unwrap();
    assert_eq!((reply.stop, reply.usage.output), (StopReason::Length, Some(3)), "{reply:?}");

    // This is longer than the server's context of 2048 tokens.
    let long = ChatRequest { messages: vec![Message::user("word ".repeat(6000))], ..conversation() };
    let failure = responses.chat(&long, &limits, &|_| {}).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::BadRequest, Some(400)), "{failure:?}");
}

fn offered(choice: ToolChoice) -> Arc<OfferedTools> {
    let parameters = json!({"type": "object", "properties": {"path": {"enum": ["notes.txt", "todo.txt"]}},
        "required": ["path"], "additionalProperties": false});
    let definition =
        ToolDefinition { name: "read".into(), description: "Reads a file.".into(), parameters: Arc::new(parameters) };
    Arc::new(OfferedTools { definitions: vec![definition], choice })
}

/// The server accepts tools, a call in the conversation, and its result. It does not enforce `required`, and the small
/// model never calls a tool by itself, so the test writes the call.
#[tokio::test]
async fn llama_cpp_accepts_tools_and_reads_the_result_of_a_call() {
    let Some(peer) = LlamaServer::start() else { return };
    let (limits, provider) = (patient_limits(), create_provider(peer.endpoint()));
    let question = ChatRequest {
        system: "You read files.".into(),
        messages: vec![Message::user("What does the file notes.txt say?")],
        tools: offered(ToolChoice::Auto),
        schema: None,
        schema_name: None,
        ..request()
    };
    let reply = provider.chat(&question, &limits, &|_| {}).await.unwrap();
    println!("the reply of the peer to a request with tools: {reply:?}");
    assert!(matches!(reply.stop, StopReason::End | StopReason::Length | StopReason::ToolUse), "{reply:?}");
    let (id, name) = ("call_1".to_owned(), "read".to_owned());
    let call = ContentBlock::ToolCall { id: id.clone(), name: name.clone(), arguments: json!({ "path": "notes.txt" }) };
    let content = "The mill stands by the river.".to_owned();
    let result = ContentBlock::ToolResult { id, name, content, is_error: false };
    let mut messages = question.messages.clone();
    messages.extend([
        Message { role: Role::Assistant, content: Content::from(vec![call]) },
        Message { role: Role::User, content: Content::from(vec![result]) },
    ]);
    let answer = ChatRequest { messages, tools: offered(ToolChoice::None), ..question };
    let answered = provider.chat(&answer, &limits, &|_| {}).await.unwrap();
    println!("the answer after its result: {answered:?}");
    assert!(matches!(answered.stop, StopReason::End | StopReason::Length), "{answered:?}");
    assert!(answered.usage.input > reply.usage.input && !answered.text().trim().is_empty(), "{answered:?}");
}

/// A server in front of the other one that asks it not to stream, and passes on its single JSON object.
fn non_streaming(peer: &LlamaServer) -> Server {
    orch::network::install_tls_provider();
    let server = peer.process.base_url().to_owned();
    Server::start(move |request| {
        let url = format!("{server}{}", request.path);
        let mut body = request.body.clone();
        body["stream"] = json!(false);
        body.as_object_mut().unwrap().remove("stream_options");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async {
            let sent = reqwest::Client::new().post(&url).body(body.to_string()).send().await.unwrap();
            sent.text().await.unwrap()
        });
        Reply::status(200, text)
    })
}

#[tokio::test]
async fn an_unstreamed_reply_of_llama_cpp_is_understood() {
    let Some(peer) = LlamaServer::start() else { return };
    let between = non_streaming(&peer);
    let endpoint = Endpoint { base_url: between.openai_url(), ..peer.endpoint() };
    let reply = create_provider(endpoint).chat(&request(), &patient_limits(), &|_| {}).await.unwrap();
    let value: Value = serde_json::from_str(&reply.text()).unwrap();
    assert!(matches!(value["verdict"].as_str(), Some("yes" | "no")), "{value}");
    assert_eq!(reply.stop, StopReason::End);
    assert!(reply.constrained && reply.usage.input > Some(10) && reply.usage.output > Some(5), "{reply:?}");

    let endpoint = Endpoint { dialect: Dialect::Responses, base_url: between.openai_url(), ..peer.endpoint() };
    let reply = create_provider(endpoint).chat(&conversation(), &patient_limits(), &|_| {}).await.unwrap();
    assert!(!reply.text().trim().is_empty(), "{reply:?}");
    assert_eq!(reply.stop, StopReason::End);
}

/// The probabilities of the first token by llama.cpp, the likeliest first: number and logarithm of the probability of
/// each token.
#[cfg(feature = "local")]
async fn first_token_probabilities(base_url: &str, text: &str) -> Vec<(u32, f64)> {
    let body = json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 1, "temperature": 0,
        "logprobs": true, "top_logprobs": 5 });
    let url = format!("{base_url}/chat/completions");
    let reply = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap().text().await.unwrap();
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let list = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().clone();
    let chance =
        |entry: &Value| (u32::try_from(entry["id"].as_u64().unwrap()).unwrap(), entry["logprob"].as_f64().unwrap());
    list.iter().map(chance).collect()
}

#[cfg(feature = "local")]
#[tokio::test]
async fn the_embedded_engine_and_llama_cpp_agree_on_the_probabilities_of_the_first_token() {
    let Some(peer) = LlamaServer::start() else { return };
    orch::network::install_tls_provider();
    let file = env::var_os("ORCH_TEST_LLAMACPP_MODEL").unwrap();
    let ours = local_llm::Model::load(std::path::Path::new(&file), &local_llm::LoadOptions::default()).unwrap();
    for text in ["What is the capital of France?", "Write a haiku about rust.", "Antworte auf Deutsch: wer bist du?"] {
        let known = ours.likeliest_tokens(&[local_llm::PromptMessage::new("user", text)], 200).unwrap();
        let theirs = first_token_probabilities(peer.process.api_url(), text).await;
        // Both store weights in different formats, so that tokens of similar probability may change places.
        assert!(known.iter().take(2).any(|(token, ..)| *token == theirs[0].0), "{text}: {known:?} {theirs:?}");
        for (token, log) in theirs {
            let (.., own) =
                known.iter().find(|(known, ..)| *known == token).unwrap_or_else(|| panic!("{text}: {token}"));
            assert!((f64::from(*own) - log).abs() < 0.6, "{text}: token {token}: {own} and {log}");
        }
    }
}
