//! Replies without file contents between fences.

use super::*;

#[test]
fn a_repetitive_string_ends_after_a_complete_line() {
    let (document, _) = write(&words_schema(), 500, &[r"x = 1\n", r"y(1, 1);\n", "z(("]);
    assert_eq!(document, r#"{"words":"x = 1\ny(1, 1);\n"}"#);
}

#[test]
fn a_string_near_the_limit_ends_after_a_complete_line() {
    let (document, _) = write(&words_schema(), 60, &[r"one\ntwo\n", "abcdefghijklmnopqrstuvwxyz0123456789"]);
    assert_eq!(document, r#"{"words":"one\ntwo\n"}"#);
}

#[test]
fn a_repetitive_string_of_one_line_ends_within_the_line() {
    let (document, _) = write(&words_schema(), 500, &["go ", "on "]);
    assert!(document.starts_with(r#"{"words":"go on on"#) && document.ends_with(r#""}"#), "{document}");
}

#[test]
fn a_late_string_has_a_minimum_length_even_if_a_long_string_precedes_it() {
    let model = FakeModel::with_merges(&[]);
    let schema = object_schema(&json!({ "name": { "type": "string" }, "summary": { "type": "string" } }));
    let name = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567";
    let summary = "It says in a few words what the name means.";
    let document = format!(r#"{{"name":"{name}","summary":"{summary}"}}"#);
    // Forced tokens contain both the end of the first string and the beginning of the second.
    let value = write_intended(&model, &schema, 110, (&[&document], &[])).value();
    let written = value["summary"].as_str().unwrap();
    assert!(summary.starts_with(written) && written.len() >= MIN_STRING_TOKENS_NEAR_LIMIT, "{value}");
}

#[test]
fn a_document_that_the_limit_cuts_off_is_not_complete() {
    let model = FakeModel::with_merges(&[]);
    let word = "abcdefghabcdefghabcdefghabcdefgh";
    let schema = json!({ "const": word });
    let object = object_schema(&json!({ "choice": { "enum": ["x", "y"] }, "word": schema }));
    for (schema, value) in [(schema, json!(word)), (object, json!({ "choice": "y", "word": word }))] {
        let document = value.to_string();
        for limit in 1..80 {
            let reply = write_intended(&model, &schema, limit, (&[&document], &[]));
            assert_eq!(reply.is_complete, serde_json::from_str::<Value>(&reply.document).is_ok(), "{limit} {reply:?}");
            assert_eq!(reply.is_complete, reply.document == document, "{limit} {reply:?}");
        }
    }
}

#[test]
fn a_document_ends_before_forced_tokens_that_do_not_fit() {
    let model = FakeModel::with_merges(&[]);
    let item = object_schema(&json!({ "words": { "const": "abcdefgh".repeat(20) } }));
    let schema = object_schema(&json!({ "list": { "type": "array", "items": item } }));
    let document = json!({ "list": [{ "words": "abcdefgh".repeat(20) }] }).to_string();
    let reply = write_intended(&model, &schema, 150, (&[&document], &[]));
    assert_eq!(reply.value(), json!({ "list": [] }));
}

#[test]
fn an_end_token_does_not_end_a_document_within_a_string() {
    let file = Gguf::new("qwen2", 1).with_bpe_vocab("qwen2");
    let user_defined = Gguf::new("qwen2", 1).with_bpe_vocab("qwen2").with_user_defined_token("<|im_end|>");
    for model in [FakeModel::from_gguf(&file), FakeModel::from_gguf(&user_defined)] {
        let reply = run(&model, &words_schema(), 100, |read, logits| {
            // The model writes this document where the end-of-turn token may not follow.
            model.prefer_end(logits);
            let next_byte = br#"{"words":"ab"}"#.get(read.len()).map(std::slice::from_ref);
            let next_token = next_byte.and_then(|byte| model.vocab.token_for_bytes(byte));
            next_token.into_iter().for_each(|token| logits[token as usize] = 50.0);
        });
        assert_eq!(reply.value(), json!({ "words": "ab" }));
    }
}
