//! Derives the type that the keywords of one schema describe, without `$ref` and `allOf`.
//!
//! A schema may describe several cases: with `anyOf` or `oneOf`, or with `if`, `then` and `else`. If a constant tells
//! the cases apart, such as `"kind": "move"` or `"ok": true`, the type is a union of them, so that a condition on the
//! constant selects the case (`tags`). Otherwise the properties of all cases belong to one type (`object_properties`).

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::all_of::{has_object_keywords, with_object_schemas, without_cases};
use super::number_range::NumberRange;
use super::schema_walk::ANNOTATIONS;
use super::tags::{can_exclude, constant_test, exclude_values};
use super::types::{ObjectMembers, Property, SchemaNode, SchemaPart, Schemas, Type, TypeKind, union};
use crate::schema::MAX_PATTERN_BYTES;

/// The maximum number of cases of a type that a further condition splits.
const MAX_CASES: usize = 16;

impl<'a> Schemas<'a> {
    /// The type that the keywords of this schema describe, without `$ref` and `allOf`; `None` if they do not restrict
    /// the kind of a value.
    pub(super) fn own_keyword_type(
        self,
        node: SchemaNode<'a>,
        map: &'a Map<String, Value>,
        budget: &mut usize,
    ) -> Option<Type<'a>> {
        let named_type = type_from_own_keywords(node, map);
        let ty = match (named_type, alternatives(map)) {
            (Some(ty), Some(branches)) => {
                let tagged = self.tagged_alternatives(node, branches, budget);
                tagged.map_or(ty.clone(), |tagged| replace_objects(&ty, &tagged))
            }
            (Some(ty), None) => self.conditional_cases(ty, node),
            (None, Some(branches)) => {
                let types = branches.iter().map(|schema| self.bounded_schema_type(node.with_schema(schema), budget));
                let ty = union(types);
                if matches!(ty, Type::Unknown) {
                    return None;
                }
                let own_node = has_object_keywords(map).then(|| node.with_part(SchemaPart::WithoutCases));
                union(ty.branches().into_iter().map(|branch| with_object_schemas(branch, own_node.as_slice())))
            }
            (None, None) => return None,
        };
        Some(match map.get("not") {
            Some(excluded) => exclude(ty, excluded),
            None => ty,
        })
    }

    /// The objects that fit a schema and one of its alternatives, as a union with a type for each alternative. `None`
    /// if no constant tells the alternatives apart.
    fn tagged_alternatives(self, node: SchemaNode<'a>, branches: &'a [Value], budget: &mut usize) -> Option<Type<'a>> {
        let branches: Vec<SchemaNode<'a>> =
            branches.iter().map(|schema| self.follow_ref(node.with_schema(schema))).collect::<Option<_>>()?;
        if !self.has_tag(&branches) {
            return None;
        }
        let own_node = node.with_part(SchemaPart::WithoutCases);
        Some(union(branches.into_iter().map(|branch| {
            let ty = self.bounded_schema_type(branch, budget);
            let object = if ty.kind() == Some(TypeKind::Object) { ty } else { Type::Object(branch) };
            with_object_schemas(object, &[own_node])
        })))
    }

    /// Splits the objects of a type into those that fit the `if` of a schema and those that do not, so that a condition
    /// of a template selects the properties of `then` or `else`. Does nothing if `if` does not compare a property with
    /// constants.
    pub(super) fn conditional_cases(self, ty: Type<'a>, node: SchemaNode<'a>) -> Type<'a> {
        let Some(condition) = node.schema.get("if").map(|schema| node.with_schema(schema)) else { return ty };
        let Some((name, values)) = constant_test(condition.schema) else { return ty };
        let branches = ty.branches();
        if branches.len() > MAX_CASES {
            return ty;
        }
        let case = |object: &Type<'a>, condition: SchemaNode<'a>, keyword: &str| {
            let consequence = node.schema.get(keyword).map(|schema| node.with_schema(schema));
            let consequence = consequence.and_then(|consequence| self.follow_ref(consequence));
            let nodes: Vec<SchemaNode<'a>> = [condition].into_iter().chain(consequence).collect();
            with_object_schemas(object.clone(), &nodes)
        };
        union(branches.into_iter().map(|branch| {
            let is_expressible = match self.property(&branch, name) {
                Some(Property::Present(tested) | Property::Optional(tested)) => can_exclude(&tested, &values),
                Some(Property::Absent(_) | Property::Open(_)) | None => false,
            };
            if !is_expressible || branch.kind() != Some(TypeKind::Object) {
                return branch;
            }
            let object = without_cases(branch, node);
            union([case(&object, condition, "then"), case(&object, condition.with_part(SchemaPart::Negated), "else")])
        }))
    }

    /// The schema to which a schema refers, or the schema itself; `None` if the reference does not resolve.
    pub(super) fn follow_ref(self, node: SchemaNode<'a>) -> Option<SchemaNode<'a>> {
        let mut node = node;
        // Bounded, because references may form a cycle.
        for _ in 0..8 {
            let Some(target) = node.schema.get("$ref").and_then(Value::as_str) else { return Some(node) };
            node = self.resolve_ref(node, target)?;
        }
        None
    }
}

