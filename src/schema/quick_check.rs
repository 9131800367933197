//! Recognizes most valid schemas without the meta-schema, so that orch compiles the meta-schema only for the others.
//!
//! Compiling the meta-schema of 2020-12 takes longer than all other work for a small project. A positive result must be
//! correct. After a negative result, orch validates the schema against the meta-schema, which also explains the
//! mistake.

use std::collections::HashSet;

use jsonschema::{Draft, Registry, RegistryBuilder, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Value, json};

/// The maximum nesting depth; orch checks deeper schemas against the meta-schema.
const MAX_DEPTH: usize = 64;
/// The URI under which a schema is compiled; messages never show it.
const SCHEMA_URI: &str = "orch:/schema";
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const TYPES: &[&str] = &["array", "boolean", "integer", "null", "number", "object", "string"];

/// Compiles a schema that passed the quick check, without validating it again.
///
/// The library validates every schema that it compiles against the meta-schema and has no option to skip that. It does
/// not validate the schemas to which the compiled schema refers. Therefore this function compiles a `$ref` to the
/// schema, in the dialect with the smallest meta-schema.
pub(super) fn build_validator(
    options: ValidationOptions<'_>,
    schema: &Value,
) -> Result<Validator, ValidationError<'static>> {
    let resource = Draft::Draft202012.create_resource_ref(schema);
    let registry = Registry::new().add(SCHEMA_URI, resource).and_then(RegistryBuilder::prepare)?;
    options.with_draft(Draft::Draft4).with_registry(&registry).build(&json!({ "$ref": SCHEMA_URI }))
}

/// Returns whether a schema is certainly valid under the meta-schema of 2020-12. Returns `false` if a quick check can't
/// determine that.
pub(super) fn is_certainly_valid(schema: &Value) -> bool {
    is_valid_subschema(schema, MAX_DEPTH)
}

fn is_valid_subschema(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Bool(_) => true,
        Value::Object(map) => depth > 0 && map.iter().all(|(key, value)| is_valid_keyword(key, value, depth - 1)),
        _ => false,
    }
}

/// Returns whether the value of a keyword is certainly valid. Returns `false` for a keyword that is not listed: such
/// keywords are rare, and orch checks their schemas against the meta-schema.
fn is_valid_keyword(key: &str, value: &Value, depth: usize) -> bool {
    match key {
        "$schema" => value == DIALECT,
        "$ref" => value.as_str().is_some_and(|text| text.starts_with("#/") && text.bytes().all(is_unescaped_byte)),
        // The compilation of the schema rejects an invalid `pattern`.
        "title" | "description" | "pattern" | "format" | "$comment" | "contentEncoding" | "contentMediaType" => {
            value.is_string()
        }
        "default" | "const" => true,
        "examples" => value.is_array(),
        "readOnly" | "writeOnly" | "deprecated" | "uniqueItems" => value.is_boolean(),
        "type" => is_valid_type(value),
        "enum" => value.is_array(),
        "required" => has_distinct_strings(value),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => value.is_u64(),
        "properties" | "$defs" => value.as_object().is_some_and(|map| has_valid_members(map, depth)),
        "items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" | "propertyNames" => {
            is_valid_subschema(value, depth)
        }
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => value
            .as_array()
            .is_some_and(|list| !list.is_empty() && list.iter().all(|schema| is_valid_subschema(schema, depth))),
        _ => false,
    }
}

/// Returns whether a byte may be in a URI fragment without an escape.
fn is_unescaped_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#/$_-.~".contains(&byte)
}

fn has_valid_members(map: &Map<String, Value>, depth: usize) -> bool {
    map.values().all(|schema| is_valid_subschema(schema, depth))
}

fn is_valid_type(value: &Value) -> bool {
    let is_type_name = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(list) => !list.is_empty() && list.iter().all(is_type_name) && has_distinct_strings(value),
        name => is_type_name(name),
    }
}

/// Returns whether a value is a list of strings without duplicates.
fn has_distinct_strings(value: &Value) -> bool {
    let Some(list) = value.as_array() else { return false };
    let mut seen = HashSet::new();
    list.iter().all(|item| item.as_str().is_some_and(|text| seen.insert(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Values that keywords may have, and values that they may not have.
    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(true)),
            Just(json!(3)),
            Just(json!(-1)),
            Just(json!(1.0)),
            Just(json!(1.5)),
            Just(json!("string")),
            Just(json!("text")),
            Just(json!("#/$defs/a")),
            Just(json!("#/a%zz")),
            Just(json!(DIALECT)),
            Just(json!([])),
            Just(json!(["a", "b"])),
            Just(json!(["a", "a"])),
            Just(json!(["string", "null"])),
            Just(json!({})),
            Just(json!({ "a": 1 })),
            Just(json!([{ "type": "object" }])),
        ]
    }

    fn schemas() -> impl Strategy<Value = Value> {
        let keys = [
            "$schema",
            "$ref",
            "title",
            "description",
            "format",
            "$comment",
            "default",
            "const",
            "examples",
            "type",
            "enum",
            "required",
            "minimum",
            "maxLength",
            "minItems",
            "properties",
            "$defs",
            "items",
            "not",
            "allOf",
            "additionalProperties",
            "anyOf",
            "prefixItems",
            "uniqueItems",
            "unknown_keyword",
            "pattern",
            "$id",
        ];
        let leaf = values().boxed();
        leaf.prop_recursive(3, 24, 3, move |inner| {
            proptest::collection::vec((proptest::sample::select(keys.to_vec()), inner), 0..4).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_schema_that_passes_the_quick_check_is_valid_under_the_meta_schema(schema in schemas()) {
            if is_certainly_valid(&schema) {
                prop_assert!(jsonschema::meta::is_valid(&schema), "{schema}");
            }
        }
    }

    #[test]
    fn the_schemas_of_the_initial_project_pass_the_quick_check() {
        for name in ["plan", "code", "review", "questions"] {
            let text = std::fs::read_to_string(format!("schemas/{name}.schema.json")).unwrap();
            assert!(is_certainly_valid(&serde_json::from_str(&text).unwrap()), "{name}");
        }
    }
}
