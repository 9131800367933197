//! The extractor: cases in tables, the documentation's examples, properties, limits.

use std::time::Duration;

use orch::extract::{Extraction, Options, Rejection, StopHint, extract};
use orch::schema::Schema;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::cpu_time;

fn extract_from(reply: &str, schema: &Value, options: Options) -> Result<Extraction, Box<Rejection>> {
    extract(reply.as_bytes(), &Schema::compile("case", schema.clone()).unwrap(), &options)
}

fn stop_hint(name: Option<&str>) -> StopHint {
    match name {
        Some("length") => StopHint::Length,
        Some("refusal") => StopHint::Refusal,
        _ => StopHint::Unknown,
    }
}

/// The text of a case, which may be given as repeated parts.
fn reply_of(case: &Value) -> String {
    let parts = |case: &Value| -> Option<String> {
        let part = |part: &Value| Some(part[0].as_str()?.repeat(usize::try_from(part[1].as_u64()?).ok()?));
        case["raw_parts"].as_array()?.iter().map(part).collect()
    };
    case["raw"].as_str().map(str::to_owned).or_else(|| parts(case)).unwrap()
}

/// Equality in which `1.50` equals `1.5`, because another program wrote the tables.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_i128().is_none() || b.as_i128().is_none()) && a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

/// Describes how the outcome of a case differs from the expected one.
fn mismatch(case: &Value) -> Option<String> {
    let schema = case.get("schema").filter(|schema| !schema.is_null()).cloned().unwrap_or(json!({}));
    let options = Options { strict: case["strict"] == true, stop: stop_hint(case["stop"].as_str()) };
    let lenient = case["lenient"] == true;
    match extract_from(&reply_of(case), &schema, options) {
        Ok(found) if case["reject"] == true => (!lenient).then(|| format!("{}: took {}", case["id"], found.value)),
        Ok(found) => (!equal(&found.value, &case["expected"])).then(|| format!("{}: took {}", case["id"], found.value)),
        Err(no) => (case["reject"] != true && !lenient).then(|| format!("{}: {}", case["id"], no.message)),
    }
}

fn check_table(text: &str) {
    let one = |line: &str| match serde_json::from_str(line) {
        Ok(case) => mismatch(&case),
        // This case is nested more deeply than the parser of the table allows; `deep_nesting_is_bounded` covers it.
        Err(error) => (!line.contains("nested-500")).then(|| error.to_string()),
    };
    let wrong: Vec<String> = text.lines().filter_map(one).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn public_cases_give_the_expected_outcomes() {
    check_table(include_str!("../data/extract/own_public.jsonl"));
}

#[test]
fn own_cases_give_the_expected_outcomes() {
    check_table(include_str!("../data/extract/cases.jsonl"));
}

/// Runs one block of the documentation, and returns its output.
fn run_example(block: &str) -> String {
    let mut parts = block.split("---\n");
    let (head, reply) = (parts.next().unwrap().trim(), parts.next().unwrap());
    let (word, rest) = head.split_once(' ').unwrap_or(("", head));
    let (word, schema) = if matches!(word, "strict" | "length") { (word, rest) } else { ("", head) };
    let route = json!({ "type": "object", "required": ["next"], "additionalProperties": false,
        "properties": { "next": { "enum": ["coder", "reviewer", "done"] }, "reason": { "type": "string" } } });
    let schema = if schema == "route" { route } else { serde_json::from_str(schema).unwrap() };
    let options = Options { strict: word == "strict", stop: stop_hint(Some(word)) };
    match extract_from(reply.trim_end_matches('\n'), &schema, options) {
        Err(no) => format!("no: {}", no.reason.as_str()),
        Ok(found) => {
            let marks: Vec<&str> = std::iter::once(found.source.as_str())
                .chain(found.repairs.iter().map(|repair| repair.as_str()))
                .collect();
            format!("{} [{}]", found.value, marks.join(" "))
        }
    }
}

#[test]
fn the_examples_of_the_documentation_give_the_documented_output() {
    let text = include_str!("../../docs/extraction.md");
    let blocks: Vec<&str> =
        text.split("````extract\n").skip(1).map(|rest| rest.split("\n````").next().unwrap()).collect();
    assert!(blocks.len() > 20);
    for block in blocks {
        let expected = block.rsplit("---\n").next().unwrap();
        let (value, marks) = expected.rsplit_once(" [").unwrap_or((expected, ""));
        let got = run_example(block);
        let (got_value, got_marks) = got.rsplit_once(" [").unwrap_or((&got, ""));
        let same = match (serde_json::from_str::<Value>(value), serde_json::from_str::<Value>(got_value)) {
            (Ok(expected), Ok(got)) => expected == got,
            _ => value == got_value,
        };
        assert!(same && marks == got_marks, "{block}\ngave {got}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[1-9][0-9]{20,36}".prop_map(|digits| serde_json::from_str(&digits).unwrap())
    ];
    let text = prop_oneof![any::<String>(), "[ -~\n`<>{}\\[\\]\"'\\\\]{0,40}"];
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, text.clone().prop_map(Value::from)];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let members = prop::collection::vec((text.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>()))
        ]
    })
}

