//! Types about which more is known than a schema says: the outcomes of steps and of items, objects whose members may be
//! missing, and the items that a filter selects.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::member_conditions::MemberConditions;
use super::number_range::NumberRange;
use super::scalars::is_always_one_of;
use super::scope::Narrowing;
use super::types::{Property, SchemaNode, SchemaPart, Schemas, Type, TypeKind, union};
use crate::model::FailureClass;

/// An object about some of whose properties more is known than its type says.
#[derive(Clone, Debug)]
pub(super) struct RefinedObject<'a> {
    /// The type of the object without this knowledge.
    pub(super) base: Type<'a>,
    /// The properties about which more is known.
    pub(super) properties: BTreeMap<String, Property<'a>>,
    /// When properties exist, if it is the object that an item of `for_each` results in.
    pub(super) conditions: Option<Rc<MemberConditions>>,
}

/// The type of the outcome of a step. Only a step that did not complete has an `error`.
pub(super) fn step_status_type<'a>() -> Type<'a> {
    let completed = [("status", one_of(&["completed"]))];
    let not_completed = [("status", one_of(&["failed", "skipped", "cancelled"])), ("error", Type::Text(None))];
    union([fixed_object(completed), fixed_object(not_completed)])
}

/// The type of an entry of the list of a `for_each` with `on_error: continue`. `value` is the type of an item's value.
pub(super) fn item_outcome_type(value: Type<'_>) -> Type<'_> {
    let classes = FailureClass::ALL.iter().map(|class| class.as_str()).collect();
    let error = fixed_object([("class", Type::Text(Some(classes))), ("message", Type::Text(None))]);
    let index = Type::Numeric(NumberRange::FROM_ZERO);
    let completed = [("index", index.clone()), ("status", one_of(&["completed"])), ("value", value)];
    let failed = [("index", index), ("status", one_of(&["failed"])), ("error", error)];
    union([fixed_object(completed), fixed_object(failed)])
}

/// The type of an object with these members, some of which may be missing.
pub(super) fn object_with_optional_members<'a>(members: Vec<(&'a str, Type<'a>, bool)>) -> Type<'a> {
    let optional = members.iter().filter(|(_, _, may_be_missing)| *may_be_missing);
    let properties: BTreeMap<String, Property<'a>> =
        optional.map(|(name, ty, _)| ((*name).to_owned(), Property::Optional(ty.clone()))).collect();
    let base = fixed_object(members.into_iter().map(|(name, ty, _)| (name, ty)));
    if properties.is_empty() {
        return base;
    }
    Type::RefinedObject(Rc::new(RefinedObject { base, properties, conditions: None }))
}

fn fixed_object<'a>(members: impl IntoIterator<Item = (&'a str, Type<'a>)>) -> Type<'a> {
    Type::FixedObject(Rc::new(members.into_iter().collect()))
}

fn one_of<'a>(texts: &[&'a str]) -> Type<'a> {
    Type::Text(Some(texts.to_vec()))
}

/// Whether every object of a type has a property, for certain. A schema may allow a property without requiring it, and
/// the type then assumes that it exists.
pub(super) fn requires_property(ty: &Type<'_>, name: &str) -> bool {
    match ty {
        Type::Object(node) => required_names(node).any(|required| required == name),
        Type::AllOf(nodes) => nodes.iter().any(|node| required_names(node).any(|required| required == name)),
        Type::Tuple(tuple) => tuple.names.contains(&name),
        Type::FixedObject(members) => members.contains_key(name),
        Type::RefinedObject(refined) => match refined.properties.get(name) {
            Some(property) => matches!(property, Property::Present(_)),
            None => requires_property(&refined.base, name),
        },
        Type::StepStatuses(statuses) => statuses.contains_key(name),
        Type::Unknown
        | Type::Null
        | Type::Bool
        | Type::Flag(_)
        | Type::Number
        | Type::Numeric(_)
        | Type::Text(_)
        | Type::NonEmptyText
        | Type::NumericText
        | Type::List(..)
        | Type::SchemaList(..)
        | Type::Union(_) => false,
    }
}

