//! A second implementation of `Durable`: a list of events in memory. It takes all its decisions from `orch::history`, and
//! sends everything that crosses the interface as JSON, also the branches, which run with a plan that was made again from
//! a bundle. So the contract needs nothing of the store.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use orch::config::load;
use orch::durable::{
    ArtifactRef, BeginOutcome, BranchOutcome, BranchSpec, Call, CallOutcome, Durable, EarlierCall, Effect, ExecutionId,
    GroupBranches, Interrupt, PipelineCall, PipelineCallStart, StepFact, StepSpec, Wait, WaitOutcome,
};
use orch::engine::{Plan, PlannedModel, StepDefaults, interpret, run_branch};
use orch::history::{
    GroupProgress, HaltedGroups, HistoryIndex, ReusedStep, StepRecord, call_ended, call_started, outcome_or_interrupt,
};
use orch::model::event::{Event, Fact};
use orch::model::{CallKey, ModelRef, RunId, RunStatus, StepKey};
use orch::runner::{PlanBundle, plan_project};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::support::command_output::command_output;

const PIPELINE: &str = r#"
name: main
steps:
  - { id: plan, run: [echo, plan], access: none, schema: text, output: plan }
  - id: parts
    for_each: "[1, 2, 3]"
    inputs: [plan]
    run: [echo, "part {{ item }} of {{ plan }}"]
    access: none
    schema: text
    output: parts
  - { id: last, run: [echo, last], access: none, schema: text, output: last }
finally:
  - { id: clean, run: [echo, clean], access: none, schema: text, output: clean }
"#;

/// One session of a run.
struct EventsDurable {
    /// The command that fails in this session.
    failing_command: &'static str,
    /// The plan with which other processes run the branches.
    branch_plan: Plan,
    state: Mutex<SessionState>,
}

struct SessionState {
    /// The events of all sessions, as JSON.
    events: Vec<String>,
    index: HistoryIndex,
    halted_groups: HaltedGroups,
    /// The commands of this session.
    commands: Vec<String>,
    /// The branches of this session, as JSON.
    branches: Vec<String>,
}

/// A value after it was sent as JSON.
fn sent<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

impl EventsDurable {
    fn new(events: Vec<String>, failing_command: &'static str, branch_plan: Plan) -> Self {
        let recorded: Vec<Event> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let index = HistoryIndex::from_events(&recorded);
        let (halted_groups, commands, branches) = (HaltedGroups::default(), Vec::new(), Vec::new());
        let state = SessionState { events, index, halted_groups, commands, branches };
        Self { failing_command, branch_plan, state: Mutex::new(state) }
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

    /// The value of the artifact that a step completed with or reused last.
    fn recorded_artifact(&self, step: &StepKey) -> Option<Value> {
        let state = self.lock();
        let facts: Vec<Fact> =
            state.events.iter().map(|event| serde_json::from_str::<Event>(event).unwrap().fact).collect();
        let artifact_of = |fact: &Fact| match fact {
            Fact::StepCompleted(completed) => completed.artifact.as_ref().map(|artifact| artifact.value.clone()),
            _ => None,
        };
        facts.iter().rev().find_map(|fact| match fact {
            Fact::StepCompleted(completed) if completed.step == *step => artifact_of(fact),
            Fact::StepReused(reused) if reused.step == *step => {
                let renamed = reused.renamed_artifact.as_ref().map(|artifact| artifact.value.clone());
                renamed.or_else(|| artifact_of(&facts[usize::try_from(reused.result_seq).unwrap() - 1]))
            }
            _ => None,
        })
    }

    /// Runs a branch as another process does.
    async fn run_elsewhere(&self, spec: &BranchSpec) -> Result<BranchOutcome, Interrupt> {
        self.lock().branches.push(serde_json::to_string(spec).unwrap());
        sent(&run_branch(&self.branch_plan, self, sent(spec)).await)
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
        CallOutcome::new(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Ok(command_output(exit_code, text)))
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

    fn begin_pipeline_call<'a>(&'a self, _: &'a PipelineCall) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
        unreachable!("no model calls a pipeline")
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
                let end = self.run_elsewhere(&branches.spec(index)?).await;
                outcomes.push(progress.end_branch(end));
                if progress.is_halted() {
                    self.lock().halted_groups.add(&group);
                }
            }
            sent(&progress.finish(outcomes))
        }
        .boxed()
    }

    fn artifact<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Arc<Value>, Interrupt>> {
        let reference: ArtifactRef = sent(reference);
        let value = self.recorded_artifact(&reference.step).filter(|value| reference.is_to(value));
        async move { value.map(|value| Arc::new(sent(&value))).ok_or_else(|| reference.missing()) }.boxed()
    }

    fn wait(&self, _: CallKey, _: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        async { Ok(WaitOutcome::Elapsed) }.boxed()
    }
}

