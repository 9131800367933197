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
