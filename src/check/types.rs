//! The static types of values, derived lazily from JSON Schemas.
//!
//! A type must be correct for every value that can occur. If a schema contains something that this module does not
//! understand, the type is unknown, and the checks report nothing about such a value.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::all_of::{has_constraints, ignores_ref_siblings};
use super::refined_types::{RefinedObject, step_status_type};
use super::step_conditions::StepCompletion;
pub(super) use super::unions::union;
use crate::config::Document;
use crate::model::name_scope::NameMap;

/// A schema inside a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaNode<'a> {
    /// The schema.
    pub(super) schema: &'a Value,
    /// The document that contains the schema, in which `#/…` references resolve.
    pub(super) root: &'a Value,
}

/// The type of a value.
#[derive(Clone, Debug)]
pub(super) enum Type<'a> {
    /// Any value: the schema allows every value, or this module does not understand it.
    Unknown,
    /// Null.
    Null,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// A string, with its possible values if the schema lists them.
    Text(Option<Vec<&'a str>>),
    /// A list of items of a type, with its minimum length.
    List(Rc<Type<'a>>, u64),
    /// A list that a schema describes, with its minimum length.
    SchemaList(SchemaNode<'a>, u64),
    /// An object that a schema describes.
    Object(SchemaNode<'a>),
    /// An object that several schemas describe together.
    AllOf(Rc<Vec<SchemaNode<'a>>>),
    /// An object with exactly these members.
    FixedObject(Rc<ObjectMembers<'a>>),
    /// An object about some of whose properties more is known.
    RefinedObject(Rc<RefinedObject<'a>>),
    /// The variable `steps`: the status of each step that has ended, by the step's id.
    StepStatuses(StepStatuses<'a>),
    /// One of several types.
    Union(Rc<Vec<Type<'a>>>),
}

/// The members of an object that no schema describes.
pub(super) type ObjectMembers<'a> = BTreeMap<&'a str, Type<'a>>;

/// The steps that have ended at a point of the pipeline, or in the previous round of a loop, with how each may have
/// ended; `None` if nothing is known about that.
pub(super) type StepStatuses<'a> = NameMap<&'a str, Option<StepCompletion>>;

/// Whether the objects of a type have a property, and the type of the property.
#[derive(Clone, Debug)]
pub(super) enum Property<'a> {
    /// The property always exists.
    Present(Type<'a>),
    /// The property may exist.
    Optional(Type<'a>),
    /// The property never exists; the object has these properties instead.
    Absent(Vec<&'a str>),
    /// The schema neither declares nor forbids the property; it declares these properties instead.
    Open(Vec<&'a str>),
}

/// The schema files of a project, in which references resolve.
#[derive(Clone, Copy)]
pub(super) struct Schemas<'a>(pub(super) &'a BTreeMap<String, Document>);

/// The maximum number of schemas to visit for one type, because schemas may be recursive.
const MAX_VISITED_SCHEMAS: usize = 200;

impl<'a> Schemas<'a> {
    /// The type that a whole schema document describes.
    pub(super) fn document_type(self, schema: &'a Value) -> Type<'a> {
        self.schema_type(SchemaNode { schema, root: schema })
    }

    /// The type that a schema describes.
    pub(super) fn schema_type(self, node: SchemaNode<'a>) -> Type<'a> {
        let mut budget = MAX_VISITED_SCHEMAS;
        self.bounded_schema_type(node, &mut budget)
    }

    /// The type that a schema describes. `budget` is the remaining number of schemas to visit.
    pub(super) fn bounded_schema_type(self, node: SchemaNode<'a>, budget: &mut usize) -> Type<'a> {
        let Value::Object(map) = node.schema else { return Type::Unknown };
        let Some(remaining_budget) = budget.checked_sub(1) else { return Type::Unknown };
        *budget = remaining_budget;
        if let Some(target) = map.get("$ref").and_then(Value::as_str)
            && (ignores_ref_siblings(node.root) || !has_constraints(map))
        {
            return self
                .resolve_ref(node, target)
                .map_or(Type::Unknown, |target| self.bounded_schema_type(target, budget));
        }
        if map.contains_key("$ref") || map.contains_key("allOf") {
            return self.merge_all_of(node, map, budget);
        }
        self.own_keyword_type(node, map, budget)
    }

    /// The type that the keywords of this schema describe, without `$ref` and `allOf`.
    pub(super) fn own_keyword_type(
        self,
        node: SchemaNode<'a>,
        map: &'a Map<String, Value>,
        budget: &mut usize,
    ) -> Type<'a> {
        if map.contains_key("not") || map.contains_key("if") {
            return Type::Unknown;
        }
        if let Some(branches) = map.get("anyOf").or_else(|| map.get("oneOf")).and_then(Value::as_array) {
            let has_own_type = map.contains_key("type") || map.contains_key("properties");
            if has_own_type && branches.iter().all(only_requires) {
                return map
                    .get("type")
                    .and_then(Value::as_str)
                    .map_or(Type::Unknown, |name| type_from_name(node, map, name));
            }
            if has_own_type {
                return Type::Unknown;
            }
            return union(
                branches.iter().map(|schema| self.bounded_schema_type(SchemaNode { schema, ..node }, budget)),
            );
        }
        if let Some(value) = map.get("const") {
            return type_from_constants(std::slice::from_ref(value));
        }
        if let Some(Value::Array(values)) = map.get("enum") {
            return type_from_constants(values);
        }
        match map.get("type") {
            Some(Value::String(name)) => type_from_name(node, map, name),
            Some(Value::Array(names)) => {
                union(names.iter().map(|name| type_from_name(node, map, name.as_str().unwrap_or_default())))
            }
            _ => Type::Unknown,
        }
    }

    /// Resolves a `$ref`.
    pub(super) fn resolve_ref(self, node: SchemaNode<'a>, target: &str) -> Option<SchemaNode<'a>> {
        let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
        let file = file.strip_prefix("./").unwrap_or(file);
        let root = if file.is_empty() { node.root } else { self.find_schema(file)? };
        Some(SchemaNode { schema: root.pointer(fragment)?, root })
    }

    /// Finds a schema by its file name or its `$id`.
    fn find_schema(self, name: &str) -> Option<&'a Value> {
        let has_id =
            |value: &Value| value.get("$id").and_then(Value::as_str).is_some_and(|id| id.trim_end_matches('#') == name);
        let by_name = self.0.get(name).map(|document| &document.value);
        by_name.or_else(|| self.0.values().map(|document| &document.value).find(|value| has_id(value)))
    }

    /// The type of a list's items; unknown if the type is not a list.
    pub(super) fn item_type(self, ty: &Type<'a>) -> Type<'a> {
        match ty {
            Type::List(item_type, _) => (**item_type).clone(),
            Type::SchemaList(node, _) => match node.schema.get("items") {
                Some(schema) if node.schema.get("prefixItems").is_none() => {
                    self.schema_type(SchemaNode { schema, ..*node })
                }
                Some(_) | None => Type::Unknown,
            },
            Type::Union(branches) => union(branches.iter().map(|ty| self.item_type(ty))),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_) => Type::Unknown,
        }
    }

    /// Whether values of a type have the property `name`; `None` if the type is not an object.
    pub(super) fn property(self, ty: &Type<'a>, name: &str) -> Option<Property<'a>> {
        match ty {
            Type::FixedObject(members) => Some(match members.get(name) {
                Some(ty) => Property::Present(ty.clone()),
                None => Property::Absent(members.keys().copied().collect()),
            }),
            Type::RefinedObject(refined) => match refined.properties.get(name) {
                Some(property) => Some(property.clone()),
                None => self.property(&refined.base, name),
            },
            Type::StepStatuses(statuses) => Some(match statuses.get(name) {
                Some(_) => Property::Present(step_status_type()),
                None => Property::Absent(statuses.keys().copied().collect()),
            }),
            Type::Object(node) => Some(self.merged_property(std::slice::from_ref(node), name)),
            Type::AllOf(nodes) => Some(self.merged_property(nodes, name)),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::List(..)
            | Type::SchemaList(..)
            | Type::Union(_) => None,
        }
    }
}

/// Whether an alternative of `anyOf` or `oneOf` only requires names and has no other restriction.
fn only_requires(branch: &Value) -> bool {
    let allowed_keywords = ["required", "title", "description", "$comment"];
    branch.as_object().is_some_and(|map| {
        map.contains_key("required") && map.keys().all(|key| allowed_keywords.contains(&key.as_str()))
    })
}

/// The type of the values of the JSON type `name` that the schema allows.
fn type_from_name<'a>(node: SchemaNode<'a>, map: &'a Map<String, Value>, name: &str) -> Type<'a> {
    match name {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "number" | "integer" => Type::Number,
        "string" => Type::Text(None),
        "array" => Type::SchemaList(node, map.get("minItems").and_then(Value::as_u64).unwrap_or(0)),
        "object" => Type::Object(node),
        _ => Type::Unknown,
    }
}

/// The type of the values of `const` or `enum`.
fn type_from_constants(values: &[Value]) -> Type<'_> {
    let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
    if let Some(texts) = texts {
        return Type::Text(Some(texts));
    }
    union(values.iter().map(|value| match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::Text(None),
        Value::Array(_) | Value::Object(_) => Type::Unknown,
    }))
}

/// The kind of a type that is not a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TypeKind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl TypeKind {
    /// Describes the kind for a message.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

impl<'a> Type<'a> {
    /// The kind; `None` for a union or an unknown type.
    pub(super) fn kind(&self) -> Option<TypeKind> {
        match self {
            Type::Unknown | Type::Union(_) => None,
            Type::Null => Some(TypeKind::Null),
            Type::Bool => Some(TypeKind::Bool),
            Type::Number => Some(TypeKind::Number),
            Type::Text(_) => Some(TypeKind::Text),
            Type::List(..) | Type::SchemaList(..) => Some(TypeKind::List),
            Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_) => Some(TypeKind::Object),
        }
    }

    /// Every kind that the value can have; `None` if the kinds are unknown.
    pub(super) fn kinds(&self) -> Option<Vec<TypeKind>> {
        match self {
            Type::Union(branches) => branches.iter().try_fold(Vec::new(), |mut kinds, branch| {
                let kind = branch.kind()?;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
                Some(kinds)
            }),
            other => other.kind().map(|kind| vec![kind]),
        }
    }

    /// The types that a union consists of; for any other type, the type itself.
    pub(super) fn branches(&self) -> Vec<Type<'a>> {
        match self {
            Type::Union(branches) => branches.to_vec(),
            other => vec![other.clone()],
        }
    }

    /// The type without null.
    pub(super) fn without_null(&self) -> Type<'a> {
        match self {
            Type::Union(branches) => union(branches.iter().filter(|ty| !matches!(ty, Type::Null)).cloned()),
            other => other.clone(),
        }
    }

    /// The minimum number of items of a list; 0 for any other type.
    pub(super) fn min_length(&self) -> u64 {
        match self {
            Type::List(_, min_length) | Type::SchemaList(_, min_length) => *min_length,
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Number
            | Type::Text(_)
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_)
            | Type::Union(_) => 0,
        }
    }

    /// Describes the type for a message.
    pub(super) fn describe(&self) -> String {
        match self.kinds() {
            Some(kinds) => kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>().join(" or "),
            None => "a value".to_owned(),
        }
    }
}
