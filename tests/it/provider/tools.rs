//! Requests with tools: definitions, the choice among them, the schema of the answer, and results.

use std::sync::Arc;

use orch::model::chat::{ChatRequest, Message, Role};
use orch::model::failure::FailureClass;
use orch::model::{Content, ContentBlock, ModelRef, OfferedTools, ToolChoice, ToolDefinition};
use orch::provider::Dialect;
use serde_json::{Value, json};

use super::{DIALECTS, ask, endpoint_of, request, short_limits, through_proxy, with_schema};
use crate::support::server::Server;

/// A schema in the subset of strict mode.
fn strict_parameters() -> Value {
    json!({"type": "object", "properties": {"path": {"type": "string", "description": "The path."}},
        "required": ["path"], "additionalProperties": false})
}

/// A schema outside of it, with a keyword that no API accepts at the root.
fn loose_parameters() -> Value {
    json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"glob": {"type": "string", "minLength": 1}}, "anyOf": [{"required": ["glob"]}, {}]})
}

fn definition(name: &str, parameters: Value) -> ToolDefinition {
    ToolDefinition { name: name.into(), description: format!("The tool {name}."), parameters: Arc::new(parameters) }
}

/// Three tools, the last of which has no arguments.
pub(crate) fn offered(choice: ToolChoice) -> Arc<OfferedTools> {
    let definitions = vec![
        definition("read", strict_parameters()),
        definition("list", loose_parameters()),
        definition("now", json!({"type": "object"})),
    ];
    Arc::new(OfferedTools { definitions, choice })
}

pub(super) fn with_tools(choice: ToolChoice) -> ChatRequest {
    ChatRequest { tools: offered(choice), ..request() }
}

/// A model that receives everything that a dialect can send in a request with tools.
const MODEL: &str = "claude-sonnet-4-5-20250929";

pub(super) async fn sent_body(dialect: Dialect, request: &ChatRequest) -> Value {
    let server = Server::saying("ok");
    ask(endpoint_of(dialect, &server), request, &short_limits()).await.unwrap();
    server.requests().remove(0).body
}

