//! Trackers: a Convex deployment follows runs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::default_pipeline::{good_reply, step_of};
use crate::support::convex::{Convex, KEY, Mode};
use crate::support::{Orch, Reply, RunOutput, Server};

/// A busy machine may take long to deliver the events at the end of a run.
const TRACKER: &str =
    "tracker: { convex: { url: { env: CONVEX_URL }, auth: { env: CONVEX_DEPLOY_KEY } }, flush: 60s }\n";

/// A tracker that can't receive the events makes the end of a run wait for this time.
const BRIEF_TRACKER: &str =
    "tracker: { convex: { url: { env: CONVEX_URL }, auth: { env: CONVEX_DEPLOY_KEY } }, flush: 1500ms }\n";

/// A project whose runs a deployment tracks, and a model server that delays each reply.
struct TrackedProject {
    orch: Orch,
    convex: Convex,
    server: Server,
}

impl TrackedProject {
    fn new(pause: u64) -> Option<Self> {
        let convex = Convex::start()?;
        let server = Server::start(move |request| good_reply(request).delay(Duration::from_millis(pause)));
        let orch = Orch::new().with(&server);
        let settings = orch.read("orch.yaml") + TRACKER;
        orch.write("orch.yaml", &settings).trust();
        Some(Self { orch, convex, server })
    }

    /// Makes the end of a run wait only briefly for the tracker.
    fn shorten_flush(self) -> Self {
        self.orch.edit("orch.yaml", TRACKER, BRIEF_TRACKER);
        self.orch.trust();
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.orch.command(args);
        command.env("CONVEX_URL", self.convex.url()).env("CONVEX_DEPLOY_KEY", KEY);
        command
    }

    fn run(&self, args: &[&str]) -> RunOutput {
        RunOutput::of(&self.command(args).output().unwrap())
    }

