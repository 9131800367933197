//! The options of agents, end to end: they arrive in the body of every dialect, and change the fingerprint.

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

const STEP: &str = "  - { id: one, agent: a, schema: any, prompt: one.md, output: x }\n";

/// A project with an agent of each dialect, all at this server.
fn every_dialect(server: &Server) -> Orch {
    let (url, chat_url) = (server.url(), server.openai_url());
    let orch = Orch::empty();
    orch.write(
        "orch.yaml",
        &format!(
            "providers:\n  chat: {{ dialect: openai, base_url: \"{chat_url}\" }}\n  responses: {{ dialect: responses, base_url: \"{chat_url}\" }}\n  claude: {{ dialect: anthropic, base_url: \"{url}\" }}\n  google: {{ dialect: gemini, base_url: \"{url}\" }}\n  bedrock: {{ dialect: converse, base_url: \"{url}\" }}\n"
        ),
    );
    let options = "reasoning: high, top_p: 0.96, stop: [END, STOP]";
    let agents = [
        (
            "chat",
            format!(
                "model: chat/qwen3, seed: 7, {options}, provider_options: {{ top_k: 40, chat_template_kwargs: {{ a: true }} }}"
            ),
        ),
        (
            "responses",
            "model: responses/qwen3, reasoning: high, top_p: 0.96, provider_options: { text: { verbosity: low } }"
                .to_owned(),
        ),
        ("claude", format!("model: claude/claude-sonnet-4-5, {options}, provider_options: {{ top_k: 40 }}")),
        (
            "google",
            format!(
                "model: google/gemini-2.5-flash, seed: 7, {options}, provider_options: {{ generationConfig: {{ topK: 40 }} }}"
            ),
        ),
        (
            "bedrock",
            format!(
                "model: bedrock/eu.anthropic.claude-sonnet-4-5-v1:0, {options}, provider_options: {{ top_k: 40, serviceTier: {{ type: flex }} }}"
            ),
        ),
    ];
    let mut text = "name: options\ninputs: { task: { type: string } }\nagents:\n".to_owned();
    for (name, agent) in &agents {
        text.push_str(&format!("  {name}: {{ max_output_tokens: 4000, {agent} }}\n"));
    }
    text.push_str("steps:\n");
    for (name, _) in &agents {
        text.push_str(&format!(
            "  - {{ id: ask_{name}, agent: {name}, prompt: {name}.md, schema: text, output: of_{name} }}\n"
        ));
        orch.write(&format!("prompts/{name}.md"), &format!("step:{name}\n"));
    }
    orch.write("pipelines/main.yaml", &text);
    orch
}

/// The body of the request with the prompt of an agent.
fn body_of(server: &Server, agent: &str) -> Value {
    let requests = server.requests();
    let is_own = |request: &&ReceivedRequest| request.system().contains(&format!("step:{agent}"));
    requests.iter().find(is_own).unwrap_or_else(|| panic!("no request of {agent}")).body.clone()
}

#[test]
fn options_arrive_in_the_body_of_every_dialect() {
    let server = Server::start(|request| Reply::text_for(&request.path, "ok"));
    let orch = every_dialect(&server);
    orch.run(&["pipeline", "validate"]).exits(0);
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");

    let chat = body_of(&server, "chat");
    for (key, value) in [
        ("reasoning_effort", json!("high")),
        ("top_p", json!(0.96)),
        ("seed", json!(7)),
        ("stop", json!(["END", "STOP"])),
        ("top_k", json!(40)),
        ("chat_template_kwargs", json!({"a": true})),
    ] {
        assert_eq!(chat[key], value, "{key}");
    }
    let responses = body_of(&server, "responses");
    assert_eq!((&responses["reasoning"], &responses["top_p"]), (&json!({"effort": "high"}), &json!(0.96)));
    assert_eq!(responses["text"], json!({"verbosity": "low"}));

    let thinking = json!({"type": "enabled", "budget_tokens": 3200});
    let claude = body_of(&server, "claude");
    assert_eq!((&claude["thinking"], &claude["top_p"]), (&thinking, &json!(0.96)));
    assert_eq!((&claude["stop_sequences"], &claude["top_k"]), (&json!(["END", "STOP"]), &json!(40)));

    assert_eq!(
        body_of(&server, "google")["generationConfig"],
        json!({"maxOutputTokens": 4000, "topP": 0.96, "seed": 7, "stopSequences": ["END", "STOP"],
            "thinkingConfig": {"thinkingBudget": 3200}, "topK": 40})
    );
    let bedrock = body_of(&server, "bedrock");
    assert_eq!(bedrock["inferenceConfig"], json!({"maxTokens": 4000, "topP": 0.96, "stopSequences": ["END", "STOP"]}));
    assert_eq!(bedrock["additionalModelRequestFields"], json!({"thinking": thinking, "top_k": 40}));
    assert_eq!(bedrock["serviceTier"], json!({"type": "flex"}));
}

