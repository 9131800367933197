//! A run in progress hears other processes while eight branches work.
//!
//! The branches end only after the test opens a gate, which it does after the run has recorded the message and acted on
//! it. So a run that does not hear the message makes the test wait in vain.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::step_kinds::{AGENT, project};
use crate::support::{Orch, Reply, RunOutput, Server, wait};
use crate::tool_loop::wait_until;

/// Waits for the file `gate` beside the workspace, for two minutes at most.
const WAITING_SCRIPT: &str = "n=0\nwhile [ ! -e ../gate ]; do n=$((n+1)); [ $n -lt 1200 ] || exit 1; sleep 0.1; done\n";

/// A parallel group of a step, four commands and four requests that wait for the gate.
fn beside_eight_branches(step: &str) -> String {
    let commands = (1..=4).map(|n| format!("      - {{ id: c{n}, run: [sh, ../wait.sh], access: none }}\n"));
    let requests = (1..=4).map(|n| format!("      - {{ id: r{n}, {AGENT}, prompt: one.md, output: r{n} }}\n"));
    format!("  - id: all\n    parallel:\n{step}{}", commands.chain(requests).collect::<String>())
}

/// A branch that asks, and then runs a command.
const ASKING_BRANCH: &str = "      - id: branch
        steps:
          - { id: ask, approve: Go on?, on_reject: continue, output: signed }
          - { id: then, run: 'true', access: none }
";

/// A run whose branches wait for a gate.
struct BusyRun {
    _server: Server,
    orch: Orch,
    child: Option<Child>,
    is_open: Arc<AtomicBool>,
}

impl BusyRun {
    /// Starts a run with these steps, and `more` at the end of the pipeline file.
    fn start(steps: &str, more: &str) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let gate = is_open.clone();
        let server = Server::start(move |_| {
            for _ in 0..12_000 {
                if gate.load(Ordering::SeqCst) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Reply::openai_text("1")
        });
        let orch = project(&server, steps);
        limit_replies(&orch, more);
        orch.write("wait.sh", WAITING_SCRIPT);
        let child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]);
        Self { _server: server, orch, child: Some(child), is_open }
    }

    fn facts(&self) -> Vec<Value> {
        let ran = self.orch.run(&["runs", "events", "--output", "json"]);
        let fact = |line: &str| serde_json::from_str::<Value>(line).unwrap()["fact"].clone();
        ran.stdout.lines().map(fact).collect()
    }

    fn count(&self, kind: &str) -> usize {
        self.facts().iter().filter(|fact| fact.get(kind).is_some()).count()
    }

    /// Waits until this many calls are in flight, and the step `branch/ask` waits if there is one.
    fn wait_until_busy(&self, calls: usize, questions: usize) {
        wait_until("the branches work", || {
            self.count("call_started") == calls && self.count("approval_asked") == questions
        });
    }

    fn wait_until_completed(&self, step: &str) {
        wait_until(step, || self.facts().iter().any(|fact| fact["step_completed"]["step"] == step));
    }

    /// Opens the gate, and waits until the run ends. Returns its exit code and output.
    fn finish(&mut self) -> RunOutput {
        self.is_open.store(true, Ordering::SeqCst);
        self.orch.write("gate", "");
        RunOutput::of(&wait::output_of(self.child.take().unwrap()))
    }

    /// Asserts that the run recorded a fact of this kind once, before a call of a gated branch ended, and that it
    /// neither ended its process nor interpreted the plan again.
    #[track_caller]
    fn assert_heard_once(&self, kind: &str) {
        let facts = self.facts();
        let is_gated_end = |fact: &Value| {
            let step = fact["call_ended"]["call"]["step"].as_str();
            step.is_some_and(|step| step.starts_with("all/c") || step.starts_with("all/r"))
        };
        let positions: Vec<usize> =
            facts.iter().enumerate().filter(|(_, fact)| fact.get(kind).is_some()).map(|(at, _)| at).collect();
        let first_end = facts.iter().position(is_gated_end).expect("a gated branch ended");
        assert!(positions.len() == 1 && positions[0] < first_end, "{kind} at {positions:?}, {first_end}: {facts:#?}");
        let starts = facts.iter().filter(|fact| fact["step_started"]["step"] == "all/c1").count();
        assert_eq!((starts, self.count("run_resumed"), self.count("run_ended")), (1, 0, 1), "{facts:#?}");
        assert_eq!(self.count("step_reused"), 0);
    }
}

