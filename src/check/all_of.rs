//! Merges schemas that all apply to one value: the parts of `allOf`, and the sibling keywords of a `$ref`.
//!
//! The merged type is unknown if this module does not understand one of these schemas.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::types::{SchemaNode, SchemaPart, Schemas, Type, union};

/// Keywords that restrict objects only.
const OBJECT_KEYWORDS: &[&str] =
    &["properties", "required", "additionalProperties", "unevaluatedProperties", "patternProperties"];

/// Keywords that restrict the type of a value.
const TYPE_KEYWORDS: &[&str] = &["type", "const", "enum", "anyOf", "oneOf", "not", "if"];

/// Keywords that describe properties in some cases only.
const CASE_KEYWORDS: &[&str] = &["then", "else", "dependentSchemas", "anyOf", "oneOf"];

/// The maximum number of pairs of types to intersect. With more, the first type alone describes the value.
const MAX_PAIRS: usize = 64;

/// Whether a schema with a `$ref` has sibling keywords that affect the type.
pub(super) fn has_constraints(map: &Map<String, Value>) -> bool {
    let mut keywords = OBJECT_KEYWORDS.iter().chain(TYPE_KEYWORDS).chain(&["allOf"]);
    keywords.any(|keyword| map.contains_key(*keyword))
}

/// Whether a schema describes the properties of objects.
pub(super) fn has_object_keywords(map: &Map<String, Value>) -> bool {
    OBJECT_KEYWORDS.iter().any(|keyword| map.contains_key(*keyword))
}

/// Whether the schema's draft is 7 or earlier; validators then ignore the sibling keywords of a `$ref`.
pub(super) fn has_early_draft(root: &Value) -> bool {
    let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft))
}

/// The result of merging several schemas.
#[derive(Default)]
struct MergedSchema<'a> {
    /// The type, if one of the schemas restricts it.
    ty: Option<Type<'a>>,
    /// The schemas that describe the value if it is an object.
    objects: Vec<SchemaNode<'a>>,
}

impl<'a> Schemas<'a> {
    /// The type of a schema with `allOf`, or with a `$ref` and sibling keywords.
    pub(super) fn merge_all_of(
        self,
        node: SchemaNode<'a>,
        map: &'a Map<String, Value>,
        budget: &mut usize,
    ) -> Type<'a> {
        let mut merged = MergedSchema::default();
        self.merge_schema(node, map, budget, &mut merged);
        let Some(ty) = merged.ty.take() else { return Type::Unknown };
        let ty = union(ty.branches().into_iter().map(|branch| with_object_schemas(branch, &merged.objects)));
        merged.objects.into_iter().fold(ty, |ty, node| self.conditional_cases(ty, node))
    }

    fn merge_schema(
        self,
        node: SchemaNode<'a>,
        map: &'a Map<String, Value>,
        budget: &mut usize,
        merged: &mut MergedSchema<'a>,
    ) {
        let Some(remaining_budget) = budget.checked_sub(1) else { return merged.restrict(Type::Unknown) };
        *budget = remaining_budget;
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            match self.resolve_ref(node, target) {
                Some(target) => self.merge_part(target, budget, merged),
                None => merged.restrict(Type::Unknown),
            }
        }
        for schema in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.merge_part(node.with_schema(schema), budget, merged);
        }
        match self.own_keyword_type(node, map, budget) {
            Some(ty) => merged.restrict(ty),
            None if has_object_keywords(map) || CASE_KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) => {
                merged.objects.push(node);
            }
            None => {}
        }
    }

    fn merge_part(self, node: SchemaNode<'a>, budget: &mut usize, merged: &mut MergedSchema<'a>) {
        match node.schema {
            Value::Object(map) if has_early_draft(node.root) && map.contains_key("$ref") => {
                merged.restrict(self.bounded_schema_type(node, budget));
            }
            Value::Object(map) => self.merge_schema(node, map, budget, merged),
            _ => {}
        }
    }
}

