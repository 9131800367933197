//! Steps that contain steps: `parallel`, sequences, `repeat`, and sub-pipelines.

use std::sync::Arc;

use futures_util::FutureExt as _;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::durable::{Branch, BranchOutcome, Interrupt, RunFlow, ScopeDelta};
use crate::model::step::Outcome;
use crate::model::{Class, Failure, StepKey};
use crate::template::eval;

use super::compute::takes_long;
use super::interpret::{PipelineEnd, Run, StepResult};
use super::leaf::{Leaf, OpenedStep, recipe};
use super::node::{NodeKind, PipelineNode, PlanBody, PlanNode, RepeatNode};
use super::scope::ValueScope;

/// Runs the steps of a sequence in order, as one step.
pub(super) async fn sequence(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    nodes: &[PlanNode],
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut inner = scope.inner();
    let flow = run.sequence(nodes, Some(key), &mut inner).await?;
    close(run, key, node, inner.into_gained(), flow, scope).await
}

/// Runs steps in parallel; none of them sees what another one produces.
pub(super) async fn parallel(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    nodes: &[PlanNode],
    limit: usize,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut branches: Vec<Branch<'_>> = Vec::with_capacity(nodes.len());
    for child in nodes {
        let (key, mut inner) = (key.child(&child.id), scope.inner());
        let branch = async move {
            let flow = run.step(&key, child, &mut inner).await?;
            Ok(BranchOutcome::Ended(Box::new(inner.into_gained()), flow))
        };
        branches.push(branch.boxed());
    }
    let ends = run.durable.branches(key.clone(), branches, limit).await?;
    let mut inner = scope.inner();
    let failed = ends.iter().zip(nodes).find_map(|(end, child)| match end {
        BranchOutcome::Ended(_, RunFlow::Halt) => Some(child.id.clone()),
        BranchOutcome::Ended(_, RunFlow::Go) | BranchOutcome::Dropped | BranchOutcome::NotBegun => None,
    });
    // At most one of the parallel steps may write. The steps after the group see the workspace version of that step.
    let before = scope.tree().clone();
    let mut tree = before.clone();
    for (end, child) in ends.into_iter().zip(nodes) {
        match end {
            BranchOutcome::Ended(gained, _) => {
                inner.merge(&gained);
                inner.stopped(gained.stopped);
                tree = gained.workspace_version.filter(|own| *own != before).unwrap_or(tree);
            }
            BranchOutcome::Dropped => inner.cancelled(child),
            BranchOutcome::NotBegun => {
                let reason = format!("step {} failed", failed.as_deref().unwrap_or("beside it"));
                run.skip(&key.child(&child.id), child, &mut inner, reason).await?;
            }
        }
    }
    inner.set_tree(tree);
    let flow = if failed.is_some() { RunFlow::Halt } else { RunFlow::Go };
    close(run, key, node, inner.into_gained(), flow, scope).await
}

/// Runs steps repeatedly until a condition holds.
pub(super) async fn repeat(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &RepeatNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut last = ScopeDelta::default();
    let mut failed = None;
    for round in 0..kind.max {
        let place = json!({ "index": round + 1, "index0": round, "first": round == 0, "last": round + 1 == kind.max, "max": kind.max });
        let mut inner = scope.with([("loop", place)]);
        inner.recall(&last);
        if let Some(tree) = &last.workspace_version {
            inner.set_tree(tree.clone());
        }
        let index = usize::try_from(round).unwrap_or(usize::MAX);
        let flow = run.sequence(&kind.nodes, Some(&key.item(index)), &mut inner).await?;
        let seen = inner.clone();
        last = inner.into_gained();
        failed = failed.or_else(|| last.failed.clone());
        last.failed.clone_from(&failed);
        if flow == RunFlow::Halt {
            return close(run, key, node, last, flow, scope).await;
        }
        let held = match &kind.until {
            Some(until) => Some(run.holds(key, node, until, &seen, &last).await?),
            None => None,
        };
        match held {
            Some(Ok(true)) => return close(run, key, node, last, RunFlow::Go, scope).await,
            Some(Ok(false)) | None => {}
            Some(Err(failure)) => return fail(run, key, node, last, failure, scope).await,
        }
    }
    match (&kind.until, kind.on_max_iterations) {
        (Some(until), Outcome::Fail) => {
            let rounds = if kind.max == 1 { "round" } else { "rounds" };
            let why = format!("`{until}` was not true after {} {rounds}", kind.max);
            let failure = Failure::new(Class::MaxIterationsReached, why)
                .with_hint(format!(
                    "raise `max:`, or say `on_max_iterations: continue` to go on with the last round, then `orch pipeline resume`; `orch pipeline resume --from {key}` starts the rounds again"
                ));
            fail(run, key, node, last, failure, scope).await
        }
        (Some(_), Outcome::Continue) | (None, _) => close(run, key, node, last, RunFlow::Go, scope).await,
    }
}