/// The alternatives of `anyOf` or `oneOf`, if they do more than to require properties.
fn alternatives(map: &Map<String, Value>) -> Option<&[Value]> {
    let branches = map.get("anyOf").or_else(|| map.get("oneOf"))?.as_array()?;
    (!branches.iter().all(only_requires)).then_some(branches)
}

/// Whether an alternative of `anyOf` or `oneOf` only requires names and has no other restriction.
fn only_requires(branch: &Value) -> bool {
    branch.as_object().is_some_and(|map| {
        let is_allowed = |key: &String| key == "required" || ANNOTATIONS.contains(&key.as_str());
        map.contains_key("required") && map.keys().all(is_allowed)
    })
}

/// Replaces the objects of a type.
fn replace_objects<'a>(ty: &Type<'a>, objects: &Type<'a>) -> Type<'a> {
    union(ty.branches().into_iter().map(|branch| match branch.kind() {
        Some(TypeKind::Object) => objects.clone(),
        _ => branch,
    }))
}

/// The type of `const`, `enum` or `type`.
fn type_from_own_keywords<'a>(node: SchemaNode<'a>, map: &'a Map<String, Value>) -> Option<Type<'a>> {
    if let Some(value) = map.get("const") {
        return Some(type_from_constant(value));
    }
    if let Some(Value::Array(values)) = map.get("enum") {
        return Some(union(values.iter().map(type_from_constant)));
    }
    match map.get("type")? {
        Value::String(name) => Some(type_from_name(node, map, name)),
        Value::Array(names) => {
            Some(union(names.iter().map(|name| type_from_name(node, map, name.as_str().unwrap_or_default()))))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The type of the values of the JSON type `name` that the schema allows.
fn type_from_name<'a>(node: SchemaNode<'a>, map: &'a Map<String, Value>, name: &str) -> Type<'a> {
    match name {
        "null" => Type::Null,
        "boolean" => Type::Bool,
        "number" | "integer" => Type::Numeric(NumberRange::from_schema(map, name == "integer")),
        "string" if map.get("pattern").and_then(Value::as_str).is_some_and(is_number_pattern) => Type::NumericText,
        "string" if map.get("minLength").and_then(Value::as_u64).is_some_and(|min| min > 0) => Type::NonEmptyText,
        "string" => Type::Text(None),
        "array" => Type::SchemaList(node, min_items(node, map)),
        "object" => Type::Object(node),
        _ => Type::Unknown,
    }
}

/// The minimum number of items of a list. `contains` requires items, too.
fn min_items(node: SchemaNode<'_>, map: &Map<String, Value>) -> u64 {
    let count = |keyword: &str| map.get(keyword).and_then(Value::as_u64);
    let dialect = node.root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let is_one_of = |drafts: &[&str]| drafts.iter().any(|draft| dialect.contains(draft));
    let min_contained = match map.get("contains") {
        // Validators ignore the keywords that a draft does not have.
        None => 0,
        Some(_) if is_one_of(&["draft-03", "draft-04"]) => 0,
        Some(_) if is_one_of(&["draft-06", "draft-07"]) => 1,
        Some(_) => count("minContains").unwrap_or(1),
    };
    count("minItems").unwrap_or(0).max(min_contained)
}

/// The type of one JSON value.
fn type_from_constant(value: &Value) -> Type<'_> {
    match value {
        Value::Null => Type::Null,
        Value::Bool(flag) => Type::Flag(*flag),
        Value::Number(number) => Type::Numeric(number.as_f64().map_or(NumberRange::ANY, NumberRange::exactly)),
        Value::String(text) => Type::Text(Some(vec![text.as_str()])),
        Value::Array(items) => Type::tuple(items.iter().map(type_from_constant).collect()),
        Value::Object(map) => {
            let members = map.iter().map(|(name, value)| (name.as_str(), type_from_constant(value)));
            Type::FixedObject(members.collect::<ObjectMembers<'_>>().into())
        }
    }
}

/// Whether every text that matches a pattern represents a number.
fn is_number_pattern(pattern: &str) -> bool {
    // A sign, then digits with repetitions, then an optional fraction.
    static NUMBER_PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let digit = r"(?:\\d|\[[0-9]-[0-9]\])";
        let repetition = r"(?:\+|\*|\{\d+(?:,\d*)?\})?";
        let sign = r"(?:-\??|\[(?:\+-|-\+)\]\??)?";
        let fraction = format!(r"(?:\((?:\?:)?\\\.(?:{digit}{repetition})+\)\??)?");
        Regex::new(&format!(r"^\^{sign}(?:{digit}{repetition})+{fraction}\$$")).ok()
    });
    // The schema's own findings report a pattern that is too long.
    let has_form = pattern.len() <= MAX_PATTERN_BYTES
        && NUMBER_PATTERN.as_ref().is_some_and(|number_pattern| number_pattern.is_match(pattern));
    // A pattern such as `^\d*$` also matches the empty text, and `^-?\d*$` a sign.
    let matches = |text: &str| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
    has_form && !["", "-", "+"].into_iter().any(matches)
}

/// Removes the values that a schema under `not` describes, as far as types can express it.
fn exclude<'a>(ty: Type<'a>, excluded: &Value) -> Type<'a> {
    let Some(map) = excluded.as_object() else { return ty };
    let has_only = |keyword: &str| {
        map.contains_key(keyword) && map.keys().all(|key| key == keyword || ANNOTATIONS.contains(&key.as_str()))
    };
    let excluded_values: Vec<&Value> = if has_only("const") {
        map.get("const").into_iter().collect()
    } else if has_only("enum") {
        map.get("enum").and_then(Value::as_array).into_iter().flatten().collect()
    } else if has_only("type") {
        return exclude_kinds(&ty, map.get("type"));
    } else {
        return ty;
    };
    exclude_values(&ty, &excluded_values)
}

