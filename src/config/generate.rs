//! The JSON Schemas of our own files, generated from the model.
//!
//! Promises a plain dialect: no null branches, no `anyOf` or `oneOf`, no unknown keys at
//! any level. That way every mistake has one place, and the walker of `shape` stays small.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use super::settings::Settings;
use crate::model::{Case, Pipeline};

/// The JSON Schema of a pipeline file, as written to `schemas/pipeline.schema.json`.
pub fn pipeline_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Pipeline>("orch pipeline"))
}

/// The schema of pipeline files as it ships, which is read faster than it is generated; a test holds them equal.
pub(super) fn shipped_pipeline_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| shipped(include_str!("../../schemas/pipeline.schema.json"), pipeline_schema))
}

/// The same of `orch.yaml`.
pub(super) fn shipped_settings_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| shipped(include_str!("../../schemas/orch.schema.json"), settings_schema))
}

fn shipped(text: &str, generated: fn() -> &'static Value) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| generated().clone())
}

/// The JSON Schema of `orch.yaml`, as written to `schemas/orch.schema.json`.
pub fn settings_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Settings>("orch settings"))
}

/// The JSON Schema of a test case, as `orch schema case` prints it.
pub fn case_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Case>("orch test case"))
}

fn generate<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with_transform(Plain);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), Value::from(title));
    schema.to_value()
}

/// Rewrites what derived schemas say about `Option` and documented enums.
#[derive(Clone)]
struct Plain;

impl Transform for Plain {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(map) = schema.as_object_mut() {
            drop_null(map);
            join_constants(map);
            map.retain(|key, _| !matches!(key.as_str(), "format" | "default" | "title"));
        }
    }
}

/// An optional key is absent, never null: the null type and the null branch go away.
fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".to_owned(), only);
        }
    }
    let is_null = |branch: &Value| branch.get("type").is_some_and(|name| name == "null");
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|branch| !is_null(branch));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            map.remove("anyOf");
            for (key, value) in only {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// A documented enum is a list of names with the descriptions of editors beside it.
fn join_constants(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("oneOf") else { return };
    let constants: Vec<Value> = branches.iter().filter_map(|branch| branch.get("const").cloned()).collect();
    if constants.len() != branches.len() {
        return;
    }
    let described: Vec<Value> =
        branches.iter().map(|branch| branch.get("description").cloned().unwrap_or_default()).collect();
    map.remove("oneOf");
    map.insert("type".to_owned(), Value::from("string"));
    map.insert("enum".to_owned(), Value::Array(constants));
    map.insert("enumDescriptions".to_owned(), Value::Array(described));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shape::KNOWN_PATTERNS;

    /// Calls `visit` with every schema object below `schema`, and where it is.
    fn each(schema: &Value, at: &str, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
        let Value::Object(map) = schema else { return };
        visit(at, map);
        for group in ["properties", "$defs"] {
            for (key, value) in map.get(group).and_then(Value::as_object).into_iter().flatten() {
                each(value, &format!("{at}/{key}"), visit);
            }
        }
        for key in ["items", "additionalProperties", "propertyNames"] {
            if let Some(value) = map.get(key) {
                each(value, &format!("{at}/{key}"), visit);
            }
        }
    }

    #[test]
    fn generated_schemas_are_plain() {
        for (schema, shipped) in
            [(pipeline_schema(), shipped_pipeline_schema()), (settings_schema(), shipped_settings_schema())]
        {
            assert_eq!(schema, shipped, "run `orch schema` again: CONTRIBUTING.md");
            each(schema, "", &mut |at, map| {
                for key in map.keys() {
                    assert!(!matches!(key.as_str(), "anyOf" | "oneOf" | "allOf" | "not" | "nullable"), "{at}: {key}");
                }
                let nullable = map.get("type").is_some_and(|t| t.to_string().contains("null"));
                assert!(!nullable, "{at} allows null");
                if map.contains_key("properties") {
                    assert_eq!(map.get("additionalProperties"), Some(&Value::Bool(false)), "{at} is open");
                }
                if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
                    assert!(KNOWN_PATTERNS.iter().any(|known| known.0 == pattern), "{at}: {pattern} is not checked");
                }
            });
        }
    }

    #[test]
    fn every_key_has_a_description_and_an_example() {
        for schema in [pipeline_schema(), settings_schema()] {
            each(schema, "", &mut |at, map| {
                for (key, value) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    assert!(value.get("description").is_some(), "{at}/{key} has no description");
                    assert!(value.get("examples").is_some(), "{at}/{key} has no example");
                }
            });
        }
    }
}
