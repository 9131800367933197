//! Budgets: orch checks them before each call, and keeps count over a resume.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run, statuses};
use crate::support::{Orch, Reply, Server};

const AGENT: &str = "agent: a, schema: any";

fn read_pipeline(orch: &Orch) -> String {
    orch.read("pipelines/main.yaml")
}

fn two_steps() -> String {
    format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
    )
}

#[test]
fn a_call_that_exceeds_the_budget_is_made_only_after_the_budget_is_raised() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, &two_steps());
    let text = read_pipeline(&orch).replace("model: auto", "model: auto, max_output_tokens: 100");
    // By the server's count the first call uses 10 + 5 tokens; the estimate of a call is about 110.
    orch.write("pipelines/main.yaml", &format!("{text}budget: {{ tokens: 120 }}\n"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(report["error"]["class"], "budget_exceeded", "{report:#}");
    assert!(ran.stderr.contains("the budget of the run is 120 tokens"), "{}", ran.stderr);
    let id = report["run"].as_str().unwrap();
    orch.run(&["pipeline", "resume", id]).exits(4);
    assert_eq!(server.requests().len(), 1, "what was spent still counts");
    orch.run(&["pipeline", "resume", id, "--budget", "tokens=1000"]).exits(0);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_budget_of_a_step_limits_its_items() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(
        &server,
        &format!(
            "  - id: all\n    budget: {{ tokens: 140 }}\n    for_each: \"[1, 2, 3, 4]\"\n    max_parallel: 4\n    {}\n    prompt: one.md\n    output: x\n",
            AGENT.replace(", ", "\n    ")
        ),
    );
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    let (ran, report) = run(&orch, &[]);
    assert!(ran.stderr.contains("the budget of step `all`"), "{ran:?}");
    let made = server.requests().len();
    assert_eq!(made, 2, "one after the other, while it fits: {:?}", statuses(&report));
}

#[test]
fn a_model_without_a_price_does_not_start_under_a_budget_in_dollars() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, &two_steps());
    let text = read_pipeline(&orch);
    orch.write("pipelines/main.yaml", &format!("{text}budget: {{ usd: 1 }}\n"));
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]).exits(2);
    assert!(ran.stderr.contains("lab/test has no known price"), "{}", ran.stderr);
    orch.write("pipelines/main.yaml", &format!("{text}budget: {{ usd: 1, unpriced: allow }}\n"));
    assert_eq!(run(&orch, &[]).0.code, 0);
    orch.write("pipelines/main.yaml", &format!("{text}budget: {{ usd: 0.0001 }}\n"));
    let settings = orch.read("orch.yaml").replace(
        "defaults: { model: lab/test }",
        "models: { dear: { model: lab/test, input_price: 10, output_price: 50 } }\ndefaults: { model: dear }",
    );
    orch.write("orch.yaml", &settings);
    let (ran, report) = run(&orch, &["--workspace", "third"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("the budget of the run is $0.00"), "{}", ran.stderr);
    assert_eq!(report["cost_usd"], Value::from(0.0));
}

#[test]
fn a_run_stops_when_its_seconds_are_used_up() {
    let server = answering_server(|_, _| json!(1));
    // The first step ends within the budget also on a busy machine, and the second one never does.
    let orch = project(&server, "  - { id: first, run: 'true' }\n  - { id: next, run: sleep 3600 }\n");
    orch.edit("pipelines/main.yaml", "name: test", "name: test\nbudget: { seconds: 20 }");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(statuses(&report)[0], "first completed");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--budget", "secs=3"]).exits(2).says("`secs`");
}

#[test]
fn a_used_up_time_budget_ends_the_call_in_flight_and_a_higher_one_repeats_it() {
    // This is far longer than the second of the budget, however busy the machine is.
    let long = Duration::from_mins(1);
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        Reply::openai_text("1").delay(if first { long } else { Duration::ZERO })
    });
    for steps in [
        format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"),
        "  - { id: one, run: mkdir begun 2>/dev/null && sleep 60 || true }\n".to_owned(),
    ] {
        let orch = project(&server, &format!("{steps}finally:\n  - {{ id: tidy, run: touch tidied }}\n"));
        orch.edit("pipelines/main.yaml", "name: test", "name: test\nbudget: { seconds: 1 }");
        let began = Instant::now();
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(began.elapsed() < long / 2, "the call was waited for: {:?}", began.elapsed());
        assert_eq!(report["error"]["class"], "budget_exceeded", "{report:#}");
        assert!(orch.exists("workspace/tidied"), "{report:#}");
        orch.run(&["pipeline", "resume", "--budget", "seconds=60", "--quiet"]).exits(0);
    }
}

#[test]
fn the_time_budget_of_a_step_ends_its_calls() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: slow, run: sleep 9, budget: { seconds: 1 } }\n");
    let (ran, _) = run(&orch, &[]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("the budget of step `slow` is 1 s, and that time is used up"), "{}", ran.stderr);
}

#[test]
fn finally_runs_when_the_budget_is_used_up() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, &two_steps());
    let text = read_pipeline(&orch);
    orch.write(
        "pipelines/main.yaml",
        &format!("{text}finally:\n  - {{ id: tidy, run: touch tidied }}\nbudget: {{ tokens: 10 }}\n"),
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(orch.exists("workspace/tidied"), "{report:#}");
    assert_eq!(server.requests().len(), 0);
}
