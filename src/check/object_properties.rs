//! Finds the properties of the objects that schemas describe: in `properties`, by patterns, as further properties of
//! any name, and in cases such as `then`.

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::all_of::intersect;
use super::schema_walk::declared_properties;
use super::tags::{constant_test, exclude_values};
use super::types::{Property, SchemaNode, SchemaPart, Schemas, Type, union};
use crate::schema::MAX_PATTERN_BYTES;

/// The maximum number of schemas that describe cases of an object.
const MAX_CASES: usize = 100;

/// The maximum size of a compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// What several schemas that apply to one object say about a property.
#[derive(Default)]
struct PropertySearch<'a> {
    /// The type, if a schema that always applies describes the property.
    ty: Option<Type<'a>>,
    /// The types in the cases that describe the property.
    case_types: Vec<Type<'a>>,
    /// The constants that the property can't equal.
    excluded_values: Vec<&'a Value>,
    /// The properties that the schemas declare.
    declared_names: Vec<&'a str>,
    /// Whether a schema that always applies declares the property.
    is_declared: bool,
    /// Whether a pattern or a schema of further properties describes the property.
    is_described: bool,
    is_required: bool,
    /// Whether a case requires the property.
    is_required_in_case: bool,
    /// Whether a schema forbids the property.
    is_forbidden: bool,
    /// Whether a schema explicitly allows properties that it does not declare.
    is_open: bool,
}

