//! Predicts what a resume would do: the interpreter runs over recorded events, without making calls or writing
//! anything.
//!
//! If a step would run, the dry run passes its old result to the later steps, so that it can predict them too. It
//! predicts [`PredictedAction::MaybeRun`] for a later step that reads such a result, or that sees the workspace after such a
//! step, if its own result is valid for the workspace as that step left it before.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::durable::{
    ArtifactRef, BeginOutcome, BranchOutcome, Call, CallOutcome, Durable, EarlierCall, ExecutionId, GroupBranches,
    Interrupt, ListTools, ListedTools, PipelineCall, PipelineCallStart, StepFact, StepSpec, Wait, WaitOutcome,
};
use crate::history::HistoryIndex;
use crate::model::event::{Event, Fact, PartKind, SkipKind};
use crate::model::{Artifact, CallKey, Failure, FailureClass, StepKey};

use super::branch_activity::BranchActivity;
use super::branches::{GroupContext, run_branches};
use super::halt_signal::HaltSignal;

/// The action of a resume for a step, as a dry run predicts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PredictedAction {
    /// The resume reuses the recorded result.
    Reuse,
    /// The resume runs the step, for this reason.
    Run(String),
    /// The resume runs the step only if an input changes, as this text explains.
    MaybeRun(String),
    /// The resume skips the step, for this reason.
    Skip(String),
    /// The step fails again without a call, for this reason: its last call may have changed something.
    Fail(String),
}

/// A [`Durable`] that performs nothing and only collects predictions.
#[derive(Default)]
pub struct DryRunDurable {
    halt_signal: HaltSignal,
    activity: Arc<BranchActivity>,
    state: Mutex<DryRunState>,
}

#[derive(Default)]
struct DryRunState {
    index: HistoryIndex,
    predictions: Vec<(StepKey, PredictedAction)>,
    /// The reusable results by the `seq` of their events, and whether the reuse is certain.
    reusable: HashMap<u64, bool>,
    /// The artifacts that the steps have returned, to which branches may refer.
    returned_artifacts: HashMap<StepKey, Artifact>,
    /// Artifacts whose values are unknown, because their steps would run.
    unknown_artifacts: BTreeSet<String>,
    /// Whether a step would run that may change the workspace. If it ends as it did before, the workspace counts as
    /// unchanged.
    workspace_may_change: bool,
}

impl DryRunState {
    /// Notes the artifact that a step returned, if any.
    fn note_returned(&mut self, step: &StepKey, artifact: Option<&Artifact>) {
        if let Some(artifact) = artifact {
            self.returned_artifacts.insert(step.clone(), artifact.clone());
        }
    }
}

impl DryRunDurable {
    /// Creates a dry run over the events of a run; `rerun_step` is the step to re-run, if any.
    pub fn new(events: &[Event], rerun_step: Option<&StepKey>) -> Self {
        let mut index = HistoryIndex::from_events(events);
        if let Some(step) = rerun_step {
            index.force_rerun(step, u64::MAX);
        }
        Self { state: Mutex::new(DryRunState { index, ..DryRunState::default() }), ..Self::default() }
    }

    /// The prediction for each step, in the order in which the interpreter reached them.
    pub fn predictions(&self) -> Vec<(StepKey, PredictedAction)> {
        self.lock().predictions.clone()
    }

    /// The reusable results by the `seq` of their events, and whether the reuse is certain. It is uncertain if an input
    /// of the step may change.
    pub fn reusable_results(&self) -> HashMap<u64, bool> {
        self.lock().reusable.clone()
    }

    /// The recorded calls of attempts that the resume continues. It takes the outcomes of these calls from the record,
    /// if it makes the same requests again.
    pub fn continued_calls(&self) -> HashSet<CallKey> {
        self.lock().index.continued_calls()
    }

    fn lock(&self) -> MutexGuard<'_, DryRunState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn predict(&self, spec: &StepSpec) -> BeginOutcome {
        let mut state = self.lock();
        let state = &mut *state;
        let is_group = spec.fingerprint_parts.is_empty();
        // A step reads its declared inputs and the artifacts in its fingerprint. An optional input that does not exist
        // yet is not in the fingerprint.
        let artifact_parts = spec.fingerprint_parts.iter().filter_map(|part| match &part.kind {
            // An input of a called pipeline may depend on artifacts.
            PartKind::Artifact(name) | PartKind::Input(name) => Some(name.as_str()),
            // The expression ends with the name of the artifact: `loop.previous.review`.
            PartKind::Previous(expression) => expression.rsplit('.').next(),
            _ => None,
        });
        let reads = spec.inputs.iter().map(String::as_str).chain(artifact_parts);
        let unknown_inputs: Vec<&str> = reads.filter(|name| state.unknown_artifacts.contains(*name)).collect();
        let old_result = state.index.last_result(&spec.step).cloned();
        let in_finally = state.index.finally_step(&spec.step).is_some();
        let reusable = state.index.take_reusable_result(spec);
        let sees_workspace = spec.fingerprint_parts.iter().any(|part| part.kind == PartKind::Workspace);
        let prediction = match (&reusable, unknown_inputs.first()) {
            _ if in_finally => PredictedAction::Run("`finally` runs in each session".to_owned()),
            (Some(_), None) if sees_workspace && state.workspace_may_change => {
                PredictedAction::MaybeRun("the workspace may change".to_owned())
            }
            (Some(_), None) => PredictedAction::Reuse,
            (_, Some(name)) => PredictedAction::MaybeRun(format!("input {name} may change")),
            (None, None) => predict_execution(&state.index, spec),
        };
        let is_certain = prediction == PredictedAction::Reuse;
        if !is_certain {
            state.unknown_artifacts.extend(spec.output.clone());
        }
        if !is_group {
            state.predictions.push((spec.step.clone(), prediction));
        }
        let Some((completed_seq, artifact)) = reusable else {
            state.workspace_may_change |= spec.may_write;
            let execution_id = state.index.last_execution_id(spec).unwrap_or_default();
            state.note_returned(&spec.step, old_result.as_ref());
            return BeginOutcome::Reusable(old_result.map(Box::new), execution_id);
        };
        state.reusable.insert(completed_seq, is_certain);
        state.note_returned(&spec.step, artifact.as_ref());
        BeginOutcome::Reusable(artifact.map(Box::new), state.index.execution_id(completed_seq))
    }

    fn add_prediction(&self, step: StepKey, prediction: PredictedAction) {
        self.lock().predictions.push((step, prediction));
    }
}

