//! A second implementation of `Durable`: a list of events in memory. It takes all its decisions from `orch::history`, and
//! sends everything that crosses the interface as JSON. So the contract needs nothing of the store.

use std::sync::{Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::config::load;
use orch::durable::{
    BeginOutcome, BranchOutcome, Call, CallOutcome, CallReply, Durable, EarlierCall, Effect, ExecutionId,
    GroupBranches, Interrupt, StepFact, StepSpec, Wait, WaitOutcome,
};
use orch::engine::{PlannedModel, StepDefaults, interpret};
use orch::history::{
    GroupProgress, HaltedGroups, HistoryIndex, ReusedStep, StepRecord, call_ended, call_started, outcome_or_interrupt,
};
use orch::model::event::{CallOutput, CommandOutput, Event, Fact};
use orch::model::{CallKey, ModelRef, RunId, RunStatus, StepKey};
use orch::runner::plan_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;

const PIPELINE: &str = r#"
name: main
steps:
  - { id: plan, run: [echo, plan], access: none, schema: text, output: plan }
  - { id: parts, for_each: "[1, 2, 3]", run: [echo, "part {{ item }}"], access: none, schema: text, output: parts }
  - { id: last, run: [echo, last], access: none, schema: text, output: last }
finally:
  - { id: clean, run: [echo, clean], access: none, schema: text, output: clean }
"#;

/// One session of a run.
struct EventsDurable {
    /// The command that fails in this session.
    failing_command: &'static str,
    state: Mutex<SessionState>,
}

struct SessionState {
    /// The events of all sessions, as JSON.
    events: Vec<String>,
    index: HistoryIndex,
    halted_groups: HaltedGroups,
    /// The commands of this session.
    commands: Vec<String>,
}

/// A value after it was sent as JSON.
fn sent<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

impl EventsDurable {
    fn new(events: Vec<String>, failing_command: &'static str) -> Self {
        let recorded: Vec<Event> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let index = HistoryIndex::from_events(&recorded);
        let state = SessionState { events, index, halted_groups: HaltedGroups::default(), commands: Vec::new() };
        Self { failing_command, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap()
    }

    fn append(&self, fact: Fact) -> u64 {
        let mut state = self.lock();
        let seq = u64::try_from(state.events.len()).unwrap() + 1;
        let event = Event { run: RunId(uuid::Uuid::nil()), seq, at: Timestamp::UNIX_EPOCH, fact };
        state.index.apply(&event);
        state.events.push(serde_json::to_string(&event).unwrap());
        seq
    }

    fn check_not_halted(&self, step: &StepKey) -> Result<(), Interrupt> {
        let state = self.lock();
        let finally_step = state.index.finally_step(step);
        let is_halted = state.halted_groups.halts(step, finally_step.as_ref());
        if is_halted { Err(Interrupt::GroupHalted) } else { Ok(()) }
    }

    fn begin_step(&self, spec: &StepSpec) -> BeginOutcome {
        let reused = self.lock().index.reuse_step(spec);
        let Some(ReusedStep { fact, artifact, execution_id }) = reused else {
            return self.lock().index.open_attempt(spec);
        };
        self.append(Fact::StepReused(fact));
        BeginOutcome::Reusable(artifact.map(Box::new), execution_id)
    }

    fn make_call(&self, call: &Call) -> Result<CallOutcome, Interrupt> {
        let recorded = self.lock().index.take_outcome(&call.key, &call.request_digest);
        if let Some(outcome) = recorded {
            return Ok(outcome);
        }
        self.check_not_halted(&call.key.step)?;
        self.append(call_started(call));
        let outcome = self.perform(&call.effect);
        self.append(call_ended(call, &outcome));
        outcome_or_interrupt(outcome)
    }

    fn perform(&self, effect: &Effect) -> CallOutcome {
        let Effect::Command(command) = effect else { panic!("the pipeline makes no such call: {effect:?}") };
        let text = command.argv[1].clone();
        let exit_code = i32::from(text == self.failing_command);
        self.lock().commands.push(text.clone());
        let output = CommandOutput {
            exit_code,
            stdout: text,
            stderr: String::new(),
            truncated: false,
            folder: String::new(),
            probable_limit: None,
            hidden_program: None,
            replayed: false,
        };
        CallOutcome {
            started: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            result: Ok(CallReply::Output(CallOutput::Command(output))),
            agent_activity: None,
            cost: None,
            estimated: None,
            estimated_cost: None,
            reverted_files: Vec::new(),
            sandbox: None,
        }
    }

    fn record_fact(&self, fact: StepFact) -> Result<ExecutionId, Interrupt> {
        let record = self.lock().index.record_of(fact, Timestamp::UNIX_EPOCH);
        let seq = match record {
            StepRecord::Nothing => return Ok(0),
            StepRecord::Start(fact) => {
                self.check_not_halted(&fact.step)?;
                self.append(Fact::StepStarted(fact))
            }
            StepRecord::Queue(fact) | StepRecord::Await(fact) => self.append(fact),
        };
        Ok(self.lock().index.execution_id(seq))
    }
}

impl Durable for EventsDurable {
    fn begin<'a>(&'a self, spec: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        async move { Ok(sent(&self.begin_step(&sent(spec)))) }.boxed()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        async move { sent(&self.make_call(&sent(&call))) }.boxed()
    }

    fn earlier_calls<'a>(
        &'a self,
        spec: &'a StepSpec,
        attempt: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
        async move { Ok(sent(&self.lock().index.earlier_calls(&sent(spec), attempt))) }.boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        async move { sent(&self.record_fact(sent(&fact))) }.boxed()
    }

    fn branches<'a>(
        &'a self,
        group: StepKey,
        branches: &'a dyn GroupBranches,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        async move {
            let mut progress = GroupProgress::new(self.lock().halted_groups.contains(&group));
            let mut outcomes = Vec::new();
            for index in 0..branches.count() {
                if !progress.may_start() {
                    outcomes.push(BranchOutcome::NotStarted);
                    continue;
                }
                let end = branches.run(index).await;
                outcomes.push(progress.end_branch(sent(&end)));
                if progress.is_halted() {
                    self.lock().halted_groups.add(&group);
                }
            }
            sent(&progress.finish(outcomes))
        }
        .boxed()
    }

    fn wait(&self, _: CallKey, _: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        async { Ok(WaitOutcome::Elapsed) }.boxed()
    }
}