/// What `resume --dry-run` would do with the only step.
fn predicted_action(orch: &Orch, run: &str) -> String {
    let ran = orch.run(&["pipeline", "resume", run, "--dry-run"]).exits(0);
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_option_changes_the_fingerprint_and_its_removal_restores_it() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, STEP);
    let (_, report) = run(&orch, &[]);
    let id = report["run"].as_str().unwrap();
    for option in
        ["reasoning: low", "top_p: 0.5", "seed: 1", "stop: [END]", "provider_options: { top_k: 1 }", "reasoning: none"]
    {
        let changed = format!("model: auto, {option}");
        orch.edit("pipelines/main.yaml", "model: auto", &changed);
        assert_eq!(predicted_action(&orch, id), "run one parameters changed", "{option}");
        orch.edit("pipelines/main.yaml", &changed, "model: auto");
        assert_eq!(predicted_action(&orch, id), "reuse one", "{option}");
    }
    assert_eq!(server.requests().len(), 1);
    let body = &server.requests()[0].body;
    for key in ["reasoning_effort", "top_p", "seed", "stop", "options"] {
        assert_eq!(body.get(key), None, "an option that is absent is not sent");
    }
}

#[test]
fn recordings_replay_with_other_options() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, STEP);
    run(&orch, &["--record", "recorded"]).0.exits(0);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, seed: 3, reasoning: low");
    run(&orch, &["--replay", "recorded"]).0.exits(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_fallback_of_another_provider_gets_no_provider_options() {
    let server = Server::start(|request| match request.body["model"].as_str() {
        Some("test") => Reply::status(400, r#"{"error":{"message":"not today"}}"#),
        _ => Reply::text_for(&request.path, "1"),
    });
    let orch = project(&server, &STEP.replace("output: x", "output: x, fallback: [lab/second, other/third]"));
    orch.edit(
        "orch.yaml",
        "providers:\n",
        &format!("providers:\n  other: {{ dialect: openai, base_url: \"{}\" }}\n", server.openai_url()),
    );
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, seed: 3, provider_options: { top_k: 40 }");
    run(&orch, &[]).0.exits(0);
    orch.edit("pipelines/main.yaml", "[lab/second, other/third]", "[other/third]");
    run(&orch, &[]).0.exits(0);
    let sent: Vec<(Value, Value, Value)> = server
        .requests()
        .iter()
        .map(|request| (request.body["model"].clone(), request.body["top_k"].clone(), request.body["seed"].clone()))
        .collect();
    let (options, seed) = (json!(40), json!(3));
    assert_eq!(
        sent,
        [
            (json!("test"), options.clone(), seed.clone()),
            (json!("second"), options.clone(), seed.clone()),
            (json!("test"), options, seed.clone()),
            (json!("third"), Value::Null, seed),
        ]
    );
}

#[test]
fn an_option_that_the_model_of_a_run_refuses_is_noted_and_not_sent() {
    let server = Server::start(|request| Reply::text_for(&request.path, "1"));
    let orch = project(&server, STEP);
    orch.edit(
        "orch.yaml",
        "providers:\n",
        &format!("providers:\n  other: {{ dialect: responses, base_url: \"{}\" }}\n", server.openai_url()),
    );
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, seed: 3, stop: [END], top_p: 0.5");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--model", "other/qwen3"])
        .exits(0)
        .says("orch does not send `seed` of agent `a` to other/qwen3, which refuses it")
        .says("orch does not send `stop` of agent `a` to other/qwen3, which refuses it");
    let body = &server.requests()[0].body;
    assert_eq!((&body["top_p"], body.get("seed"), body.get("stop")), (&json!(0.5), None, None));
}

/// A project with the agent `a` and without a default model, so that only the command line determines the model.
fn project_without_model(server: &Server, options: &str) -> Orch {
    let orch = project(server, STEP);
    let (url, chat_url) = (server.url(), server.openai_url());
    orch.write(
        "orch.yaml",
        &format!(
            "providers:\n  lab: {{ dialect: openai, base_url: \"{chat_url}\" }}\n  azure: {{ dialect: openai, base_url: \"{chat_url}/{{model}}\" }}\n  claude: {{ dialect: anthropic, base_url: \"{url}\" }}\n  bedrock: {{ dialect: converse, base_url: \"{url}\" }}\n"
        ),
    );
    orch.edit("pipelines/main.yaml", "model: auto", &format!("model: auto, {options}"));
    orch
}

