//! Formats a forecast as JSON.

use serde_json::{Value, json};

use crate::engine::forecast::{
    CostEstimate, LimitStatus, Prediction, PromptEstimate, Range, RequestEstimate, StepForecast,
};
use crate::model::StepKey;

use super::PlanReport;
use super::text::sum_requests;

/// Formats the forecast of the whole run, or of one step.
pub(super) fn plan_json(report: &PlanReport<'_>, selected_step: Option<&StepKey>) -> Value {
    let steps = report.steps.iter().filter(|step| selected_step.is_none_or(|key| step.step == *key));
    let (calls, input, output, cost) = sum_requests(&report.steps);
    let budgets = report.budget_forecasts.iter().map(|forecast| {
        let (status, step_key) = match &forecast.status {
            LimitStatus::Enough => ("enough", None),
            LimitStatus::MayRunOut(step) => ("may_run_out", Some(step)),
            LimitStatus::RunsOut(step) => ("runs_out", Some(step)),
        };
        let (scope, limit) = (forecast.scope.plain_name(), &forecast.limit);
        json!({ "scope": scope, "limit": limit, "budget_status": status, "at": step_key })
    });
    json!({
        "pipeline": report.plan.body.name,
        "missing_inputs": report.missing_inputs,
        "steps": steps.map(step_json).collect::<Value>(),
        "total": { "calls": range_json(calls), "tokens_in": range_json(input), "tokens_out": range_json(output), "usd": cost.map(cost_json) },
        "budgets": budgets.collect::<Value>(),
        "missing_keys": report.missing_keys.keys().collect::<Vec<_>>(),
        "missing_requirements": report.missing_requirements.iter().map(|missing| &missing.message).collect::<Vec<_>>(),
        "disclosures": report.disclosures.to_json(),
        "variables": report.variables.to_json(),
        "trusted": report.is_trusted,
    })
}

fn step_json(step: &StepForecast) -> Value {
    let (status, reason) = match &step.prediction {
        Prediction::Runs => ("runs", None),
        Prediction::MayRun(reason) => ("may_run", Some(reason)),
        Prediction::Skipped(reason) => ("skipped", Some(reason)),
        Prediction::Fails(reason) => ("fails", Some(reason)),
        Prediction::Reused => ("reused", None),
    };
    json!({
        "step": step.step,
        "kind": step.kind,
        "status": status,
        "reason": reason,
        "executions": range_json(step.executions),
        "reused": step.reused,
        "repetition": step.repetition,
        "reads": step.reads,
        "output": step.output,
        "path": step.path,
        "requests": step.requests.as_ref().map(requests_json),
        "prompts": step.texts.iter().map(prompt_json).collect::<Value>(),
    })
}

fn requests_json(requests: &RequestEstimate) -> Value {
    json!({
        "agent": requests.agent,
        "models": requests.models.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "is_cli_agent": requests.is_cli_agent,
        "calls": range_json(requests.calls),
        "tokens_in": range_json(requests.input),
        "tokens_out": range_json(requests.output),
        "usd": requests.cost.map(cost_json),
        "exceeded_context_window": requests.exceeded_context_window,
    })
}

fn prompt_json(prompt: &PromptEstimate) -> Value {
    match &prompt.text {
        Ok(text) => json!({ "label": prompt.label, "exact": prompt.exact, "text": text }),
        Err(reason) => json!({ "label": prompt.label, "exact": false, "reason": reason }),
    }
}

/// Formats a range. `max` is null if there is no upper bound.
fn range_json(range: Range) -> Value {
    json!({ "min": range.min, "max": range.max })
}

fn cost_json(cost: CostEstimate) -> Value {
    json!({ "min": cost.min, "max": cost.max })
}