/// Runs a session. Returns how the run ended, the commands of the session, and the events of all sessions.
fn run_session(events: Vec<String>, failing_command: &'static str) -> (RunStatus, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipelines/main.yaml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, PIPELINE).unwrap();
    let project = load(&path).unwrap_or_else(|findings| panic!("{findings:?}"));
    let planned = |name: &str| Ok(PlannedModel::new(ModelRef::new("test", name), "test"));
    let plan = plan_project(&project, Map::new(), &StepDefaults::default(), &planned).unwrap();
    let durable = EventsDurable::new(events, failing_command);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = runtime.block_on(interpret(&durable, &plan)).unwrap().status;
    let state = durable.state.into_inner().unwrap();
    (status, state.commands, state.events)
}

/// The steps that reused a result, in order.
fn reused_steps(events: &[String]) -> Vec<String> {
    let facts = events.iter().map(|event| serde_json::from_str::<Event>(event).unwrap().fact);
    let reused = facts.filter_map(|fact| match fact {
        Fact::StepReused(reused) => Some(reused.step.to_string()),
        _ => None,
    });
    reused.collect()
}

#[test]
fn a_list_of_events_resumes_a_run_with_the_rules_of_the_history() {
    let (status, commands, events) = run_session(Vec::new(), "part 2");
    assert_eq!(status, RunStatus::Failed);
    assert_eq!(commands, ["plan", "part 1", "part 2", "clean"], "the failure halts the group, and `finally` runs");

    let first_session = events.len();
    let (status, commands, events) = run_session(events, "none");
    assert_eq!(status, RunStatus::Completed);
    assert_eq!(commands, ["part 2", "part 3", "last", "clean"], "what completed is reused, except for `finally`");
    assert_eq!(reused_steps(&events[first_session..]), ["plan", "parts[0]"]);

    let second_session = events.len();
    let (status, commands, events) = run_session(events, "none");
    assert_eq!((status, commands), (RunStatus::Completed, vec!["clean".to_owned()]));
    let reused = ["plan", "parts[0]", "parts[1]", "parts[2]", "parts", "last"];
    assert_eq!(reused_steps(&events[second_session..]), reused);
}