/// The schema of the tool `list` without the keywords that no API accepts at the root.
fn plain_list() -> Value {
    json!({"type": "object", "properties": {"glob": {"type": "string", "minLength": 1}}})
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

#[tokio::test]
async fn chat_completions_receive_functions() {
    let function = |name: &str, parameters: Value, strict: bool| {
        json!({"type": "function", "function": {"name": name, "description": format!("The tool {name}."),
            "parameters": parameters, "strict": strict}})
    };
    let body = sent_body(Dialect::OpenAi, &with_tools(ToolChoice::Auto)).await;
    assert_eq!(
        body["tools"],
        json!([
            function("read", strict_parameters(), true),
            function("list", plain_list(), false),
            function("now", nothing(), false),
        ])
    );
    assert_eq!(body.get("tool_choice"), None);
}

#[tokio::test]
async fn responses_receive_flat_functions() {
    let function = |name: &str, parameters: Value, strict: bool| {
        json!({"type": "function", "name": name, "description": format!("The tool {name}."),
            "parameters": parameters, "strict": strict})
    };
    let body = sent_body(Dialect::Responses, &with_tools(ToolChoice::Auto)).await;
    assert_eq!(
        body["tools"],
        json!([
            function("read", strict_parameters(), true),
            function("list", plain_list(), false),
            function("now", nothing(), false),
        ])
    );
    assert_eq!(body.get("tool_choice"), None);
}

#[tokio::test]
async fn anthropic_receives_tools_in_the_cached_prefix() {
    let tool = |name: &str, schema: Value| {
        let description = format!("The tool {name}.");
        json!({"name": name, "description": description, "input_schema": schema})
    };
    let body = sent_body(Dialect::Anthropic, &with_tools(ToolChoice::Auto)).await;
    let mark = json!({"type": "ephemeral"});
    let mut last = tool("now", nothing());
    last["cache_control"] = mark.clone();
    assert_eq!(body["tools"], json!([tool("read", strict_parameters()), tool("list", plain_list()), last]));
    assert_eq!(body.get("tool_choice"), None);
    // A request may have four marks.
    assert_eq!(body.to_string().matches("cache_control").count(), 4);
    for pointer in ["/system/0", "/messages/0/content/0", "/messages/2/content/0"] {
        assert_eq!(body.pointer(pointer).unwrap()["cache_control"], mark, "{pointer}");
    }
    let options = json!({"provider_options": {"cache_control": {"type": "ephemeral"}}});
    let own_mark =
        ChatRequest { options: Box::new(serde_json::from_value(options).unwrap()), ..with_tools(ToolChoice::Auto) };
    let body = sent_body(Dialect::Anthropic, &own_mark).await;
    assert_eq!(body.to_string().matches("cache_control").count(), 4);
}

#[tokio::test]
async fn gemini_receives_function_declarations() {
    let body = sent_body(Dialect::Gemini, &with_tools(ToolChoice::Auto)).await;
    let list = json!({"type": "object", "properties": {"glob": {"type": "string", "description": "(minLength: 1)"}}});
    assert_eq!(
        body["tools"],
        json!([{"functionDeclarations": [
            {"name": "read", "description": "The tool read.", "parametersJsonSchema": strict_parameters()},
            {"name": "list", "description": "The tool list.", "parametersJsonSchema": list},
            {"name": "now", "description": "The tool now."},
        ]}])
    );
    assert_eq!(body.get("toolConfig"), None);
}

#[tokio::test]
async fn converse_receives_tool_specs_in_the_cached_prefix() {
    let spec = |name: &str, schema: Value| {
        let description = format!("The tool {name}.");
        json!({"toolSpec": {"name": name, "description": description, "inputSchema": {"json": schema}}})
    };
    let specs = [spec("read", strict_parameters()), spec("list", plain_list()), spec("now", nothing())];
    let claude = ChatRequest { model: ModelRef::new("lab", MODEL), ..with_tools(ToolChoice::Auto) };
    let body = sent_body(Dialect::Converse, &claude).await;
    let cache_point = json!({"cachePoint": {"type": "default"}});
    let cached: Vec<Value> = specs.iter().cloned().chain([cache_point]).collect();
    assert_eq!(body["toolConfig"], json!({"tools": cached}));
    assert_eq!(body.to_string().matches("cachePoint").count(), 4);
    // Nova accepts only these keywords at the root, and no cache points.
    let nova = ChatRequest { model: ModelRef::new("lab", "amazon.nova-pro-v1:0"), ..with_tools(ToolChoice::Required) };
    let body = sent_body(Dialect::Converse, &nova).await;
    let mut read = strict_parameters();
    read.as_object_mut().unwrap().shift_remove("additionalProperties");
    let specs = [spec("read", read), spec("list", plain_list()), spec("now", nothing())];
    assert_eq!(body["toolConfig"], json!({"tools": specs, "toolChoice": {"any": {}}}));
    // An inference profile without the name of its model may lead to Nova.
    let profile = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2";
    let profile = ChatRequest { model: ModelRef::new("lab", profile), ..with_tools(ToolChoice::Required) };
    assert_eq!(sent_body(Dialect::Converse, &profile).await["toolConfig"], json!({"tools": specs}));
}

#[tokio::test]
async fn each_dialect_has_its_own_words_for_the_choice() {
    for (dialect, pointer, required, none) in [
        (Dialect::OpenAi, "/tool_choice", json!("required"), json!("none")),
        (Dialect::Responses, "/tool_choice", json!("required"), json!("none")),
        (Dialect::Anthropic, "/tool_choice", json!({"type": "any"}), json!({"type": "none"})),
        (Dialect::Gemini, "/toolConfig/functionCallingConfig/mode", json!("ANY"), json!("NONE")),
    ] {
        for (choice, word) in [(ToolChoice::Required, required), (ToolChoice::None, none)] {
            assert_eq!(sent_body(dialect, &with_tools(choice)).await.pointer(pointer), Some(&word), "{dialect}");
        }
    }
    // The Converse API has no word for `none`.
    let request = ChatRequest { model: ModelRef::new("lab", MODEL), ..with_tools(ToolChoice::None) };
    let body = sent_body(Dialect::Converse, &request).await;
    assert_eq!(body["toolConfig"].get("toolChoice"), None);
    let last = json!([{"text": "third"}, {"cachePoint": {"type": "default"}},
        {"text": "Answer without calling a tool."}]);
    assert_eq!(body["messages"][2]["content"], last);
}

#[tokio::test]
async fn a_claude_model_that_reasons_is_not_forced_to_call_a_tool() {
    for (model, options) in [("claude-sonnet-4-5", json!({"reasoning": "low"})), ("claude-sonnet-5-5", json!({}))] {
        for dialect in [Dialect::Anthropic, Dialect::Converse] {
            let request = ChatRequest {
                model: ModelRef::new("lab", model),
                options: Box::new(serde_json::from_value(options.clone()).unwrap()),
                max_output_tokens: 4000,
                temperature: None,
                ..with_tools(ToolChoice::Required)
            };
            let body = sent_body(dialect, &request).await;
            assert_eq!((body.get("tool_choice"), body.pointer("/toolConfig/toolChoice")), (None, None), "{body}");
        }
    }
}

#[tokio::test]
async fn the_schema_is_sent_only_if_the_model_must_not_call_a_tool() {
    for dialect in DIALECTS {
        let models: &[(&str, bool)] = match dialect {
            Dialect::Gemini => &[("gemini-3.8-flash", true), ("gemini-2.5-flash", false)],
            Dialect::OpenAi | Dialect::Responses | Dialect::Anthropic | Dialect::Converse => &[(MODEL, true)],
        };
        for (model, accepts_both) in models {
            for (choice, may_have_schema) in
                [(ToolChoice::Auto, false), (ToolChoice::Required, false), (ToolChoice::None, true)]
            {
                let server = Server::saying("{}");
                let tools = offered(choice);
                let request = ChatRequest { model: ModelRef::new("lab", *model), tools, ..with_schema() };
                let reply = ask(endpoint_of(dialect, &server), &request, &short_limits()).await.unwrap();
                assert_eq!(reply.constrained, may_have_schema && *accepts_both, "{dialect} {model} {choice:?}");
                let body = server.requests().remove(0).body.to_string();
                assert_eq!(body.contains("verdict") || body.contains("\"ok\""), reply.constrained, "{body}");
            }
        }
    }
}

#[tokio::test]
async fn a_model_that_is_known_to_accept_no_tools_receives_no_request() {
    let server = Server::saying("ok");
    let gemma = ChatRequest { model: ModelRef::new("lab", "gemma-3-27b-it"), ..with_tools(ToolChoice::Auto) };
    let failure = ask(endpoint_of(Dialect::Gemini, &server), &gemma, &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::BadRequest);
    assert_eq!(failure.message, "lab/gemma-3-27b-it accepts no tools");
    assert!(failure.hint.unwrap().contains("`tools` of the agent"));
    assert!(server.requests().is_empty());
    let openai = through_proxy(&server, Dialect::Responses, "http://api.openai.com/v1");
    let search = ChatRequest { model: ModelRef::new("openai", "gpt-4o-search-preview"), ..gemma };
    assert!(ask(openai, &search, &short_limits()).await.is_err());
    assert!(server.requests().is_empty());
}

pub(super) fn call(id: &str, name: &str, arguments: Value) -> ContentBlock {
    ContentBlock::ToolCall { id: id.into(), name: name.into(), arguments }
}

#[tokio::test]
async fn results_go_into_the_next_message_in_the_order_of_the_calls() {
    let result = |id: &str, is_error: bool| ContentBlock::ToolResult {
        id: id.into(),
        name: "read".into(),
        content: format!("result of {id}"),
        is_error,
    };
    let calls = ["c1", "c2", "c3"].map(|id| call(id, "read", json!({"path": id})));
    let messages = vec![
        Message::user("Compare."),
        Message { role: Role::Assistant, content: Content::from(calls.to_vec()) },
        Message {
            role: Role::User,
            content: Content::from(vec![result("c1", false), result("c2", true), result("c3", false)]),
        },
    ];
    for dialect in DIALECTS {
        let request = ChatRequest { messages: messages.clone(), ..with_tools(ToolChoice::Auto) };
        let body = sent_body(dialect, &request).await;
        let list = ["messages", "contents", "input"].iter().find_map(|field| body[*field].as_array()).unwrap();
        let text = serde_json::to_string(list).unwrap();
        let positions = ["result of c1", "result of c2", "result of c3"].map(|result| text.find(result).unwrap());
        assert!(positions.is_sorted(), "{dialect}: {text}");
        let last_message = match dialect {
            // Here each result is a message or an item of its own.
            Dialect::OpenAi | Dialect::Responses => continue,
            Dialect::Anthropic | Dialect::Converse => &list.last().unwrap()["content"],
            Dialect::Gemini => &list.last().unwrap()["parts"],
        };
        assert_eq!(last_message.as_array().unwrap().len(), 3, "{dialect}: {text}");
    }
}

#[tokio::test]
async fn definitions_are_the_same_in_every_turn() {
    for dialect in DIALECTS {
        let first = with_tools(ToolChoice::Auto);
        let mut messages = first.messages.clone();
        messages.extend([Message::assistant("fourth"), Message::user("fifth")]);
        let later = ChatRequest { messages, tools: offered(ToolChoice::None), ..first.clone() };
        let (first, later) = (sent_body(dialect, &first).await, sent_body(dialect, &later).await);
        let tools = |body: &Value| body.get("tools").or(body.pointer("/toolConfig/tools")).unwrap().to_string();
        assert_eq!(tools(&first), tools(&later), "{dialect}");
    }
}