/// Removes the values of the JSON types that `type` names.
fn exclude_kinds<'a>(ty: &Type<'a>, names: Option<&Value>) -> Type<'a> {
    let names: Vec<&str> = match names {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    };
    let is_excluded = |kind: TypeKind| {
        // `integer` excludes only some numbers.
        let name = match kind {
            TypeKind::Null => "null",
            TypeKind::Bool => "boolean",
            TypeKind::Number => "number",
            TypeKind::Text => "string",
            TypeKind::List => "array",
            TypeKind::Object => "object",
        };
        names.contains(&name)
    };
    union(ty.branches().into_iter().filter(|branch| !branch.kind().is_some_and(is_excluded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_numbers_are_recognized() {
        let patterns = [
            r"^\d+$",
            "^[0-9]+$",
            r"^-?\d+$",
            r"^[1-9]\d*$",
            r"^\d{1,4}$",
            r"^-?\d+(\.\d+)?$",
            r"^\d+(?:\.[0-9]{2})?$",
        ];
        for pattern in patterns {
            assert!(is_number_pattern(pattern), "{pattern}");
        }
        let patterns =
            [r"\d+", r"^\d*$", r"^-?\d*$", "^[0-9.]+$", "^v[0-9]+$", r"^\d+-\d+$", "^[a-f0-9]+$", r"^\d+|x$"];
        for pattern in patterns {
            assert!(!is_number_pattern(pattern), "{pattern}");
        }
    }
}
