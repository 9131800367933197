//! A forecast as JSON.

use serde_json::{Value, json};

use crate::engine::forecast::{CostEstimate, Foreseen, Outlook, PromptEstimate, Prospect, Range, RequestEstimate};
use crate::model::StepKey;

use crate::cli::trust::list;

use super::PlanReport;
use super::tell::total;

/// The whole forecast, or that of one step.
pub(super) fn of(told: &PlanReport<'_>, only: Option<&StepKey>) -> Value {
    let steps = told.steps.iter().filter(|step| only.is_none_or(|only| step.step == *only));
    let (calls, input, output, cost) = total(&told.steps);
    let budgets = told.allowances.iter().map(|allowance| {
        let (outlook, at) = match &allowance.outlook {
            Outlook::Enough => ("enough", None),
            Outlook::MayRunOut(step) => ("may_run_out", Some(step)),
            Outlook::RunsOut(step) => ("runs_out", Some(step)),
        };
        json!({ "scope": allowance.holder.to_string(), "limit": allowance.limit, "budget_status": outlook, "at": at })
    });
    json!({
        "pipeline": told.plan.body.name,
        "missing_inputs": told.open,
        "steps": steps.map(step).collect::<Value>(),
        "total": { "calls": range(calls), "tokens_in": range(input), "tokens_out": range(output), "usd": cost.map(usd) },
        "budgets": budgets.collect::<Value>(),
        "missing_keys": told.missing.keys().collect::<Vec<_>>(),
        "disclosures": list(&told.disclosures),
        "trusted": told.trusted,
    })
}

fn step(step: &Foreseen) -> Value {
    let (prospect, why) = match &step.prospect {
        Prospect::Runs => ("runs", None),
        Prospect::MayRun(why) => ("may_run", Some(why)),
        Prospect::Skipped(why) => ("skipped", Some(why)),
        Prospect::Fails(why) => ("fails", Some(why)),
        Prospect::Kept => ("reused", None),
    };
    json!({
        "step": step.step,
        "kind": step.kind,
        "status": prospect,
        "why": why,
        "times": range(step.times),
        "reused": step.kept,
        "each": step.each,
        "reads": step.reads,
        "output": step.output,
        "path": step.path,
        "requests": step.asks.as_ref().map(asks),
        "prompts": step.texts.iter().map(text).collect::<Value>(),
    })
}

fn asks(asks: &RequestEstimate) -> Value {
    json!({
        "agent": asks.agent,
        "models": asks.models.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "program": asks.program,
        "calls": range(asks.calls),
        "tokens_in": range(asks.input),
        "tokens_out": range(asks.output),
        "usd": asks.cost.map(usd),
        "context_window": asks.too_long_for,
    })
}

fn text(text: &PromptEstimate) -> Value {
    match &text.text {
        Ok(words) => json!({ "what": text.what, "exact": text.exact, "text": words }),
        Err(why) => json!({ "what": text.what, "exact": false, "why": why }),
    }
}

/// `max` is null when nothing bounds it.
fn range(range: Range) -> Value {
    json!({ "min": range.least, "max": range.most })
}

fn usd(cost: CostEstimate) -> Value {
    json!({ "min": cost.least, "max": cost.most })
}
