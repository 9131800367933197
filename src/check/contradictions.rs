//! Schemas that contradict themselves: bounds that no value is between, names that are required and forbidden,
//! defaults and examples that do not fit where they stand.

use serde_json::{Map, Value};

use crate::config::{Document, child, item};
use crate::diagnostic::{Code, Diagnostic};
use crate::schema::{Schema, type_of};

/// How deep schemas are looked into.
const DEPTH: usize = 64;

/// Words whose value is a schema. Not `not` and `if`: what is in them need not fit anything.
const ONE: &[&str] =
    &["items", "additionalProperties", "contains", "then", "else", "propertyNames", "unevaluatedProperties"];
/// Words whose value is a list of schemas.
const LISTS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Words whose value has schemas by name.
const MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Pairs of words of which the first may not be more than the second, with the types that they speak of: values of
/// other types fit whatever they say.
const BOUNDS: &[(&str, &str, &[&str])] = &[
    ("minLength", "maxLength", &["string"]),
    ("minItems", "maxItems", &["array"]),
    ("minProperties", "maxProperties", &["object"]),
    ("minimum", "maximum", &["number", "integer"]),
];

/// What a schema file that can be used contradicts.
pub(super) fn check(document: &Document) -> Vec<Diagnostic> {
    let mut look = ContradictionFinder { document, found: Vec::new() };
    look.schema(&document.value, "", 0);
    look.found
}

struct ContradictionFinder<'a> {
    document: &'a Document,
    found: Vec<Diagnostic>,
}

impl ContradictionFinder<'_> {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) {
        let Some(map) = schema.as_object().filter(|_| depth < DEPTH) else { return };
        self.bounds(map, at);
        self.listed(map, at);
        self.required(map, at);
        self.samples(schema, map, at);
        for word in ONE {
            if let Some(inner) = map.get(*word) {
                self.schema(inner, &child(at, word), depth + 1);
            }
        }
        for word in LISTS {
            for (index, inner) in map.get(*word).and_then(Value::as_array).into_iter().flatten().enumerate() {
                self.schema(inner, &item(&child(at, word), index), depth + 1);
            }
        }
        for word in MAPS {
            for (name, inner) in map.get(*word).and_then(Value::as_object).into_iter().flatten() {
                self.schema(inner, &child(&child(at, word), name), depth + 1);
            }
        }
    }

    fn never(&mut self, at: &str, message: String) {
        let span = self.document.spans.value(at);
        self.found.push(Diagnostic::error(Code::NeverFits, message).at(&self.document.file, span));
    }

    fn bounds(&mut self, map: &Map<String, Value>, at: &str) {
        for (least, most, _) in BOUNDS.iter().filter(|(_, _, of)| only(map, of)) {
            let number = |word: &str| map.get(word).and_then(Value::as_f64);
            if let (Some(a), Some(b)) = (number(least), number(most))
                && a > b
            {
                self.never(&child(at, least), format!("no value fits: `{least}` is {a} and `{most}` is {b}"));
            }
        }
    }

    /// An `enum` of which no value is of the schema's `type`.
    fn listed(&mut self, map: &Map<String, Value>, at: &str) {
        let Some(values) = map.get("enum").and_then(Value::as_array) else { return };
        let types = types(map);
        let is_of = |value: &Value, name: &str| {
            type_of(value) == name
                || (name == "number" && value.is_number())
                || (name == "integer" && value.is_number())
        };
        let fits = |value: &Value| types.iter().any(|name| is_of(value, name));
        if !types.is_empty() && !values.iter().any(fits) {
            self.never(&child(at, "enum"), format!("no value fits: none of `enum` is of type {}", types.join(" or ")));
        }
    }

    /// A name that is required, and that a closed object does not have.
    fn required(&mut self, map: &Map<String, Value>, at: &str) {
        let closed =
            map.get("additionalProperties") == Some(&Value::Bool(false)) && !map.contains_key("patternProperties");
        let closed = closed && only(map, &["object"]);
        let Some(required) = map.get("required").and_then(Value::as_array).filter(|_| closed) else { return };
        let properties = map.get("properties").and_then(Value::as_object);
        let known = || properties.into_iter().flat_map(Map::keys).map(String::as_str);
        for (index, name) in required.iter().enumerate() {
            let Some(name) = name.as_str().filter(|name| !known().any(|known| known == *name)) else { continue };
            let at = item(&child(at, "required"), index);
            let message = format!("no value fits: `{name}` is required, and `additionalProperties` forbids it");
            let problem = Diagnostic::error(Code::NeverFits, message);
            let problem = problem.at(&self.document.file, self.document.spans.value(&at)).suggest(name, known());
            self.found.push(problem);
        }
    }

    /// The `default` and the `examples` beside a schema that refers to nothing else.
    fn samples(&mut self, schema: &Value, map: &Map<String, Value>, at: &str) {
        let default = map.get("default").map(|value| (child(at, "default"), "default", value));
        let examples = map.get("examples").and_then(Value::as_array).into_iter().flatten().enumerate();
        let examples = examples.map(|(index, value)| (item(&child(at, "examples"), index), "example", value));
        let samples: Vec<(String, &str, &Value)> = default.into_iter().chain(examples).collect();
        if samples.is_empty() || refers(schema, 0) {
            return;
        }
        let mut part = schema.clone();
        if let (Some(part), Some(draft)) = (part.as_object_mut(), self.document.value.get("$schema")) {
            part.entry("$schema").or_insert_with(|| draft.clone());
        }
        // What is wrong with the schema itself was told of the whole.
        let Ok(compiled) = Schema::compile("a part of a schema", part) else { return };
        for (at, what, value) in samples {
            if let Some(wrong) = compiled.errors(value).first() {
                let message = format!("the {what} does not fit: expected {}, got {}", wrong.expected, wrong.got);
                let span = self.document.spans.value(&format!("{at}{}", wrong.pointer));
                self.found.push(Diagnostic::warning(Code::DefaultMismatch, message).at(&self.document.file, span));
            }
        }
    }
}

/// The types that a schema names.
fn types(map: &Map<String, Value>) -> Vec<&str> {
    match map.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

/// Whether a schema is for values of these types and no others.
fn only(map: &Map<String, Value>, of: &[&str]) -> bool {
    let types = types(map);
    !types.is_empty() && types.iter().all(|name| of.contains(name))
}

/// Whether a schema refers to another place.
fn refers(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Object(map) => {
            depth > DEPTH || map.contains_key("$ref") || map.values().any(|inner| refers(inner, depth + 1))
        }
        Value::Array(items) => items.iter().any(|inner| refers(inner, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