/// The plan of the pipeline, and the plan that another process makes from its bundle.
fn plans(pipeline: &str) -> (Plan, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipelines/main.yaml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, pipeline).unwrap();
    let project = load(&path).unwrap_or_else(|findings| panic!("{findings:?}"));
    let planned = |name: &str| Ok(PlannedModel::new(ModelRef::new("test", name), "test"));
    let plan = plan_project(&project, Map::new(), &StepDefaults::default(), &planned).unwrap();
    let bundle = PlanBundle::from_project(&project, &StepDefaults::default(), &planned).unwrap();
    drop(folder);
    (plan, bundle.plan_again(&[]).unwrap())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs a session. Returns how the run ended, the commands of the session, and the events of all sessions.
fn run_session(events: Vec<String>, failing_command: &'static str) -> (RunStatus, Vec<String>, Vec<String>) {
    let (plan, branch_plan) = plans(PIPELINE);
    let durable = EventsDurable::new(events, failing_command, branch_plan);
    let status = block_on(interpret(&durable, &plan)).unwrap().status;
    let state = durable.state.into_inner().unwrap();
    for branch in &state.branches {
        let spec: Value = serde_json::from_str(branch).unwrap();
        assert_eq!(spec["node"], "parts");
        assert!(
            spec["scope"]["artifacts"]["plan"]["recorded"]["digest"].is_string(),
            "a reference, no value: {branch}"
        );
    }
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
    let (status, commands, events) = run_session(Vec::new(), "part 2 of plan");
    assert_eq!(status, RunStatus::Failed);
    assert_eq!(
        commands,
        ["plan", "part 1 of plan", "part 2 of plan", "clean"],
        "the failure halts the group, and `finally` runs"
    );

    let first_session = events.len();
    let (status, commands, events) = run_session(events, "none");
    assert_eq!(status, RunStatus::Completed);
    assert_eq!(
        commands,
        ["part 2 of plan", "part 3 of plan", "last", "clean"],
        "what completed is reused, except for `finally`"
    );
    assert_eq!(reused_steps(&events[first_session..]), ["plan", "parts[0]"]);

    let second_session = events.len();
    let (status, commands, events) = run_session(events, "none");
    assert_eq!((status, commands), (RunStatus::Completed, vec!["clean".to_owned()]));
    let reused = ["plan", "parts[0]", "parts[1]", "parts[2]", "parts", "last"];
    assert_eq!(reused_steps(&events[second_session..]), reused);
}

#[test]
fn a_branch_runs_only_with_its_own_plan() {
    let (plan, _) = plans(PIPELINE);
    let (_, other_plan) = plans(&PIPELINE.replace("of {{ plan }}", "from {{ plan }}"));
    assert_ne!(plan.digest().unwrap(), other_plan.digest().unwrap());
    let durable = EventsDurable::new(Vec::new(), "none", other_plan);
    let Err(Interrupt::Storage(failure)) = block_on(interpret(&durable, &plan)) else { panic!("the branches ran") };
    assert!(failure.message.starts_with("the branch `parts[0]` belongs to the plan "), "{failure}");
    assert_eq!(durable.lock().commands, ["plan"], "no branch made a call");
}

#[test]
fn a_branch_stops_if_the_records_do_not_contain_what_it_sees() {
    let (plan, branch_plan) = plans(PIPELINE);
    let durable = EventsDurable::new(Vec::new(), "none", branch_plan);
    block_on(interpret(&durable, &plan)).unwrap();
    let state = durable.state.into_inner().unwrap();
    let spec: BranchSpec = serde_json::from_str(&state.branches[1]).unwrap();
    let (_, branch_plan) = plans(PIPELINE);
    let (_, own_plan) = plans(PIPELINE);
    let without_records = EventsDurable::new(Vec::new(), "none", branch_plan);
    let outcome = block_on(run_branch(&own_plan, &without_records, spec.clone()));
    let Err(Interrupt::Storage(failure)) = outcome else { panic!("the branch ran") };
    assert_eq!(failure.message, "the records of the run do not contain the artifact of step `plan`");

    let (_, branch_plan) = plans(PIPELINE);
    let with_records = EventsDurable::new(state.events, "none", branch_plan);
    let outcome = block_on(run_branch(&own_plan, &with_records, spec)).unwrap();
    let BranchOutcome::Ended(delta, _) = outcome else { panic!("the branch did not run") };
    assert_eq!(delta.item_result.unwrap().unwrap().as_str(), Some("part 2 of plan"));
    assert!(with_records.lock().commands.is_empty(), "the recorded result is reused");
}
