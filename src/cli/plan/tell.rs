//! A forecast in words, at most 80 columns wide but for prompts and names.

use crate::engine::forecast::{CostEstimate, Foreseen, Outlook, PromptEstimate, Prospect, Range, RequestEstimate};
use crate::model::StepKey;
use crate::model::budget::Budget;
use crate::model::event::StepKind;
use crate::model::visible::one_line;
use crate::report::{TerminalStyle, human};

use super::PlanReport;

/// The width of a terminal.
const WIDTH: usize = 80;

/// The whole forecast, or that of one step with its texts.
pub(super) fn text(told: &PlanReport<'_>, prompts: bool, only: Option<&StepKey>, style: TerminalStyle) -> String {
    let mut out = String::new();
    if only.is_none() {
        let description = told.description.unwrap_or_default().trim_end();
        line(&mut out, 0, format!("{}  {description}", style.strong(&told.plan.body.name)).trim_end());
        if !told.open.is_empty() {
            line(&mut out, 0, &format!("left open: {} (give --task or --input)", told.open.join(", ")));
        }
        line(&mut out, 0, "");
    }
    let mut number = 0;
    for step in &told.steps {
        number += usize::from(step.depth() == 0);
        if only.is_some_and(|only| step.step != *only) {
            continue;
        }
        let mark = if step.depth() == 0 { format!("{number}.") } else { "-".to_owned() };
        one(&mut out, step, &mark, style);
        if prompts || only.is_some() {
            step.texts.iter().for_each(|text| words(&mut out, step, text, style));
        }
    }
    if only.is_none() {
        ending(&mut out, told, style);
    }
    out
}

fn line(out: &mut String, indent: usize, text: &str) {
    if !text.is_empty() {
        out.push_str(&" ".repeat(indent));
    }
    out.push_str(&one_line(text));
    out.push('\n');
}

