//! Runs a plan: a pure function of the plan, the inputs and recorded outcomes.
//!
//! Every external effect goes through [`Durable`]. Nothing here joins, spawns, sleeps or reads a clock, and the future
//! may be dropped at any await.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use serde_json::{Map, Value};
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::durable::{Durable, Interrupt, RunFlow, ScopeArtifact, ScopeDelta, StepFact};
use crate::model::event::{RunEnded, SkipKind, SkipReason, StepFailed, StepSkipped};
use crate::model::step::Access;
use crate::model::{Failure, FailureClass, RunStatus, StepKey};
use crate::template::eval;

use super::compute::takes_long;
use super::message::eval_condition;
use super::node::{NodeKind, PlanBody, PlanNode};
use super::plan::Plan;
use super::plan_remaker::PlanRemaker;
use super::scope::ValueScope;
use super::template_failure::expression_failure;
use super::{agent, approve, call, command, for_each, group, hints, write};

/// The result of a step: its value, if it has one, or its failure.
pub(super) type StepResult = Result<Option<Arc<Value>>, Failure>;

/// Runs every step of a plan and returns how the run ended.
pub async fn interpret(durable: &dyn Durable, plan: &Plan) -> Result<RunEnded, Interrupt> {
    let interpreter = Interpreter { durable, plan, remaker: plan.remaker.as_deref() };
    let mut scope = ValueScope::new(plan.inputs.clone(), ValueScope::initial_workspace_version());
    let outcome = interpreter.run_pipeline(&plan.body, None, &mut scope).await?;
    Ok(match outcome {
        PipelineEnd::Completed(outputs) => {
            let result = (!plan.body.outputs.is_empty()).then(|| Value::Object(outputs));
            RunEnded { status: RunStatus::Completed, failure: None, result }
        }
        PipelineEnd::Failed(failure) => RunEnded { status: RunStatus::Failed, failure, result: None },
    })
}

/// How a pipeline ended.
pub(super) enum PipelineEnd {
    /// It succeeded, with these outputs.
    Completed(Map<String, Value>),
    /// It failed, for this reason. `None` if a step failed, since the events contain the failure of the step.
    Failed(Option<Failure>),
}

/// Interprets a plan. Each kind of step has a function that receives this and runs the step.
#[derive(Clone, Copy)]
pub(super) struct Interpreter<'a> {
    /// Performs calls and records facts.
    pub(super) durable: &'a dyn Durable,
    /// The plan of the run.
    pub(super) plan: &'a Plan,
    /// Makes the plan again, if every branch runs as in another process.
    pub(super) remaker: Option<&'a PlanRemaker>,
}

impl<'a> Interpreter<'a> {
    /// Runs a pipeline's steps, then `finally`, and decides whether the pipeline succeeded.
    pub(super) async fn run_pipeline(
        self,
        body: &'a PlanBody,
        parent: Option<&StepKey>,
        scope: &mut ValueScope,
    ) -> Result<PipelineEnd, Interrupt> {
        let main_flow = match self.run_sequence(&body.nodes, parent, scope).await {
            Err(stop @ (Interrupt::Cancelled | Interrupt::OverBudget(_) | Interrupt::GroupHalted))
                if !body.finally.is_empty() =>
            {
                scope.note_unended_steps(&body.nodes);
                self.record_finally(body, parent).await?;
                self.run_sequence(&body.finally, parent, scope).await?;
                return Err(stop);
            }
            other => other?,
        };
        let earlier_failure = scope.take_failure();
        let has_failed_step = earlier_failure.is_some();
        self.record_finally(body, parent).await?;
        self.run_sequence(&body.finally, parent, scope).await?;
        let finally_failure = scope.take_failure();
        let finally_failed = finally_failure.is_some();
        scope.note_failure(earlier_failure.or(finally_failure));
        if main_flow == RunFlow::Halt || finally_failed {
            return Ok(PipelineEnd::Failed(None));
        }
        let texts = body.success.iter().chain(body.outputs.values()).map(String::as_str);
        if !takes_long(scope, texts) {
            let outcome = evaluate_outcome(body.success.as_deref(), &body.outputs, scope, has_failed_step);
            return Ok(self.with_hint(body, scope, outcome));
        }
        let (success, outputs, values) = (body.success.clone(), body.outputs.clone(), scope.snapshot());
        let key = parent.cloned().unwrap_or_default();
        let compute = move || evaluate_outcome(success.as_deref(), &outputs, &values, has_failed_step);
        let outcome = self.compute(&key, compute).await?;
        Ok(self.with_hint(body, scope, outcome))
    }

