//! Taking the JSON out of a reply.

use std::sync::LazyLock;

use orch::extract::{Options, StopHint, answer_text, extract as extract_json};
use orch::schema::Schema;
use serde_json::json;

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let schemas = [
        json!({}),
        json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": ["integer", "null"] }, "b": { "enum": ["x", "y"] } } }),
        json!({ "type": "array", "items": { "anyOf": [{ "type": "number" }, { "$ref": "#" }] } }),
    ];
    schemas.into_iter().map(|schema| Schema::compile("fuzz", schema).expect("the schema compiles")).collect()
});

/// A value that is taken fits the schema, the same bytes give the same value, and the value as plain JSON gives itself.
pub fn extract(reply: &[u8]) {
    let reply = reply.get(..super::MAX_INPUT).unwrap_or(reply);
    let text = String::from_utf8_lossy(reply);
    let answer = answer_text(&text);
    // Everything that is left out is listed, but for a byte order mark, and what is left is a part of the reply.
    let words = text.strip_prefix('\u{feff}').unwrap_or(&text);
    assert_eq!(answer.left_out.is_empty(), answer.text == Some(words));
    assert!(answer.text.is_none_or(|answer| text.contains(answer)));
    for schema in SCHEMAS.iter() {
        check(reply, schema);
    }
}

pub(super) fn check(reply: &[u8], schema: &Schema) {
    let options = Options::default();
    let found = extract_json(reply, schema, &options);
    assert_eq!(found, extract_json(reply, schema, &options));
    if let Ok(found) = &found {
        assert!(schema.is_valid(&found.value));
        let text = serde_json::to_string(&found.value).expect("a value is written");
        let again = extract_json(text.as_bytes(), schema, &options).expect("a bare value is read");
        assert_eq!(again.value, found.value);
        assert!(again.repairs.is_empty());
    }
    if let Ok(strict) = extract_json(reply, schema, &Options { strict: true, ..options }) {
        assert!(strict.repairs.is_empty() && strict.others == 0);
        assert_eq!(Ok(strict.value), found.map(|found| found.value));
    }
    assert!(extract_json(reply, schema, &Options { stop: StopHint::Length, ..options }).is_err());
}
