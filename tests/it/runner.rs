//! Runs that a Rust program starts, without the command line.

use std::path::Path;
use std::sync::{Arc, Mutex};

use orch::diagnostic::Diagnostic;
use orch::model::event::Fact;
use orch::model::{RunId, RunStatus};
use orch::runner::{
    AnswerRequest, CancelHandle, Environment, PredictedActionKind, Reporter, ResumeRequest, RunRequest, Runner,
    StateFolder,
};
use serde_json::{Map, Value, json};

use crate::support::Orch;

/// A reporter that records its messages, and cancels the run if `cancels` is set.
#[derive(Default)]
struct RecordingReporter {
    lines: Mutex<Vec<String>>,
    cancels: bool,
}

impl Reporter for RecordingReporter {
    fn note(&self, text: &str) {
        self.lines.lock().unwrap().push(text.to_owned());
    }

    fn run_started(&self, run: RunId, cancel: &CancelHandle) {
        self.lines.lock().unwrap().push(format!("started {run}"));
        if self.cancels {
            assert!(cancel.cancel());
        }
    }
}

/// A project of commands and an approval, and the environment to run it in.
fn project(steps: &str) -> (Orch, Environment) {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", &format!("name: main\ninputs: {{ who: {{ type: string }} }}\nsteps:\n{steps}"));
    let environment = Environment::from_process().unwrap().with_current_dir(orch.path());
    // All tests of this process share one folder, because the process keeps the key of journals as long as it lives.
    let configuration = Path::new(env!("CARGO_TARGET_TMPDIR")).join("session-configuration");
    (orch, environment.with_config_dir(configuration).with_supervisor(env!("CARGO_BIN_EXE_orch")))
}

fn request(who: Value) -> RunRequest {
    RunRequest::new("pipelines/main.yaml", Map::from_iter([("who".to_owned(), who)]))
}

const WAITING_STEPS: &str = "  - { id: greet, run: \"echo {{ who }}\", output: greeting }\n  - { id: sure, approve: \"Go on?\" }\n  - { id: last, run: [touch, done] }\n";

#[tokio::test]
async fn a_program_starts_answers_resumes_and_follows_a_run() {
    let (orch, environment) = project(WAITING_STEPS);
    let kept = Arc::new(RecordingReporter::default());
    let runner = Runner::new(environment).with_reporter(kept.clone());
    let result = runner.start(&request(json!("Ada"))).await.unwrap();
    assert_eq!(result.state.status, RunStatus::Waiting);
    assert_eq!(orch.json("workspace/greeting.json")["stdout"], "Ada\n");
    assert_eq!(kept.lines.lock().unwrap().first(), Some(&format!("started {}", result.state.run)));

    let dry_run = runner.dry_run(&ResumeRequest::default()).await.unwrap();
    let actions: Vec<(&str, PredictedActionKind)> =
        dry_run.steps.iter().map(|step| (step.step.as_str(), step.action)).collect();
    assert_eq!(actions.first(), Some(&("greet", PredictedActionKind::Reuse)), "{actions:?}");
    assert!(!orch.exists("workspace/done"));

    let answered = runner.answer(&AnswerRequest { approved: true, user: "Ada".to_owned(), ..AnswerRequest::default() });
    assert_eq!(answered.unwrap().answer.step.as_str(), "sure");
    let result = runner.resume(&ResumeRequest::default()).await.unwrap();
    assert_eq!(result.state.status, RunStatus::Completed);
    assert!(orch.exists("workspace/done") && !runner.cancel(result.state.run), "nothing runs any more");

    let mut events = runner.follow(&StateFolder::default(), None).unwrap();
    let (mut count, mut last) = (0, None);
    while let Some(event) = events.next().await.unwrap() {
        count += 1;
        assert_eq!(event.seq, count, "in order, without gaps");
        last = Some(event.fact);
    }
    assert!(matches!(last, Some(Fact::RunEnded(ended)) if ended.status == RunStatus::Completed));
}

#[tokio::test]
async fn a_program_cancels_a_run() {
    let (_orch, environment) = project("  - { id: long, run: [sleep, \"600\"] }\n");
    let reporter = Arc::new(RecordingReporter { cancels: true, ..RecordingReporter::default() });
    let result = Runner::new(environment).with_reporter(reporter).start(&request(json!("Ada"))).await.unwrap();
    assert_eq!(result.state.status, RunStatus::Cancelled);
}

#[tokio::test]
async fn errors_say_what_the_user_can_do() {
    let (orch, environment) = project(WAITING_STEPS);
    let runner = Runner::new(environment);
    let error = runner.start(&request(json!(7))).await.unwrap_err();
    assert!(error.to_string().contains("the input `who` does not fit"), "{error}");
    let error = runner.resume(&ResumeRequest::default()).await.unwrap_err();
    assert!(error.to_string().contains("there are no runs") && !error.hints().is_empty(), "{error}");
    orch.edit("pipelines/main.yaml", "approve:", "aprove:");
    let error = runner.start(&request(json!("Ada"))).await.unwrap_err();
    assert!(error.findings().iter().any(Diagnostic::is_error) && error.to_string().contains("ORCH0201"));
}
