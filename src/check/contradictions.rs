//! Finds schemas that contradict themselves: bounds that no value can satisfy, names that are both required and
//! forbidden or that differ only in spelling from a declared one, and defaults and examples that do not fit their
//! schema.

use serde_json::{Map, Value};

use super::schema_walk::{MAX_DEPTH, SCHEMA_KEYWORDS, SCHEMA_LIST_KEYWORDS, SCHEMA_MAP_KEYWORDS, named_types};
use crate::config::{Document, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::schema::{Schema, json_type_name};

/// Pairs of keywords whose first value may not exceed the second, with the types that they restrict. Values of other
/// types always fit such a pair.
const BOUNDS: &[(&str, &str, &[&str])] = &[
    ("minLength", "maxLength", &["string"]),
    ("minItems", "maxItems", &["array"]),
    ("minProperties", "maxProperties", &["object"]),
    ("minimum", "maximum", &["number", "integer"]),
];

/// Keywords with which other schemas can declare properties of the same object.
const MORE_PROPERTIES: &[&str] =
    &["$ref", "allOf", "anyOf", "dependentSchemas", "else", "if", "oneOf", "patternProperties", "then"];

/// Returns the contradictions in a schema file that compiles.
pub(super) fn check(document: &Document) -> Vec<Diagnostic> {
    let mut finder = ContradictionFinder { document, diagnostics: Vec::new() };
    finder.check_schema(&document.value, "", 0);
    finder.diagnostics
}

struct ContradictionFinder<'a> {
    document: &'a Document,
    diagnostics: Vec<Diagnostic>,
}

