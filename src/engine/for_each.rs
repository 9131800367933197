//! Runs a step once for each item of a list (`for_each`).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::durable::{BranchOutcome, Interrupt};
use crate::model::{Failure, FailureClass, StepKey};
use crate::template::{kind_of, variables};

use super::branch::PlannedBranches;
use super::interpret::{Interpreter, StepResult};
use super::node::{ForEach, PlanNode};
use super::scope::ValueScope;
use super::step_execution::{StepExecution, StepStart, compute_fingerprint};
use super::template_failure::expression_failure;

/// The result of an item; `None` if the item did not start or was cancelled.
type ItemResult = Option<Result<Option<Arc<Value>>, Failure>>;

pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    for_each: &ForEach,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let items = match evaluate_list(interpreter, key, node, for_each, scope).await? {
        Ok(items) => items,
        Err(failure) => {
            interpreter.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let item_results = if for_each.max_parallel == 1 {
        run_sequentially(interpreter, key, node, items, scope).await?
    } else {
        run_in_parallel(interpreter, key, node, for_each, items, scope).await?
    };
    match collect_values(for_each, item_results, scope) {
        Ok(value) => {
            let fingerprint = compute_fingerprint(&json!({ "items": value }), &json!("for_each"));
            let mut execution = StepExecution::new(interpreter, key, node, fingerprint, Vec::new());
            // Completing the `for_each` step itself changes no file, so restore the workspace version after the last
            // item.
            let workspace_version = scope.workspace_version().clone();
            let result = match execution.begin(scope).await? {
                StepStart::Reusable(value) => Ok(value),
                StepStart::Run(_, attempt) => execution.finish(scope, attempt, Ok(Some(value))).await?,
            };
            scope.set_workspace_version(workspace_version);
            Ok(result)
        }
        Err(failure) => {
            interpreter.fail(key, node, scope, 0, &failure).await?;
            Ok(Err(failure))
        }
    }
}

async fn evaluate_list(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    for_each: &ForEach,
    scope: &ValueScope,
) -> Result<Result<Vec<Value>, Failure>, Interrupt> {
    Ok(match interpreter.eval(key, node, &for_each.list, scope).await? {
        Ok(Value::Array(items)) => Ok(items),
        Ok(other) => {
            let message = format!("`for_each: {}` is {}, not a list", for_each.list, kind_of(&other));
            let unusable_values = Some(variables(&for_each.list).into_iter().collect());
            Err(Failure { unusable_values, ..Failure::new(FailureClass::ExpressionError, message) })
        }
        Err(error) => Err(expression_failure(&for_each.list, error)),
    })
}

/// Runs the items in order. Each item sees the changes that the previous items made in the workspace.
async fn run_sequentially(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    items: Vec<Value>,
    scope: &mut ValueScope,
) -> Result<Vec<ItemResult>, Interrupt> {
    let mut item_results: Vec<ItemResult> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        if node.stops_on_failure && matches!(item_results.last(), Some(Some(Err(_)))) {
            break;
        }
        let mut inner = scope.for_item(item, Value::from(index));
        let result = interpreter.run_step_body(&key.item(index), node, &mut inner).await?;
        let delta = inner.into_delta();
        if let Some(workspace_version) = &delta.workspace_version {
            scope.set_workspace_version(workspace_version.clone());
        }
        scope.note_failure(delta.first_failure);
        item_results.push(Some(result));
    }
    Ok(item_results)
}

async fn run_in_parallel(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    for_each: &ForEach,
    items: Vec<Value>,
    scope: &mut ValueScope,
) -> Result<Vec<ItemResult>, Interrupt> {
    let branches = PlannedBranches::of_items(interpreter, key, node, items, scope);
    let outcomes = interpreter.durable.branches(key.clone(), &branches, for_each.max_parallel).await?;
    let mut item_results = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        item_results.push(match outcome {
            BranchOutcome::Ended(delta, _) => {
                scope.note_failure(delta.first_failure);
                delta.item_result.map(|result| result.map(Some))
            }
            BranchOutcome::Cancelled | BranchOutcome::NotStarted => None,
        });
    }
    Ok(item_results)
}

/// Returns the step's output: the values of the items or, with `on_error: continue`, a status record for each item.
/// Without `on_error: continue`, a failed item fails the step.
fn collect_values(for_each: &ForEach, item_results: Vec<ItemResult>, scope: &mut ValueScope) -> Result<Value, Failure> {
    let failures: Vec<(usize, &Failure)> = item_results
        .iter()
        .enumerate()
        .filter_map(|(index, result)| match result {
            Some(Err(failure)) => Some((index, failure)),
            Some(Ok(_)) | None => None,
        })
        .collect();
    if for_each.records_status {
        if let Some((index, failure)) = failures.first() {
            scope.note_failure(Some(items_failure(failures.len(), item_results.len(), *index, failure)));
        }
        // No failure stops such a list, and a stop or a halt of a group around it ends the step without a list. So
        // every item has a result.
        let records =
            item_results.into_iter().enumerate().filter_map(|(index, result)| Some(item_record(index, result?)));
        return Ok(records.collect());
    }
    if let Some((index, failure)) = failures.first() {
        return Err(items_failure(failures.len(), item_results.len(), *index, failure));
    }
    Ok(item_results.into_iter().flatten().filter_map(Result::ok).map(value_or_null).collect())
}

fn items_failure(failed: usize, total: usize, index: usize, failure: &Failure) -> Failure {
    let message = if failed == 1 {
        format!("item {index} failed: {}", failure.message)
    } else {
        format!("{failed} of {total} items failed; item {index}: {}", failure.message)
    };
    Failure { message, ..failure.clone() }
}

fn value_or_null(value: Option<Arc<Value>>) -> Value {
    value.map_or(Value::Null, |value| (*value).clone())
}

/// The output entry of one item, with its status (`on_error: continue`).
fn item_record(index: usize, result: Result<Option<Arc<Value>>, Failure>) -> Value {
    match result {
        Ok(value) => json!({ "index": index, "status": "completed", "value": value_or_null(value) }),
        Err(failure) => json!({
            "index": index, "status": "failed", "error": { "class": failure.class, "message": failure.message }
        }),
    }
}
