//! Finds schemas that contradict themselves: bounds that no value can meet, names that are both required and forbidden,
//! and defaults and examples that do not fit their schema.

use serde_json::{Map, Value};

use crate::config::{Document, child, item};
use crate::diagnostic::{Code, Diagnostic};
use crate::schema::{Schema, type_of};

/// How many levels of nested schemas are checked.
const DEPTH: usize = 64;

/// Keywords whose value is a schema. `not` and `if` are left out, because no value has to fit the schema in them.
const ONE: &[&str] =
    &["items", "additionalProperties", "contains", "then", "else", "propertyNames", "unevaluatedProperties"];
/// Keywords whose value is a list of schemas.
const LISTS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is a mapping of names to schemas.
const MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Pairs of keywords whose first value may not exceed the second, with the types that they restrict. Values of other
/// types fit such a pair whatever it says.
const BOUNDS: &[(&str, &str, &[&str])] = &[
    ("minLength", "maxLength", &["string"]),
    ("minItems", "maxItems", &["array"]),
    ("minProperties", "maxProperties", &["object"]),
    ("minimum", "maximum", &["number", "integer"]),
];

/// The contradictions in a schema file that compiles.
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

    /// Reports an `enum` none of whose values has the schema's `type`.
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

    /// Reports a required name that the schema's object does not declare although it forbids other members.
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

    /// Reports a `default` or `examples` that do not fit the schema beside them. Schemas with a `$ref` are skipped,
    /// because this part alone can't resolve it.
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
        // Mistakes in the schema itself are reported when the whole file is compiled.
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

/// Whether a schema has a `type` and allows nothing but these types.
fn only(map: &Map<String, Value>, of: &[&str]) -> bool {
    let types = types(map);
    !types.is_empty() && types.iter().all(|name| of.contains(name))
}

/// Whether a schema contains a `$ref`, or is nested too deep to tell.
fn refers(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Object(map) => {
            depth > DEPTH || map.contains_key("$ref") || map.values().any(|inner| refers(inner, depth + 1))
        }
        Value::Array(items) => items.iter().any(|inner| refers(inner, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
