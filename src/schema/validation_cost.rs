//! Counts the cost of a validation before it runs: the number of (schema, value) pairs that it visits, and their
//! nesting depth.
//!
//! A validator tries every alternative. If alternatives refer to the same parts by `$ref`, it reaches a part of the
//! schema on many paths, each time with the same part of the value: forty definitions that each offer the next one
//! twice make 2^40 visits. So for schemas where this can happen, orch counts the visits first. It computes the cost of
//! each pair only once, so that counting is fast even if the validation would not be.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::error::SchemaError;

/// The maximum number of visits of one validation, which take a few seconds.
pub(super) const MAX_VISITS: u64 = 10_000_000;
/// The maximum number of visits for which orch lists the reasons why a value does not fit, if it counts visits.
pub(super) const MAX_LISTED_VISITS: u64 = 200_000;
/// The maximum number of (schema, value) pairs; above it, a validation counts as too costly.
const MAX_PAIRS: usize = 2_000_000;
/// The maximum number of nested schemas in a validation, through values and through references. The validator recurses
/// for each.
pub(super) const MAX_CHECK_DEPTH: usize = 2_000;
/// The maximum nesting depth of a reply's value.
const MAX_VALUE_DEPTH: usize = 513;
/// The maximum length of an `enum` for which comparisons with its values do not count as costly.
const MAX_SHORT_ENUM: usize = 100;
/// Keywords whose value is data instead of a schema.
const DATA_KEYWORDS: &[&str] = &["const", "default", "enum", "examples"];
/// References whose target depends on the path of the validation to them.
const DYNAMIC_REFERENCES: &[&str] = &["$dynamicRef", "$recursiveRef"];
/// Keywords whose value is a schema that applies to the same value.
const SAME_VALUE_KEYWORDS: &[&str] = &["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas that apply to the same value.
const SAME_VALUE_LIST_KEYWORDS: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Whether orch counts the cost of a validation before the validation runs, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CostCounting {
    /// orch does not count the cost, because it does not grow faster than the value.
    NotNeeded,
    /// orch counts the cost because a validation may overflow the stack: chains of references make it nest deeper than
    /// the value.
    MayOverflowStack,
    /// orch counts the cost because a validation may take long even if the value is small.
    MayTakeLong,
}

/// Returns whether orch must count the cost of validations against a schema, because it may grow faster than the value.
///
/// The cost does not grow faster if no keyword offers alternatives, or if no part refers to another one: then a
/// validation does not reach a part twice with the same value.
///
/// # Errors
/// The schema is too costly for every value, and the error names the first such part; or it has references that resolve
/// only during a validation.
pub(super) fn required_cost_counting(name: &str, schema: &Value) -> Result<CostCounting, SchemaError> {
    let mut survey = SchemaSurvey::default();
    survey.visit(schema);
    if let Some(keyword) = survey.dynamic_reference {
        let message =
            format!("`{keyword}` can't be used, because its target is known only during a check; write `$ref`");
        return Err(SchemaError { file: name.to_owned(), pointer: String::new(), message, help: None });
    }
    let may_grow = survey.has_costly_keyword || (survey.has_alternatives && survey.has_references);
    if !may_grow && !survey.has_references {
        return Ok(CostCounting::NotNeeded);
    }
    let mut counter = CostCounter::new(schema);
    let mut max_depth = 0;
    match find_too_costly_part(&mut counter, schema, &mut String::new(), &mut max_depth) {
        // Each nesting level of a value adds at most `max_depth` levels to the validation.
        None if may_grow => Ok(CostCounting::MayTakeLong),
        None if max_depth.saturating_mul(MAX_VALUE_DEPTH) > MAX_CHECK_DEPTH => Ok(CostCounting::MayOverflowStack),
        None => Ok(CostCounting::NotNeeded),
        Some((pointer, cost)) => Err(cost.error(name, pointer)),
    }
}

/// The reason why a validation is too costly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooCostly {
    /// Too many visits.
    Visits,
    /// Too many visits nested inside of one another.
    Depth,
}

/// Returns the number of (schema, value) pairs that a validation visits at most.
///
/// # Errors
/// The validation would be too costly.
pub(super) fn count_visits(schema: &Value, value: &Value) -> Result<u64, TooCostly> {
    let mut counter = CostCounter::new(schema);
    let cost = counter.cost(schema, Some(value));
    if cost.depth > MAX_CHECK_DEPTH {
        return Err(TooCostly::Depth);
    }
    if cost.visits > MAX_VISITS || counter.costs.len() > MAX_PAIRS {
        return Err(TooCostly::Visits);
    }
    Ok(cost.visits)
}

