//! Runs a plan: a pure function of the plan, the inputs and recorded outcomes.
//!
//! Every external effect goes through [`Durable`]. Nothing here joins, spawns, sleeps or reads a clock, and the future
//! may be dropped at any await.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::durable::{Durable, Interrupt, RunFlow, ScopeDelta, StepFact};
use crate::model::event::{RunEnded, StepFailed, StepSkipped};
use crate::model::step::Access;
use crate::model::{Class, Failure, RunStatus, StepKey};
use crate::template::eval;

use super::compute::takes_long;
use super::message::holds;
use super::node::{NodeKind, PlanBody, PlanNode};
use super::plan::Plan;
use super::scope::ValueScope;
use super::{agent, approve, command, each, group, ways, write};

/// The result of a step: its value, if it has one, or why it failed.
pub(super) type StepResult = Result<Option<Arc<Value>>, Failure>;

/// Runs every step of a plan and returns how the run ended.
pub async fn interpret(durable: &dyn Durable, plan: &Plan) -> Result<RunEnded, Interrupt> {
    let run = Run { durable, plan };
    let mut scope = ValueScope::new(plan.inputs.clone(), ValueScope::untouched());
    let verdict = run.body(&plan.body, None, &mut scope).await?;
    Ok(match verdict {
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
    /// It failed; the failure, if it is not that of a step.
    Failed(Option<Failure>),
}

/// A run, as its steps see it.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// Performs calls and records facts.
    pub(super) durable: &'a dyn Durable,
    /// The plan that is run.
    pub(super) plan: &'a Plan,
}

impl<'a> Run<'a> {
    /// Runs a pipeline's steps, then `finally`, and decides whether the pipeline succeeded.
    pub(super) async fn body(
        self,
        body: &'a PlanBody,
        parent: Option<&StepKey>,
        scope: &mut ValueScope,
    ) -> Result<PipelineEnd, Interrupt> {
        let flow = match self.sequence(&body.nodes, parent, scope).await {
            Err(stop @ (Interrupt::Cancelled | Interrupt::OverBudget(_) | Interrupt::Dropped))
                if !body.finally.is_empty() =>
            {
                self.closing(body, parent).await?;
                self.sequence(&body.finally, parent, scope).await?;
                return Err(stop);
            }
            other => other?,
        };
        let before = scope.take_failure();
        let failed = before.is_some();
        self.closing(body, parent).await?;
        self.sequence(&body.finally, parent, scope).await?;
        let closed = scope.take_failure();
        let untidy = closed.is_some();
        scope.note_failure(before.or(closed));
        if flow == RunFlow::Halt || untidy {
            return Ok(PipelineEnd::Failed(None));
        }
        let texts = body.success.iter().chain(body.outputs.values()).map(String::as_str);
        if !takes_long(scope, texts) {
            return Ok(self.told(body, verdict(body.success.as_deref(), &body.outputs, scope, failed)));
        }
        let (success, outputs, scope) = (body.success.clone(), body.outputs.clone(), scope.clone());
        let key = parent.cloned().unwrap_or_default();
        let verdict = self.compute(&key, move || verdict(success.as_deref(), &outputs, &scope, failed)).await?;
        Ok(self.told(body, verdict))
    }

    /// Adds a hint on how to continue to a failed verdict.
    fn told(self, body: &PlanBody, verdict: PipelineEnd) -> PipelineEnd {
        let PipelineEnd::Failed(Some(failure)) = verdict else { return verdict };
        let class = failure.class;
        let outputs = body.outputs.values().filter(|_| class != Class::SuccessConditionFalse);
        let texts = body.success.iter().chain(outputs).map(String::as_str);
        PipelineEnd::Failed(Some(ways::out_of_run(self.plan, failure, texts)))
    }

    /// Announces that only the steps of `finally` remain.
    async fn closing(self, body: &PlanBody, parent: Option<&StepKey>) -> Result<(), Interrupt> {
        if body.finally.is_empty() {
            return Ok(());
        }
        let keys = body.finally.iter().map(|node| StepKey::below(parent, &node.id)).collect();
        self.durable.record(StepFact::Finally(keys)).await.map(drop)
    }

    /// Runs steps in order.
    pub(super) fn sequence<'b>(
        self,
        nodes: &'a [PlanNode],
        parent: Option<&'b StepKey>,
        scope: &'b mut ValueScope,
    ) -> BoxFuture<'b, Result<RunFlow, Interrupt>>
    where
        'a: 'b,
    {
        async move {
            let mut halted: Option<&str> = None;
            for node in nodes {
                let key = StepKey::below(parent, &node.id);
                if let Some(failed) = halted {
                    self.skip(&key, node, scope, format!("step {failed} failed")).await?;
                } else if self.step(&key, node, scope).await? == RunFlow::Halt {
                    halted = Some(&node.id);
                }
            }
            Ok(if halted.is_some() { RunFlow::Halt } else { RunFlow::Go })
        }
        .boxed()
    }

    /// Runs a step, unless an input is missing or its condition is false.
    pub(super) async fn step(
        self,
        key: &StepKey,
        node: &'a PlanNode,
        scope: &mut ValueScope,
    ) -> Result<RunFlow, Interrupt> {
        if let Some(reason) = scope.missing(node) {
            return self.skip(key, node, scope, reason).await;
        }
        if let Some(expression) = &node.when {
            match self.holds(key, node, expression, scope, &ScopeDelta::default()).await? {
                Ok(true) => {}
                Ok(false) => return self.skip(key, node, scope, format!("when: {expression} is false")).await,
                Err(failure) => {
                    self.fail(key, node, scope, 0, &failure).await?;
                    return Ok(ended(node, scope, Err(failure)));
                }
            }
        }
        let given = match &node.each {
            Some(list) => each::run(self, key, node, list, scope).await?,
            None => self.once(key, node, scope).await?,
        };
        Ok(ended(node, scope, given))
    }

    /// Runs a step once: the whole step, or one item.
    pub(super) fn once<'b>(
        self,
        key: &'b StepKey,
        node: &'a PlanNode,
        scope: &'b mut ValueScope,
    ) -> BoxFuture<'b, Result<StepResult, Interrupt>>
    where
        'a: 'b,
    {
        match &node.kind {
            NodeKind::Agent(kind) => agent::run(self, key, node, kind, scope).boxed(),
            NodeKind::Command(kind) => command::run(self, key, node, kind, scope).boxed(),
            NodeKind::Write(kind) => write::run(self, key, node, kind, scope).boxed(),
            NodeKind::Approve(kind) => approve::run(self, key, node, kind, scope).boxed(),
            NodeKind::Parallel(nodes, limit) => group::parallel(self, key, node, nodes, *limit, scope).boxed(),
            NodeKind::Repeat(kind) => group::repeat(self, key, node, kind, scope).boxed(),
            NodeKind::Sequence(nodes) => group::sequence(self, key, node, nodes, scope).boxed(),
            NodeKind::Pipeline(kind) => group::pipeline(self, key, node, kind, scope).boxed(),
        }
    }

    pub(super) async fn skip(
        self,
        key: &StepKey,
        node: &PlanNode,
        scope: &mut ValueScope,
        reason: String,
    ) -> Result<RunFlow, Interrupt> {
        scope.skipped(node, &reason);
        self.durable.record(StepFact::Skipped(StepSkipped { step: key.clone(), reason })).await?;
        Ok(RunFlow::Go)
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
        let failure = ways::out_of_step(self.plan, node, failure);
        let fact = StepFailed { step: key.clone(), attempt, failure, stops: node.stops };
        let mark = self.durable.record(StepFact::Failed(fact)).await?;
        // An attempt that started may have changed the workspace before it failed, so the workspace version changes.
        if attempt > 0 && node.access == Access::Write && !node.kind.name().is_group() {
            scope.touched(mark);
        }
        Ok(())
    }
}