impl<'a> Schemas<'a> {
    /// Whether an object that all these schemas describe has the property `name`, and the type of the property.
    pub(super) fn merged_property(self, nodes: &[SchemaNode<'a>], name: &str) -> Property<'a> {
        self.search_property(nodes, name).into_property()
    }

    /// Whether the schemas of an object leave open whether it has the property `name`: they say nothing about it, or
    /// require it in some cases only.
    pub(super) fn leaves_open(self, ty: &Type<'a>, name: &str) -> bool {
        let search = match ty {
            Type::Object(node) => self.search_property(std::slice::from_ref(node), name),
            Type::AllOf(nodes) => self.search_property(nodes, name),
            Type::RefinedObject(refined) => {
                return !refined.properties.contains_key(name) && self.leaves_open(&refined.base, name);
            }
            _ => return false,
        };
        !search.is_forbidden && !search.is_required && (search.is_required_in_case || !search.is_known())
    }

    fn search_property(self, nodes: &[SchemaNode<'a>], name: &str) -> PropertySearch<'a> {
        let cases: Vec<SchemaNode<'a>> = nodes.iter().flat_map(|node| self.cases(*node)).collect();
        let applies = |node: &&SchemaNode<'a>| node.part != SchemaPart::Negated;
        let mut declaring = nodes.iter().filter(applies).chain(&cases);
        let is_declared_anywhere = declaring
            .any(|node| declared_properties(node.schema).is_some_and(|properties| properties.contains_key(name)));
        let mut search = PropertySearch::default();
        for node in nodes {
            match node.part {
                SchemaPart::Negated => search.add_negated(*node, name),
                SchemaPart::Whole | SchemaPart::WithoutCases => {
                    self.search_schema(*node, name, is_declared_anywhere, &mut search);
                }
            }
        }
        for case in &cases {
            self.search_case(*case, name, &mut search);
        }
        search
    }

    /// Adds what a schema that always applies says about a property.
    fn search_schema(
        self,
        node: SchemaNode<'a>,
        name: &str,
        is_declared_anywhere: bool,
        search: &mut PropertySearch<'a>,
    ) {
        let declared = declared_properties(node.schema);
        search.declared_names.extend(declared.into_iter().flat_map(Map::keys).map(String::as_str));
        search.is_required |= requires(node.schema, name);
        let own_schema = declared.and_then(|properties| properties.get(name));
        if let Some(schema) = own_schema {
            search.is_declared = true;
            search.restrict(self.schema_type(node.with_schema(schema)));
        }
        let pattern_schemas = matching_pattern_schemas(node.schema, name);
        for schema in pattern_schemas.iter().copied() {
            search.is_described = true;
            search.restrict(self.schema_type(node.with_schema(schema)));
        }
        search.is_open |= ["patternProperties", "dependentSchemas"].iter().any(|key| node.schema.get(key).is_some());
        if !pattern_schemas.is_empty() {
            return;
        }
        if own_schema.is_none() {
            self.search_further_properties(node, "additionalProperties", search);
        }
        if !is_declared_anywhere {
            self.search_further_properties(node, "unevaluatedProperties", search);
        }
    }

    /// Adds what a schema says about the properties that it does not declare.
    fn search_further_properties(self, node: SchemaNode<'a>, keyword: &str, search: &mut PropertySearch<'a>) {
        match node.schema.get(keyword) {
            None => {}
            Some(Value::Bool(false)) => search.is_forbidden = true,
            Some(schema) => match self.schema_type(node.with_schema(schema)) {
                Type::Unknown => search.is_open = true,
                ty => {
                    search.is_described = true;
                    search.restrict(ty);
                }
            },
        }
    }

    /// Adds what a schema says about a property that applies in some cases only.
    fn search_case(self, case: SchemaNode<'a>, name: &str, search: &mut PropertySearch<'a>) {
        let declared = declared_properties(case.schema);
        search.declared_names.extend(declared.into_iter().flat_map(Map::keys).map(String::as_str));
        search.is_required_in_case |= requires(case.schema, name);
        if let Some(schema) = declared.and_then(|properties| properties.get(name)) {
            search.case_types.push(self.schema_type(case.with_schema(schema)));
        }
    }

    /// The schemas that apply to an object in some cases only.
    fn cases(self, node: SchemaNode<'a>) -> Vec<SchemaNode<'a>> {
        let mut cases = Vec::new();
        if node.part == SchemaPart::Whole {
            self.collect_cases(node, &mut cases);
        }
        // Cases may contain further cases, and parts that all apply. References may form a cycle.
        let mut next = 0;
        while let Some(case) = cases.get(next).copied().filter(|_| cases.len() < MAX_CASES) {
            self.collect_cases(case, &mut cases);
            let parts = case.schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
            cases.extend(parts.filter_map(|schema| self.follow_ref(case.with_schema(schema))));
            next += 1;
        }
        cases
    }

    fn collect_cases(self, node: SchemaNode<'a>, cases: &mut Vec<SchemaNode<'a>>) {
        let single = ["then", "else"].into_iter().filter_map(|keyword| node.schema.get(keyword));
        let listed = ["anyOf", "oneOf"].into_iter().filter_map(|keyword| node.schema.get(keyword)?.as_array());
        let dependent = node.schema.get("dependentSchemas").and_then(Value::as_object);
        let schemas = single.chain(listed.flatten()).chain(dependent.into_iter().flat_map(Map::values));
        cases.extend(schemas.filter_map(|schema| self.follow_ref(node.with_schema(schema))));
    }

    /// The type of the values of all properties of an object; unknown if the object may have properties of any type.
    pub(super) fn value_type(self, ty: &Type<'a>) -> Type<'a> {
        match ty {
            Type::FixedObject(members) => union(members.values().cloned()),
            Type::Object(node) => self.schema_value_type(std::slice::from_ref(node)),
            Type::AllOf(nodes) => self.schema_value_type(nodes),
            Type::RefinedObject(refined) => self.value_type(&refined.base),
            _ => Type::Unknown,
        }
    }

    fn schema_value_type(self, nodes: &[SchemaNode<'a>]) -> Type<'a> {
        let mut types = Vec::new();
        let mut is_closed = false;
        for node in nodes.iter().filter(|node| node.part != SchemaPart::Negated) {
            let patterns = node.schema.get("patternProperties").and_then(Value::as_object);
            let declared = [declared_properties(node.schema), patterns].into_iter().flatten().flat_map(Map::values);
            types.extend(declared.map(|schema| self.schema_type(node.with_schema(schema))));
            for keyword in ["additionalProperties", "unevaluatedProperties"] {
                match node.schema.get(keyword) {
                    None => {}
                    Some(Value::Bool(false)) => is_closed = true,
                    Some(schema) => {
                        is_closed = true;
                        types.push(self.schema_type(node.with_schema(schema)));
                    }
                }
            }
        }
        if is_closed { union(types) } else { Type::Unknown }
    }
}

impl<'a> PropertySearch<'a> {
    /// Restricts the type to the values that also have the type `ty`.
    fn restrict(&mut self, ty: Type<'a>) {
        self.ty = Some(match self.ty.take() {
            None => ty,
            Some(existing) => intersect(&existing, &ty),
        });
    }

    /// Adds what follows if the object does not fit a schema that compares a property with constants.
    fn add_negated(&mut self, node: SchemaNode<'a>, name: &str) {
        if let Some((tested_name, values)) = constant_test(node.schema)
            && tested_name == name
        {
            // An object without the property would fit.
            self.is_required = true;
            self.excluded_values.extend(values);
        }
    }

    fn is_known(&self) -> bool {
        self.is_declared || self.is_described || !self.case_types.is_empty()
    }

    /// Whether the property always exists. Which case applies is unknown: a property that one of them requires counts
    /// as required, so that orch never reports a property that exists.
    fn is_required(&self) -> bool {
        self.is_required || (self.is_required_in_case && self.is_known())
    }

    fn into_property(self) -> Property<'a> {
        let (is_required, is_known) = (self.is_required(), self.is_known());
        if self.is_forbidden {
            return Property::Absent(self.declared_names);
        }
        let ty = match self.ty {
            Some(ty) => ty,
            None => union(self.case_types),
        };
        let ty = if self.excluded_values.is_empty() { ty } else { exclude_values(&ty, &self.excluded_values) };
        if is_required {
            return Property::Present(ty);
        }
        if is_known {
            return Property::Optional(ty);
        }
        // A schema that declares some properties probably allows only these, even if it does not forbid others.
        if self.is_open || self.declared_names.is_empty() {
            return Property::Present(Type::Unknown);
        }
        Property::Open(self.declared_names)
    }
}

/// Whether a schema requires a property.
fn requires(schema: &Value, name: &str) -> bool {
    let names = schema.get("required").and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|entry| entry == name))
}

/// The schemas under `patternProperties` whose patterns match a name. A pattern that can't be compiled or is too long
/// counts as a match.
fn matching_pattern_schemas<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let patterns = schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
    let matches = |pattern: &str| {
        let is_short = pattern.len() <= MAX_PATTERN_BYTES;
        let compiled =
            is_short.then(|| RegexBuilder::new(pattern).size_limit(MAX_COMPILED_BYTES).build().ok()).flatten();
        compiled.is_none_or(|compiled| compiled.is_match(name))
    };
    patterns.filter(|(pattern, _)| matches(pattern)).map(|(_, schema)| schema).collect()
}
