//! Runs that are followed from outside: by a Convex deployment and by a receiver of events.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::convex::{Convex, KEY, Mode};
use crate::support::{Orch, Ran, Reply, Server};
use crate::workflow::{good, step};

const TRACKER: &str =
    "tracker: { convex: { url: { env: CONVEX_URL }, auth: { env: CONVEX_DEPLOY_KEY } }, flush: 1500ms }\n";

/// A project whose runs a deployment follows, and a model server that takes so long for each step.
struct Followed {
    orch: Orch,
    convex: Convex,
    server: Server,
}

impl Followed {
    fn new(pause: u64) -> Option<Self> {
        let convex = Convex::start()?;
        let server = Server::start(move |request| good(request).delay(Duration::from_millis(pause)));
        let orch = Orch::new().with(&server);
        let settings = orch.read("orch.yaml") + TRACKER;
        orch.write("orch.yaml", &settings).trust();
        Some(Self { orch, convex, server })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.orch.command(args);
        command.env("CONVEX_URL", self.convex.url()).env("CONVEX_DEPLOY_KEY", KEY);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().unwrap())
    }

    /// Starts a run and leaves it running.
    fn start(&self) -> Child {
        let mut command = self.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "t"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn pipeline(&self, more: &[&str]) -> Ran {
        self.run(&[&["pipeline", "run", "pipelines/default.yaml", "--task", "Create a User model"], more].concat())
    }

    /// The latest run's whole id.
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

    /// The deployment has the run of the default pipeline from its start to its end.
    #[track_caller]
    fn assert_complete(&self) {
        let workflow = self.workflow();
        assert_eq!(workflow["status"], "completed", "{workflow}");
        assert!(workflow["endedAt"].as_f64() >= workflow["startedAt"].as_f64(), "{workflow}");
        let ends = ["plan completed", "code completed", "files completed", "review completed"];
        assert_eq!(statuses(&self.steps()), ends);
    }

    /// What the deployment took came in the order of the events.
    #[track_caller]
    fn assert_in_order(&self) {
        let seqs: Vec<u64> =
            self.convex.passed().iter().map(|call| call["args"]["seq"].as_u64().unwrap_or_default()).collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
    }
}

