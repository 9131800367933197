//! The guide in docs/pipelines.md: each of its examples runs, and does what the text beside it says.

use serde_json::{Value, json};

use crate::default_pipeline::{code, review};
use crate::step_kinds::statuses;
use crate::support::{Orch, Reply, RunOutput, Server};

/// The example of the guide with this name.
fn example(name: &str) -> String {
    let guide = std::fs::read_to_string("docs/pipelines.md").unwrap();
    let blocks = guide.split("```yaml pipeline\n").skip(1).filter_map(|rest| rest.split("```").next());
    let found = blocks.into_iter().find(|block| block.starts_with(&format!("name: {name}\n")));
    found.unwrap_or_else(|| panic!("there is no example `{name}`")).to_owned()
}

fn plan() -> Value {
    let part = |title: &str| json!({ "title": title, "detail": "What exactly is to be written.", "files": ["a.py"], "acceptance": ["it does run at all"] });
    json!({ "summary": "Three parts, each on its own.", "files": [{ "path": "a.py", "purpose": "all of it" }], "steps": [part("First part"), part("Bad second part"), part("Third part")], "risks": [] })
}

/// Answers with a value for the requested artifact; for a text, it repeats the message. A review approves the second
/// version of the code.
fn answer(request: &crate::support::ReceivedRequest) -> Reply {
    let said = request.last();
    let value = match request.body["response_format"]["json_schema"]["name"].as_str() {
        Some("plan") => plan(),
        Some("code") => {
            let mut code = code();
            code["notes"] = json!([format!("round 2: {}", said.contains("round 2 of 3"))]);
            code
        }
        Some("review") => {
            let mut review = review();
            review["approved"] = json!(said.contains("round 2: true"));
            review
        }
        Some("questions") => {
            let question = json!({ "question": "What is it all about?", "why": "To know." });
            json!({ "goal": "To know what it is about.", "questions": [question, question] })
        }
        Some(other) => panic!("nobody answers `{other}`"),
        None if said.trim() == "Bad second part" => return Reply::status(400, "{\"error\":{\"message\":\"no\"}}"),
        None => return Reply::openai_text(&format!("<{}>", said.trim())),
    };
    Reply::openai_text(&value.to_string())
}

struct ExampleRun {
    orch: Orch,
    server: Server,
    ran: RunOutput,
    report: Value,
}

impl ExampleRun {
    fn run(name: &str, task: &str) -> Self {
        let server = Server::start(answer);
        let orch = Orch::new().with(&server);
        orch.write("pipelines/shown.yaml", &example(name));
        let ran = orch.run(&["pipeline", "run", "pipelines/shown.yaml", "--task", task, "--output", "json"]);
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{name}: {error}: {ran:?}"));
        Self { orch, server, ran, report }
    }

    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.ran.code, code, "{:?}", self.ran);
        self
    }

    #[track_caller]
    fn has(&self, step: &str) {
        assert!(statuses(&self.report).contains(&step.to_owned()), "{step}: {:?}", statuses(&self.report));
    }
}

#[test]
fn for_each_gives_the_list_in_order() {
    let shown = ExampleRun::run("for each", "t").exits(0);
    let list = json!(["<Step 1: First part>", "<Step 2: Bad second part>", "<Step 3: Third part>"]);
    assert_eq!(shown.orch.json("workspace/explanations.json"), list);
}

#[test]
fn for_each_marks_failed_items() {
    let shown = ExampleRun::run("for each with failures", "t").exits(1);
    shown.has("parts[1]/draft failed");
    shown.has("parts[1]/critique skipped");
    shown.has("sum_up completed");
    let parts = shown.orch.json("workspace/parts.json");
    assert_eq!((&parts[0]["status"], &parts[1]["status"]), (&json!("completed"), &json!("failed")));
    assert_eq!(parts[2]["value"]["draft"], "<Third part>");
    assert!(!shown.orch.exists("workspace/draft.md"), "only the list is a file");
}

#[test]
fn outputs_of_parallel_steps_are_visible_after_the_group() {
    let shown = ExampleRun::run("two opinions", "t").exits(0);
    let decision = shown.orch.read("workspace/decision.md");
    assert!(decision.contains("# risks") && decision.contains("# costs"), "{decision}");
}

#[test]
fn a_loop_ends_when_its_condition_holds() {
    let shown = ExampleRun::run("until it is good", "t").exits(0);
    assert_eq!(shown.server.requests().len(), 4);
    assert!(shown.server.requests()[2].last().contains("no password hash"), "the review of the iteration before");
    shown.has("fix[1]/review completed");
}

