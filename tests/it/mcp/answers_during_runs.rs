//! The answer to a question of an MCP server continues its step while other branches work.

use serde_json::{Value, json};

use super::questions::asking_server;
use crate::support::{Orch, RunOutput, wait};
use crate::tool_loop::{facts_of, wait_until};

/// Waits for the file `gate` beside the workspace, for two minutes at most.
const WAITING_SCRIPT: &str = "n=0\nwhile [ ! -e ../gate ]; do n=$((n+1)); [ $n -lt 1200 ] || exit 1; sleep 0.1; done\n";

#[test]
fn an_answer_to_a_server_continues_its_step_while_eight_branches_work() {
    let server = asking_server();
    let orch = Orch::empty();
    let order = json!({ "id": "order", "call": "shop.order", "args": { "text": "a" }, "output": "found" });
    let gated = (1..=8).map(|n| json!({ "id": format!("c{n}"), "run": ["sh", "../wait.sh"], "access": "none" }));
    let branches: Vec<Value> = std::iter::once(order).chain(gated).collect();
    let pipeline = json!({ "name": "test", "steps": [{ "id": "all", "parallel": branches }] });
    orch.write("pipelines/main.yaml", &pipeline.to_string()).write("wait.sh", WAITING_SCRIPT);
    orch.write("orch.yaml", &json!({ "mcp": { "shop": server.settings("read") } }).to_string()).trust();
    let child = orch.start(&["pipeline", "run", "pipelines/main.yaml"]);
    // The run exists once the question is recorded, so `runs events` finds it.
    wait_until("the server asks", || orch.run(&["runs", "events"]).stdout.contains("approval_asked"));
    wait_until("the branches work", || started_commands(&orch) == 8);
    orch.run(&["runs", "approve", "--note", r#"{"size": "XL"}"#]).exits(2).says("does not answer");
    orch.run(&["runs", "approve", "--note", r#"{"size": "L"}"#]).exits(0);
    wait_until("the step ends", || facts_of(&orch, "step_completed").iter().any(|fact| fact["step"] == "all/order"));
    assert!(facts_of(&orch, "step_completed").len() == 1 && facts_of(&orch, "run_ended").is_empty());
    orch.write("gate", "");
    RunOutput::of(&wait::output_of(child)).exits(0);
    assert_eq!((orch.json("workspace/found.json"), server.calls().len()), (json!("size L"), 2));
    assert_eq!(facts_of(&orch, "approval_answered").len(), 1);
    assert_eq!(facts_of(&orch, "run_ended").len(), 1, "the run did not end to wait for the answer");
}

/// The number of commands that have started.
fn started_commands(orch: &Orch) -> usize {
    facts_of(orch, "call_started").iter().filter(|fact| fact["kind"] == "command").count()
}
