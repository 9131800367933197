//! Recognizes most valid schemas without the meta-schema, so that it is compiled only for the others.
//!
//! Compiling the meta-schema of 2020-12 takes longer than everything else that a small project needs. A positive answer
//! must be right. After a negative one, the meta-schema decides and says what is wrong.

use std::collections::HashSet;

use jsonschema::{Draft, Registry, RegistryBuilder, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Value, json};

/// How many levels deep schemas are checked; deeper ones are left to the meta-schema.
const MAX_DEPTH: usize = 64;
/// The URI under which a schema is compiled; never shown.
const NAME: &str = "orch:/schema";
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const TYPES: &[&str] = &["array", "boolean", "integer", "null", "number", "object", "string"];

/// Compiles a schema that is plainly valid, without validating it again.
///
/// The library validates every schema that it compiles against the meta-schema and has no option to skip that. It does
/// not validate the schemas that such a schema refers to. So it compiles a `$ref` to the schema, in the dialect with
/// the smallest meta-schema.
pub(super) fn build(options: ValidationOptions<'_>, schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let resource = Draft::Draft202012.create_resource_ref(schema);
    let registry = Registry::new().add(NAME, resource).and_then(RegistryBuilder::prepare)?;
    options.with_draft(Draft::Draft4).with_registry(&registry).build(&json!({ "$ref": NAME }))
}

/// Whether a schema is certainly valid under the meta-schema of 2020-12. False if a quick check can't tell.
pub(super) fn is_plainly_valid(schema: &Value) -> bool {
    subschema(schema, MAX_DEPTH)
}

fn subschema(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Bool(_) => true,
        Value::Object(map) => depth > 0 && map.iter().all(|(key, value)| keyword(key, value, depth - 1)),
        _ => false,
    }
}

/// Whether the value of a keyword is certainly valid. False for a keyword that is not listed: those are rare, and the
/// meta-schema decides about them.
fn keyword(key: &str, value: &Value, depth: usize) -> bool {
    match key {
        "$schema" => value == DIALECT,
        "$ref" => value.as_str().is_some_and(|text| text.starts_with("#/") && text.bytes().all(plain_byte)),
        // An invalid `pattern` is refused when the schema is compiled.
        "title" | "description" | "pattern" | "format" | "$comment" | "contentEncoding" | "contentMediaType" => {
            value.is_string()
        }
        "default" | "const" => true,
        "examples" => value.is_array(),
        "readOnly" | "writeOnly" | "deprecated" | "uniqueItems" => value.is_boolean(),
        "type" => kinds(value),
        "enum" => value.is_array(),
        "required" => distinct(value),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => value.is_u64(),
        "properties" | "$defs" => value.as_object().is_some_and(|map| members(map, depth)),
        "items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" | "propertyNames" => {
            subschema(value, depth)
        }
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
            value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(|schema| subschema(schema, depth)))
        }
        _ => false,
    }
}

/// Whether a byte may be in a URI fragment without an escape.
fn plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#/$_-.~".contains(&byte)
}

fn members(map: &Map<String, Value>, depth: usize) -> bool {
    map.values().all(|schema| subschema(schema, depth))
}

fn kinds(value: &Value) -> bool {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(list) => !list.is_empty() && list.iter().all(known) && distinct(value),
        one => known(one),
    }
}

/// Whether a value is a list of strings without duplicates.
fn distinct(value: &Value) -> bool {
    let Some(list) = value.as_array() else { return false };
    let mut seen = HashSet::new();
    list.iter().all(|one| one.as_str().is_some_and(|text| seen.insert(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Values that keywords may have, and some that they may not have.
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
            "unheard",
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
        fn what_is_plainly_valid_is_valid_under_the_meta_schema(schema in schemas()) {
            if is_plainly_valid(&schema) {
                prop_assert!(jsonschema::meta::is_valid(&schema), "{schema}");
            }
        }
    }

    #[test]
    fn the_schemas_of_the_first_project_are_plain() {
        for name in ["plan", "code", "review", "questions"] {
            let text = std::fs::read_to_string(format!("schemas/{name}.schema.json")).unwrap();
            assert!(is_plainly_valid(&serde_json::from_str(&text).unwrap()), "{name}");
        }
    }
}
