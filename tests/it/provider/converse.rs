//! The Converse API of Amazon Bedrock: signed requests, replies and errors.

use std::sync::Arc;

use orch::model::ContentBlock;
use orch::model::ModelRef;
use orch::model::chat::{ChatReply, ChatRequest, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::provider::{AwsAuth, Dialect, Endpoint};
use serde_json::{Value, json};

use super::{ask, endpoint_of, failure_of, request, short_limits, with_schema};
use crate::support::server::{Reply, Server};
use crate::support::{Orch, RunOutput};

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "session-token-of-the-test-0123456789";

/// A server that answers only requests with a valid signature, like Bedrock.
fn signed_server() -> Server {
    Server::start(|request| {
        if request.has_aws_signature(SECRET) {
            return Reply::converse_text("ok");
        }
        Reply::status(
            403,
            r#"{"message":"The request signature we calculated does not match the signature you provided."}"#,
        )
    })
}

fn signed(server: &Server, secret: &'static str, token: Option<&'static str>) -> Endpoint {
    let variables = move |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some(ID.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
        "AWS_SESSION_TOKEN" => token.map(ToOwned::to_owned),
        _ => None,
    };
    let auth = Arc::new(AwsAuth::from_variables("eu-central-1", variables));
    Endpoint { auth, ..Endpoint::new("bedrock", Dialect::Converse, server.url()) }
}

async fn ask_model(endpoint: Endpoint, model: &str) -> Result<ChatReply, Failure> {
    let request = ChatRequest { model: ModelRef::new("bedrock", model), ..request() };
    ask(endpoint, &request, &short_limits()).await
}

#[tokio::test]
async fn requests_are_signed_with_everything_that_they_contain() {
    let server = signed_server();
    for model in [
        "amazon.nova-pro-v1:0",
        "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2",
        "a model ~ with spaces",
    ] {
        for token in [None, Some(TOKEN)] {
            let endpoint = Endpoint {
                query: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
                headers: vec![("x-amz-target".into(), "x".into()), ("x-team".into(), "tools".into())],
                ..signed(&server, SECRET, token)
            };
            let reply = ask_model(endpoint, model).await.unwrap();
            assert_eq!(reply.text(), "ok");
            let sent = server.requests().pop().unwrap();
            assert_eq!(sent.header("x-amz-security-token"), token);
            let authorization = sent.header("authorization").unwrap();
            let day = sent.header("x-amz-date").unwrap().get(..8).unwrap();
            let scope = format!("Credential={ID}/{day}/eu-central-1/bedrock/aws4_request");
            assert!(authorization.contains(&scope), "{authorization}");
            assert!(authorization.contains("x-amz-target") && !authorization.contains("x-team"), "{authorization}");
        }
    }
    let path = &server.requests()[2].path;
    assert!(path.starts_with("/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3A"), "{path}");
    assert!(path.ends_with("application-inference-profile%2Fa1b2/converse?b=2&a=1"), "{path}");
}

#[tokio::test]
async fn a_refused_signature_is_an_auth_failure_without_secrets() {
    let server = signed_server();
    let failure = ask_model(signed(&server, "another-secret-0123456789", Some(TOKEN)), "m").await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::Auth, Some(403)));
    assert!(failure.hint.as_deref().unwrap().contains("AWS_SECRET_ACCESS_KEY"), "{failure:?}");
    let echo = Server::start(|request| {
        let token = request.header("x-amz-security-token").unwrap();
        Reply::status(400, json!({"message": format!("bad token {token}, not {SECRET}")}).to_string())
    });
    let failure = ask_model(signed(&echo, SECRET, Some(TOKEN)), "m").await.unwrap_err();
    let said = "bad token [secret AWS_SESSION_TOKEN], not [secret AWS_SECRET_ACCESS_KEY]";
    assert_eq!(failure.message, format!("bedrock refuses the request (400): {said}"));
}

