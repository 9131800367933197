//! Computes the artifacts that a step adds for later steps, with their types.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::bindings::Presence;
use super::member_conditions::{MemberConditions, item_prefix, with_member_conditions};
use super::number_range::NumberRange;
use super::refined_types::{RefinedObject, item_outcome_type, object_with_optional_members};
use super::step_conditions::StepCompletion;
use super::step_scopes::{Artifacts, VisibleArtifact};
use super::types::{Property, Schemas, Type};
use crate::config::{OutputType, Project, output_type};
use crate::model::name_scope::ExportedNames;
use crate::model::step::OnError;
use crate::model::{Step, StepAction};

/// The artifacts that a step exports to later steps. `min_items` is the minimum number of items that it maps over, and
/// `key_prefix` precedes the names of artifacts in conditions.
pub(super) fn exported_artifacts<'a>(
    project: &'a Project,
    step: &'a Step,
    child_artifacts: &Artifacts<'a>,
    completion: &StepCompletion,
    min_items: u64,
    key_prefix: &str,
) -> Artifacts<'a> {
    match step.exported_names() {
        ExportedNames::Output(name) => {
            // orch rejects an empty text as the reply of an agent.
            let is_text = matches!(output_type(step), Some(OutputType::Text));
            let is_never_empty = is_text && step.agent.is_some() && step.for_each.is_none();
            let key = format!("{key_prefix}{name}");
            let presence = Presence { is_never_empty, ..Presence::new(&key, completion.completed.clone()) };
            let ty = match whole_output(project, step, child_artifacts, key_prefix) {
                // The list has an entry for each item.
                Type::List(item, 0) if step.for_each.is_some() => Type::List(item, min_items),
                ty => ty,
            };
            Artifacts::default().insert(name, VisibleArtifact { ty, presence })
        }
        ExportedNames::OfChildren | ExportedNames::OfCalledPipeline => {
            let artifacts = child_artifacts.iter().map(|(name, visible)| {
                let key = format!("{key_prefix}{name}");
                let condition = completion.inner_presence(step, &key, &visible.presence.condition);
                let presence = Presence { key: key.into(), condition, ..visible.presence.clone() };
                (*name, VisibleArtifact { ty: visible.ty.clone(), presence })
            });
            artifacts.collect()
        }
        ExportedNames::Nothing => Artifacts::default(),
    }
}

/// The type of the artifact of a step. `child_artifacts` are those of the steps inside it, and `key_prefix` precedes the
/// names of the step's values in conditions.
pub(super) fn whole_output<'a>(
    project: &'a Project,
    step: &'a Step,
    child_artifacts: &Artifacts<'a>,
    key_prefix: &str,
) -> Type<'a> {
    artifact_type(step, result_type(project, step, child_artifacts, key_prefix))
}

/// The type of the result of a step; with `for_each`, of one item.
fn result_type<'a>(
    project: &'a Project,
    step: &'a Step,
    child_artifacts: &Artifacts<'a>,
    key_prefix: &str,
) -> Type<'a> {
    match step.action() {
        Some(StepAction::Parallel(_) | StepAction::Repeat(_) | StepAction::Sequence(_) | StepAction::Pipeline(_)) => {
            let optional = child_artifacts.iter().filter(|(_, visible)| visible.may_be_missing());
            let conditions =
                optional.map(|(name, visible)| ((*name).to_owned(), visible.presence.condition.clone())).collect();
            let conditions = MemberConditions::new(item_prefix(key_prefix, step), conditions);
            with_member_conditions(object_type(child_artifacts), conditions)
        }
        Some(
            StepAction::Agent { .. }
            | StepAction::Command(_)
            | StepAction::Call(_)
            | StepAction::Write(_)
            | StepAction::Approve(_),
        )
        | None => own_output(project, step),
    }
}

/// The type of an artifact whose step may run once for each item, from the type of one result.
fn artifact_type<'a>(step: &Step, result_type: Type<'a>) -> Type<'a> {
    match (&step.for_each, step.on_error) {
        (Some(_), Some(OnError::Continue)) => Type::List(item_outcome_type(result_type).into(), 0),
        (Some(_), Some(OnError::Stop) | None) => Type::List(result_type.into(), 0),
        (None, _) => result_type,
    }
}

/// The output type of a step without nested steps; with `for_each`, the type of one item.
pub(super) fn own_output<'a>(project: &'a Project, step: &Step) -> Type<'a> {
    match output_type(step) {
        Some(OutputType::Text) => Type::Text(None),
        Some(OutputType::Any) | None => Type::Unknown,
        Some(OutputType::BuiltIn(schema)) => {
            with_exit_codes(Schemas(&project.schema_documents).document_type(schema), step)
        }
        Some(OutputType::File(file)) => match project.schema_documents.get(&file) {
            Some(document) => Schemas(&project.schema_documents).document_type(&document.value),
            None => Type::Unknown,
        },
    }
}

/// The type of the result of a step, with the exit codes that a command may have: with any other one, it fails.
fn with_exit_codes<'a>(result: Type<'a>, step: &Step) -> Type<'a> {
    let codes = match &step.expect {
        Some(expect) => expect.exit_code.as_slice(),
        None => &[0],
    };
    let (true, Some(min), Some(max)) = (step.run.is_some(), codes.iter().min(), codes.iter().max()) else {
        return result;
    };
    let range = NumberRange::counts(u64::from(*min), Some(u64::from(*max)));
    let properties = BTreeMap::from([("exit_code".to_owned(), Property::Present(Type::Numeric(range)))]);
    Type::RefinedObject(Rc::new(RefinedObject { base: result, properties, conditions: None }))
}

/// The type of an object whose members are the artifacts of a group. An artifact that may be missing is an optional
/// member.
fn object_type<'a>(artifacts: &Artifacts<'a>) -> Type<'a> {
    let members = artifacts.iter().map(|(name, visible)| (*name, visible.ty.clone(), visible.may_be_missing()));
    object_with_optional_members(members.collect())
}
