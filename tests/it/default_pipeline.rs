//! The default pipeline from the task to the report, including failed steps.

use serde_json::{Value, json};

use crate::support::{Orch, ReceivedRequest, Reply, Server};

pub(crate) fn plan() -> Value {
    json!({ "summary": "A User class with hashed passwords, in Python.", "risks": [],
        "files": [{ "path": "user.py", "purpose": "the model of a user" }],
        "steps": [{ "title": "Write the model", "detail": "A `User` class with `email` and `password_hash`.", "files": ["user.py"],
            "acceptance": ["`User` hashes its password"] }] })
}

pub(crate) fn code() -> Value {
    json!({ "files": [{ "path": "user.py", "language": "python", "content": "class User:\n    def __init__(self, email): self.email = email\n" }],
        "notes": [] })
}

pub(crate) fn review() -> Value {
    json!({ "approved": false, "score": 6, "summary": "It works, but stores no password hash yet.",
        "issues": [{ "severity": "major", "file": "user.py", "line": 1, "message": "no password hash", "suggestion": "use bcrypt" }] })
}

/// The step of the default pipeline that sent a request.
pub(crate) fn step_of(request: &ReceivedRequest) -> &'static str {
    let system = request.system();
    match () {
        () if system.contains("You plan a change") => "plan",
        () if system.contains("You write the code") => "code",
        () => "review",
    }
}

/// A valid reply for the step of a request.
pub(crate) fn good_reply(request: &ReceivedRequest) -> Reply {
    let value = match step_of(request) {
        "plan" => plan(),
        "code" => code(),
        _ => review(),
    };
    Reply::openai_text(&value.to_string())
}

/// A server with valid replies, except for one step, whose requests it rejects.
fn server_with_failing_step(which: &'static str) -> Server {
    Server::start(move |request| {
        if step_of(request) == which {
            Reply::status(400, "{\"error\":{\"message\":\"no such thing\"}}")
        } else {
            good_reply(request)
        }
    })
}

fn statuses(report: &Value) -> Vec<(String, String)> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|s| (s["name"].as_str().unwrap().to_owned(), s["status"].as_str().unwrap().to_owned())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_task_becomes_artifacts_files_and_a_report() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    let (code_, report) = orch.report(&[]);
    assert_eq!(code_, 0);
    assert_eq!((&report["success"], &report["status"]), (&json!(true), &json!("completed")));
    let done = [("plan", "completed"), ("code", "completed"), ("files", "completed"), ("review", "completed")];
    assert_eq!(statuses(&report), pairs(&done));
    assert_eq!(orch.json("workspace/plan.json"), plan());
    assert_eq!(orch.json("workspace/code.json"), code());
    assert_eq!(orch.json("workspace/review.json"), review());
    assert_eq!(orch.read("workspace/user.py"), code()["files"][0]["content"].as_str().unwrap(), "real code on disk");
    assert_eq!(report["result"], review(), "the final review is the report's result");
    let names: Vec<_> = report["artifacts"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan", "code", "review"]);
    let asked = ["planner", "coder", "", "reviewer"];
    for (step, agent) in report["steps"].as_array().unwrap().iter().zip(asked).filter(|(_, agent)| !agent.is_empty()) {
        assert_eq!(step["agent"], agent);
        assert_eq!(step["attempts"], 1);
        assert!(step["started_at"].as_str() < step["ended_at"].as_str(), "{step}");
        assert!(step["usage"]["output"].as_u64() > Some(0), "{step}");
        assert_eq!(step["error"], Value::Null);
    }
    assert_eq!(server.requests().len(), 3);
    let shown = orch.run(&["runs", "show"]).exits(0).stdout;
    assert!(shown.contains("✓ files") && !shown.contains("sent a reply back"), "a write asks nobody: {shown}");
}

#[test]
fn artifacts_are_two_space_json_with_the_digest_of_the_report() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    let (_, report) = orch.report(&[]);
    let text = orch.read("workspace/plan.json");
    assert!(text.starts_with("{\n  \"summary\": \"A User class"), "{text}");
    assert!(text.ends_with("}\n"));
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    assert_eq!(report["artifacts"][0]["digest"], json!(digest));
}

#[test]
fn a_step_receives_the_task_and_the_artifacts_that_it_lists() {
    let server = Server::start(good_reply);
    Orch::new().with(&server).pipeline(&[]).exits(0);
    let requests = server.requests();
    let [plan_request, code_request, review_request] = requests.as_slice() else { panic!("{}", requests.len()) };
    assert!(plan_request.last().contains("Create a User model"));
    assert!(!plan_request.last().contains("# plan"));
    assert!(
        code_request.last().contains("A User class with hashed passwords")
            && !code_request.last().contains("class User:")
    );
    assert!(review_request.last().contains("A User class") && review_request.last().contains("class User:"));
    for (request, name) in requests.iter().zip(["plan", "code", "review"]) {
        assert_eq!(request.body["response_format"]["json_schema"]["name"], name);
    }
}

