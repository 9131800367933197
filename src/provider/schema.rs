//! Schemas as the providers take them.
//!
//! Every provider accepts its own part of JSON Schema. Pure functions: the reply is
//! always validated against the full schema afterwards, so leaving a keyword out here
//! loses a hint to the model and nothing else.

use serde_json::{Map, Value, json};

/// A schema for the `openai` dialect.
pub(super) struct Strict {
    /// The schema to send.
    pub(super) schema: Value,
    /// Whether it lies within the strict subset.
    pub(super) strict: bool,
}

/// Keywords that hold one schema.
const ONE: &[&str] = &["items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
/// Keywords that hold a list of schemas.
const LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords that hold schemas by name.
const NAMED: &[&str] = &["properties", "$defs", "definitions", "patternProperties", "dependentSchemas"];

/// The schema unchanged but for `$schema` and `$id`, and whether it fits the strict subset.
pub(super) fn openai(schema: &Value) -> Strict {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$schema");
        object.shift_remove("$id");
    }
    // At the root, strict mode takes an object and no union.
    let root = schema.get("type").and_then(Value::as_str) == Some("object") && schema.get("anyOf").is_none();
    let strict = root && strict(&schema);
    Strict { schema, strict }
}

/// A schema that OpenAI's models can be held to, for programs that always send it so; `None` if
/// it lies outside the strict subset.
pub fn strict_schema(schema: &Value) -> Option<Value> {
    let adapted = openai(schema);
    adapted.strict.then_some(adapted.schema)
}

/// Keywords of the strict subset.
const STRICT: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "description",
    "title",
    "pattern",
    "format",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "minItems",
    "maxItems",
];

/// Formats of the strict subset.
const STRICT_FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

fn strict(schema: &Value) -> bool {
    let Some(object) = schema.as_object() else { return false };
    if !object.keys().all(|key| STRICT.contains(&key.as_str())) {
        return false;
    }
    if let Some(format) = object.get("format").and_then(Value::as_str)
        && !STRICT_FORMATS.contains(&format)
    {
        return false;
    }
    // Without any of these, anything goes: strict mode has no such schema.
    if !["type", "enum", "const", "anyOf", "$ref"].iter().any(|key| object.contains_key(*key)) {
        return false;
    }
    if is_object(object) {
        let none = Map::new();
        let properties = object.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> = object
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if object.get("additionalProperties") != Some(&Value::Bool(false))
            || !properties.keys().all(|name| required.contains(&name.as_str()))
        {
            return false;
        }
    }
    if is_type(object, "array") && !object.contains_key("items") {
        return false;
    }
    let children = object.iter().flat_map(|(key, value)| match (key.as_str(), value) {
        ("items", item) => vec![item],
        ("anyOf", Value::Array(items)) => items.iter().collect(),
        ("properties" | "$defs" | "definitions", Value::Object(map)) => map.values().collect(),
        _ => Vec::new(),
    });
    children.into_iter().all(strict)
}

fn is_type(object: &Map<String, Value>, name: &str) -> bool {
    match object.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    }
}

fn is_object(object: &Map<String, Value>) -> bool {
    is_type(object, "object") || object.contains_key("properties")
}

/// Keywords that Anthropic's structured output takes.
const ANTHROPIC: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "description",
    "title",
    "default",
    "format",
    "minItems",
];

/// Formats that Anthropic's structured output takes.
const ANTHROPIC_FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// The schema for Anthropic's structured output: objects are closed, and keywords that it
/// refuses become part of the description.
///
/// `None` when the schema can't be said there: it is recursive, takes any value
/// somewhere, or has an object with names of the model's choice, which closing would empty.
pub(super) fn anthropic(schema: &Value) -> Option<Value> {
    if recursive(schema) {
        return None;
    }
    let mut sayable = true;
    let mut schema = rename_one_of(schema);
    walk(&mut schema, &mut |object| {
        let open = object.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false))
            || object.contains_key("patternProperties");
        let unnamed = is_type(object, "object") && !object.contains_key("properties");
        let typed = ["type", "enum", "const", "anyOf", "allOf", "$ref", "properties"];
        let any = !typed.iter().any(|key| object.contains_key(*key));
        sayable &= !(open || unnamed || any);
        let few = object.get("minItems").and_then(Value::as_u64).is_some_and(|least| least <= 1);
        let known =
            object.get("format").and_then(Value::as_str).is_some_and(|format| ANTHROPIC_FORMATS.contains(&format));
        drop_keywords(object, |key| match key {
            "minItems" => few,
            "format" => known,
            key => ANTHROPIC.contains(&key),
        });
        if is_object(object) {
            object.insert("additionalProperties".into(), Value::Bool(false));
        }
    });
    sayable.then_some(schema)
}

/// Whether following the references of a schema leads back to where one was.
fn recursive(root: &Value) -> bool {
    fn visit<'a>(root: &'a Value, schema: &'a Value, path: &mut Vec<&'a str>) -> bool {
        match schema {
            Value::Array(items) => items.iter().any(|item| visit(root, item, path)),
            Value::Object(object) => {
                if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                    // Deep chains are as bad as circles.
                    if path.contains(&target) || path.len() > 64 {
                        return true;
                    }
                    let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                    path.push(target);
                    let circle = found.is_some_and(|found| visit(root, found, path));
                    path.pop();
                    if circle {
                        return true;
                    }
                }
                object.iter().any(|(key, value)| {
                    !matches!(key.as_str(), "$defs" | "definitions" | "enum" | "const" | "default" | "examples")
                        && visit(root, value, path)
                })
            }
            _ => false,
        }
    }
    visit(root, root, &mut Vec::new())
}

