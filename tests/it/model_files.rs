//! GGUF files as models: named by path, configured in `orch.yaml`, and added under a name.

use serde_json::{Value, json};

use crate::support::gguf::{Gguf, SMALL, TensorType};
use crate::support::{Orch, RunOutput};

/// A project whose one step asks this model a question, with a file of random weights.
fn project(model: &str) -> Orch {
    let orch = Orch::empty();
    let pipeline = format!(
        "name: one\ninputs:\n  task: {{ type: string }}\nagents:\n  a: {{ model: \"{model}\" }}\nsteps:\n  - {{ id: answer, agent: a, prompt: short.md, output: answer }}\n"
    );
    orch.write("orch.yaml", "{}\n").write("pipelines/one.yaml", &pipeline).write("prompts/short.md", "Be brief.");
    let schema = json!({ "type": "object", "properties": { "sure": { "type": "boolean" } }, "required": ["sure"],
        "additionalProperties": false });
    orch.write("schemas/answer.schema.json", &schema.to_string());
    std::fs::create_dir(orch.path().join("models")).unwrap();
    write_weights(&orch, 1);
    orch
}

fn write_weights(orch: &Orch, seed: u64) {
    Gguf::model("qwen3", SMALL, TensorType::Q8, seed).write(&orch.path().join("models/tiny.gguf"));
}

/// Runs the program with its own cache of models.
fn run(orch: &Orch, args: &[&str]) -> RunOutput {
    RunOutput::of(&orch.command(args).env("XDG_CACHE_HOME", orch.path().join("cache")).output().unwrap())
}

const ASK: [&str; 5] = ["pipeline", "run", "pipelines/one.yaml", "--task", "Is it?"];

/// Resumes the last run; returns whether it reused its step.
fn resume_reuses_step(orch: &Orch) -> bool {
    let runs: Value = serde_json::from_str(&run(orch, &["runs", "list", "--output", "json"]).stdout).unwrap();
    let id = runs[0]["run"].as_str().unwrap();
    let report = run(orch, &["pipeline", "resume", id, "--output", "json"]).exits(0).stdout;
    serde_json::from_str::<Value>(&report).unwrap()["steps"][0]["reused"].as_bool().unwrap()
}

#[test]
fn a_model_file_answers_and_its_content_identifies_it() {
    let orch = project("local:models/tiny.gguf");
    run(&orch, &ASK)
        .exits(0)
        .says("local:models/tiny.gguf is Random qwen3 (qwen3, ")
        .says("attempt 1 with local:models/tiny.gguf");
    assert!(orch.json("workspace/answer.json")["sure"].is_boolean());
    assert!(resume_reuses_step(&orch), "the same file is the same model");
    let file = orch.path().join("models/tiny.gguf");
    std::fs::rename(&file, orch.path().join("models/moved.gguf")).unwrap();
    orch.edit("pipelines/one.yaml", "tiny.gguf", "moved.gguf");
    assert!(resume_reuses_step(&orch), "under another path it is still the same");
    write_weights(&orch, 2);
    orch.edit("pipelines/one.yaml", "moved.gguf", "tiny.gguf");
    assert!(!resume_reuses_step(&orch), "other weights are another model");
}

#[test]
fn a_model_file_can_have_a_name_in_the_settings() {
    let orch = project("big");
    orch.write("orch.yaml", "models:\n  big: { gguf: models/tiny.gguf, context_window: 900 }\n");
    run(&orch, &["pipeline", "validate"]).exits(0);
    run(&orch, &ASK).exits(0).says("attempt 1 with local:models/tiny.gguf");
    orch.write("orch.yaml", "models:\n  big: { gguf: models/tiny.gguf, model: local }\n");
    run(&orch, &["pipeline", "validate"]).exits(2).says("`big` has both `model` and `gguf`").says("orch.yaml:2:");
    orch.write("orch.yaml", "models:\n  big: { context_window: 900 }\n");
    run(&orch, &["pipeline", "validate"]).exits(2).says("`big` names no model").says("gguf: PATH");
}

