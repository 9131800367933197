//! Computes the maximum length of a reply that a grammar of its schema constrains, as the replies of embedded models
//! are.

use serde_json::{Map, Value};

use super::Schema;

/// The maximum nesting depth of a schema. A reply to a deeper schema has no known bound.
const MAX_DEPTH: usize = 16;
/// The maximum number of visited parts of a schema, because schemas may be recursive.
const MAX_VISITS: usize = 2_000;
/// The most bytes that a character of a string takes in JSON: an escape such as `\u001f`.
const MAX_CHARACTER_BYTES: u64 = 6;
/// Keywords that do not restrict a value.
const DESCRIPTIVE_KEYWORDS: &[&str] =
    &["$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"];
/// Keywords of a type that every grammar supports. With any other keyword, the grammar may be looser than the schema.
const TYPE_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];

impl Schema {
    /// Returns the maximum length, in bytes, of the JSON text that a grammar of this schema allows: without optional
    /// white space, and without properties that the schema does not declare. `None` if the schema sets no limit, or if
    /// the grammar may be looser than the schema.
    pub fn max_constrained_bytes(&self) -> Option<u64> {
        let root = self.as_value();
        GrammarBound { root, remaining_visits: MAX_VISITS }.value_bytes(root, true, 0)
    }
}

struct GrammarBound<'a> {
    root: &'a Value,
    remaining_visits: usize,
}

impl<'a> GrammarBound<'a> {
    /// The maximum length of a value. `is_closed`: whether the grammar forbids undeclared properties although the
    /// schema allows them. It forbids them everywhere except behind references and in alternatives.
    fn value_bytes(&mut self, schema: &'a Value, is_closed: bool, depth: usize) -> Option<u64> {
        self.remaining_visits = self.remaining_visits.checked_sub(1)?;
        let map = schema.as_object().filter(|_| depth < MAX_DEPTH)?;
        if let Some(reference) = map.get("$ref") {
            let target = self.root.pointer(reference.as_str()?.strip_prefix('#')?)?;
            return if has_only(map, &["$ref"]) { self.value_bytes(target, false, depth + 1) } else { None };
        }
        if let Some(value) = map.get("const") {
            return if has_only(map, &["const", "type"]) { Some(json_bytes(value)) } else { None };
        }
        if let Some(Value::Array(values)) = map.get("enum") {
            return if has_only(map, &["enum", "type"]) { values.iter().map(json_bytes).max() } else { None };
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = map.get(keyword) {
                let bounds = branches.iter().map(|branch| self.value_bytes(branch, false, depth + 1));
                return if has_only(map, &[keyword]) { largest(bounds) } else { None };
            }
        }
        if !has_only(map, TYPE_KEYWORDS) {
            return None;
        }
        match map.get("type")? {
            Value::String(name) => self.type_bytes(name, map, is_closed, depth),
            Value::Array(names) => {
                largest(names.iter().map(|name| self.type_bytes(name.as_str()?, map, is_closed, depth)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    fn type_bytes(&mut self, name: &str, map: &'a Map<String, Value>, is_closed: bool, depth: usize) -> Option<u64> {
        match name {
            "object" => self.object_bytes(map, is_closed, depth),
            "array" => {
                let count = map.get("maxItems")?.as_u64()?;
                let item_bytes = self.value_bytes(map.get("items")?, is_closed, depth + 1)?;
                Some(count.saturating_mul(item_bytes.saturating_add(1)).saturating_add(2))
            }
            "string" => Some(map.get("maxLength")?.as_u64()?.saturating_mul(MAX_CHARACTER_BYTES).saturating_add(2)),
            "integer" => {
                let bound_bytes =
                    |keyword: &str| map.get(keyword)?.as_i64().map(|bound| byte_count(&bound.to_string()));
                Some(bound_bytes("minimum")?.max(bound_bytes("maximum")?))
            }
            "boolean" => Some(5),
            "null" => Some(4),
            // A number may have any number of digits after the point.
            _ => None,
        }
    }

    fn object_bytes(&mut self, map: &'a Map<String, Value>, is_closed: bool, depth: usize) -> Option<u64> {
        let forbids_others = match map.get("additionalProperties") {
            Some(others) => *others == Value::Bool(false),
            None => is_closed,
        };
        let properties = map.get("properties")?.as_object().filter(|_| forbids_others)?;
        // The model writes the content of a file outside of JSON, and possibly twice.
        if properties.contains_key("path") && properties.contains_key("content") {
            return None;
        }
        let mut bytes = 2_u64;
        for (name, schema) in properties {
            let name_bytes = json_bytes(&Value::from(name.as_str())).saturating_add(2);
            bytes = bytes.saturating_add(name_bytes).saturating_add(self.value_bytes(schema, is_closed, depth + 1)?);
        }
        Some(bytes)
    }
}

/// Whether a schema has only these keywords and descriptive ones.
fn has_only(map: &Map<String, Value>, keywords: &[&str]) -> bool {
    map.keys().all(|key| keywords.contains(&key.as_str()) || DESCRIPTIVE_KEYWORDS.contains(&key.as_str()))
}

/// The largest of these bounds; `None` if one is unknown.
fn largest(bounds: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut largest = 0;
    for bound in bounds {
        largest = bound?.max(largest);
    }
    Some(largest)
}

fn json_bytes(value: &Value) -> u64 {
    byte_count(&value.to_string())
}

fn byte_count(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bound(schema: Value) -> Option<u64> {
        Schema::compile("a", schema).unwrap().max_constrained_bytes()
    }

    #[test]
    fn the_longest_value_has_the_length_of_the_bound() {
        let schema = json!({
            "type": "object", "required": ["ok"],
            "properties": {
                "ok": { "type": "boolean" },
                "score": { "type": "integer", "minimum": -5, "maximum": 100 },
                "kinds": { "type": "array", "maxItems": 2, "items": { "enum": ["a", "bc"] } },
                "who": { "anyOf": [{ "const": 1 }, { "$ref": "#/$defs/name" }] },
            },
            "$defs": { "name": { "description": "A name.", "type": ["string", "null"], "maxLength": 1 } },
        });
        let longest = r#"{"ok":false,"score":100,"kinds":["bc","bc"],"who":"\u001f"}"#;
        // The bound counts a comma after the last member and after the last item.
        assert_eq!(bound(schema), Some(u64::try_from(longest.len()).unwrap() + 2));
    }

    #[test]
    fn a_value_without_a_limit_has_no_bound() {
        for schema in [
            json!({ "type": "string" }),
            json!({ "type": "integer", "minimum": 0 }),
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            json!({ "type": "array", "items": { "type": "boolean" } }),
            json!({ "type": "object" }),
            json!({ "type": "object", "properties": { "a": { "type": "null" } }, "additionalProperties": true }),
            json!({ "anyOf": [{ "type": "object", "properties": { "a": { "type": "null" } } }] }),
            json!({ "type": "string", "maxLength": 3, "format": "date" }),
            json!({ "type": "object", "properties": { "path": { "const": "a" }, "content": { "const": "b" } } }),
            json!({ "properties": { "next": { "$ref": "#" } }, "type": "object", "additionalProperties": false }),
            json!(true),
        ] {
            assert_eq!(bound(schema.clone()), None, "{schema}");
        }
    }
}