#[test]
fn a_request_that_orch_can_not_build_is_an_error_before_the_run_starts() {
    let server = Server::start(|request| Reply::text_for(&request.path, "1"));
    for (options, model, says, hint) in [
        (
            "provider_options: { n: 2 }",
            "lab/qwen3",
            "agent `a` can't use lab/qwen3: `provider_options` can't set `n` in the dialect `openai`",
            "orch reads one reply for each request",
        ),
        (
            "provider_options: { instructions: x }",
            "openai/gpt-5.1",
            "`provider_options` can't set `instructions` in the dialect `responses`",
            "`prompt` and `message` of the step set it",
        ),
        (
            "max_output_tokens: 10",
            "openai/gpt-5.1",
            "accepts no `max_output_tokens` below 16, and it is 10",
            "at least 16",
        ),
        (
            "temperature: 1.5",
            "claude/claude-sonnet-4-5",
            "accepts a temperature from 0 to 1, not 1.5",
            "write a number from 0 to 1",
        ),
        ("seed: 1", "azure/../../x", "can't be a part of an address: it contains `..`", "as the provider spells it"),
    ] {
        let orch = project_without_model(&server, options);
        for command in ["run", "plan"] {
            let args = ["pipeline", command, "pipelines/main.yaml", "--task", "x", "--model", model];
            let mut command = orch.command(&args);
            command.env("OPENAI_API_KEY", "sk-0123456789");
            RunOutput::of(&command.output().unwrap()).exits(2).says(says).says(hint);
        }
        assert!(!orch.exists(".orch"), "{options}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn every_option_that_is_set_and_not_sent_is_noted() {
    let server = Server::start(|request| Reply::text_for(&request.path, "1"));
    for (options, model, says) in [
        (
            "temperature: 0.5",
            "claude/claude-opus-4-7",
            "orch does not send `temperature` of agent `a` to claude/claude-opus-4-7, which has a fixed one",
        ),
        (
            "reasoning: low",
            "bedrock/mistral.magistral-small",
            "`reasoning` of agent `a` to bedrock/mistral.magistral-small, whose field for it orch does not know",
        ),
        ("reasoning: high", "bedrock/amazon.nova-2-lite-v1:0", "which then accepts no limit of the reply"),
    ] {
        let orch = project_without_model(&server, options);
        let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--model", model];
        orch.run(&args).exits(0).says(says);
        assert!(
            orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--model", model]).exits(0).stderr.contains(says)
        );
    }
    for request in server.requests() {
        assert!(!request.body.to_string().contains("temperature"), "{request:?}");
    }
}

#[test]
fn a_gateway_of_the_provider_openai_receives_only_what_its_reasoning_models_accept() {
    let server = Server::start(|request| Reply::text_for(&request.path, "1"));
    let orch = Orch::empty();
    orch.write("prompts/one.md", "Answer.\n");
    orch.write(
        "pipelines/main.yaml",
        &format!("name: gateway\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ model: openai/gpt-5.4, temperature: 0.5, max_output_tokens: 99 }}\nsteps:\n{STEP}"),
    );
    let at_gateway = |args: &[&str]| {
        let mut command = orch.command(args);
        command.env("OPENAI_BASE_URL", server.openai_url()).env("OPENAI_API_KEY", "sk-0123456789");
        RunOutput::of(&command.output().unwrap())
    };
    at_gateway(&["pipeline", "validate"]).exits(0).says("`openai/gpt-5.4` has a fixed temperature");
    at_gateway(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(0);
    let request = &server.requests()[0];
    assert_eq!(request.path, "/v1/chat/completions");
    let body = &request.body;
    assert_eq!(
        (&body["max_completion_tokens"], body.get("max_tokens"), body.get("temperature")),
        (&json!(99), None, None)
    );
}

#[test]
fn the_check_knows_the_dialect_at_an_address_in_a_variable() {
    let orch = Orch::empty();
    orch.write("prompts/one.md", "Answer.\n");
    orch.write(
        "pipelines/main.yaml",
        &format!("name: seeds\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ model: openai/qwen3, seed: 7 }}\nsteps:\n{STEP}"),
    );
    let validate = |url: &str| {
        let mut command = orch.command(&["pipeline", "validate"]);
        RunOutput::of(&command.env("OPENAI_BASE_URL", url).output().unwrap())
    };
    validate("").exits(2).says("`openai/qwen3` accepts no `seed`: OpenAI's Responses API has no such parameter");
    validate("http://127.0.0.1:1/v1").exits(0);
    validate("https://api.openai.com/v1").exits(2);
}
