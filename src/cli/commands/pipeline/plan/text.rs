//! Formats a forecast as text. A line has at most 80 columns, except for prompts and long names.

use crate::engine::forecast::{
    CostEstimate, LimitStatus, Prediction, PromptEstimate, Range, RequestEstimate, StepForecast,
};
use crate::model::StepKey;
use crate::model::budget::Budget;
use crate::model::event::StepKind;
use crate::model::visible::escape_line_breaks;
use crate::report::{TerminalStyle, human};

use super::PlanReport;

/// The maximum width of a line.
const MAX_WIDTH: usize = 80;

/// Formats the forecast of the whole run, or of one step with its prompts.
pub(super) fn render_plan(
    report: &PlanReport<'_>,
    show_prompts: bool,
    selected_step: Option<&StepKey>,
    style: TerminalStyle,
) -> String {
    let mut out = String::new();
    if selected_step.is_none() {
        let description = report.description.unwrap_or_default().trim_end();
        push_line(&mut out, 0, format!("{}  {description}", style.bold(&report.plan.body.name)).trim_end());
        if !report.missing_inputs.is_empty() {
            push_line(
                &mut out,
                0,
                &format!("unknown inputs: {} (set them with --task or --input)", report.missing_inputs.join(", ")),
            );
        }
        push_line(&mut out, 0, "");
    }
    let mut number = 0;
    for step in &report.steps {
        number += usize::from(step.depth() == 0);
        if selected_step.is_some_and(|key| step.step != *key) {
            continue;
        }
        let list_marker = if step.depth() == 0 { format!("{number}.") } else { "-".to_owned() };
        push_step(&mut out, step, &list_marker, style);
        if show_prompts || selected_step.is_some() {
            step.texts.iter().for_each(|prompt| push_prompt(&mut out, step, prompt, style));
        }
    }
    if selected_step.is_none() {
        push_totals(&mut out, report, style);
    }
    out
}

fn push_line(out: &mut String, indent: usize, text: &str) {
    if !text.is_empty() {
        out.push_str(&" ".repeat(indent));
    }
    out.push_str(&escape_line_breaks(text));
    out.push('\n');
}

