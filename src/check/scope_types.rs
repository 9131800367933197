//! The types of the values that steps export, and of the variables of items and rounds.

use super::step_scopes::{Artifacts, RoundNames, RoundTypes, VisibleArtifact};
use super::types::{ObjectMembers, Schemas, Type, union};
use crate::config::{OutputType, Project, output_type};
use crate::model::Step;
use crate::model::name_scope::{ENDED_STEPS, PARENT_LOOP, PREVIOUS_ROUND, RoundResult};
use crate::model::step::OnError;

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

/// The type of an artifact whose step may run once for each item, from the type of one result.
pub(super) fn artifact_type<'a>(step: &Step, result_type: Type<'a>) -> Type<'a> {
    match (&step.for_each, step.on_error) {
        // The list also has entries for failed items, which the types do not model.
        (Some(_), Some(OnError::Continue)) => Type::List(Type::Unknown.into(), 0),
        (Some(_), Some(OnError::Stop) | None) => Type::List(result_type.into(), 0),
        (None, _) => result_type,
    }
}

/// The type of an object whose members are the artifacts of a group.
pub(super) fn object_type<'a>(artifacts: &Artifacts<'a>) -> Type<'a> {
    if artifacts.values().any(|visible| visible.conditional) {
        return Type::Unknown;
    }
    let members: ObjectMembers<'a> = artifacts.iter().map(|(name, visible)| (*name, visible.ty.clone())).collect();
    Type::FixedObject(members.into())
}

/// The type of the variable `loop` in a round. `outer` is the round around the loop, if it is in another loop.
pub(super) fn loop_type<'a>(outer: Option<&RoundNames<'a>>, previous: Option<&RoundTypes<'a>>) -> Type<'a> {
    let mut members: ObjectMembers<'a> =
        ["index", "index0", "max"].into_iter().map(|name| (name, Type::Number)).collect();
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    // Without a previous round, a first walk over the loop is still computing what a round exports.
    members.insert(PREVIOUS_ROUND, previous.map_or(Type::Unknown, previous_round_type));
    members.extend(outer.map(|outer| (PARENT_LOOP, outer.variable.clone())));
    Type::FixedObject(members.into())
}

/// The type of `loop.previous`: the object with the results of a round, without some of those that may be missing, or,
/// in the first round, the empty object.
fn previous_round_type<'a>(result: &RoundTypes<'a>) -> Type<'a> {
    let may_be_missing = |visible: &VisibleArtifact<'a>| visible.conditional || visible.may_fail;
    let mut all = ObjectMembers::from_iter([(ENDED_STEPS, Type::StepStatuses(result.ended_steps.clone()))]);
    let mut required = all.clone();
    for (name, visible) in &result.artifacts {
        all.insert(*name, visible.ty.clone());
        if !may_be_missing(visible) {
            required.insert(*name, visible.ty.clone());
        }
    }
    let mut objects = vec![ObjectMembers::new(), all];
    if result.artifacts.values().any(may_be_missing) {
        objects.push(required);
    }
    union(objects.into_iter().map(|members| Type::FixedObject(members.into())))
}

/// What a round exports, from the artifacts and the steps of the round.
pub(super) fn round_types<'a>(artifacts: Artifacts<'a>, steps: &'a [Step]) -> RoundTypes<'a> {
    RoundResult { artifacts, ended_steps: steps.iter().map(|step| (step.id.as_str(), ())).collect() }
}
