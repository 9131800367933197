//! Adapts JSON Schemas to the subset of JSON Schema that each provider accepts.
//!
//! orch always validates the reply against the full schema afterwards. If these functions drop a keyword, the provider
//! does not enforce it, and a re-ask becomes more likely.

mod anthropic;
mod gemini;
mod openai;

use serde_json::{Map, Value};

pub(super) use anthropic::anthropic_schema;
pub(super) use gemini::gemini_schema;
pub(super) use openai::openai_schema;
pub use openai::strict_schema;

/// Keywords whose value is one schema.
const SINGLE_SCHEMA_KEYWORDS: &[&str] =
    &["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
/// Keywords whose value is a list of schemas.
const SCHEMA_LIST_KEYWORDS: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value is an object of named schemas.
const NAMED_SCHEMA_KEYWORDS: &[&str] = &["properties", "$defs", "definitions", "patternProperties", "dependentSchemas"];

/// Keywords that no API accepts at the root of a tool's schema, because the arguments must be one plain object. orch
/// checks arguments against the full schema, so it can leave these keywords out.
const REFUSED_AT_TOOL_ROOT: &[&str] =
    &["$schema", "$id", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "enum", "const"];

/// The schema of a tool's arguments for all APIs: an object with properties. A reference at the root is replaced by the
/// schema to which it refers.
pub(super) fn tool_schema(schema: &Value) -> Value {
    let mut members = schema.as_object().cloned().unwrap_or_default();
    let pointer = members.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    if let Some(referenced) = pointer.and_then(|pointer| schema.pointer(pointer)?.as_object()) {
        members.shift_remove("$ref");
        for (key, value) in referenced {
            members.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
    members.retain(|key, _| !REFUSED_AT_TOOL_ROOT.contains(&key.as_str()));
    members.insert("type".into(), Value::from("object"));
    members.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    Value::Object(members)
}

/// Whether a schema allows values of a type by its keyword `type`.
fn allows_type(schema: &Map<String, Value>, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    }
}

/// Whether a schema describes an object.
fn describes_object(schema: &Map<String, Value>) -> bool {
    allows_type(schema, "object") || schema.contains_key("properties")
}

/// Renames `oneOf` to `anyOf`, because constrained decoding can't enforce that exactly one alternative matches.
fn rename_one_of(schema: &Value) -> Value {
    let mut schema = schema.clone();
    visit_schemas(&mut schema, &mut |object| {
        if object.contains_key("oneOf") && !object.contains_key("anyOf") {
            let renamed = object
                .iter()
                .map(|(key, value)| {
                    let key = if key == "oneOf" { "anyOf" } else { key };
                    (key.to_owned(), value.clone())
                })
                .collect();
            *object = renamed;
        }
    });
    schema
}

/// Keywords that do not restrict the value, so the description need not mention them when they are dropped.
const ANNOTATION_KEYWORDS: &[&str] =
    &["$schema", "$id", "$comment", "$anchor", "examples", "default", "deprecated", "readOnly", "writeOnly"];

/// Keeps the keywords that `is_accepted` accepts. Adds the others that have a simple value, such as `minLength: 3`, to
/// the description, where the model can still read them.
fn keep_keywords(object: &mut Map<String, Value>, is_accepted: impl Fn(&str) -> bool) {
    let dropped: Vec<String> = object.keys().filter(|key| !is_accepted(key)).cloned().collect();
    let mut notes = Vec::new();
    for key in dropped {
        if let Some(value) = object.shift_remove(&key)
            && !ANNOTATION_KEYWORDS.contains(&key.as_str())
            && !value.is_object()
            && !value.is_array()
        {
            notes.push(format!("{key}: {value}"));
        }
    }
    if !notes.is_empty() {
        let note = format!("({})", notes.join(", "));
        let description = match object.get("description").and_then(Value::as_str) {
            Some(description) if !description.is_empty() => format!("{description} {note}"),
            _ => note,
        };
        object.insert("description".into(), Value::String(description));
    }
}

/// Visits every schema inside a schema, inner ones first. Treats property names as names, not as keywords.
fn visit_schemas(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(object) = schema.as_object_mut() else { return };
    for (key, value) in object.iter_mut() {
        let key = key.as_str();
        if SINGLE_SCHEMA_KEYWORDS.contains(&key) {
            visit_schemas(value, visit);
        } else if SCHEMA_LIST_KEYWORDS.contains(&key) {
            value.as_array_mut().into_iter().flatten().for_each(|item| visit_schemas(item, visit));
        } else if NAMED_SCHEMA_KEYWORDS.contains(&key) {
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|item| visit_schemas(item, visit));
        }
    }
    visit(object);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::tool_schema;

    #[test]
    fn the_schema_of_a_tool_is_always_a_plain_object() {
        let schema = json!({"$schema": "x", "type": ["object", "null"], "oneOf": [{"required": ["a"]}],
            "properties": {"a": {"anyOf": [{"type": "string"}]}}, "additionalProperties": false});
        let expected = json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}]}},
            "additionalProperties": false});
        assert_eq!(tool_schema(&schema), expected);
        assert_eq!(tool_schema(&json!(true)), json!({"type": "object", "properties": {}}));
        let arguments = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let reference = json!({"$ref": "#/$defs/A", "$defs": {"A": arguments}});
        let expected = json!({"$defs": {"A": arguments}, "type": "object", "properties": {"a": {"type": "string"}},
            "required": ["a"]});
        assert_eq!(tool_schema(&reference), expected);
        assert_eq!(tool_schema(&json!({"type": "object"})), json!({"type": "object", "properties": {}}));
    }

    /// A schema with keywords that not every provider accepts.
    pub(super) fn verdict_schema() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "verdict": {"enum": ["yes", "no"]},
                "why": {"type": "string", "minLength": 3, "description": "The reason"},
                "notes": {"type": "array", "items": {"type": "string"}, "minItems": 2}
            },
            "required": ["verdict", "why", "notes"],
            "additionalProperties": false
        })
    }
}
