//! The official SDKs' types of request bodies accept what orch sends: TypeScript's checker reports missing, wrong and
//! unknown properties. `tests/sdk-types/types.ts` has the types, with the differences between an SDK and its API.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use orch::model::chat::ChatRequest;
use orch::model::{ModelRef, ToolChoice};
use orch::provider::{Dialect, Endpoint};
use serde_json::{Value, json};

use crate::conversations::{self, project_for, signature};
use crate::provider::requests::{conversation, limits};
use crate::provider::tools::offered;
use crate::provider::{ask, endpoint_of, through_proxy, with_schema};
use crate::step_kinds::run;
use crate::support::sdk_types::type_check;
use crate::support::{Reply, Server};

/// A model that receives everything that a dialect can send: the Claude models of this version accept a temperature, a
/// schema and cache points. The other dialects do not treat the name in a special way.
const MODEL: &str = "claude-sonnet-4-5-20250929";

/// A body that orch sent.
struct SentBody {
    /// The name of its constant.
    name: String,
    /// Its dialect, and the name of its type.
    dialect: &'static str,
    body: Value,
}

impl SentBody {
    fn new(dialect: &'static str, case: &str, body: &Value) -> Self {
        Self { name: format!("{dialect}_{case}"), dialect, body: body.clone() }
    }
}

/// The bodies of a run: a step without a schema, and one with a schema whose first reply does not fit.
fn bodies_of_run(dialect: &'static conversations::Dialect) -> Vec<SentBody> {
    let replies = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let turn = replies.fetch_add(1, Ordering::SeqCst);
        let text = ["Hello.", "{\"m\": 1}", "{\"n\": 1}"][turn.min(2)];
        Reply::typed("application/json", (dialect.reply)(text, turn, 9, 0).to_string())
    });
    let steps = "  - { id: one, agent: a, schema: text, prompt: one.md, output: x }\n  - { id: two, agent: a, schema: s.json, prompt: two.md, output: y, re_ask: 1 }\n";
    let orch = project_for(dialect, &server, steps);
    orch.edit("orch.yaml", "model: lab/test", &format!("model: lab/{MODEL}"));
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{}: {ran:?}", dialect.name);
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{}", dialect.name);
    // The Chat Completions API of OpenAI has no reasoning that goes back.
    let returns_reasoning = requests[2].body.to_string().contains(&signature(1));
    assert_eq!(returns_reasoning, dialect.name != "openai", "{}", dialect.name);
    let cases = ["without_schema", "with_schema", "re_ask"];
    cases.iter().zip(&requests).map(|(case, request)| SentBody::new(dialect.name, case, &request.body)).collect()
}

/// The body of one request, which the server receives at the endpoint.
async fn sent_body(endpoint: Endpoint, case: &str, request: ChatRequest, server: &Server) -> SentBody {
    let dialect = endpoint.dialect.as_str();
    ask(endpoint, &request, &limits()).await.unwrap();
    SentBody::new(dialect, case, &server.requests().remove(0).body)
}

/// A body with a schema and a temperature in each dialect.
async fn bodies_with_schema() -> Vec<SentBody> {
    let mut bodies = Vec::new();
    for dialect in Dialect::ALL {
        let server = Server::saying("{}");
        let request = ChatRequest { model: ModelRef::new("lab", MODEL), ..with_schema() };
        bodies.push(sent_body(endpoint_of(dialect, &server), "with_temperature", request, &server).await);
    }
    bodies
}

/// A body with files, tool calls and their results in each dialect.
async fn bodies_with_all_blocks() -> Vec<SentBody> {
    let mut bodies = Vec::new();
    for dialect in Dialect::ALL {
        let server = Server::saying("ok");
        let request = ChatRequest { model: ModelRef::new("lab", MODEL), ..conversation() };
        bodies.push(sent_body(endpoint_of(dialect, &server), "with_all_blocks", request, &server).await);
    }
    bodies
}

