//! Adds a hint to each recorded failure that tells the user how to continue.

use std::collections::BTreeSet;

use crate::model::failure::RAISE_TIMEOUT;
use crate::model::{Class, Failure, StepKey};
use crate::template::variables;

use super::node::{NodeKind, PlanNode};
use super::plan::Plan;

/// The command that resumes a run.
const RESUME: &str = "`orch pipeline resume`";

/// Returns the failure of a step with a hint on how to continue.
pub(super) fn out_of_step(plan: &Plan, node: &PlanNode, failure: &Failure) -> Failure {
    let hint = failure.hint.clone().or_else(|| words(failure.class, node).map(str::to_owned));
    let others = if is_of_data(failure.class, node) { other_data(plan, node) } else { Vec::new() };
    if others.is_empty() {
        return Failure { hint, ..failure.clone() };
    }
    let resumes = |hint: &str| matches!(node.kind, NodeKind::Write(_)) || hint.contains(RESUME);
    let hint = hint.map(|hint| if resumes(&hint) { hint } else { format!("{hint}, then {RESUME}") });
    let or = if hint.as_ref().is_some_and(|hint| hint.contains(RESUME)) { "; or " } else { "; " };
    let ways: Vec<String> = hint.into_iter().chain([others.join(", or ")]).collect();
    Failure { hint: Some(ways.join(or)), ..failure.clone() }
}

/// Returns the failure of a run whose steps all ended, with a hint on how to continue. `texts` are the expressions that
/// decided; they name artifacts.
pub(super) fn out_of_run<'t>(plan: &Plan, failure: Failure, texts: impl Iterator<Item = &'t str>) -> Failure {
    let names: BTreeSet<String> = texts.flat_map(variables).collect();
    let given = names.iter().filter_map(|name| plan.giver(name)).map(|step| again(&step));
    let correct = "correct the pipeline file and go on with `orch pipeline resume`".to_owned();
    failure.with_hint(std::iter::once(correct).chain(given).collect::<Vec<_>>().join(", or "))
}

/// Whether only other data can help: the results of earlier steps are still valid, so a resume would fail in the same
/// way.
fn is_of_data(class: Class, node: &PlanNode) -> bool {
    match class {
        Class::OutputRejected | Class::Rejected | Class::TemplateError | Class::ExpressionError => true,
        Class::PathRefused | Class::OutputTooLarge | Class::SchemaMismatch => matches!(node.kind, NodeKind::Write(_)),
        _ => false,
    }
}

/// The ways in which the user can change the data that the step received.
fn other_data(plan: &Plan, node: &PlanNode) -> Vec<String> {
    let names = || node.inputs.iter().map(|input| input.name.as_str());
    let edits = names()
        .filter_map(|name| plan.shown(name))
        .map(|path| format!("edit `{path}` in the workspace and go on with `orch pipeline resume --accept-changed`"));
    let given = names().filter_map(|name| plan.giver(name));
    let from: BTreeSet<StepKey> = match &node.kind {
        NodeKind::Write(write) if !write.from.is_empty() => {
            write.from.iter().map(|step| plan.runs_once(step)).collect()
        }
        _ => given.collect(),
    };
    edits.chain(from.iter().map(again)).collect()
}

fn again(step: &StepKey) -> String {
    format!("let `{step}` run again: `orch pipeline resume --from {step}`")
}

/// The hint for a failure that has none of its own.
fn words(class: Class, node: &PlanNode) -> Option<&'static str> {
    let asks = matches!(node.kind, NodeKind::Agent(_));
    Some(match class {
        Class::RateLimited => "wait until the provider takes requests again, or name another model with --model",
        Class::ProviderUnavailable => "wait until the provider answers again, or name another model with --model",
        Class::Timeout => RAISE_TIMEOUT,
        Class::Auth => "give the provider a key that it accepts, or name another model with --model",
        Class::BadRequest => "correct what was refused, or name another model with --model",
        Class::Refusal => "change the prompt or the task, or name another model with --model",
        Class::EmptyReply => "tell the model in the prompt to answer in its text, or name another model with --model",
        Class::AmbiguousReply => {
            "tell the model in the prompt to give one value, or leave `extract: strict` out of the step: then one of them is taken"
        }
        Class::TemplateError => "correct the template",
        Class::ExpressionError => "correct the expression in the pipeline file",
        Class::AgentError => "see what the program said with `orch runs show --replies`",
        Class::CommandFailed => "see what it wrote with `orch runs show --replies`",
        Class::SchemaMismatch if !asks => "print a value that fits the schema, or correct the schema",
        Class::OutputTooLarge => "have the step give less, or raise its limit",
        Class::Rejected => "`orch pipeline resume` asks again",
        Class::Storage => "look after the disk and the folder",
        _ => return None,
    })
}