/// Limits the replies of the agent, and appends `more` to the pipeline file.
fn limit_replies(orch: &Orch, more: &str) {
    orch.edit("pipelines/main.yaml", "model: auto", "model: auto, max_output_tokens: 100");
    let text = orch.read("pipelines/main.yaml");
    orch.write("pipelines/main.yaml", &format!("{text}{more}"));
}

impl Drop for BusyRun {
    fn drop(&mut self) {
        self.is_open.store(true, Ordering::SeqCst);
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[test]
fn an_answer_continues_its_branch_while_eight_others_work() {
    for (command, approved) in [("approve", true), ("reject", false)] {
        let mut busy = BusyRun::start(&beside_eight_branches(ASKING_BRANCH), "");
        busy.wait_until_busy(8, 1);
        busy.orch.run(&["runs", command, "--note", "fine", "--by", "ana"]).exits(0);
        assert_eq!(busy.count("approval_answered"), 1, "the command ends when the answer is recorded");
        busy.wait_until_completed("all/branch/then");
        busy.finish().exits(0);
        busy.assert_heard_once("approval_answered");
        let signed = busy.orch.json("workspace/signed.json");
        assert_eq!(signed, json!({ "approved": approved, "note": "fine", "by": "ana" }));
    }
}

#[test]
fn an_answer_counts_if_it_was_given_in_time_and_is_refused_otherwise() {
    let step = "      - { id: ask, approve: Go on?, timeout: 2s, on_error: continue }\n";
    let mut busy = BusyRun::start(&beside_eight_branches(step), "");
    busy.wait_until_busy(8, 1);
    let owner = busy.child.as_ref().unwrap().id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &owner]).status().unwrap().success());
    signal("-STOP");
    let answer = busy.orch.start(&["runs", "approve", "--by", "ana"]);
    // The deadline passes while the owner is stopped.
    std::thread::sleep(Duration::from_secs(3));
    signal("-CONT");
    let ran = RunOutput::of(&wait::output_of(answer));
    busy.finish();
    let facts = busy.facts();
    let time_of = |kind: &str, pointer: &str| {
        let text = facts.iter().find_map(|fact| fact[kind].pointer(pointer)?.as_str())?;
        Some(text.parse::<jiff::Timestamp>().unwrap())
    };
    let expires_at = time_of("approval_asked", "/expires_at").unwrap();
    let is_in_time = time_of("approval_answered", "/answer/at").is_some_and(|at| at <= expires_at);
    let is_failed = facts.iter().any(|fact| fact["step_failed"]["failure"]["class"] == "approval_timeout");
    // A busy machine may start the command too late. An answer in time counts, although the owner hears it later.
    assert_eq!((is_failed, ran.code), (!is_in_time, if is_in_time { 0 } else { 2 }), "{ran:?}");
    assert!(!is_failed || ran.stderr.contains("too late") || ran.stderr.contains("no run waits"), "{ran:?}");
}

#[test]
fn a_rejection_fails_its_step_while_eight_others_work() {
    let step = "      - { id: ask, approve: Go on?, on_error: continue }\n";
    let mut busy = BusyRun::start(&beside_eight_branches(step), "");
    busy.wait_until_busy(8, 1);
    busy.orch.run(&["runs", "reject", "--by", "ana"]).exits(0);
    wait_until("the step fails", || {
        busy.facts().iter().any(|fact| fact["step_failed"]["failure"]["class"] == "rejected")
    });
    busy.finish();
    busy.assert_heard_once("approval_answered");
}

#[test]
fn of_several_answers_at_the_same_time_one_counts() {
    let mut busy = BusyRun::start(&beside_eight_branches(ASKING_BRANCH), "");
    busy.wait_until_busy(8, 1);
    let answers: Vec<Child> = (0..4)
        .map(|number| {
            let command = if number % 2 == 0 { "approve" } else { "reject" };
            busy.orch.start(&["runs", command, "--by", &format!("user {number}")])
        })
        .collect();
    let outputs: Vec<RunOutput> = answers.into_iter().map(|child| RunOutput::of(&wait::output_of(child))).collect();
    let accepted: Vec<usize> = (0..4).filter(|number| outputs[*number].code == 0).collect();
    assert_eq!(accepted.len(), 1, "{outputs:?}");
    // This also holds for a process that begins after the answer and finds no pending approval.
    let verdict = if accepted[0].is_multiple_of(2) { "approved" } else { "rejected" };
    let winner = format!("was answered by user {} before ({verdict})", accepted[0]);
    let is_told = |output: &&RunOutput| output.code == 2 && output.stderr.contains(&winner);
    assert_eq!(outputs.iter().filter(is_told).count(), 3, "{outputs:?}");
    busy.wait_until_completed("all/branch/then");
    busy.finish().exits(0);
    busy.assert_heard_once("approval_answered");
    let signed = busy.orch.json("workspace/signed.json");
    assert_eq!(signed["by"], format!("user {}", accepted[0]));
}