/// Bodies for the address of `OpenAI` itself, which differ from those for other servers.
async fn bodies_for_openai() -> Vec<SentBody> {
    let mut bodies = Vec::new();
    for dialect in [Dialect::OpenAi, Dialect::Responses] {
        for (case, model) in [("at_openai", "gpt-4.1"), ("at_openai_with_reasoning", "gpt-6.1-sol")] {
            let server = Server::saying("{}");
            let endpoint = through_proxy(&server, dialect, "http://api.openai.com/v1");
            let request = ChatRequest { model: ModelRef::new("openai", model), ..with_schema() };
            bodies.push(sent_body(endpoint, case, request, &server).await);
        }
    }
    bodies
}

/// Bodies with tools in each dialect: each choice among them, with a conversation that has calls and results, and a
/// schema of the answer.
async fn bodies_with_tools() -> Vec<SentBody> {
    let mut bodies = Vec::new();
    for dialect in Dialect::ALL {
        // Only later models of Gemini accept a schema with tools.
        let model = if dialect == Dialect::Gemini { "gemini-3.8-flash" } else { MODEL };
        for (case, choice) in [
            ("with_tools", ToolChoice::Auto),
            ("with_required_call", ToolChoice::Required),
            ("without_calls", ToolChoice::None),
        ] {
            let server = Server::saying("{}");
            let ChatRequest { schema, schema_name, .. } = with_schema();
            let model = ModelRef::new("lab", model);
            let request = ChatRequest { model, tools: offered(choice), schema, schema_name, ..conversation() };
            bodies.push(sent_body(endpoint_of(dialect, &server), case, request, &server).await);
        }
    }
    for dialect in [Dialect::OpenAi, Dialect::Responses] {
        let server = Server::saying("{}");
        let endpoint = through_proxy(&server, dialect, "http://api.openai.com/v1");
        let model = ModelRef::new("openai", "gpt-6.1-sol");
        let request = ChatRequest { model, tools: offered(ToolChoice::Required), ..with_schema() };
        bodies.push(sent_body(endpoint, "with_tools_at_openai", request, &server).await);
    }
    bodies
}

/// TypeScript code with one constant for each body, each on a line of its own after the first line.
fn code(bodies: &[SentBody]) -> String {
    let mut code = "import type * as sdk from \"./types\";\n".to_owned();
    for SentBody { name, dialect, body } in bodies {
        let _ = writeln!(code, "export const {name}: sdk.{dialect} = {body};");
    }
    code
}

#[tokio::test]
async fn the_types_of_the_official_sdks_accept_every_body() {
    let mut bodies = Vec::new();
    for dialect in &conversations::DIALECTS {
        bodies.extend(bodies_of_run(dialect));
    }
    bodies.extend(bodies_with_schema().await);
    bodies.extend(bodies_with_all_blocks().await);
    bodies.extend(bodies_for_openai().await);
    bodies.extend(bodies_with_tools().await);
    for dialect in Dialect::ALL {
        let count = bodies.iter().filter(|body| body.dialect == dialect.as_str()).count();
        assert!(count >= 8, "{dialect} has only {count} bodies");
    }
    let Some(checked) = type_check(&code(&bodies)) else { return };
    assert!(checked.status.success(), "{}\n{}", String::from_utf8_lossy(&checked.stdout), code(&bodies));
}

/// A body with a mistake: another value at a JSON pointer.
fn with_mistake(sent: &SentBody, number: usize, pointer: &str, value: Value) -> SentBody {
    let mut body = sent.body.clone();
    *body.pointer_mut(pointer).unwrap_or_else(|| panic!("{} has no {pointer}", sent.name)) = value;
    SentBody { name: format!("{}_{number}", sent.name), dialect: sent.dialect, body }
}

