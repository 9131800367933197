//! Finds keywords of schemas that have no effect: misspelt ones, those of other tools, those that do not apply to the type
//! of the schema, unknown formats, and properties that are not under `properties`.

use serde_json::{Map, Value};

use super::schema_walk::{named_types, visit_schemas};
use crate::config::{Document, child_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{SimilarName, most_similar_name};

/// Keywords that have no effect on values and are seldom written, so a similar name is no misspelling of them.
const RARE_KEYWORDS: &[&str] = &[
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "dependencies",
    "not",
    "if",
    "then",
    "else",
    "example",
];

/// The other keywords of all drafts.
const KEYWORDS: &[&str] = &[
    "$ref",
    "$defs",
    "definitions",
    "type",
    "enum",
    "const",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "allOf",
    "anyOf",
    "oneOf",
    "dependentRequired",
    "dependentSchemas",
];

/// The types of JSON with the keywords that apply only to them.
const TYPE_KEYWORDS: &[(&[&str], &str, &[&str])] = &[
    (&["string"], "strings", &["minLength", "maxLength", "pattern"]),
    (&["number", "integer"], "numbers", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    (
        &["array"],
        "arrays",
        &[
            "minItems",
            "maxItems",
            "items",
            "prefixItems",
            "additionalItems",
            "unevaluatedItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ],
    ),
    (
        &["object"],
        "objects",
        &[
            "minProperties",
            "maxProperties",
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "propertyNames",
            "unevaluatedProperties",
        ],
    ),
];

/// Keywords of each type that set the same bound.
const BOUNDS: &[[&str; 4]] =
    &[["minLength", "minimum", "minItems", "minProperties"], ["maxLength", "maximum", "maxItems", "maxProperties"]];

/// Keywords whose value is a schema.
const SCHEMA_VALUED: &[&str] = &["items", "additionalItems", "additionalProperties", "contains", "propertyNames"];

/// The maximum difference in length between a keyword and its misspelling.
const MAX_LENGTH_DIFFERENCE: usize = 3;

/// The formats that the validator knows.
const FORMATS: &[&str] = &[
    "date",
    "date-time",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "uuid",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

/// Returns a warning for each keyword without effect in a schema of a document. `pointer` is the location of the schema.
pub(super) fn check(document: &Document, schema: &Value, pointer: &str) -> Vec<Diagnostic> {
    // Another vocabulary may have other keywords.
    let dialect = schema.get("$schema").and_then(Value::as_str);
    if dialect.is_some_and(|dialect| !dialect.contains("json-schema.org")) {
        return Vec::new();
    }
    let mut diagnostics = Vec::new();
    visit_schemas(schema, pointer, &mut |map, pointer| {
        for (key, value) in map {
            let schema = VisitedSchema { document, map, pointer };
            diagnostics.extend(schema.check_keyword(key, value));
        }
    });
    diagnostics
}

/// A schema inside a document.
struct VisitedSchema<'a> {
    document: &'a Document,
    map: &'a Map<String, Value>,
    pointer: &'a str,
}

impl VisitedSchema<'_> {
    fn check_keyword(&self, key: &str, value: &Value) -> Option<Diagnostic> {
        if let Some((types, subject, _)) = TYPE_KEYWORDS.iter().find(|(_, _, keywords)| keywords.contains(&key)) {
            return self.check_type(key, types, subject);
        }
        if key == "format" {
            return self.check_format(value.as_str()?);
        }
        let is_known = KEYWORDS.contains(&key) || RARE_KEYWORDS.contains(&key);
        if is_known || key.starts_with(['$', '_']) || key.starts_with("x-") {
            return None;
        }
        self.check_unknown(key, value)
    }

    fn warning(&self, key: &str, message: String) -> Diagnostic {
        let span = self.document.spans.key(&child_pointer(self.pointer, key));
        Diagnostic::warning(Code::IneffectiveKeyword, message).with_span(&self.document.file, span)
    }

    /// Reports a keyword that does not apply to the types that the schema names.
    fn check_type(&self, key: &str, types: &[&str], subject: &str) -> Option<Diagnostic> {
        let named = named_types(self.map);
        if named.is_empty() || named.iter().any(|name| types.contains(name)) {
            return None;
        }
        let message =
            format!("`{key}` has no effect on the type `{}`: it restricts only {subject}", named.join("` or `"));
        let diagnostic = self.warning(key, message);
        let bound = BOUNDS.iter().find(|bound| bound.contains(&key));
        let own_bound = bound.and_then(|bound| {
            let applies = |keyword: &&str| {
                TYPE_KEYWORDS.iter().any(|(types, _, keywords)| {
                    keywords.contains(keyword) && named.iter().any(|name| types.contains(name))
                })
            };
            bound.iter().copied().find(applies)
        });
        Some(match own_bound {
            Some(own_bound) => diagnostic.with_help(format!("write `{own_bound}` in place of `{key}`")),
            None => diagnostic,
        })
    }

    fn check_format(&self, format: &str) -> Option<Diagnostic> {
        if FORMATS.contains(&format) {
            return None;
        }
        // Other formats are for other tools, and have no effect on purpose.
        most_similar_name(format, FORMATS.iter().copied())?;
        let message = format!("`{format}` is not a format of JSON Schema, so it has no effect");
        let span = self.document.spans.value(&child_pointer(self.pointer, "format"));
        let diagnostic = Diagnostic::warning(Code::IneffectiveKeyword, message).with_span(&self.document.file, span);
        Some(diagnostic.with_suggestion(format, FORMATS.iter().copied()))
    }

    /// Reports a key that is no keyword, if it looks like a mistake: tools may add keys of their own.
    fn check_unknown(&self, key: &str, value: &Value) -> Option<Diagnostic> {
        let keywords = || {
            let of_types = TYPE_KEYWORDS.iter().flat_map(|(_, _, keywords)| keywords.iter());
            KEYWORDS.iter().chain(of_types).copied()
        };
        // Tools extend keywords, as in `enumDescriptions`.
        let is_misspelling = |similar: &SimilarName<'_>| {
            similar.is_close && key.len().abs_diff(similar.name.len()) <= MAX_LENGTH_DIFFERENCE
        };
        let similar = most_similar_name(key, keywords()).filter(is_misspelling);
        let is_property = looks_like_schema(value) && self.map.get("properties").is_some_and(Value::is_object);
        if is_property && !similar.is_some_and(|similar| SCHEMA_VALUED.contains(&similar.name)) {
            let message = format!("`{key}` beside `properties` has no effect: it is not a keyword of JSON Schema");
            return Some(self.warning(key, message).with_help("if it is a property, move it into `properties`"));
        }
        let message = format!("`{key}` is not a keyword of JSON Schema, so it has no effect");
        if let Some(similar) = similar {
            let diagnostic = self.warning(key, message).with_suggestion(key, keywords());
            // A key of another tool can be one letter away from a short keyword.
            return Some(if similar.name.len() < 6 { diagnostic.with_unsafe_fix() } else { diagnostic });
        }
        let help = match key {
            "nullable" => match self.map.get("type").and_then(Value::as_str) {
                Some(name) => format!("for a value that may be null, write `\"type\": [\"{name}\", \"null\"]`"),
                None => "for a value that may be null, add `\"null\"` to its `type`".to_owned(),
            },
            "optional" | "mandatory" => {
                "a property is optional unless `required`, beside `properties`, lists its name; an input of a pipeline is \
                 optional if it has a `default`"
                    .to_owned()
            }
            _ => return None,
        };
        Some(self.warning(key, message).with_help(help))
    }
}

/// Whether a value is probably a schema: a mapping with a keyword that most schemas have.
fn looks_like_schema(value: &Value) -> bool {
    let has = |keyword: &str, is_valid: fn(&Value) -> bool| value.get(keyword).is_some_and(is_valid);
    has("type", |ty| ty.is_string() || ty.is_array())
        || has("$ref", Value::is_string)
        || has("properties", Value::is_object)
        || ["enum", "anyOf", "oneOf", "allOf"].iter().any(|keyword| has(keyword, Value::is_array))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::json_document;
    use crate::diagnostic::SourceFile;

    /// The message and the help of each finding about a schema.
    fn findings(schema: &Value) -> Vec<String> {
        let document = json_document(SourceFile::new("schema.json", schema.to_string())).unwrap();
        let found = check(&document, &document.value, "");
        found.into_iter().map(|finding| format!("{} [{}]", finding.message, finding.help.join("; "))).collect()
    }

    #[test]
    fn keywords_without_effect_are_found() {
        for (schema, expected) in [
            (
                json!({ "type": "integer", "minimun": 1 }),
                "`minimun` is not a keyword of JSON Schema, so it has no effect [did you mean `minimum`?]",
            ),
            (json!({ "type": "string", "minLenght": 1 }), "did you mean `minLength`?"),
            (json!({ "type": "object", "additionalProperty": false }), "did you mean `additionalProperties`?"),
            (json!({ "type": "object", "propertis": { "a": { "type": "string" } } }), "did you mean `properties`?"),
            (json!({ "type": "string", "nullable": true }), "write `\"type\": [\"string\", \"null\"]`"),
            (json!({ "type": "string", "optional": true }), "a property is optional unless `required`"),
            (
                json!({ "type": "string", "format": "datetime" }),
                "`datetime` is not a format of JSON Schema, so it has no effect [did you mean `date-time`?]",
            ),
            (json!({ "type": "string", "format": "url" }), "did you mean `uri`?"),
            (
                json!({ "type": "string", "minItems": 1 }),
                "`minItems` has no effect on the type `string`: it restricts only arrays [write `minLength` in place of `minItems`]",
            ),
            (json!({ "type": ["integer", "null"], "maxLength": 9 }), "[write `maximum` in place of `maxLength`]"),
            (json!({ "type": "array", "properties": {} }), "`properties` has no effect on the type `array`"),
            (
                json!({ "properties": {}, "verdict": { "type": "string" } }),
                "if it is a property, move it into `properties`",
            ),
            (json!({ "items": { "not": { "typ": "string" } } }), "did you mean `type`?"),
        ] {
            let found = findings(&schema);
            assert!(found.len() == 1 && found[0].contains(expected), "{schema}: {found:#?}");
        }
    }

    #[test]
    fn keywords_with_an_effect_and_keys_of_other_tools_are_no_findings() {
        for schema in [
            json!({ "type": "object", "properties": { "minimun": { "type": "string" }, "nullable": {} }, "required": ["x"] }),
            json!({ "enum": ["minimun"], "default": { "optional": true }, "examples": [{ "typ": 1 }] }),
            json!({ "type": ["string", "array"], "minItems": 1, "minLength": 1, "format": "uuid" }),
            json!({ "minItems": 1, "pattern": "^a", "minimum": 2 }),
            json!({ "type": "string", "x-order": 1, "$foo": 1, "example": "a", "tsType": "A", "enumDescriptions": [], "unit": "s" }),
            json!({ "type": "integer", "format": "int32" }),
            json!({ "$schema": "https://example.org/other", "type": "string", "minimun": 1 }),
        ] {
            assert!(findings(&schema).is_empty(), "{schema}: {:#?}", findings(&schema));
        }
    }
}
