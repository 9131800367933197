//! Steps that contain steps: `parallel`, sequences, `repeat`, and sub-pipelines.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::durable::{BranchOutcome, Interrupt, RunFlow, ScopeArtifact, ScopeDelta};
use crate::model::event::SkipKind;
use crate::model::step::Outcome;
use crate::model::{Failure, FailureClass, StepKey, counted};
use crate::template::eval;

use super::branch::PlannedBranches;
use super::compute::takes_long;
use super::interpret::{Interpreter, PipelineEnd, StepResult};
use super::iteration_values::{iteration_position, iteration_values};
use super::node::{NodeKind, PipelineNode, PlanBody, PlanNode, RepeatNode};
use super::scope::ValueScope;
use super::step_execution::{StepExecution, StepStart, compute_fingerprint};
use super::template_failure::expression_failure;

/// Runs the steps of a sequence in order, as one step.
pub(super) async fn sequence(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    nodes: &[PlanNode],
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut inner = scope.child_scope();
    let flow = interpreter.run_sequence(nodes, Some(key), &mut inner).await?;
    finish_group(interpreter, key, node, inner.into_delta(), flow, scope).await
}

/// Runs steps in parallel. No step sees the artifacts of the others.
pub(super) async fn parallel(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    nodes: &[PlanNode],
    limit: usize,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let branches = PlannedBranches::of_steps(interpreter, key, nodes, scope);
    let outcomes = interpreter.durable.branches(key.clone(), &branches, limit).await?;
    let mut inner = scope.child_scope();
    let halting_step = outcomes.iter().zip(nodes).find_map(|(outcome, child)| match outcome {
        BranchOutcome::Ended(_, RunFlow::Halt) => Some(child.id.clone()),
        BranchOutcome::Ended(_, RunFlow::Continue) | BranchOutcome::Cancelled | BranchOutcome::NotStarted => None,
    });
    // At most one of the parallel steps may write, so at most one changes the workspace version. The steps after the
    // group see that version.
    let initial_version = scope.workspace_version().clone();
    let mut workspace_version = initial_version.clone();
    for (outcome, child) in outcomes.into_iter().zip(nodes) {
        match outcome {
            BranchOutcome::Ended(delta, _) => {
                inner.merge(&delta);
                inner.note_halting_step(delta.halted_by);
                workspace_version =
                    delta.workspace_version.filter(|version| *version != initial_version).unwrap_or(workspace_version);
            }
            BranchOutcome::Cancelled => inner.note_cancelled_step(child),
            BranchOutcome::NotStarted => {
                let step = halting_step.clone().unwrap_or_else(|| node.id.clone());
                let reason = SkipKind::StepFailed { step };
                interpreter.skip(&key.child(&child.id), child, &mut inner, reason).await?;
            }
        }
    }
    inner.set_workspace_version(workspace_version);
    let flow = if halting_step.is_some() { RunFlow::Halt } else { RunFlow::Continue };
    finish_group(interpreter, key, node, inner.into_delta(), flow, scope).await
}

/// Runs steps repeatedly until a condition is true.
pub(super) async fn repeat(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    repeat_node: &RepeatNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut last_iteration = ScopeDelta::default();
    let mut first_failure = None;
    for iteration in 0..repeat_node.max {
        // An iteration sees what the iteration before it exported only in `loop.previous`.
        let previous = (iteration > 0).then(|| iteration_values(&last_iteration, &repeat_node.nodes));
        let mut inner = scope.for_iteration(iteration_position(iteration, repeat_node.max), previous);
        if let Some(workspace_version) = &last_iteration.workspace_version {
            inner.set_workspace_version(workspace_version.clone());
        }
        let index = usize::try_from(iteration).unwrap_or(usize::MAX);
        let flow = interpreter.run_sequence(&repeat_node.nodes, Some(&key.item(index)), &mut inner).await?;
        let iteration_scope = inner.snapshot();
        last_iteration = inner.into_delta();
        first_failure = first_failure.or_else(|| last_iteration.first_failure.clone());
        last_iteration.first_failure.clone_from(&first_failure);
        if flow == RunFlow::Halt {
            return finish_group(interpreter, key, node, last_iteration, flow, scope).await;
        }
        let until_result = match &repeat_node.until {
            Some(until) => Some(interpreter.eval_condition(key, node, until, &iteration_scope, &last_iteration).await?),
            None => None,
        };
        match until_result {
            Some(Ok(true)) => {
                return finish_group(interpreter, key, node, last_iteration, RunFlow::Continue, scope).await;
            }
            Some(Ok(false)) | None => {}
            Some(Err(failure)) => return fail_group(interpreter, key, node, last_iteration, failure, scope).await,
        }
    }
    match (&repeat_node.until, repeat_node.on_max_iterations) {
        (Some(until), Outcome::Fail) => {
            let message = format!("`{until}` was not true after {}", counted(repeat_node.max, "iteration"));
            let failure = Failure::new(FailureClass::MaxIterationsReached, message)
                .with_hint(format!(
                    "raise `max:`, or set `on_max_iterations: continue` to continue with the last iteration, then run `orch pipeline resume`; `orch pipeline resume --from {key}` starts the loop again"
                ));
            fail_group(interpreter, key, node, last_iteration, failure, scope).await
        }
        (Some(_), Outcome::Continue) | (None, _) => {
            finish_group(interpreter, key, node, last_iteration, RunFlow::Continue, scope).await
        }
    }
}

/// Runs a sub-pipeline with its own inputs. The caller sees only its outputs.
pub(super) async fn pipeline(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let inputs = match call_inputs(interpreter, key, node, call, scope).await? {
        Ok(inputs) => inputs,
        Err(failure) => return fail_group(interpreter, key, node, ScopeDelta::default(), failure, scope).await,
    };
    run_called(interpreter, key, node, call, inputs, scope).await
}