fn required_names<'a>(node: &SchemaNode<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let names = node.schema.get("required").and_then(Value::as_array).filter(|_| node.part != SchemaPart::Negated);
    names.into_iter().flatten().filter_map(Value::as_str)
}

/// Whether every object that fits a schema has a property.
fn has_properties(node: &SchemaNode<'_>) -> bool {
    let min_properties = node.schema.get("minProperties").and_then(Value::as_u64);
    let has_minimum = node.part != SchemaPart::Negated && min_properties.is_some_and(|min| min > 0);
    has_minimum || required_names(node).next().is_some()
}

impl Type<'_> {
    /// Whether every value of the type counts as true in a condition.
    pub(super) fn is_always_truthy(&self) -> bool {
        match self {
            Type::Object(node) => has_properties(node),
            Type::AllOf(nodes) => nodes.iter().any(has_properties),
            Type::FixedObject(members) => !members.is_empty(),
            Type::RefinedObject(refined) => {
                let is_present = |property: &Property<'_>| matches!(property, Property::Present(_));
                let is_base_present = match &refined.base {
                    Type::FixedObject(members) => members.keys().any(|name| !refined.properties.contains_key(*name)),
                    base => base.is_always_truthy(),
                };
                is_base_present || refined.properties.values().any(is_present)
            }
            Type::Text(Some(texts)) => !texts.is_empty() && !texts.contains(&""),
            Type::NonEmptyText | Type::NumericText => true,
            Type::Flag(flag) => *flag,
            Type::Numeric(range) => !range.contains(0.0),
            Type::List(..) | Type::Tuple(_) | Type::SchemaList(..) => self.min_length() > 0,
            Type::Union(branches) => branches.iter().all(Self::is_always_truthy),
            Type::Unknown | Type::Null | Type::Bool | Type::Number | Type::Text(None) | Type::StepStatuses(_) => false,
        }
    }

    /// Whether every value of the type counts as false in a condition.
    pub(super) fn is_never_truthy(&self) -> bool {
        match self {
            Type::Null | Type::Flag(false) => true,
            Type::Text(Some(texts)) => texts.iter().all(|text| text.is_empty()),
            Type::Numeric(range) => range.is_zero(),
            Type::List(..) | Type::Tuple(_) | Type::SchemaList(..) => self.max_length() == Some(0),
            Type::FixedObject(members) => members.is_empty(),
            Type::Union(branches) => branches.iter().all(Self::is_never_truthy),
            Type::Unknown
            | Type::Bool
            | Type::Flag(true)
            | Type::Number
            | Type::Text(None)
            | Type::NonEmptyText
            | Type::NumericText
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_) => false,
        }
    }
}

