//! A schema of anyone, and a reply that is checked against it.

use orch::schema::{Schema, SchemaError, render_mismatches};
use serde_json::Value;

use super::parts;

/// A schema that is refused is refused at a place in it; a value that does not fit has a mismatch at a place in it; and
/// what stands for a value is bounded.
pub fn schema(input: &[u8]) {
    let [document, reply]: [String; 2] = parts(input);
    // Depth is bounded by whoever reads a file or a reply.
    let Some(document) = read(&document) else { return };
    let schema = match Schema::compile("a.schema.json", document.clone()) {
        Ok(schema) => schema,
        Err(error) => return assert_refused(&document, &error),
    };
    assert_eq!(schema.digest(), Schema::compile("a.schema.json", document).expect("compiles again").digest());
    for value in [schema.placeholder("x"), schema.smallest_value()] {
        let text = value.to_string();
        assert!(text.len() < 8 << 20, "a sample of {} bytes", text.len());
    }
    schema.max_bytes();
    if let Some(value) = read(&reply) {
        assert_checked(&schema, &value);
    }
    super::extract::check(reply.as_bytes(), &schema);
}

/// A value of a text, as deep as a file may be.
fn read(text: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(text).into_iter().next()?.ok()
}

fn assert_refused(document: &Value, error: &SchemaError) {
    assert!(!error.message.is_empty());
    assert_eq!(error.file, "a.schema.json");
    assert!(document.pointer(&error.pointer).is_some(), "{error:?} is at no place in {document}");
}

fn assert_checked(schema: &Schema, value: &Value) {
    let mismatches = schema.mismatches(value);
    assert_eq!(schema.is_valid(value), mismatches.is_empty(), "{mismatches:?}");
    for mismatch in &mismatches {
        assert!(value.pointer(&mismatch.pointer).is_some(), "{mismatch:?} is at no place in {value}");
    }
    let text = render_mismatches(&mismatches);
    assert!(text.len() < 1 << 20, "a list of mismatches of {} bytes", text.len());
}
