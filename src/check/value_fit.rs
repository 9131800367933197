//! Decides whether what is known about a value ensures that it fits a schema, for `validate --strict`.
//!
//! The type of a value says nothing about the content of a string, for example. So this module also compares the
//! keywords of the schema with those of the value's own schema, as far as there is one.

use serde_json::{Map, Value};

use super::all_of::has_early_draft;
use super::dependent_properties::object_schemas;
use super::number_range::NumberRange;
use super::refined_types::requires_property;
use super::schema_walk::ANNOTATIONS;
use super::types::{Property, SchemaNode, SchemaPart, Schemas, Type, TypeKind};

/// Keywords that do not restrict values, beside annotations.
const UNRESTRICTING: &[&str] =
    &["$schema", "$id", "$anchor", "$defs", "definitions", "deprecated", "readOnly", "writeOnly"];

/// Keywords whose meaning depends on other keywords of the same schema.
const CONTEXT_DEPENDENT: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "else",
    "if",
    "items",
    "maxContains",
    "minContains",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The maximum nesting depth of schemas to compare.
const MAX_DEPTH: usize = 16;

/// What is known about a value.
pub(super) struct KnownValue<'a> {
    pub(super) ty: Type<'a>,
    /// A schema that it fits.
    pub(super) schema: Option<SchemaNode<'a>>,
    /// The minimum number of characters or items that conditions show.
    pub(super) min_count: u64,
    /// The strings that it can be, if conditions list them.
    pub(super) texts: Option<Vec<String>>,
}

impl<'a> KnownValue<'a> {
    /// A value about which no condition shows anything.
    fn new(ty: Type<'a>, schema: Option<SchemaNode<'a>>) -> Self {
        Self { ty, schema, min_count: 0, texts: None }
    }

    /// The strings that the values of an alternative of the type can be.
    fn listed_texts<'b>(&'b self, branch: &'b Type<'_>) -> Option<Vec<&'b str>> {
        match (branch, &self.texts) {
            (Type::Text(Some(texts)), _) => Some(texts.clone()),
            (_, Some(texts)) if branch.kind() == Some(TypeKind::Text) => {
                Some(texts.iter().map(String::as_str).collect())
            }
            (_, _) => None,
        }
    }

    /// The number of characters of the strings of an alternative: the minimum, and the maximum if it is known.
    fn character_counts(&self, branch: &Type<'_>) -> (u64, Option<u64>) {
        match self.listed_texts(branch) {
            Some(texts) => {
                let counts = texts.iter().map(|text| text.chars().count() as u64);
                (counts.clone().min().unwrap_or(0), counts.max())
            }
            None => (branch.min_count().max(self.min_count), None),
        }
    }
}

/// Compares values with the schemas of another pipeline.
#[derive(Clone, Copy)]
pub(super) struct FitCheck<'a> {
    /// The schemas in which references of the value's schema resolve.
    pub(super) value_schemas: Schemas<'a>,
    /// The schemas in which references of the schema resolve that the value must fit.
    pub(super) schemas: Schemas<'a>,
}

impl<'a> FitCheck<'a> {
    /// The requirement of a schema that a value may not fulfil, such as "`minLength` of `title`"; `None` if every value
    /// fits.
    pub(super) fn unfulfilled(self, value: &KnownValue<'a>, node: SchemaNode<'a>) -> Option<String> {
        self.unfulfilled_at_depth(value, node, 0)
    }