/// Runs a called pipeline with these inputs, which fit their schemas, and records how it ended.
pub(super) async fn run_called(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    inputs: Map<String, Value>,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let mut inner = ValueScope::new(inputs, scope.workspace_version().clone());
    let outcome = interpreter.run_pipeline(&call.body, Some(key), &mut inner).await?;
    let mut delta = ScopeDelta {
        first_failure: inner.first_failure().cloned(),
        workspace_version: Some(inner.workspace_version().clone()),
        ..ScopeDelta::default()
    };
    match outcome {
        PipelineEnd::Completed(outputs) => {
            // The called pipeline succeeded in spite of these failures, so they do not count for the caller.
            delta.first_failure = None;
            let artifact = |value| ScopeArtifact::unrecorded(Arc::new(value));
            delta.artifacts = outputs.into_iter().map(|(name, value)| (name, artifact(value))).collect();
            finish_group(interpreter, key, node, delta, RunFlow::Continue, scope).await
        }
        PipelineEnd::Failed(failure) => {
            let cause = failure.or_else(|| inner.halt_failure().cloned()).or_else(|| delta.first_failure.clone());
            let failure = cause.map_or_else(
                || Failure::new(FailureClass::Internal, format!("pipeline {} failed", call.body.name)),
                |cause| Failure { message: format!("pipeline {}: {}", call.body.name, cause.message), ..cause },
            );
            fail_group(interpreter, key, node, delta, failure, scope).await
        }
    }
}

async fn call_inputs(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &PipelineNode,
    scope: &ValueScope,
) -> Result<Result<Map<String, Value>, Failure>, Interrupt> {
    let schemas_take_long = call.inputs.values().any(|input| input.schema.may_take_long());
    if !schemas_take_long && !takes_long(scope, call.with.values().map(String::as_str)) {
        return Ok(evaluate_inputs(node, call, scope));
    }
    // Evaluating the inputs does not need the steps of the pipeline, so this clone omits them.
    let body = PlanBody { nodes: Vec::new(), finally: Vec::new(), outputs: IndexMap::new(), ..call.body.clone() };
    let call = PipelineNode { body, with: call.with.clone(), inputs: call.inputs.clone() };
    let node = PlanNode { kind: NodeKind::Sequence(Vec::new()), ..node.clone() };
    let scope = scope.snapshot();
    interpreter.compute(key, move || evaluate_inputs(&node, &call, &scope)).await
}

fn evaluate_inputs(node: &PlanNode, call: &PipelineNode, scope: &ValueScope) -> Result<Map<String, Value>, Failure> {
    let context = scope.context(node);
    let mut inputs = Map::new();
    for (name, input) in &call.inputs {
        let value = match call.with.get(name) {
            Some(expression) => eval(expression, &context).map_err(|error| expression_failure(expression, error))?,
            None => input.default.clone().ok_or_else(|| {
                Failure::new(FailureClass::ExpressionError, format!("pipeline {} needs `{name}`", call.body.name))
                    .with_hint(format!("give it under `with:` of step `{}`", node.id))
            })?,
        };
        if let Some(first) = input.schema.mismatches(&value).first() {
            let message = format!("`with: {name}` does not fit pipeline {}: {first}", call.body.name);
            return Err(Failure::new(FailureClass::SchemaMismatch, message));
        }
        inputs.insert(name.clone(), value);
    }
    Ok(inputs)
}

/// Records the end of a group. Later steps see the artifacts of the steps inside the group, unless the group is an item
/// or has an output.
async fn finish_group(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    delta: ScopeDelta,
    flow: RunFlow,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    if flow == RunFlow::Halt {
        let failure = halt_failure(&delta);
        return fail_group(interpreter, key, node, delta, failure, scope).await;
    }
    let object: Map<String, Value> =
        delta.artifacts.iter().map(|(name, artifact)| (name.clone(), (*artifact.value).clone())).collect();
    let value = Value::Object(object);
    merge_delta(node, &delta, scope);
    let mut execution = StepExecution::new(
        interpreter,
        key,
        node,
        compute_fingerprint(&json!({ "group": value }), &json!("group")),
        Vec::new(),
    );
    match execution.begin(scope).await? {
        StepStart::Reusable(_) => {}
        StepStart::Run(_, attempt) => {
            drop(execution.finish(scope, attempt, Ok(Some(value.clone()))).await?);
        }
    }
    Ok(Ok(Some(Arc::new(value))))
}

async fn fail_group(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    delta: ScopeDelta,
    failure: Failure,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    merge_delta(node, &delta, scope);
    interpreter.fail(key, node, scope, 0, &failure).await?;
    Ok(Err(failure))
}

fn merge_delta(node: &PlanNode, delta: &ScopeDelta, scope: &mut ValueScope) {
    if node.exported_names().are_inner() {
        scope.merge(delta);
        return;
    }
    scope.note_failure(delta.first_failure.clone());
    if let Some(workspace_version) = &delta.workspace_version {
        scope.set_workspace_version(workspace_version.clone());
    }
}

/// Returns why a group stopped: the failure of the step that halted it.
fn halt_failure(delta: &ScopeDelta) -> Failure {
    match (&delta.halted_by, &delta.first_failure) {
        (Some((id, failure)), _) => {
            Failure { message: format!("step `{id}` failed: {}", failure.message), ..failure.clone() }
        }
        (None, Some(failure)) => failure.clone(),
        (None, None) => Failure::new(FailureClass::Cancelled, "a step failed"),
    }
}