#[tokio::test]
async fn credentials_that_are_missing_or_broken_fail_before_a_request() {
    let server = signed_server();
    let auth = Arc::new(AwsAuth::from_variables("eu-central-1", |_| None));
    let endpoint = Endpoint { auth, ..signed(&server, SECRET, None) };
    let failure = ask_model(endpoint, "m").await.unwrap_err();
    assert_eq!(
        (failure.class, failure.message.as_str()),
        (FailureClass::Auth, "bedrock needs AWS credentials, and none are set")
    );
    let failure = ask_model(signed(&server, SECRET, Some("line\nbreak")), "m").await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(failure.hint.unwrap().contains("AWS_SESSION_TOKEN") && !failure.message.contains("break"));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_converse_dialect_sends_its_request_format() {
    let server = Server::saying("{}");
    let endpoint = endpoint_of(Dialect::Converse, &server);
    let model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let request = ChatRequest { model: ModelRef::new("bedrock", model), ..with_schema() };
    let reply = ask(endpoint.clone(), &request, &short_limits()).await.unwrap();
    assert!(reply.constrained);
    let sent = server.requests().remove(0);
    assert_eq!(sent.path, "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse");
    let schema = sent.body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(schema).unwrap(), **with_schema().schema.as_ref().unwrap());
    let cache_point = json!({"cachePoint": {"type": "default"}});
    assert_eq!(
        sent.body,
        json!({
            "system": [{"text": "You are terse."}, cache_point],
            "messages": [
                {"role": "user", "content": [{"text": "first"}]},
                {"role": "assistant", "content": [{"text": "second"}]},
                {"role": "user", "content": [{"text": "third"}, cache_point]},
            ],
            "inferenceConfig": {"maxTokens": 256, "temperature": 0.5},
            "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema":
                {"name": "verdict", "schema": schema}}}},
        })
    );
    assert_eq!((sent.system().as_str(), sent.last().as_str()), ("You are terse.", "third"));
    // Bedrock refuses a schema for models that it can't constrain, and cache points for models that have none.
    let other = ChatRequest { model: ModelRef::new("bedrock", "amazon.nova-pro-v1:0"), ..with_schema() };
    assert!(!ask(endpoint, &other, &short_limits()).await.unwrap().constrained);
    let other = &server.requests()[1].body;
    assert!(other.get("outputConfig").is_none());
    assert!(!other.to_string().contains("cachePoint"), "{other}");
}

#[tokio::test]
async fn replies_have_their_text_reasoning_calls_and_usage() {
    let reasoning = json!({"reasoningText": {"text": "hmm", "signature": "s1"}});
    let hidden = json!({"redactedContent": "cmVk"});
    let body = json!({"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": reasoning}, {"reasoningContent": hidden}, {"text": "Look."},
            {"toolUse": {"toolUseId": "t1", "name": "read", "input": {"path": "a"}}}]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 18, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2}});
    let server = Server::always(Reply::status(200, body.to_string()));
    let reply = ask(endpoint_of(Dialect::Converse, &server), &request(), &short_limits()).await.unwrap();
    let opaque =
        |data: Value| ContentBlock::Opaque { dialect: "converse".into(), data: json!({"reasoningContent": data}) };
    let call = ContentBlock::ToolCall { id: "t1".into(), name: "read".into(), arguments: json!({"path": "a"}) };
    assert_eq!(reply.content.blocks(), [opaque(reasoning), opaque(hidden), ContentBlock::text("Look."), call]);
    assert_eq!(reply.stop, StopReason::ToolUse);
    let usage = reply.usage;
    assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.output), (Some(11), 4, 2, Some(7)));
}