    fn unfulfilled_at_depth(self, value: &KnownValue<'a>, node: SchemaNode<'a>, depth: usize) -> Option<String> {
        let map = match node.schema {
            Value::Bool(true) => return None,
            Value::Object(map) if depth < MAX_DEPTH => map,
            _ => return Some("the schema".to_owned()),
        };
        if schemas_of(value).any(|own| is_same_schema(own, node)) {
            return None;
        }
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            let Some(target) = self.schemas.resolve_ref(node, target) else { return Some("`$ref`".to_owned()) };
            let unfulfilled = self.unfulfilled_at_depth(value, target, depth + 1);
            if unfulfilled.is_some() || has_early_draft(node.root) {
                return unfulfilled;
            }
        }
        let is_restricting =
            |keyword: &str| keyword != "$ref" && !ANNOTATIONS.contains(&keyword) && !UNRESTRICTING.contains(&keyword);
        let mut keywords = map.iter().filter(|(keyword, _)| is_restricting(keyword));
        keywords.find_map(|(keyword, required)| {
            let has_same = !CONTEXT_DEPENDENT.contains(&keyword.as_str())
                && schemas_of(value).any(|own| has_same_keyword(own, node, keyword, required));
            if has_same { None } else { self.unfulfilled_keyword(value, node, keyword, required, depth) }
        })
    }

    /// The requirement of a keyword that a value may not fulfil.
    fn unfulfilled_keyword(
        self,
        value: &KnownValue<'a>,
        node: SchemaNode<'a>,
        keyword: &str,
        required: &'a Value,
        depth: usize,
    ) -> Option<String> {
        match keyword {
            "properties" => return self.unfulfilled_property(value, node, required, depth),
            "items" => return self.unfulfilled_item(value, node, required, depth),
            "allOf" => {
                let mut parts = required.as_array().into_iter().flatten();
                return parts.find_map(|part| self.unfulfilled_at_depth(value, node.with_schema(part), depth + 1));
            }
            _ => {}
        }
        let branches = value.ty.branches();
        let is_fulfilled = match keyword {
            "anyOf" => {
                let mut parts = required.as_array().into_iter().flatten();
                parts.any(|part| self.unfulfilled_at_depth(value, node.with_schema(part), depth + 1).is_none())
            }
            _ => branches.iter().all(|branch| fulfils(branch, value, node.schema, keyword, required)),
        };
        (!is_fulfilled).then(|| format!("`{keyword}`"))
    }

    /// The requirement of the schema of a property that a value may not fulfil.
    fn unfulfilled_property(
        self,
        value: &KnownValue<'a>,
        node: SchemaNode<'a>,
        properties: &'a Value,
        depth: usize,
    ) -> Option<String> {
        for branch in value.ty.branches() {
            match branch.kind() {
                Some(TypeKind::Object) => {}
                Some(_) => continue,
                None => return Some("`properties`".to_owned()),
            }
            for (name, schema) in properties.as_object().into_iter().flatten() {
                let ty = match self.value_schemas.property(&branch, name) {
                    Some(Property::Present(ty) | Property::Optional(ty)) => ty,
                    Some(Property::Absent(_)) => continue,
                    Some(Property::Open(_)) | None => Type::Unknown,
                };
                let property = KnownValue::new(ty, property_schema(&branch, name));
                if let Some(unfulfilled) = self.unfulfilled_at_depth(&property, node.with_schema(schema), depth + 1) {
                    return Some(format!("{unfulfilled} of `{name}`"));
                }
            }
        }
        None
    }

    /// The requirement of the schema of a list's items that a value may not fulfil.
    fn unfulfilled_item(
        self,
        value: &KnownValue<'a>,
        node: SchemaNode<'a>,
        items: &'a Value,
        depth: usize,
    ) -> Option<String> {
        // A list of schemas, and items after the first ones, are about positions.
        if items.is_array() || node.schema.get("prefixItems").is_some() {
            return Some("`items`".to_owned());
        }
        value.ty.branches().iter().find_map(|branch| {
            match branch.kind() {
                Some(TypeKind::List) => {}
                Some(_) => return None,
                None => return Some("`items`".to_owned()),
            }
            let schema = match branch {
                Type::SchemaList(list, _) if list.schema.get("prefixItems").is_none() => {
                    list.schema.get("items").map(|schema| list.with_schema(schema))
                }
                _ => None,
            };
            let item = KnownValue::new(self.value_schemas.item_type(branch), schema);
            let unfulfilled = self.unfulfilled_at_depth(&item, node.with_schema(items), depth + 1)?;
            Some(format!("{unfulfilled} of an item"))
        })
    }
}

/// The schemas that a value fits.
fn schemas_of<'b, 'a>(value: &'b KnownValue<'a>) -> impl Iterator<Item = SchemaNode<'a>> + use<'b, 'a> {
    let of_type: &[SchemaNode<'a>] = match &value.ty {
        Type::SchemaList(node, _) => std::slice::from_ref(node),
        ty => object_schemas(ty),
    };
    let whole = of_type.iter().copied().filter(|node| node.part == SchemaPart::Whole);
    whole.chain(value.schema)
}

/// Whether two schemas are the same, including what they refer to.
fn is_same_schema(left: SchemaNode<'_>, right: SchemaNode<'_>) -> bool {
    left.schema == right.schema && has_same_references(left, right, left.schema)
}

/// Whether a schema has a keyword with this value, which belongs to another schema.
fn has_same_keyword(own: SchemaNode<'_>, node: SchemaNode<'_>, keyword: &str, value: &Value) -> bool {
    own.schema.get(keyword) == Some(value) && has_same_references(own, node, value)
}

/// Whether the references in a part of two schemas lead to the same schemas: there are none, or both schemas are parts
/// of equal files.
fn has_same_references(left: SchemaNode<'_>, right: SchemaNode<'_>, part: &Value) -> bool {
    !contains_ref(part) || left.root == right.root
}

fn contains_ref(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key("$ref") || map.values().any(contains_ref),
        Value::Array(items) => items.iter().any(contains_ref),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The schema of a property of an object that one schema describes.
pub(super) fn property_schema<'a>(ty: &Type<'a>, name: &str) -> Option<SchemaNode<'a>> {
    let node = match ty {
        Type::Object(node) => node,
        Type::RefinedObject(refined) => return property_schema(&refined.base, name),
        _ => return None,
    };
    let schema = node.schema.get("properties")?.get(name)?;
    (node.part != SchemaPart::Negated).then(|| node.with_schema(schema))
}

