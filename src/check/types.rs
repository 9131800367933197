//! The static types of values, derived lazily from JSON Schemas.
//!
//! A type must be correct for every value that can occur. If a schema contains something that the checker does not
//! understand, the type is unknown, and the checks report nothing about such a value.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::all_of::{has_constraints, has_early_draft};
use super::number_range::NumberRange;
use super::refined_types::{RefinedObject, step_status_type};
use super::step_conditions::StepCompletion;
use crate::config::Document;
use crate::model::name_scope::NameMap;

pub(super) use super::type_union::{is_same_type, union};

/// A schema inside a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaNode<'a> {
    /// The schema.
    pub(super) schema: &'a Value,
    /// The document that contains the schema, in which `#/…` references resolve.
    pub(super) root: &'a Value,
    /// The keywords of the schema that apply to the value.
    pub(super) part: SchemaPart,
}

/// The keywords of a schema that apply to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemaPart {
    /// All of them.
    Whole,
    /// All but `anyOf`, `oneOf` and `if` with their subschemas: the type has an alternative for each of these cases.
    WithoutCases,
    /// None: the value does not fit the schema.
    Negated,
}

impl<'a> SchemaNode<'a> {
    /// A whole document.
    pub(super) fn from_document(schema: &'a Value) -> Self {
        Self { schema, root: schema, part: SchemaPart::Whole }
    }

    /// Another schema of the same document.
    pub(super) fn with_schema(self, schema: &'a Value) -> Self {
        Self { schema, part: SchemaPart::Whole, ..self }
    }

    /// The same schema, of which only some keywords apply.
    pub(super) fn with_part(self, part: SchemaPart) -> Self {
        Self { part, ..self }
    }
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
    /// The one of them that a schema allows.
    Flag(bool),
    /// A number.
    Number,
    /// A number in a range.
    Numeric(NumberRange),
    /// A string, with its possible values if the schema lists them.
    Text(Option<Vec<&'a str>>),
    /// A string of at least one character.
    NonEmptyText,
    /// A string that represents a number.
    NumericText,
    /// A list of items of a type, with its minimum length.
    List(Rc<Type<'a>>, u64),
    /// A list with a type for each item.
    Tuple(Rc<TupleType<'a>>),
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

/// The items of a list of a fixed length.
#[derive(Clone, Debug)]
pub(super) struct TupleType<'a> {
    /// The types of the items.
    pub(super) items: Vec<Type<'a>>,
    /// The names by which a template can also read the items, such as `grouper`; usually empty.
    pub(super) names: &'static [&'static str],
}

/// The members of an object that no schema describes.
pub(super) type ObjectMembers<'a> = BTreeMap<&'a str, Type<'a>>;

/// The steps that have ended at a point of the pipeline, or in the previous iteration of a loop, with how each may have
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
        self.schema_type(SchemaNode::from_document(schema))
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
            && (has_early_draft(node.root) || !has_constraints(map))
        {
            return self
                .resolve_ref(node, target)
                .map_or(Type::Unknown, |target| self.bounded_schema_type(target, budget));
        }
        if map.contains_key("$ref") || map.contains_key("allOf") {
            return self.merge_all_of(node, map, budget);
        }
        self.own_keyword_type(node, map, budget).unwrap_or(Type::Unknown)
    }

    /// Resolves a `$ref`.
    pub(super) fn resolve_ref(self, node: SchemaNode<'a>, target: &str) -> Option<SchemaNode<'a>> {
        let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
        let file = file.strip_prefix("./").unwrap_or(file);
        let root = if file.is_empty() { node.root } else { self.find_schema(file)? };
        Some(SchemaNode { schema: root.pointer(fragment)?, ..SchemaNode::from_document(root) })
    }

    /// Finds a schema by its file name or its `$id`.
    fn find_schema(self, name: &str) -> Option<&'a Value> {
        let has_id =
            |value: &Value| value.get("$id").and_then(Value::as_str).is_some_and(|id| id.trim_end_matches('#') == name);
        let by_name = self.0.get(name).map(|document| &document.value);
        by_name.or_else(|| self.0.values().map(|document| &document.value).find(|value| has_id(value)))
    }

