//! Budgets of agents: all steps of an agent share one, and orch counts it as far as each kind of agent allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::cli_agents::Agents;
use crate::step_kinds::{answering_server, project, run, statuses};
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput};

const TWO_STEPS: &str = "  - { id: one, agent: a, prompt: ask.md, output: x, schema: any }\n  - { id: two, agent: a, prompt: ask.md, message: \"again\", output: y, schema: any }\n";

#[test]
fn the_steps_of_an_agent_share_its_budget_and_other_agents_do_not() {
    let server = answering_server(|step, _| json!({ "step": step }));
    let agent = "schema: any, message: \"{{ task }}\"";
    let steps = format!(
        "  - {{ id: one, agent: a, prompt: one.md, output: x, {agent} }}\n  - {{ id: other, agent: b, prompt: two.md, output: y, {agent} }}\n  - {{ id: two, agent: a, prompt: three.md, output: z, {agent} }}\n"
    );
    let orch = project(&server, &steps);
    // By the server's count a call uses little more than 10 tokens; its estimate is about 110.
    let limited = "a: { model: auto, max_output_tokens: 100, budget: { tokens: 115 } }\n  b: { model: auto }";
    orch.edit("pipelines/main.yaml", "a: { model: auto }", limited);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{report:#}");
    assert!(ran.stderr.contains("the budget of agent `a` is 115 tokens"), "{}", ran.stderr);
    assert_eq!(statuses(&report)[..2], ["one completed", "other completed"], "{report:#}");
    orch.edit("pipelines/main.yaml", "tokens: 115", "tokens: 1000");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 3, "a budget is in no recipe: what was answered is not asked again");
}

#[test]
fn claude_receives_the_remaining_budget_and_its_cost_counts() {
    let (done, asked) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let is_done = done.clone();
    let answer = move |_: &ReceivedRequest| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        if is_done.load(Ordering::SeqCst) || number > 20 {
            return Reply::anthropic_text("{}");
        }
        Reply::anthropic_tool("Write", &json!({ "file_path": format!("f{number}"), "content": "x" }))
    };
    let agent = "  a: { cli: claude, model: claude-sonnet-4-5, tools: [Write], budget: { usd: 0.0003 } }\n";
    let Some(agents) = Agents::new(agent, TWO_STEPS, answer) else { return };
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{report:#}");
    assert!(ran.stderr.contains("`claude` used up the remaining budget of $0.0003"), "{}", ran.stderr);
    let asked = agents.model_requests().len();
    assert!(asked < 5, "it stopped by itself: {asked} requests");
    assert!(report["cost_usd"].as_f64() > Some(0.0), "what it cost is on record: {report:#}");
    assert!(report["usage"]["output"].as_u64() > Some(0), "{report:#}");
    let again = RunOutput::of(&agents.command(&["pipeline", "resume"]).output().unwrap()).exits(4);
    assert!(again.stderr.contains("the budget of agent `a` is $0.00"), "{again:?}");
    assert_eq!(agents.model_requests().len(), asked, "nothing is left, so nothing is asked");
    done.store(true, Ordering::SeqCst);
    agents.orch.edit("pipelines/main.yaml", "usd: 0.0003", "usd: 5");
    RunOutput::of(&agents.command(&["pipeline", "resume"]).output().unwrap()).exits(0);
}

#[test]
fn before_each_turn_of_codex_its_cost_is_estimated_by_the_list_price() {
    let Some(agents) = Agents::new("  a: { cli: codex, model: scripted, budget: { usd: 0.2 } }\n", TWO_STEPS, |_| {
        Reply::response_text("{}")
    }) else {
        return;
    };
    let refused =
        RunOutput::of(&agents.command(&["pipeline", "run", "pipelines/main.yaml", "--task", "t"]).output().unwrap());
    refused.exits(2).says("codex/scripted has no known price");
    // The model writes 3 tokens, at 100 000 dollars a million.
    agents.orch.write("orch.yaml", "models:\n  c: { model: openai/scripted, input_price: 5, output_price: 100000 }\n");
    let (ran, report) = agents.run(&[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{report:#}");
    assert!(ran.stderr.contains("the next turn takes more than"), "{}", ran.stderr);
    assert_eq!(agents.model_requests().len(), 1);
    assert!(report["cost_usd"].as_f64() > Some(0.2), "{report:#}");
    agents.orch.edit("pipelines/main.yaml", "usd: 0.2", "usd: 50");
    RunOutput::of(&agents.command(&["pipeline", "resume"]).output().unwrap()).exits(0);
    assert_eq!(agents.model_requests().len(), 2);
}

#[test]
fn a_program_is_ended_when_the_time_budget_of_its_agent_is_used_up() {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    let agents = "agents:\n  a: { command: [sh, -c, 'sleep 30'], budget: { seconds: 1 } }\n";
    orch.write(
        "pipelines/main.yaml",
        &format!("name: test\ninputs: {{ task: {{ type: string }} }}\n{agents}steps:\n{TWO_STEPS}"),
    );
    orch.disable_unsupported_sandboxes();
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, &report["error"]["class"]), (4, &json!("budget_exceeded")), "{report:#}");
    assert!(ran.stderr.contains("the budget of agent `a` is 1 s, and that time is used up"), "{}", ran.stderr);
}

#[test]
fn a_budget_that_orch_cannot_count_is_a_finding() {
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    let agents = "agents:\n  a: { command: [cat], budget: { usd: 1, tokens: 5 } }\n";
    orch.write(
        "pipelines/main.yaml",
        &format!("name: test\ninputs: {{ task: {{ type: string }} }}\n{agents}steps:\n{TWO_STEPS}"),
    );
    let ran = orch.run(&["pipeline", "validate"]).exits(2);
    ran.says("`budget/usd` can't be enforced for an agent with `command`").says("`budget/tokens` can't be enforced");
}
