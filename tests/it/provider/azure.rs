//! Azure OpenAI: its current API under `/openai/v1`, and its classic one with deployments in the path.

use orch::model::ModelRef;
use orch::model::chat::ChatRequest;
use orch::model::failure::FailureClass;
use orch::provider::{Dialect, Endpoint};

use super::{KEY, ask, endpoint_of, key_auth, request, short_limits};
use crate::support::server::{Reply, Server};
use crate::support::{Orch, RunOutput};

#[tokio::test]
async fn a_deployment_of_classic_azure_receives_its_request_format() {
    let server = Server::saying("{}");
    let azure = Endpoint {
        base_url: format!("{}/openai/deployments/{{model}}", server.url()),
        auth: key_auth(KEY, Some("api-key")),
        query: vec![("api-version".into(), "2024-10-21".into())],
        ..endpoint_of(Dialect::OpenAi, &server)
    };
    let deployment = ChatRequest { model: ModelRef::new("azure", "my gpt"), ..request() };
    ask(azure, &deployment, &short_limits()).await.unwrap();
    let sent = server.requests().remove(0);
    assert_eq!(sent.path, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21");
    assert_eq!((sent.header("api-key"), sent.header("authorization")), (Some(KEY), None));
    // The query that Gemini itself needs is kept.
    let gemini = Endpoint { query: vec![("a".into(), "b&c".into())], ..endpoint_of(Dialect::Gemini, &server) };
    ask(gemini, &request(), &short_limits()).await.unwrap();
    assert!(server.requests()[1].path.ends_with("?alt=sse&a=b%26c"), "{:?}", server.requests()[1].path);
}

#[tokio::test]
async fn a_models_name_that_would_change_the_address_is_refused_before_anything_is_sent() {
    let server = Server::saying("x");
    let azure = Endpoint {
        base_url: format!("{}/openai/deployments/{{model}}", server.url()),
        ..endpoint_of(Dialect::OpenAi, &server)
    };
    let [gemini, converse] = [Dialect::Gemini, Dialect::Converse].map(|dialect| endpoint_of(dialect, &server));
    for (endpoint, name) in [
        (&azure, "../../x"),
        (&azure, "a/./b"),
        (&gemini, "../x"),
        (&gemini, "models/"),
        (&converse, ".."),
        (&converse, "a/../b"),
    ] {
        let request = ChatRequest { model: ModelRef::new("lab", name), ..request() };
        let failure = ask(endpoint.clone(), &request, &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest, "{name}: {failure:?}");
        assert!(failure.message.contains("can't be a part of an address") && !failure.interrupted, "{failure:?}");
    }
    assert!(server.requests().is_empty());
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// A trusted project whose provider `azure` has these settings.
fn project(settings: &str) -> Orch {
    let orch = Orch::empty();
    orch.write("orch.yaml", &format!("providers:\n  azure:\n{settings}defaults: {{ model: azure/my-gpt }}\n"));
    orch.write("prompts/p.md", "Answer.").write(
        "pipelines/main.yaml",
        "name: one\ninputs: { task: { type: string } }\nagents: { a: { model: auto } }\nsteps:\n  - { id: say, agent: a, prompt: p.md, schema: text, output: said }\n",
    );
    orch.trust();
    orch
}

fn run(orch: &Orch) -> RunOutput {
    RunOutput::of(&orch.command(&RUN).env("AZURE_OPENAI_API_KEY", KEY).output().unwrap())
}

#[test]
fn both_apis_of_azure_work_with_the_documented_settings() {
    let server = Server::saying("ok");
    let url = server.url();
    let bearer = format!("Bearer {KEY}");
    for (settings, path, header, value) in [
        (
            format!("    dialect: responses\n    base_url: {url}/openai/v1\n"),
            "/openai/v1/responses",
            "authorization",
            &*bearer,
        ),
        (
            format!("    dialect: openai\n    base_url: {url}/openai/v1\n"),
            "/openai/v1/chat/completions",
            "authorization",
            &*bearer,
        ),
        (
            format!(
                "    dialect: openai\n    base_url: \"{url}/openai/deployments/{{model}}\"\n    key_header: api-key\n    query: {{ api-version: \"2024-10-21\" }}\n"
            ),
            "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
            "api-key",
            KEY,
        ),
    ] {
        run(&project(&format!("{settings}    api_key: {{ env: AZURE_OPENAI_API_KEY }}\n"))).exits(0);
        let sent = server.requests().pop().unwrap();
        assert_eq!((sent.path.as_str(), sent.header(header)), (path, Some(value)));
    }
}

#[test]
fn a_missing_deployment_is_named_as_one() {
    let body =
        r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#;
    let server = Server::always(Reply::status(404, body));
    let url = server.url();
    let orch = project(&format!(
        "    dialect: openai\n    base_url: \"{url}/openai/deployments/{{model}}\"\n    key_header: api-key\n    api_key: {{ env: AZURE_OPENAI_API_KEY }}\n"
    ));
    run(&orch)
        .exits(1)
        .says("the model's name is a part of the address: check the name, and the parameters under `query:`");
}
