//! Computes the artifacts that a step adds for later steps, with their types.

use super::bindings::Presence;
use super::refined_types::{item_outcome_type, object_with_optional_members};
use super::step_conditions::StepCompletion;
use super::step_scopes::{Artifacts, VisibleArtifact};
use super::types::{Schemas, Type};
use crate::config::{OutputType, Project, output_type};
use crate::model::step::OnError;
use crate::model::{Step, StepAction};

/// The artifacts that a step exports to later steps.
pub(super) fn exported_artifacts<'a>(
    project: &'a Project,
    step: &'a Step,
    child_artifacts: &Artifacts<'a>,
    completion: &StepCompletion,
) -> Artifacts<'a> {
    // The author expects that the step may be skipped, even if its condition is always true.
    let new_artifact = |ty: Type<'a>, presence: Presence| {
        let visible = VisibleArtifact::new(ty, presence);
        VisibleArtifact { conditional: visible.conditional || step.when.is_some(), ..visible }
    };
    if let Some(output) = &step.output {
        let item_type = match step.action() {
            Some(
                StepAction::Parallel(_) | StepAction::Repeat(_) | StepAction::Sequence(_) | StepAction::Pipeline(_),
            ) => object_type(child_artifacts),
            Some(StepAction::Agent { .. } | StepAction::Command(_) | StepAction::Write(_) | StepAction::Approve(_))
            | None => own_output(project, step),
        };
        // orch rejects an empty text as the reply of an agent.
        let is_text = matches!(output_type(step), Some(OutputType::Text));
        let is_never_empty = is_text && step.agent.is_some() && step.for_each.is_none();
        let ty = match (&step.for_each, step.on_error) {
            (Some(_), Some(OnError::Continue)) => Type::List(item_outcome_type(item_type).into(), 0),
            (Some(_), _) => Type::List(item_type.into(), 0),
            (None, _) => item_type,
        };
        let presence = Presence { is_never_empty, ..Presence::new(output, completion.completed.clone()) };
        return Artifacts::default().insert(output, new_artifact(ty, presence));
    }
    if step.for_each.is_some() {
        return Artifacts::default();
    }
    let artifacts = child_artifacts.iter().map(|(name, visible)| {
        let condition = completion.inner_presence(step, name, &visible.presence.condition);
        (*name, new_artifact(visible.ty.clone(), Presence { condition, ..visible.presence.clone() }))
    });
    artifacts.collect()
}

/// The output type of a step without nested steps; with `for_each`, the type of one item.
pub(super) fn own_output<'a>(project: &'a Project, step: &Step) -> Type<'a> {
    match output_type(step) {
        Some(OutputType::Text) => Type::Text(None),
        Some(OutputType::Any) | None => Type::Unknown,
        Some(OutputType::BuiltIn(schema)) => Schemas(&project.schema_documents).document_type(schema),
        Some(OutputType::File(file)) => match project.schema_documents.get(&file) {
            Some(document) => Schemas(&project.schema_documents).document_type(&document.value),
            None => Type::Unknown,
        },
    }
}

/// The type of an object whose members are the artifacts of a group. An artifact that may be missing is an optional
/// member.
fn object_type<'a>(artifacts: &Artifacts<'a>) -> Type<'a> {
    let members = artifacts.iter().map(|(name, visible)| {
        let may_be_missing = !visible.presence.condition.is_always();
        (*name, visible.ty.clone(), may_be_missing)
    });
    object_with_optional_members(members.collect())
}
