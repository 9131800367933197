//! The shape of the files: the schemas generated from the model, and values checked against them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::model::Pipeline;
use crate::schema::{Mismatch, Schema};

use super::settings::Settings;
use super::yaml::Document;

/// The JSON Schema of pipeline files.
pub fn pipeline_schema() -> Value {
    let mut schema = generated::<Pipeline>("orch pipeline");
    // What the type can't say: an input is a JSON Schema.
    if let Some(input) = schema.pointer_mut("/properties/inputs/additionalProperties") {
        *input = serde_json::json!({ "type": "object", "description": "A JSON Schema; `default` makes the input optional." });
    }
    schema
}

/// The JSON Schema of `orch.yaml`.
pub fn settings_schema() -> Value {
    generated::<Settings>("orch.yaml")
}

fn generated<T: JsonSchema>(title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    if let Value::Object(map) = &mut schema {
        map.insert("title".to_owned(), Value::String(title.to_owned()));
    }
    schema
}

/// Takes the unions out: an optional key is absent, never null, and a word is one of an `enum`.
/// With unions a mistake would be located at the whole block.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            drop_null(map);
            merge_words(map);
            map.shift_remove("default");
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn drop_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").and_then(Value::as_str) != Some("null"));
        if branches.len() == 1
            && let Value::Object(only) = branches.remove(0)
        {
            map.shift_remove("anyOf");
            for (key, value) in only {
                map.entry(key).or_insert(value);
            }
        }
    }
}

fn merge_words(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("oneOf") else {
        return;
    };
    let words: Option<Vec<Value>> = branches.iter().map(|branch| branch.get("const").cloned()).collect();
    if let Some(words) = words {
        map.shift_remove("oneOf");
        map.insert("type".to_owned(), Value::String("string".to_owned()));
        map.insert("enum".to_owned(), Value::Array(words));
    }
}

/// Checks a document against its schema and reads it into the model.
pub(super) fn read<T: DeserializeOwned>(document: &Document, schema: &Value) -> Result<T, Vec<Diagnostic>> {
    let mut findings = Vec::new();
    unknown_keys(document, schema, schema, &document.value, String::new(), &mut findings);
    match Schema::trusted("file", schema.clone()) {
        Ok(compiled) => findings.extend(compiled.errors(&document.value).iter().filter_map(|m| located(document, m))),
        Err(error) => findings.push(Diagnostic::new(Code::WrongValue, error.message, &document.source, None)),
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    serde_json::from_value(document.value.clone()).map_err(|error| {
        // Only what the schema can't say is left: it is a defect if this shows, but never a crash.
        vec![Diagnostic::new(Code::WrongValue, error.to_string(), &document.source, None)]
    })
}

fn located(document: &Document, mismatch: &Mismatch) -> Option<Diagnostic> {
    let source = &document.source;
    match mismatch.keyword.as_str() {
        // Reported with a suggestion by the walk below.
        "additionalProperties" => None,
        "required" => {
            let message = format!(
                "{} is missing here",
                mismatch.expected.replace("a property \"", "the key `").replace('"', "`")
            );
            Some(Diagnostic::new(Code::MissingKey, message, source, first_line(document, &mismatch.pointer)))
        }
        "type" => {
            let message = format!("expected {}, got {}", mismatch.expected, mismatch.got);
            let help = (mismatch.got.starts_with("null")).then(|| "leave the key out, or give it a value".to_owned());
            Some(
                Diagnostic::new(Code::WrongValue, message, source, document.value_span(&mismatch.pointer))
                    .maybe_help(help),
            )
        }
        "pattern" if mismatch.expected.contains("(ms|s|m|h)") => {
            let message = format!("expected a time such as `90s`, `5m` or `1h30m`, got {}", mismatch.got);
            Some(Diagnostic::new(Code::WrongValue, message, source, document.value_span(&mismatch.pointer)))
        }
        _ => {
            let message = format!("expected {}, got {}", mismatch.expected, mismatch.got);
            let words: Vec<&str> = mismatch.expected.split('"').skip(1).step_by(2).collect();
            let help = document
                .value
                .pointer(&mismatch.pointer)
                .and_then(Value::as_str)
                .and_then(|got| did_you_mean(got, words));
            Some(
                Diagnostic::new(Code::WrongValue, message, source, document.value_span(&mismatch.pointer))
                    .maybe_help(help),
            )
        }
    }
}

/// The first line of a block, where a key is missing.
fn first_line(document: &Document, pointer: &str) -> Option<std::ops::Range<usize>> {
    let span = document.value_span(pointer)?;
    let text = document.source.text.get(span.clone())?;
    let len = text.find('\n').unwrap_or(text.len());
    Some(span.start..span.start + len)
}

fn unknown_keys(
    document: &Document,
    root: &Value,
    schema: &Value,
    value: &Value,
    pointer: String,
    findings: &mut Vec<Diagnostic>,
) {
    let schema = match schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')))
    {
        Some(target) => target,
        None => schema,
    };
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties");
            for (key, inner) in map {
                let inside = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (properties.and_then(|p| p.get(key)), others) {
                    (Some(property), _) => unknown_keys(document, root, property, inner, inside, findings),
                    (None, Some(Value::Bool(false))) => {
                        let known = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str);
                        let help = did_you_mean(key, known.clone()).unwrap_or_else(|| {
                            format!(
                                "the keys here are {}",
                                known.map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
                            )
                        });
                        let finding = Diagnostic::new(
                            Code::UnknownKey,
                            format!("unknown key `{key}`"),
                            &document.source,
                            document.key_span(&inside),
                        );
                        findings.push(finding.help(help));
                    }
                    (None, Some(other)) => unknown_keys(document, root, other, inner, inside, findings),
                    (None, None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    unknown_keys(document, root, schema, item, format!("{pointer}/{i}"), findings);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(schema: &Value, visit: &mut dyn FnMut(&Map<String, Value>)) {
        match schema {
            Value::Object(map) => {
                visit(map);
                map.values().for_each(|inner| each(inner, visit));
            }
            Value::Array(items) => items.iter().for_each(|inner| each(inner, visit)),
            _ => {}
        }
    }

    #[test]
    fn the_generated_schemas_have_no_unions_and_no_nulls() {
        for schema in [pipeline_schema(), settings_schema()] {
            each(&schema, &mut |map| {
                assert!(!map.contains_key("anyOf") && !map.contains_key("oneOf"), "{map:?}");
                assert_ne!(map.get("type").and_then(Value::as_str), Some("null"));
                assert!(!map.get("type").is_some_and(Value::is_array), "{map:?}");
            });
        }
    }

    #[test]
    fn every_key_is_described_and_every_level_is_closed() {
        for schema in [pipeline_schema(), settings_schema()] {
            each(&schema, &mut |map| {
                let Some(Value::Object(properties)) = map.get("properties") else {
                    return;
                };
                assert!(map.contains_key("additionalProperties"), "{map:?}");
                for (name, property) in properties {
                    assert!(property.get("description").is_some(), "{name} has no description");
                }
            });
        }
    }
}