/// A non-empty object, as an answer is.
fn any_object() -> impl Strategy<Value = Value> {
    any_json().prop_map(|value| json!({ "value": value }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bare_value_is_extracted_unchanged(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = extract_from(&text, &json!({}), Options { strict: true, ..Options::default() });
        prop_assert_eq!(found.map(|found| found.value).map_err(|no| no.message), Ok(value));
    }

    #[test]
    fn a_value_inside_a_text_is_extracted_unchanged(value in any_object(), before in "[a-zA-Z ,.!?'\n(){}-]{0,60}", after in "[a-zA-Z ,.!?'\n()-]{0,60}", wrapping in 0..4) {
        prop_assume!(!before.contains('{'));
        let text = serde_json::to_string_pretty(&value).unwrap();
        let reply = match wrapping {
            0 => format!("{before}\n{text}\n{after}"),
            1 => format!("{before}\n```json\n{text}\n```\n{after}"),
            2 => format!("{before}\n~~~~\n{text}\n~~~~\n{after}"),
            _ => format!("{before}<answer>{text}</answer>{after}"),
        };
        let found = extract_from(&reply, &json!({ "type": "object" }), Options { strict: true, ..Options::default() });
        prop_assert_eq!(found.map(|found| found.value).map_err(|no| no.message), Ok(value));
    }

    #[test]
    fn a_truncated_value_is_rejected(value in any_object(), at in any::<prop::sample::Index>()) {
        let text = serde_json::to_string(&value).unwrap();
        let mut end = 1 + at.index(text.len() - 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let found = extract_from(&text[..end], &json!({ "type": "object" }), Options::default());
        prop_assert!(found.is_err(), "{:?}", found);
    }

    #[test]
    fn any_bytes_are_extracted_or_rejected_without_a_panic(reply in prop::collection::vec(any::<u8>(), 0..400)) {
        let schema = Schema::any();
        let _ = extract(&reply, &schema, &Options::default());
    }

    #[test]
    fn every_extracted_value_fits_the_schema(reply in "[ab{}\\[\\]:,\"'\\\\`<>/1.\n -]{0,80}") {
        let schema = json!({ "type": ["object", "array"], "properties": { "a": { "type": "integer" } }, "items": { "type": ["integer", "string"] } });
        if let Ok(found) = extract_from(&reply, &schema, Options::default()) {
            prop_assert!(Schema::compile("case", schema).unwrap().is_valid(&found.value));
        }
    }
}

/// Replies that are meant to be slow to parse.
fn hostile_replies() -> Vec<String> {
    let units = [
        "[",
        "{",
        "]",
        "`",
        "```\n",
        "~~~\n",
        "\"",
        "'",
        "\\",
        "{\"a\":",
        "[[",
        "[1,",
        "{\"a\":[",
        "<think>",
        "</think>",
        "<a>",
        "<",
        "<file>",
        "> ",
        "{a:",
        "[\"x",
        "[ ]",
        "{'",
        "\n\n",
        "{\"a\": 1}",
        "{ctx} [1](x) ",
        "/*",
        "//",
        "[/*",
        "{\"a\": \"b\" ",
        "[a, ",
        "{a: b, ",
        "\"\"\"",
        "{\"\"\"",
        "[\"a\" \"b\" ",
        "{\"a\" b\": ",
        "\u{1b}[",
        "\u{a0}[",
        "```json\n{\"a\": \"\n```\n",
        "[“",
        "[{}",
        "[{} ",
        "['a', ",
        "{\"x\": 1, ... }\n",
        "\\u",
        "[\"\\u",
        "[\"\\n",
        "[-",
        "[\"\",",
        "{\"a\":1,\"a\":1}",
        "<!--",
        "[THINK]",
        "{\"a\":\"C:\\W\\n",
        "[\"a\": ",
        "[\n",
        "{\n\"a",
        "x[",
        "◁think▷",
        "◁",
        "<|x|>",
        "<|x|><|content|>",
        "<|im_end|>",
        "<|im_start|>user\n",
        "<|channel|>analysis<|message|>",
        "x<|channel|>analysis<|message|><|end|>",
        "<details><summary>x",
        "<![CDATA[",
        "```py\n[{\n```\n",
        "</s>",
    ];
    units.iter().map(|unit| unit.repeat(300_000 / unit.len())).collect()
}

#[test]
fn hostile_replies_end_quickly() {
    let schema = Schema::compile(
        "case",
        json!({ "type": "object", "required": ["never"], "properties": { "never": { "type": "integer" } } }),
    )
    .unwrap();
    let check = |reply: &str| {
        for text in [reply.to_owned(), format!("```json\n{reply}\n```"), format!("{{\"never\": [\"{reply}")] {
            let start = cpu_time();
            let _ = extract(text.as_bytes(), &schema, &Options::default());
            let _ = extract(text.as_bytes(), &Schema::any(), &Options::default());
            // The limit is generous, for builds without optimisation; quadratic time would take minutes.
            assert!(
                cpu_time().saturating_sub(start) < Duration::from_secs(20),
                "{:?}",
                &text.chars().take(40).collect::<String>()
            );
        }
    };
    // Each thread measures its own processor time.
    let replies = hostile_replies();
    std::thread::scope(|scope| {
        for part in replies.chunks(replies.len().div_ceil(8)) {
            scope.spawn(|| part.iter().for_each(|reply| check(reply)));
        }
    });
}

#[test]
fn deep_nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let is_accepted = |text: String| {
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(move || extract_from(&text, &json!({}), Options::default()).is_ok())
            .unwrap()
            .join()
            .unwrap()
    };
    assert!(is_accepted(nested(500)));
    assert!(!is_accepted(nested(600)));
    assert!(!is_accepted(nested(100_000)));
}
