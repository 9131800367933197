//! The JSON Schemas of orch's own files, generated from the model.
//!
//! They use a plain dialect: no null branches, no `anyOf` or `oneOf`, and no unknown keys at any level. Each mistake
//! then has exactly one location, and the walker in `shape` stays small.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::form::SchemaForm;
use super::settings::Settings;
use crate::model::{Case, Pipeline};

/// The JSON Schema of a pipeline file, as written to `schemas/pipeline.schema.json`.
pub fn pipeline_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Pipeline>("orch pipeline"))
}

/// The schemas of orch's own files as they are shipped. A test checks that they equal the generated ones.
const SHIPPED_PIPELINE: &str = include_str!("../../schemas/pipeline.schema.json");
const SHIPPED_SETTINGS: &str = include_str!("../../schemas/orch.schema.json");

/// The form of pipeline files. Parsed from the shipped schema, which is faster than generating it.
pub(super) fn pipeline_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| form(serde_json::from_str(SHIPPED_PIPELINE)))
}

/// The form of `orch.yaml`.
pub(super) fn settings_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| form(serde_json::from_str(SHIPPED_SETTINGS)))
}

/// The form of a test case, whose schema is generated because it is not shipped as a file.
pub(super) fn case_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| form(SchemaForm::deserialize(case_schema())))
}

fn form(read: serde_json::Result<SchemaForm<'static>>) -> SchemaForm<'static> {
    match read {
        Ok(form) => form,
        // Tests parse all three, and their content does not depend on the machine.
        Err(error) => unreachable!("a generated schema can't be read: {error}"),
    }
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

/// Brings derived schemas into the plain dialect: rewrites what they contain for `Option` and for documented enums.
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

/// Removes the null type or branch, because an optional key is absent and never null.
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

/// Turns a documented enum, a `oneOf` of constants, into an `enum` of strings with `enumDescriptions`, which editors
/// show.
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
    use crate::diagnostic::equivalents;

    /// The keywords that the walker follows, and those that only describe.
    #[rustfmt::skip]
    const KNOWN: &[&str] = &[
        "$ref", "$defs", "type", "properties", "required", "additionalProperties", "propertyNames", "items", "minItems",
        "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "writeOnly",
        "$schema", "title", "description", "examples", "enumDescriptions",
    ];

    /// Calls `visit` with the pointer and map of every schema object below `schema`.
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
        let read = |text| serde_json::from_str::<Value>(text);
        let (pipeline, settings) = (read(SHIPPED_PIPELINE), read(SHIPPED_SETTINGS));
        let shipped = [(pipeline_schema(), pipeline.ok()), (settings_schema(), settings.ok())];
        for (schema, shipped) in shipped.into_iter().chain([(case_schema(), None)]) {
            if let Some(shipped) = shipped {
                assert_eq!(*schema, shipped, "run `orch schema` again: CONTRIBUTING.md");
            }
            SchemaForm::deserialize(schema).unwrap();
            each(schema, "", &mut |at, map| {
                for key in map.keys() {
                    assert!(KNOWN.contains(&key.as_str()), "{at}: nobody checks `{key}`");
                }
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    let target = target.strip_prefix("#/$defs/").unwrap();
                    assert!(schema["$defs"].get(target).is_some(), "{at}: {target} is not there");
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

    #[test]
    fn words_of_other_tools_are_told_at_places_that_there_are() {
        let roots = [("Pipeline", pipeline_form()), ("Settings", settings_form()), ("Case", case_form())];
        let form = |place: &str| {
            let top = roots.iter().find(|(name, _)| *name == place).map(|(_, form)| *form);
            top.or_else(|| roots.iter().find_map(|(_, form)| form.named(place))).unwrap_or_else(|| panic!("{place}"))
        };
        for (place, word) in equivalents::known_keys() {
            assert!(form(place).properties.get(word).is_none(), "{place} has `{word}`");
            let found = equivalents::key(place, word).unwrap();
            assert!(found.rename.is_none_or(|key| form(place).properties.get(key).is_some()), "{place}: {found:?}");
        }
        for (place, key, _) in equivalents::known_values() {
            assert!(key.is_empty() || form(place).properties.get(key).is_some(), "{place} has no `{key}`");
        }
    }
}
