//! The published form of the schemas of orch's files, for editors and other tools.
//!
//! Strict validators, such as ajv in its strict mode, refuse the keyword and the lists of types of the plain dialect.
//! The published form has an alternative for each type and for each documented constant instead. It also has the rules
//! about keys that belong together, such as the kinds of steps. In the plain dialect they would be mistakes without an
//! exact location; `check` reports them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::CliAgentKind;
use crate::model::agent::{CLI_AGENT_KEYS, CLI_AGENT_KIND_KEYS, MODEL_AGENT_KEYS};
use crate::model::pipeline::RESERVED_NAMES;
use crate::model::step::{KIND_KEYS, KIND_KEYS_BY_KEY};

/// The keywords of the plain dialect that restrict values of a type.
const KEYWORDS_BY_TYPE: &[(&str, &[&str])] = &[
    ("string", &["minLength", "maxLength", "pattern", "enum"]),
    ("array", &["items", "minItems", "maxItems"]),
    ("object", &["properties", "required", "additionalProperties", "propertyNames"]),
    ("number", &["minimum", "exclusiveMinimum", "maximum"]),
    ("integer", &["minimum", "exclusiveMinimum", "maximum"]),
];

/// The names of the types of JSON Schema.
const TYPE_NAMES: &[&str] = &["array", "boolean", "integer", "null", "number", "object", "string"];

/// Converts a schema of the plain dialect.
pub(super) fn publish(plain: &Value) -> Value {
    let mut schema = plain.clone();
    split_alternatives(&mut schema);
    schema
}

/// Converts the schema of pipeline files, and adds the rules about steps, agents and names.
pub(super) fn publish_pipeline(plain: &Value) -> Value {
    let mut schema = publish(plain);
    edit(&mut schema, "/$defs/Step", add_step_rules);
    edit(&mut schema, "/$defs/Agent", add_agent_rules);
    for pointer in ["/$defs/Step/properties/id", "/$defs/Step/properties/output", "/properties/inputs/propertyNames"] {
        edit(&mut schema, pointer, |name| insert(name, "not", json!({ "enum": RESERVED_NAMES })));
    }
    edit(&mut schema, "/$defs/Step/properties/inputs", |inputs| insert(inputs, "uniqueItems", json!(true)));
    edit(&mut schema, "/$defs/Step/properties/message", |message| {
        insert(message, "allOf", json!([{ "pattern": "\\S" }]));
    });
    edit(&mut schema, "/properties/inputs/additionalProperties", |input| {
        let names = json!({ "enum": TYPE_NAMES });
        let types = json!({ "anyOf": [names, { "type": "array", "items": names }] });
        insert(input, "allOf", json!([{ "properties": { "type": types } }]));
    });
    schema
}

/// Changes the schema at a pointer.
fn edit(schema: &mut Value, pointer: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(Value::Object(map)) = schema.pointer_mut(pointer) {
        change(map);
    }
}

fn insert(map: &mut Map<String, Value>, keyword: &str, value: Value) {
    map.insert(keyword.to_owned(), value);
}

/// Replaces documented constants and lists of types by alternatives, in a schema and in the schemas inside it.
fn split_alternatives(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for keyword in ["properties", "$defs"] {
        if let Some(Value::Object(members)) = map.get_mut(keyword) {
            members.values_mut().for_each(split_alternatives);
        }
    }
    for keyword in ["items", "additionalProperties", "propertyNames"] {
        if let Some(inner) = map.get_mut(keyword) {
            split_alternatives(inner);
        }
    }
    split_constants(map);
    split_types(map);
}

fn split_constants(map: &mut Map<String, Value>) {
    let Some(Value::Array(descriptions)) = map.shift_remove("enumDescriptions") else { return };
    let Some(Value::Array(constants)) = map.shift_remove("enum") else { return };
    let alternatives = constants.into_iter().zip(descriptions).map(|(constant, description)| match description {
        Value::Null => json!({ "const": constant }),
        description => json!({ "const": constant, "description": description }),
    });
    let alternatives = alternatives.collect();
    insert(map, "anyOf", alternatives);
}

fn split_types(map: &mut Map<String, Value>) {
    if !map.get("type").is_some_and(Value::is_array) {
        return;
    }
    let Some(Value::Array(names)) = map.shift_remove("type") else { return };
    let mut alternatives = Vec::new();
    for name in names {
        let of_type = KEYWORDS_BY_TYPE.iter().filter(|(type_name, _)| name == *type_name);
        let keywords: Vec<&str> = of_type.flat_map(|(_, keywords)| keywords.iter().copied()).collect();
        let mut alternative = Map::from_iter([("type".to_owned(), name)]);
        for keyword in keywords {
            alternative.extend(map.shift_remove(keyword).map(|value| (keyword.to_owned(), value)));
        }
        alternatives.push(Value::Object(alternative));
    }
    insert(map, "anyOf", Value::Array(alternatives));
}

