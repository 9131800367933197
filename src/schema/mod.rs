//! JSON Schema: compiles each schema once, offline, and explains mismatches as text.
//!
//! The only module that uses the `jsonschema` crate. Every schema also refuses the few values that later steps could
//! not use (`usable`). Accepts drafts other than 2020-12 if a schema names them, and
//! never loads a remote reference.

mod bundle;
mod constrained;
mod error;
mod integers;
mod mismatch;
mod pattern;
mod quick_check;
mod sample;
mod usable;
mod validation_cost;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Value, json};

pub use error::SchemaError;
pub(crate) use mismatch::json_type_name;
pub use mismatch::{Mismatch, render_mismatches};
pub use pattern::MAX_PATTERN_BYTES;
pub use sample::placeholder_value;

use crate::model::visible::one_line;
use crate::model::{Digest, canonical_json};
use validation_cost::CostCounting;

/// The maximum length of the name of a dialect in a message, in characters.
const MAX_DIALECT_CHARS: usize = 100;
/// The maximum number of listed mismatches.
const MAX_MISMATCHES: usize = 50;

/// A compiled schema; cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<CompiledSchema>);

struct CompiledSchema {
    name: String,
    bundle: Arc<Value>,
    validator: Validator,
    /// Whether orch counts the cost of a validation before the validation runs.
    cost_counting: CostCounting,
    digest: OnceLock<Digest>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.name).finish()
    }
}

impl Schema {
    /// Compiles a schema that refers to no other file.
    ///
    /// # Errors
    /// The schema is invalid, too complex, or has a reference that does not resolve.
    pub fn compile(name: &str, document: Value) -> Result<Self, SchemaError> {
        let mut set = SchemaSet::default();
        set.insert(name, document);
        set.get(name)
    }

    /// Returns a schema that allows every value that later steps can use. All steps without a schema share it, since a
    /// compiled schema takes tens of kilobytes.
    pub fn any() -> Self {
        static ANY: OnceLock<Schema> = OnceLock::new();
        let compile = || match Self::from_bundle("any", json!(true)) {
            Ok(schema) => schema,
            // `true` is a valid schema in every draft.
            Err(_) => unreachable!("the schema `true` compiles"),
        };
        ANY.get_or_init(compile).clone()
    }

    fn from_bundle(name: &str, bundle: Value) -> Result<Self, SchemaError> {
        let passed_quick_check = quick_check::is_certainly_valid(&bundle);
        if !passed_quick_check && let Some(error) = unknown_dialect(name, &bundle) {
            return Err(error);
        }
        if !passed_quick_check && let Err(invalid) = jsonschema::meta::validate(&bundle) {
            let pointer = invalid.instance_path().to_string();
            let reason = mismatch::explain_error(&invalid)
                .first()
                .map_or_else(String::new, |first| format!(": expected {}, got {}", first.expected, first.got));
            let message = format!("this is not a valid JSON Schema{reason}");
            return Err(SchemaError { file: name.to_owned(), pointer, message, help: None });
        }
        Self::compile_bundle(name, bundle, passed_quick_check)
    }

    fn compile_bundle(name: &str, bundle: Value, passed_quick_check: bool) -> Result<Self, SchemaError> {
        let cost_counting = validation_cost::required_cost_counting(name, &bundle)?;
        let size_limit = pattern::compiled_size_limit(name, &bundle)?;
        let options = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            // Allows only regular expressions that match in linear time, so that no pattern of a user can hang a run.
            .with_pattern_options(PatternOptions::regex().size_limit(size_limit));
        let validator =
            if passed_quick_check { quick_check::build_validator(options, &bundle) } else { options.build(&bundle) };
        let validator = validator.map_err(|invalid| {
            let (file, pattern) = (name.to_owned(), mismatch::invalid_pattern(&invalid).map(pattern::explain_pattern));
            let Some((message, help)) = pattern else {
                let pointer = invalid.instance_path().to_string();
                return SchemaError { file, pointer, message: invalid.to_string(), help: None };
            };
            SchemaError { file, pointer: invalid.schema_path().to_string(), message, help }
        })?;
        let (name, bundle) = (name.to_owned(), Arc::new(bundle));
        Ok(Self(Arc::new(CompiledSchema { name, bundle, validator, cost_counting, digest: OnceLock::new() })))
    }