impl Durable for DryRunDurable {
    fn begin<'a>(&'a self, spec: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
        async move { Ok(self.predict(spec)) }.boxed()
    }

    fn call(&self, _: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
        // `begin` returns a result for every step, so no step makes a call.
        async { Err(Interrupt::Cancelled) }.boxed()
    }

    fn earlier_calls<'a>(
        &'a self,
        _: &'a StepSpec,
        _: Option<u32>,
    ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
        // Only a step that makes calls asks for its earlier ones.
        async { Ok(Vec::new()) }.boxed()
    }

    fn begin_pipeline_call<'a>(&'a self, _: &'a PipelineCall) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
        async { Err(Interrupt::Cancelled) }.boxed()
    }

    fn record(&self, fact: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
        match fact {
            StepFact::Skipped(fact) => {
                let is_unknown = match &fact.reason.kind {
                    SkipKind::MissingInput { input, .. } => self.lock().unknown_artifacts.contains(input),
                    SkipKind::ConditionFalse { .. } | SkipKind::StepFailed { .. } => false,
                };
                let prediction = if is_unknown {
                    PredictedAction::Run("its inputs do not exist yet".to_owned())
                } else {
                    PredictedAction::Skip(fact.reason.message)
                };
                self.add_prediction(fact.step, prediction);
            }
            StepFact::Failed(fact) => {
                // The step failed because it reads a value that does not exist yet. In a real run, an earlier step
                // produces the value.
                self.add_prediction(fact.step, PredictedAction::Run("its inputs are not known yet".to_owned()));
            }
            StepFact::FinallyStarted(steps) => self.lock().index.start_finally(steps),
            StepFact::Started(_)
            | StepFact::ReplyParsed(_)
            | StepFact::Completed(_)
            | StepFact::PipelineCallEnded(_) => {}
        }
        async { Ok(0) }.boxed()
    }

    fn branches<'a>(
        &'a self,
        group: StepKey,
        branches: &'a dyn GroupBranches,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
        let context = GroupContext { halt_signal: &self.halt_signal, activity: &self.activity };
        run_branches(context, || true, group, branches, limit).boxed()
    }

    fn artifact<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Arc<Value>, Interrupt>> {
        let state = self.lock();
        let value = state.returned_artifacts.get(&reference.step).map(|artifact| &artifact.value);
        let value = value.filter(|value| reference.is_to(value)).map(|value| Arc::new(value.clone()));
        std::future::ready(value.ok_or_else(|| reference.missing())).boxed()
    }

    /// Returns the recorded tools of a server. A dry run starts no server.
    fn list_tools(&self, request: ListTools) -> BoxFuture<'_, Result<ListedTools, Interrupt>> {
        let listing = self.lock().index.listing_for(&request.step, &request.server.name);
        let listed = listing.ok_or_else(|| {
            let message = format!("the MCP server `{}` has not listed its tools in this run", request.server.name);
            Failure::new(FailureClass::Internal, message)
        });
        async { Ok(listed) }.boxed()
    }

    fn wait(&self, _: CallKey, _: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
        async { Ok(WaitOutcome::Elapsed) }.boxed()
    }
}

/// The prediction for a step without a reusable result.
fn predict_execution(index: &HistoryIndex, spec: &StepSpec) -> PredictedAction {
    let has_replies = !index.replies_to_reparse(spec).is_empty();
    let made_call = index.unrepeated_call(spec);
    match made_call {
        Some(call) if has_replies => {
            PredictedAction::Run(format!("orch reads the recorded result of `{call}` again, and makes no call"))
        }
        Some(call) => PredictedAction::Fail(format!(
            "`{call}` may have taken effect, and orch does not repeat it; `--from {}` calls the tool again",
            spec.step.declared_key()
        )),
        None => {
            let reason = index.rerun_reason(spec).unwrap_or_else(|| "it did not run yet".to_owned());
            PredictedAction::Run(if has_replies {
                format!("{reason}; calls the model only if no recorded reply fits")
            } else {
                reason
            })
        }
    }
}

/// Returns the steps that have a recorded result but are no longer in the plan.
pub fn removed_steps(events: &[Event], planned: &[StepKey]) -> Vec<StepKey> {
    let mut known: HashSet<StepKey> = planned.iter().cloned().collect();
    let completed = events.iter().filter_map(|event| match &event.fact {
        Fact::StepCompleted(fact) => Some(fact.step.declared_key()),
        _ => None,
    });
    completed.filter(|key| known.insert(key.clone())).collect()
}
