//! Schemas for Anthropic's structured output, which requires closed objects and accepts few keywords.

use serde_json::Value;

use super::{allows_type, describes_object, keep_keywords, rename_one_of, visit_schemas};

/// Keywords that Anthropic's structured output accepts.
const ANTHROPIC_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "description",
    "title",
    "default",
    "format",
    "minItems",
];

/// Formats that Anthropic's structured output accepts.
const ANTHROPIC_FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// The schema for Anthropic's structured output: closes objects (`additionalProperties: false`) and moves keywords that
/// the API refuses into the description.
///
/// `None` if the API can't express the schema: it is recursive, allows any value somewhere, or has an object with
/// arbitrary property names. This includes an object without `properties`: once closed, it could only be empty.
pub(crate) fn anthropic_schema(schema: &Value) -> Option<Value> {
    if is_recursive(schema) {
        return None;
    }
    let mut is_expressible = true;
    let mut schema = rename_one_of(schema);
    visit_schemas(&mut schema, &mut |object| {
        let is_open = object.get("additionalProperties").is_some_and(|value| *value != Value::Bool(false))
            || object.contains_key("patternProperties");
        let has_no_properties = allows_type(object, "object") && !object.contains_key("properties");
        let type_keywords = ["type", "enum", "const", "anyOf", "allOf", "$ref", "properties"];
        let allows_any = !type_keywords.iter().any(|key| object.contains_key(*key));
        is_expressible &= !(is_open || has_no_properties || allows_any);
        let has_small_minimum = object.get("minItems").and_then(Value::as_u64).is_some_and(|minimum| minimum <= 1);
        let has_accepted_format =
            object.get("format").and_then(Value::as_str).is_some_and(|format| ANTHROPIC_FORMATS.contains(&format));
        keep_keywords(object, |key| match key {
            "minItems" => has_small_minimum,
            "format" => has_accepted_format,
            key => ANTHROPIC_KEYWORDS.contains(&key),
        });
        if describes_object(object) {
            object.insert("additionalProperties".into(), Value::Bool(false));
        }
    });
    is_expressible.then_some(schema)
}

/// Whether a chain of references in a schema leads back to an earlier one.
fn is_recursive(root: &Value) -> bool {
    fn visit<'a>(root: &'a Value, schema: &'a Value, path: &mut Vec<&'a str>) -> bool {
        match schema {
            Value::Array(items) => items.iter().any(|item| visit(root, item, path)),
            Value::Object(object) => {
                if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                    // Treat very deep chains of references as recursive too.
                    if path.contains(&target) || path.len() > 64 {
                        return true;
                    }
                    let referenced = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                    path.push(target);
                    let is_circular = referenced.is_some_and(|schema| visit(root, schema, path));
                    path.pop();
                    if is_circular {
                        return true;
                    }
                }
                object.iter().any(|(key, value)| {
                    !matches!(key.as_str(), "$defs" | "definitions" | "enum" | "const" | "default" | "examples")
                        && visit(root, value, path)
                })
            }
            _ => false,
        }
    }
    visit(root, root, &mut Vec::new())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::schema::tests::verdict_schema;
    use serde_json::json;

    #[test]
    fn the_description_contains_limits_that_anthropic_does_not_accept() {
        let schema = anthropic_schema(&verdict_schema()).unwrap();
        assert_eq!(schema["properties"]["why"], json!({"type": "string", "description": "The reason (minLength: 3)"}));
        assert_eq!(
            schema["properties"]["notes"],
            json!({"type": "array", "items": {"type": "string"}, "description": "(minItems: 2)"})
        );
        assert!(schema.get("$schema").is_none());
    }

    #[test]
    fn anthropic_receives_closed_objects_without_one_of() {
        let schema = anthropic_schema(&json!({
            "type": "object",
            "properties": {"format": {"oneOf": [
                {"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^a"}}},
                {"type": "null"}
            ]}}
        }))
        .unwrap();
        assert_eq!(schema["additionalProperties"], json!(false));
        // `format` and `pattern` are names of properties here, not keywords.
        let inner = &schema["properties"]["format"]["anyOf"][0];
        assert_eq!(inner["additionalProperties"], json!(false));
        assert_eq!(inner["properties"]["pattern"], json!({"type": "string", "description": "(pattern: \"^a\")"}));
    }

    #[test]
    fn schemas_that_anthropic_cannot_express_are_not_sent() {
        for schema in [
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"any": {}}}),
            json!({"$ref": "#/$defs/t", "$defs": {"t": {"type": "object",
                "properties": {"next": {"$ref": "#/$defs/t"}}}}}),
            json!({"type": "object", "properties": {"self": {"$ref": "#"}}}),
        ] {
            assert_eq!(anthropic_schema(&schema), None, "{schema}");
        }
        let shared = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}},
            "$defs": {"t": {"type": "string"}}});
        assert!(anthropic_schema(&shared).is_some());
    }
}