/// A schema that requires a key. It declares the key as well, because strict validators expect that.
fn has_key(key: &str) -> Value {
    json!({ "required": [key], "properties": { key: true } })
}

/// A schema that requires at least one of these keys.
fn has_any_key(keys: &[&str]) -> Value {
    json!({ "anyOf": keys.iter().map(|key| has_key(key)).collect::<Value>() })
}

/// Exactly one kind, and only keys that apply to it.
fn add_step_rules(step: &mut Map<String, Value>) {
    let (mut required_keys, mut rules) = (Map::new(), Map::new());
    insert(&mut required_keys, "agent", json!(["prompt", "output"]));
    insert(&mut required_keys, "schema", json!(["output"]));
    for (key, kind_keys) in KIND_KEYS_BY_KEY {
        match kind_keys {
            [kind_key] => insert(&mut required_keys, key, json!([kind_key])),
            kind_keys => insert(&mut rules, key, has_any_key(kind_keys)),
        }
    }
    insert(&mut rules, "max_parallel", has_any_key(&["for_each", "parallel"]));
    for group in ["parallel", "repeat", "steps"] {
        insert(&mut rules, group, json!({ "dependentRequired": { "output": ["for_each"] } }));
    }
    insert(step, "oneOf", KIND_KEYS.iter().map(|key| has_key(key)).collect());
    insert(step, "dependentRequired", Value::Object(required_keys));
    insert(step, "dependentSchemas", Value::Object(rules));
}

/// At most one CLI, and only options that the model or the CLI has.
fn add_agent_rules(agent: &mut Map<String, Value>) {
    let mut rules = Map::new();
    for kind in CLI_AGENT_KIND_KEYS {
        let other_kinds = CLI_AGENT_KIND_KEYS.iter().filter(|other| *other != kind);
        let mut forbidden: Vec<&str> = other_kinds.chain(MODEL_AGENT_KEYS).copied().collect();
        match *kind {
            "acp" => forbidden.extend(unsupported_keys(CliAgentKind::Acp)),
            "command" => forbidden.extend(unsupported_keys(CliAgentKind::Command)),
            _ => {}
        }
        let properties: Map<String, Value> = forbidden.iter().map(|key| ((*key).to_owned(), json!(false))).collect();
        insert(&mut rules, kind, json!({ "properties": properties }));
    }
    for key in CLI_AGENT_KEYS {
        insert(&mut rules, key, has_any_key(CLI_AGENT_KIND_KEYS));
    }
    let mut kinds_without_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in [CliAgentKind::Claude, CliAgentKind::Codex] {
        unsupported_keys(kind).for_each(|key| kinds_without_key.entry(key).or_default().push(kind.as_str()));
    }
    for (key, names) in kinds_without_key {
        insert(&mut rules, key, json!({ "properties": { "cli": { "not": { "enum": names } } } }));
    }
    insert(agent, "dependentSchemas", Value::Object(rules));
}

/// The keys of CLI agents that this kind does not support.
fn unsupported_keys(kind: CliAgentKind) -> impl Iterator<Item = &'static str> {
    let capabilities = kind.capabilities();
    let keys = [("model", capabilities.model), ("max_turns", capabilities.max_turns)];
    keys.into_iter().filter(|(_, is_supported)| !is_supported).map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_lists_of_types_become_alternatives() {
        let plain = json!({
            "type": "object",
            "properties": {
                "kind": { "type": "string", "enum": ["a", "b"], "enumDescriptions": ["The first.", null] },
                "line": { "type": ["string", "array"], "description": "A line.", "minLength": 1, "items": { "type": "string" } },
            },
        });
        let published = json!({
            "type": "object",
            "properties": {
                "kind": { "type": "string", "anyOf": [{ "const": "a", "description": "The first." }, { "const": "b" }] },
                "line": {
                    "description": "A line.",
                    "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "items": { "type": "string" } }],
                },
            },
        });
        assert_eq!(publish(&plain), published);
    }

    #[test]
    fn every_rule_of_pipelines_has_its_place() {
        let published = publish_pipeline(crate::config::pipeline_schema());
        for pointer in [
            "/$defs/Step/oneOf/8/properties/pipeline",
            "/$defs/Step/dependentRequired/prompt/0",
            "/$defs/Step/dependentSchemas/timeout/anyOf/2",
            "/$defs/Step/properties/id/not/enum",
            "/$defs/Step/properties/output/not/enum",
            "/$defs/Step/properties/inputs/uniqueItems",
            "/$defs/Step/properties/message/allOf/0/pattern",
            "/$defs/Agent/dependentSchemas/cli/properties/temperature",
            "/$defs/Agent/dependentSchemas/acp/properties/max_turns",
            "/$defs/Agent/dependentSchemas/max_turns/properties/cli/not/enum/0",
            "/properties/inputs/propertyNames/not/enum",
            "/properties/inputs/additionalProperties/allOf/0/properties/type",
        ] {
            assert!(published.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
