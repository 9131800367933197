//! Replies without usage: unknown usage never counts as zero, and a partial sum is marked.

use serde_json::{Value, json};

use crate::step_kinds::{project, run, statuses};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

/// A complete reply of a server of the OpenAI dialect, with these last chunks.
fn reply_with_last_chunks(last: &[Value]) -> Reply {
    let chunk = |delta: Value, end: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": end }] });
    let mut events = vec![chunk(json!({ "content": "1" }), Value::Null), chunk(json!({}), json!("stop"))];
    events.extend_from_slice(last);
    let mut text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    text.push_str("data: [DONE]\n\n");
    Reply::raw_events(text)
}

/// Steps one after another, with replies of up to 1000 tokens, and this head of the pipeline file.
fn project_with_steps(server: &Server, count: usize, head: &str) -> Orch {
    let list = format!(
        "  - {{ id: all, for_each: range({count}), max_parallel: 1, {AGENT}, prompt: one.md, message: \"{{{{ index }}}}\", output: x }}\n"
    );
    let orch = project(server, &list);
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 1000");
    orch.edit("pipelines/main.yaml", "name: test", &format!("name: test\n{head}"));
    orch
}

/// Sets prices for the model of the test.
fn add_prices(orch: &Orch) {
    let settings = orch.read("orch.yaml").replace(
        "defaults: { model: lab/test }",
        "models: { dear: { model: lab/test, input_price: 10, output_price: 50 } }\ndefaults: { model: dear }",
    );
    orch.write("orch.yaml", &settings);
}

#[test]
fn a_server_that_reports_no_usage_uses_up_a_budget_of_tokens() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let (ran, report) = run(&project_with_steps(&server, 20, "budget: { tokens: 6000 }"), &[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    assert_eq!(server.requests().len(), 5, "each may take a little more than 1000 tokens");
    let usage = &report["usage"];
    assert_eq!((&usage["output"], &usage["estimated"]["output"]), (&json!(5000), &json!(5000)), "{usage}");
    assert_eq!((&report["cost_usd"], report.get("estimated_cost_usd")), (&Value::Null, None), "no price applies");
    assert!(ran.stderr.contains(" in, ~5000 out; cost unknown"), "{}", ran.stderr);
}

#[test]
fn usage_is_found_wherever_servers_report_it() {
    let usage = json!({ "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 });
    let empty = json!([{ "index": 0, "delta": {}, "finish_reason": null }]);
    for last in [
        json!({ "choices": [], "usage": usage }),
        json!({ "choices": null, "usage": usage }),
        json!({ "choices": empty, "usage": usage }),
        json!({ "choices": [{ "index": 0, "delta": {}, "usage": usage }] }),
        json!({ "choices": empty, "x_groq": { "id": "r", "usage": usage } }),
        json!({ "choices": empty, "timings": { "cache_n": 4, "prompt_n": 5, "predicted_n": 3 } }),
        json!({ "choices": empty, "prompt_eval_count": 9, "eval_count": 3 }),
        json!({ "choices": [], "usage": { "input_tokens": 9, "output_tokens": 3 } }),
    ] {
        let server = Server::always(reply_with_last_chunks(&[last.clone(), json!({ "choices": [], "usage": null })]));
        let (ran, report) = run(&project_with_steps(&server, 1, ""), &[]);
        let usage = &report["usage"];
        assert_eq!((&usage["input"], &usage["output"]), (&json!(9), &json!(3)), "{last}: {ran:?}");
        assert_eq!(usage.get("estimated"), None, "{last}");
    }
}

#[test]
fn a_missing_number_is_estimated_beside_the_reported_one() {
    for odd in [json!(null), json!(-3), json!(2.5), json!("3"), json!(1e30), json!(0)] {
        let usage = json!({ "prompt_tokens": 9, "completion_tokens": odd });
        let server = Server::always(reply_with_last_chunks(&[json!({ "choices": [], "usage": usage })]));
        let (ran, report) = run(&project_with_steps(&server, 1, ""), &[]);
        let usage = &report["usage"];
        assert_eq!((&usage["input"], &usage["output"]), (&json!(9), &json!(1000)), "{odd}: {ran:?}");
        assert_eq!(usage["estimated"], json!({ "input": 0, "output": 1000 }), "{odd}");
        assert!(ran.stderr.contains("tokens 9 in, ~1000 out"), "{}", ran.stderr);
    }
}

#[test]
fn the_cost_of_an_estimated_usage_counts_against_a_budget_in_dollars() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let orch = project_with_steps(&server, 9, "budget: { usd: 0.16 }");
    add_prices(&orch);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    assert_eq!(server.requests().len(), 3, "each may cost a little more than 5 cents");
    assert_eq!(report["cost_usd"], Value::Null);
    let most = report["estimated_cost_usd"].as_f64().unwrap();
    assert!(most > 0.15 && most < 0.16, "{most}");
    assert!(ran.stderr.contains("; ~$0.15)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("raise `usd` of the budget") && ran.stderr.contains("--budget usd="), "{}", ran.stderr);
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("~$0.15"), "{shown}");
    assert!(orch.run(&["runs", "events"]).exits(0).stdout.contains("~1000 out"), "events mark it too");
}

#[test]
fn a_free_model_costs_nothing_even_if_its_usage_is_unknown() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let orch = project_with_steps(&server, 1, "");
    orch.edit("pipelines/main.yaml", "model: auto", "model: vllm/m");
    orch.write(
        "orch.yaml",
        &format!("providers:\n  vllm: {{ dialect: openai, base_url: \"{}\" }}\n", server.openai_url()),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["cost_usd"]), (0, &json!(0.0)), "{ran:?}");
    assert_eq!(report["usage"]["estimated"]["output"], 1000);
}

#[test]
fn a_budget_that_refuses_unreported_usage_stops_the_run_and_keeps_the_reply() {
    for (unit, prices) in [("tokens: 100000", false), ("usd: 9", true)] {
        let server = Server::always(reply_with_last_chunks(&[]));
        let orch = project_with_steps(&server, 3, &format!("budget: {{ {unit}, unreported: refuse }}"));
        if prices {
            add_prices(&orch);
        }
        let (ran, report) = run(&orch, &[]);
        assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("usage_unknown")), "{ran:?}");
        assert_eq!(server.requests().len(), 1);
        assert_eq!(statuses(&report)[1], "all[0] completed", "{report:#}");
        assert!(ran.stderr.contains("unreported: estimate"), "{}", ran.stderr);
        // Without a change, a resume sends no request.
        orch.run(&["pipeline", "resume"]).exits(4).says("usage_unknown");
        assert_eq!(server.requests().len(), 1);
        // Following the hint works.
        orch.edit("pipelines/main.yaml", "unreported: refuse", "unreported: estimate");
        orch.run(&["pipeline", "resume"]).exits(0);
        assert_eq!(server.requests().len(), 3, "the first reply is kept");
    }
}

