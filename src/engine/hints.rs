//! Adds to each recorded failure a hint on how the user can continue.

use std::collections::BTreeSet;

use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::name_scope::{ENDED_STEPS, PreviousRead};
use crate::model::{Failure, FailureClass, StepKey};
use crate::template::variables;

use super::command::PROJECT_VARIABLE;
use super::node::{NodeKind, PlanNode};
use super::plan::Plan;
use super::scope::ValueScope;

/// The command that resumes a run.
const RESUME: &str = "`orch pipeline resume`";

/// Returns the failure of a step with a hint on how to continue. `scope` contains the values that the step saw.
pub(super) fn with_step_hint(plan: &Plan, node: &PlanNode, scope: &ValueScope, failure: &Failure) -> Failure {
    let general_hint = || match &node.kind {
        NodeKind::Call(_) => call_hint(failure.class).or_else(|| default_hint(failure.class, node)),
        NodeKind::Agent(_) => model_hint(failure.class).or_else(|| default_hint(failure.class, node)),
        _ => default_hint(failure.class, node),
    };
    let hint = failure.hint.clone().or_else(|| general_hint().map(str::to_owned));
    let alternatives = if needs_other_data(failure.class, node) {
        data_hints(plan, node, &possible_causes(node, scope, failure.unusable_values.as_deref()))
    } else {
        Vec::new()
    };
    let failure = Failure { unusable_values: None, ..failure.clone() };
    if alternatives.is_empty() {
        return Failure { hint, ..failure };
    }
    let leads_to_resume = |hint: &str| matches!(node.kind, NodeKind::Write(_)) || hint.contains(RESUME);
    let hint = hint.map(|hint| if leads_to_resume(&hint) { hint } else { format!("{hint}, then run {RESUME}") });
    let separator = if hint.as_ref().is_some_and(|hint| hint.contains(RESUME)) { "; or " } else { "; " };
    let hints: Vec<String> = hint.into_iter().chain([alternatives.join(", or ")]).collect();
    Failure { hint: Some(hints.join(separator)), ..failure }
}

/// Returns the failure of a run after its last step, with a hint on how to continue. `scope` contains the values after
/// the last step. `expressions` are the expressions that may have caused the failure; the hint names the steps that
/// produce their artifacts.
pub(super) fn with_run_hint<'t>(
    plan: &Plan,
    scope: &ValueScope,
    failure: Failure,
    expressions: impl Iterator<Item = &'t str>,
) -> Failure {
    let names: BTreeSet<String> = match &failure.unusable_values {
        None => expressions.flat_map(variables).collect(),
        Some(values) => values.iter().filter_map(|path| path_names(path).into_iter().next()).collect(),
    };
    let producers = names.iter().filter(|name| scope.may_change(name)).filter_map(|name| plan.producer(name));
    let rerun_hints = producers.map(|step| rerun_hint(&step));
    let correction = match &failure.hint {
        Some(hint) => format!("correct the pipeline file ({hint}) and run {RESUME}"),
        None => format!("correct the pipeline file and run {RESUME}"),
    };
    let hint = std::iter::once(correction).chain(rerun_hints).collect::<Vec<_>>().join(", or ");
    Failure { unusable_values: None, ..failure }.with_hint(hint)
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

/// An artifact that may have caused the failure of a step, and that may have another value after a resume.
struct Cause<'n> {
    name: &'n str,
    /// Whether its file in the workspace contains the value that the step read.
    is_in_file: bool,
}

/// The artifacts that may have caused the failure of a step. `values` are the values that the step could not use, as in
/// [`Failure::unusable_values`].
fn possible_causes<'n>(node: &'n PlanNode, scope: &ValueScope, values: Option<&[String]>) -> Vec<Cause<'n>> {
    let origins: Vec<Origin> = match values {
        None => vec![Origin::Unknown],
        Some(values) => values.iter().map(|path| Origin::of_value(path, node, scope)).collect(),
    };
    let is_possible = |may_be: &dyn Fn(&Origin) -> bool| origins.iter().any(may_be);
    let mut causes: Vec<Cause<'n>> = Vec::new();
    for input in &node.inputs {
        if scope.may_change(&input.name) && is_possible(&|origin| origin.may_be_input(&input.name)) {
            causes.push(Cause { name: &input.name, is_in_file: scope.artifact(&input.name).is_some() });
        }
    }
    for read in &node.previous_reads {
        let Some(name) = read.artifact.as_deref() else { continue };
        if scope.has_previous_artifact(read) && is_possible(&|origin| origin.may_be_earlier_iteration(read)) {
            // A step of the current iteration has overwritten the file if it has produced the artifact again.
            causes.push(Cause { name, is_in_file: scope.artifact(name).is_none() });
        }
    }
    causes
}

