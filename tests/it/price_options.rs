//! Options of a provider that change the price of a request: its cost is unknown.

use serde_json::Value;

use crate::step_kinds::project;
use crate::support::{Orch, RunOutput, Server};

/// A project whose agent has the model `openai/gpt-4.1` with these `provider_options`.
fn priced_project(server: &Server, provider_options: &str) -> Orch {
    let orch = project(server, "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n");
    let agent = format!("model: openai/gpt-4.1, provider_options: {provider_options}");
    orch.edit("pipelines/main.yaml", "model: auto", &agent);
    orch
}

/// Runs the pipeline with this server as OpenAI's. Returns the output and the cost in the report, if there is one.
fn run(orch: &Orch, server: &Server) -> (RunOutput, Option<Value>) {
    let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--output", "json"]);
    command.env("OPENAI_BASE_URL", server.openai_url()).env("OPENAI_API_KEY", "sk-0123456789");
    let ran = RunOutput::of(&command.output().unwrap());
    let cost = serde_json::from_str::<Value>(&ran.stdout).ok().map(|report| report["cost_usd"].clone());
    (ran, cost)
}

#[test]
fn the_cost_of_a_request_is_unknown_if_an_option_changes_the_price() {
    for (provider_options, changed_by) in [
        ("{ service_tier: priority }", Some("service_tier")),
        ("{ speed: fast }", Some("speed")),
        ("{ service_tier: default }", None),
        ("{ top_k: 40 }", None),
    ] {
        let server = Server::saying("1");
        let (ran, cost) = run(&priced_project(&server, provider_options), &server);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(cost.unwrap().is_number(), changed_by.is_none(), "{provider_options}: {ran:?}");
        let note = changed_by.map(|option| {
            format!(
                "the cost of agent `a` is unknown: `{option}` in `provider_options` changes the price of openai/gpt-4.1"
            )
        });
        assert_eq!(ran.stderr.contains("the cost of agent"), note.is_some(), "{ran:?}");
        assert!(note.is_none_or(|note| ran.stderr.contains(&note)), "{ran:?}");
    }
}

#[test]
fn a_budget_in_dollars_needs_the_price_with_the_option() {
    let server = Server::saying("1");
    let orch = priced_project(&server, "{ service_tier: priority }");
    let text = orch.read("pipelines/main.yaml");
    orch.write("pipelines/main.yaml", &format!("{text}budget: {{ usd: 1 }}\n"));
    let (ran, _) = run(&orch, &server);
    ran.exits(2)
        .says("openai/gpt-4.1 with `service_tier` in `provider_options` has no known price")
        .says("set its prices under `models:` in orch.yaml");
    assert!(server.requests().is_empty());
    // Prices in orch.yaml are those with the option.
    let settings = orch.read("orch.yaml");
    let prices = "models: { dear: { model: openai/gpt-4.1, input_price: 10, output_price: 50 } }";
    orch.write("orch.yaml", &format!("{settings}{prices}\n"));
    let (ran, cost) = run(&orch, &server);
    assert!(cost.is_some_and(|cost| cost.is_number()), "{ran:?}");
    assert!(!ran.exits(0).stderr.contains("the cost of agent"));
    orch.write("orch.yaml", &settings);
    orch.edit("pipelines/main.yaml", "usd: 1", "usd: 1, unpriced: allow");
    let (ran, cost) = run(&orch, &server);
    assert_eq!(cost, Some(Value::Null), "{ran:?}");
    ran.exits(0);
}
