//! When the object that an item of `for_each` results in has the artifact of a step: under the `when` of the step,
//! which may be about other artifacts of the same item.

use std::collections::BTreeMap;
use std::rc::Rc;

use minijinja::machinery::ast::Expr;

use super::condition::Condition;
use super::refined_types::RefinedObject;
use super::truth::ConditionReader;
use super::types::Type;
use crate::model::Step;

/// The end of a name that precedes the names of the values of an item. It occurs in no name of another value.
const ITEM_MARK: &str = "<>";

/// What precedes the names of the values of an item of a step in conditions. `key_prefix` precedes those of the step.
pub(super) fn item_prefix(key_prefix: &str, step: &Step) -> String {
    format!("{key_prefix}{}{ITEM_MARK}.", step.id)
}

/// When the members of the objects of a list exist.
#[derive(Debug)]
pub(super) struct MemberConditions {
    /// What precedes the names of the values of an item in the conditions.
    prefix: String,
    conditions: BTreeMap<String, Condition>,
}

impl MemberConditions {
    /// The conditions of members by their names. `prefix` precedes the names of the values of an item in them.
    pub(super) fn new(prefix: String, conditions: BTreeMap<String, Condition>) -> Self {
        Self { prefix, conditions }
    }

    /// When the object with this name in conditions has a member; `None` if nothing is known about the member.
    fn of_member(&self, member: &str, key: &str) -> Option<Condition> {
        let condition = self.conditions.get(member)?;
        let own_prefix = format!("{key}.");
        Some(condition.rename(&|text| {
            let text = text.replace(&self.prefix, &own_prefix);
            // The values of another item around this one, and conditions about which nothing is known, differ between
            // items.
            if text.starts_with('?') {
                format!("{text} of {key}")
            } else {
                text.replace(ITEM_MARK, &format!("<{key}>"))
            }
        }))
    }
}

impl ConditionReader<'_, '_> {
    /// When an object that an item of `for_each` results in has a member; `None` if the expression is no such object.
    pub(super) fn item_member_presence(self, base: &Expr<'_>, name: &str) -> Option<Condition> {
        let ty = self.value_type(base);
        let Type::RefinedObject(refined) = ty else { return None };
        let condition = refined.conditions.as_ref()?.of_member(name, &self.key(base)?)?;
        Some(Condition::all([self.presence(base), condition]))
    }
}

/// The type of the objects of a list whose members exist under conditions.
pub(super) fn with_member_conditions(ty: Type<'_>, conditions: MemberConditions) -> Type<'_> {
    match ty {
        Type::RefinedObject(refined) => {
            let conditions = Some(Rc::new(conditions));
            Type::RefinedObject(Rc::new(RefinedObject { conditions, ..(*refined).clone() }))
        }
        // Every member exists.
        other => other,
    }
}
