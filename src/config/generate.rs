//! The JSON Schemas of orch's own files, generated from the model.
//!
//! The schemas use a plain dialect: no null alternatives, no `anyOf` or `oneOf`, and no unknown keys at any level. So
//! each mistake has exactly one location, and the walker in `shape` stays small. `publish` derives the form that orch
//! ships.

use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::form::SchemaForm;
use super::publish::{publish, publish_pipeline};
use super::settings::Settings;
use crate::model::{Event, Pipeline, RunReport, TestCase};

/// The JSON Schema of a pipeline file, in the plain dialect.
pub fn pipeline_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Pipeline>("orch pipeline"))
}

/// The published JSON Schema of a pipeline file, as written to `schemas/pipeline.schema.json`.
pub fn published_pipeline_schema() -> Value {
    publish_pipeline(pipeline_schema())
}

/// The shipped schemas of orch's own files. A test checks that they equal the published ones.
const SHIPPED_PIPELINE: &str = include_str!("../../schemas/pipeline.schema.json");
const SHIPPED_SETTINGS: &str = include_str!("../../schemas/orch.schema.json");

/// The form of pipeline files, parsed from the shipped schema. Parsing is faster than generating the schema.
pub(super) fn pipeline_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| expect_form(serde_json::from_str(SHIPPED_PIPELINE)))
}

/// The form of `orch.yaml`.
pub(super) fn settings_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| expect_form(serde_json::from_str(SHIPPED_SETTINGS)))
}

/// The form of a test case, whose schema is generated because it is not shipped as a file.
pub(super) fn case_form() -> &'static SchemaForm<'static> {
    static FORM: OnceLock<SchemaForm<'static>> = OnceLock::new();
    FORM.get_or_init(|| expect_form(SchemaForm::deserialize(case_schema())))
}

/// Unwraps the form of a generated schema.
fn expect_form(parsed: serde_json::Result<SchemaForm<'static>>) -> SchemaForm<'static> {
    match parsed {
        Ok(form) => form.with_merged_alternatives(),
        // Tests parse all three schemas, whose content does not depend on the machine.
        Err(error) => unreachable!("a generated schema can't be read: {error}"),
    }
}

/// The JSON Schema of `orch.yaml`, in the plain dialect.
pub fn settings_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<Settings>("orch settings"))
}

/// The published JSON Schema of `orch.yaml`, as written to `schemas/orch.schema.json`.
pub fn published_settings_schema() -> Value {
    publish(settings_schema())
}

/// The JSON Schema of a test case, in the plain dialect.
pub fn case_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate::<TestCase>("orch test case"))
}

/// The published JSON Schema of a test case, as `orch schema case` prints it.
pub fn published_case_schema() -> Value {
    publish(case_schema())
}

/// The JSON Schema of an event of a run, as `orch runs events --output json` and webhooks send it.
pub fn event_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate_output::<Event>("orch event"))
}

/// The JSON Schema of a run's report, as `--output json` prints it.
pub fn report_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| generate_output::<RunReport>("orch run report"))
}

/// Generates the schema of output. Unlike files that users write, output may contain null, and later versions of orch
/// may add keys.
fn generate_output<T: JsonSchema>(title: &str) -> Value {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), Value::from(title));
    schema.to_value()
}

/// Generates the schema of files that users write, in the plain dialect.
fn generate<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with_transform(PlainDialect);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), Value::from(title));
    schema.to_value()
}

/// Converts derived schemas to the plain dialect: rewrites their constructs for `Option` and for documented enums.
#[derive(Clone)]
struct PlainDialect;

impl Transform for PlainDialect {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(map) = schema.as_object_mut() {
            drop_null(map);
            join_constants(map);
            map.retain(|key, _| !matches!(key.as_str(), "format" | "default" | "title"));
        }
    }
}

