//! The budgets of a plan: of steps, of agents, and of called pipelines.

use indexmap::IndexMap;

use crate::model::StepKey;
use crate::model::budget::{Budget, BudgetScope, Limit};

use super::node::{NodeKind, PlanBody, PlanNode};

/// Collects the budgets of a pipeline's steps and agents. An agent's budget covers all steps of the agent in the same
/// file, and the steps of the pipelines that its model calls.
pub(super) fn collect_budgets(body: &PlanBody, parent: Option<&StepKey>, limits: &mut Vec<Limit>) {
    fn collect_node<'a>(
        node: &'a PlanNode,
        parent: Option<&StepKey>,
        agents: &mut AgentBudgets<'a>,
        limits: &mut Vec<Limit>,
    ) {
        let step = StepKey::child_of(parent, &node.id);
        limits.extend(node.budget.clone().map(|budget| (BudgetScope::Step(step.clone()), budget)));
        match &node.kind {
            NodeKind::Agent(agent) => {
                if let Some(budget) = &agent.budget {
                    let covered = &mut agents.entry(agent.agent.as_str()).or_insert((budget, Vec::new())).1;
                    collect_keys(node, &step, covered);
                }
                agent.pipelines.iter().for_each(|called| collect_node(called, Some(&step), agents, limits));
            }
            NodeKind::Pipeline(call) => {
                limits.extend(call.body.budget.clone().map(|budget| (BudgetScope::Step(step.clone()), budget)));
                collect_budgets(&call.body, Some(&step), limits);
            }
            NodeKind::Command(_)
            | NodeKind::Call(_)
            | NodeKind::Write(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_) => {
                node.children().for_each(|child| collect_node(child, Some(&step), agents, limits));
            }
        }
    }
    let mut agents = AgentBudgets::new();
    body.nodes.iter().chain(&body.finally).for_each(|node| collect_node(node, parent, &mut agents, limits));
    limits.extend(
        agents.into_iter().map(|(name, (budget, steps))| (BudgetScope::Agent(name.to_owned(), steps), budget.clone())),
    );
}

type AgentBudgets<'a> = IndexMap<&'a str, (&'a Budget, Vec<StepKey>)>;

/// Collects the keys of a step and of all steps inside it.
fn collect_keys(node: &PlanNode, step: &StepKey, keys: &mut Vec<StepKey>) {
    keys.push(step.clone());
    node.children().for_each(|child| collect_keys(child, &step.child(&child.id), keys));
}