/// Decides whether a pipeline that ran to its end succeeded, and evaluates its outputs; `failed` says whether a step
/// failed.
fn verdict(success: Option<&str>, given: &IndexMap<String, String>, scope: &ValueScope, failed: bool) -> PipelineEnd {
    let context = scope.everything();
    let succeeded = match success {
        Some(expression) => match holds(expression, &context) {
            Ok(true) => true,
            Ok(false) => {
                let why = format!("`success: {expression}` is false");
                return PipelineEnd::Failed(Some(Failure::new(Class::SuccessConditionFalse, why)));
            }
            Err(failure) => return PipelineEnd::Failed(Some(failure)),
        },
        None => !failed,
    };
    if !succeeded {
        return PipelineEnd::Failed(None);
    }
    let mut outputs = Map::new();
    for (name, expression) in given {
        match eval(expression, &context) {
            Ok(value) => outputs.insert(name.clone(), value),
            Err(error) => {
                let why = format!("output `{name}`: {error}");
                return PipelineEnd::Failed(Some(Failure::new(Class::ExpressionError, why)));
            }
        };
    }
    PipelineEnd::Completed(outputs)
}

/// Notes in the scope how a step ended. Its failure is recorded already.
fn ended(node: &PlanNode, scope: &mut ValueScope, given: StepResult) -> RunFlow {
    match given {
        Ok(value) => scope.completed(node, value),
        Err(failure) => {
            scope.failed(node, &failure);
            if node.stops {
                scope.stopped(Some((node.id.clone(), failure)));
                return RunFlow::Halt;
            }
        }
    }
    RunFlow::Go
}