impl ContradictionFinder<'_> {
    fn check_schema(&mut self, schema: &Value, pointer: &str, depth: usize) {
        let Some(map) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return };
        self.check_bounds(map, pointer);
        self.check_enum(map, pointer);
        self.check_required(map, pointer);
        self.check_misspelt_required(map, pointer);
        self.check_examples(schema, map, pointer);
        for keyword in SCHEMA_KEYWORDS {
            if let Some(inner) = map.get(*keyword) {
                self.check_schema(inner, &child_pointer(pointer, keyword), depth + 1);
            }
        }
        for keyword in SCHEMA_LIST_KEYWORDS {
            for (index, inner) in map.get(*keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
                self.check_schema(inner, &item_pointer(&child_pointer(pointer, keyword), index), depth + 1);
            }
        }
        for keyword in SCHEMA_MAP_KEYWORDS {
            for (name, inner) in map.get(*keyword).and_then(Value::as_object).into_iter().flatten() {
                self.check_schema(inner, &child_pointer(&child_pointer(pointer, keyword), name), depth + 1);
            }
        }
    }

    fn report_unsatisfiable(&mut self, pointer: &str, message: String) {
        let span = self.document.spans.value(pointer);
        self.diagnostics
            .push(Diagnostic::error(Code::UnsatisfiableSchema, message).with_span(&self.document.file, span));
    }

    fn check_bounds(&mut self, map: &Map<String, Value>, pointer: &str) {
        for (min_keyword, max_keyword, _) in BOUNDS.iter().filter(|(_, _, types)| allows_only(map, types)) {
            let number = |keyword: &str| map.get(keyword).and_then(Value::as_f64);
            if let (Some(min), Some(max)) = (number(min_keyword), number(max_keyword))
                && min > max
            {
                self.report_unsatisfiable(
                    &child_pointer(pointer, min_keyword),
                    format!("no value fits: `{min_keyword}` is {min} and `{max_keyword}` is {max}"),
                );
            }
        }
    }

    /// Reports an `enum` in which no value has the schema's `type`.
    fn check_enum(&mut self, map: &Map<String, Value>, pointer: &str) {
        let Some(values) = map.get("enum").and_then(Value::as_array) else { return };
        let types = named_types(map);
        let has_type = |value: &Value, name: &str| {
            json_type_name(value) == name
                || (name == "number" && value.is_number())
                || (name == "integer" && value.is_number())
        };
        let has_allowed_type = |value: &Value| types.iter().any(|name| has_type(value, name));
        if !types.is_empty() && !values.iter().any(has_allowed_type) {
            self.report_unsatisfiable(
                &child_pointer(pointer, "enum"),
                format!("no value fits: none of `enum` is of type {}", types.join(" or ")),
            );
        }
    }

    /// Reports a required name that the schema's object does not declare, although it forbids other members.
    fn check_required(&mut self, map: &Map<String, Value>, pointer: &str) {
        let is_closed =
            map.get("additionalProperties") == Some(&Value::Bool(false)) && !map.contains_key("patternProperties");
        let is_closed = is_closed && allows_only(map, &["object"]);
        let Some(required) = map.get("required").and_then(Value::as_array).filter(|_| is_closed) else { return };
        let properties = map.get("properties").and_then(Value::as_object);
        let declared_names = || properties.into_iter().flat_map(Map::keys).map(String::as_str);
        for (index, name) in required.iter().enumerate() {
            let Some(name) = name.as_str().filter(|name| !declared_names().any(|declared| declared == *name)) else {
                continue;
            };
            let name_pointer = item_pointer(&child_pointer(pointer, "required"), index);
            let message = format!("no value fits: `{name}` is required, and `additionalProperties` forbids it");
            let diagnostic = Diagnostic::error(Code::UnsatisfiableSchema, message);
            let diagnostic = diagnostic
                .with_span(&self.document.file, self.document.spans.value(&name_pointer))
                .with_suggestion(name, declared_names());
            self.diagnostics.push(diagnostic);
        }
    }

    /// Warns about a required name that an open schema does not declare, if it is nearly that of a declared property that
    /// is not required.
    fn check_misspelt_required(&mut self, map: &Map<String, Value>, pointer: &str) {
        let may_declare_elsewhere = MORE_PROPERTIES.iter().any(|keyword| map.contains_key(*keyword));
        let is_closed = map.get("additionalProperties") == Some(&Value::Bool(false));
        let required = map.get("required").and_then(Value::as_array);
        let properties = map.get("properties").and_then(Value::as_object);
        let (Some(required), Some(properties)) = (required, properties) else { return };
        if may_declare_elsewhere || is_closed {
            return;
        }
        let is_required = |declared: &str| required.iter().any(|name| name == declared);
        for (index, name) in required.iter().enumerate() {
            let Some(name) = name.as_str().filter(|name| !properties.contains_key(*name)) else { continue };
            let optional = properties.keys().map(String::as_str).filter(|declared| !is_required(declared));
            let Some(similar) = did_you_mean(name, optional) else { continue };
            let name_pointer = item_pointer(&child_pointer(pointer, "required"), index);
            let message = format!("`{name}` is required, and `properties` does not declare it");
            let diagnostic = Diagnostic::warning(Code::IneffectiveKeyword, message);
            let diagnostic = diagnostic.with_span(&self.document.file, self.document.spans.value(&name_pointer));
            self.diagnostics.push(diagnostic.with_help(format!("did you mean `{similar}`?")));
        }
    }

    /// Reports a `default` or `examples` that do not fit their schema. Skips schemas with a `$ref`, which
    /// does not resolve in a part of a file.
    fn check_examples(&mut self, schema: &Value, map: &Map<String, Value>, pointer: &str) {
        let default = map.get("default").map(|value| (child_pointer(pointer, "default"), "default", value));
        let examples = map.get("examples").and_then(Value::as_array).into_iter().flatten().enumerate();
        let examples =
            examples.map(|(index, value)| (item_pointer(&child_pointer(pointer, "examples"), index), "example", value));
        let samples: Vec<(String, &str, &Value)> = default.into_iter().chain(examples).collect();
        if samples.is_empty() || contains_ref(schema, 0) {
            return;
        }
        let mut subschema = schema.clone();
        if let (Some(subschema), Some(draft)) = (subschema.as_object_mut(), self.document.value.get("$schema")) {
            subschema.entry("$schema").or_insert_with(|| draft.clone());
        }
        // The compilation of the whole file reports mistakes in the schema itself.
        let Ok(compiled) = Schema::compile("a part of a schema", subschema) else { return };
        for (pointer, kind, value) in samples {
            if let Some(mismatch) = compiled.mismatches(value).first() {
                let message = format!("the {kind} does not fit: expected {}, got {}", mismatch.expected, mismatch.got);
                let span = self.document.spans.value(&format!("{pointer}{}", mismatch.pointer));
                self.diagnostics
                    .push(Diagnostic::warning(Code::DefaultMismatch, message).with_span(&self.document.file, span));
            }
        }
    }
}

/// Whether a schema has a `type` and allows only these types.
fn allows_only(map: &Map<String, Value>, allowed: &[&str]) -> bool {
    let types = named_types(map);
    !types.is_empty() && types.iter().all(|name| allowed.contains(name))
}

/// Whether a schema contains a `$ref`, or is nested too deeply to check.
fn contains_ref(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Object(map) => {
            depth > MAX_DEPTH || map.contains_key("$ref") || map.values().any(|inner| contains_ref(inner, depth + 1))
        }
        Value::Array(items) => items.iter().any(|inner| contains_ref(inner, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