/// Whether a value fulfils what a keyword of `schema` requires, if it has the type `ty`, an alternative of its own
/// type.
fn fulfils(ty: &Type<'_>, value: &KnownValue<'_>, schema: &Value, keyword: &str, required: &Value) -> bool {
    let Some(kind) = ty.kind() else { return false };
    let own_count = |keyword: &str| value.schema.and_then(|own| own.schema.get(keyword)?.as_u64());
    let is_at_most = |count: Option<u64>| count.zip(required.as_u64()).is_some_and(|(count, limit)| count <= limit);
    let is_at_least = |count: Option<u64>| count.zip(required.as_u64()).is_some_and(|(count, limit)| count >= limit);
    match keyword {
        "type" => has_type(ty, kind, required),
        "const" => is_listed(ty, value, std::slice::from_ref(required)),
        "enum" => required.as_array().is_some_and(|values| is_listed(ty, value, values)),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            let Some(numbers) = ty.number_range() else { return true };
            let map: Option<&Map<String, Value>> = schema.as_object();
            numbers.is_empty() || map.is_some_and(|map| numbers.is_within(NumberRange::from_schema(map, false)))
        }
        "multipleOf" => kind != TypeKind::Number || (numbers_are_integers(ty) && required.as_u64() == Some(1)),
        "minLength" => {
            let (min, _) = value.character_counts(ty);
            kind != TypeKind::Text || is_at_least(Some(min)) || is_at_least(own_count(keyword))
        }
        "maxLength" => {
            let (_, max) = value.character_counts(ty);
            kind != TypeKind::Text || is_at_most(max) || is_at_most(own_count(keyword))
        }
        "pattern" | "format" => kind != TypeKind::Text,
        "minItems" => kind != TypeKind::List || is_at_least(Some(ty.min_length().max(value.min_count))),
        "maxItems" => kind != TypeKind::List || is_at_most(ty.max_length()),
        "uniqueItems" => kind != TypeKind::List || *required == Value::Bool(false),
        "contains" | "minContains" | "maxContains" | "prefixItems" | "additionalItems" | "unevaluatedItems" => {
            kind != TypeKind::List
        }
        "required" => {
            let mut names = required.as_array().into_iter().flatten().filter_map(Value::as_str);
            kind != TypeKind::Object || names.all(|name| requires_property(ty, name))
        }
        "additionalProperties" => {
            kind != TypeKind::Object || *required == Value::Bool(true) || has_only_declared(ty, schema)
        }
        "minProperties" => kind != TypeKind::Object || is_at_least(Some(ty.min_count())),
        "maxProperties"
        | "patternProperties"
        | "propertyNames"
        | "dependentRequired"
        | "dependentSchemas"
        | "dependencies"
        | "unevaluatedProperties" => kind != TypeKind::Object,
        // Such as `oneOf` and `not`.
        _ => false,
    }
}

fn has_type(ty: &Type<'_>, kind: TypeKind, names: &Value) -> bool {
    let has = |name: &str| match names {
        Value::String(own) => own == name,
        Value::Array(list) => list.iter().any(|entry| entry == name),
        _ => false,
    };
    match kind {
        TypeKind::Null => has("null"),
        TypeKind::Bool => has("boolean"),
        TypeKind::Number => has("number") || (has("integer") && numbers_are_integers(ty)),
        TypeKind::Text => has("string"),
        TypeKind::List => has("array"),
        TypeKind::Object => has("object"),
    }
}

fn numbers_are_integers(ty: &Type<'_>) -> bool {
    ty.number_range().is_some_and(|range| range.is_integer)
}

/// Whether an alternative of the type of a value allows only values from a list.
fn is_listed(ty: &Type<'_>, value: &KnownValue<'_>, values: &[Value]) -> bool {
    if let Some(texts) = value.listed_texts(ty) {
        return texts.iter().all(|text| values.iter().any(|value| value == text));
    }
    match ty {
        Type::Null => values.contains(&Value::Null),
        Type::Flag(flag) => values.contains(&Value::Bool(*flag)),
        Type::Bool => [true, false].into_iter().all(|flag| values.contains(&Value::Bool(flag))),
        _ => ty.number_range().is_some_and(|range| {
            range.is_one_number() && values.iter().filter_map(Value::as_f64).any(|value| range.contains(value))
        }),
    }
}

/// Whether the objects of a type have only properties that a schema declares.
fn has_only_declared(ty: &Type<'_>, schema: &Value) -> bool {
    let declared = schema.get("properties").and_then(Value::as_object);
    let is_declared = |name: &str| declared.is_some_and(|declared| declared.contains_key(name));
    match ty {
        Type::FixedObject(members) => members.keys().all(|name| is_declared(name)),
        Type::RefinedObject(refined) => has_only_declared(&refined.base, schema),
        Type::Object(node) => {
            let is_closed = node.schema.get("additionalProperties") == Some(&Value::Bool(false));
            let own = node.schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let has_patterns = node.schema.get("patternProperties").is_some();
            is_closed && !has_patterns && own.map(|(name, _)| name).all(|name| is_declared(name))
        }
        _ => false,
    }
}
