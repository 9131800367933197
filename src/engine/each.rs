//! Runs a step once for each item of a list (`for_each`).

use std::sync::Arc;

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::durable::{Branch, BranchOutcome, Interrupt, RunFlow, ScopeDelta};
use crate::model::{Class, Failure, StepKey};
use crate::template::kind_of;

use super::interpret::{Run, StepResult};
use super::leaf::{Leaf, OpenedStep, recipe};
use super::node::{Each, PlanNode};
use super::scope::ValueScope;

/// The result of an item; `None` when the item did not run to its end.
type ItemEnd = Option<Result<Option<Arc<Value>>, Failure>>;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    each: &Each,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let items = match list(run, key, node, each, scope).await? {
        Ok(items) => items,
        Err(failure) => {
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let ends = if each.limit == 1 {
        one_by_one(run, key, node, items, scope).await?
    } else {
        side_by_side(run, key, node, each, items, scope).await?
    };
    match collect(each, ends, scope) {
        Ok(value) => {
            let recipe = recipe(&json!({ "items": value }), &json!("for_each"));
            let mut leaf = Leaf::new(run, key, node, recipe, Vec::new());
            // Only the items change the workspace. Recording their end must not change its version, so the version is
            // restored below.
            let tree = scope.tree().clone();
            let given = match leaf.begin(scope).await? {
                OpenedStep::Stands(value) => Ok(value),
                OpenedStep::Run(_, attempt) => leaf.end(scope, attempt, Ok(Some(value))).await?,
            };
            scope.set_tree(tree);
            Ok(given)
        }
        Err(failure) => {
            run.fail(key, node, scope, 0, &failure).await?;
            Ok(Err(failure))
        }
    }
}

async fn list(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    each: &Each,
    scope: &ValueScope,
) -> Result<Result<Vec<Value>, Failure>, Interrupt> {
    Ok(match run.eval(key, node, &each.list, scope).await? {
        Ok(Value::Array(items)) => Ok(items),
        Ok(other) => {
            let why = format!("`for_each: {}` is {}, not a list", each.list, kind_of(&other));
            Err(Failure::new(Class::ExpressionError, why))
        }
        Err(error) => Err(Failure::new(Class::ExpressionError, error.to_string())),
    })
}

/// The scope of one item.
fn within(scope: &ValueScope, index: usize, item: Value) -> ValueScope {
    scope.with([("item", item), ("index", Value::from(index))])
}

/// Runs the items in order; each sees the workspace as the previous item left it.
async fn one_by_one(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    items: Vec<Value>,
    scope: &mut ValueScope,
) -> Result<Vec<ItemEnd>, Interrupt> {
    let mut ends: Vec<ItemEnd> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        if node.stops && matches!(ends.last(), Some(Some(Err(_)))) {
            break;
        }
        let mut inner = within(scope, index, item);
        let given = run.once(&key.item(index), node, &mut inner).await?;
        let gained = inner.into_gained();
        if let Some(tree) = &gained.workspace_version {
            scope.set_tree(tree.clone());
        }
        scope.note_failure(gained.failed);
        ends.push(Some(given));
    }
    Ok(ends)
}

async fn side_by_side(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    each: &Each,
    items: Vec<Value>,
    scope: &mut ValueScope,
) -> Result<Vec<ItemEnd>, Interrupt> {
    let branch = |(index, item): (usize, Value)| -> Branch<'_> {
        let mut inner = within(scope, index, item);
        let key = key.item(index);
        async move {
            let given = run.once(&key, node, &mut inner).await?;
            let flow = if given.is_err() && node.stops { RunFlow::Halt } else { RunFlow::Go };
            let gained = ScopeDelta { value: Some(given), workspace_version: None, ..inner.into_gained() };
            Ok(BranchOutcome::Ended(Box::new(gained), flow))
        }
        .boxed()
    };
    let branches: Vec<Branch<'_>> = items.into_iter().enumerate().map(branch).collect();
    let ends = run.durable.branches(key.clone(), branches, each.limit).await?;
    let mut items = Vec::with_capacity(ends.len());
    for end in ends {
        items.push(match end {
            BranchOutcome::Ended(gained, _) => {
                scope.note_failure(gained.failed);
                gained.value
            }
            BranchOutcome::Dropped | BranchOutcome::NotBegun => None,
        });
    }
    Ok(items)
}

/// Collects the values of all items, or returns the failure of the step.
fn collect(each: &Each, ends: Vec<ItemEnd>, scope: &mut ValueScope) -> Result<Value, Failure> {
    let failures: Vec<(usize, &Failure)> = ends
        .iter()
        .enumerate()
        .filter_map(|(index, end)| match end {
            Some(Err(failure)) => Some((index, failure)),
            Some(Ok(_)) | None => None,
        })
        .collect();
    if each.records {
        if let Some((index, failure)) = failures.first() {
            scope.note_failure(Some(of_items(failures.len(), ends.len(), *index, failure)));
        }
        return Ok(ends.into_iter().enumerate().map(|(index, end)| record(index, end)).collect());
    }
    if let Some((index, failure)) = failures.first() {
        return Err(of_items(failures.len(), ends.len(), *index, failure));
    }
    Ok(ends.into_iter().flatten().filter_map(Result::ok).map(value).collect())
}

fn of_items(failed: usize, all: usize, index: usize, failure: &Failure) -> Failure {
    let why = if failed == 1 {
        format!("item {index} failed: {}", failure.message)
    } else {
        format!("{failed} of {all} items failed; item {index}: {}", failure.message)
    };
    Failure { message: why, ..failure.clone() }
}

fn value(value: Option<Arc<Value>>) -> Value {
    value.map_or(Value::Null, |value| (*value).clone())
}

/// An entry of the output that records the status of each item (`on_error: continue`).
fn record(index: usize, end: ItemEnd) -> Value {
    match end {
        Some(Ok(given)) => json!({ "index": index, "status": "completed", "value": value(given) }),
        Some(Err(failure)) => json!({
            "index": index, "status": "failed", "error": { "class": failure.class, "message": failure.message }
        }),
        None => json!({ "index": index, "status": "cancelled" }),
    }
}