#[test]
fn a_model_file_that_cannot_run_is_a_finding_and_no_request_is_made() {
    let orch = project("local:models/tiny.gguf");
    let bytes = std::fs::read(orch.path().join("models/tiny.gguf")).unwrap();
    let cases: [(Vec<u8>, &str); 4] = [
        (b"# notes".to_vec(), "it is not a GGUF file"),
        (bytes[..bytes.len() - 100].to_vec(), "it is cut off; copy or download it again"),
        (
            Gguf::model("gemma2", SMALL, TensorType::F32, 1).bytes(),
            "its architecture is `gemma2`, and orch runs `llama`, `qwen2`, `qwen3`",
        ),
        (Gguf::model("qwen2", SMALL, TensorType::Unsupported, 1).bytes(), "has the type IQ4_NL"),
    ];
    for (bytes, says) in cases {
        std::fs::write(orch.path().join("models/tiny.gguf"), bytes).unwrap();
        for args in [&["pipeline", "validate"][..], &ASK] {
            run(&orch, args)
                .exits(2)
                .says("error[ORCH0706]: the model file `models/tiny.gguf` can't be used")
                .says(says);
        }
        run(&orch, &["models", "add", "models/tiny.gguf"]).exits(2).says(says);
    }
    assert!(!orch.exists("workspace/answer.json"));
    std::fs::remove_file(orch.path().join("models/tiny.gguf")).unwrap();
    // The file may be on another machine: only a run needs it.
    run(&orch, &["pipeline", "validate"]).exits(0).says("warning[ORCH0706]: there is no model file `models/tiny.gguf`");
    run(&orch, &ASK).exits(2).says("there is no model file `models/tiny.gguf`");
    run(&orch, &["pipeline", "run", "pipelines/one.yaml", "--task", "x", "--model", "local:other.gguf"])
        .exits(2)
        .says("there is no model file `other.gguf`");
}

#[test]
fn a_model_file_can_be_added_under_a_name() {
    let orch = project("local/mine");
    run(&orch, &ASK).exits(2).says("there is no embedded model `mine`");
    run(&orch, &["models", "add", "models/tiny.gguf", "--name", "mine"])
        .exits(0)
        .says("local/mine is Random qwen3 (qwen3, ")
        .says("--model local/mine");
    let list = run(&orch, &["models"]).exits(0).stdout;
    assert!(list.lines().any(|line| line.starts_with("local/mine") && line.ends_with("added")), "{list}");
    run(&orch, &ASK).exits(0).says("attempt 1 with local/mine");
    assert!(resume_reuses_step(&orch));
    write_weights(&orch, 5);
    assert!(!resume_reuses_step(&orch), "other weights under the same name are another model");
    run(&orch, &["models", "add", "models/tiny.gguf", "--name", "smollm2-135m"])
        .exits(2)
        .says("belongs to a model of the catalog");
    run(&orch, &["models", "add", "models/tiny.gguf", "--name", "../x"]).exits(2).says("must consist of letters");
    std::fs::remove_file(orch.path().join("models/tiny.gguf")).unwrap();
    let list = run(&orch, &["models", "list"]).exits(0).stdout;
    assert!(list.contains("there is no model file"), "{list}");
    run(&orch, &ASK).exits(2).says("there is no model file");
}

#[test]
fn the_list_of_models_fits_a_narrow_terminal() {
    let orch = Orch::empty();
    let list = run(&orch, &["models"]).exits(0);
    let long = |text: &str| text.lines().find(|line| line.chars().count() > 80).map(ToOwned::to_owned);
    // On a terminal, orch wraps the note on standard error at its width.
    assert_eq!(long(&list.stdout), None);
    assert!(list.stdout.contains("local/qwen2.5-coder-14b") && list.stdout.contains("untested"), "{}", list.stdout);
    assert!(!list.stdout.contains('\u{1b}') && !list.stderr.contains('\u{1b}'), "colours in a pipe");
}

#[test]
fn a_required_call_leaves_an_embedded_model_no_text() {
    let orch = project("local:models/tiny.gguf");
    let keys = "tools: [list], tool_choice: required, max_turns: 2, max_output_tokens: 60";
    orch.edit("pipelines/one.yaml", "tiny.gguf\" }", &format!("tiny.gguf\", {keys} }}"));
    orch.edit("pipelines/one.yaml", "output: answer", "output: answer, re_ask: 0");
    // Random weights write random arguments, so the step may fail. But each of their first replies is a call.
    run(&orch, &ASK);
    let events = run(&orch, &["runs", "events", "--output", "json"]).exits(0).stdout;
    let facts = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fact"].clone());
    let mut ends = facts.filter_map(|fact| fact.get("call_ended").cloned());
    let reply = ends.next().unwrap()["reply"].clone();
    let blocks = reply["content"].as_array().cloned().unwrap_or_default();
    let has_text = reply["content"].as_str().is_some_and(|text| !text.is_empty());
    assert!(!has_text && blocks.iter().all(|block| block.get("text").is_none()), "{reply:#}");
    let has_call = !blocks.is_empty() || reply["details"]["omitted_calls"] == json!(["list"]);
    assert!(has_call || reply["stop"] == "length", "{reply:#}");
}