/// The cost of a validation: the number of visits, and their nesting depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ValidationCost {
    visits: u64,
    depth: usize,
}

impl ValidationCost {
    /// A number of visits above every limit.
    const UNBOUNDED_VISITS: Self = Self { visits: u64::MAX, depth: 0 };
    /// A nesting depth above every limit.
    const UNBOUNDED_DEPTH: Self = Self { visits: u64::MAX, depth: usize::MAX };

    /// The cost of two validations that run one after the other.
    fn combine(self, other: Self) -> Self {
        Self { visits: self.visits.saturating_add(other.visits), depth: self.depth.max(other.depth) }
    }

    /// Returns the error for a part of a schema that is too costly for every value.
    fn error(self, name: &str, pointer: String) -> SchemaError {
        let (message, help) = if self.depth > MAX_CHECK_DEPTH {
            (
                format!("this is too complex: more than {MAX_CHECK_DEPTH} schemas refer to one another in a row"),
                "let `$ref` name the last schema of the chain directly",
            )
        } else {
            (
                format!(
                    "this is too complex: checking one value takes more than {MAX_VISITS} steps, because its \
                     alternatives refer to the same parts repeatedly"
                ),
                "offer fewer alternatives at each level, or write `oneOf` and `anyOf` only where values differ in type",
            )
        };
        SchemaError { file: name.to_owned(), pointer, message, help: Some(help.to_owned()) }
    }
}

/// The properties of a schema that determine whether orch must count the cost of its validations.
#[derive(Default)]
struct SchemaSurvey {
    has_references: bool,
    has_alternatives: bool,
    /// Whether a keyword checks the same parts twice, or compares each value with a long list.
    has_costly_keyword: bool,
    /// The first keyword whose target is known only during a validation.
    dynamic_reference: Option<&'static str>,
}

impl SchemaSurvey {
    /// Updates the properties for a part of the schema and everything in it.
    fn visit(&mut self, part: &Value) {
        match part {
            Value::Object(map) => {
                for (key, value) in map.iter().filter(|(key, _)| !DATA_KEYWORDS.contains(&key.as_str())) {
                    let is_reference = value.is_string();
                    self.has_references |= key == "$ref" && is_reference;
                    let keyword = DYNAMIC_REFERENCES.iter().find(|name| *name == key && is_reference);
                    self.dynamic_reference = self.dynamic_reference.or(keyword.copied());
                    self.has_alternatives |= SAME_VALUE_KEYWORDS.contains(&key.as_str())
                        || SAME_VALUE_LIST_KEYWORDS.contains(&key.as_str())
                        || key == "dependentSchemas";
                    self.has_costly_keyword |= key.starts_with("unevaluated");
                    self.visit(value);
                }
                self.has_costly_keyword |=
                    map.get("enum").and_then(Value::as_array).is_some_and(|list| list.len() > MAX_SHORT_ENUM);
            }
            Value::Array(list) => list.iter().for_each(|part| self.visit(part)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Returns the pointer of the first part that is too costly for every value, and its cost. Updates `max_depth`, the
/// maximum nesting depth of all parts.
fn find_too_costly_part<'a>(
    counter: &mut CostCounter<'a>,
    part: &'a Value,
    pointer: &mut String,
    max_depth: &mut usize,
) -> Option<(String, ValidationCost)> {
    if part.is_object() {
        let cost = counter.cost(part, None);
        if cost.visits > MAX_VISITS || cost.depth > MAX_CHECK_DEPTH {
            return Some((pointer.clone(), cost));
        }
        *max_depth = cost.depth.max(*max_depth);
    }
    let members: Vec<(String, &Value)> = match part {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        let too_costly_part = find_too_costly_part(counter, value, pointer, max_depth);
        pointer.truncate(length);
        if too_costly_part.is_some() {
            return too_costly_part;
        }
    }
    None
}

/// Computes the cost of each (schema, value) pair once. Without a value, computes the cost that every value has.
struct CostCounter<'a> {
    root: &'a Value,
    costs: HashMap<(*const Value, *const Value), ValidationCost>,
    /// The number of active calls of [`cost`](Self::cost): counting nests as deep as the validation would.
    depth: usize,
}

impl<'a> CostCounter<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, costs: HashMap::new(), depth: 0 }
    }