#[test]
fn a_failed_planner_stops_the_run() {
    let server = server_with_failing_step("plan");
    let orch = Orch::new().with(&server);
    for more in [&[][..], &["--continue-on-error"]] {
        let (code, report) = orch.report(more);
        assert_eq!(code, 1);
        assert_eq!(report["success"], false);
        assert_eq!(
            statuses(&report),
            pairs(&[("plan", "failed"), ("code", "skipped"), ("files", "skipped"), ("review", "skipped")]),
            "{more:?}"
        );
        assert_eq!(report["steps"][0]["error"]["class"], "bad_request");
        assert!(report["steps"][0]["error"]["message"].as_str().unwrap().contains("no such thing"));
        assert_eq!(report["steps"][1]["reason"]["message"], "step `plan` failed");
    }
    assert!(server.requests().iter().all(|request| step_of(request) == "plan"));
    assert!(!orch.exists("workspace/plan.json"));
}

#[test]
fn a_failed_coder_stops_the_run() {
    let server = server_with_failing_step("code");
    let orch = Orch::new().with(&server);
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 1);
    let ends = [("plan", "completed"), ("code", "failed"), ("files", "skipped"), ("review", "skipped")];
    assert_eq!(statuses(&report), pairs(&ends));
    assert_eq!(report["steps"][3]["reason"]["message"], "step `code` failed");
    assert_eq!(report["result"], Value::Null);
    assert!(orch.exists("workspace/plan.json"), "what was done stays");
}

#[test]
fn with_continue_on_error_the_reviewer_receives_only_the_plan_after_the_coder_failed() {
    let server = server_with_failing_step("code");
    let orch = Orch::new().with(&server);
    let (code, report) = orch.report(&["--continue-on-error"]);
    assert_eq!(code, 1, "a run with a failed step is failed");
    let ends = [("plan", "completed"), ("code", "failed"), ("files", "skipped"), ("review", "completed")];
    assert_eq!(statuses(&report), pairs(&ends));
    assert_eq!(report["steps"][2]["reason"]["message"], "input `code` missing: step `code` failed");
    let requests = server.requests();
    let last = requests.last().unwrap();
    assert!(last.last().contains("# plan") && !last.last().contains("# code"));
    assert!(last.system().contains("no code was written"));
    assert!(orch.exists("workspace/review.json") && !orch.exists("workspace/code.json"));
}

#[test]
fn a_failed_reviewer_keeps_the_plan_the_code_and_the_written_files() {
    let server = server_with_failing_step("review");
    let orch = Orch::new().with(&server);
    let (code, report) = orch.report(&["--continue-on-error"]);
    assert_eq!(code, 1);
    let ends = [("plan", "completed"), ("code", "completed"), ("files", "completed"), ("review", "failed")];
    assert_eq!(statuses(&report), pairs(&ends));
    assert!(
        orch.exists("workspace/plan.json")
            && orch.exists("workspace/code.json")
            && orch.exists("workspace/user.py")
            && !orch.exists("workspace/review.json")
    );
}

#[test]
fn a_path_that_leads_out_of_the_workspace_is_never_written() {
    let server = Server::start(|request| {
        let mut value = code();
        value["files"][0]["path"] = json!("../user.py");
        if step_of(request) == "code" { Reply::openai_text(&value.to_string()) } else { good_reply(request) }
    });
    let orch = Orch::new().with(&server);
    let (_, report) = orch.report(&[]);
    assert_eq!(report["steps"][1]["error"]["class"], "schema_mismatch", "the schema refuses it first: {report:#}");
    orch.edit("pipelines/default.yaml", "    output: code", "    output: code\n    schema: any");
    let (_, report) = orch.report(&[]);
    assert_eq!(report["steps"][1]["error"]["class"], "output_rejected", "{report:#}");
    orch.edit("pipelines/default.yaml", "write: code", "write: code.files | list");
    let (_, report) = orch.report(&[]);
    assert_eq!(report["steps"][2]["error"]["class"], "path_refused", "{report:#}");
    assert!(!orch.exists("user.py") && !orch.exists("workspace/user.py"));
}

#[test]
fn a_missing_required_input_skips_the_step_with_a_reason() {
    let server = server_with_failing_step("code");
    let orch = Orch::new().with(&server);
    orch.edit("pipelines/default.yaml", "[plan, \"code?\"]", "[plan, code]");
    orch.edit("prompts/reviewer.md", "{% if code -%}", "{% if true -%}");
    let (code, report) = orch.report(&["--continue-on-error"]);
    assert_eq!(code, 1);
    assert_eq!(report["steps"][3]["status"], "skipped");
    assert_eq!(report["steps"][3]["reason"]["message"], "input `code` missing: step `code` failed");
}

#[test]
fn a_stale_artifact_of_an_earlier_run_never_counts() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    let broken = server_with_failing_step("code");
    let orch = orch.with(&broken);
    orch.pipeline(&["--continue-on-error"]).exits(1);
    assert!(orch.exists("workspace/code.json"), "the earlier file is left alone");
    assert!(!broken.requests().last().unwrap().last().contains("# code"), "and not read");
}