#[tokio::test]
async fn the_types_of_the_official_sdks_refuse_mistakes() {
    let bodies = bodies_with_schema().await;
    let mut wrong = Vec::new();
    for (dialect, pointer, value) in [
        ("openai", "/messages/0/role", json!("somebody")),
        ("openai", "/response_format/json_schema/strict", json!("yes")),
        ("openai", "/messages/1", json!({"role": "user", "content": "first", "is_error": true})),
        ("responses", "/input/1/content", json!([{"type": "output_text", "text": "second"}])),
        ("responses", "/text/format/schema", json!(1)),
        ("responses", "/input/0/content/0", json!({"type": "input_text", "text": "first", "cached": true})),
        ("anthropic", "/messages/0/content/0/type", json!("txt")),
        ("anthropic", "/output_config", json!({"format": {"type": "json"}})),
        ("anthropic", "/system/0", json!({"type": "text", "text": "x", "cachePoint": {"type": "default"}})),
        ("gemini", "/generationConfig/maxOutputTokens", json!("256")),
        ("gemini", "/generationConfig", json!({"max_tokens": 256})),
        ("gemini", "/contents/0/parts/0", json!({"txt": "first"})),
        ("converse", "/messages/0/role", json!("somebody")),
        ("converse", "/system/1/cachePoint/type", json!("other")),
        ("converse", "/messages/0/content/0", json!({"image": {"format": "png", "source": {"bytes": [1]}}})),
    ] {
        let sent = bodies.iter().find(|body| body.dialect == dialect).unwrap();
        wrong.push(with_mistake(sent, wrong.len(), pointer, value));
    }
    for sent in &bodies {
        let mut body = sent.body.clone();
        body["no_such_field"] = json!(1);
        wrong.push(SentBody { name: format!("{}_field", sent.name), dialect: sent.dialect, body });
    }
    let Some(checked) = type_check(&code(&wrong)) else { return };
    let messages = String::from_utf8_lossy(&checked.stdout);
    for (index, body) in wrong.iter().enumerate() {
        let place = format!("bodies.ts({},", index + 2);
        assert!(messages.contains(&place), "{} is accepted: {}\n{messages}", body.name, body.body);
    }
}

#[tokio::test]
async fn the_types_of_the_official_sdks_refuse_mistakes_in_tools() {
    let bodies = bodies_with_tools().await;
    let mut wrong = Vec::new();
    for (dialect, pointer, value) in [
        ("openai", "/tools/0/function/name", json!(5)),
        ("openai", "/tools/0/function/strict", json!("yes")),
        ("openai", "/tools/0", json!({"name": "read", "input_schema": {"type": "object"}})),
        ("openai", "/tool_choice", json!("any")),
        ("openai", "/messages/2/tool_calls/0/function/arguments", json!({"path": "a"})),
        ("openai", "/messages/3/tool_call_id", Value::Null),
        ("responses", "/tools/0/strict", json!("yes")),
        ("responses", "/tools/0", json!({"type": "function", "function": {"name": "read"}})),
        ("responses", "/tool_choice", json!("any")),
        ("anthropic", "/tools/0/input_schema/type", json!("array")),
        ("anthropic", "/tools/0", json!({"name": "read", "parameters": {"type": "object"}})),
        ("anthropic", "/tool_choice", json!({"type": "required"})),
        ("gemini", "/tools/0", json!({"functionDeclaration": []})),
        ("gemini", "/tools/0/functionDeclarations/0/name", json!(5)),
        ("gemini", "/toolConfig/functionCallingConfig/mode", json!("REQUIRED")),
        ("converse", "/toolConfig/tools/0", json!({"functions": []})),
        ("converse", "/toolConfig/tools/0/toolSpec/name", json!(5)),
        ("converse", "/toolConfig/toolChoice", json!({"required": {}})),
    ] {
        let has_choice = |sent: &&SentBody| sent.dialect == dialect && sent.name.ends_with("_with_required_call");
        let sent = bodies.iter().find(has_choice).unwrap();
        wrong.push(with_mistake(sent, wrong.len(), pointer, value));
    }
    let Some(checked) = type_check(&code(&wrong)) else { return };
    let messages = String::from_utf8_lossy(&checked.stdout);
    for (index, body) in wrong.iter().enumerate() {
        let place = format!("bodies.ts({},", index + 2);
        assert!(messages.contains(&place), "{} is accepted: {}\n{messages}", body.name, body.body);
    }
}
