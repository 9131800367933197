//! Schemas for `OpenAI`'s APIs. orch sends them whole, in strict mode if they fit the subset that strict mode supports.

use serde_json::{Map, Value};

use super::{allows_type, describes_object};

/// A schema for `OpenAI`'s APIs.
pub(crate) struct StrictSchema {
    /// The schema to send.
    pub(crate) schema: Value,
    /// Whether the schema fits the strict subset.
    pub(crate) strict: bool,
}

/// The schema without `$schema` and `$id` at its root, and whether it fits the strict subset.
pub(crate) fn openai_schema(schema: &Value) -> StrictSchema {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$schema");
        object.shift_remove("$id");
    }
    // At the root, strict mode accepts an object but no union.
    let has_object_root = schema.get("type").and_then(Value::as_str) == Some("object") && schema.get("anyOf").is_none();
    let strict = has_object_root && is_strict(&schema);
    StrictSchema { schema, strict }
}

/// A schema for a CLI agent that always uses strict mode; `None` if the schema does not fit the strict subset.
pub fn strict_schema(schema: &Value) -> Option<Value> {
    let adapted = openai_schema(schema);
    adapted.strict.then_some(adapted.schema)
}

/// Keywords of the strict subset.
const STRICT_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "description",
    "title",
    "pattern",
    "format",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "minItems",
    "maxItems",
];

/// Formats of the strict subset.
const STRICT_FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// Whether a schema below the root fits the strict subset.
fn is_strict(schema: &Value) -> bool {
    let Some(object) = schema.as_object() else { return false };
    if !object.keys().all(|key| STRICT_KEYWORDS.contains(&key.as_str())) {
        return false;
    }
    if let Some(format) = object.get("format").and_then(Value::as_str)
        && !STRICT_FORMATS.contains(&format)
    {
        return false;
    }
    // A schema without any of these allows every value, which strict mode does not support.
    if !["type", "enum", "const", "anyOf", "$ref"].iter().any(|key| object.contains_key(*key)) {
        return false;
    }
    if describes_object(object) {
        let no_properties = Map::new();
        let properties = object.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if object.get("additionalProperties") != Some(&Value::Bool(false))
            || !properties.keys().all(|name| required.contains(&name.as_str()))
        {
            return false;
        }
    }
    if allows_type(object, "array") && !object.contains_key("items") {
        return false;
    }
    let children = object.iter().flat_map(|(key, value)| match (key.as_str(), value) {
        ("items", item) => vec![item],
        ("anyOf", Value::Array(items)) => items.iter().collect(),
        ("properties" | "$defs" | "definitions", Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    });
    children.into_iter().all(is_strict)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::schema::tests::verdict_schema;
    use serde_json::json;

    #[test]
    fn strict_needs_closed_objects_with_every_property_required() {
        let mut schema = verdict_schema();
        assert!(!openai_schema(&schema).strict, "the subset does not contain minLength");
        schema["properties"]["why"].as_object_mut().unwrap().remove("minLength");
        assert!(openai_schema(&schema).strict);
        assert!(openai_schema(&schema).schema.get("$schema").is_none());
        let mut open = schema.clone();
        open.as_object_mut().unwrap().remove("additionalProperties");
        assert!(!openai_schema(&open).strict);
        let mut optional = schema.clone();
        optional["required"] = json!(["verdict"]);
        assert!(!openai_schema(&optional).strict);
        let mut inner = schema.clone();
        inner["properties"]["notes"]["items"] = json!({"type": "object", "properties": {}});
        assert!(!openai_schema(&inner).strict);
        assert!(!openai_schema(&json!({"type": "array", "items": {"type": "string"}})).strict);
    }

    #[test]
    fn a_schema_that_is_not_strict_is_sent_whole() {
        assert_eq!(openai_schema(&verdict_schema()).schema["properties"], verdict_schema()["properties"]);
    }
}