/// Adds a text with several lines, unchanged.
fn push_block(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn push_step(out: &mut String, step: &StepForecast, list_marker: &str, style: TerminalStyle) {
    let indent = step.depth() * 3;
    let detail_indent = indent + 3;
    let (action, artifacts) = (describe_action(step), describe_artifacts(step));
    let heading = format!("{list_marker:<2} {}  {action}", style.bold(step.step.last_segment()));
    let width = detail_indent + step.step.last_segment().chars().count() + 2 + action.chars().count();
    if artifacts.is_empty() || width + 2 + artifacts.chars().count() > MAX_WIDTH {
        push_line(out, indent, &heading);
        push_optional_line(out, detail_indent, (!artifacts.is_empty()).then_some(artifacts));
    } else {
        push_line(out, indent, &format!("{heading}, {artifacts}"));
    }
    push_optional_line(out, detail_indent, step.repetition.clone());
    push_optional_line(out, detail_indent, describe_status(step, style));
    let may_run = step.executions.max != Some(0);
    if let Some(requests) = step.requests.as_ref().filter(|_| may_run) {
        push_line(out, detail_indent, &style.dim(describe_requests(requests)));
        push_optional_line(
            out,
            detail_indent,
            requests.exceeded_context_window.map(|tokens| {
                let note = "the prompt may become too long for the model";
                format!("{} {note}: {} tokens with the reply", style.warning("note:"), human::format_count(tokens))
            }),
        );
    }
}

/// The artifacts that a step reads and produces.
fn describe_artifacts(step: &StepForecast) -> String {
    let reads = (!step.reads.is_empty()).then(|| format!("reads {}", step.reads.join(", ")));
    let produces = step.output.as_ref().map(|output| format!("produces {output}"));
    reads.into_iter().chain(produces).collect::<Vec<_>>().join(", ")
}

fn push_optional_line(out: &mut String, indent: usize, text: Option<String>) {
    if let Some(text) = text {
        push_line(out, indent, &text);
    }
}

fn describe_action(step: &StepForecast) -> String {
    match (step.kind, &step.requests) {
        (StepKind::Agent, Some(requests)) => {
            let models: Vec<String> = requests.models.iter().map(ToString::to_string).collect();
            format!("asks {} ({})", requests.agent, models.join(", or "))
        }
        (StepKind::Agent, None) => "asks an agent".to_owned(),
        (StepKind::Command, _) => "runs a command".to_owned(),
        (StepKind::Call, _) => "calls a tool".to_owned(),
        (StepKind::Write, _) => "writes files".to_owned(),
        (StepKind::Approve, _) => "waits for an approval".to_owned(),
        (StepKind::Parallel, _) => "runs its steps in parallel".to_owned(),
        (StepKind::Repeat, _) => "repeats its steps".to_owned(),
        (StepKind::Sequence, _) => "runs its steps in sequence".to_owned(),
        (StepKind::Pipeline, _) => "calls a pipeline".to_owned(),
    }
}

fn describe_status(step: &StepForecast, style: TerminalStyle) -> Option<String> {
    let runs_once = step.executions == Range::exactly(1);
    let times = || format!("runs {} times", format_range(step.executions));
    let reused = (step.reused > 0 && step.prediction != Prediction::Reused)
        .then(|| format!("{} of them reused from an earlier run", step.reused));
    let status = match &step.prediction {
        Prediction::Reused => Some(format!("{} from an earlier run", style.success("reused"))),
        Prediction::Skipped(reason) => Some(format!("{} {reason}", style.dim("skipped:"))),
        Prediction::Fails(reason) => Some(format!("{} {reason}", style.error("fails:"))),
        Prediction::MayRun(reason) if step.executions == (Range { min: 0, max: Some(1) }) => {
            Some(format!("may run: {reason}"))
        }
        Prediction::MayRun(reason) => Some(format!("{}: {reason}", times())),
        Prediction::Runs => (!runs_once).then(times),
    };
    match (status, reused) {
        (Some(status), Some(reused)) => Some(format!("{status}, {reused}")),
        (status, reused) => status.or(reused),
    }
}

fn describe_requests(requests: &RequestEstimate) -> String {
    if requests.is_cli_agent {
        return "a CLI agent: orch can't predict its requests".to_owned();
    }
    describe_totals(requests.calls, requests.input, requests.output, requests.cost)
}

fn describe_totals(calls: Range, input: Range, output: Range, cost: Option<CostEstimate>) -> String {
    let plural = if calls == Range::exactly(1) { "" } else { "s" };
    let cost = cost.map_or_else(|| "cost unknown".to_owned(), format_cost);
    format!(
        "{} call{plural}; tokens {} in, {} out; {cost}",
        format_range(calls),
        format_estimate(input),
        format_estimate(output)
    )
}

/// Formats a range of tokens: `3`, `1-3`, `at least 2`.
fn format_estimate(range: Range) -> String {
    if range.max.is_some() { format_range(range) } else { format!("at least {}", human::format_count(range.min)) }
}

/// Formats a range: `3`, `1-3`, `2 or more`.
fn format_range(range: Range) -> String {
    match range.max {
        Some(max) if max == range.min => human::format_count(max),
        Some(max) => format!("{}-{}", human::format_count(range.min), human::format_count(max)),
        None => format!("{} or more", human::format_count(range.min)),
    }
}

fn format_cost(cost: CostEstimate) -> String {
    let format_usd = |usd: f64| if usd < 0.000_05 { "$0".to_owned() } else { human::format_usd(usd) };
    match cost.max {
        Some(max_usd) if max_usd <= 0.0 => "no charge".to_owned(),
        Some(max_usd) => format!("{}-{}", format_usd(cost.min), format_usd(max_usd)),
        None => format!("at least {}", format_usd(cost.min)),
    }
}

/// Sums up all steps. Returns the calls, the input tokens, the output tokens and the cost.
pub(super) fn sum_requests(steps: &[StepForecast]) -> (Range, Range, Range, Option<CostEstimate>) {
    let zero = Range::exactly(0);
    let (mut calls, mut input, mut output) = (zero, zero, zero);
    let mut total_cost = Some(CostEstimate { min: 0.0, max: Some(0.0) });
    for requests in steps.iter().filter_map(|step| step.requests.as_ref()) {
        calls = calls.plus(requests.calls);
        input = input.plus(requests.input);
        output = output.plus(requests.output);
        total_cost = total_cost.zip(requests.cost).map(|(total, cost)| total.plus(cost));
    }
    (calls, input, output, total_cost)
}

fn push_totals(out: &mut String, report: &PlanReport<'_>, style: TerminalStyle) {
    push_line(out, 0, "");
    let (calls, input, output, cost) = sum_requests(&report.steps);
    if calls.max != Some(0) {
        push_line(out, 0, &format!("{}  {}", style.bold("total"), describe_totals(calls, input, output, cost)));
        push_line(out, 7, &style.dim("the maximum counts all re-asks, iterations and items, no failed requests"));
    }
    for forecast in &report.budget_forecasts {
        let scope = &forecast.scope;
        let status_text = match &forecast.status {
            LimitStatus::Enough => style.success("enough for every possible reply"),
            LimitStatus::MayRunOut(step) => format!("{} at step `{step}`", style.warning("may be used up")),
            LimitStatus::RunsOut(step) => format!("{} for step `{step}`", style.error("not enough")),
        };
        push_line(
            out,
            0,
            &format!("{} of {scope}, {}: {status_text}", style.bold("budget"), format_limit(&forecast.limit)),
        );
    }
    for (variable, model) in &report.missing_keys {
        push_line(out, 0, &format!("{} {variable} is not set; {model} needs it", style.warning("note:")));
    }
    for requirement in &report.missing_requirements {
        push_line(out, 0, &format!("{} {}", style.warning("note:"), requirement.message));
    }
    for disclosure in report.disclosures.all() {
        let advice = if disclosure.needs_trust() && !report.is_trusted { "; agree with `orch trust`" } else { "" };
        push_line(out, 0, &format!("{} {disclosure}{advice}", style.warning("note:")));
    }
    for variables in report.variables.all() {
        let advice = if report.is_trusted { "" } else { "; agree with `orch trust`" };
        push_line(out, 0, &format!("{} {variables}{advice}", style.warning("note:")));
    }
}

fn format_limit(limit: &Budget) -> String {
    let usd = limit.usd.map(|usd| format!("${usd:.2}"));
    let tokens = limit.tokens.map(|tokens| format!("{} tokens", human::format_count(tokens)));
    let seconds = limit.seconds.map(|seconds| format!("{seconds} s (orch does not predict time)"));
    [usd, tokens, seconds].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Adds a heading and a prompt of a step.
fn push_prompt(out: &mut String, step: &StepForecast, prompt: &PromptEstimate, style: TerminalStyle) {
    let exactness = match (&prompt.text, prompt.exact) {
        (Err(_), _) => ", unknown before the run",
        (Ok(_), true) => ", exact",
        (Ok(_), false) => ", with placeholders",
    };
    push_line(out, 0, "");
    push_line(out, 0, &style.dim(format!("---- {} of {}{exactness}", prompt.label, step.step)));
    match &prompt.text {
        Ok(text) => push_block(out, text.trim_end()),
        Err(reason) => push_block(out, &format!("it depends on values that only the run knows: {reason}")),
    }
    push_line(out, 0, &style.dim("----"));
}