impl<'a> MergedSchema<'a> {
    /// Restricts the type to the values that also have the type `ty`.
    fn restrict(&mut self, ty: Type<'a>) {
        self.ty = Some(match self.ty.take() {
            None => ty,
            Some(existing) => intersect(&existing, &ty),
        });
    }
}

/// Adds schemas to the type of an object; returns any other type unchanged.
pub(super) fn with_object_schemas<'a>(ty: Type<'a>, schemas: &[SchemaNode<'a>]) -> Type<'a> {
    let mut nodes = match ty {
        ty if schemas.is_empty() => return ty,
        Type::Object(node) => vec![node],
        Type::AllOf(nodes) => nodes.to_vec(),
        other => return other,
    };
    for node in schemas {
        if !nodes.iter().any(|existing| std::ptr::eq(existing.schema, node.schema)) {
            nodes.push(*node);
        }
    }
    Type::AllOf(Rc::new(nodes))
}

/// The type of an object for which the cases of a schema are described by other schemas.
pub(super) fn without_cases<'a>(ty: Type<'a>, node: SchemaNode<'a>) -> Type<'a> {
    let has_cases = |other: &SchemaNode<'a>| std::ptr::eq(other.schema, node.schema) && other.part == SchemaPart::Whole;
    let strip =
        |other: &SchemaNode<'a>| if has_cases(other) { other.with_part(SchemaPart::WithoutCases) } else { *other };
    match ty {
        Type::Object(other) => Type::Object(strip(&other)),
        Type::AllOf(nodes) => Type::AllOf(Rc::new(nodes.iter().map(strip).collect())),
        other => other,
    }
}

/// The type of the values that have both types; unknown if no value does, or if one of the types is unknown.
pub(super) fn intersect<'a>(left: &Type<'a>, right: &Type<'a>) -> Type<'a> {
    if left.branches().len() * right.branches().len() > MAX_PAIRS {
        return left.clone();
    }
    let mut intersection = Vec::new();
    for left_branch in left.branches() {
        for right_branch in right.branches() {
            match (left_branch.kind(), right_branch.kind()) {
                (Some(left_kind), Some(right_kind)) if left_kind == right_kind => {
                    intersection.push(intersect_same_kind(left_branch.clone(), right_branch));
                }
                (Some(_), Some(_)) => {}
                _ => return Type::Unknown,
            }
        }
    }
    union(intersection)
}

/// The type of the values that have both types, for two types of one kind.
fn intersect_same_kind<'a>(left: Type<'a>, right: Type<'a>) -> Type<'a> {
    if let (Some(left), Some(right)) = (left.number_range(), right.number_range()) {
        return Type::Numeric(left.intersection(right));
    }
    match (left, right) {
        (Type::Text(Some(left)), Type::Text(Some(right))) => {
            Type::Text(Some(left.into_iter().filter(|text| right.contains(text)).collect()))
        }
        (Type::Bool, flag @ Type::Flag(_)) => flag,
        (Type::Text(None), text @ (Type::Text(_) | Type::NonEmptyText | Type::NumericText)) => text,
        (Type::NonEmptyText, texts @ (Type::Text(Some(_)) | Type::NumericText)) => texts,
        (Type::NumericText, texts @ Type::Text(Some(_))) => texts,
        (Type::SchemaList(left, left_min), Type::SchemaList(right, right_min)) => {
            let node = if left.schema.get("items").is_some() { left } else { right };
            Type::SchemaList(node, left_min.max(right_min))
        }
        (object @ (Type::Object(_) | Type::AllOf(_)), Type::Object(node)) => with_object_schemas(object, &[node]),
        (object @ (Type::Object(_) | Type::AllOf(_)), Type::AllOf(nodes)) => with_object_schemas(object, &nodes),
        (left, _) => left,
    }
}
