//! Documents without texts between fences.

use super::*;

#[test]
fn a_repetitive_string_ends_after_a_complete_line() {
    let (text, _) = write(&words_schema(), 500, &[r"x = 1\n", r"y(1, 1);\n", "z(("]);
    assert_eq!(text, r#"{"words":"x = 1\ny(1, 1);\n"}"#);
}

#[test]
fn a_string_near_the_limit_ends_after_a_complete_line() {
    let (text, _) = write(&words_schema(), 60, &[r"one\ntwo\n", "abcdefghijklmnopqrstuvwxyz0123456789"]);
    assert_eq!(text, r#"{"words":"one\ntwo\n"}"#);
}

#[test]
fn a_repetitive_string_of_one_line_ends_within_the_line() {
    let (text, _) = write(&words_schema(), 500, &["go ", "on "]);
    assert!(text.starts_with(r#"{"words":"go on on"#) && text.ends_with(r#""}"#), "{text}");
}

#[test]
fn a_late_string_has_a_few_tokens_even_if_a_string_precedes_it() {
    let tokens = Tokens::with_merges(&[]);
    let schema = object_schema(&json!({ "name": { "type": "string" }, "summary": { "type": "string" } }));
    let name = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567";
    let summary = "It says in a few words what the name means.";
    let document = format!(r#"{{"name":"{name}","summary":"{summary}"}}"#);
    // The forced tokens between the two strings end the one and begin the other.
    let value = write_meant(&tokens, &schema, 110, (&[&document], &[])).value();
    let written = value["summary"].as_str().unwrap();
    assert!(summary.starts_with(written) && written.len() >= LATE_STRING_TOKENS, "{value}");
}