    /// Returns the digest of the schema, including everything that it refers to.
    pub fn digest(&self) -> Digest {
        self.0.digest.get_or_init(|| Digest::compute(canonical_json(&self.0.bundle).as_bytes())).clone()
    }

    /// Returns the schema's name: its file name, or the name passed to [`compile`](Self::compile).
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the schema, with everything that it refers to under `$defs`.
    pub fn bundle(&self) -> Arc<Value> {
        self.0.bundle.clone()
    }

    /// Like [`bundle`](Self::bundle), but borrowed.
    pub fn as_value(&self) -> &Value {
        &self.0.bundle
    }

    /// Returns whether every value fits.
    pub fn is_any(&self) -> bool {
        match &*self.0.bundle {
            Value::Bool(flag) => *flag,
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// Returns whether a validation may take long even if the value is small.
    pub fn may_take_long(&self) -> bool {
        self.0.cost_counting == CostCounting::MayTakeLong
    }

    /// Returns whether a value fits. A value whose validation would be too costly does not fit, and neither does a
    /// value that later steps could not use.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.count_visits(value).is_ok() && usable::is_usable(value) && self.0.validator.is_valid(value)
    }

    /// Returns the number of (schema, value) pairs that a validation visits; 0 if the schema does not require counting.
    fn count_visits(&self, value: &Value) -> Result<u64, validation_cost::TooCostly> {
        if self.0.cost_counting == CostCounting::NotNeeded {
            Ok(0)
        } else {
            validation_cost::count_visits(&self.0.bundle, value)
        }
    }

    /// Returns the reasons why a value does not fit, as at most 50 mismatches. The list is empty if the value fits.
    pub fn mismatches(&self, value: &Value) -> Vec<Mismatch> {
        let unusable = usable::unusable_part(value);
        unusable.into_iter().chain(self.schema_mismatches(value)).take(MAX_MISMATCHES).collect()
    }

    fn schema_mismatches(&self, value: &Value) -> Vec<Mismatch> {
        match self.count_visits(value) {
            Err(reason) => return vec![Mismatch::too_costly(reason)],
            // `iter_errors` builds all errors before it yields the first, up to one per visit. This could exhaust the
            // memory, so this case checks only whether the value fits.
            Ok(visits) if visits > validation_cost::MAX_LISTED_VISITS => {
                return if self.0.validator.is_valid(value) { Vec::new() } else { vec![Mismatch::too_many_to_list()] };
            }
            Ok(_) => {}
        }
        self.0
            .validator
            .iter_errors(value)
            .take(MAX_MISMATCHES)
            .flat_map(|error| mismatch::explain_error(&error))
            .map(|mismatch| mismatch.with_described_pattern(&self.0.bundle))
            .take(MAX_MISMATCHES)
            .collect()
    }
}

/// The schemas of a project by file name. Each schema may refer to the others.
#[derive(Clone, Debug, Default)]
pub struct SchemaSet {
    files: BTreeMap<String, Value>,
    compiled: CompilationCache,
}

/// The results of compilations. Copies of a set have the same files, so they share the results.
type CompilationCache = Arc<Mutex<BTreeMap<String, Result<Schema, SchemaError>>>>;

impl SchemaSet {
    /// Adds the schema of a file.
    pub fn insert(&mut self, file: &str, document: Value) {
        self.files.insert(file.to_owned(), document);
        self.compiled = CompilationCache::default();
    }

    /// Returns the names of the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Returns the schema of a file as written.
    pub fn raw(&self, file: &str) -> Option<&Value> {
        self.files.get(file)
    }

    /// Returns the schema of a file, including the files that it refers to. Compiles it only once.
    ///
    /// # Errors
    /// The schema is missing, invalid or too complex, or has a reference that does not resolve.
    pub fn get(&self, file: &str) -> Result<Schema, SchemaError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = compiled.get(file) {
            return result.clone();
        }
        let result = bundle::bundle(&self.files, file).and_then(|bundle| Schema::from_bundle(file, bundle));
        compiled.insert(file.to_owned(), result.clone());
        result
    }
}

