//! Resumes of conversations in which a model called pipelines: what the model received stays as it is, and no step of a
//! pipeline that has ended runs again.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::support::{Orch, Server};
use crate::tool_loop::{RUN, answer, calls, facts_of, last_results, scripted_server, tool_project, wait_until};

/// The command of the pipeline that fails when it runs for the first time, and succeeds afterwards.
const DEPLOY: &str = "echo deployed >> log.txt; test $(wc -l < log.txt) -gt 1";
/// The command of the pipeline that always succeeds.
const NOTIFY: &str = "echo mailed >> log.txt";
/// A command that waits until the workspace has the file `go`.
const WAIT: &str = "test -e go || { touch waiting; sleep 600; }";

/// A project whose model calls the pipelines `deploy`, `notify` and `last`, each in a turn of its own. `last` has this
/// step.
fn project(last_step: &Value) -> (Server, Orch) {
    let call = |name: &'static str| calls([(name, json!({}))]);
    let turns = vec![call("deploy"), call("notify"), call("last"), answer(&json!("fine"))];
    let server = scripted_server(turns);
    let agent = json!({ "pipelines": ["deploy.yaml", "notify.yaml", "last.yaml"] });
    let orch = tool_project(&server, &agent, &json!({}));
    for (name, step) in [
        ("deploy", json!({ "id": "go", "run": DEPLOY })),
        ("notify", json!({ "id": "tell", "run": NOTIFY })),
        ("last", last_step.clone()),
    ] {
        let pipeline = json!({ "name": name, "steps": [step] });
        orch.write(&format!("pipelines/{name}.yaml"), &pipeline.to_string());
    }
    (server, orch)
}

fn asking_project() -> (Server, Orch) {
    project(&json!({ "id": "ok", "approve": "Go on?" }))
}

/// The attempts of steps inside of called pipelines that started.
fn nested_starts(orch: &Orch) -> Vec<String> {
    let starts = facts_of(orch, "step_started");
    let steps = starts.iter().map(|start| start["step"].as_str().unwrap().to_owned());
    steps.filter(|step| step.contains('/')).collect()
}

#[test]
fn a_resume_takes_what_the_model_received_from_failed_and_from_completed_pipelines() {
    let (server, orch) = asking_project();
    let waiting = orch.run(&RUN).exits(3);
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert!(shown.contains("the call waits for an answer to the question of step `work/last[0]/ok`"), "{shown}");
    let failure = "the pipeline failed (command_failed): pipeline deploy: the command ended with exit code 1";
    for line in ["work: deploy {}\n", &format!("work: deploy {{}} failed: {failure}")] {
        assert!(waiting.stderr.contains(line), "no {line:?} in {waiting:?}");
    }
    let (run, _) = latest_run(&orch).unwrap();
    orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
    assert_eq!(orch.read("workspace/log.txt"), "deployed\nmailed\n");
    assert_eq!(server.requests().len(), 4, "no request is repeated");
    let results = last_results(&server);
    assert!(results[0].contains(failure), "{results:?}");
    assert_eq!(results[1], "the pipeline completed; it has no outputs");
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    for part in ["4 requests, 3 tool calls", failure, "call work@1#1.1 (deploy {}), failed"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert_eq!(shown.matches("call work@1#2.1 ").count(), 1, "{shown}");
}

#[test]
fn a_resume_after_a_kill_runs_only_the_pipeline_that_had_not_ended() {
    let (server, orch) = project(&json!({ "id": "ok", "run": WAIT }));
    let mut child = orch.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the last pipeline", || orch.exists("workspace/waiting"));
    child.kill().unwrap();
    child.wait().unwrap();
    orch.write("workspace/go", "");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(orch.read("workspace/log.txt"), "deployed\nmailed\n");
    assert_eq!(server.requests().len(), 4, "no request is repeated");
    let expected = ["work/deploy[0]/go", "work/notify[0]/tell", "work/last[0]/ok", "work/last[0]/ok"];
    assert_eq!(nested_starts(&orch), expected);
}

#[test]
fn a_step_of_an_ended_pipeline_runs_again_if_the_user_names_it() {
    let (_server, orch) = asking_project();
    orch.run(&RUN).exits(3);
    orch.run(&["pipeline", "resume", "--from", "work/deploy/go"]).exits(3);
    let starts = nested_starts(&orch);
    assert_eq!(starts.iter().filter(|step| *step == "work/deploy[0]/go").count(), 2, "{starts:?}");
    let results: Vec<Value> = facts_of(&orch, "call_ended");
    let results = results.iter().filter_map(|ended| ended["output"]["pipeline"]["result"]["content"].as_str());
    assert_eq!(results.filter(|content| content.contains("failed")).count(), 1, "the second one completed");
}

#[test]
fn a_changed_pipeline_is_called_again() {
    let (_server, orch) = asking_project();
    orch.run(&RUN).exits(3);
    orch.edit("pipelines/deploy.yaml", "echo deployed", "echo again");
    orch.run(&["pipeline", "resume"]).exits(3);
    let log = orch.read("workspace/log.txt");
    assert!(log.starts_with("deployed\nmailed\nagain\n"), "{log}");
}

#[test]
fn a_completed_run_warns_of_the_failed_steps_of_called_pipelines() {
    let (_server, orch) = project(&json!({ "id": "ok", "run": "true" }));
    let ran = orch.run(&RUN).exits(0);
    let shown = format!("{}{}", ran.stdout, ran.stderr);
    let warning = "warning: step `work/deploy[0]/go`: the command ended with exit code 1";
    assert!(shown.contains(warning) && !shown.contains("error: "), "{shown}");
}