impl<'a> Schemas<'a> {
    /// The type of the values for which a narrowing holds, of the value itself or of the property at a dotted path.
    /// Returns the type unchanged if there are none: then the mistake is in the condition.
    pub(super) fn refine(self, ty: &Type<'a>, path: &str, narrowing: &Narrowing) -> Type<'a> {
        self.refine_branches(ty, path, narrowing).unwrap_or_else(|| ty.clone())
    }

    fn refine_branches(self, ty: &Type<'a>, path: &str, narrowing: &Narrowing) -> Option<Type<'a>> {
        let branches = ty.branches();
        let refined: Vec<Type<'a>> =
            branches.iter().filter_map(|branch| self.refine_branch(branch, path, narrowing)).collect();
        (!refined.is_empty()).then(|| union(refined))
    }

    /// The type of the values of one alternative for which a narrowing holds; `None` if there are none.
    fn refine_branch(self, branch: &Type<'a>, path: &str, narrowing: &Narrowing) -> Option<Type<'a>> {
        if matches!(branch, Type::Unknown) {
            return Some(Type::Unknown);
        }
        if path.is_empty() {
            return Self::refine_value(branch, narrowing);
        }
        let (name, remaining) = path.split_once('.').unwrap_or((path, ""));
        let is_required = matches!(narrowing, Narrowing::Defined | Narrowing::Truthy | Narrowing::MinItems(1..));
        match self.property(branch, name) {
            Some(Property::Present(ty)) if is_required || requires_property(branch, name) => {
                let ty = self.refine_branches(&ty, remaining, narrowing)?;
                Some(with_property(branch, name, Property::Present(ty)))
            }
            // The type only assumes that the property exists.
            Some(Property::Present(_)) => Some(branch.clone()),
            Some(Property::Optional(ty)) if is_required => {
                let ty = self.refine_branches(&ty, remaining, narrowing)?;
                Some(with_property(branch, name, Property::Present(ty)))
            }
            Some(Property::Open(_)) if is_required => {
                Some(with_property(branch, name, Property::Present(Type::Unknown)))
            }
            Some(Property::Absent(_)) | None if is_required => None,
            Some(Property::Optional(_) | Property::Open(_) | Property::Absent(_)) | None => Some(branch.clone()),
        }
    }

    /// The type of the values that exist and for which a narrowing holds; `None` if there are none.
    fn refine_value(ty: &Type<'a>, narrowing: &Narrowing) -> Option<Type<'a>> {
        let is_null = matches!(ty, Type::Null);
        match (narrowing, ty) {
            (Narrowing::Defined, _) => Some(ty.clone()),
            (Narrowing::Undefined, _) => None,
            (Narrowing::NotNull, _) => (!is_null).then(|| ty.clone()),
            (Narrowing::Truthy, _) => (!ty.is_never_truthy()).then(|| ty.truthy()),
            (Narrowing::Falsy, _) => (!ty.is_always_truthy()).then(|| ty.clone()),
            (Narrowing::MinItems(count), Type::List(item_type, min)) => {
                Some(Type::List(Rc::clone(item_type), (*min).max(*count)))
            }
            (Narrowing::MinItems(count), Type::SchemaList(node, min)) => {
                Some(Type::SchemaList(*node, (*min).max(*count)))
            }
            (Narrowing::MinItems(_) | Narrowing::MaxItems(_) | Narrowing::Member, _) => Some(ty.clone()),
            (Narrowing::Numbers(range), _) => match ty.number_range() {
                Some(numbers) => {
                    let numbers = numbers.intersection(*range);
                    (!numbers.is_empty()).then_some(Type::Numeric(numbers))
                }
                None => Some(ty.clone()),
            },
            (Narrowing::Kinds(kinds, expected), _) => {
                ty.kind().is_none_or(|kind| kinds.contains(&kind) == *expected).then(|| ty.clone())
            }
            (Narrowing::Scalars(scalars, true), _) => {
                scalars.iter().any(|scalar| scalar.may_equal(ty)).then(|| ty.clone())
            }
            (Narrowing::Scalars(scalars, false), _) => (!is_always_one_of(ty, scalars)).then(|| ty.clone()),
            (Narrowing::OneOf(strings, expected), Type::Text(Some(texts))) => {
                let is_listed = |text: &&str| strings.iter().any(|string| string == text);
                let texts: Vec<&'a str> = texts.iter().copied().filter(|text| is_listed(text) == *expected).collect();
                (!texts.is_empty()).then_some(Type::Text(Some(texts)))
            }
            (Narrowing::OneOf(_, expected), _) => {
                let can_be_listed = ty.kind().is_none_or(|kind| kind == TypeKind::Text);
                (can_be_listed || !expected).then(|| ty.clone())
            }
        }
    }
}

/// The type with more knowledge about a property.
fn with_property<'a>(ty: &Type<'a>, name: &str, property: Property<'a>) -> Type<'a> {
    let mut refined = match ty {
        // A list whose items have names, such as a group of `groupby`.
        Type::Tuple(_) => return ty.clone(),
        Type::RefinedObject(refined) => (**refined).clone(),
        other => RefinedObject { base: other.clone(), properties: BTreeMap::new(), conditions: None },
    };
    refined.properties.insert(name.to_owned(), property);
    Type::RefinedObject(Rc::new(refined))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NO_SCHEMAS: BTreeMap<String, crate::config::Document> = BTreeMap::new();

    /// The name of the kind of property that a type has.
    fn kind_of_property<'a>(schemas: Schemas<'a>, ty: &Type<'a>, name: &str) -> &'static str {
        match schemas.property(ty, name) {
            Some(Property::Present(_)) => "present",
            Some(Property::Optional(_)) => "optional",
            Some(Property::Absent(_)) => "absent",
            Some(Property::Open(_)) => "open",
            None => "none",
        }
    }

    #[test]
    fn only_an_item_that_completed_has_a_value() {
        let documents = NO_SCHEMAS;
        let schemas = Schemas(&documents);
        let entry = item_outcome_type(Type::Number);
        let completed = schemas.refine(&entry, "status", &Narrowing::OneOf(vec!["completed".to_owned()], true));
        assert_eq!(kind_of_property(schemas, &completed, "value"), "present");
        assert_eq!(kind_of_property(schemas, &completed, "error"), "absent");
        for (path, narrowing) in [
            ("status", Narrowing::OneOf(vec!["completed".to_owned()], false)),
            ("error", Narrowing::Truthy),
            ("value", Narrowing::Undefined),
        ] {
            let failed = schemas.refine(&entry, path, &narrowing);
            assert_eq!(kind_of_property(schemas, &failed, "error"), "present", "{path} {narrowing:?}");
            assert_eq!(kind_of_property(schemas, &failed, "value"), "absent", "{path} {narrowing:?}");
        }
        let succeeded = schemas.refine(&entry, "error", &Narrowing::Falsy);
        assert_eq!(kind_of_property(schemas, &succeeded, "value"), "present");
        // A value of 0 counts as false.
        assert_eq!(schemas.refine(&entry, "value", &Narrowing::Falsy).branches().len(), 2);
    }

    #[test]
    fn a_selected_item_has_the_property_that_was_tested() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": { "note": { "type": ["string", "null"] }, "size": { "type": "number" } }
        });
        let documents = NO_SCHEMAS;
        let schemas = Schemas(&documents);
        let ty = schemas.document_type(&schema);
        let selected = schemas.refine(&ty, "note", &Narrowing::Truthy);
        assert_eq!(kind_of_property(schemas, &selected, "note"), "present");
        assert_eq!(kind_of_property(schemas, &selected, "size"), "optional");
        let Some(Property::Present(note)) = schemas.property(&selected, "note") else { panic!("no note") };
        assert_eq!(note.describe(), "a string");
        let both = schemas.refine(&selected, "size", &Narrowing::Defined);
        assert_eq!(kind_of_property(schemas, &both, "note"), "present");
        assert_eq!(kind_of_property(schemas, &both, "size"), "present");
        assert_eq!(kind_of_property(schemas, &schemas.refine(&ty, "note", &Narrowing::NotNull), "note"), "optional");
    }

    #[test]
    fn a_member_of_a_group_may_be_missing() {
        let documents = NO_SCHEMAS;
        let schemas = Schemas(&documents);
        let group = object_with_optional_members(vec![("draft", Type::Number, false), ("note", Type::Bool, true)]);
        assert_eq!(kind_of_property(schemas, &group, "draft"), "present");
        assert_eq!(kind_of_property(schemas, &group, "note"), "optional");
        assert_eq!(kind_of_property(schemas, &group, "other"), "absent");
        assert!(group.is_always_truthy());
        let empty = object_with_optional_members(vec![("note", Type::Bool, true)]);
        assert!(!empty.is_always_truthy());
    }
}