/// Where a value comes from that a template or expression could not use.
enum Origin {
    /// An artifact that the step lists under `inputs`.
    Input(String),
    /// Artifacts of an earlier iteration.
    EarlierIteration(PreviousRead),
    /// A value that a resume does not change, such as an input of the run or the outcome of a step.
    Fixed,
    /// Unknown, such as that of an item or of a variable that the template sets: any artifact that the step reads.
    Unknown,
}

impl Origin {
    /// The origin of the value to which a path such as `plan.n` leads.
    fn of_value(path: &str, node: &PlanNode, scope: &ValueScope) -> Self {
        let names = path_names(path);
        let Some((root, members)) = names.split_first() else { return Self::Unknown };
        if node.inputs.iter().any(|input| input.name == *root) {
            return Self::Input(root.clone());
        }
        match root.as_str() {
            "loop" => PreviousRead::from_members(members).map_or(Self::Fixed, Self::EarlierIteration),
            ENDED_STEPS | PROJECT_VARIABLE => Self::Fixed,
            root if scope.inputs().any(|(name, _)| name == root) => Self::Fixed,
            _ => Self::Unknown,
        }
    }

    fn may_be_input(&self, name: &str) -> bool {
        match self {
            Self::Input(input) => input == name,
            Self::Unknown => true,
            Self::EarlierIteration(_) | Self::Fixed => false,
        }
    }

    fn may_be_earlier_iteration(&self, read: &PreviousRead) -> bool {
        match self {
            Self::EarlierIteration(PreviousRead { parents, artifact: None }) => read.parents >= *parents,
            Self::EarlierIteration(used) => used == read,
            Self::Unknown => true,
            Self::Input(_) | Self::Fixed => false,
        }
    }
}

/// The names in a path such as `plan.steps[0].title`, without the brackets and quotes around them.
fn path_names(path: &str) -> Vec<String> {
    let names = path.split(['.', '[']);
    names.map(|name| name.trim_end_matches(']').trim_matches(['"', '\'']).to_owned()).collect()
}

/// The hints on how the user can change the artifacts that may have caused the failure of a step.
fn data_hints(plan: &Plan, node: &PlanNode, causes: &[Cause<'_>]) -> Vec<String> {
    if causes.is_empty() {
        return Vec::new();
    }
    let files = causes.iter().filter(|cause| cause.is_in_file).filter_map(|cause| plan.artifact_path(cause.name));
    let edit_hints =
        files.map(|path| format!("edit `{path}` in the workspace and run `orch pipeline resume --accept-changed`"));
    let producers = causes.iter().filter_map(|cause| plan.producer(cause.name));
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
fn call_hint(class: FailureClass) -> Option<&'static str> {
    match class {
        FailureClass::ProviderUnavailable => Some("check that the server of the tool runs and can be reached"),
        FailureClass::Auth => Some("set the variables that the server of the tool needs"),
        FailureClass::BadRequest => Some("correct `call` of the step"),
        FailureClass::AgentError => Some("see the output of the server in the message"),
        _ => None,
    }
}

/// The hint for a failed request to the model of an agent. The failures of the servers and programs that the agent uses
/// have hints of their own.
fn model_hint(class: FailureClass) -> Option<&'static str> {
    Some(match class {
        FailureClass::RateLimited => {
            "wait until the provider accepts requests again, or name another model with --model"
        }
        FailureClass::ProviderUnavailable => {
            "wait until the provider is available again, or name another model with --model"
        }
        FailureClass::Auth => "set a key that the provider accepts, or name another model with --model",
        FailureClass::BadRequest => "correct the refused request, or name another model with --model",
        FailureClass::Refusal => "change the prompt or the task, or name another model with --model",
        FailureClass::EmptyReply => {
            "instruct the model in the prompt to answer in its text, or name another model with --model"
        }
        FailureClass::AmbiguousReply => {
            "instruct the model in the prompt to return one value, or remove `extract: strict` from the step, so that orch selects one"
        }
        _ => return None,
    })
}

/// The hint for a failure without a hint of its own.
fn default_hint(class: FailureClass, node: &PlanNode) -> Option<&'static str> {
    let calls_agent = matches!(node.kind, NodeKind::Agent(_));
    Some(match class {
        FailureClass::Timeout => RAISE_TIMEOUT_HINT,
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
