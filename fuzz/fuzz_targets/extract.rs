//! Any bytes: no panic, what is taken fits, and the same bytes give the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orch::extract::{Options, StopHint, answer_text, extract};
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

fuzz_target!(|reply: &[u8]| {
    let text = String::from_utf8_lossy(reply);
    let answer = answer_text(&text);
    // Nothing is changed without being listed, and what is left is a part of the reply.
    assert_eq!(answer.left_out.is_empty(), answer.text == Some(&*text));
    assert!(answer.text.is_none_or(|answer| text.contains(answer)));
    for schema in SCHEMAS.iter() {
        let options = Options::default();
        let found = extract(reply, schema, &options);
        assert_eq!(found, extract(reply, schema, &options));
        if let Ok(found) = &found {
            assert!(schema.is_valid(&found.value));
            let text = serde_json::to_string(&found.value).expect("a value is written");
            let again = extract(text.as_bytes(), schema, &options).expect("a bare value is read");
            assert_eq!(again.value, found.value);
            assert!(again.repairs.is_empty());
        }
        if let Ok(strict) = extract(reply, schema, &Options { strict: true, ..options }) {
            assert!(strict.repairs.is_empty() && strict.others == 0);
            assert_eq!(Ok(strict.value), found.map(|found| found.value));
        }
        assert!(extract(reply, schema, &Options { stop: StopHint::Length, ..options }).is_err());
    }
});