#[tokio::test]
async fn errors_of_bedrock_have_their_classes() {
    for (status, body, class) in [
        (429, r#"{"message":"Too many requests, please wait before trying again."}"#, FailureClass::RateLimited),
        (424, r#"{"message":"The model failed"}"#, FailureClass::ProviderUnavailable),
        (408, r#"{"message":"Model timed out"}"#, FailureClass::Timeout),
        (400, r#"{"Message":"The provided model identifier is invalid."}"#, FailureClass::BadRequest),
    ] {
        let failure = failure_of(Dialect::Converse, Reply::status(status, body), &short_limits()).await;
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(!failure.message.contains('{'), "{failure:?}");
    }
}

#[tokio::test]
async fn missing_access_to_a_model_is_no_fault_of_the_key() {
    let denied = "bedrock denies access to the model some-model (403)";
    for (kind, text, message, hint) in [
        ("", "You don't have access to the model with the specified model ID.", denied, "`bedrock:InvokeModel`"),
        ("AccessDeniedException:http://internal.amazon.com/", "Denied by a policy", denied, "`bedrock:InvokeModel`"),
        (
            "AccessDeniedException",
            "Authentication failed: Please make sure your API Key is valid.",
            "bedrock refuses the key (403)",
            "set AWS_ACCESS_KEY_ID",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "bedrock refuses the key (403)",
            "set AWS_ACCESS_KEY_ID",
        ),
    ] {
        let reply = Reply::status(403, json!({"message": text}).to_string()).header("x-amzn-ErrorType", kind);
        let server = Server::always(reply);
        let failure = ask_model(signed(&server, SECRET, None), "some-model").await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Auth, "{failure:?}");
        assert!(failure.message.starts_with(message), "{failure:?}");
        assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
    }
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// A project whose only provider is Bedrock at this address.
fn project(url: &str) -> Orch {
    let orch = Orch::empty();
    let settings = format!(
        "providers:\n  bedrock: {{ dialect: converse, base_url: \"{url}\", aws: {{ region: eu-central-1 }} }}\ndefaults: {{ model: bedrock/amazon.nova-pro-v1:0 }}\n"
    );
    orch.write("orch.yaml", &settings).write("prompts/p.md", "Answer.");
    orch.write(
        "pipelines/main.yaml",
        "name: one\ninputs: { task: { type: string } }\nagents: { a: { model: auto } }\nsteps:\n  - { id: say, agent: a, prompt: p.md, schema: text, output: said }\n",
    );
    orch
}

fn run(orch: &Orch, args: &[&str]) -> RunOutput {
    let mut command = orch.command(args);
    command.env("AWS_ACCESS_KEY_ID", ID).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_SESSION_TOKEN", TOKEN);
    RunOutput::of(&command.output().unwrap())
}

#[test]
fn a_project_uses_aws_credentials_only_after_an_agreement() {
    let server = signed_server();
    let orch = project(&server.url());
    let words = format!("`providers.bedrock` signs requests to {}/ (region eu-central-1)", server.url());
    run(&orch, &RUN).exits(2).says("this project is not trusted yet").says(&words);
    assert!(server.requests().is_empty());
    orch.trust();
    run(&orch, &RUN).exits(0);
    assert!(server.requests().iter().all(|sent| sent.has_aws_signature(SECRET)));
    assert_eq!(server.requests().len(), 1);
    // Another region is another agreement.
    orch.edit("orch.yaml", "eu-central-1", "us-east-1");
    run(&orch, &RUN).exits(2).says("this project changed since you trusted it");
}

#[test]
fn aws_secrets_are_redacted_and_missing_ones_are_named() {
    let server = Server::always(Reply::converse_text(&format!("It is {SECRET} and {TOKEN}.")));
    let orch = project(&server.url());
    orch.trust();
    run(&orch, &RUN).exits(0);
    let shown = run(&orch, &["runs", "show", "--replies"]).exits(0);
    assert!(shown.stdout.contains("[secret AWS_SECRET_ACCESS_KEY] and [secret AWS_SESSION_TOKEN]"), "{shown:?}");
    assert!(!shown.stdout.contains(SECRET) && !shown.stdout.contains(TOKEN), "{shown:?}");
    orch.run(&RUN).exits(2).says("bedrock/amazon.nova-pro-v1:0 needs a key, and AWS_ACCESS_KEY_ID is not set");
    let doctor = run(&orch, &["doctor"]);
    assert!(
        doctor.stdout.contains("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are set"),
        "{doctor:?}"
    );
}

#[test]
fn a_key_beside_aws_credentials_is_a_mistake() {
    let orch = project("http://127.0.0.1:9");
    orch.edit("orch.yaml", "aws:", "api_key: { env: LAB_KEY }, aws:");
    orch.run(&["validate"]).exits(2).says("`api_key` does not apply to a provider with `aws`");
}
