//! Adds to each recorded failure a hint on how the user can continue.

use std::collections::BTreeSet;

use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::{Failure, FailureClass, StepKey};
use crate::template::variables;

use super::node::{NodeKind, PlanNode};
use super::plan::Plan;

/// The command that resumes a run.
const RESUME: &str = "`orch pipeline resume`";

/// Returns the failure of a step with a hint on how to continue.
pub(super) fn with_step_hint(plan: &Plan, node: &PlanNode, failure: &Failure) -> Failure {
    let general_hint = || call_hint(failure.class, node).or_else(|| default_hint(failure.class, node));
    let hint = failure.hint.clone().or_else(|| general_hint().map(str::to_owned));
    let alternatives = if needs_other_data(failure.class, node) { data_hints(plan, node) } else { Vec::new() };
    if alternatives.is_empty() {
        return Failure { hint, ..failure.clone() };
    }
    let leads_to_resume = |hint: &str| matches!(node.kind, NodeKind::Write(_)) || hint.contains(RESUME);
    let hint = hint.map(|hint| if leads_to_resume(&hint) { hint } else { format!("{hint}, then run {RESUME}") });
    let separator = if hint.as_ref().is_some_and(|hint| hint.contains(RESUME)) { "; or " } else { "; " };
    let hints: Vec<String> = hint.into_iter().chain([alternatives.join(", or ")]).collect();
    Failure { hint: Some(hints.join(separator)), ..failure.clone() }
}

/// Returns the failure of a run after its last step, with a hint on how to continue. `expressions` are the expressions
/// that caused the failure; the hint names the steps that produce their artifacts.
pub(super) fn with_run_hint<'t>(plan: &Plan, failure: Failure, expressions: impl Iterator<Item = &'t str>) -> Failure {
    let names: BTreeSet<String> = expressions.flat_map(variables).collect();
    let rerun_hints = names.iter().filter_map(|name| plan.producer(name)).map(|step| rerun_hint(&step));
    let correction = "correct the pipeline file and run `orch pipeline resume`".to_owned();
    failure.with_hint(std::iter::once(correction).chain(rerun_hints).collect::<Vec<_>>().join(", or "))
}

/// Whether the step can succeed only with other data. A resume alone would reuse the same results of earlier steps and
/// fail in the same way.
fn needs_other_data(class: FailureClass, node: &PlanNode) -> bool {
    match class {
        FailureClass::OutputRejected
        | FailureClass::Rejected
        | FailureClass::TemplateError
        | FailureClass::ExpressionError => true,
        FailureClass::PathRefused | FailureClass::OutputTooLarge | FailureClass::SchemaMismatch => {
            matches!(node.kind, NodeKind::Write(_))
        }
        _ => false,
    }
}

/// The hints on how the user can change the data that the step received.
fn data_hints(plan: &Plan, node: &PlanNode) -> Vec<String> {
    let edit_hints = node
        .read_artifacts()
        .filter_map(|name| plan.artifact_path(name))
        .map(|path| format!("edit `{path}` in the workspace and run `orch pipeline resume --accept-changed`"));
    let producers = node.read_artifacts().filter_map(|name| plan.producer(name));
    let sources: BTreeSet<StepKey> = match &node.kind {
        NodeKind::Write(write) if !write.source_steps.is_empty() => {
            write.source_steps.iter().map(|step| plan.restart_point(step)).collect()
        }
        _ => producers.collect(),
    };
    edit_hints.chain(sources.iter().map(rerun_hint)).collect()
}

fn rerun_hint(step: &StepKey) -> String {
    format!("run `{step}` again: `orch pipeline resume --from {step}`")
}

/// The hint for a failed call of a tool, whose failure has another cause than the same one of a request to a model.
fn call_hint(class: FailureClass, node: &PlanNode) -> Option<&'static str> {
    if !matches!(node.kind, NodeKind::Call(_)) {
        return None;
    }
    match class {
        FailureClass::ProviderUnavailable => Some("check that the server of the tool runs and can be reached"),
        FailureClass::Auth => Some("set the variables that the server of the tool needs"),
        FailureClass::BadRequest => Some("correct `call` of the step"),
        FailureClass::AgentError => Some("see the output of the server in the message"),
        _ => None,
    }
}

/// The hint for a failure without a hint of its own.
fn default_hint(class: FailureClass, node: &PlanNode) -> Option<&'static str> {
    let calls_agent = matches!(node.kind, NodeKind::Agent(_));
    Some(match class {
        FailureClass::RateLimited => {
            "wait until the provider accepts requests again, or name another model with --model"
        }
        FailureClass::ProviderUnavailable => {
            "wait until the provider is available again, or name another model with --model"
        }
        FailureClass::Timeout => RAISE_TIMEOUT_HINT,
        FailureClass::Auth => "set a key that the provider accepts, or name another model with --model",
        FailureClass::BadRequest => "correct the refused request, or name another model with --model",
        FailureClass::Refusal => "change the prompt or the task, or name another model with --model",
        FailureClass::EmptyReply => {
            "instruct the model in the prompt to answer in its text, or name another model with --model"
        }
        FailureClass::AmbiguousReply => {
            "instruct the model in the prompt to return one value, or remove `extract: strict` from the step, so that orch selects one"
        }
        FailureClass::TemplateError => "correct the template",
        FailureClass::ExpressionError => "correct the expression in the pipeline file",
        FailureClass::AgentError => "see the output of the agent with `orch runs show --replies`",
        FailureClass::CommandFailed => "see its output with `orch runs show --replies`",
        FailureClass::ToolFailed => "see its result with `orch runs show --replies`",
        FailureClass::SchemaMismatch if !calls_agent => "print a value that fits the schema, or correct the schema",
        FailureClass::OutputTooLarge => "reduce the output of the step, or raise its limit",
        FailureClass::Rejected => "`orch pipeline resume` requests the approval again",
        FailureClass::Storage => "check the disk and its folder",
        _ => return None,
    })
}