/// Keywords that Gemini's `responseJsonSchema` takes.
const GEMINI: &[&str] = &[
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

/// The schema for Gemini: keywords that it does not know become part of the description.
pub(super) fn gemini(schema: &Value) -> Value {
    let mut schema = rename_one_of(schema);
    walk(&mut schema, &mut |object| {
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
        let known = object
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| matches!(format, "date-time" | "date" | "time"));
        drop_keywords(object, |key| if key == "format" { known } else { GEMINI.contains(&key) });
    });
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("$id");
    }
    schema
}

/// `oneOf` as `anyOf`: what no grammar can tell apart.
fn rename_one_of(schema: &Value) -> Value {
    let mut schema = schema.clone();
    walk(&mut schema, &mut |object| {
        if object.contains_key("oneOf") && !object.contains_key("anyOf") {
            let renamed = object
                .iter()
                .map(|(key, value)| {
                    let key = if key == "oneOf" { "anyOf" } else { key };
                    (key.to_owned(), value.clone())
                })
                .collect();
            *object = renamed;
        }
    });
    schema
}

/// Keywords that say nothing about the value.
const SILENT: &[&str] =
    &["$schema", "$id", "$comment", "$anchor", "examples", "default", "deprecated", "readOnly", "writeOnly"];

/// Drops keywords; what a model can still heed is said in the description.
fn drop_keywords(object: &mut Map<String, Value>, keep: impl Fn(&str) -> bool) {
    let dropped: Vec<String> = object.keys().filter(|key| !keep(key)).cloned().collect();
    let mut said = Vec::new();
    for key in dropped {
        if let Some(value) = object.shift_remove(&key)
            && !SILENT.contains(&key.as_str())
            && !value.is_object()
            && !value.is_array()
        {
            said.push(format!("{key}: {value}"));
        }
    }
    if !said.is_empty() {
        let note = format!("({})", said.join(", "));
        let text = match object.get("description").and_then(Value::as_str) {
            Some(text) if !text.is_empty() => format!("{text} {note}"),
            _ => note,
        };
        object.insert("description".into(), Value::String(text));
    }
}

/// Visits every schema within a schema, the inner ones first; names of properties are no keywords.
fn walk(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(object) = schema.as_object_mut() else { return };
    for (key, value) in object.iter_mut() {
        let key = key.as_str();
        if ONE.contains(&key) {
            walk(value, visit);
        } else if LIST.contains(&key) {
            value.as_array_mut().into_iter().flatten().for_each(|item| walk(item, visit));
        } else if NAMED.contains(&key) {
            value.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(|item| walk(item, visit));
        }
    }
    visit(object);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use super::*;

    fn verdict() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "verdict": {"enum": ["yes", "no"]},
                "why": {"type": "string", "minLength": 3, "description": "The reason"},
                "notes": {"type": "array", "items": {"type": "string"}, "minItems": 2}
            },
            "required": ["verdict", "why", "notes"],
            "additionalProperties": false
        })
    }

    #[test]
    fn strict_needs_closed_objects_with_every_property_required() {
        let mut schema = verdict();
        assert!(!openai(&schema).strict, "minLength lies outside the subset");
        schema["properties"]["why"].as_object_mut().unwrap().remove("minLength");
        assert!(openai(&schema).strict);
        assert!(openai(&schema).schema.get("$schema").is_none());
        let mut open = schema.clone();
        open.as_object_mut().unwrap().remove("additionalProperties");
        assert!(!openai(&open).strict);
        let mut optional = schema.clone();
        optional["required"] = json!(["verdict"]);
        assert!(!openai(&optional).strict);
        let mut inner = schema.clone();
        inner["properties"]["notes"]["items"] = json!({"type": "object", "properties": {}});
        assert!(!openai(&inner).strict);
        assert!(!openai(&json!({"type": "array", "items": {"type": "string"}})).strict);
    }

    #[test]
    fn a_schema_that_is_not_strict_is_sent_whole() {
        assert_eq!(openai(&verdict()).schema["properties"], verdict()["properties"]);
    }

    #[test]
    fn anthropic_gets_limits_as_words() {
        let schema = anthropic(&verdict()).unwrap();
        assert_eq!(schema["properties"]["why"], json!({"type": "string", "description": "The reason (minLength: 3)"}));
        assert_eq!(
            schema["properties"]["notes"],
            json!({"type": "array", "items": {"type": "string"}, "description": "(minItems: 2)"})
        );
        assert!(schema.get("$schema").is_none());
    }

    #[test]
    fn anthropic_gets_closed_objects_and_no_one_of() {
        let schema = anthropic(&json!({
            "type": "object",
            "properties": {"format": {"oneOf": [
                {"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^a"}}},
                {"type": "null"}
            ]}}
        }))
        .unwrap();
        assert_eq!(schema["additionalProperties"], json!(false));
        // `format` and `pattern` are names of properties here, not keywords.
        let inner = &schema["properties"]["format"]["anyOf"][0];
        assert_eq!(inner["additionalProperties"], json!(false));
        assert_eq!(inner["properties"]["pattern"], json!({"type": "string", "description": "(pattern: \"^a\")"}));
    }

    #[test]
    fn what_anthropic_can_not_say_is_left_to_the_prompt() {
        for schema in [
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"any": {}}}),
            json!({"$ref": "#/$defs/t", "$defs": {"t": {"type": "object",
                "properties": {"next": {"$ref": "#/$defs/t"}}}}}),
            json!({"type": "object", "properties": {"self": {"$ref": "#"}}}),
        ] {
            assert_eq!(anthropic(&schema), None, "{schema}");
        }
        let shared = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}},
            "$defs": {"t": {"type": "string"}}});
        assert!(anthropic(&shared).is_some());
    }

    #[test]
    fn gemini_gets_its_own_words() {
        let schema = gemini(&json!({
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
