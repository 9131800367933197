//! The default pipeline with CLI agents in place of its models; a Convex deployment tracks the run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli_agents::{Agents, has_tool_result};
use crate::default_pipeline::{code, plan, review};
use crate::support::agents::{claude_adapter, programs};
use crate::support::convex::{Convex, KEY};
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput};

const SETTINGS: &str = "models:\n  priced: { model: openai/scripted, input_price: 1, output_price: 2 }\ntracker: { convex: { url: { env: CONVEX_URL }, auth: { env: CONVEX_DEPLOY_KEY } } }\nsandbox: { enabled: false }\n";

/// The default project: claude plans, codex codes and uses its shell, claude behind ACP reviews.
fn default_project_with_agents() -> Option<Agents> {
    let bin = programs()?;
    let orch = Orch::new();
    let mut agents = String::from("agents:\n  planner: { cli: claude, model: claude-sonnet-4-5 }\n");
    agents.push_str("  coder: { cli: codex, model: scripted, tools: [shell] }\n");
    agents.push_str(&format!("  reviewer: {{ {} }}\n", claude_adapter()));
    let text = orch.read("pipelines/default.yaml");
    let (head, rest) = text.split_once("agents:").unwrap();
    let (_, steps) = rest.split_once("\nsteps:").unwrap();
    orch.write("pipelines/default.yaml", &format!("{head}{agents}\nsteps:{steps}"))
        .write("orch.yaml", SETTINGS)
        .trust();
    let answer = |request: &ReceivedRequest| {
        let text = request.body.to_string();
        match () {
            () if request.path.contains("/responses") && has_tool_result(request) => {
                Reply::response_text(&code().to_string())
            }
            () if request.path.contains("/responses") => {
                Reply::response_call("exec_command", &json!({ "cmd": "echo notes > notes.txt", "login": false }))
            }
            () if text.contains("You plan a change") && has_tool_result(request) => Reply::anthropic_text("done"),
            () if text.contains("You plan a change") => Reply::anthropic_tool("StructuredOutput", &plan()),
            () => Reply::anthropic_text(&format!("My review:\n\n```json\n{}\n```\n", review())),
        }
    };
    Some(Agents::with_project(orch, bin, answer))
}

/// The statuses that the deployment received for each step, in order and without repeats.
fn statuses_by_step(convex: &Convex) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in convex.accepted_calls().iter().filter(|call| call["path"] == "workflows:upsertStep") {
        let text = |name: &str| call["args"][name].as_str().unwrap().to_owned();
        let states = all.entry(text("key")).or_default();
        if states.last() != Some(&text("status")) {
            states.push(text("status"));
        }
    }
    all
}

#[test]
fn agents_complete_the_default_pipeline_and_a_deployment_sees_every_status_in_order() {
    let (Some(agents), Some(convex)) = (default_project_with_agents(), Convex::start()) else { return };
    let run = |args: &[&str]| {
        let mut command = agents.command(args);
        RunOutput::of(&command.env("CONVEX_URL", convex.url()).env("CONVEX_DEPLOY_KEY", KEY).output().unwrap())
    };
    let task = "Create a User model with authentication";
    let ran = run(&["pipeline", "run", "pipelines/default.yaml", "--task", task, "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    for (name, value) in [("plan", plan()), ("code", code()), ("review", review())] {
        assert_eq!(agents.orch.json(&format!("workspace/{name}.json")), value);
        run(&["extract", &format!("workspace/{name}.json"), "--schema", &format!("schemas/{name}.schema.json")])
            .exits(0);
    }
    assert_eq!(agents.orch.read("workspace/notes.txt"), "notes\n");
    assert!(agents.orch.read("workspace/user.py").starts_with("class User"));

    // The report contains the costs and sessions.
    assert!(report["cost_usd"].as_f64() > Some(0.0), "{report:#}");
    assert_eq!(agents.calls()[0]["reply"]["constrained"], true, "the plan is claude's own structured output");
    for (at, model) in [(0, "claude/claude-sonnet-4-5"), (1, "codex/scripted"), (3, "acp/sh")] {
        let step = &report["steps"][at];
        assert_eq!(step["model"], model);
        assert!(step["cost_usd"].as_f64() > Some(0.0) && step["session"].is_string(), "{step:#}");
    }

    // The deployment has the same values, and received every change of a status in order.
    let id = run(&["runs", "list", "--output", "json"]).exits(0).stdout;
    let id = serde_json::from_str::<Value>(&id).unwrap()[0]["id"].clone();
    let workflow = convex.query("getWorkflow", json!({ "runId": id }));
    assert_eq!((&workflow["status"], &workflow["task"]), (&json!("completed"), &json!(task)), "{workflow}");
    assert_eq!(workflow["totals"]["costUsd"], report["cost_usd"], "{workflow}");
    let steps = convex.query("listSteps", json!({ "runId": id }));
    for (told, step) in steps.as_array().unwrap().iter().zip(report["steps"].as_array().unwrap()) {
        assert_eq!((&told["key"], &told["status"]), (&step["name"], &json!("completed")));
        assert_eq!((&told["session"], &told["model"]), (&step["session"], &step["model"]));
    }
    let whole = ["pending", "in_progress", "completed"].map(str::to_owned);
    let wanted = ["plan", "code", "files", "review"].map(|key| (key.to_owned(), whole.to_vec()));
    assert_eq!(statuses_by_step(&convex), BTreeMap::from(wanted));
    let seqs: Vec<u64> =
        convex.accepted_calls().iter().map(|call| call["args"]["seq"].as_u64().unwrap_or_default()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");

    // The commands about runs show what the programs did.
    let events = run(&["runs", "events"]).exits(0).stdout;
    let line = events.lines().find(|line| line.contains("call_ended") && line.contains("  code ")).unwrap();
    assert!(line.contains("1 tool call, 1 file changed, $"), "{line}");
    let shown = run(&["runs", "show", "--replies"]).exits(0).stdout;
    for words in ["echo notes > notes.txt", "changed  notes.txt", "session  ", "cost     $"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    let diff = run(&["runs", "diff", report["run"].as_str().unwrap()]).exits(0).stdout;
    assert!(diff.contains("+++ b/notes.txt\n@@ -0,0 +1 @@\n+notes\n") && diff.contains("+++ b/user.py"), "{diff}");
}
