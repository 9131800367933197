//! The branches of groups: in this process, where they share the values in scope, and as data for another process.

use std::sync::OnceLock;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::durable::{
    BranchOutcome, BranchSpec, Durable, GroupBranches, Interrupt, RunFlow, ScopeDelta, ScopeItem, ScopeSnapshot,
};
use crate::model::{Failure, StepKey};

use super::interpret::Interpreter;
use super::node::PlanNode;
use super::plan::Plan;
use super::plan_remaker::{PlanRemaker, sent};
use super::scope::ValueScope;

/// Runs a branch that another process has created, with a plan of the same digest. The outcome is for the group of the
/// branch.
///
/// # Errors
/// `plan` is not the plan of the branch, `durable` does not have an artifact to which the branch refers, or the run
/// stops.
pub async fn run_branch(plan: &Plan, durable: &dyn Durable, spec: BranchSpec) -> Result<BranchOutcome, Interrupt> {
    run_spec(Interpreter { durable, plan, remaker: None }, spec).await
}

/// The branches of a group, which the interpreter creates one by one.
pub(super) struct PlannedBranches<'a> {
    interpreter: Interpreter<'a>,
    /// The key of the group.
    group: &'a StepKey,
    /// What the group sees.
    scope: &'a ValueScope,
    /// The data of `scope`, after the first branch has needed it.
    snapshot: OnceLock<ScopeSnapshot>,
    work: GroupWork<'a>,
}

enum GroupWork<'a> {
    /// The steps of a `parallel`.
    Steps(&'a [PlanNode]),
    /// The step with `for_each`, and its items.
    Items(&'a PlanNode, Vec<Value>),
}

/// What a branch runs.
enum BranchWork<'a> {
    /// A step of a `parallel`.
    Step(&'a PlanNode),
    /// An item of the step with `for_each`.
    Item(&'a PlanNode, ScopeItem),
}

impl<'a> PlannedBranches<'a> {
    /// The steps of a `parallel`.
    pub(super) fn of_steps(
        interpreter: Interpreter<'a>,
        group: &'a StepKey,
        nodes: &'a [PlanNode],
        scope: &'a ValueScope,
    ) -> Self {
        Self { interpreter, group, scope, snapshot: OnceLock::new(), work: GroupWork::Steps(nodes) }
    }

    /// The items of a step with `for_each`.
    pub(super) fn of_items(
        interpreter: Interpreter<'a>,
        group: &'a StepKey,
        node: &'a PlanNode,
        items: Vec<Value>,
        scope: &'a ValueScope,
    ) -> Self {
        Self { interpreter, group, scope, snapshot: OnceLock::new(), work: GroupWork::Items(node, items) }
    }

    /// The key of a branch, and what it runs.
    fn branch(&self, index: usize) -> Result<(StepKey, BranchWork<'a>), Interrupt> {
        let branch = match &self.work {
            GroupWork::Steps(nodes) => {
                nodes.get(index).map(|node| (self.group.child(&node.id), BranchWork::Step(node)))
            }
            GroupWork::Items(node, items) => items.get(index).map(|item| {
                let item = ScopeItem { item: item.clone(), index: Value::from(index) };
                (self.group.item(index), BranchWork::Item(node, item))
            }),
        };
        branch.ok_or_else(|| defect(format!("the group `{}` has no branch {index}", self.group)))
    }

    /// Runs a branch as another process does: sends its data as JSON, makes the plan again, and receives the outcome.
    async fn run_sent(&self, index: usize, remaker: &PlanRemaker) -> Result<BranchOutcome, Interrupt> {
        let spec: BranchSpec = sent(&self.spec(index)?)?;
        let plan = remaker.plan(self.interpreter.plan)?;
        let outcome = run_spec(Interpreter { plan, ..self.interpreter }, spec).await;
        sent(&outcome)?
    }
}

impl GroupBranches for PlannedBranches<'_> {
    fn count(&self) -> usize {
        match &self.work {
            GroupWork::Steps(nodes) => nodes.len(),
            GroupWork::Items(_, items) => items.len(),
        }
    }

    fn spec(&self, index: usize) -> Result<BranchSpec, Interrupt> {
        let (key, work) = self.branch(index)?;
        let item = if let BranchWork::Item(_, item) = work { Some(item) } else { None };
        let plan = self.interpreter.plan.digest().map_err(Interrupt::Storage)?.clone();
        let scope = self.snapshot.get_or_init(|| self.scope.to_snapshot()).clone();
        Ok(BranchSpec { plan, node: key.declared_key(), key, item, scope })
    }

    fn run(&self, index: usize) -> BoxFuture<'_, Result<BranchOutcome, Interrupt>> {
        async move {
            if let Some(remaker) = self.interpreter.remaker {
                return self.run_sent(index, remaker).await;
            }
            let (key, work) = self.branch(index)?;
            run_work(self.interpreter, &key, work, self.scope).await
        }
        .boxed()
    }
}

/// Runs a branch from its data.
async fn run_spec(interpreter: Interpreter<'_>, spec: BranchSpec) -> Result<BranchOutcome, Interrupt> {
    let BranchSpec { plan: planned, node: step, key, item, scope } = spec;
    let digest = interpreter.plan.digest().map_err(Interrupt::Storage)?;
    if *digest != planned {
        let message =
            format!("the branch `{key}` belongs to the plan {}, and not to {}", planned.short(), digest.short());
        return Err(defect(message));
    }
    let node = interpreter.plan.node(&step);
    let node = node.ok_or_else(|| defect(format!("the plan of the branch `{key}` has no step `{step}`")))?;
    let work = match item {
        Some(_) if node.for_each.is_none() => {
            return Err(defect(format!("the branch `{key}` has an item, and the step `{step}` has no `for_each`")));
        }
        Some(item) => BranchWork::Item(node, item),
        None => BranchWork::Step(node),
    };
    let scope = ValueScope::from_snapshot(scope, interpreter.durable).await?;
    run_work(interpreter, &key, work, &scope).await
}

/// Runs a branch of a group that sees `scope`.
async fn run_work(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    work: BranchWork<'_>,
    scope: &ValueScope,
) -> Result<BranchOutcome, Interrupt> {
    match work {
        BranchWork::Step(node) => {
            let mut inner = scope.child_scope();
            let flow = interpreter.run_step(key, node, &mut inner).await?;
            Ok(BranchOutcome::Ended(Box::new(inner.into_delta()), flow))
        }
        BranchWork::Item(node, ScopeItem { item, index }) => {
            let mut inner = scope.for_item(item, index);
            let result = interpreter.run_step_body(key, node, &mut inner).await?;
            let flow = if result.is_err() && node.stops_on_failure { RunFlow::Halt } else { RunFlow::Continue };
            let item_result = Some(result.map(Option::unwrap_or_default));
            let delta = ScopeDelta { item_result, workspace_version: None, ..inner.into_delta() };
            Ok(BranchOutcome::Ended(Box::new(delta), flow))
        }
    }
}

/// The reason to stop if a branch does not fit its plan.
fn defect(message: String) -> Interrupt {
    Interrupt::Storage(Failure::defect(message))
}
