//! JSON Schema: compiles schemas once and offline, and explains mismatches in words.
//!
//! The only module that uses the `jsonschema` crate. Accepts drafts other than 2020-12 if a schema names them, and
//! never loads a remote reference.

mod closure;
mod mismatch;
mod pattern;
mod plain;
mod sample;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

pub(crate) use mismatch::type_of;
pub use mismatch::{Mismatch, render_mismatches};
pub use sample::unknown;

use crate::model::{Digest, canonical};
use work::WorkCounting;

/// A compiled schema; cheap to clone.
#[derive(Clone)]
pub struct Schema(Arc<CompiledSchema>);

struct CompiledSchema {
    name: String,
    closure: Arc<Value>,
    validator: Validator,
    /// Whether the work of a check is counted before the check runs.
    counted: WorkCounting,
    digest: OnceLock<Digest>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.name).finish()
    }
}

/// Why a schema can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// The schema file that contains the mistake.
    pub file: String,
    /// Where in that file, as a JSON pointer.
    pub pointer: String,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
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

    /// The schema that every value fits.
    pub fn any() -> Self {
        match Self::from_closure("any", json!(true)) {
            Ok(schema) => schema,
            // `true` is a valid schema in every draft.
            Err(_) => unreachable!("the schema `true` compiles"),
        }
    }

    fn from_closure(name: &str, closure: Value) -> Result<Self, SchemaError> {
        let plain = plain::is_plainly_valid(&closure);
        if !plain && let Err(invalid) = jsonschema::meta::validate(&closure) {
            let pointer = invalid.instance_path().to_string();
            let why = mismatch::explain(&invalid)
                .first()
                .map_or_else(String::new, |first| format!(": expected {}, got {}", first.expected, first.got));
            let message = format!("this is no valid JSON Schema{why}");
            return Err(SchemaError { file: name.to_owned(), pointer, message, help: None });
        }
        Self::built(name, closure, plain)
    }

    fn built(name: &str, closure: Value, plain: bool) -> Result<Self, SchemaError> {
        let counted = work::must_be_counted(name, &closure)?;
        let options = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            // Only regular expressions that match in linear time: a pattern that a user writes must not hang a run.
            .with_pattern_options(PatternOptions::regex().size_limit(4 << 20));
        let validator = if plain { plain::build(options, &closure) } else { options.build(&closure) };
        let validator = validator.map_err(|invalid| {
            let (file, pattern) = (name.to_owned(), mismatch::broken_pattern(&invalid).map(pattern::explain));
            let Some((message, help)) = pattern else {
                let pointer = invalid.instance_path().to_string();
                return SchemaError { file, pointer, message: invalid.to_string(), help: None };
            };
            SchemaError { file, pointer: invalid.schema_path().to_string(), message, help }
        })?;
        let (name, closure) = (name.to_owned(), Arc::new(closure));
        Ok(Self(Arc::new(CompiledSchema { name, closure, validator, counted, digest: OnceLock::new() })))
    }

    /// The digest of the schema, including everything that it refers to.
    pub fn digest(&self) -> Digest {
        self.0.digest.get_or_init(|| Digest::of(canonical(&self.0.closure).as_bytes())).clone()
    }

    /// The schema's name: its file name, or what it was compiled as.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The schema, with everything that it refers to under `$defs`.
    pub fn closure(&self) -> Arc<Value> {
        self.0.closure.clone()
    }

    /// Like [`closure`](Self::closure), borrowed.
    pub fn document(&self) -> &Value {
        &self.0.closure
    }

    /// Whether every value fits.
    pub fn is_any(&self) -> bool {
        match &*self.0.closure {
            Value::Bool(flag) => *flag,
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// Whether a check may take long even if the value is small.
    pub fn takes_long(&self) -> bool {
        self.0.counted == WorkCounting::Growth
    }

    /// Whether a value fits. A value that takes too much work to check does not.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.work(value).is_ok() && self.0.validator.is_valid(value)
    }

    /// How many visits a check takes; 0 if the schema does not need them counted.
    fn work(&self, value: &Value) -> Result<u64, work::TooMuchWork> {
        if self.0.counted == WorkCounting::No { Ok(0) } else { work::visits(&self.0.closure, value) }
    }

    /// Why a value does not fit, as at most 50 mismatches; empty if it fits.
    pub fn errors(&self, value: &Value) -> Vec<Mismatch> {
        match self.work(value) {
            Err(why) => return vec![Mismatch::too_much_work(why)],
            // The list of errors has an entry for each visit and would exhaust memory, so only the result is computed.
            Ok(visits) if visits > work::MAX_LISTED => {
                return if self.0.validator.is_valid(value) { Vec::new() } else { vec![Mismatch::unlisted()] };
            }
            Ok(_) => {}
        }
        self.0.validator.iter_errors(value).take(50).flat_map(|error| mismatch::explain(&error)).take(50).collect()
    }
}

/// The schemas of a project by file name. Each may refer to the others.
#[derive(Clone, Debug, Default)]
pub struct SchemaSet {
    files: BTreeMap<String, Value>,
    compiled: Compiled,
}

/// The schemas that were compiled already. Copies of a set have the same files, so they share them.
type Compiled = Arc<Mutex<BTreeMap<String, Result<Schema, SchemaError>>>>;

impl SchemaSet {
    /// Adds a file's schema.
    pub fn insert(&mut self, file: &str, document: Value) {
        self.files.insert(file.to_owned(), document);
        self.compiled = Compiled::default();
    }

    /// The files' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// A file's schema as written.
    pub fn raw(&self, file: &str) -> Option<&Value> {
        self.files.get(file)
    }

    /// The schema of a file, including the files that it refers to; compiled once.
    ///
    /// # Errors
    /// The schema is missing, invalid or too complex, or has a reference that does not resolve.
    pub fn get(&self, file: &str) -> Result<Schema, SchemaError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.get(file) {
            return known.clone();
        }
        let schema = closure::closure(&self.files, file).and_then(|closure| Schema::from_closure(file, closure));
        compiled.insert(file.to_owned(), schema.clone());
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SchemaSet {
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
    fn references_lead_to_other_files_by_name_and_by_id() {
        let review = set().get("review.schema.json").unwrap();
        assert!(review.is_valid(&json!([{ "line": 1, "next": { "line": 2 } }])));
        assert!(!review.is_valid(&json!([{ "line": 1, "next": { "line": "2" } }])));
        let lines = set().get("lines.schema.json").unwrap();
        assert!(lines.is_valid(&json!([1])) && !lines.is_valid(&json!(["1"])));
    }

    #[test]
    fn remote_and_dangling_references_are_refused() {
        for reference in ["https://example.org/x.json", "missing.schema.json", "#/$defs/nothing"] {
            let error = Schema::compile("a.schema.json", json!({ "items": { "$ref": reference } })).unwrap_err();
            assert_eq!(error.pointer, "/items/$ref", "{error}");
        }
    }

    #[test]
    fn a_wrong_schema_is_located() {
        let error = Schema::compile("a", json!({ "properties": { "x": { "type": "strin" } } })).unwrap_err();
        assert_eq!(error.pointer, "/properties/x/type");
    }

    #[test]
    fn big_numbers_keep_their_digits() {
        let schema = Schema::compile("a", json!({ "type": "integer", "minimum": 0 })).unwrap();
        let value: Value = serde_json::from_str("123456789012345678901234567890").unwrap();
        assert!(schema.is_valid(&value));
    }
}