/// Runs a sub-pipeline with its own inputs; the caller sees its outputs.
pub(super) async fn pipeline(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let inputs = match inputs(run, key, node, call, scope).await? {
        Ok(inputs) => inputs,
        Err(failure) => return fail(run, key, node, ScopeDelta::default(), failure, scope).await,
    };
    let mut inner = ValueScope::new(inputs, scope.tree().clone());
    let verdict = run.body(&call.body, Some(key), &mut inner).await?;
    let mut gained = ScopeDelta {
        failed: inner.failure().cloned(),
        workspace_version: Some(inner.tree().clone()),
        ..ScopeDelta::default()
    };
    match verdict {
        PipelineEnd::Completed(outputs) => {
            // Once the called pipeline reports success, failures inside it do not count for the caller.
            gained.failed = None;
            gained.artifacts = outputs.into_iter().map(|(name, value)| (name, Arc::new(value))).collect();
            close(run, key, node, gained, RunFlow::Go, scope).await
        }
        PipelineEnd::Failed(failure) => {
            let inside = failure.or_else(|| inner.stop().cloned()).or_else(|| gained.failed.clone());
            let failure = inside.map_or_else(
                || Failure::new(Class::Internal, format!("pipeline {} failed", call.body.name)),
                |inside| Failure { message: format!("pipeline {}: {}", call.body.name, inside.message), ..inside },
            );
            fail(run, key, node, gained, failure, scope).await
        }
    }
}

async fn inputs(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    scope: &ValueScope,
) -> Result<Result<Map<String, Value>, Failure>, Interrupt> {
    let slow = call.inputs.values().any(|input| input.schema.takes_long());
    if !slow && !takes_long(scope, call.with.values().map(String::as_str)) {
        return Ok(call_inputs(node, call, scope));
    }
    // Evaluating the inputs does not need the steps of the pipeline, so they are not cloned.
    let body = PlanBody { nodes: Vec::new(), finally: Vec::new(), outputs: IndexMap::new(), ..call.body.clone() };
    let call = PipelineNode { body, with: call.with.clone(), inputs: call.inputs.clone() };
    let node = PlanNode { kind: NodeKind::Sequence(Vec::new()), ..node.clone() };
    let scope = scope.clone();
    run.compute(key, move || call_inputs(&node, &call, &scope)).await
}

fn call_inputs(node: &PlanNode, call: &PipelineNode, scope: &ValueScope) -> Result<Map<String, Value>, Failure> {
    let context = scope.context(node);
    let mut inputs = Map::new();
    for (name, contract) in &call.inputs {
        let value = match call.with.get(name) {
            Some(expression) => {
                eval(expression, &context).map_err(|error| Failure::new(Class::ExpressionError, error.to_string()))?
            }
            None => contract.default.clone().ok_or_else(|| {
                Failure::new(Class::ExpressionError, format!("pipeline {} needs `{name}`", call.body.name))
                    .with_hint(format!("give it under `with:` of step `{}`", node.id))
            })?,
        };
        if let Some(first) = contract.schema.errors(&value).first() {
            let why = format!("`with: {name}` does not fit pipeline {}: {first}", call.body.name);
            return Err(Failure::new(Class::SchemaMismatch, why));
        }
        inputs.insert(name.clone(), value);
    }
    Ok(inputs)
}

/// Records the end of a group. Later steps see what its steps produced, unless the group is an item or has an output.
async fn close(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    gained: ScopeDelta,
    flow: RunFlow,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    if flow == RunFlow::Halt {
        let failure = stopped(&gained);
        return fail(run, key, node, gained, failure, scope).await;
    }
    let object: Map<String, Value> =
        gained.artifacts.iter().map(|(name, value)| (name.clone(), (**value).clone())).collect();
    let value = Value::Object(object);
    merge(key, node, &gained, scope);
    let mut leaf = Leaf::new(run, key, node, recipe(&json!({ "group": value }), &json!("group")), Vec::new());
    match leaf.begin(scope).await? {
        OpenedStep::Stands(_) => {}
        OpenedStep::Run(_, attempt) => {
            drop(leaf.end(scope, attempt, Ok(Some(value.clone()))).await?);
        }
    }
    Ok(Ok(Some(Arc::new(value))))
}

async fn fail(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    gained: ScopeDelta,
    failure: Failure,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    merge(key, node, &gained, scope);
    run.fail(key, node, scope, 0, &failure).await?;
    Ok(Err(failure))
}

fn merge(key: &StepKey, node: &PlanNode, gained: &ScopeDelta, scope: &mut ValueScope) {
    let is_item = key.is_item();
    if is_item || node.output.is_some() {
        scope.note_failure(gained.failed.clone());
        if let Some(tree) = &gained.workspace_version {
            scope.set_tree(tree.clone());
        }
    } else {
        scope.merge(gained);
    }
}

/// Returns why a group stopped: the failure of the step that halted it.
fn stopped(gained: &ScopeDelta) -> Failure {
    match (&gained.stopped, &gained.failed) {
        (Some((id, failure)), _) => {
            Failure { message: format!("step {id} failed: {}", failure.message), ..failure.clone() }
        }
        (None, Some(failure)) => failure.clone(),
        (None, None) => Failure::new(Class::Cancelled, "a step failed"),
    }
}
