//! How much work it is to check a value against a schema, counted before the work is done.
//!
//! A validator follows every alternative. Where alternatives refer to the same parts by `$ref`, it comes to a part of
//! the schema in many ways, with the same part of the value each time: forty definitions that each offer the next one
//! twice are 2^40 visits. So for schemas that can be like that, the visits are counted first. A count needs
//! each pair of a schema part and a value part only once, and is quick where the check would not be.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::SchemaError;

/// How many visits one check may take: a few seconds at most.
pub(super) const MAX_VISITS: u64 = 10_000_000;
/// How many pairs of a schema part and a value part are counted before the answer is "too much".
const MAX_PAIRS: usize = 2_000_000;
/// How many values an `enum` may have before its comparisons are counted.
const LONG_ENUM: usize = 100;
/// Keywords whose value is data and no schema.
const DATA: &[&str] = &["const", "default", "enum", "examples"];
/// References that depend on the way on which a check came to them.
const DYNAMIC: &[&str] = &["$dynamicRef", "$recursiveRef"];
/// Keywords whose value is a schema for the same value.
const SAME_VALUE: &[&str] = &["not", "if", "then", "else"];
/// Keywords whose value is a list of schemas for the same value.
const SAME_VALUE_LISTS: &[&str] = &["allOf", "anyOf", "oneOf"];

/// Whether the work of checks against a schema has to be counted: it may grow faster than the value.
///
/// The work can't grow if no keyword offers alternatives, or if nothing refers to another part: then no part is reached
/// in two ways with the same value.
///
/// # Errors
/// The schema takes too long for every value, with the first part of it that does; or it has references that are
/// resolved only while a value is checked.
pub(super) fn must_be_counted(name: &str, schema: &Value) -> Result<bool, SchemaError> {
    let mut survey = Survey::default();
    survey.part(schema);
    if let Some(keyword) = survey.dynamic {
        let message =
            format!("`{keyword}` can't be used, since what it leads to is known only during a check; write `$ref`");
        return Err(SchemaError { file: name.to_owned(), pointer: String::new(), message, help: None });
    }
    let may_grow = survey.repeats || (survey.has_alternatives && survey.refers);
    if !may_grow {
        return Ok(false);
    }
    let mut counter = Counter::new(schema);
    match too_wide(&mut counter, schema, &mut String::new()) {
        None => Ok(true),
        Some(pointer) => Err(SchemaError {
            file: name.to_owned(),
            pointer,
            message: format!(
                "this is too complex: to check one value takes more than {MAX_VISITS} steps, since its \
                 alternatives refer to the same parts again and again"
            ),
            help: None,
        }),
    }
}

/// How many visits a check of a value takes, at most; `None` when there are too many.
pub(super) fn visits(schema: &Value, value: &Value) -> Option<u64> {
    let mut counter = Counter::new(schema);
    let visits = counter.visits(schema, Some(value));
    (visits <= MAX_VISITS && counter.known.len() <= MAX_PAIRS).then_some(visits)
}

/// What a schema is made of, as far as it decides whether work must be counted.
#[derive(Default)]
struct Survey {
    refers: bool,
    has_alternatives: bool,
    /// Whether a keyword looks at the same parts twice, or at a long list for each value.
    repeats: bool,
    /// A keyword whose target is known only during a check.
    dynamic: Option<&'static str>,
}