#[test]
fn a_run_whose_last_reply_reports_no_usage_does_not_complete_under_such_a_budget() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let orch = project_with_steps(&server, 1, "");
    let refuses = ["--budget", "tokens=100000,unreported=refuse"];
    let (ran, report) = run(&orch, &refuses);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("usage_unknown")), "{ran:?}");
    assert_eq!(orch.json("workspace/x.json"), json!([1]), "its result is kept");
    orch.run(&["pipeline", "resume", "--budget", "tokens=100000"]).exits(0);
    assert_eq!(server.requests().len(), 1);
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--budget", "unreported=never"])
        .exits(2)
        .says("`unreported=never` is not `estimate` or `refuse`");
}

#[test]
fn replies_with_complete_usage_are_not_refused() {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": 3 } });
    let server = Server::always(reply_with_last_chunks(&[usage]));
    let (ran, report) = run(&project_with_steps(&server, 3, "budget: { tokens: 100000, unreported: refuse }"), &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report["usage"], json!({ "input": 27, "cache_read": 0, "cache_write": 0, "output": 9, "reasoning": 0 }));
}

#[test]
fn the_budget_in_a_hint_keeps_the_other_limits_and_works() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let orch = project_with_steps(&server, 1, "budget: { tokens: 500, usd: 1, unreported: estimate }");
    add_prices(&orch);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{ran:?}");
    let (_, budget) = ran.stderr.rsplit_once(" --budget ").unwrap();
    let (budget, rest) = budget.split_once('`').unwrap();
    assert!(rest.starts_with(" continues the run"), "{}", ran.stderr);
    let tokens = budget.strip_prefix("usd=1,tokens=").and_then(|budget| budget.strip_suffix(",unreported=estimate"));
    assert!(tokens.is_some_and(|tokens| tokens.parse::<u64>().unwrap() > 500), "{}", ran.stderr);
    orch.run(&["pipeline", "resume", "--budget", budget]).exits(0);
}

#[test]
fn a_replay_of_replies_without_usage_is_not_unknown() {
    let server = Server::always(reply_with_last_chunks(&[]));
    let orch = project_with_steps(&server, 1, "");
    assert_eq!(run(&orch, &["--record", "rec"]).0.code, 0);
    orch.edit("pipelines/main.yaml", "name: test", "name: test\nbudget: { tokens: 5000, unreported: refuse }");
    let (ran, _) = run(&orch, &["--replay", "rec", "--workspace", "other"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}
