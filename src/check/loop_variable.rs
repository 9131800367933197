//! The variables of items and iterations, and the type of the variable `loop`.

use std::rc::Rc;

use super::number_range::NumberRange;
use super::refined_types::object_with_optional_members;
use super::step_scopes::{IterationNames, IterationTypes};
use super::types::{ObjectMembers, Type, union};
use crate::model::name_scope::{ENDED_STEPS, PARENT_LOOP, PREVIOUS_ITERATION};

/// A variable of an item or an iteration.
#[derive(Clone, Debug)]
pub(super) struct LocalVariable<'a> {
    /// Its type.
    pub(super) ty: Type<'a>,
    /// The name of its value in conditions. The variable of the same name of another step has another value.
    pub(super) key: Rc<str>,
}

/// The type of the variable `loop` in an iteration of a loop with at most `max` iterations. `outer` is the iteration
/// around the loop, if it is in another loop.
pub(super) fn loop_type<'a>(
    max: u32,
    outer: Option<&IterationNames<'a>>,
    previous: Option<&IterationTypes<'a>>,
) -> Type<'a> {
    // The author of a loop with one iteration may want to repeat it later.
    let (index, index0) = match max {
        0 | 1 => (NumberRange::FROM_ONE, NumberRange::FROM_ZERO),
        max => (NumberRange::counts(1, Some(max.into())), NumberRange::counts(0, Some(u64::from(max) - 1))),
    };
    let numbers = [("index", index), ("index0", index0), ("max", NumberRange::FROM_ONE)];
    let mut members: ObjectMembers<'a> =
        numbers.into_iter().map(|(name, range)| (name, Type::Numeric(range))).collect();
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    // Without a previous iteration, a first walk over the loop is still computing what an iteration exports.
    members.insert(PREVIOUS_ITERATION, previous.map_or(Type::Unknown, previous_iteration_type));
    members.extend(outer.map(|outer| (PARENT_LOOP, outer.variable.ty.clone())));
    Type::FixedObject(members.into())
}

/// The type of `loop.previous`: the object with the results of an iteration, or, in the first iteration, the empty
/// object.
fn previous_iteration_type<'a>(result: &IterationTypes<'a>) -> Type<'a> {
    let mut members = vec![(ENDED_STEPS, Type::StepStatuses(result.ended_steps.clone()), false)];
    let artifacts = result.artifacts.iter();
    members.extend(artifacts.map(|(name, visible)| (*name, visible.ty.clone(), visible.may_be_missing())));
    union([Type::FixedObject(ObjectMembers::new().into()), object_with_optional_members(members)])
}