    /// Starts a run, and does not wait for it.
    fn start(&self) -> Child {
        let mut command = self.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "t"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn pipeline(&self, more: &[&str]) -> RunOutput {
        self.run(&[&["pipeline", "run", "pipelines/default.yaml", "--task", "Create a User model"], more].concat())
    }

    /// The full id of the latest run.
    fn id(&self) -> String {
        let ran = self.run(&["runs", "list", "--output", "json"]).exits(0);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()[0]["id"].as_str().unwrap().to_owned()
    }

    fn workflow(&self) -> Value {
        self.convex.query("getWorkflow", json!({ "runId": self.id() }))
    }

    fn steps(&self) -> Value {
        self.convex.query("listSteps", json!({ "runId": self.id() }))
    }

    /// Asserts that the deployment has the run of the default pipeline from its start to its end.
    #[track_caller]
    fn assert_complete(&self) {
        let workflow = self.workflow();
        assert_eq!(workflow["status"], "completed", "{workflow}");
        assert!(workflow["endedAt"].as_f64() >= workflow["startedAt"].as_f64(), "{workflow}");
        let ends = ["plan completed", "code completed", "files completed", "review completed"];
        assert_eq!(statuses(&self.steps()), ends);
    }

    /// Asserts that the deployment received the events in order.
    #[track_caller]
    fn assert_in_order(&self) {
        let seqs: Vec<u64> =
            self.convex.accepted_calls().iter().map(|call| call["args"]["seq"].as_u64().unwrap_or_default()).collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
    }
}

fn statuses(steps: &Value) -> Vec<String> {
    let words = |step: &Value| format!("{} {}", step["key"].as_str().unwrap(), step["status"].as_str().unwrap());
    steps.as_array().unwrap().iter().map(words).collect()
}

fn duration_of(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn a_deployment_receives_each_step_as_pending_in_progress_and_completed() {
    let Some(followed) = TrackedProject::new(600) else { return };
    let mut child = followed.start();
    let mut seen: Vec<Vec<String>> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let workflows = followed.convex.query("listWorkflows", json!({}));
        if let Some(run) = workflows[0]["runId"].as_str() {
            let now = statuses(&followed.convex.query("listSteps", json!({ "runId": run })));
            if now.len() == 4 && seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    assert!(child.wait().unwrap().success());
    for moment in [
        ["plan in_progress", "code pending", "files pending", "review pending"],
        ["plan completed", "code in_progress", "files pending", "review pending"],
        ["plan completed", "code completed", "files completed", "review in_progress"],
    ] {
        assert!(seen.iter().any(|now| now[..] == moment), "{moment:?} not in {seen:?}");
    }
    followed.assert_complete();
    followed.assert_in_order();
    let (workflow, steps) = (followed.workflow(), followed.steps());
    assert_eq!((&workflow["task"], &workflow["pipeline"]), (&json!("t"), &json!("default")));
    let tokens: f64 = steps.as_array().unwrap().iter().map(|s| s["usage"]["outputTokens"].as_f64().unwrap()).sum();
    assert!(tokens > 0.0 && workflow["totals"]["outputTokens"].as_f64() == Some(tokens), "{workflow}");
    assert_eq!(workflow["sessions"][0]["status"], "completed");
    let plan = blake3::hash(followed.orch.read("workspace/plan.json").as_bytes()).to_hex().to_string();
    assert_eq!(steps[0]["output"], json!({ "name": "plan", "digest": plan }));
    assert_eq!((&steps[0]["agent"], &steps[0]["model"]), (&json!("planner"), &json!("lab/test")));
}

#[test]
fn a_failing_tracker_does_not_affect_the_run_and_receives_everything_later() {
    let Some(mut followed) = TrackedProject::new(0).map(TrackedProject::shorten_flush) else { return };
    let usual = duration_of(|| drop(followed.pipeline(&[]).exits(0)));
    let modes = [
        (None, "can't be reached"),
        (Some(Mode::Slow(Duration::from_mins(10))), "did not finish within"),
        (Some(Mode::Status(500, "{\"message\":\"oops\"}")), "replied with status 500"),
        (Some(Mode::Status(401, "{\"code\":\"BadDeployKey\"}")), "replied with status 401"),
        (Some(Mode::Status(200, "<html>")), "its reply is not in the format of Convex"),
    ];
    for (mode, words) in modes {
        match &mode {
            None => followed.convex.down(),
            Some(mode) => followed.convex.set(mode.clone()),
        }
        let time = duration_of(|| drop(followed.pipeline(&[]).exits(0).says(words).says("orch runs track")));
        // The end of a run waits for 1.5 s, and not for the slow answer; the rest of the test takes longer on a busy
        // machine.
        assert!(time < usual + Duration::from_mins(5), "{mode:?}: {time:?} instead of {usual:?}");
        assert_eq!(followed.workflow(), Value::Null, "{mode:?}");
        if mode.is_none() {
            assert!(followed.run(&["runs", "track"]).exits(1).stdout.contains(words));
            assert!(followed.run(&["runs", "track", "--all", "--again"]).exits(1).stdout.contains("it is unreachable"));
            followed.convex.up();
        }
        followed.convex.set(Mode::Open);
        let ran = followed.run(&["runs", "track"]).exits(0);
        assert!(ran.stdout.contains("events delivered"), "{ran:?}");
        followed.assert_complete();
        followed.run(&["runs", "track", "--all"]).exits(0);
        let ran = followed.run(&["runs", "track", "--all"]).exits(0);
        assert!(ran.stdout.lines().all(|line| line.ends_with("nothing to deliver")), "{ran:?}");
    }
}

#[test]
fn a_tracker_that_fails_during_a_run_receives_all_events_in_order() {
    let Some(mut followed) = TrackedProject::new(500).map(TrackedProject::shorten_flush) else { return };
    let child = followed.start();
    wait(|| {
        followed
            .convex
            .accepted_calls()
            .iter()
            .any(|call| call["args"]["key"] == "plan" && call["args"]["output"].is_object())
    });
    followed.convex.down();
    RunOutput::of(&child.wait_with_output().unwrap()).exits(0).says("can't be reached");
    assert_eq!(followed.workflow()["status"], "running", "the end was not heard of");
    followed.convex.up();
    followed.run(&["runs", "track"]).exits(0);
    followed.assert_complete();
    followed.assert_in_order();
}

#[test]
fn a_tracker_that_recovers_during_the_run_catches_up() {
    let Some(mut followed) = TrackedProject::new(700) else { return };
    followed.convex.down();
    let child = followed.start();
    wait(|| !followed.server.requests().is_empty());
    followed.convex.up();
    let ran = RunOutput::of(&child.wait_with_output().unwrap()).exits(0);
    assert!(!ran.stderr.contains("note:"), "{ran:?}");
    followed.assert_complete();
    followed.assert_in_order();
}

#[test]
fn an_event_that_the_validator_rejects_is_reported_and_delays_nothing() {
    let Some(followed) = TrackedProject::new(0) else { return };
    followed.convex.set(Mode::Spoiled("code"));
    followed.pipeline(&[]).exits(0).says("refused: Validator error").says("orch runs track");
    assert_eq!(followed.workflow()["status"], "completed");
    assert_eq!(statuses(&followed.steps()), ["plan completed", "files completed", "review completed"]);
    followed.run(&["runs", "track"]).exits(1);
    followed.convex.set(Mode::Open);
    followed.run(&["runs", "track"]).exits(0);
    followed.assert_complete();
    assert!(followed.run(&["runs", "track"]).exits(0).stdout.contains("nothing to deliver"));
}

#[cfg(unix)]
#[test]
fn a_killed_run_is_completed_in_the_tracker_by_its_resume() {
    let Some(followed) = TrackedProject::new(600) else { return };
    let mut child = followed.start();
    wait(|| followed.server.requests().iter().any(|request| step_of(request) == "code"));
    child.kill().unwrap();
    child.wait().unwrap();
    followed.run(&["pipeline", "resume"]).exits(0);
    followed.assert_complete();
    followed.assert_in_order();
    let sessions = followed.workflow()["sessions"].clone();
    assert_eq!((&sessions[0]["status"], &sessions[1]["status"]), (&json!("interrupted"), &json!("completed")));
    assert_eq!(sessions[2], Value::Null);
}

#[test]
fn a_late_older_event_changes_nothing() {
    let Some(followed) = TrackedProject::new(0) else { return };
    followed.pipeline(&[]).exits(0);
    let (workflow, steps) = (followed.workflow(), followed.steps());
    for call in followed.convex.accepted_calls() {
        assert_eq!(followed.convex.mutate(&call)["status"], "success", "{call}");
    }
    assert_eq!((followed.workflow(), followed.steps()), (workflow, steps));
    // A deployment that has lost its data accepts all events.
    followed.run(&["runs", "track", "--again"]).exits(0);
    followed.assert_complete();
}

#[test]
fn a_failed_run_is_tracked_with_its_error() {
    let Some(mut followed) = TrackedProject::new(0) else { return };
    followed.server = Server::start(|_| Reply::status(400, "{\"error\":{\"message\":\"no such thing\"}}"));
    followed.orch = followed.orch.with(&followed.server);
    followed.orch.write("orch.yaml", &(followed.orch.read("orch.yaml") + TRACKER));
    followed.pipeline(&[]).exits(1);
    assert_eq!(followed.workflow()["status"], "failed");
    let plan = followed.steps()[0].clone();
    assert_eq!((&plan["status"], &plan["error"]["class"]), (&json!("failed"), &json!("bad_request")), "{plan}");
}

#[test]
fn a_run_belongs_to_the_given_workflow() {
    let Some(followed) = TrackedProject::new(0) else { return };
    let made = json!({ "path": "workflows:createWorkflow", "args": { "task": "from the app" }, "format": "json" });
    let id = followed.convex.mutate(&made)["value"].as_str().unwrap().to_owned();
    followed.pipeline(&["--workflow-id", &id]).exits(0);
    followed.assert_complete();
    assert_eq!(followed.workflow()["_id"], json!(id));
    assert_eq!(followed.convex.query("listWorkflows", json!({})).as_array().unwrap().len(), 1);

    followed.pipeline(&["--workflow-id", "nonsense"]).exits(0).says("there is no workflow nonsense");

    followed.orch.edit("orch.yaml", TRACKER, "");
    followed.pipeline(&["--workflow-id", &id]).exits(2).says("orch.yaml has no `tracker.convex`");
}

#[test]
fn a_deploy_key_is_never_shown() {
    let Some(followed) = TrackedProject::new(0).map(TrackedProject::shorten_flush) else { return };
    followed.convex.set(Mode::Echo);
    let ran = followed.pipeline(&[]).exits(0).says("[secret CONVEX_DEPLOY_KEY]");
    assert!(!ran.stderr.contains(KEY) && !ran.stdout.contains(KEY), "{ran:?}");
    let ran = followed.run(&["runs", "track"]).exits(1);
    assert!(!ran.stderr.contains(KEY) && !ran.stdout.contains(KEY), "{ran:?}");
}

#[test]
fn the_functions_of_convex_pass_the_type_checker() {
    let Some(output) = crate::support::convex::type_check() else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn docs_tracking_shows_the_actual_output() {
    let Some(mut followed) = TrackedProject::new(0).map(TrackedProject::shorten_flush) else { return };
    let text = std::fs::read_to_string("docs/tracking.md").unwrap();
    let shown = text.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    followed.convex.down();
    for part in shown.split("$ orch ").skip(1) {
        let (command, words) = part.split_once('\n').unwrap();
        let args = command.replace("\"Create a User model\"", "Create_a_User_model");
        let ran = followed.run(&args.split(' ').collect::<Vec<_>>()).exits(0);
        assert_eq!(without_ids(&(ran.stdout + &ran.stderr)), without_ids(words), "{command}");
        if command.starts_with("pipeline") {
            followed.convex.up();
        }
    }
    let settings = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    followed.orch.edit("orch.yaml", BRIEF_TRACKER, settings);
    followed.run(&["pipeline", "validate"]).exits(0);
}

/// Replaces what differs between runs in a text: ids, and the numbers of system errors.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let masked = |word: &str| {
        let id = word.trim_matches('`');
        if is_id(id) { word.replace(id, "RUN") } else { word.to_owned() }
    };
    let text: Vec<String> =
        text.split(' ').map(|word| word.split('\n').map(masked).collect::<Vec<_>>().join("\n")).collect();
    let text = text.join(" ");
    let mut parts = text.split("(os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[track_caller]
fn wait(mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_mins(1), "it never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}