/// A text with its own lines.
fn block(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn one(out: &mut String, step: &Foreseen, mark: &str, style: TerminalStyle) {
    let indent = step.depth() * 3;
    let below = indent + 3;
    let (what, flow) = (what(step), flow(step));
    let head = format!("{mark:<2} {}  {what}", style.strong(step.step.last()));
    let width = below + step.step.last().chars().count() + 2 + what.chars().count();
    if flow.is_empty() || width + 2 + flow.chars().count() > WIDTH {
        line(out, indent, &head);
        line_if(out, below, (!flow.is_empty()).then_some(flow));
    } else {
        line(out, indent, &format!("{head}, {flow}"));
    }
    line_if(out, below, step.each.clone());
    line_if(out, below, fate(step, style));
    let runs = step.times.most != Some(0);
    if let Some(asks) = step.asks.as_ref().filter(|_| runs) {
        line(out, below, &style.dim(asked(asks)));
        line_if(
            out,
            below,
            asks.too_long_for.map(|window| {
                let note = "with what is not known yet, it may be too long for the model";
                format!("{} {note}: {} tokens with the reply", style.warn("note:"), human::count(window))
            }),
        );
    }
}

/// What a step reads and gives.
fn flow(step: &Foreseen) -> String {
    let reads = (!step.reads.is_empty()).then(|| format!("reads {}", step.reads.join(", ")));
    let gives = step.output.as_ref().map(|output| format!("gives {output}"));
    reads.into_iter().chain(gives).collect::<Vec<_>>().join(", ")
}

fn line_if(out: &mut String, indent: usize, text: Option<String>) {
    if let Some(text) = text {
        line(out, indent, &text);
    }
}

fn what(step: &Foreseen) -> String {
    match (step.kind, &step.asks) {
        (StepKind::Agent, Some(asks)) => {
            let models: Vec<String> = asks.models.iter().map(ToString::to_string).collect();
            format!("asks {} ({})", asks.agent, models.join(", else "))
        }
        (StepKind::Agent, None) => "asks an agent".to_owned(),
        (StepKind::Command, _) => "runs a command".to_owned(),
        (StepKind::Write, _) => "writes files".to_owned(),
        (StepKind::Approve, _) => "asks a person".to_owned(),
        (StepKind::Parallel, _) => "side by side".to_owned(),
        (StepKind::Repeat, _) => "again and again".to_owned(),
        (StepKind::Sequence, _) => "one after another".to_owned(),
        (StepKind::Pipeline, _) => "calls a pipeline".to_owned(),
    }
}

fn fate(step: &Foreseen, style: TerminalStyle) -> Option<String> {
    let times = step.times != Range::exactly(1);
    let often = |step: &Foreseen| format!("runs {} times", range(step.times));
    let kept = (step.kept > 0 && step.prospect != Prospect::Kept)
        .then(|| format!("{} of them reused: asked the same by an earlier run", step.kept));
    let said = match &step.prospect {
        Prospect::Kept => Some(format!("{} asked the same by an earlier run", style.good("reused:"))),
        Prospect::Skipped(why) => Some(format!("{} {why}", style.dim("skipped:"))),
        Prospect::Fails(why) => Some(format!("{} {why}", style.bad("fails:"))),
        Prospect::MayRun(why) if step.times == (Range { least: 0, most: Some(1) }) => Some(format!("may run: {why}")),
        Prospect::MayRun(why) => Some(format!("{}: {why}", often(step))),
        Prospect::Runs => times.then(|| often(step)),
    };
    match (said, kept) {
        (Some(said), Some(kept)) => Some(format!("{said}, {kept}")),
        (said, kept) => said.or(kept),
    }
}

fn asked(asks: &RequestEstimate) -> String {
    if asks.program {
        return "a program: what it asks of its model is its own affair".to_owned();
    }
    numbers(asks.calls, asks.input, asks.output, asks.cost)
}

fn numbers(calls: Range, input: Range, output: Range, cost: Option<CostEstimate>) -> String {
    let plural = if calls == Range::exactly(1) { "" } else { "s" };
    let cost = cost.map_or_else(|| "cost unknown".to_owned(), money);
    format!("{} call{plural}; tokens {} in, {} out; {cost}", range(calls), range(input), range(output))
}

/// `3`, `1-3`, `2 or more`.
fn range(range: Range) -> String {
    match range.most {
        Some(most) if most == range.least => human::count(most),
        Some(most) => format!("{}-{}", human::count(range.least), human::count(most)),
        None => format!("{} or more", human::count(range.least)),
    }
}

fn money(cost: CostEstimate) -> String {
    let cents = |usd: f64| if usd < 0.000_05 { "$0".to_owned() } else { human::money(usd) };
    match cost.most {
        Some(most) if most <= 0.0 => "no charge".to_owned(),
        Some(most) => format!("{}-{}", cents(cost.least), cents(most)),
        None => format!("{} or more", cents(cost.least)),
    }
}

/// What all steps take: calls, tokens in, tokens out, dollars.
pub(super) fn total(steps: &[Foreseen]) -> (Range, Range, Range, Option<CostEstimate>) {
    let zero = Range::exactly(0);
    let mut sum = (zero, zero, zero, Some(CostEstimate { least: 0.0, most: Some(0.0) }));
    for asks in steps.iter().filter_map(|step| step.asks.as_ref()) {
        sum.0 = sum.0.plus(asks.calls);
        sum.1 = sum.1.plus(asks.input);
        sum.2 = sum.2.plus(asks.output);
        sum.3 = sum.3.zip(asks.cost).map(|(sum, cost)| sum.plus(cost));
    }
    sum
}

fn ending(out: &mut String, told: &PlanReport<'_>, style: TerminalStyle) {
    line(out, 0, "");
    let (calls, input, output, cost) = total(&told.steps);
    if calls.most != Some(0) {
        line(out, 0, &format!("{}  {}", style.strong("total"), numbers(calls, input, output, cost)));
        line(out, 7, &style.dim("most: every re-ask, round and item; failed requests are not counted"));
    }
    for allowance in &told.allowances {
        let whose = &allowance.holder;
        let verdict = match &allowance.outlook {
            Outlook::Enough => style.good("enough, whatever the replies are"),
            Outlook::MayRunOut(step) => format!("{} at step {step}", style.warn("may be used up")),
            Outlook::RunsOut(step) => format!("{} for step {step}", style.bad("not enough")),
        };
        line(out, 0, &format!("{} of {whose}, {}: {verdict}", style.strong("budget"), limit(&allowance.limit)));
    }
    for (variable, model) in &told.missing {
        line(out, 0, &format!("{} {variable} is not set; {model} needs it", style.warn("note:")));
    }
    for disclosure in told.disclosures.all() {
        let way_out = if disclosure.needs_trust() && !told.trusted { "; `orch trust` agrees to it" } else { "" };
        line(out, 0, &format!("{} {disclosure}{way_out}", style.warn("note:")));
    }
}

fn limit(limit: &Budget) -> String {
    let usd = limit.usd.map(|usd| format!("${usd:.2}"));
    let tokens = limit.tokens.map(|tokens| format!("{} tokens", human::count(tokens)));
    let seconds = limit.seconds.map(|seconds| format!("{seconds} s (time is not foreseen)"));
    [usd, tokens, seconds].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A text of a step under a line that says what it is.
fn words(out: &mut String, step: &Foreseen, text: &PromptEstimate, style: TerminalStyle) {
    let state = match (&text.text, text.exact) {
        (Err(_), _) => ", not known yet",
        (Ok(_), true) => ", word for word",
        (Ok(_), false) => ", as far as it is known",
    };
    line(out, 0, "");
    line(out, 0, &style.dim(format!("---- {} of {}{state}", text.what, step.step)));
    match &text.text {
        Ok(text) => block(out, text.trim_end()),
        Err(why) => block(out, why),
    }
    line(out, 0, &style.dim("----"));
}