#[test]
fn a_called_pipeline_returns_its_outputs_and_writes_no_files() {
    let shown = ExampleRun::run("learn first", "t").exits(0);
    assert!(shown.server.requests().last().unwrap().last().contains("# report"));
    assert!(shown.server.requests()[1].last().contains("Only what is well known."));
    shown.has("learn/research[1] completed");
    let files = shown.orch.files();
    let files: Vec<&String> = files.iter().filter(|file| file.starts_with("workspace/")).collect();
    assert_eq!(files, ["workspace/plan.json"]);
}

#[test]
fn a_model_may_call_the_pipelines_of_its_agent() {
    let shown = ExampleRun::run("ask others", "t").exits(0);
    let tool = shown.server.requests()[0].body["tools"][0]["function"].clone();
    assert_eq!((&tool["name"], &tool["parameters"]["required"][0]), (&json!("research"), &json!("task")));
}

#[test]
fn steps_call_tools_with_values_of_their_types() {
    let shown = ExampleRun::run("tool calls", "Say hello").exits(0);
    shown.has("save completed");
    assert_eq!(shown.orch.read("workspace/docs/TASK.md"), "Say hello");
    assert!(shown.orch.read("workspace/start.md").contains("1\tSay hello"));
    assert!(shown.server.requests()[0].last().contains("# start"));
}

#[test]
fn finally_steps_run_and_the_outputs_are_the_result() {
    let shown = ExampleRun::run("tidy", "t").exits(0);
    let files = json!([["a.py"], ["a.py"], ["a.py"]]);
    assert_eq!(shown.report["result"], json!({ "summary": "Three parts, each on its own.", "files": files }));
    assert!(!shown.orch.exists("workspace/scratch"));
    assert_eq!(shown.orch.read("workspace/how-it-went"), "plan: completed\n");
}

#[test]
fn commands_receive_values_as_data() {
    let task = "it's \"$(touch hacked)\"; touch hacked";
    let shown = ExampleRun::run("commands", task).exits(0);
    let tests = shown.orch.json("workspace/tests.json");
    assert_eq!(tests["exit_code"], 1);
    let said = tests["stdout"].as_str().unwrap();
    assert!(said.contains(&format!("files for {task}\n")) && said.contains("\"home\": true"), "{said}");
    assert!(!shown.orch.exists("workspace/hacked"));
    shown.has("judge completed");
}

#[test]
fn files_are_written_from_artifacts_and_expressions() {
    let shown = ExampleRun::run("files", "Say hello").exits(0);
    assert_eq!(shown.orch.read("workspace/docs/TASK.md"), "Say hello");
    let written = shown.orch.json("workspace/written.json");
    assert_eq!((&written["files"][0]["path"], &written["files"][0]["change"]), (&json!("user.py"), &json!("created")));
}

#[test]
fn an_approval_suspends_the_run_until_it_is_answered() {
    for (word, then) in [("approve", "code completed"), ("reject", "code skipped")] {
        let shown = ExampleRun::run("approval", "t").exits(3);
        assert!(shown.ran.stderr.contains("Shall it be built?"), "{}", shown.ran.stderr);
        let id = shown.report["run"].as_str().unwrap();
        shown.orch.run(&["runs", word, id, "--note", "Keep it short", "--by", "ana", "--resume"]).exits(0);
        let said = json!({ "approved": word == "approve", "note": "Keep it short", "by": "ana" });
        assert_eq!(shown.orch.json("workspace/signed.json"), said);
        let report = shown.orch.run(&["runs", "show", id, "--output", "json"]).exits(0);
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        assert!(statuses(&report).contains(&then.to_owned()), "{report:#}");
    }
}

#[test]
fn a_group_that_may_fail_does_not_end_the_run() {
    let shown = ExampleRun::run("best effort", "t").exits(0);
    shown.has("extras failed");
    shown.has("extras/lint failed");
    shown.has("extras/after_lint skipped");
    shown.has("plan completed");
}

#[test]
fn every_example_is_tested_and_the_settings_with_limits_work() {
    let guide = std::fs::read_to_string("docs/pipelines.md").unwrap();
    let own = std::fs::read_to_string("tests/it/pipelines_guide.rs").unwrap();
    for block in guide.split("```yaml pipeline\nname: ").skip(1) {
        let name = block.lines().next().unwrap();
        assert!(own.contains(&format!("ExampleRun::run(\"{name}\"")), "`{name}` is not run");
    }
    let server = Server::start(answer);
    let orch = Orch::new();
    let settings = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    orch.write("orch.yaml", &settings.replace("http://127.0.0.1:8000/v1", &server.openai_url()));
    orch.pipeline(&["--model", "lab/m"]).exits(0);
}
