//! Merges schemas that all apply to one value: the parts of `allOf`, and the sibling keywords of a `$ref`.
//!
//! The merged type is unknown if this module does not understand one of these schemas.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::types::{Property, SchemaNode, Schemas, Type, union};

/// Keywords that restrict objects only.
const OBJECT_KEYWORDS: &[&str] =
    &["properties", "required", "additionalProperties", "unevaluatedProperties", "patternProperties"];

/// Keywords that restrict the type of a value.
const TYPE_KEYWORDS: &[&str] = &["type", "const", "enum", "anyOf", "oneOf", "not", "if"];

/// Keywords with which a schema describes or explicitly allows properties that it does not declare.
const OPEN_OBJECT_KEYWORDS: &[&str] =
    &["additionalProperties", "unevaluatedProperties", "patternProperties", "dependentSchemas"];

/// Whether a schema with a `$ref` has sibling keywords that affect the type.
pub(super) fn has_constraints(map: &Map<String, Value>) -> bool {
    let mut keywords = OBJECT_KEYWORDS.iter().chain(TYPE_KEYWORDS).chain(&["allOf"]);
    keywords.any(|keyword| map.contains_key(*keyword))
}

/// Whether the schema's draft is 7 or earlier; validators then ignore the sibling keywords of a `$ref`.
pub(super) fn ignores_ref_siblings(root: &Value) -> bool {
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
        union(ty.branches().into_iter().map(|branch| with_object_schemas(branch, &merged.objects)))
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
            self.merge_part(SchemaNode { schema, ..node }, budget, merged);
        }
        if TYPE_KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) {
            merged.restrict(self.own_keyword_type(node, map, budget));
        } else if OBJECT_KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) {
            merged.objects.push(node);
        }
    }

    fn merge_part(self, node: SchemaNode<'a>, budget: &mut usize, merged: &mut MergedSchema<'a>) {
        match node.schema {
            Value::Object(map) if ignores_ref_siblings(node.root) && map.contains_key("$ref") => {
                merged.restrict(self.bounded_schema_type(node, budget));
            }
            Value::Object(map) => self.merge_schema(node, map, budget, merged),
            _ => {}
        }
    }

    /// Whether an object that all these schemas describe has the property `name`, and the type of the property.
    pub(super) fn merged_property(self, nodes: &[SchemaNode<'a>], name: &str) -> Property<'a> {
        let mut merged: MergedSchema<'a> = MergedSchema::default();
        let (mut is_required, mut is_closed, mut declared_properties) = (false, false, Vec::new());
        let declares = |node: &SchemaNode<'a>| {
            node.schema.pointer("/properties").is_some_and(|properties| properties.get(name).is_some())
        };
        let is_declared = nodes.iter().any(declares);
        for node in nodes {
            let properties = node.schema.get("properties").and_then(Value::as_object);
            declared_properties.extend(properties.into_iter().flat_map(Map::keys).map(String::as_str));
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                merged.restrict(self.schema_type(SchemaNode { schema, ..*node }));
            }
            let required_names = node.schema.get("required").and_then(Value::as_array);
            is_required |= required_names.is_some_and(|names| names.iter().any(|entry| entry == name));
            // Which alternative applies is unknown. A name that one of them requires counts as required, so that orch
            // never reports a property that exists.
            let alternatives =
                ["anyOf", "oneOf"].iter().filter_map(|keyword| node.schema.get(*keyword)?.as_array()).flatten();
            let mut alternative_names = alternatives.filter_map(|branch| branch.get("required")?.as_array()).flatten();
            is_required |= declares(node) && alternative_names.any(|entry| entry == name);
            let forbids = |keyword: &str| node.schema.get(keyword) == Some(&Value::Bool(false));
            let has_patterns = node.schema.get("patternProperties").is_some();
            is_closed |= !has_patterns && forbids("additionalProperties") && !declares(node);
            is_closed |= !has_patterns && forbids("unevaluatedProperties") && !is_declared;
        }
        if is_closed {
            return Property::Absent(declared_properties);
        }
        // A schema that declares some properties probably allows only these, even if it does not forbid others.
        let is_open =
            |node: &SchemaNode<'a>| OPEN_OBJECT_KEYWORDS.iter().any(|keyword| node.schema.get(keyword).is_some());
        if !is_declared && !is_required && !declared_properties.is_empty() && !nodes.iter().any(is_open) {
            return Property::Open(declared_properties);
        }
        let ty = merged.ty.unwrap_or(Type::Unknown);
        if is_required || !is_declared { Property::Present(ty) } else { Property::Optional(ty) }
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
fn with_object_schemas<'a>(ty: Type<'a>, schemas: &[SchemaNode<'a>]) -> Type<'a> {
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

/// The type of the values that have both types; unknown if no value does, or if one of the types is unknown.
fn intersect<'a>(left: &Type<'a>, right: &Type<'a>) -> Type<'a> {
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
    match (left, right) {
        (Type::Text(Some(left)), Type::Text(Some(right))) => {
            Type::Text(Some(left.into_iter().filter(|text| right.contains(text)).collect()))
        }
        (Type::Text(None), Type::Text(texts)) => Type::Text(texts),
        (Type::SchemaList(left, left_min), Type::SchemaList(right, right_min)) => {
            let node = if left.schema.get("items").is_some() { left } else { right };
            Type::SchemaList(node, left_min.max(right_min))
        }
        (object @ (Type::Object(_) | Type::AllOf(_)), Type::Object(node)) => with_object_schemas(object, &[node]),
        (object @ (Type::Object(_) | Type::AllOf(_)), Type::AllOf(nodes)) => with_object_schemas(object, &nodes),
        (left, _) => left,
    }
}