#[test]
fn an_invalid_reply_is_sent_back_with_its_errors() {
    let server = Server::start(|request| {
        if step_of(request) == "review" && request.messages().len() == 1 {
            return Reply::openai_text(
                r#"{"approved": "yes", "score": 11, "summary": "It is fine as it is, really.", "issues": []}"#,
            );
        }
        good_reply(request)
    });
    let orch = Orch::new().with(&server);
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 0);
    assert_eq!((&report["steps"][3]["calls"], &report["steps"][3]["attempts"]), (&json!(2), &json!(1)));
    let requests = server.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.messages().len(), 3);
    assert!(last.last().contains("/approved: expected boolean, got string (\"yes\")"), "{}", last.last());
    assert!(last.last().contains("/score: expected at most 10, got 11"), "{}", last.last());
}

#[test]
fn a_step_whose_replies_are_all_invalid_fails_with_its_class() {
    let server = Server::start(|request| {
        if step_of(request) == "plan" { Reply::openai_text("I would rather not.") } else { good_reply(request) }
    });
    let orch = Orch::new().with(&server);
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 1);
    assert_eq!(report["steps"][0]["error"]["class"], "no_json");
    assert_eq!(report["steps"][0]["calls"], 3, "one ask and two re-asks");
}

#[test]
fn a_request_is_retried_after_a_rate_limit() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            return Reply::status(429, "{\"error\":{\"message\":\"slow down\"}}").header("retry-after", "1");
        }
        good_reply(request)
    });
    let orch = Orch::new().with(&server);
    let began = std::time::Instant::now();
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 0);
    assert_eq!(report["steps"][0]["attempts"], 2);
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "Retry-After is obeyed");
}

#[test]
fn a_fallback_model_is_used_after_the_retries_of_the_first_one() {
    let server =
        Server::start(
            |request| if request.body["model"] == "test" { Reply::status(400, "{}") } else { good_reply(request) },
        );
    let orch = Orch::new().with(&server);
    orch.edit("pipelines/default.yaml", "    output: plan ", "    fallback: [lab/other]\n    output: plan ");
    orch.edit("pipelines/default.yaml", "coder:    { model: auto,", "coder:    { model: lab/other,");
    orch.edit("pipelines/default.yaml", "reviewer: { model: auto,", "reviewer: { model: lab/other,");
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((&report["steps"][0]["model"], &report["steps"][0]["attempts"]), (&json!("lab/other"), &json!(2)));
}

#[test]
fn the_workspace_is_created_in_the_given_folder() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&["--workspace", "out/deep/here"]).exits(0);
    assert!(orch.exists("out/deep/here/review.json"));
    assert!(!orch.exists("workspace"));
}

#[test]
fn a_file_that_orch_did_not_write_is_never_overwritten() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.write("workspace/plan.json", "mine\n");
    orch.pipeline(&[]).exits(2).says("plan.json` was not written by orch");
    assert_eq!(orch.read("workspace/plan.json"), "mine\n");
    assert_eq!(server.requests().len(), 0, "nothing is asked before");
}

#[test]
fn the_task_comes_from_a_file_or_from_standard_input() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.write("task.md", "Build the thing from the file\n");
    orch.run(&["pipeline", "run", "pipelines/default.yaml", "--task-file", "task.md", "-q"]).exits(0);
    assert!(server.requests()[0].last().contains("Build the thing from the file"));
    let mut command = orch.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "-", "-q"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), "Aufgabe: grüße 👋 <b>".as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(server.requests()[3].last().contains("Aufgabe: grüße 👋 <b>"));
}

#[test]
fn every_run_reads_the_prompts_again() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.edit("prompts/planner.md", "You are a senior", "You are a very senior");
    orch.pipeline(&[]).exits(0);
    assert!(server.requests()[0].system().starts_with("You are a very senior"));
}

#[test]
fn quiet_prints_nothing_and_json_is_the_only_standard_output() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    let ran = orch.pipeline(&["--quiet"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let ran = orch.pipeline(&[]).exits(0);
    assert_eq!(ran.stdout, "");
    assert!(!ran.stderr.contains('\u{1b}'), "no escape codes in a pipe");
}

#[test]
fn a_false_success_expression_fails_the_run() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.edit("pipelines/default.yaml", "steps:  ", "success: review.approved\nsteps:  ");
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 1);
    assert_eq!(report["error"]["message"], "`success: review.approved` is false");
}

#[test]
fn a_step_whose_condition_is_false_is_skipped() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.edit(
        "pipelines/default.yaml",
        "    inputs: [plan, \"code?\"]",
        "    when: code is defined and plan.risks | length > 0\n    inputs: [plan, \"code?\"]",
    );
    let (code, report) = orch.report(&[]);
    assert_eq!(code, 0);
    assert_eq!(report["steps"][3]["reason"]["message"], "when: code is defined and plan.risks | length > 0 is false");
}
