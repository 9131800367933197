//! Tests which YAML the parser accepts and refuses, and that no text makes it panic.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse_text(text: &str) -> Result<Document, Vec<Diagnostic>> {
    parse(&SourceFile::new("f.yaml", text))
}

fn error_codes(text: &str) -> Vec<Code> {
    parse_text(text).err().unwrap_or_default().iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn values_and_their_ranges_are_indexed() {
    let doc = parse_text("a: 1\nb:\n  - x: soon\n    \"y/z\": |\n      two\n      lines\n  - 2.50\n").unwrap();
    assert_eq!(doc.value, json!({"a": 1, "b": [{"x": "soon", "y/z": "two\nlines\n"}, 2.5]}));
    let text = |range: Range<usize>| &doc.file.text[range];
    assert_eq!(text(doc.spans.value("/b/0/x")), "soon");
    assert_eq!(text(doc.spans.key("/b/0/y~1z")), "\"y/z\"");
    assert_eq!(text(doc.spans.value("/b/0/y~1z")), "two\n      lines");
    assert_eq!(text(doc.spans.value("/b/1")), "2.50");
    assert_eq!(text(doc.spans.value("/b/0")), "x: soon\n    \"y/z\": |\n      two\n      lines");
}

#[test]
fn numbers_keep_their_values() {
    let doc =
        parse_text("[0, -1, 18446744073709551615, -9223372036854775808, 0.1, 1e3, 1.0, 0x1F, 017, 1_000]").unwrap();
    assert_eq!(
        doc.value.to_string(),
        "[0,-1,18446744073709551615,-9223372036854775808,0.1,1000.0,1.0,31,\"017\",\"1_000\"]"
    );
}

#[test]
fn unsupported_and_invalid_yaml_is_refused() {
    for (text, code) in [
        ("a: 1\na: 2", Code::DuplicateKey),
        ("a: {b: 1, 'b': 2}", Code::DuplicateKey),
        ("a: !!str 1", Code::UnsupportedYaml),
        ("a: !x {}", Code::UnsupportedYaml),
        ("a: .inf", Code::UnsupportedYaml),
        ("a: -.INF", Code::UnsupportedYaml),
        ("a: .nan", Code::UnsupportedYaml),
        ("a: 1e999", Code::UnsupportedYaml),
        ("a: 18446744073709551616", Code::UnsupportedYaml),
        ("a: -9223372036854775809", Code::UnsupportedYaml),
        ("a: 0xFFFFFFFFFFFFFFFFF", Code::UnsupportedYaml),
        ("b: &b {x: 1}\na:\n  <<: *b", Code::UnsupportedYaml),
        ("1: a", Code::UnsupportedYaml),
        ("true: a", Code::UnsupportedYaml),
        ("~: a", Code::UnsupportedYaml),
        ("? [a]\n: b", Code::UnsupportedYaml),
        ("a: 1\n---\nb: 2", Code::UnsupportedYaml),
        ("a: &a [*a]", Code::YamlTooComplex),
        ("a: [1", Code::YamlSyntax),
        ("a: *missing", Code::YamlSyntax),
        ("", Code::YamlSyntax),
        ("# nothing", Code::YamlSyntax),
    ] {
        assert_eq!(error_codes(text), [code], "{text}");
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    assert_eq!(error_codes("a: 1\na: 2\nb: !x 1\nc: .nan").len(), 3);
}

#[test]
fn aliases_are_expanded_up_to_a_limit() {
    let doc = parse_text("a: &a {x: [1, 2]}\nb: *a\n").unwrap();
    assert_eq!(doc.value["b"], json!({"x": [1, 2]}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = level - 1;
        let items = vec![format!("*a{previous}"); 9].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{items}]").unwrap();
    }
    assert_eq!(error_codes(&bomb), [Code::YamlTooComplex]);
    let long_text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    assert_eq!(error_codes(&long_text), [Code::YamlTooComplex]);
    let mut deep_aliases = "a0: &a0 [1]\n".to_owned();
    for level in 1..200 {
        writeln!(deep_aliases, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert_eq!(error_codes(&deep_aliases), [Code::YamlTooComplex]);
}

#[test]
fn depth_is_bounded() {
    assert_eq!(error_codes(&"[".repeat(100_000)), [Code::YamlTooComplex]);
    assert_eq!(error_codes(&"- ".repeat(10_000)), [Code::YamlTooComplex]);
    assert!(parse_text(&format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))).is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = parse_text(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_the_parser_panic(text in "([-?:,&*!|>%@`'\"#{}\\[\\] \n\tab0.~<]|- |: |\n  ){0,80}") {
        if let Ok(doc) = parse_text(&text) {
            for pointer in doc.spans.pointers() {
                prop_assert!(doc.file.text.get(doc.spans.value(pointer)).is_some());
                prop_assert!(doc.file.text.get(doc.spans.key(pointer)).is_some());
            }
        }
    }

    #[test]
    fn json_parses_to_an_equal_value(keys in proptest::collection::vec(("[a-z]{1,5}", any::<i64>(), "\\PC{0,12}"), 0..8)) {
        let map: serde_json::Map<_, _> = keys.into_iter().map(|(k, n, s)| (k, json!([n, {"s": s}]))).collect();
        let value = Value::Object(map);
        let doc = parse_text(&value.to_string()).map_err(|list| TestCaseError::fail(format!("{list:?}")))?;
        prop_assert_eq!(&doc.value, &value);
    }
}

#[test]
fn a_text_that_the_two_parsers_read_differently_is_refused() {
    let file = SourceFile::new("p.yaml", "with: { task: x, &context: \"'known'\" }\n");
    let diagnostics = parse(&file).unwrap_err();
    assert_eq!(diagnostics[0].message, "this is ambiguous YAML");
    assert!(diagnostics[0].help[0].contains("anchor"));
}