    fn cost(&mut self, schema: &'a Value, value: Option<&'a Value>) -> ValidationCost {
        let Value::Object(map) = schema else { return ValidationCost { visits: 1, depth: 1 } };
        let pair = (std::ptr::from_ref(schema), value.map_or(std::ptr::null(), std::ptr::from_ref));
        if let Some(cost) = self.costs.get(&pair) {
            return *cost;
        }
        if self.costs.len() > MAX_PAIRS {
            return ValidationCost::UNBOUNDED_VISITS;
        }
        if self.depth >= MAX_CHECK_DEPTH {
            return ValidationCost::UNBOUNDED_DEPTH;
        }
        // Breaks cycles. A part that refers back to itself with the same value adds no cost, because the validator
        // stops there.
        self.costs.insert(pair, ValidationCost::default());
        self.depth += 1;
        let own_cost = self.same_value_cost(map, value);
        let child_cost = value.map_or_else(ValidationCost::default, |value| self.children_cost(map, value));
        self.depth -= 1;
        // An `unevaluated…` keyword evaluates the schemas that apply to the same value a second time.
        let passes = if map.keys().any(|key| key.starts_with("unevaluated")) { 2 } else { 1 };
        let comparisons = map.get("enum").and_then(Value::as_array).map_or(0, |list| list.len() as u64);
        let visits = own_cost.visits.saturating_mul(passes).saturating_add(child_cost.visits);
        let visits = visits.saturating_add(comparisons).saturating_add(1);
        let cost = ValidationCost { visits, depth: own_cost.depth.max(child_cost.depth).saturating_add(1) };
        self.costs.insert(pair, cost);
        cost
    }

    /// Returns the cost of the schemas that apply to the same value.
    fn same_value_cost(&mut self, map: &'a Map<String, Value>, value: Option<&'a Value>) -> ValidationCost {
        let mut parts: Vec<&'a Value> = SAME_VALUE_KEYWORDS.iter().filter_map(|key| map.get(*key)).collect();
        let lists = SAME_VALUE_LIST_KEYWORDS.iter().filter_map(|key| map.get(*key)?.as_array());
        parts.extend(lists.flatten());
        parts.extend(map.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values));
        parts.extend(map.get("$ref").and_then(Value::as_str).and_then(|reference| self.resolve_reference(reference)));
        parts.into_iter().fold(ValidationCost::default(), |sum, part| sum.combine(self.cost(part, value)))
    }

    /// Returns the cost of the schemas that apply to members and items of the value, as if every pattern matched.
    fn children_cost(&mut self, map: &'a Map<String, Value>, value: &'a Value) -> ValidationCost {
        let mut pairs: Vec<(&'a Value, &'a Value)> = Vec::new();
        match value {
            Value::Object(members) => {
                let properties = map.get("properties").and_then(Value::as_object);
                let patterns: Vec<&Value> =
                    map.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values).collect();
                for (key, member) in members {
                    let property = properties.and_then(|properties| properties.get(key));
                    let other_schemas = ["additionalProperties", "unevaluatedProperties"].map(|key| map.get(key));
                    let other_schemas = other_schemas.into_iter().flatten().filter(|_| property.is_none());
                    let schemas = property.into_iter().chain(patterns.iter().copied()).chain(other_schemas);
                    pairs.extend(schemas.map(|schema| (schema, member)));
                }
            }
            Value::Array(items) => {
                let positional_schemas = ["prefixItems", "items"].iter().find_map(|key| map.get(*key)?.as_array());
                let keywords = ["items", "additionalItems", "contains", "unevaluatedItems"];
                let common_schemas: Vec<&Value> =
                    keywords.iter().filter_map(|key| map.get(*key)).filter(|part| !part.is_array()).collect();
                for (index, item) in items.iter().enumerate() {
                    let item_schema = positional_schemas.and_then(|schemas| schemas.get(index));
                    pairs.extend(
                        item_schema.into_iter().chain(common_schemas.iter().copied()).map(|schema| (schema, item)),
                    );
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        pairs
            .into_iter()
            .fold(ValidationCost::default(), |sum, (schema, part)| sum.combine(self.cost(schema, Some(part))))
    }

    /// Returns the part of the schema that a local reference names.
    fn resolve_reference(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(&super::bundle::decode_fragment(reference.strip_prefix('#')?))
    }
}

#[cfg(test)]
mod tests;
