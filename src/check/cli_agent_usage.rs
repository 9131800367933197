//! Finds CLI agents that do not report the units that a budget limits, so that orch refuses to start such a run. Warns
//! about those that may not report them: orch stops such a run after the agent's first turn.

use crate::config::{Project, child_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::step::Access;
use crate::model::{Agent, CliAgentKind, Step};

use super::budgeted_steps::{BudgetedSteps, sample_cost};

/// The end of a message about a budget that refuses estimates.
const REFUSED_ESTIMATES_REASON: &str = ", and a budget sets `unreported: refuse`";

/// The requirements of the budgets that apply to a step, for the CLI agent of the step.
struct BudgetRequirements {
    /// Whether a budget limits tokens.
    limits_tokens: bool,
    /// Whether a budget limits dollars.
    limits_usd: bool,
    /// Whether a budget refuses models without a known price.
    needs_price: bool,
    /// Whether a budget refuses estimates of usage.
    refuses_estimates: bool,
}

/// Checks each step with a CLI agent against the budgets that apply to it: `budgets`, which apply to all steps, and
/// those of the steps and of the agent.
pub(super) fn check(project: &Project, steps: &[(String, &Step)], budgets: &[&Budget]) -> Vec<Diagnostic> {
    let budgeted_steps = |has_property: fn(&Budget) -> bool| BudgetedSteps::new(steps, budgets, has_property);
    let token_limited_steps = budgeted_steps(|budget| budget.tokens.is_some());
    let usd_limited_steps = budgeted_steps(|budget| budget.usd.is_some());
    let steps_that_need_prices =
        budgeted_steps(|budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow));
    let steps_without_estimates = budgeted_steps(|budget| budget.unreported == Some(Unreported::Refuse));
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps {
        let Some((name, agent)) = step.agent.as_ref().and_then(|name| project.pipeline.agents.get_key_value(name))
        else {
            continue;
        };
        let Some(kind) = agent.cli_kind() else { continue };
        let agent_budget_has = |has_property: fn(&Budget) -> bool| agent.budget.as_ref().is_some_and(has_property);
        let requirements = BudgetRequirements {
            limits_tokens: token_limited_steps.contains(pointer) || agent_budget_has(|budget| budget.tokens.is_some()),
            limits_usd: usd_limited_steps.contains(pointer) || agent_budget_has(|budget| budget.usd.is_some()),
            needs_price: steps_that_need_prices.contains(pointer)
                || agent_budget_has(|budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow)),
            refuses_estimates: steps_without_estimates.contains(pointer)
                || agent_budget_has(|budget| budget.unreported == Some(Unreported::Refuse)),
        };
        let findings =
            [unreported_usage(name, agent, kind, &requirements), unknown_price(project, name, agent, &requirements)];
        let agent_span = project.document.spans.value(&child_pointer("/agents", name));
        diagnostics.extend(
            findings
                .into_iter()
                .flatten()
                .map(|diagnostic| diagnostic.with_span(&project.document.file, agent_span.clone())),
        );
    }
    diagnostics
}

/// Reports a CLI agent that does not report its usage, or may not report it, under a budget that limits tokens or
/// refuses estimates.
fn unreported_usage(
    name: &str,
    agent: &Agent,
    kind: CliAgentKind,
    requirements: &BudgetRequirements,
) -> Option<Diagnostic> {
    let verb = match kind {
        CliAgentKind::Command => "does not report",
        CliAgentKind::Acp => "may not report",
        CliAgentKind::Claude | CliAgentKind::Codex => return None,
    };
    let estimate = agent.estimate.unwrap_or_default();
    let (unit, usage) = if requirements.limits_tokens && (requirements.refuses_estimates || estimate.tokens.is_none()) {
        ("tokens", "its tokens, and a budget limits tokens")
    } else if requirements.limits_usd && requirements.refuses_estimates && estimate.usd.is_some() {
        ("usd", "its cost, and a budget limits dollars")
    } else {
        return None;
    };
    let (reason, budget_advice) = if requirements.refuses_estimates {
        (REFUSED_ESTIMATES_REASON, ", and `unreported: estimate` in the budget")
    } else {
        ("", "")
    };
    let help = format!("set the maximum of a turn under `estimate: {{ {unit}: … }}` of the agent{budget_advice}");
    let message = format!("agent `{name}` {verb} {usage}{reason}");
    let diagnostic = match kind {
        CliAgentKind::Command => Diagnostic::error(Code::UsageNotReported, message),
        CliAgentKind::Claude | CliAgentKind::Codex | CliAgentKind::Acp => {
            Diagnostic::warning(Code::UsageNotReported, message)
        }
    };
    Some(diagnostic.with_help(help))
}

/// Reports a CLI agent without a known price under a budget that limits money.
fn unknown_price(
    project: &Project,
    name: &str,
    agent: &Agent,
    requirements: &BudgetRequirements,
) -> Option<Diagnostic> {
    let cli_agent = agent.cli_agent(Access::None)?;
    if !requirements.needs_price
        || cli_agent.always_reports_cost()
        || agent.estimate.is_some_and(|estimate| estimate.usd.is_some())
    {
        return None;
    }
    if cli_agent.price_model().is_some_and(|model| sample_cost(project, &model).is_some()) {
        return None;
    }
    let message = format!("agent `{name}` has no known price, and there is a budget in dollars");
    let help = "set the maximum cost of a turn under `estimate: { usd: … }` of the agent, \
                or set `unpriced: allow` in the budget";
    Some(Diagnostic::error(Code::UnknownPrice, message).with_help(help))
}