/// The error for a schema whose `$schema` names a dialect that the library does not have, and would have to download.
fn unknown_dialect(name: &str, bundle: &Value) -> Option<SchemaError> {
    let dialect = bundle.get("$schema").and_then(Value::as_str)?;
    if Draft::from_schema_uri(dialect) != Draft::Unknown {
        return None;
    }
    let message = format!("orch does not know the dialect `{}` of JSON Schema", one_line(dialect, MAX_DIALECT_CHARS));
    let help = "leave `$schema` out, or write `https://json-schema.org/draft/2020-12/schema`".to_owned();
    Some(SchemaError { file: name.to_owned(), pointer: "/$schema".to_owned(), message, help: Some(help) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema_set() -> SchemaSet {
        let mut set = SchemaSet::default();
        set.insert("issue.schema.json", json!({ "$id": "https://example.com/issue", "type": "object", "required": ["line"],
            "properties": { "line": { "$ref": "#/$defs/line" }, "next": { "$ref": "#" } }, "$defs": { "line": { "type": "integer" } } }));
        set.insert("review.schema.json", json!({ "type": "array", "items": { "$ref": "issue.schema.json" } }));
        set.insert(
            "lines.schema.json",
            json!({ "type": "array", "items": { "$ref": "https://example.com/issue#/$defs/line" } }),
        );
        set
    }

    #[test]
    fn references_resolve_by_file_name_and_by_id() {
        let review = schema_set().get("review.schema.json").unwrap();
        assert!(review.is_valid(&json!([{ "line": 1, "next": { "line": 2 } }])));
        assert!(!review.is_valid(&json!([{ "line": 1, "next": { "line": "2" } }])));
        let lines = schema_set().get("lines.schema.json").unwrap();
        assert!(lines.is_valid(&json!([1])) && !lines.is_valid(&json!(["1"])));
    }

    #[test]
    fn remote_and_dangling_references_are_rejected() {
        for reference in ["https://example.org/x.json", "missing.schema.json", "#/$defs/nothing"] {
            let error = Schema::compile("a.schema.json", json!({ "items": { "$ref": reference } })).unwrap_err();
            assert_eq!(error.pointer, "/items/$ref", "{error}");
        }
    }

    #[test]
    fn an_unknown_dialect_is_an_error_with_advice() {
        let dialect = format!("https://example.org/{}", "x".repeat(1000));
        let error = Schema::compile("a", json!({ "$schema": dialect, "type": "string" })).unwrap_err();
        assert_eq!(error.pointer, "/$schema");
        assert!(error.message.starts_with("orch does not know the dialect `https://example.org/xxx"), "{error}");
        assert!(error.message.len() < 200 && error.help.is_some(), "{error}");
        for dialect in ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"] {
            assert!(Schema::compile("a", json!({ "$schema": dialect, "type": "string" })).is_ok(), "{dialect}");
        }
    }

    #[test]
    fn the_error_of_an_invalid_schema_has_a_location() {
        let error = Schema::compile("a", json!({ "properties": { "x": { "type": "strin" } } })).unwrap_err();
        assert_eq!(error.pointer, "/properties/x/type");
    }

    #[test]
    fn large_numbers_keep_their_digits() {
        let schema = Schema::compile("a", json!({ "type": "integer", "minimum": 0 })).unwrap();
        let value: Value = serde_json::from_str("123456789012345678901234567890").unwrap();
        assert!(schema.is_valid(&value));
    }

    #[test]
    fn numbers_are_compared_by_their_values() {
        let fits = |schema: Value, value: &str| {
            Schema::compile("a", schema).unwrap().is_valid(&serde_json::from_str(value).unwrap())
        };
        for value in ["1", "1.0"] {
            assert!(fits(json!({ "const": 1 }), value) && fits(json!({ "enum": [1.0, "x"] }), value), "{value}");
            assert!(fits(json!({ "type": "integer", "minimum": 1, "maximum": 1 }), value), "{value}");
        }
        assert!(!fits(json!({ "uniqueItems": true }), "[1, 1.0]") && !fits(json!({ "const": 1 }), "1.5"));
    }

    #[test]
    fn every_schema_refuses_unusable_values() {
        for value in ["1e400", r#""a\u0000""#] {
            let value: Value = serde_json::from_str(value).unwrap();
            assert!(!Schema::any().is_valid(&value), "{value}");
            assert_eq!(Schema::any().mismatches(&value).len(), 1, "{value}");
        }
    }
}