    /// Whether values of a type have the property `name`; `None` if the type is neither an object nor a list with such
    /// a name.
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
            Type::Tuple(tuple) => {
                let position = tuple.names.iter().position(|item_name| *item_name == name)?;
                tuple.items.get(position).cloned().map(Property::Present)
            }
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
            | Type::Union(_) => None,
        }
    }
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
            Type::Bool | Type::Flag(_) => Some(TypeKind::Bool),
            Type::Number | Type::Numeric(_) => Some(TypeKind::Number),
            Type::Text(_) | Type::NonEmptyText | Type::NumericText => Some(TypeKind::Text),
            Type::List(..) | Type::Tuple(_) | Type::SchemaList(..) => Some(TypeKind::List),
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

    /// The alternatives of a union, that is, the types that it consists of; for any other type, the type itself.
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
            Type::Tuple(tuple) => tuple.items.len() as u64,
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Flag(_)
            | Type::Number
            | Type::Numeric(_)
            | Type::Text(_)
            | Type::NonEmptyText
            | Type::NumericText
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_)
            | Type::Union(_) => 0,
        }
    }

    /// The type without the empty object, which counts as false in a condition.
    pub(super) fn without_empty_objects(&self) -> Type<'a> {
        match self {
            Type::Union(branches) => union(branches.iter().filter(|ty| !ty.is_empty_object()).cloned()),
            other => other.clone(),
        }
    }

    /// Whether it is the type of the empty object, such as that of `loop.previous` in the first iteration.
    pub(super) fn is_empty_object(&self) -> bool {
        matches!(self, Type::FixedObject(members) if members.is_empty())
    }

    /// The type of the values that count as true in a condition: without null, 0, and what is empty.
    pub(super) fn truthy(&self) -> Type<'a> {
        let branches = self.without_null().without_empty_objects().branches();
        union(branches.into_iter().map(|branch| match branch {
            Type::Text(None) => Type::NonEmptyText,
            Type::Text(Some(mut texts)) if texts.iter().any(|text| !text.is_empty()) => {
                texts.retain(|text| !text.is_empty());
                Type::Text(Some(texts))
            }
            Type::List(item_type, min_length) => Type::List(item_type, min_length.max(1)),
            Type::SchemaList(node, min_length) => Type::SchemaList(node, min_length.max(1)),
            branch => match branch.number_range().map(NumberRange::without_zero) {
                Some(range) if !range.is_empty() => Type::Numeric(range),
                Some(_) | None => branch,
            },
        }))
    }

    /// The range of a number; `None` for any other type.
    pub(super) fn number_range(&self) -> Option<NumberRange> {
        match self {
            Type::Number => Some(NumberRange::ANY),
            Type::Numeric(range) => Some(*range),
            Type::Unknown
            | Type::Null
            | Type::Bool
            | Type::Flag(_)
            | Type::Text(_)
            | Type::NonEmptyText
            | Type::NumericText
            | Type::List(..)
            | Type::Tuple(_)
            | Type::SchemaList(..)
            | Type::Object(_)
            | Type::AllOf(_)
            | Type::FixedObject(_)
            | Type::RefinedObject(_)
            | Type::StepStatuses(_)
            | Type::Union(_) => None,
        }
    }

    /// The range of the numbers that the value can be; `None` if it is never a number, or if its kinds are unknown.
    pub(super) fn numbers(&self) -> Option<NumberRange> {
        self.kinds()?;
        self.branches().iter().filter_map(Type::number_range).reduce(NumberRange::union)
    }

    /// The strings that the value can be; `None` if it is never a string, or if the strings are unknown.
    pub(super) fn possible_texts(&self) -> Option<Vec<&'a str>> {
        self.kinds()?;
        let text_branches = self.branches().into_iter().filter(|branch| branch.kind() == Some(TypeKind::Text));
        let listed_texts = |branch| if let Type::Text(texts) = branch { texts } else { None };
        let texts: Vec<Vec<&'a str>> = text_branches.map(listed_texts).collect::<Option<_>>()?;
        (!texts.is_empty()).then(|| texts.into_iter().flatten().collect())
    }

    /// Describes the type for a message.
    pub(super) fn describe(&self) -> String {
        match self.kinds() {
            Some(kinds) => kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>().join(" or "),
            None => "a value".to_owned(),
        }
    }
}
