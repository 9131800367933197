//! Schemas for Gemini's `responseJsonSchema`.

use serde_json::{Value, json};

use super::{keep_keywords, rename_one_of, visit_schemas};

/// Keywords that Gemini's `responseJsonSchema` accepts.
const GEMINI_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "anyOf",
    "$ref",
    "$defs",
    "$id",
    "$anchor",
    "description",
    "title",
    "format",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
];

/// The schema for Gemini, with unsupported keywords moved into the description.
pub(crate) fn gemini_schema(schema: &Value) -> Value {
    let mut schema = rename_one_of(schema);
    visit_schemas(&mut schema, &mut |object| {
        if let Some(value) = object.shift_remove("const") {
            object.insert("enum".into(), json!([value]));
        }
        if let Some(definitions) = object.shift_remove("definitions") {
            object.entry("$defs").or_insert(definitions);
        }
        if let Some(Value::String(target)) = object.get_mut("$ref")
            && let Some(name) = target.strip_prefix("#/definitions/")
        {
            *target = format!("#/$defs/{name}");
        }
        let has_accepted_format = object
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| matches!(format, "date-time" | "date" | "time"));
        keep_keywords(object, |key| if key == "format" { has_accepted_format } else { GEMINI_KEYWORDS.contains(&key) });
    });
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$id");
    }
    schema
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    #[test]
    fn gemini_receives_only_keywords_that_it_accepts() {
        let schema = gemini_schema(&json!({
            "$id": "x",
            "type": "object",
            "properties": {
                "kind": {"const": "a"},
                "at": {"type": "string", "format": "uuid"},
                "size": {"type": "integer", "minimum": 1, "multipleOf": 2},
                "other": {"$ref": "#/definitions/o"}
            },
            "definitions": {"o": {"type": "string", "maxLength": 9}}
        }));
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "kind": {"enum": ["a"]},
                    "at": {"type": "string", "description": "(format: \"uuid\")"},
                    "size": {"type": "integer", "minimum": 1, "description": "(multipleOf: 2)"},
                    "other": {"$ref": "#/$defs/o"}
                },
                "$defs": {"o": {"type": "string", "description": "(maxLength: 9)"}}
            })
        );
    }
}