    /// Adds to a failed outcome a hint on how the user can continue. `scope` contains the values after the last step.
    fn with_hint(self, body: &PlanBody, scope: &ValueScope, outcome: PipelineEnd) -> PipelineEnd {
        let PipelineEnd::Failed(Some(failure)) = outcome else { return outcome };
        let class = failure.class;
        let outputs = body.outputs.values().filter(|_| class != FailureClass::SuccessConditionFalse);
        let texts = body.success.iter().chain(outputs).map(String::as_str);
        PipelineEnd::Failed(Some(hints::with_run_hint(self.plan, scope, failure, texts)))
    }

    /// Records that `finally` starts, if it has steps.
    async fn record_finally(self, body: &PlanBody, parent: Option<&StepKey>) -> Result<(), Interrupt> {
        if body.finally.is_empty() {
            return Ok(());
        }
        let keys = body.finally.iter().map(|node| StepKey::child_of(parent, &node.id)).collect();
        self.durable.record(StepFact::FinallyStarted(keys)).await.map(drop)
    }

    /// Runs steps in order.
    pub(super) fn run_sequence<'b>(
        self,
        nodes: &'a [PlanNode],
        parent: Option<&'b StepKey>,
        scope: &'b mut ValueScope,
    ) -> BoxFuture<'b, Result<RunFlow, Interrupt>>
    where
        'a: 'b,
    {
        async move {
            let mut failed_step: Option<&str> = None;
            for node in nodes {
                let key = StepKey::child_of(parent, &node.id);
                if let Some(failed) = failed_step {
                    let reason = SkipKind::StepFailed { step: failed.to_owned() };
                    self.skip(&key, node, scope, reason).await?;
                } else if self.run_step(&key, node, scope).await? == RunFlow::Halt {
                    failed_step = Some(&node.id);
                }
            }
            Ok(if failed_step.is_some() { RunFlow::Halt } else { RunFlow::Continue })
        }
        .boxed()
    }

    /// Runs a step, unless an input is missing or its condition is false.
    pub(super) async fn run_step(
        self,
        key: &StepKey,
        node: &'a PlanNode,
        scope: &mut ValueScope,
    ) -> Result<RunFlow, Interrupt> {
        if let Some(reason) = scope.missing_input(node) {
            return self.skip(key, node, scope, reason).await;
        }
        if let Some(expression) = &node.when {
            match self.eval_condition(key, node, expression, scope, &ScopeDelta::default()).await? {
                Ok(true) => {}
                Ok(false) => {
                    let reason = SkipKind::ConditionFalse { expression: expression.clone() };
                    return self.skip(key, node, scope, reason).await;
                }
                Err(failure) => {
                    self.fail(key, node, scope, 0, &failure).await?;
                    return Ok(add_result_to_scope(key, node, scope, Err(failure)));
                }
            }
        }
        let result = match &node.for_each {
            Some(for_each) => for_each::run(self, key, node, for_each, scope).instrument(step_span(key, node)).await?,
            None => self.run_step_body(key, node, scope).await?,
        };
        Ok(add_result_to_scope(key, node, scope, result))
    }

    /// Runs a step once: the whole step, or one item of a `for_each`.
    pub(super) fn run_step_body<'b>(
        self,
        key: &'b StepKey,
        node: &'a PlanNode,
        scope: &'b mut ValueScope,
    ) -> BoxFuture<'b, Result<StepResult, Interrupt>>
    where
        'a: 'b,
    {
        let span = step_span(key, node);
        match &node.kind {
            NodeKind::Agent(kind) => agent::run(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Command(kind) => command::run(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Call(kind) => call::run(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Write(kind) => write::run(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Approve(kind) => approve::run(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Parallel(nodes, limit) => {
                group::parallel(self, key, node, nodes, *limit, scope).instrument(span).boxed()
            }
            NodeKind::Repeat(kind) => group::repeat(self, key, node, kind, scope).instrument(span).boxed(),
            NodeKind::Sequence(nodes) => group::sequence(self, key, node, nodes, scope).instrument(span).boxed(),
            NodeKind::Pipeline(kind) => group::pipeline(self, key, node, kind, scope).instrument(span).boxed(),
        }
    }

    /// Records that a step is skipped, and why.
    pub(super) async fn skip(
        self,
        key: &StepKey,
        node: &PlanNode,
        scope: &mut ValueScope,
        reason: SkipKind,
    ) -> Result<RunFlow, Interrupt> {
        info!(step = %key, "orch skips the step");
        let reason = SkipReason::new(reason);
        scope.note_skipped_step(node, &reason.message);
        self.durable.record(StepFact::Skipped(StepSkipped { step: key.clone(), reason })).await?;
        Ok(RunFlow::Continue)
    }

    /// Records that a step failed, after any retries.
    pub(super) async fn fail(
        self,
        key: &StepKey,
        node: &PlanNode,
        scope: &mut ValueScope,
        attempt: u32,
        failure: &Failure,
    ) -> Result<(), Interrupt> {
        warn!(step = %key, attempt, class = failure.class.as_str(), "the step failed");
        let failure = hints::with_step_hint(self.plan, node, scope, failure);
        let fact = StepFailed { step: key.clone(), attempt, failure, stops: node.stops_on_failure };
        let execution_id = self.durable.record(StepFact::Failed(fact)).await?;
        // An attempt that started may have changed the workspace before it failed, so change the workspace version.
        if attempt > 0 && node.access == Access::Write && !node.kind.kind().is_group() {
            scope.bump_workspace_version(execution_id);
        }
        Ok(())
    }
}

/// The span of a step, or of an item of a step with `for_each`, in the log.
fn step_span(key: &StepKey, node: &PlanNode) -> Span {
    info_span!("step", step = %key, kind = node.kind.kind().as_str())
}

/// Decides whether a pipeline succeeded after its last step, and evaluates its outputs.
fn evaluate_outcome(
    success: Option<&str>,
    output_expressions: &IndexMap<String, String>,
    scope: &ValueScope,
    has_failed_step: bool,
) -> PipelineEnd {
    let context = scope.full_context();
    let succeeded = match success {
        Some(expression) => match eval_condition(expression, &context) {
            Ok(true) => true,
            Ok(false) => {
                let message = format!("`success: {expression}` is false");
                return PipelineEnd::Failed(Some(Failure::new(FailureClass::SuccessConditionFalse, message)));
            }
            Err(failure) => return PipelineEnd::Failed(Some(failure)),
        },
        None => !has_failed_step,
    };
    if !succeeded {
        return PipelineEnd::Failed(None);
    }
    let mut outputs = Map::new();
    for (name, expression) in output_expressions {
        match eval(expression, &context) {
            Ok(value) => outputs.insert(name.clone(), value),
            Err(error) => {
                let failure = expression_failure(expression, error);
                let message = format!("output `{name}`: {}", failure.message);
                return PipelineEnd::Failed(Some(Failure { message, ..failure }));
            }
        };
    }
    PipelineEnd::Completed(outputs)
}

/// Adds the result of a step to the scope. The events contain it already: the artifact, if the step has an output, or
/// the failure. Only for a group may they contain another artifact, since the user may have edited its file.
fn add_result_to_scope(key: &StepKey, node: &PlanNode, scope: &mut ValueScope, result: StepResult) -> RunFlow {
    let is_recorded = node.for_each.is_some() || !node.kind.kind().is_group();
    let to_artifact = |value| {
        if is_recorded { ScopeArtifact::recorded(value, key) } else { ScopeArtifact::unrecorded(value) }
    };
    match result {
        Ok(value) => scope.note_completed_step(node, value.map(to_artifact)),
        Err(failure) => {
            scope.note_failed_step(node, &failure);
            if node.stops_on_failure {
                scope.note_halting_step(Some((node.id.clone(), failure)));
                return RunFlow::Halt;
            }
        }
    }
    RunFlow::Continue
}
