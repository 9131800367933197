//! Reports CLI agents that do not report what a budget limits: orch refuses to start such a run, or stops it after the
//! agent's first turn.

use crate::catalog;
use crate::config::{Project, child};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::budget::{Budget, Unpriced, Unreported};
use crate::model::step::Access;
use crate::model::{Agent, ProgramKind, Step, Usage};

use super::models::{StrictLimits, span};

const NO_ESTIMATES: &str = ", and a budget says `unreported: refuse`";

/// What the budgets that apply to a step require from its CLI agent.
struct BudgetNeeds {
    tokens: bool,
    usd: bool,
    unpriced: bool,
    refuses: bool,
}

/// Checks each step with a CLI agent against the budgets that apply to it.
pub(super) fn check(project: &Project, steps: &[(String, &Step)]) -> Vec<Diagnostic> {
    let held = |accepts: fn(&Budget) -> bool| StrictLimits::of(project, steps, accepts);
    let tokens = held(|budget| budget.tokens.is_some());
    let usd = held(|budget| budget.usd.is_some());
    let unpriced = held(|budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow));
    let refuses = held(|budget| budget.unreported == Some(Unreported::Refuse));
    let mut found = Vec::new();
    for (at, step) in steps {
        let Some((name, agent)) = step.agent.as_ref().and_then(|name| project.pipeline.agents.get_key_value(name))
        else {
            continue;
        };
        let Some(kind) = agent.kind() else { continue };
        let own = |accepts: fn(&Budget) -> bool| agent.budget.as_ref().is_some_and(accepts);
        let limits = BudgetNeeds {
            tokens: tokens.holds(at) || own(|budget| budget.tokens.is_some()),
            usd: usd.holds(at) || own(|budget| budget.usd.is_some()),
            unpriced: unpriced.holds(at)
                || own(|budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow)),
            refuses: refuses.holds(at) || own(|budget| budget.unreported == Some(Unreported::Refuse)),
        };
        let problems = [unreported(name, agent, kind, &limits), unpriced_program(project, name, agent, &limits)];
        let place = span(project, &child("/agents", name));
        found.extend(problems.into_iter().flatten().map(|problem| problem.at(&project.document.file, place.clone())));
    }
    found
}

/// Reports a CLI agent that does not, or may not, report its usage under a budget that limits tokens, or that accepts
/// no estimates.
fn unreported(name: &str, agent: &Agent, kind: ProgramKind, limits: &BudgetNeeds) -> Option<Diagnostic> {
    let says = match kind {
        ProgramKind::Command => "does not report",
        ProgramKind::Acp => "may not report",
        ProgramKind::Claude | ProgramKind::Codex => return None,
    };
    let estimate = agent.estimate.unwrap_or_default();
    let (unit, what) = if limits.tokens && (limits.refuses || estimate.tokens.is_none()) {
        ("tokens", "its tokens, and there is a budget of tokens")
    } else if limits.usd && limits.refuses && estimate.usd.is_some() {
        ("usd", "what it costs, and there is a budget in dollars")
    } else {
        return None;
    };
    let (why, allow) =
        if limits.refuses { (NO_ESTIMATES, " and `unreported: estimate` in the budget") } else { ("", "") };
    let help = format!("say under `estimate: {{ {unit}: … }}` of the agent what one turn takes at most{allow}");
    Some(Diagnostic::warning(Code::NoUsage, format!("the program of agent `{name}` {says} {what}{why}")).help(help))
}

/// Reports a CLI agent without a known price under a budget that limits money.
fn unpriced_program(project: &Project, name: &str, agent: &Agent, limits: &BudgetNeeds) -> Option<Diagnostic> {
    let program = agent.program(Access::None)?;
    if !limits.unpriced || program.tells_cost() || agent.estimate.is_some_and(|estimate| estimate.usd.is_some()) {
        return None;
    }
    let one = Usage { input: 1, output: 1, ..Usage::default() };
    let priced = |model| project.settings.prices(&model).is_some() || catalog::cost(&model, &one).is_some();
    if program.priced_as().is_some_and(priced) {
        return None;
    }
    let message = format!("the program of agent `{name}` has no known price, and there is a budget in dollars");
    let help = "say under `estimate: { usd: … }` of the agent what one turn costs at most, or say `unpriced: allow` in the budget";
    Some(Diagnostic::warning(Code::NoPrice, message).help(help))
}