impl Survey {
    fn part(&mut self, part: &Value) {
        match part {
            Value::Object(map) => {
                for (key, value) in map.iter().filter(|(key, _)| !DATA.contains(&key.as_str())) {
                    let is_keyword = value.is_string();
                    self.refers |= key == "$ref" && is_keyword;
                    let dynamic = DYNAMIC.iter().find(|name| *name == key && is_keyword);
                    self.dynamic = self.dynamic.or(dynamic.copied());
                    self.has_alternatives |= SAME_VALUE.contains(&key.as_str())
                        || SAME_VALUE_LISTS.contains(&key.as_str())
                        || key == "dependentSchemas";
                    self.repeats |= key.starts_with("unevaluated");
                    self.part(value);
                }
                self.repeats |= map.get("enum").and_then(Value::as_array).is_some_and(|list| list.len() > LONG_ENUM);
            }
            Value::Array(list) => list.iter().for_each(|part| self.part(part)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// The pointer of the first part that takes too long for every value.
fn too_wide<'a>(counter: &mut Counter<'a>, part: &'a Value, pointer: &mut String) -> Option<String> {
    if part.is_object() && counter.visits(part, None) > MAX_VISITS {
        return Some(pointer.clone());
    }
    let members: Vec<(String, &Value)> = match part {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        let found = too_wide(counter, value, pointer);
        pointer.truncate(length);
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Counts visits, once for each pair of a schema part and a value part; without a value, those of any value.
struct Counter<'a> {
    root: &'a Value,
    known: HashMap<(*const Value, *const Value), u64>,
}

impl<'a> Counter<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, known: HashMap::new() }
    }

    fn visits(&mut self, schema: &'a Value, value: Option<&'a Value>) -> u64 {
        let Value::Object(map) = schema else { return 1 };
        let pair = (std::ptr::from_ref(schema), value.map_or(std::ptr::null(), std::ptr::from_ref));
        if let Some(known) = self.known.get(&pair) {
            return *known;
        }
        if self.known.len() > MAX_PAIRS {
            return u64::MAX;
        }
        // A part that leads back to itself with the same value is no work: the validator refuses it.
        self.known.insert(pair, 0);
        let same = self.of_same_value(map, value);
        let repeats = if map.keys().any(|key| key.starts_with("unevaluated")) { 2 } else { 1 };
        let below = value.map_or(0, |value| self.of_parts(map, value));
        let compared = map.get("enum").and_then(Value::as_array).map_or(0, |list| list.len() as u64);
        let visits = same.saturating_mul(repeats).saturating_add(below).saturating_add(compared).saturating_add(1);
        self.known.insert(pair, visits);
        visits
    }

    /// The visits of schemas that look at the same value.
    fn of_same_value(&mut self, map: &'a Map<String, Value>, value: Option<&'a Value>) -> u64 {
        let mut parts: Vec<&'a Value> = SAME_VALUE.iter().filter_map(|key| map.get(*key)).collect();
        let lists = SAME_VALUE_LISTS.iter().filter_map(|key| map.get(*key)?.as_array());
        parts.extend(lists.flatten());
        parts.extend(map.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values));
        parts.extend(map.get("$ref").and_then(Value::as_str).and_then(|target| self.target(target)));
        parts.into_iter().fold(0, |sum, part| sum.saturating_add(self.visits(part, value)))
    }

    /// The visits of schemas that look at members and items of the value. Every pattern is taken to match.
    fn of_parts(&mut self, map: &'a Map<String, Value>, value: &'a Value) -> u64 {
        let mut pairs: Vec<(&'a Value, &'a Value)> = Vec::new();
        match value {
            Value::Object(members) => {
                let named = map.get("properties").and_then(Value::as_object);
                let patterns: Vec<&Value> =
                    map.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values).collect();
                for (key, member) in members {
                    let own = named.and_then(|named| named.get(key));
                    let others = ["additionalProperties", "unevaluatedProperties"].map(|key| map.get(key));
                    let others = others.into_iter().flatten().filter(|_| own.is_none());
                    let schemas = own.into_iter().chain(patterns.iter().copied()).chain(others);
                    pairs.extend(schemas.map(|schema| (schema, member)));
                }
            }
            Value::Array(items) => {
                let first = ["prefixItems", "items"].iter().find_map(|key| map.get(*key)?.as_array());
                let rest = ["items", "additionalItems", "contains", "unevaluatedItems"];
                let rest: Vec<&Value> =
                    rest.iter().filter_map(|key| map.get(*key)).filter(|part| !part.is_array()).collect();
                for (at, item) in items.iter().enumerate() {
                    let own = first.and_then(|first| first.get(at));
                    pairs.extend(own.into_iter().chain(rest.iter().copied()).map(|schema| (schema, item)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        pairs.into_iter().fold(0, |sum, (schema, part)| sum.saturating_add(self.visits(schema, Some(part))))
    }

    /// What a reference within the schema leads to.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        self.root.pointer(&super::closure::unescaped(reference.strip_prefix('#')?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Schema;

    /// So many definitions that each offer the next one twice.
    fn doubling(levels: usize) -> Value {
        let mut defs = Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
            defs.insert(format!("l{level}"), json!({ "anyOf": [next, next] }));
        }
        defs.insert(format!("l{levels}"), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/l0", "$defs": defs })
    }

    #[test]
    fn a_schema_that_takes_too_long_for_every_value_is_refused() {
        assert!(Schema::compile("a", doubling(10)).unwrap().is_valid(&json!("x")));
        let error = Schema::compile("a", doubling(40)).unwrap_err();
        assert_eq!(error.pointer, "");
        assert!(error.message.starts_with("this is too complex"), "{error}");
        let inside = json!({ "properties": { "x": { "$ref": "#/$defs/l0" } }, "$defs": doubling(40)["$defs"] });
        assert_eq!(Schema::compile("a", inside).unwrap_err().pointer, "/properties/x");
    }

    #[test]
    fn a_value_that_takes_too_long_does_not_fit_and_says_why() {
        let link = json!({ "properties": { "next": { "$ref": "#" } } });
        let schema = Schema::compile("a", json!({ "anyOf": [link, link, { "type": "integer" }] })).unwrap();
        let chain = |length: usize| (0..length).fold(json!("x"), |inner, _| json!({ "next": inner }));
        assert!(schema.is_valid(&json!({ "next": 1 })));
        assert!(!schema.errors(&chain(5)).is_empty() || schema.is_valid(&chain(5)));
        assert!(!schema.is_valid(&chain(60)));
        let errors = schema.errors(&chain(60));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("too long to check"), "{}", errors[0]);
    }

    #[test]
    fn plain_schemas_are_not_counted() {
        let tree = json!({ "properties": { "children": { "items": { "$ref": "#" } } } });
        let shared = json!({ "properties": { "a": { "$ref": "#/$defs/x" }, "b": { "$ref": "#/$defs/x" } }, "$defs": { "x": {} } });
        let union = json!({ "anyOf": [{ "type": "string" }, { "properties": { "a": { "type": "integer" } } }] });
        for schema in [tree, shared, union] {
            assert_eq!(must_be_counted("a", &schema), Ok(false), "{schema}");
        }
        assert_eq!(must_be_counted("a", &doubling(3)), Ok(true));
        assert_eq!(must_be_counted("a", &json!({ "unevaluatedProperties": false })), Ok(true));
    }

    #[test]
    fn references_that_overlap_or_are_dynamic_are_no_way_around() {
        let mut defs = Map::new();
        for level in 0..40 {
            let next = format!("#/$defs/l{}", level + 1);
            let both = json!([{ "$ref": next }, { "$ref": format!("{next}/allOf/0") }]);
            defs.insert(format!("l{level}"), json!({ "allOf": [{ "anyOf": both }] }));
        }
        defs.insert("l40".to_owned(), json!({ "allOf": [{ "type": "string" }] }));
        let overlapping = json!({ "$ref": "#/$defs/l0", "$defs": defs });
        assert!(Schema::compile("a", overlapping).unwrap_err().message.starts_with("this is too complex"));
        let error = Schema::compile("a", json!({ "anyOf": [{ "$dynamicRef": "#x" }] })).unwrap_err();
        assert!(error.message.starts_with("`$dynamicRef` can't be used"), "{error}");
        let data = json!({ "properties": { "$dynamicRef": {} }, "examples": [{ "$dynamicRef": "#x" }] });
        assert!(Schema::compile("a", data).is_ok());
    }

    #[test]
    fn a_long_enum_is_counted_for_each_value() {
        let long: Vec<Value> = (0..3000).map(|at| json!([at])).collect();
        let schema = Schema::compile("a", json!({ "items": { "enum": long } })).unwrap();
        assert!(schema.is_valid(&json!([[1], [2]])));
        let many: Vec<Value> = (0..20_000).map(|_| json!([7])).collect();
        assert!(!schema.is_valid(&Value::Array(many)));
    }

    #[test]
    fn a_count_is_what_a_check_without_memory_visits() {
        let schema = doubling(3);
        // The root, 1 + 2 + 4 alternatives, a reference before each and the last definition eight times.
        assert_eq!(visits(&schema, &json!("x")), Some(1 + 7 + 14 + 8));
    }
}
