//! Adapts schemas to the grammar: forbids properties that a schema does not name, so that a model does not invent any,
//! and removes keywords that the grammar does not support.

use serde_json::{Map, Value, json};

/// The keywords that the form `structure_and_sizes` of [`loosened_forms`] keeps: structure and sizes, no patterns.
const STRUCTURE_AND_SIZE_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "additionalProperties",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "prefixItems",
];

/// The keywords that the form `structure` of [`loosened_forms`] keeps: structure, no sizes, patterns or references.
const STRUCTURE_KEYWORDS: &[&str] = &["type", "properties", "required", "items", "enum", "const", "anyOf"];

/// Keywords that combine a schema with other schemas or rules, so that forbidding other properties is unsafe.
const COMBINING_KEYWORDS: &[&str] = &[
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "$dynamicRef",
    "patternProperties",
    "unevaluatedProperties",
    "dependentSchemas",
    "additionalProperties",
    "minProperties",
    "propertyNames",
];

/// Calls `change` with the keyword and the schema for each direct subschema.
fn for_each_subschema(schema: &mut Map<String, Value>, change: &mut dyn FnMut(&str, &mut Value)) {
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(map)) => {
                map.values_mut().for_each(|value| change(key, value));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                list.iter_mut().for_each(|value| change(key, value));
            }
            ("items" | "additionalProperties" | "not" | "if" | "then" | "else", value) => {
                change(key, value);
            }
            _ => {}
        }
    }
}

/// Forbids properties that a schema does not name, unless that may contradict another keyword. Every reply that the
/// result allows also satisfies the original schema.
fn tighten(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if map.contains_key("properties") && !COMBINING_KEYWORDS.iter().any(|key| map.contains_key(*key)) {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    for_each_subschema(map, &mut |key, value| {
        if matches!(key, "properties" | "items" | "prefixItems") {
            tighten(value);
        }
    });
}

/// Removes all keywords except these, in this schema and in every subschema. Replaces `oneOf` with the looser `anyOf`
/// first, because `keywords` contain only `anyOf`.
fn retain_keywords(schema: &mut Value, keywords: &[&str]) {
    let Value::Object(map) = schema else { return };
    if !map.contains_key("anyOf")
        && let Some(choices) = map.remove("oneOf")
    {
        map.insert("anyOf".to_owned(), choices);
    }
    map.retain(|key, _| keywords.contains(&key.as_str()));
    for_each_subschema(map, &mut |_, value| retain_keywords(value, keywords));
}

/// Replaces sizes such as `3.0` with integers. The grammar accepts only integers as sizes, but serde_json's feature
/// `arbitrary_precision` preserves the spelling `3.0`.
fn convert_sizes_to_integers(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        let is_size = matches!(
            key.as_str(),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
        );
        if let (true, None, Some(number)) = (is_size, value.as_u64(), value.as_f64())
            && number.fract() == 0.0
            && (0.0..1e9).contains(&number)
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let integer = number as u64;
            *value = Value::from(integer);
        }
    }
    for_each_subschema(map, &mut |_, value| convert_sizes_to_integers(value));
}

/// Whether white space follows the commas and colons of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonSpacing {
    /// No white space.
    Compact,
    /// One space after each of them.
    Spaced,
}

/// Adds options for the grammar: it allows no optional white space, and ignores unknown keywords.
fn with_options(mut schema: Value, spacing: JsonSpacing) -> Value {
    let (item_separator, key_separator) = match spacing {
        JsonSpacing::Compact => (",", ":"),
        JsonSpacing::Spaced => (", ", ": "),
    };
    if let Value::Object(map) = &mut schema {
        let options = json!({
            "item_separator": item_separator,
            "key_separator": key_separator,
            "whitespace_flexible": false,
            "coerce_one_of": true,
            "lenient": true,
        });
        map.insert("x-guidance".to_owned(), options);
    }
    schema
}

/// The schema in increasingly loose forms; the caller uses the first form that the grammar accepts.
pub(crate) fn loosened_forms(schema: &Value, spacing: JsonSpacing) -> Vec<Value> {
    let mut full = match schema {
        Value::Bool(_) => json!({}),
        schema => schema.clone(),
    };
    convert_sizes_to_integers(&mut full);
    let mut tight = full.clone();
    tighten(&mut tight);
    let mut structure_and_sizes = tight.clone();
    retain_keywords(&mut structure_and_sizes, STRUCTURE_AND_SIZE_KEYWORDS);
    let mut structure = tight.clone();
    retain_keywords(&mut structure, STRUCTURE_KEYWORDS);
    let type_only = match full.get("type").and_then(Value::as_str) {
        Some(kind) => json!({ "type": kind }),
        None => json!({}),
    };
    let forms = [tight, full, structure_and_sizes, structure, type_only];
    forms.into_iter().map(|form| with_options(form, spacing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_properties_are_forbidden_only_where_that_is_safe() {
        let mut schema = json!({
            "properties": {
                "a": {"properties": {"b": {}}},
                "c": {"properties": {"d": {}}, "allOf": [{"properties": {"e": {}}}]},
            },
        });
        tighten(&mut schema);
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["a"]["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["c"].get("additionalProperties"), None);
        assert_eq!(schema["properties"]["c"]["allOf"][0].get("additionalProperties"), None);
    }

    #[test]
    fn sizes_become_integers() {
        let mut schema: Value = serde_json::from_str(r#"{"properties": {"a": {"minLength": 2.0}}}"#).unwrap();
        convert_sizes_to_integers(&mut schema);
        assert_eq!(schema["properties"]["a"]["minLength"], json!(2));
    }

    #[test]
    fn looser_forms_preserve_property_names() {
        let mut schema = json!({
            "type": "object",
            "properties": {"pattern": {"type": "string", "pattern": "(?=x)"}},
            "oneOf": [{"not": {}}],
        });
        retain_keywords(&mut schema, STRUCTURE_AND_SIZE_KEYWORDS);
        let expected = json!({
            "type": "object",
            "properties": {"pattern": {"type": "string"}},
            "anyOf": [{}],
        });
        assert_eq!(schema, expected);
    }
}
