//! What the YAML parser accepts and refuses, and that it survives any text.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &str) -> Result<Document, Vec<Diagnostic>> {
    parse(&SourceFile::new("f.yaml", text))
}

fn codes(text: &str) -> Vec<Code> {
    read(text).err().unwrap_or_default().iter().map(|d| d.code).collect()
}

#[test]
fn values_and_their_places_are_found() {
    let doc = read("a: 1\nb:\n  - x: soon\n    \"y/z\": |\n      two\n      lines\n  - 2.50\n").unwrap();
    assert_eq!(doc.value, json!({"a": 1, "b": [{"x": "soon", "y/z": "two\nlines\n"}, 2.5]}));
    let text = |range: Range<usize>| &doc.file.text[range];
    assert_eq!(text(doc.spans.value("/b/0/x")), "soon");
    assert_eq!(text(doc.spans.key("/b/0/y~1z")), "\"y/z\"");
    assert_eq!(text(doc.spans.value("/b/0/y~1z")), "two\n      lines");
    assert_eq!(text(doc.spans.value("/b/1")), "2.50");
    assert_eq!(text(doc.spans.value("/b/0")), "x: soon\n    \"y/z\": |\n      two\n      lines");
}

#[test]
fn numbers_survive() {
    let doc = read("[0, -1, 18446744073709551615, -9223372036854775808, 0.1, 1e3, 1.0, 0x1F, 017, 1_000]").unwrap();
    assert_eq!(
        doc.value.to_string(),
        "[0,-1,18446744073709551615,-9223372036854775808,0.1,1000.0,1.0,31,\"017\",\"1_000\"]"
    );
}

#[test]
fn what_would_be_swallowed_is_refused() {
    for (text, code) in [
        ("a: 1\na: 2", Code::DuplicateKey),
        ("a: {b: 1, 'b': 2}", Code::DuplicateKey),
        ("a: !!str 1", Code::YamlRefused),
        ("a: !x {}", Code::YamlRefused),
        ("a: .inf", Code::YamlRefused),
        ("a: -.INF", Code::YamlRefused),
        ("a: .nan", Code::YamlRefused),
        ("a: 1e999", Code::YamlRefused),
        ("a: 18446744073709551616", Code::YamlRefused),
        ("a: -9223372036854775809", Code::YamlRefused),
        ("a: 0xFFFFFFFFFFFFFFFFF", Code::YamlRefused),
        ("b: &b {x: 1}\na:\n  <<: *b", Code::YamlRefused),
        ("1: a", Code::YamlRefused),
        ("true: a", Code::YamlRefused),
        ("~: a", Code::YamlRefused),
        ("? [a]\n: b", Code::YamlRefused),
        ("a: 1\n---\nb: 2", Code::YamlRefused),
        ("a: &a [*a]", Code::YamlBounds),
        ("a: [1", Code::YamlSyntax),
        ("a: *missing", Code::YamlSyntax),
        ("", Code::YamlSyntax),
        ("# nothing", Code::YamlSyntax),
    ] {
        assert_eq!(codes(text), [code], "{text}");
    }
}

#[test]
fn several_mistakes_are_found_at_once() {
    assert_eq!(codes("a: 1\na: 2\nb: !x 1\nc: .nan").len(), 3);
}

#[test]
fn aliases_are_fine_until_they_explode() {
    let doc = read("a: &a {x: [1, 2]}\nb: *a\n").unwrap();
    assert_eq!(doc.value["b"], json!({"x": [1, 2]}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let prior = level - 1;
        let items = vec![format!("*a{prior}"); 9].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{items}]").unwrap();
    }
    assert_eq!(codes(&bomb), [Code::YamlBounds]);
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
    assert_eq!(codes(&long), [Code::YamlBounds]);
    let mut deep = "a0: &a0 [1]\n".to_owned();
    for level in 1..200 {
        writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert_eq!(codes(&deep), [Code::YamlBounds]);
}

#[test]
fn depth_is_bounded() {
    assert_eq!(codes(&"[".repeat(100_000)), [Code::YamlBounds]);
    assert_eq!(codes(&"- ".repeat(10_000)), [Code::YamlBounds]);
    assert!(read(&format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))).is_ok());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "([-?:,&*!|>%@`'\"#{}\\[\\] \n\tab0.~<]|- |: |\n  ){0,80}") {
        if let Ok(doc) = read(&text) {
            for pointer in doc.spans.pointers() {
                prop_assert!(doc.file.text.get(doc.spans.value(pointer)).is_some());
                prop_assert!(doc.file.text.get(doc.spans.key(pointer)).is_some());
            }
        }
    }

    #[test]
    fn json_reads_as_itself(keys in proptest::collection::vec(("[a-z]{1,5}", any::<i64>(), "\\PC{0,12}"), 0..8)) {
        let map: serde_json::Map<_, _> = keys.into_iter().map(|(k, n, s)| (k, json!([n, {"s": s}]))).collect();
        let value = Value::Object(map);
        let doc = read(&value.to_string()).map_err(|list| TestCaseError::fail(format!("{list:?}")))?;
        prop_assert_eq!(&doc.value, &value);
    }
}

#[test]
fn a_text_that_its_two_readers_take_for_different_things_is_refused() {
    let file = SourceFile::new("p.yaml", "with: { task: x, &context: \"'known'\" }\n");
    let found = parse(&file).unwrap_err();
    assert_eq!(found[0].message, "this can be read in two ways");
    assert!(found[0].help[0].contains("anchor"));
}