#[test]
fn a_question_that_waits_gives_its_place_to_the_next_branch() {
    let steps = "  - id: all
    for_each: \"[1, 2, 3]\"
    max_parallel: 2
    steps:
      - { id: ask, when: item == 1, approve: Go on? }
      - { id: c1, run: [sh, ../wait.sh], access: none }
";
    let mut busy = BusyRun::start(steps, "");
    // The third item has the place of the first one, which asks.
    busy.wait_until_busy(2, 1);
    busy.orch.run(&["runs", "approve"]).exits(0);
    busy.wait_until_busy(3, 1);
    busy.finish().exits(0);
    assert_eq!((busy.count("approval_answered"), busy.count("run_ended")), (1, 1));
}

#[test]
fn a_run_whose_branches_all_wait_parks() {
    let steps = "  - id: all
    parallel:
      - { id: one, approve: One?, output: a }
      - { id: two, steps: [{ id: c1, run: [sh, ../wait.sh], access: none }, { id: ask, approve: Two?, output: b }] }
";
    let mut busy = BusyRun::start(steps, "");
    busy.wait_until_busy(1, 1);
    busy.finish().exits(3);
    assert_eq!((busy.count("approval_asked"), busy.count("run_ended")), (2, 1));
    let run = crate::kill::latest_run(&busy.orch).unwrap().0;
    busy.orch.run(&["runs", "approve", &run, "all/one"]).exits(0);
    busy.orch.run(&["runs", "approve", &run, "all/two/ask", "--resume"]).exits(0);
}

#[test]
fn another_process_cancels_a_run_while_eight_branches_work() {
    let mut busy = BusyRun::start(&beside_eight_branches(ASKING_BRANCH), "");
    busy.wait_until_busy(8, 1);
    busy.orch.run(&["runs", "cancel", "--by", "ana"]).exits(0);
    assert_eq!(busy.count("cancel_requested"), 1, "the command ends when the request is recorded");
    // orch ends the commands at once, and waits for the replies.
    wait_until("the commands end", || busy.count("call_ended") >= 4);
    assert!(!busy.orch.exists("gate"));
    busy.finish().exits(130);
    busy.assert_heard_once("cancel_requested");
    let (run, status) = crate::kill::latest_run(&busy.orch).unwrap();
    assert_eq!(status, "cancelled");
    busy.orch.run(&["runs", "cancel", &run]).exits(2).says("is not in progress");
    busy.orch.run(&["runs", "cancel"]).exits(2).says("no run is in progress");
    // The request was for that session.
    busy.orch.run(&["pipeline", "resume", &run]).exits(3);
    busy.orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
}

/// The budget of two requests of about 110 tokens each: while one is in flight, the other must wait.
const SMALL_BUDGET: &str = "budget: { tokens: 120 }\n";

#[test]
fn a_raised_budget_lets_a_waiting_request_start_while_the_others_work() {
    let mut busy = BusyRun::start(&beside_eight_branches(""), SMALL_BUDGET);
    // Four commands and one request.
    busy.wait_until_busy(5, 0);
    let raised = busy.orch.run(&["runs", "budget", "--tokens", "100000", "--usd", "1", "--by", "ana"]).exits(0);
    raised.says("the budget of the run is now 100000 tokens, raised by ana");
    busy.wait_until_busy(8, 0);
    let lower = busy.orch.run(&["runs", "budget", "--tokens", "5"]).exits(0);
    lower.says("is now 100000 tokens").says("not raised: the limit of tokens was higher already");
    busy.orch.run(&["runs", "budget"]).exits(2).says("no limit is given");
    busy.finish().exits(0).says(": waiting for budget that other calls reserve");
    let facts = busy.facts();
    let position = |kind: &str| facts.iter().position(|fact| fact.get(kind).is_some()).unwrap();
    assert!(position("budget_raised") < position("call_ended"), "{facts:#?}");
    let run = crate::kill::latest_run(&busy.orch).unwrap().0;
    busy.orch.run(&["runs", "budget", &run, "--tokens", "5"]).exits(2).says("has ended: it is completed");
}

