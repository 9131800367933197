//! Adapts schemas to the grammar: tightens them where a model would ramble, and loosens them where the grammar does not
//! support a keyword.

use serde_json::{Map, Value, json};

/// Keywords that the first loosening keeps: structure and sizes, no patterns.
const STRUCTURE: &[&str] = &[
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

/// Keywords that the second loosening keeps: structure alone.
const SHAPE: &[&str] = &["type", "properties", "required", "items", "enum", "const", "anyOf"];

/// Keywords that combine a schema with others, so that forbidding other properties is unsafe.
const COMBINING: &[&str] = &[
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

/// Applies `change` to the schemas directly below this one.
fn below(schema: &mut Map<String, Value>, change: &mut dyn FnMut(&str, &mut Value)) {
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

/// Forbids properties that a schema does not name, where that cannot contradict another part of it. Every reply that
/// the result allows satisfies the original too.
fn tighten(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if map.contains_key("properties") && !COMBINING.iter().any(|key| map.contains_key(*key)) {
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    below(map, &mut |key, value| {
        if matches!(key, "properties" | "items" | "prefixItems") {
            tighten(value);
        }
    });
}

/// Keeps only the given keywords, in every schema inside this one.
fn keep(schema: &mut Value, keywords: &[&str]) {
    let Value::Object(map) = schema else { return };
    if !map.contains_key("anyOf")
        && let Some(choices) = map.remove("oneOf")
    {
        map.insert("anyOf".to_owned(), choices);
    }
    map.retain(|key, _| keywords.contains(&key.as_str()));
    below(map, &mut |_, value| keep(value, keywords));
}

/// Replaces sizes such as `3.0` by whole numbers: in this workspace, JSON numbers keep their text, and the grammar
/// reads sizes only as integers.
fn whole_sizes(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        let size = matches!(
            key.as_str(),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
        );
        if let (true, None, Some(number)) = (size, value.as_u64(), value.as_f64())
            && number.fract() == 0.0
            && (0.0..1e9).contains(&number)
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let whole = number as u64;
            *value = Value::from(whole);
        }
    }
    below(map, &mut |_, value| whole_sizes(value));
}

/// Adds options for the grammar: replies have no optional white space, and unknown keywords are ignored.
fn compact(mut schema: Value) -> Value {
    if let Value::Object(map) = &mut schema {
        let options = json!({
            "item_separator": ",",
            "key_separator": ":",
            "whitespace_flexible": false,
            "coerce_one_of": true,
            "lenient": true,
        });
        map.insert("x-guidance".to_owned(), options);
    }
    schema
}

/// The schema in ever looser forms; the first one that the grammar accepts is the one to use.
pub(crate) fn forms(schema: &Value) -> Vec<Value> {
    let mut whole = match schema {
        Value::Bool(_) => json!({}),
        schema => schema.clone(),
    };
    whole_sizes(&mut whole);
    let mut tight = whole.clone();
    tighten(&mut tight);
    let mut structure = tight.clone();
    keep(&mut structure, STRUCTURE);
    let mut shape = tight.clone();
    keep(&mut shape, SHAPE);
    let last = match whole.get("type").and_then(Value::as_str) {
        Some(kind) => json!({ "type": kind }),
        None => json!({}),
    };
    [tight, whole, structure, shape, last].into_iter().map(compact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_only_where_that_is_safe() {
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
    fn sizes_become_whole() {
        let mut schema: Value = serde_json::from_str(r#"{"properties": {"a": {"minLength": 2.0}}}"#).unwrap();
        whole_sizes(&mut schema);
        assert_eq!(schema["properties"]["a"]["minLength"], json!(2));
    }

    #[test]
    fn loosening_keeps_names_of_properties() {
        let mut schema = json!({
            "type": "object",
            "properties": {"pattern": {"type": "string", "pattern": "(?=x)"}},
            "oneOf": [{"not": {}}],
        });
        keep(&mut schema, STRUCTURE);
        let expected = json!({
            "type": "object",
            "properties": {"pattern": {"type": "string"}},
            "anyOf": [{}],
        });
        assert_eq!(schema, expected);
    }
}
