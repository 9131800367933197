//! The default pipeline with the small embedded model, in this process.

use orch::schema::Schema;
use serde_json::Value;

use crate::support::Orch;

/// The replies are short, so that the test ends soon on a busy machine, too.
fn project() -> Orch {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "max_output_tokens: 16384", "max_output_tokens: 500");
    // A tiny model gives several files the same name; one file cannot conflict.
    orch.edit("schemas/code.schema.json", "\"maxItems\": 12", "\"maxItems\": 1");
    orch.run(&["models", "pull", "smollm2-135m"]).exits(0);
    orch
}

#[test]
fn the_default_pipeline_completes_on_the_small_embedded_model() {
    let orch = project();
    let (code, report) = orch.report(&["--model", "local/smollm2-135m"]);
    assert_eq!(code, 0, "{report:#}");
    for name in ["plan", "code", "review"] {
        let schema: Value = serde_json::from_str(&orch.read(&format!("schemas/{name}.schema.json"))).unwrap();
        let value = orch.json(&format!("workspace/{name}.json"));
        let errors = Schema::compile(name, schema).unwrap().mismatches(&value);
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let code = orch.json("workspace/code.json");
    let (path, content) = (code["files"][0]["path"].as_str().unwrap(), &code["files"][0]["content"]);
    assert_eq!(&Value::from(orch.read(&format!("workspace/{path}"))), content, "its code is on disk");
    for step in report["steps"].as_array().unwrap().iter().filter(|step| step["name"] != "files") {
        assert_eq!(step["calls"], 1, "a constrained reply fits the first time");
        assert!(step["usage"]["output"].as_u64() > Some(10), "{step}");
        assert_eq!(step["cost_usd"], 0.0);
    }
}

#[test]
fn a_run_names_the_embedded_model_and_recommends_a_larger_one() {
    let orch = project();
    orch.write("pipelines/one.yaml", "name: one\ninputs:\n  task: { type: string }\nagents:\n  a: { model: local/smollm2-135m, max_output_tokens: 60 }\nsteps:\n  - { id: answer, agent: a, prompt: planner.md, output: notes, schema: text }\n");
    let ran = orch.run(&["pipeline", "run", "pipelines/one.yaml", "--task", "Say hello."]);
    assert!(
        ran.stderr.contains("SmolLM2 135M") && ran.stderr.contains("a larger model gives better plans"),
        "{}",
        ran.stderr
    );
    // Free text has no grammar that ends it, so a cut reply is a failure and not a short success.
    if ran.code == 0 {
        assert!(!orch.read("workspace/notes.md").trim().is_empty());
    } else {
        assert!(ran.stderr.contains("max_tokens_reached"), "{}", ran.stderr);
    }
}