#[test]
fn a_waiting_run_has_the_raised_budget_when_it_continues() {
    let server = Server::saying("1");
    let step = |name: &str| format!("  - {{ id: {name}, {AGENT}, prompt: {name}.md, output: {name} }}\n");
    let orch = project(&server, &format!("  - {{ id: ask, approve: Go on? }}\n{}{}", step("one"), step("two")));
    limit_replies(&orch, SMALL_BUDGET);
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(3);
    let run = crate::kill::latest_run(&orch).unwrap().0;
    orch.run(&["runs", "budget", &run, "--tokens", "100000"]).exits(0).says("the next resume");
    orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
    assert_eq!(server.requests().len(), 2);
    let facts = crate::tool_loop::facts_of(&orch, "budget_raised");
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0]["budget"], json!({ "tokens": 100_000 }));
}

#[test]
fn a_run_without_the_limit_refuses_to_raise_it() {
    let mut busy = BusyRun::start(&beside_eight_branches(""), "");
    busy.wait_until_busy(8, 0);
    busy.orch
        .run(&["runs", "budget", "--tokens", "5", "--usd", "1"])
        .exits(2)
        .says("has no limit of dollars or tokens");
    busy.finish().exits(0);
    let server = Server::saying("1");
    for (more, code) in [("", 2), ("budget: { usd: 1, unpriced: allow }\n", 2), ("budget: { tokens: 5 }\n", 0)] {
        let orch = project(&server, "  - { id: ask, approve: Go on? }\n  - { id: stop, run: exit 1 }\n");
        limit_replies(&orch, more);
        orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(3);
        let run = crate::kill::latest_run(&orch).unwrap().0;
        let raised = orch.run(&["runs", "budget", &run, "--tokens", "50"]).exits(code);
        if code == 2 {
            raised.says("has no limit of tokens").says(&format!("orch pipeline resume {run} --budget tokens=50"));
        }
        orch.run(&["runs", "approve", &run, "--resume"]).exits(1);
        let facts = crate::tool_loop::facts_of(&orch, "budget_raised");
        assert_eq!(facts.len(), usize::from(code == 0), "{facts:?}");
    }
    // The user set the limit for the run, and the file has none.
    let orch = project(&server, "  - { id: ask, approve: Go on? }\n");
    let start = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--budget", "seconds=600"];
    orch.run(&start).exits(3);
    let run = crate::kill::latest_run(&orch).unwrap().0;
    orch.run(&["runs", "budget", &run, "--tokens", "5"]).exits(2);
    let both = orch.run(&["runs", "budget", &run, "--tokens", "5", "--seconds", "900"]).exits(0);
    both.says("the next resume").says("not raised: the run has no limit of tokens");
}

#[test]
fn of_two_answers_to_a_waiting_run_one_counts() {
    let server = Server::saying("1");
    let orch = project(&server, "  - { id: ask, approve: Go on? }\n");
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(3);
    let run = crate::kill::latest_run(&orch).unwrap().0;
    let answers: Vec<Child> = (0..4)
        .map(|number| orch.start(&["runs", "approve", &run, "--by", &format!("user {number}"), "--note", "fine"]))
        .collect();
    let outputs: Vec<RunOutput> = answers.into_iter().map(|child| RunOutput::of(&wait::output_of(child))).collect();
    let accepted: Vec<usize> = (0..4).filter(|number| outputs[*number].code == 0).collect();
    assert_eq!(accepted.len(), 1, "{outputs:?}");
    let winner = format!(
        "the question of step `ask` of run {run} was answered by user {} before (approved: fine); your answer does not \
         count",
        accepted[0]
    );
    let is_told = |output: &&RunOutput| output.code == 2 && output.stderr.contains(&winner);
    assert_eq!(outputs.iter().filter(is_told).count(), 3, "{outputs:?}");
    orch.run(&["runs", "reject", "--by", "late"])
        .exits(2)
        .says(&format!("was answered by user {} before", accepted[0]));
    orch.run(&["pipeline", "resume", &run]).exits(0);
    assert_eq!(crate::tool_loop::facts_of(&orch, "approval_answered").len(), 1);
    // Whoever comes after the end of the run learns of the answer too.
    for args in [&["runs", "reject"][..], &["runs", "reject", &run], &["runs", "reject", &run, "ask"]] {
        orch.run(args).exits(2).says(&format!("was answered by user {} before (approved: fine)", accepted[0]));
    }
}

#[test]
fn an_answer_with_resume_to_a_run_in_progress_lets_its_process_continue() {
    let mut busy = BusyRun::start(&beside_eight_branches(ASKING_BRANCH), "");
    busy.wait_until_busy(8, 1);
    busy.orch.run(&["runs", "approve", "--resume"]).exits(0).says("the process that executes the run continues it");
    busy.wait_until_completed("all/branch/then");
    busy.finish().exits(0);
    busy.assert_heard_once("approval_answered");
}