fn statuses(steps: &Value) -> Vec<String> {
    let words = |step: &Value| format!("{} {}", step["key"].as_str().unwrap(), step["status"].as_str().unwrap());
    steps.as_array().unwrap().iter().map(words).collect()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn a_deployment_sees_each_step_pending_then_in_progress_then_completed() {
    let Some(followed) = Followed::new(600) else { return };
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
fn a_tracker_that_does_not_work_leaves_the_run_alone_and_gets_everything_later() {
    let Some(mut followed) = Followed::new(0) else { return };
    let usual = timed(|| drop(followed.pipeline(&[]).exits(0)));
    let modes = [
        (None, "can't be reached"),
        (Some(Mode::Slow(Duration::from_secs(3))), "did not finish within"),
        (Some(Mode::Status(500, "{\"message\":\"oops\"}")), "replied with status 500"),
        (Some(Mode::Status(401, "{\"code\":\"BadDeployKey\"}")), "replied with status 401"),
        (Some(Mode::Status(200, "<html>")), "its reply is not in the format of Convex"),
    ];
    for (mode, words) in modes {
        match &mode {
            None => followed.convex.down(),
            Some(mode) => followed.convex.set(mode.clone()),
        }
        let time = timed(|| drop(followed.pipeline(&[]).exits(0).says(words).says("orch runs track")));
        // The end of a run waits for 1.5 s; there is more to a test on a busy machine.
        assert!(time < usual + Duration::from_secs(5), "{mode:?}: {time:?} instead of {usual:?}");
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
fn a_tracker_that_goes_away_in_the_middle_of_a_run_ends_up_complete_and_in_order() {
    let Some(mut followed) = Followed::new(500) else { return };
    let child = followed.start();
    wait(|| {
        followed.convex.passed().iter().any(|call| call["args"]["key"] == "plan" && call["args"]["output"].is_object())
    });
    followed.convex.down();
    Ran::of(&child.wait_with_output().unwrap()).exits(0).says("can't be reached");
    assert_eq!(followed.workflow()["status"], "running", "the end was not heard of");
    followed.convex.up();
    followed.run(&["runs", "track"]).exits(0);
    followed.assert_complete();
    followed.assert_in_order();
}

#[test]
fn a_tracker_that_comes_back_during_the_run_catches_up_by_itself() {
    let Some(mut followed) = Followed::new(700) else { return };
    followed.convex.down();
    let child = followed.start();
    wait(|| !followed.server.requests().is_empty());
    followed.convex.up();
    let ran = Ran::of(&child.wait_with_output().unwrap()).exits(0);
    assert!(!ran.stderr.contains("note:"), "{ran:?}");
    followed.assert_complete();
    followed.assert_in_order();
}

#[test]
fn what_a_validator_refuses_is_told_and_holds_nothing_up() {
    let Some(followed) = Followed::new(0) else { return };
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
    let Some(followed) = Followed::new(600) else { return };
    let mut child = followed.start();
    wait(|| followed.server.requests().iter().any(|request| step(request) == "code"));
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
fn an_older_event_that_comes_late_changes_nothing() {
    let Some(followed) = Followed::new(0) else { return };
    followed.pipeline(&[]).exits(0);
    let (workflow, steps) = (followed.workflow(), followed.steps());
    for call in followed.convex.passed() {
        assert_eq!(followed.convex.mutate(&call)["status"], "success", "{call}");
    }
    assert_eq!((followed.workflow(), followed.steps()), (workflow, steps));
    // To a deployment that has lost everything it is all new.
    followed.run(&["runs", "track", "--again"]).exits(0);
    followed.assert_complete();
}

#[test]
fn a_failed_run_is_followed_with_its_error() {
    let Some(mut followed) = Followed::new(0) else { return };
    followed.server = Server::start(|_| Reply::status(400, "{\"error\":{\"message\":\"no such thing\"}}"));
    followed.orch = followed.orch.with(&followed.server);
    followed.orch.write("orch.yaml", &(followed.orch.read("orch.yaml") + TRACKER));
    followed.pipeline(&[]).exits(1);
    assert_eq!(followed.workflow()["status"], "failed");
    let plan = followed.steps()[0].clone();
    assert_eq!((&plan["status"], &plan["error"]["class"]), (&json!("failed"), &json!("bad_request")), "{plan}");
}

#[test]
fn a_run_belongs_to_the_workflow_that_it_is_given() {
    let Some(followed) = Followed::new(0) else { return };
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
    let Some(followed) = Followed::new(0) else { return };
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
fn the_document_on_tracking_shows_what_happens() {
    let Some(mut followed) = Followed::new(0) else { return };
    let text = std::fs::read_to_string("docs/tracking.md").unwrap();
    let shown = text.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    followed.convex.down();
    for part in shown.split("$ orch ").skip(1) {
        let (command, words) = part.split_once('\n').unwrap();
        let args = command.replace("\"Create a User model\"", "Create_a_User_model");
        let ran = followed.run(&args.split(' ').collect::<Vec<_>>()).exits(0);
        assert_eq!(plain(&(ran.stdout + &ran.stderr)), plain(words), "{command}");
        if command.starts_with("pipeline") {
            followed.convex.up();
        }
    }
    let settings = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    followed.orch.edit("orch.yaml", TRACKER, settings);
    followed.run(&["pipeline", "validate"]).exits(0);
}

/// The text without what differs between runs: ids, and the numbers of errors of systems.
fn plain(text: &str) -> String {
    let is_id = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let plain = |word: &str| {
        let id = word.trim_matches('`');
        if is_id(id) { word.replace(id, "RUN") } else { word.to_owned() }
    };
    let text: Vec<String> =
        text.split(' ').map(|word| word.split('\n').map(plain).collect::<Vec<_>>().join("\n")).collect();
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