/// Removes the null type or alternative: an optional key may be absent, but never null.
fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = types.as_slice() {
            let single = single.clone();
            map.insert("type".to_owned(), single);
        }
    }
    let is_null = |branch: &Value| branch.get("type").is_some_and(|name| name == "null");
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|branch| !is_null(branch));
        if let [Value::Object(single)] = branches.as_slice() {
            let single = single.clone();
            map.remove("anyOf");
            for (key, value) in single {
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
    let descriptions: Vec<Value> =
        branches.iter().map(|branch| branch.get("description").cloned().unwrap_or_default()).collect();
    map.remove("oneOf");
    map.insert("type".to_owned(), Value::from("string"));
    map.insert("enum".to_owned(), Value::Array(constants));
    map.insert("enumDescriptions".to_owned(), Value::Array(descriptions));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shape::KNOWN_PATTERNS;
    use crate::diagnostic::equivalents;

    /// The keywords that the walker checks, and keywords that only describe a value.
    #[rustfmt::skip]
    const KNOWN_KEYWORDS: &[&str] = &[
        "$ref", "$defs", "type", "properties", "required", "additionalProperties", "propertyNames", "items", "minItems",
        "maxItems", "enum", "pattern", "minLength", "maxLength", "minimum", "exclusiveMinimum", "maximum", "writeOnly",
        "$schema", "title", "description", "examples", "enumDescriptions",
    ];

    /// Calls `visit` with the pointer and map of every schema object below `schema`.
    fn for_each_schema(schema: &Value, pointer: &str, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
        let Value::Object(map) = schema else { return };
        visit(pointer, map);
        for keyword in ["properties", "$defs"] {
            for (key, value) in map.get(keyword).and_then(Value::as_object).into_iter().flatten() {
                for_each_schema(value, &format!("{pointer}/{key}"), visit);
            }
        }
        for key in ["items", "additionalProperties", "propertyNames"] {
            if let Some(value) = map.get(key) {
                for_each_schema(value, &format!("{pointer}/{key}"), visit);
            }
        }
    }

    fn form_of(schema: &Value) -> SchemaForm<'_> {
        SchemaForm::deserialize(schema).unwrap().with_merged_alternatives()
    }

    #[test]
    fn generated_schemas_use_the_plain_dialect_and_are_shipped_in_the_published_form() {
        let parse = |text| serde_json::from_str::<Value>(text);
        let shipped = [
            (pipeline_schema(), published_pipeline_schema(), parse(SHIPPED_PIPELINE).ok()),
            (settings_schema(), published_settings_schema(), parse(SHIPPED_SETTINGS).ok()),
            (case_schema(), published_case_schema(), None),
        ];
        for (schema, published, shipped) in shipped {
            if let Some(shipped) = shipped {
                assert!(published == shipped, "a schema has changed: run `orch schema` again (CONTRIBUTING.md)");
            }
            let (plain, merged) = (format!("{:?}", form_of(schema)), format!("{:?}", form_of(&published)));
            assert!(plain == merged, "the published form has lost a part of the plain one:\n{plain}\n{merged}");
            for_each_schema(schema, "", &mut |pointer, map| {
                for key in map.keys() {
                    assert!(KNOWN_KEYWORDS.contains(&key.as_str()), "{pointer}: the walker does not check `{key}`");
                }
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    let target = target.strip_prefix("#/$defs/").unwrap();
                    assert!(schema["$defs"].get(target).is_some(), "{pointer}: {target} is not defined");
                }
                let is_nullable = map.get("type").is_some_and(|types| types.to_string().contains("null"));
                assert!(!is_nullable, "{pointer} allows null");
                if map.contains_key("properties") {
                    assert_eq!(map.get("additionalProperties"), Some(&Value::Bool(false)), "{pointer} is open");
                }
                if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
                    assert!(
                        KNOWN_PATTERNS.iter().any(|entry| entry.0 == pattern),
                        "{pointer}: {pattern} is not checked"
                    );
                }
            });
        }
    }

    /// Programs that read events and reports rely on the shipped schemas, so a change must be visible in these files.
    #[test]
    fn output_schemas_equal_the_shipped_ones() {
        let shipped = [
            ("events", event_schema(), include_str!("../../schemas/events.schema.json")),
            ("report", report_schema(), include_str!("../../schemas/report.schema.json")),
        ];
        for (name, schema, text) in shipped {
            let shipped: Value = serde_json::from_str(text).unwrap();
            assert!(
                *schema == shipped,
                "the schema of {name} has changed: run `orch schema {name}` again, and describe the change in the changelog"
            );
        }
    }

    #[test]
    fn every_key_has_a_description_and_an_example() {
        for schema in [pipeline_schema(), settings_schema()] {
            for_each_schema(schema, "", &mut |pointer, map| {
                for (key, value) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    assert!(value.get("description").is_some(), "{pointer}/{key} has no description");
                    assert!(value.get("examples").is_some(), "{pointer}/{key} has no example");
                }
            });
        }
    }

    #[test]
    fn equivalents_name_existing_types_and_keys() {
        let roots = [("Pipeline", pipeline_form()), ("Settings", settings_form()), ("Case", case_form())];
        let form_of = |type_name: &str| {
            let root_form = roots.iter().find(|(name, _)| *name == type_name).map(|(_, form)| *form);
            root_form
                .or_else(|| roots.iter().find_map(|(_, form)| form.definition(type_name)))
                .unwrap_or_else(|| panic!("{type_name}"))
        };
        for (type_name, key) in equivalents::known_keys() {
            assert!(form_of(type_name).properties.get(key).is_none(), "{type_name} has `{key}`");
            let advice = equivalents::key_help(type_name, key).unwrap();
            assert!(
                advice.rename.is_none_or(|key| form_of(type_name).properties.get(key).is_some()),
                "{type_name}: {advice:?}"
            );
        }
        for (type_name, key, _) in equivalents::known_values() {
            assert!(key.is_empty() || form_of(type_name).properties.get(key).is_some(), "{type_name} has no `{key}`");
        }
        for (type_name, word, own_word) in equivalents::known_words() {
            let allowed: Vec<&str> = form_of(type_name).enum_values.iter().flatten().map(|name| &**name).collect();
            assert!(!allowed.contains(&word), "{type_name} has `{word}`");
            assert!(own_word.is_none_or(|own_word| allowed.contains(&own_word)), "{type_name}: {word} is {own_word:?}");
        }
    }
}
