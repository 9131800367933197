//! The artifact of a text step: which parts of a reply it contains, and which parts orch leaves out and records.

use serde_json::{Value, json};

use crate::support::{Orch, Reply, Server};

/// Runs one text step with this reply; returns its report and the project.
fn run(reply: &str, step: &str) -> (Value, Orch) {
    let server = Server::always(Reply::openai_text(reply));
    let orch = Orch::empty().with(&server);
    orch.write("prompts/p.md", "Answer.");
    let pipeline = format!(
        "name: one\ninputs: {{ task: {{ type: string }} }}\nagents: {{ a: {{ model: lab/m }} }}\nsteps:\n  - {{ id: say, agent: a, prompt: p.md, output: said, {step} }}\n"
    );
    orch.write("pipelines/main.yaml", &pipeline);
    orch.write(
        "schemas/said.schema.json",
        &json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } }).to_string(),
    );
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--output", "json"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (report["steps"][0].clone(), orch)
}

#[test]
fn a_text_artifact_contains_the_answer_without_the_reasoning() {
    let reply = "<think>\nMaybe 7? No.\n</think>\n\nIt is 5.<|im_end|>\n<|im_start|>user\nAnd now?";
    let (step, orch) = run(reply, "schema: text");
    assert_eq!(step["output"], "It is 5.", "{step:#}");
    assert_eq!(step["extraction"]["left_out"], json!(["reasoning in <think>", "what follows <|im_end|>"]), "{step:#}");
    // The journal has the complete reply.
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0);
    assert!(shown.stdout.contains("Maybe 7? No.") && shown.stdout.contains("And now?"), "{shown:?}");
}

#[test]
fn a_text_that_only_mentions_markup_is_kept() {
    let reply = "Models write `<think>` first.\n```\n<think>\nhm\n</think>\n```\nA turn ends with <|im_end|> there.\n";
    let (step, _) = run(reply, "schema: text");
    assert_eq!(step["output"], reply, "{step:#}");
    assert!(step["extraction"].get("left_out").is_none(), "{step:#}");
}

#[test]
fn a_reply_with_only_reasoning_is_no_answer() {
    for step in ["schema: text, re_ask: 0", "schema: said, re_ask: 0"] {
        let (found, _) = run("<think>\nPerhaps {\"n\": 5}, I think", step);
        assert_eq!(found["error"]["class"], "empty_reply", "{step}: {found:#}");
        let message = "the reply has no answer, only reasoning in <think>";
        assert_eq!(found["error"]["message"], message, "{step}: {found:#}");
    }
}

#[test]
fn a_json_step_leaves_out_the_same_reasoning() {
    let (step, _) = run("◁think▷{\"n\": 7}?◁/think▷{\"n\": 5}", "schema: said");
    assert_eq!(step["output"], json!({ "n": 5 }), "{step:#}");
    assert_eq!(step["extraction"]["left_out"], json!(["reasoning in ◁think▷"]), "{step:#}");
}
